"""What `microbench list` shows: devices, kernels, operators, stored results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from microbench.errors import CannotRun, MicrobenchError
from microbench.hardware import probe
from microbench.kernels import registry
from microbench.records import Row, Sheet
from microbench.storage import store


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
    """The characterisations below a folder."""
    rows: list[Row] = []
    if not out.is_dir():
        raise CannotRun(f"there is no folder {out}; 'microbench run' makes it, or name another one with --out")
    for path in sorted(out.glob("*/*.json")):
        try:
            held = store.load(path)
        except MicrobenchError as error:
            rows.append({"file": str(path), "device": None, "started": None, "ceilings": None, "note": str(error)})
            continue
        started = held.environment.started if held.environment else None
        rows.append(
            {
                "file": str(path),
                "device": held.device.name,
                "started": started,
                "ceilings": len(held.ceilings),
                "note": None,
            }
        )
    return rows
