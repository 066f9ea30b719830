"""What is known of a device before any of its operators is timed: ceilings seen or printed, and from where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from microbench.analysis.roofs import roofs
from microbench.errors import UsageError
from microbench.hardware.tables import gpus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from microbench.records import Ceiling, Characterisation

# Costs of a characterisation that stand for a launch mode, the best first.
LAUNCHES: Mapping[str, tuple[str, ...]] = {
    "eager": ("launch.eager", "launch.period", "launch"),
    "graph": ("launch.graph",),
    "kernel": ("launch.held", "launch.kernel"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFigures:
    """What is known of a device beforehand, all optional.

    ``peak`` in FLOP/s by dtype, ``sustained`` the same once power and heat have settled, ``bandwidth`` in byte/s,
    ``units`` that compute, ``caches`` as (bytes, byte/s or None), ``cost`` in seconds by launch mode, ``arch`` the
    compute target. ``measured`` says that the ceilings were seen and not printed: then they bind more tightly.
    """

    peak: Mapping[str, float] = field(default_factory=dict)
    bandwidth: float | None = None
    units: float | None = None
    caches: tuple[tuple[float, float | None], ...] = ()
    kind: Literal["cpu", "cuda"] | None = None
    measured: bool = False
    sustained: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    name: str = ""
    arch: str = ""


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
        name=row.name,
        arch=row.chip.target,
    )


def figures_of(made: Characterisation, units: float | None = None) -> DeviceFigures:
    """Measured ceilings of a characterisation: the best of all threads, of those that bound the roofline.

    Parameters
    ----------
    made
        What was measured of the device.
    units
        How many cores share the work, where the file does not say it: by default those that the widest ceiling had.
    """
    device, ceilings = made.device, roofs(made.ceilings, made.sheets)
    compute = [row for row in ceilings if row.measures == "compute" and row.dtype]
    speed = {
        level: _best(row for row in ceilings if row.measures == "memory" and row.level == level)
        for level in ("L2", "L3", "DRAM")
    }
    caches = []
    for level in ("L2", "L3"):
        advertised = device.level(level)
        if advertised is not None and advertised.capacity_bytes and speed[level]:
            caches.append((float(advertised.capacity_bytes), speed[level]))
    if device.kind == "cpu":
        units = units or float(max((row.threads for row in ceilings), default=1))
        held = tuple(caches) or ((4e6, None), (6e7, None))
    else:
        units = device.units_by_kind.get("sm")
        printed = gpus.find(device.name)
        held = tuple(caches) or (
            ((float(printed.l2_bytes), None),) if printed and printed.l2_bytes else ((30e6, None),)
        )
        units = units or (float(printed.sms) if printed else None)
    seconds = {cost.name: cost.seconds.value for cost in made.costs}
    return DeviceFigures(
        peak=_by_dtype(row for row in compute if row.mode != "sustained") or _by_dtype(compute),
        sustained=_by_dtype(row for row in compute if row.mode == "sustained"),
        bandwidth=speed["DRAM"],
        units=units,
        caches=held,
        kind=device.kind,
        measured=True,
        cost={
            launch: next(seconds[name] for name in names if name in seconds)
            for launch, names in LAUNCHES.items()
            if any(name in seconds for name in names)
        },
        name=device.name,
        arch=device.arch,
    )


def _best(rows: Iterable[Ceiling]) -> float | None:
    found = max(rows, key=lambda row: (row.scope == "device", row.rate.value), default=None)
    return found.rate.value if found else None


def _by_dtype(rows: Iterable[Ceiling]) -> dict[str, float]:
    listed = list(rows)
    found = {str(row.dtype): _best(other for other in listed if other.dtype == row.dtype) for row in listed}
    return {dtype: rate for dtype, rate in found.items() if rate}
