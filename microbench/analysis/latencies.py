"""What a load and other fixed work cost: seconds per iteration of a case, and load-to-use latency by level.

The latency of a level is that of a case on its plateau. Main memory has two: of loads from everywhere, which pay for
page walks, and of loads that stay in one window of pages for a while, which do not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from microbench.analysis.l2_partitions import Halves, halves, rises_beyond_half
from microbench.analysis.levels import is_memory, level_of_case
from microbench.records import Case, Cost, Device, Estimate, Finding, LevelSeen, Samples, Sheet
from microbench.stats.intervals import AGREEING_ROUNDS

# What a cost of loads is called that stay in one window of pages at a time.
LOCAL = "local"


class Series(Protocol):
    """One case over all its rounds."""

    @property
    def case(self) -> Case:
        """What was measured."""

    @property
    def sheet(self) -> Sheet:
        """Its kernel's facts."""

    @property
    def rounds(self) -> tuple[Samples, ...]:
        """What came back, round by round."""


def memory_latency(series: Sequence[Series]) -> float | None:
    """Seconds of a load from main memory without page walks, where one was measured."""
    return min((best_load(one) for one in series if one.case.params.get("window")), default=None)


def best_seconds(rounds: Sequence[Samples]) -> Estimate:
    """Seconds of one iteration; the best round is the cost, the third best bounds it from above."""
    times = sorted(min(r.ns) * 1e-9 / r.iterations for r in rounds)
    high = times[min(AGREEING_ROUNDS, len(times)) - 1]
    return Estimate(value=times[0], low=times[0], high=high, basis="best round; high: third best round")


def scaled(seconds: Estimate, factor: float) -> Estimate:
    """A part of an iteration, or several of them."""
    return replace(seconds, value=seconds.value * factor, low=seconds.low * factor, high=seconds.high * factor)


def cost_of(one: Series) -> Cost:
    """Seconds per iteration of a case."""
    name = one.sheet.name if one.case.threads == 1 else f"{one.sheet.name}.{one.case.threads}_threads"
    pages = one.case.params.get("pages")
    seconds = best_seconds(one.rounds)
    return Cost(name=f"{name}.{pages}" if pages else name, seconds=seconds, case=one.case.key)


def latencies(levels: Sequence[LevelSeen], series: Sequence[Series], device: Device) -> list[Cost]:
    """Load-to-use latency per level: of the chase that swept it, and apart of any other kernel that takes the role.

    Without a sweep by a chase the level is the one whose advertised size holds the set, unless main memory takes no
    longer.
    """
    memory = memory_latency(series)
    seen = {level.name: level for level in levels if level.seen_by == "chase"}
    chases = [one for one in series if one.sheet.takes("latency")]
    groups: dict[tuple[str, str], list[Series]] = defaultdict(list)
    for one in chases:
        for level in _levels_of(one.case, seen, device):
            local = f".{LOCAL}" if one.case.params.get("window") else ""
            kernel = "load_to_use" if one.sheet.takes("sweep") else one.sheet.name
            groups[level, f"{kernel}.{level}{local}"].append(one)
    order = [*seen, *(level for level, _ in groups if level not in seen)]
    typical = {
        (level, name): _typical_of(each, level, seen.get(level))
        for (level, name), each in sorted(groups.items(), key=lambda item: order.index(item[0][0]))
    }
    costs = [
        _load_to_use(one, level, name)
        for (level, name), one in typical.items()
        if level in seen or level == "DRAM" or not is_memory(best_load(one), memory)
    ]
    fixed = ((one, one.sheet.fixed_level) for one in chases)
    return [*costs, *(_load_to_use(one, where, f"load_to_use.{where}") for one, where in fixed if where)]


def _levels_of(case: Case, seen: Mapping[str, LevelSeen], device: Device) -> Iterator[str]:
    """The level that a chase tells the latency of, if any."""
    if case.params.get("cold"):
        yield "DRAM"
    elif "working_set" in case.params:
        size = int(case.params["working_set"])
        if seen:
            yield from (name for name, level in seen.items() if level.low_bytes <= size <= level.high_bytes)
        elif level := level_of_case(case, (), device):
            yield level


def _typical_of(inside: Sequence[Series], name: str, level: LevelSeen | None) -> Series:
    """The case nearest to the plateau's height, on huge pages where there are: small ones add page walks.

    Where lines were evicted first, main memory answered whatever the caches hold. Without a sweep it is the median in
    main memory, and of a cache the fastest: neighbours may have had the part that larger sets need.
    """
    cold = [one for one in inside if one.case.params.get("cold")]
    huge = [one for one in cold or inside if one.case.params.get("pages") == "huge"] or cold or inside
    ranked = sorted(huge, key=best_load)
    if cold or level is None:
        return ranked[(len(ranked) - 1) // 2 if name == "DRAM" else 0]
    return min(huge, key=lambda one: abs(best_load(one) - level.value))


def sides(series: Sequence[Series], device: Device) -> tuple[list[Cost], list[Finding]]:
    """Latency of the near and of the far part of a divided L2, from chases of single lines.

    A finding where the lines do not fall into two groups.
    """
    lines = [one for one in series if "line" in one.case.params]
    if not lines:
        return [], []
    seen = {best_load(one): one for one in lines}
    found = halves([best_load(one) for one in lines])
    if found.why_not is not None:
        return _one_group(found, series, device)
    costs = []
    for side, values in (("near", found.near), ("far", found.far)):
        middle = values[len(values) // 2]
        basis = (
            f"median of {len(values)} of {len(lines)} lines, each its best round; low and high: the fastest and "
            "slowest of them"
        )
        seconds = Estimate(value=middle, low=values[0], high=values[-1], basis=basis)
        costs.append(Cost(name=f"load_to_use.L2.{side}", level="L2", seconds=seconds, case=seen[middle].case.key))
    return costs, []


def _one_group(found: Halves, series: Sequence[Series], device: Device) -> tuple[list[Cost], list[Finding]]:
    """What single lines that answer alike mean: one L2, or one whose parts keep copies.

    Sets beyond half of it tell the two apart.
    """
    says = (
        f"L2 shows no near and far part: {len(found.near)} lines answer in {found.near[0] * 1e9:.0f} to "
        f"{found.near[-1] * 1e9:.0f} ns; "
    )
    level = device.level("L2")
    capacity = (level.capacity_bytes if level else None) or 0
    sets = {
        int(one.case.params["working_set"]): one
        for one in series
        if "line" in one.sheet.params and "working_set" in one.case.params
    }
    risen = rises_beyond_half({size: best_load(one) for size, one in sets.items()}, capacity) if capacity else None
    if risen is None:
        chased = any(capacity / 2 < size < capacity for size in sets)
        seen = "sets beyond half of it take no longer" if chased else "no set beyond half of it was chased"
        remedy = "none needed; a multiprocessor that is as far from all of L2 sees one part, whatever the chip has"
        return [], [Finding(code="one-l2", severity="info", says=f"{says}{found.why_not}, and {seen}", remedy=remedy)]
    within, beyond = risen
    says += (
        f"sets below half of its {capacity / 2**20:.3g} MiB take {within * 1e9:.0f} ns a load too, but sets beyond "
        f"half up to {beyond * 1e9:.0f} ns: so behaves a divided L2 that keeps copies of the far part's lines nearby "
        "while they fit"
    )
    remedy = (
        "data that every multiprocessor reads have half of L2; the latency of the far part alone is longer than what "
        "those sets take"
    )
    size = next(size for size, one in sets.items() if best_load(one) == beyond)
    far = _load_to_use(sets[size], "L2", "load_to_use.L2.beyond_half")
    return [_near(found, series), far], [Finding(code="l2-copies", severity="info", says=says, remedy=remedy)]


def _near(found: Halves, series: Sequence[Series]) -> Cost:
    middle = found.near[len(found.near) // 2]
    basis = f"median of {len(found.near)} lines, each its best round; low and high: the fastest and slowest of them"
    near = Estimate(value=middle, low=found.near[0], high=found.near[-1], basis=basis)
    line = next(one for one in series if "line" in one.case.params and best_load(one) == middle)
    return Cost(name="load_to_use.L2.near", level="L2", seconds=near, case=line.case.key)


def _load_to_use(one: Series, level: str, name: str) -> Cost:
    seconds = scaled(best_seconds(one.rounds), 1 / max(1, one.sheet.loads))
    return Cost(name=name, level=level, seconds=seconds, case=one.case.key)


def best_load(one: Series) -> float:
    """Seconds of one load in the best round."""
    return min(min(r.ns) * 1e-9 / r.iterations for r in one.rounds) / max(1, one.sheet.loads)
