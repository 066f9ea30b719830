"""The plausibility check before anything is printed: numbers that cannot be are measured again, then flagged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from microbench.analysis import plausibility_cuda
from microbench.analysis.roofs import roofs
from microbench.hardware.clock import above_nominal
from microbench.records import Ceiling, Device, Finding, Sheet

# A library may exceed the best unit by the error of either.
ABOVE_UNITS = 0.01
# Below this share of nominal a loop of ours was not alone on its core, or its ports are not those of the table.
LEAST_SHARE = 0.3
# Two levels may tie within the tolerance of memory ceilings.
LEVEL_TIE = 0.03
_LEVEL_ORDER = ("L1", "L2", "L3", "DRAM")
_RATIO_TOLERANCE = 0.05
# Siblings divide one core, and slow cores may lose to a fast one.
_MAY_BE_SLOWER = ("siblings", "efficiency_cores")


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Something implausible: what it says, and the cases that would settle it."""

    finding: Finding
    cases: tuple[str, ...]


def doubts(ceilings: Sequence[Ceiling], device: Device, sheets: Iterable[Sheet] = ()) -> list[Doubt]:
    """Every implausibility among the ceilings of one device.

    Parameters
    ----------
    ceilings, device
        What was measured, and of what.
    sheets
        The kernels: only those that bound the roofline are held against one another.
    """
    bounds = roofs(ceilings, sheets)
    found = [
        *_above_nominal(ceilings),
        *_far_below_nominal(ceilings),
        *_levels_out_of_order(ceilings),
        *_more_threads_slower(ceilings),
        *_library_above_units(ceilings, bounds),
    ]
    if device.kind == "cpu":
        found += _vector_ratio(bounds)
    else:
        found += [
            _doubt(code, says, remedy, *named)
            for code, says, remedy, named in plausibility_cuda.complaints(ceilings, bounds, device)
        ]
    return found


def _doubt(code: str, says: str, remedy: str, *ceilings: Ceiling) -> Doubt:
    finding = Finding(code=code, severity="warning", says=says, remedy=remedy, case=ceilings[0].case)
    return Doubt(finding=finding, cases=tuple(ceiling.case for ceiling in ceilings))


def _label(ceiling: Ceiling) -> str:
    where = f" ({ceiling.placement})" if ceiling.placement else ""
    return f"{ceiling.name} with {ceiling.threads} thread{'s' if ceiling.threads > 1 else ''}{where}"


def _above_nominal(ceilings: Sequence[Ceiling]) -> Iterable[Doubt]:
    for ceiling in ceilings:
        if ceiling.nominal and ceiling.rate.value > ceiling.nominal * above_nominal(ceiling.threads):
            says = (
                f"{_label(ceiling)} is {ceiling.rate.value / ceiling.nominal:.1%} of nominal at the clock seen, which "
                "cannot be"
            )
            yield _doubt("above-nominal", says, f"run again; if it stays, {_suspect(ceiling)}", ceiling)


def _far_below_nominal(ceilings: Sequence[Ceiling]) -> Iterable[Doubt]:
    """Loops that do nothing but what their ports are counted for reach most of it, on a core that is theirs."""
    for ceiling in ceilings:
        counted = ceiling.backend == "native" and ceiling.mode == "peak" and "legacy" not in ceiling.variant.split(".")
        if counted and ceiling.nominal and ceiling.rate.value < LEAST_SHARE * ceiling.nominal:
            says = f"{_label(ceiling)} is only {ceiling.rate.value / ceiling.nominal:.1%} of nominal at the clock seen"
            remedy = "close other programs and run again; if it stays, the port table is wrong for this chip"
            yield _doubt("far-below-nominal", says, remedy, ceiling)


def _suspect(ceiling: Ceiling) -> str:
    """What else is wrong when a rate above nominal is not: on a GPU, main memory is bound by its bus."""
    if ceiling.backend != "native" and ceiling.level == "DRAM":
        return (
            "a cache answered a part of it, or the memory runs faster than the bus and clock that are known of this "
            "card"
        )
    return "the port table or the reference clock is wrong for this chip"


def _levels_out_of_order(ceilings: Sequence[Ceiling]) -> Iterable[Doubt]:
    groups: dict[tuple[str, int, str | None, str], dict[str, Ceiling]] = {}
    for ceiling in ceilings:
        if ceiling.measures == "memory" and ceiling.level in _LEVEL_ORDER:
            groups.setdefault((ceiling.kernel, ceiling.threads, ceiling.placement, ceiling.mode), {})[ceiling.level] = (
                ceiling
            )
    for levels in groups.values():
        present = [levels[name] for name in _LEVEL_ORDER if name in levels]
        for near, far in pairwise(present):
            if near.rate.value < far.rate.value * (1 - LEVEL_TIE):
                says = f"{_label(near)} is slower than {_label(far)}"
                yield _doubt(
                    "levels-out-of-order", says, "run again in a quieter moment, or with --thorough", near, far
                )


def _more_threads_slower(ceilings: Sequence[Ceiling]) -> Iterable[Doubt]:
    single = {(c.kernel, c.level, c.mode): c for c in ceilings if c.threads == 1 and not c.placement}
    for ceiling in ceilings:
        one = single.get((ceiling.kernel, ceiling.level, ceiling.mode))
        if (
            ceiling.threads > 1
            and ceiling.placement not in _MAY_BE_SLOWER
            and one is not None
            and ceiling.rate.value < one.rate.value * (1 - LEVEL_TIE)
        ):
            says = f"{_label(ceiling)} is slower than with one thread"
            yield _doubt(
                "threads-slower", says, "close other programs; if it stays, the threads share one core", ceiling, one
            )


def _library_above_units(ceilings: Sequence[Ceiling], bounds: Sequence[Ceiling]) -> Iterable[Doubt]:
    for ceiling in ceilings:
        if ceiling.mode != "library" or ceiling.measures != "compute":
            continue
        units = [
            c
            for c in bounds
            if c.mode == "peak"
            and c.measures == "compute"
            and c.dtype == ceiling.dtype
            and (c.threads, c.placement) == (ceiling.threads, ceiling.placement)
        ]
        if units and ceiling.rate.value > max(c.rate.value for c in units) * (1 + ABOVE_UNITS):
            says = f"the library's {_label(ceiling)} is faster than every unit measured for {ceiling.dtype}"
            yield _doubt(
                "library-above-units",
                says,
                "the library uses a unit without a kernel here, or another precision",
                ceiling,
                *units,
            )


def _vector_ratio(ceilings: Sequence[Ceiling]) -> Iterable[Doubt]:
    vectors = [c for c in ceilings if c.measures == "compute" and c.unit == "vector" and c.mode == "peak"]
    doubles = {_without_dtype(c): c for c in vectors if c.dtype == "f64"}
    for ceiling in (c for c in vectors if c.dtype == "f32"):
        other = doubles.get(_without_dtype(ceiling))
        if other is None:
            continue
        times = ceiling.rate.value / other.rate.value
        if ceiling.per_clock and other.per_clock:
            times = ceiling.per_clock / other.per_clock  # turbo may have stepped between the two
        if abs(times / 2 - 1) > _RATIO_TOLERANCE:
            says = f"{_label(ceiling)} is {times:.2f} times {other.name}; vectors of one width hold twice as many f32"
            yield _doubt("vector-ratio", says, "run again; one of the two was disturbed", ceiling, other)


def _without_dtype(ceiling: Ceiling) -> tuple[str, str, int, str | None]:
    """What two ceilings share that differ in dtype alone: the first word of the kernel, the variant, where it ran."""
    return ceiling.kernel.partition(".")[0], ceiling.variant, ceiling.threads, ceiling.placement
