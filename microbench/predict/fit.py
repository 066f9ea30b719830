"""From measured operator rows to a characterisation, with or without the device: `fit`."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from microbench.errors import UsageError, expect
from microbench.operators.table import Table, read_rows
from microbench.predict.drift import FITTED
from microbench.predict.figures import DeviceFigures, datasheet_figures
from microbench.predict.fit_family import ROWS_FOR_FIT
from microbench.predict.fit_table import fit_table
from microbench.predict.fit_units import plausible
from microbench.predict.transfer import On, device_of
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


def fit(  # noqa: PLR0913 - the last two are by name only
    rows: Table | str | Path | io.TextIOBase | pd.DataFrame,
    nominal: DeviceFigures | str | None = None,
    name: str | None = None,
    columns: str | Sequence[str] | Mapping[str, str] = (),
    *,
    like: Characterisation | Sequence[Characterisation] = (),
    on: On | None = None,
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
    like
        Devices whose operators were timed: their fits are what is believed before the first row.
    on
        The device of the rows, as `microbench.predict.transfer.device_of` takes it: its ceilings are the starting point
        and stay in the file. In place of ``nominal``.

    Returns
    -------
    Characterisation
        With an ``OperatorFit`` per family, dtype and cache state, the ceilings they imply, and what is doubted as
        findings.

    Raises
    ------
    UsageError
        If the rows cannot be read, no family has enough of them, most are faster than the device can be, or ``on`` is
        no device.

    Examples
    --------
    >>> c = fit("rows.csv", nominal="A100")  # doctest: +SKIP
    """
    expect("the name", name, (str, type(None)), "a text")
    expect(
        "nominal", nominal, (str, DeviceFigures, type(None)), "the name of a GPU of 'microbench nominal', or figures"
    )
    if on is not None and nominal is not None:
        raise UsageError("nominal figures and a device both say what is known beforehand; give one of them")
    known, base = datasheet_figures(nominal) if isinstance(nominal, str) else nominal, None
    if on is not None:
        known, base, _ = device_of(on)
    table = rows if isinstance(rows, Table) else read_rows(rows, need_seconds=True, columns=columns)
    table, doubts = plausible(table, known)
    fits, findings = fit_table(table, known, like=(like,) if isinstance(like, Characterisation) else tuple(like))
    if not fits:
        says = findings[0].says if findings else f"a fit needs {ROWS_FOR_FIT} measured rows of one family and dtype."
        first = table.faults[min(table.faults)] if table.faults else ""
        refused = f" ({len(table.faults)} of {table.size} rows were refused: {first})" if table.faults else ""
        raise UsageError(f"nothing can be fitted: {says.rstrip('.')}{refused}; measure more shapes of one operator")
    known = known or DeviceFigures()
    findings = (*_faults(table), *doubts, *findings)
    if base is not None:
        device = replace(base.device, name=name) if name else base.device
        return replace(base, device=device, fits=Fits(operators=fits), findings=(*base.findings, *findings))
    return Characterisation(
        schema=SCHEMA,
        device=_device(name or "fitted rows", known),
        environment=None,
        plan=None,
        ceilings=_ceilings(fits),
        costs=_costs(fits),
        fits=Fits(operators=fits),
        findings=findings,
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
                case=FITTED,
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
        case=FITTED,
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
        Cost(name=f"launch.{launch}", seconds=_estimate(*found), case=FITTED) for launch, found in least.items()
    )
