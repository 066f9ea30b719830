"""What `microbench list` shows: devices, kernels, operators, stored results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from microbench.errors import CannotRun, MicrobenchError
from microbench.hardware import probe
from microbench.kernels import registry
from microbench.records import Row, Sheet
from microbench.report.sweeps import plural
from microbench.runs.recorder import resume_hint
from microbench.storage import store
from microbench.storage.journal import read_journal


def devices() -> list[Row]:
    """The devices of this machine, and why there is no GPU where there is none."""
    rows: list[Row] = []
    for spec in ("cpu", "cuda:0"):
        try:
            device = probe(spec)
        except CannotRun as error:
            rows.append({"device": spec, "name": None, "arch": None, "note": str(error)})
            continue
        rows.append(
            {
                "device": spec,
                "name": device.name,
                "arch": device.arch,
                "memory_bytes": device.memory_bytes,
                "note": None,
            }
        )
    return rows


def kernels(spec: str, arch: str | None) -> list[Row]:
    """Every kernel with what it measures, and why one cannot run here."""
    if arch is not None:
        from microbench.kernels.cuda.registry import sheets_for

        return [_sheet_row(sheet) for sheet in sheets_for(arch)]
    return [_sheet_row(kernel.sheet) for kernel in registry(probe(spec)).values()]


def shown(what: str, rows: Sequence[Row]) -> list[Row]:
    """What of a listing a table has room for: of kernels what each is and whether it can run."""
    names = ("kernel", "says", "measures", "available")
    return [{name: row[name] for name in names} for row in rows] if what == "kernels" else list(rows)


def title(what: str, rows: Sequence[Row]) -> str:
    """Head a listing: kernels with how many can run and what unverified means, no results with how to get one."""
    if what == "results" and not rows:
        return "no results here; measure with 'microbench run', or name their folder with --out"
    if what != "kernels":
        return what
    said = [str(row["available"]) for row in rows]
    lacking = sum(each.startswith("no:") for each in said)
    heading = f"{len(rows)} kernels: {len(rows) - lacking} can run, {lacking} cannot"
    unverified = any(each.endswith("unverified") for each in said)
    return f"{heading}; unverified: no kept run on such hardware shows it yet" if unverified else heading


def _sheet_row(sheet: Sheet) -> Row:
    return {
        "kernel": sheet.name,
        "says": sheet.says,
        "measures": sheet.measures,
        "unit": sheet.unit,
        "dtype": sheet.dtype,
        "backend": sheet.backend,
        "source": sheet.source,
        "available": "no: " + sheet.unavailable
        if sheet.unavailable
        else "yes"
        if sheet.verified
        else "yes, unverified",
    }


def operators() -> list[Row]:
    """The operators whose work is counted and time predicted."""
    from microbench.operators import OPERATORS

    return [
        {"operator": name, "family": row.family, "params": " ".join(row.keys), "says": row.says}
        for name, row in OPERATORS.items()
    ]


def results(out: Path) -> list[Row]:
    """The characterisations below a folder, and the journals of runs that did not end."""
    if not out.is_dir():
        raise CannotRun(f"there is no folder {out}; 'microbench run' makes it, or name another one with --out")
    found = sorted({*out.glob("*.json"), *out.glob("*/*.json")} | {*out.glob(_JOURNALS), *out.glob(f"*/{_JOURNALS}")})
    return [_result_row(path) for path in found]


_JOURNALS = f"*{store.JOURNAL_SUFFIX}"


def _result_row(path: Path) -> Row:
    unfinished = path.suffix == store.JOURNAL_SUFFIX
    row: dict[str, str | int | None] = dict.fromkeys(
        ("device", "id", "started", "label", "ceilings", "converged", "note")
    )
    try:
        held = read_journal(path) if unfinished else store.load(path)
    except MicrobenchError as error:
        return {"file": str(path), **row, "note": str(error)}
    if held.environment is not None:
        row |= {"started": held.environment.started, "label": held.environment.label or None}
    row |= {"device": held.device.name, "id": held.device.id[:8], "ceilings": len(held.ceilings)}
    row["converged"] = sum(ceiling.converged for ceiling in held.ceilings)
    if unfinished:
        cases = len({samples.case for samples in held.samples})
        row |= {"ceilings": None, "converged": None}
        row["note"] = f"partial: {plural(cases, 'case')} measured; {resume_hint(path)}"
    elif any(finding.code == "interrupted" for finding in held.findings):
        row["note"] = "partial: interrupted"
    return {"file": str(path), **row}
