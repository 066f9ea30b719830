"""The figures of a characterisation that other tools read: rates by dtype, bandwidth, capacity, fixed cost.

A consumer divides FLOP by one rate and bytes by another. The rate to hand over is the one a user's program reaches, so
a library ceiling wins over a sustained one and that over a burst; the peak is kept beside it, so that a consumer with
an efficiency field still shows what the efficiency is a share of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from microbench.analysis.roofs import roofs
from microbench.errors import UsageError
from microbench.records import Ceiling, Characterisation, Finding, OperatorFit

_MODES = ("library", "sustained", "peak")
_GEMM = ("matmul", "linear", "bmm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What a program reaches (``value``) and what that is a share of (``peak``), in FLOP/s, OP/s or byte/s.

    ``low`` and ``high`` are the interval of the value where the ceiling has one. ``source`` names the ceiling that
    ``value`` comes from, so that an exported file says where its number was measured.
    """

    value: float
    peak: float
    source: str
    low: float | None = None
    high: float | None = None

    @property
    def efficiency(self) -> float:
        """Share of the peak that is reached, above 0 and at most 1."""
        return self.value / self.peak


def _whole_device(c: Characterisation, ceilings: Iterable[Ceiling]) -> list[Ceiling]:
    """Ceilings of the whole device; those of a core only where the device has but one."""
    found = list(ceilings)
    device = [ceiling for ceiling in found if ceiling.scope == "device"]
    one_core = c.device.kind == "cpu" and c.device.units_by_kind.get("core") == 1
    return device or (found if one_core else [])


def _rate(ceilings: Sequence[Ceiling]) -> Rate | None:
    if not ceilings:
        return None
    mode = next(mode for mode in _MODES if any(ceiling.mode == mode for ceiling in ceilings))
    best = max((ceiling for ceiling in ceilings if ceiling.mode == mode), key=lambda ceiling: ceiling.rate.value)
    printed = [value for ceiling in ceilings for value in (ceiling.advertised, ceiling.nominal) if value is not None]
    peak = max([best.rate.value, *(ceiling.rate.value for ceiling in ceilings), *printed])
    return Rate(value=best.rate.value, peak=peak, source=best.name, low=best.rate.low, high=min(best.rate.high, peak))


def compute(c: Characterisation, unit: str | None = None) -> dict[str, Rate]:
    """FLOP/s (OP/s for integers) of the whole device by dtype; ``unit`` keeps scalar, vector or matrix rows only.

    A library ceiling has no unit of its own, so it counts as the best unit that the device has.
    """
    rates: dict[str, Rate] = {}
    rows = _whole_device(c, (ceiling for ceiling in roofs(c.ceilings, c.sheets) if ceiling.measures == "compute"))
    for dtype in dict.fromkeys(ceiling.dtype for ceiling in rows if ceiling.dtype):
        rate = _rate([ceiling for ceiling in rows if ceiling.dtype == dtype and unit in (None, ceiling.unit)])
        if rate is not None:
            rates[dtype] = rate
    if unit is None:
        for fit in _operator_fits(c, _GEMM):
            peak = fit.terms.get("peak") or fit.terms.get("flops")
            if peak and fit.dtype not in rates:
                rates[fit.dtype] = Rate(
                    value=peak, peak=peak, source=f"fit of {fit.family} {fit.dtype} on {fit.rows} rows"
                )
        for roofline in c.fits.rooflines:
            rates.setdefault(
                roofline.dtype,
                Rate(value=roofline.peak, peak=roofline.peak, source=f"roofline fit of {roofline.dtype}"),
            )
    return rates


def bandwidth(c: Characterisation, *accesses: str, level: str = "DRAM") -> Rate | None:
    """Byte/s of one level over the whole device: the first of the accesses that was measured."""
    rows = _whole_device(
        c, (ceiling for ceiling in c.ceilings if ceiling.measures in ("memory", "link") and ceiling.level == level)
    )
    for access in accesses:
        rate = _rate([ceiling for ceiling in rows if ceiling.access == access])
        if rate is not None:
            return rate
    if level == "DRAM":
        for roofline in c.fits.rooflines:
            if level in roofline.bandwidth:
                value = roofline.bandwidth[level]
                return Rate(value=value, peak=value, source=f"roofline fit of {roofline.dtype}")
        for fit in c.fits.operators:
            fitted = fit.terms.get("bandwidth")
            if fitted:
                return Rate(value=fitted, peak=fitted, source=f"fit of {fit.family} {fit.dtype} on {fit.rows} rows")
    return None


def link(c: Characterisation) -> Rate | None:
    """Byte/s between devices, or where there is only one, between it and the host."""
    return next(filter(None, (bandwidth(c, "read", "copy", "write", level=level) for level in ("peer", "host"))), None)


def fixed_cost(c: Characterisation, *modes: str) -> float | None:
    """Seconds that one operator pays whatever its size, for the first of the launch modes that was calibrated."""
    for mode in modes:
        fits = [fit for fit in c.fits.operators if fit.cache == "hot"] or c.fits.operators
        costs = [fit.cost_s[mode] for fit in fits if mode in fit.cost_s]
        if costs:
            return sorted(costs)[len(costs) // 2]
    launches = [cost.seconds.value for cost in c.costs if cost.name.startswith("launch")]
    return min(launches) if launches else None


def _operator_fits(c: Characterisation, families: Sequence[str]) -> list[OperatorFit]:
    return [fit for family in families for fit in c.fits.operators if fit.family == family]


def need_compute(c: Characterisation, to: str, *dtypes: str) -> tuple[str, Rate]:
    """The first of the dtypes that has a rate.

    Raises
    ------
    UsageError
        If none has one; the message says which were asked for and how to get one.
    """
    rates = compute(c)
    for dtype in dtypes or tuple(rates):
        if dtype in rates:
            return dtype, rates[dtype]
    wanted = " or ".join(dtypes) or "any"
    raise UsageError(
        f"{to} needs a compute ceiling of {wanted} over the whole device, and this characterisation has "
        f"{', '.join(rates) or 'none'}; measure it with `microbench run --dtype {dtypes[0] if dtypes else 'f32'}` or "
        "export to another format"
    )


def need_bandwidth(c: Characterisation, to: str, *accesses: str) -> Rate:
    """DRAM bandwidth, or a sentence that says what to measure.

    Raises
    ------
    UsageError
        If no DRAM ceiling of the whole device is there.
    """
    rate = bandwidth(c, *accesses)
    if rate is None:
        raise UsageError(
            f"{to} needs a DRAM ceiling ({' or '.join(accesses)}) over the whole device, and this characterisation has "
            "none; measure it with `microbench run --level DRAM`"
        )
    return rate


def need_capacity(c: Characterisation, to: str) -> int:
    """Bytes of device memory.

    Raises
    ------
    UsageError
        If the characterisation does not know them.
    """
    if c.device.memory_bytes is None:
        raise UsageError(
            f"{to} needs the memory capacity, and this characterisation does not say it; run `microbench run` on the "
            "device itself, or add device.memory_bytes to a file that `fit` wrote"
        )
    return c.device.memory_bytes


def tidy(value: float, significant: int = 6) -> float | int:
    """Round for a file that people read: so many significant digits, an integer where nothing is lost.

    Examples
    --------
    >>> tidy(1234567.89), tidy(0.81234567), tidy(3.0)
    (1234570, 0.812346, 3)
    """
    rounded = float(f"{value:.{significant}g}")
    return int(rounded) if rounded.is_integer() else rounded


def plain(name: str) -> str:
    """Make a name safe for a comment or a docstring of a generated file: one line, no quotes, no backslashes.

    A characterisation may come from anywhere, and what is written here is imported by the user.
    """
    return " ".join(re.sub(r"[^\w .,:;()/+-]", " ", name).split())[:120]


def pretty(document: object) -> str:
    """JSON with an indent of 2 in which a list of numbers or words stays on one line."""
    text = json.dumps(document, indent=2)
    return re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda match: f"[{re.sub(chr(92) + 's+', ' ', match[1])}]", text) + "\n"


def unmeasured(to: str, what: str, remedy: str) -> Finding:
    """A finding that says what a format wanted and this file could not give."""
    return Finding(code="export-assumed", severity="warning", says=f"{to}: {what}", remedy=remedy)
