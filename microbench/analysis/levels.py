"""Memory levels as they behave: plateaus of the working-set sweep, found by change point.

Advertised capacities only lend the plateaus their names. A shared host may advertise 36 MiB of last-level cache and let
neighbours empty it every few milliseconds, so the size on which a stream still sees it and the time between two uses of
a line are both reported, and both are found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from microbench.hardware.placement import as_seen_by, placement_of
from microbench.records import Case, Device, LevelSeen, Samples, Sheet
from microbench.stats.intervals import segments

# A stretch of the sweep must explain this much squared log deviation to be a stretch of its own: 4 points off by 12 %.
_PENALTY = 0.06
# A last-level plateau must beat main memory by this factor, or it is main memory.
_BEATS_DRAM = 1.2
# Neighbouring stretches within this factor are one level.
_SAME_LEVEL = 1.15
# The two ends of what a stream sees of a level differ by less.
_FLAT = 1.25
# A working set counts as on a plateau this far beyond its ends, since sweep points are a fraction of an octave apart.
_SLACK = 1.19
_LINE_BYTES = 64
# Levels of one core: threads add up in those behind them, which are shared.
_PRIVATE = ("L1", "L2")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """One working set of a sweep: bytes, and byte/s (stream) or seconds per load (chase), best over rounds."""

    size_bytes: int
    value: float


def sweep(
    samples: Sequence[Samples], cases: Mapping[str, Case], sheets: Mapping[str, Sheet], seen_by: str
) -> list[SweepPoint]:
    """The curve of one thread with the most working sets, among kernels (and page kinds) that take the role `sweep`."""
    curves: dict[tuple[str, str], dict[int, float]] = {}
    for sample in samples:
        case = cases[sample.case]
        sheet = sheets[case.kernel]
        if (
            not sheet.takes("sweep")
            or sheet.measures != ("latency" if seen_by == "chase" else "memory")
            or case.threads != 1
            or case.mode != "peak"
            or "working_set" not in case.params
            or int(case.params.get("streams", 1)) != 1
            or case.params.get("cold")
        ):
            continue
        best_s = min(sample.ns) * 1e-9 / sample.iterations
        curve = curves.setdefault((case.kernel, str(case.params.get("pages", ""))), {})
        size = int(case.params["working_set"])
        value = best_s / max(1, sheet.loads) if seen_by == "chase" else sheet.work.bytes / best_s
        curve[size] = min(curve.get(size, math.inf), value) if seen_by == "chase" else max(curve.get(size, 0.0), value)
    if not curves:
        return []
    # Huge pages first: with 4 KiB pages a chase times page walks.
    best = max(curves, key=lambda key: (len(curves[key]) >= 8, key[1] == "huge", len(curves[key])))
    return [SweepPoint(size_bytes=size, value=curves[best][size]) for size in sorted(curves[best])]


def find_levels(points: Sequence[SweepPoint], device: Device, seen_by: Literal["stream", "chase"]) -> list[LevelSeen]:
    """Plateaus of a sweep, named after the levels the device advertises.

    Parameters
    ----------
    points
        The sweep in ascending order of working set.
    device
        Its advertised levels lend names; capacities seen may differ.
    seen_by
        ``stream``: higher is faster; ``chase``: lower is faster.
    """
    if len(points) < 6:
        return []
    sign = 1.0 if seen_by == "stream" else -1.0
    speed = [sign * math.log(point.value) for point in points]
    stretches = segments(speed, _PENALTY)
    height = {stretch: sum(speed[stretch[0] : stretch[1]]) / (stretch[1] - stretch[0]) for stretch in stretches}
    last = stretches[-1]
    found: list[LevelSeen] = []
    below = 0
    for name, capacity in _advertised(device):
        inside = [s for s in stretches[:-1] if below * _SLACK < _middle(points, s) <= capacity * _SLACK]
        if name not in _PRIVATE:
            # The fastest stretch beyond the level before it; what follows may be page walks or memory.
            inside = [
                s
                for s in inside
                if height[s] - height[last] > math.log(_BEATS_DRAM) and points[s[0]].size_bytes >= below * _SLACK
            ]
            if seen_by == "stream":
                # Just past the level before it a part still comes from there: a slope, where there is anything flatter.
                inside = [s for s in inside if abs(speed[s[0]] - speed[s[1] - 1]) <= math.log(_FLAT)] or inside
        if inside:
            # The longest stretch is a core's own level; what lies between two levels is short or steep.
            chosen = max(inside, key=(lambda s: s[1] - s[0]) if name in _PRIVATE else (lambda s: height[s]))
            found.append(_level(name, seen_by, points, _extended(chosen, inside, height), capacity))
        below = capacity
    found.append(_level("DRAM", seen_by, points, last, None))
    return found


def _extended(
    chosen: tuple[int, int], inside: Sequence[tuple[int, int]], height: Mapping[tuple[int, int], float]
) -> tuple[int, int]:
    """A stretch with those that follow at nearly its height: one level whose rate sinks a little towards its end."""
    end = chosen[1]
    for stretch in inside:
        if stretch[0] == end and height[chosen] - height[stretch] <= math.log(_SAME_LEVEL):
            end = stretch[1]
    return chosen[0], end


def _advertised(device: Device) -> list[tuple[str, int]]:
    caches = [
        (level.name, level.capacity_bytes)
        for level in device.levels
        if level.name in ("L1", "L2", "L3") and level.capacity_bytes
    ]
    return sorted(((name, capacity) for name, capacity in caches if capacity), key=lambda pair: pair[1])


def _middle(points: Sequence[SweepPoint], stretch: tuple[int, int]) -> float:
    return math.sqrt(points[stretch[0]].size_bytes * points[stretch[1] - 1].size_bytes)


def _level(
    name: str,
    seen_by: Literal["stream", "chase"],
    points: Sequence[SweepPoint],
    stretch: tuple[int, int],
    capacity: int | None,
) -> LevelSeen:
    inside = sorted(point.value for point in points[stretch[0] : stretch[1]])
    high = points[stretch[1] - 1].size_bytes
    value = inside[len(inside) // 2]
    return LevelSeen(
        name=name,
        seen_by=seen_by,
        low_bytes=points[stretch[0]].size_bytes,
        high_bytes=high,
        value=value,
        reuse_s=high / value if seen_by == "stream" else high / _LINE_BYTES * value,
        advertised_bytes=capacity,
    )


def level_of_case(case: Case, levels: Sequence[LevelSeen], device: Device) -> str | None:
    """The level of a case: main memory where its lines are evicted first or outlast every cache, else the plateau.

    The plan takes sets for sustained samples of a CPU that outgrow the last cache several times, or none.
    """
    lasts = case.mode == "sustained" and device.kind == "cpu" and "working_set" in case.params
    if case.params.get("cold") or lasts:
        return "DRAM"
    if "working_set" not in case.params:
        return None
    working_set, placement = int(case.params["working_set"]), placement_of(case, device)
    if placement is None:
        return level_of(working_set, case.threads, levels, device)
    if len(placement.parts) > 1 or placement.parts[0].kind not in (None, "performance"):
        # The sweep ran on a core of another kind, whose caches differ.
        return level_of(working_set, 1, [], as_seen_by(placement, device))
    return level_of(working_set, case.threads, levels, device, placement.sharers)


def level_of(
    working_set: int,
    threads: int,
    levels: Sequence[LevelSeen],
    device: Device,
    sharers: Callable[[str], int] | None = None,
) -> str | None:
    """The level on whose plateau a working set per thread lies; ``None`` between two plateaus.

    ``sharers`` tells how many threads share one cache of a level, whose sets add up there; without it, all share every
    level after the second. Without a sweep the advertised capacities decide.
    """
    sharing = sharers or (lambda name: 1 if name in _PRIVATE else threads)
    stream = [level for level in levels if level.seen_by == "stream"]
    if not stream:
        return _level_by_advertised(working_set, device, sharing)
    for level in stream:
        if working_set * sharing("L1") < level.low_bytes / _SLACK:  # what one core walks through
            continue
        if level.name == "DRAM" or working_set * sharing(level.name) <= level.high_bytes * _SLACK:
            return None if _helped(working_set, level.name, device, sharing) else level.name
    return None


def _helped(working_set: int, level: str, device: Device, sharing: Callable[[str], int]) -> bool:
    """Whether a core's own cache before this level still answers part of a cyclic walk.

    No cache replaces strictly the oldest line, so a walk through less than twice its size finds some lines left: on a
    plateau of many per cent that goes unseen, in a ceiling it does not.
    """
    before = device.level({"L2": "L1", "L3": "L2"}.get(level, "")) if device.kind == "cpu" else None
    return before is not None and working_set * sharing(before.name) < 2 * (before.capacity_bytes or 0)


def _level_by_advertised(working_set: int, device: Device, sharing: Callable[[str], int]) -> str | None:
    advertised = _advertised(device)
    for name, capacity in advertised:
        if working_set * sharing(name) <= capacity:
            return None if _helped(working_set, name, device, sharing) else name
    return "DRAM" if working_set >= 2 * max((capacity for _, capacity in advertised), default=0) else None
