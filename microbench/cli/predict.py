"""What the commands predict, fit and validate do, once their arguments are read."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from microbench.cli.output import emit
from microbench.errors import UsageError
from microbench.operators import parse, read_rows
from microbench.predict.operator import predict_table
from microbench.predict.prediction_rows import predictions
from microbench.predict.sources import sources
from microbench.predict.transfer import carry, device_of, families_of
from microbench.records import Row, units
from microbench.storage import store
from microbench.storage.files import write_new
from microbench.text import cell, one_line, risky, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microbench.operators import Table
    from microbench.operators.core import Launch
    from microbench.predict.operator import Floats
    from microbench.records import Characterisation, Finding, Prediction

# Rows that are written at a time.
_WRITTEN = 1 << 16
# Families, formats and cache states of what is to be predicted.
Wanted = set[tuple[str, str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which calibrations were named, and for which device to predict: its file or name (``None``: their own)."""

    calibrations: tuple[Path, ...] = ()
    on: str | None = None

    def kind(self) -> Literal["cpu", "cuda"]:
        """The kind of the device to predict for."""
        if self.on is not None:
            return device_of(self.on)[1].device.kind
        return sources(self.calibrations, None)[0][0].device.kind

    def held(self, wanted: Wanted) -> Characterisation:
        """The characterisation to predict from; what it is goes to stderr where nobody named it.

        Raises
        ------
        CannotRun
            If none is named and there is none below results/.
        UsageError
            If what is named is no calibration or no device, or several are to be one device.
        """
        base = device_of(self.on)[1] if self.on is not None else None
        found, which = sources(self.calibrations, base.device.kind if base else None)
        if not self.calibrations:
            print_findings([which])
        if self.on is not None:
            made = carry(found, self.on, wanted)
            print_findings([each for each in made.findings if each.code in ("on-device", "on-nominal", "carried")])
            return made
        if len(found) > 1:
            raise UsageError(f"{len(found)} calibrations are there; say by --on which device is asked for")
        return found[0]


def print_findings(findings: Sequence[Finding]) -> None:
    """Print findings on stderr, one line each, at most twenty."""
    for finding in findings[:20]:
        remedy = f" {finding.remedy.rstrip('.')}." if finding.remedy else ""
        sys.stderr.write(one_line(f"{finding.severity}: {finding.says}{remedy}") + "\n")
    if len(findings) > 20:
        sys.stderr.write(f"and {len(findings) - 20} more\n")


def predict_op(
    expressions: Sequence[str],
    asked: Asked,
    paths: tuple[str | None, str | None],
    launch: Launch | None = None,
) -> None:
    """Predict operators given as expressions, launched as each says or all alike."""
    from microbench.operators import table_of

    made = [parse(expression) for expression in expressions]
    if launch is not None:
        made = [replace(each, launch=launch) for each in made]
    table = table_of(made)
    held = asked.held(families_of(table))
    columns = predict_table(table, held)
    print_findings(columns.findings)
    found = predictions(table, columns, [str(each) for each in made])
    rows: list[Row] = [
        {
            "op": each.op,
            "seconds": each.seconds.value,
            "low": each.seconds.low,
            "high": each.seconds.high,
            "limiter": each.limiter,
            "flop": each.work.flop,
            "macs": each.work.flop // 2,
            "bytes_read": each.work.bytes_read,
            "bytes_written": each.work.bytes_written,
            "parameters": each.work.parameters,
            "intensity": each.work.intensity,
            **{f"{name}_s": value for name, value in each.terms.items()},
            "basis": each.seconds.basis,
        }
        for each in found
    ]
    emit(rows, f"predicted on {held.device.name}", *paths, shown=[fact for each in found for fact in _facts(each)])


def _facts(row: Prediction) -> list[Row]:
    """One predicted operator as a table for people: one fact a row."""
    work, time = row.work, row.seconds
    terms = ", ".join(f"{name} {units.seconds(value)}" for name, value in row.terms.items())
    facts: list[tuple[str, str]] = [
        (
            row.op,
            f"{units.seconds(time.value)} ({units.seconds(time.low)} .. {units.seconds(time.high)}, {time.basis})",
        ),
        ("  limited by", f"{row.limiter} (by the roofline alone: {terms})"),
        (
            "  work",
            (
                f"{units.prefixed(work.flop, 'FLOP')}, {units.prefixed(work.flop / 2, 'MAC')}; {work.parameters:,} "
                "parameters"
            ),
        ),
        ("  traffic", f"{units.size(work.bytes_read)} read, {units.size(work.bytes_written)} written"),
    ]
    if work.intensity is not None:
        facts.append(("  arithmetic intensity", f"{units.digits(work.intensity)} FLOP/byte"))
    facts.append(
        (
            "  rate",
            f"{units.prefixed(work.flop / time.value, 'FLOP/s')}, {units.prefixed(work.bytes / time.value, 'B/s')}",
        )
    )
    return [{"operator": name, "predicted": value} for name, value in facts]


def predict_rows(table: Table, calibration: Characterisation) -> tuple[str, tuple[Finding, ...]]:
    """The rows of a table as CSV, in their order, with predicted, low, high and limiter appended."""
    columns = predict_table(table, calibration)
    frame = table.frame.rename(columns=cell)
    for name in frame.columns:
        if risky("\n".join(frame[name])):
            frame[name] = frame[name].map(cell)
    clash = [name for name in ("predicted", "low", "high", "limiter") if name in frame.columns]
    if clash:
        raise UsageError(f"the table has a column {clash[0]!r} already; rename it")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*frame.columns, "predicted", "low", "high", "limiter"])
    given = [frame[name].to_numpy() for name in frame.columns]
    numbers = [getattr(columns, name) for name in ("predicted", "low", "high")]
    for start in range(0, len(frame), _WRITTEN):
        part = slice(start, start + _WRITTEN)
        cells = [each[part].tolist() for each in (*given, columns.limiter)]
        writer.writerows(zip(*cells[:-1], *(_digits(each[part]) for each in numbers), cells[-1], strict=True))
    return buffer.getvalue(), columns.findings


def _digits(column: Floats) -> list[str]:
    """Numbers with six digits, nothing where there is none; formatted all at once, as pandas formats each alone."""
    text = (" ".join(["%.6g"] * len(column)) % tuple(column.tolist())).split(" ")
    return ["" if each == "nan" else each for each in text]


def predict_ops(path: Path, mapping: Sequence[str], asked: Asked, paths: tuple[str | None, str | None]) -> int:
    """Predict a CSV of operators; CSV out. 1 where a row could not be read."""
    table = read_rows(path, columns=mapping)
    held = asked.held(families_of(table))
    text, findings = predict_rows(table, held)
    for place, says in sorted(table.faults.items())[:20]:
        sys.stderr.write(one_line(f"error: row {place + 1}: {says}") + "\n")
    if len(table.faults) > 20:
        sys.stderr.write(f"error: {len(table.faults) - 20} more rows cannot be read\n")
    print_findings(findings)
    json_path, csv_path = paths
    if json_path is not None:
        import pandas as pd

        data = pd.read_csv(io.StringIO(text)).to_json(orient="records", indent=1)
        _put(json_path, f"{data}\n")
    if csv_path not in (None, "-"):
        _put(str(csv_path), text)
    elif json_path != "-":
        sys.stdout.write(text)
    return 1 if table.faults else 0


def _put(path: str, text: str) -> None:
    if path == "-":
        sys.stdout.write(text)
    else:
        write_new(Path(path), text.encode())


def fit_file(rows: Path, columns: Sequence[str], known: tuple[Any, Asked], output: Path) -> None:
    """Fit measured rows and write the characterisation; ``known`` are figures, and other devices or the device."""
    from microbench.predict.fit import fit

    nominal, asked = known
    if asked.on is not None and nominal is not None:
        raise UsageError("--on and --nominal/--ceiling/--bandwidth exclude each other; give one of them")
    like = sources(asked.calibrations, None)[0] if asked.calibrations else ()
    made = fit(rows, nominal, name=None if asked.on else rows.stem, columns=columns, like=like, on=asked.on)
    if str(output) == "-":
        sys.stdout.write(store.dumps(made).decode() + "\n")
        print_findings(made.findings)
        return
    write_new(output, store.dumps(made))
    print_findings(made.findings)
    listed: list[Row] = [
        {
            "family": row.family,
            "dtype": row.dtype,
            "cache": row.cache,
            "rows": row.rows,
            "form": row.form,
            "quantile": row.quantile,
        }
        for row in made.fits.operators
    ]
    emit(listed, f"fitted from {rows.name}")
    sys.stderr.write(f"{visible(str(output))}\n")


def nominal_from(name: str | None, ceilings: Sequence[str], bandwidth: float | None) -> Any:
    """The prior that the options of `fit` describe.

    Raises
    ------
    UsageError
        If the options contradict each other or are no numbers.
    """
    from microbench.predict.figures import DeviceFigures, datasheet_figures
    from microbench.records.dtypes import dtype as find_dtype

    if name is not None:
        if ceilings or bandwidth:
            raise UsageError("--nominal and --ceiling/--bandwidth exclude each other; give one of them")
        return datasheet_figures(name)
    if not ceilings and bandwidth is None:
        return None
    peak: dict[str, float] = {}
    for item in ceilings:
        left, equals, right = item.partition("=")
        try:
            value = float(right) if equals else 0.0
            peak[find_dtype(left).name] = value * 1e12
        except ValueError as error:
            raise UsageError(
                f"--ceiling {item[:40]!r} is not dtype=TFLOP/s ({error}); write for example bf16=312"
            ) from None
        if not 1e-6 < value < 1e6:
            raise UsageError(
                f"--ceiling {item[:40]!r}: {right[:20]!r} is no plausible number of TFLOP/s; write for example bf16=312"
            )
    if bandwidth is not None and not 1e-3 < bandwidth < 1e6:
        raise UsageError(f"--bandwidth {bandwidth} is no plausible number of GB/s; write for example 2039")
    return DeviceFigures(peak=peak, bandwidth=bandwidth * 1e9 if bandwidth else None)
