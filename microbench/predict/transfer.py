"""From devices whose operators were timed to one of which only the ceilings are known.

The other device is a characterisation, figures that somebody declares in a TOML file, or a name of the nominal table.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microbench.errors import UsageError
from microbench.hardware.tables import gpus
from microbench.predict import pool
from microbench.predict.analytic import PRODUCTS
from microbench.predict.figures import DeviceFigures, datasheet_figures, figures_of
from microbench.records import (
    MODULE_COST,
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
from microbench.storage import store

if TYPE_CHECKING:
    from microbench.operators import Table
    from microbench.operators.capture import Graph

On = Characterisation | DeviceFigures | str | Path

_SAID = "declared, not measured here"
# A declared figure this near to the data sheet's is the data sheet's.
_ROUNDING = 0.02


def device_of(on: On) -> tuple[DeviceFigures, Characterisation, Finding]:
    """Read what is said of a device: an existing file wins over a name.

    Returns
    -------
    figures, characterisation, finding
        The characterisation has the device's ceilings and costs; the finding says what they are.

    Raises
    ------
    UsageError
        If it is neither a readable file nor a GPU of the nominal table.
    """
    if isinstance(on, DeviceFigures):
        return on, _bare(on), _told(on, "figures that were handed in")
    if isinstance(on, str | Path) and Path(on).exists():
        path = Path(on)
        on = store.load(path) if path.suffix == ".json" else declared(path)
        if isinstance(on, DeviceFigures):
            return on, _bare(on), _told(on, f"the figures of {path}")
    if isinstance(on, Characterisation):
        figures = figures_of(on)
        return figures, on, _told(figures, f"the ceilings of {on.device.name}")
    if isinstance(on, Path) or "/" in on or on.endswith((".json", ".toml")):
        raise UsageError(
            f"there is no file {on}; --on takes a characterisation, a TOML file of figures, or the name of a GPU"
        )
    figures = datasheet_figures(on)
    return figures, _bare(figures), _told(figures, f"nominal figures of {figures.name}")


def _told(figures: DeviceFigures, what: str) -> Finding:
    says = f"predicted with {what}"
    if figures.measured:
        return Finding(code="on-device", severity="info", says=f"{says}, which were measured.")
    says = f"{says}: nominal, not measured; what a card really reaches may be far below."
    return Finding(code="on-nominal", severity="warning", says=says, remedy="Measure its ceilings: microbench run")


def declared(path: Path) -> DeviceFigures:
    """Figures of a device from a TOML file of the project's own form (docs/predicting.md).

    Raises
    ------
    UsageError
        If it cannot be read, has not exactly one device, or names a unit or key that is not known.
    """
    from microbench.interop.declared import number, table, text
    from microbench.interop.documents import read_document
    from microbench.interop.own_table import quantity, read
    from microbench.records.dtypes import dtype

    document = read_document(path)
    devices = document.get("device") if isinstance(document, dict) else None
    if not isinstance(devices, list) or len(devices) != 1:
        count = len(devices) if isinstance(devices, list) else 0
        raise UsageError(f"{path} has {count} tables [[device]]; the figures of one device are needed")
    row = table(devices[0], "device")
    name = text(row.get("name"), "name of the device")
    read(document)  # refuses keys and units that it does not know
    rates: dict[str, dict[str, float]] = {}
    for section in ("compute", "sustained"):
        for key, stated in table(row.get(section, {}), f"{name}.{section}").items():
            where = f"{name}.{section}.{key}"
            try:
                known = dtype(str(key)).name
            except ValueError as error:
                raise UsageError(f"{where}: {error}") from None
            rates.setdefault(section, {})[known] = quantity(stated, "compute", where)
    bandwidth = quantity(row["bandwidth"], "bandwidth", f"{name}.bandwidth") if "bandwidth" in row else None
    printed = gpus.find(name)
    sheet = datasheet_figures(printed.name) if printed else DeviceFigures(kind="cuda")
    peak = rates.get("compute", {})
    caches = sheet.caches
    if "l2" in row:
        speed = quantity(row["l2_bandwidth"], "bandwidth", f"{name}.l2_bandwidth") if "l2_bandwidth" in row else None
        caches = ((quantity(row["l2"], "capacity", f"{name}.l2"), speed),)
    launch = table(row.get("launch", {}), f"{name}.launch")
    return DeviceFigures(
        peak=peak,
        sustained=rates.get("sustained", {}),
        bandwidth=bandwidth,
        units=number(row["units"], f"{name}.units") if "units" in row else sheet.units,
        caches=caches,
        kind="cuda",
        measured=_seen(row.get("measured"), name, (sheet, peak, bandwidth)),
        cost={_launch(key, name): _seconds(value, f"{name}.launch.{key}") for key, value in launch.items()},
        name=name,
        arch=sheet.arch,
    )


_TIME = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*(ns|us|ms|s)\s*")
_TIMES = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


def _launch(key: str, name: str) -> str:
    if key not in pool.LAUNCHES:
        raise UsageError(f"{name}.launch has {key[:40]!r}; a launch is {', '.join(pool.LAUNCHES)}")
    return key


def _seconds(stated: object, where: str) -> float:
    match = _TIME.fullmatch(stated) if isinstance(stated, str) else None
    try:
        seconds = float(match[1]) * _TIMES[match[2]] if match else 0.0
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise UsageError(f"{where} is {str(stated)[:60]!r}; write a time with its unit as text, for example '4 us'")
    return seconds


def _seen(stated: object, name: str, given: tuple[DeviceFigures, dict[str, float], float | None]) -> bool:
    """Whether declared figures are measured ones: as the file says, else whether they are not the data sheet's."""
    if isinstance(stated, bool):
        return stated
    if stated is not None:
        raise UsageError(f"{name}.measured is {str(stated)[:40]!r}; write true or false")
    sheet, peak, bandwidth = given
    pairs = [(value, sheet.peak.get(dtype)) for dtype, value in peak.items()] + [(bandwidth, sheet.bandwidth)]
    return any(value and printed and value < (1 - _ROUNDING) * printed for value, printed in pairs)


def _bare(figures: DeviceFigures) -> Characterisation:
    """A characterisation that has nothing but figures."""
    name = figures.name or "figures"
    levels = [MemoryLevel(name="L2", capacity_bytes=round(size)) for size, _ in figures.caches[:1]]

    def exactly(value: float) -> Estimate:
        return Estimate(value=value, low=value, high=value, basis=_SAID)

    given: dict[str, Any] = {"backend": "torch", "case": _SAID, "scope": "device"}
    ceilings = [
        Ceiling(name=f"declared.{dtype}", measures="compute", rate=exactly(rate), dtype=dtype, **given)
        for dtype, rate in figures.peak.items()
    ]
    if figures.bandwidth:
        ceilings.append(
            Ceiling(name="declared.dram", measures="memory", rate=exactly(figures.bandwidth), level="DRAM", **given)
        )
    return Characterisation(
        schema=store.SCHEMA,
        device=Device(
            id=hashlib.sha256(name.encode()).hexdigest()[:16],
            kind=figures.kind or "cuda",
            name=name,
            arch=figures.arch or "unknown",
            units_by_kind={"sm": round(figures.units)} if figures.units else {},
            levels=(*levels, MemoryLevel(name="DRAM")),
        ),
        environment=None,
        plan=None,
        ceilings=tuple(ceilings),
        costs=tuple(Cost(name=f"launch.{launch}", seconds=exactly(cost)) for launch, cost in figures.cost.items()),
    )


def carry(sources: Sequence[Characterisation], on: On, wanted: Iterable[tuple[str, str, str]]) -> Characterisation:
    """Carry fits to another device.

    Parameters
    ----------
    sources
        Devices whose operators were timed; several are pooled.
    on
        The device that is asked for.
    wanted
        Families, formats and cache states to carry; a family that no source has stays with the plain roofline.

    Raises
    ------
    UsageError
        If the devices are of different kinds, or the other one lacks a ceiling that a family needs.
    """
    figures, base, finding = device_of(on)
    sources = [*sources, base] if base.fits.operators else list(sources)
    kinds = {source.device.kind for source in sources}
    if kinds - {base.device.kind}:
        names = ", ".join(sorted({source.device.name for source in sources if source.device.kind != base.device.kind}))
        raise UsageError(
            f"{names} is of another kind ({'/'.join(sorted(kinds))}) than {base.device.name} ({base.device.kind}); a "
            "fit moves between devices of one kind only"
        )
    fits = [
        made
        for family, dtype, cache in sorted(_there(sources, wanted))
        if (made := _carried(sources, figures, family, (dtype, cache))) is not None
    ]
    named = ", ".join(sorted({source.device.name for source in sources}))
    held = {cost.name for cost in base.costs}
    origin = Finding(code="carried", severity="info", says=f"fits of {named} were carried to {base.device.name}.")
    return replace(
        base,
        # What the host takes for a module and how caches are reused is nothing that a device's ceilings tell.
        costs=(*base.costs, *(cost for cost in sources[0].costs if cost.name == MODULE_COST and cost.name not in held)),
        fits=Fits(operators=tuple(fits), reuse=base.fits.reuse or sources[0].fits.reuse),
        findings=(*base.findings, finding, origin),
    )


def _there(sources: Sequence[Characterisation], wanted: Iterable[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """What is wanted as far as sources have it.

    The other cache state where one is missing, and of what only moves bytes the other formats where its own is.
    """
    found = set()
    for family, dtype, cache in wanted:
        fits = [fit for source in sources for fit in source.fits.operators]
        kin = [fit for fit in fits if pool.KIN.get(fit.family, fit.family) == pool.KIN.get(family, family)]
        caches = {fit.cache for fit in kin}
        state = cache if cache in caches else next(iter(sorted(caches)), cache)
        formats = {fit.dtype for fit in kin if fit.cache == state}
        if family in PRODUCTS or dtype in formats:
            formats = {dtype}
        found |= {(family, each, state) for each in formats}
    return found


def _carried(
    sources: Sequence[Characterisation], figures: DeviceFigures, family: str, way: tuple[str, str]
) -> OperatorFit | None:
    """One family's fit on another device, or ``None`` where no source knows it."""
    dtype, cache = way
    target = pool.target_of(figures, dtype)
    found = pool.beside_of(sources, family, cache, target)
    if found is None:
        return None
    beside, fits = found
    for name in ("peak", "bandwidth"):
        if name not in target.scales and not (name == "peak" and fits[0].form == "stream"):
            raise UsageError(_lacks(figures, name, dtype))
    return pool.carried(beside, fits, family, target)


def _lacks(figures: DeviceFigures, name: str, dtype: str) -> str:
    who = figures.name or "the device"
    if name == "peak":
        known = ", ".join(sorted(figures.peak)) or "none"
        return f"{who} has no {dtype} compute ceiling (it has {known}); measure or declare it"
    return f"{who} has no memory bandwidth; measure or declare it"


def families_of(table: Table) -> set[tuple[str, str, str]]:
    """Families, formats and cache states of a table's rows."""
    return {(batch.row.family, batch.dtype, batch.cache) for batch in table.batches}


def families_of_model(graph: Graph) -> set[tuple[str, str, str]]:
    """The same of a model's operators, between whose uses caches may or may not hold."""
    return {(each.row.family, each.dtype, cache) for each in graph.operators for cache in ("hot", "cold")}
