"""What the commands predict, fit and validate do, once their arguments are read."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microbench.cli.output import emit
from microbench.errors import CannotRun, UsageError
from microbench.operators import parse, read_rows
from microbench.predict.operator import predict_table
from microbench.predict.prediction_rows import predictions
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

NEWEST = Path("results")
# Numbers that are formatted at a time.
_FORMATTED = 1 << 16


def calibration_of(path: Path | None, out: Path = NEWEST) -> Characterisation:
    """Load the calibration named, or else the newest result with operator fits.

    Raises
    ------
    CannotRun
        If none is named and there is none below ``out``.
    """
    if path is not None:
        return store.load(path)
    found = sorted(out.glob("*/*.json"), key=lambda each: each.stem, reverse=True)
    if not found:
        raise CannotRun(
            f"there is no characterisation below {out}/; measure with 'microbench run', or name one with --calibration "
            "FILE"
        )
    return store.load(found[0])


def print_findings(findings: Sequence[Finding]) -> None:
    """Print findings on stderr, one line each, at most twenty."""
    for finding in findings[:20]:
        remedy = f" {finding.remedy.rstrip('.')}." if finding.remedy else ""
        sys.stderr.write(one_line(f"{finding.severity}: {finding.says}{remedy}") + "\n")
    if len(findings) > 20:
        sys.stderr.write(f"and {len(findings) - 20} more\n")


def predict_op(
    expressions: Sequence[str],
    calibration: Path | None,
    paths: tuple[str | None, str | None],
    launch: Launch | None = None,
) -> None:
    """Predict operators given as expressions, launched as each says or all alike."""
    from microbench.operators import table_of

    made = [parse(expression) for expression in expressions]
    if launch is not None:
        made = [replace(each, launch=launch) for each in made]
    held = calibration_of(calibration)
    table = table_of(made)
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
    added = [_digits(getattr(columns, name)) for name in ("predicted", "low", "high")]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*frame.columns, "predicted", "low", "high", "limiter"])
    writer.writerows(zip(*(frame[name].tolist() for name in frame.columns), *added, columns.limiter, strict=True))
    return buffer.getvalue(), columns.findings


def _digits(column: Floats) -> list[str]:
    """Numbers with six digits, nothing where there is none; formatted many at a time, as pandas formats each alone."""
    text: list[str] = []
    for start in range(0, len(column), _FORMATTED):
        part = column[start : start + _FORMATTED].tolist()
        text += (" ".join(["%.6g"] * len(part)) % tuple(part)).split(" ")
    return ["" if each == "nan" else each for each in text]


def predict_ops(
    path: Path, mapping: Sequence[str], calibration: Path | None, paths: tuple[str | None, str | None]
) -> int:
    """Predict a CSV of operators; CSV out. 1 where a row could not be read."""
    table = read_rows(path, columns=mapping)
    held = calibration_of(calibration)
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


def fit_file(rows: Path, columns: Sequence[str], nominal: Any, output: Path) -> None:
    """Fit measured rows and write the characterisation."""
    from microbench.predict.fit import fit

    made = fit(rows, nominal, name=rows.stem, columns=columns)
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
    from microbench.predict.fit import datasheet_figures
    from microbench.predict.fit_family import DeviceFigures
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
