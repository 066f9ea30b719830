"""From measured operator rows to a characterisation, with or without the device: `fit`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from microbench.errors import UsageError, expect
from microbench.hardware.tables import gpus
from microbench.operators.table import Table, read_rows
from microbench.predict.fit_family import ROWS_FOR_FIT, DeviceFigures
from microbench.predict.fit_table import fit_table
from microbench.predict.fit_units import plausible
from microbench.records import (
    Ceiling,
    Characterisation,
    Cost,
    Device,
    Estimate,
    Finding,
    Fits,
    MemoryLevel,
    OperatorFit,
)
from microbench.storage.store import SCHEMA

if TYPE_CHECKING:
    import io
    from collections.abc import Mapping, Sequence

    import pandas as pd

_CASE = "fitted from rows"


def datasheet_figures(name: str) -> DeviceFigures:
    """Take the printed figures of a GPU as a prior.

    Raises
    ------
    UsageError
        If the table has no such GPU.
    """
    row = gpus.find(name)
    if row is None:
        from microbench.hardware.nominal import named

        named(name)  # says which names there are
        raise UsageError(f"no GPU named {name!r} is in the table; see 'microbench nominal'")
    peak: dict[str, float] = {}
    for rate in row.chip.rates:
        value = row.sms * rate.flop * row.clock_hz(rate.unit, rate.dtype)
        peak[rate.dtype] = max(peak.get(rate.dtype, 0.0), value)
    return DeviceFigures(
        peak=peak,
        bandwidth=row.memory_bandwidth,
        units=float(row.sms),
        caches=((float(row.l2_bytes), None),) if row.l2_bytes else (),
        kind="cuda",
    )


def fit(
    rows: Table | str | Path | io.TextIOBase | pd.DataFrame,
    nominal: DeviceFigures | str | None = None,
    name: str = "fitted rows",
    columns: str | Sequence[str] | Mapping[str, str] = (),
) -> Characterisation:
    """Fit a device from operator rows that somebody measured.

    Parameters
    ----------
    rows
        A table, also of pandas, or the path of a CSV with columns op,dtype,params,seconds[,launch][,cache][,pass].
    nominal
        Figures known beforehand, or the name of a GPU of the nominal table.
    name
        What to call the device.
    columns
        Which column is which key, for tables of other tools: ``"m=M,n=N,k=K,seconds=time_ms:ms"``.

    Returns
    -------
    Characterisation
        With an ``OperatorFit`` per family, dtype and cache state, the ceilings they imply, and what is doubted as
        findings.

    Raises
    ------
    UsageError
        If the rows cannot be read, no family has enough of them, or most are faster than the device can be.

    Examples
    --------
    >>> c = fit("rows.csv", nominal="A100")  # doctest: +SKIP
    """
    expect("the name", name, str, "a text")
    expect(
        "nominal", nominal, (str, DeviceFigures, type(None)), "the name of a GPU of 'microbench nominal', or figures"
    )
    known = datasheet_figures(nominal) if isinstance(nominal, str) else nominal
    table = rows if isinstance(rows, Table) else read_rows(rows, need_seconds=True, columns=columns)
    table, doubts = plausible(table, known)
    fits, findings = fit_table(table, known)
    if not fits:
        says = findings[0].says if findings else f"a fit needs {ROWS_FOR_FIT} measured rows of one family and dtype."
        first = table.faults[min(table.faults)] if table.faults else ""
        refused = f" ({len(table.faults)} of {table.size} rows were refused: {first})" if table.faults else ""
        raise UsageError(f"nothing can be fitted: {says.rstrip('.')}{refused}; measure more shapes of one operator")
    known = known or DeviceFigures()
    return Characterisation(
        schema=SCHEMA,
        device=_device(name, known),
        environment=None,
        plan=None,
        ceilings=_ceilings(fits),
        costs=_costs(fits),
        fits=Fits(operators=fits),
        findings=(*_faults(table), *doubts, *findings),
    )


def _faults(table: Table) -> list[Finding]:
    listed = sorted(table.faults.items())
    found = [
        Finding(code="bad-row", severity="warning", says=f"row {place + 1}: {says}") for place, says in listed[:20]
    ]
    if len(listed) > 20:
        found.append(
            Finding(code="bad-rows", severity="warning", says=f"{len(listed) - 20} further rows could not be read.")
        )
    return found


def _device(name: str, known: DeviceFigures) -> Device:
    levels = (MemoryLevel(name="DRAM"),)
    return Device(
        id=hashlib.sha256(name.encode()).hexdigest()[:16],
        kind=known.kind or "cuda",
        name=name,
        arch="unknown",
        units_by_kind={"sm": round(known.units)} if known.units else {},
        levels=levels,
    )


def _estimate(value: float, rows: int) -> Estimate:
    # What a fit of few rows knows of a ceiling: the prior's spread shrunk by the number of rows.
    width = 1 + 0.7 / max(rows, 1) ** 0.5
    return Estimate(value=value, low=value / width, high=value * width, basis=f"fitted from {rows} operator rows")


def _ceilings(fits: tuple[OperatorFit, ...]) -> tuple[Ceiling, ...]:
    """Compute ceilings from families with a product inside, the memory ceiling from the fastest mover of bytes."""
    found: dict[str, Ceiling] = {}
    for made in fits:
        if made.form != "stream":
            name = f"{made.family}.{made.dtype}".replace(" ", "_")
            ceiling = Ceiling(
                name=name,
                measures="compute",
                backend="torch",
                rate=_estimate(made.terms["peak"], made.rows),
                case=_CASE,
                dtype=made.dtype,
                scope="device",
                mode="library",
                operands="random",
            )
            if made.dtype not in found or ceiling.rate.value > found[made.dtype].rate.value:
                found[made.dtype] = ceiling
    streams = [made for made in fits if made.form == "stream"] or list(fits)
    fastest = max(streams, key=lambda made: made.terms["bandwidth"])
    memory = Ceiling(
        name="operators.dram",
        measures="memory",
        backend="torch",
        rate=_estimate(fastest.terms["bandwidth"], fastest.rows),
        case=_CASE,
        level="DRAM",
        access="copy",
        scope="device",
        mode="library",
    )
    return (*found.values(), memory)


def _costs(fits: tuple[OperatorFit, ...]) -> tuple[Cost, ...]:
    least: dict[str, tuple[float, int]] = {}
    for made in fits:
        for launch, seconds in made.cost_s.items():
            if launch not in least or seconds < least[launch][0]:
                least[launch] = (seconds, made.rows)
    return tuple(
        Cost(name=f"launch.{launch}", seconds=_estimate(*found), case=_CASE) for launch, found in least.items()
    )
