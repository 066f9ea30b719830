"""Memory levels as they behave: what a stream and a chase see of each, found on the whole curve over working sets.

A level is a plateau of the curve, and its capacity the size at which the curve passes the geometric middle between its
plateau and the next: there as much is answered from one as from the other. Advertised capacities only lend the plateaus
their names. A shared host may advertise 36 MiB of last-level cache and let neighbours empty it every few milliseconds,
so the time between two uses of a line is reported beside the size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from microbench.analysis.plateaus import Climb, Plateau, SweepPoint, plateaus
from microbench.hardware.placement import as_seen_by, placement_of
from microbench.records import Case, Device, LevelSeen, Samples, Sheet

# The least factor in time between two levels. The second level of some cores streams nearly as fast as the first, and
# a last level must beat main memory by a fifth; a chase pays for page walks, which take up to half as long again.
_STEP = {"stream": math.log2(1.2), "chase": math.log2(1.5)}
# What points of one plateau lie apart by, in octaves of time. Streams hide what loads pay for one by one: page walks,
# sets that fill unevenly.
_SCATTER = {"stream": 0.05, "chase": 0.08}
# Random loads that take this share of what one in main memory takes without page walks come from main memory.
_OF_MEMORY = math.log2(0.85)
# Fewer points are no curve, nor are those of which two lie so far apart: they are the sets of a few levels.
_LEAST_POINTS, _GAP = 6, 6.0
# A sweep that ends so far beyond the last advertised size ends in main memory; no cache, whatever it replaces, answers
# a share worth seeing of a walk through the second.
_OUTGROWN, _LEFT_BEHIND = 1.5, 4.0
# A curve this far above a plateau, in octaves of time, has left it.
_LEFT = 0.25
# A level's own time shows from so many sizes of the level before it, which answers a part of what is less (none keeps
# strictly the newest lines), and up to this share of its own. The first pair that leaves enough points counts.
_OWN = ((4.0, 0.5), (4.0, 0.7), (2.0, 0.7), (2.0, 1.0), (0.0, math.inf))
_ENOUGH_POINTS = 2
# A working set counts as on a plateau this far beyond its ends, since sweep points are a fraction of an octave apart.
_SLACK = 1.19
_LINE_BYTES = 64
_CACHES = {"cpu": ("L1", "L2", "L3"), "cuda": ("L1", "L2")}
# What a plateau is named after, in octaves between sizes: a cache seen larger than it is counts double, since
# neighbours, page placement and lines that are fetched ahead only take from it; a name without a size counts as this.
_LARGER, _NAMELESS = 2.0, 2.0
# Levels of one core: threads add up in those behind them, which are shared.
_PRIVATE = ("L1", "L2")


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
            or case.params.get("window")  # without page walks: another curve
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


def find_levels(
    points: Sequence[SweepPoint],
    device: Device,
    seen_by: Literal["stream", "chase"],
    memory: float | None = None,
) -> list[LevelSeen]:
    """Plateaus of a sweep from near to far, named after the levels the device advertises.

    Parameters
    ----------
    points
        The sweep in ascending order of working set.
    device
        Its advertised levels lend names; capacities seen may differ.
    seen_by
        ``stream``: higher is faster; ``chase``: lower is faster.
    memory
        What main memory is known to do where no cache and no page walk takes part. A sweep need not end there then, and
        plateaus of a chase at that height are memory, however far page walks set them apart.
    """
    sizes = [point.size_bytes for point in points]
    if len(sizes) < _LEAST_POINTS or any(far > near * _GAP for near, far in itertools.pairwise(sizes)):
        return []
    rate = seen_by == "stream"
    known = None if memory is None else (-1.0 if rate else 1.0) * math.log2(memory)
    # Where nothing is told, nobody knows that the sweep leaves the last cache.
    outgrown = points[-1].size_bytes / max((size for _, size in _advertised(device)), default=points[-1].size_bytes)
    climb = Climb.of(points, rate=rate, beyond=known if outgrown <= _LEFT_BEHIND else None)
    found = [[each] for each in plateaus(climb, _STEP[seen_by], _SCATTER[seen_by])]
    while not rate and len(found) > 1 and is_memory(2 ** found[-2][0].low, memory):
        found[-2:] = [found[-2] + found[-1]]
    advertised = {name: size for name, size in _advertised(device) if size > points[0].size_bytes}
    passed = {name for name, _ in _advertised(device)} - set(advertised)
    names = [name for name in _CACHES[device.kind] if name not in passed]
    # A sweep that ends inside the last cache saw main memory only if it saw more than the caches.
    reached = outgrown >= _OUTGROWN or len(climb.size) > len(points) or len(found) > len(advertised)
    told = _Names(names=names, advertised=advertised)
    while len(found) - reached > len(names):
        found = _joined(found, climb, told, reached=reached)
    ends = [_capacity(climb, near, far) for near, far in itertools.pairwise(found)]
    named = [*told.of(_caches(found, climb, reached=reached)), "DRAM"]
    curve = _Curve(points=points, climb=climb, seen_by=seen_by)
    return [
        curve.level(name, group, around, advertised.get(name))
        for name, group, around in zip(named, found, zip([0.0, *ends], [*ends, None], strict=True), strict=False)
        if group[0].first < len(points)
    ]


def is_memory(seconds: float, memory_s: float | None) -> bool:
    """Whether a random load of so many seconds comes from main memory, of which one without page walks is known."""
    return memory_s is not None and math.log2(seconds / memory_s) >= _OF_MEMORY


def _joined(found: list[list[Plateau]], climb: Climb, names: _Names, *, reached: bool) -> list[list[Plateau]]:
    """The plateaus with two neighbours made one level: two that differ little, and leave no size above one told."""

    def cost(at: int) -> float:
        return found[at + 1][0].low - found[at][-1].high + names.excess(_caches(join(at), climb, reached=reached))

    def join(at: int) -> list[list[Plateau]]:
        return [*found[:at], found[at] + found[at + 1], *found[at + 2 :]]

    return join(min(range(len(found) - 1), key=cost))


def _caches(found: Sequence[Sequence[Plateau]], climb: Climb, *, reached: bool) -> list[float]:
    """Capacities of all but main memory; of a last cache that a sweep does not leave, the end of the sweep.

    A sweep leaves its last plateau, too, where it climbs on without another: a run that was cut short, or disturbed.
    """
    ends = [_capacity(climb, near, far) for near, far in itertools.pairwise(found)]
    left = climb.crossing(found[-1][-1].high + _LEFT, found[-1][0].first, len(climb.size) - 1) if found else None
    return [*ends, left or 2 ** climb.size[-1]][: len(found) - reached]


def _capacity(climb: Climb, near: Sequence[Plateau], far: Sequence[Plateau]) -> float:
    """Bytes at which a curve passes the geometric middle of two neighbouring plateaus."""
    middle = (near[-1].middle + far[0].middle) / 2
    return climb.crossing(middle, near[0].first, far[-1].last) or float(2 ** climb.size[near[-1].last])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """Names that plateaus can have, in order, and the sizes that the system tells for them."""

    names: Sequence[str]
    advertised: Mapping[str, int]

    def of(self, caches: Sequence[float]) -> tuple[str, ...]:
        """One name for each cache seen, so that the sizes lie nearest to the advertised ones.

        Where there are more caches than names, the last ones have none.
        """
        seen = caches[: len(self.names)]
        return min(
            itertools.combinations(self.names, len(seen)),
            key=lambda chosen: sum(self._apart(name, size) for name, size in zip(chosen, seen, strict=True)),
        )

    def excess(self, caches: Sequence[float]) -> float:
        """How far sizes exceed those that are told, in octaves: neighbours only take from a cache."""
        named = zip(self.of(caches), caches, strict=False)
        return sum(max(0.0, math.log2(size / self.advertised[name])) for name, size in named if name in self.advertised)

    def _apart(self, name: str, size: float) -> float:
        if name not in self.advertised:
            return _NAMELESS
        octaves = math.log2(size / self.advertised[name])
        return octaves * _LARGER if octaves > 0 else -octaves


def _advertised(device: Device) -> list[tuple[str, int]]:
    caches = [
        (level.name, level.capacity_bytes)
        for level in device.levels
        if level.name in ("L1", "L2", "L3") and level.capacity_bytes
    ]
    return sorted(((name, capacity) for name, capacity in caches if capacity), key=lambda pair: pair[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """A sweep as measured and as the finder sees it."""

    points: Sequence[SweepPoint]
    climb: Climb
    seen_by: Literal["stream", "chase"]

    def level(
        self, name: str, group: Sequence[Plateau], ends: tuple[float, float | None], size: int | None
    ) -> LevelSeen:
        """One level: its plateaus, the capacities of the level before it and its own, and its advertised size."""
        near, end = ends
        # Of main memory with and without page walks, random loads everywhere pay for them.
        first = group[-1].first if name == "DRAM" else group[0].first
        last = len(self.points) - 1 if name == "DRAM" else min(group[-1].last, len(self.points) - 1)
        high, value = self.points[last].size_bytes, self._height(first, last, near, end or math.inf)
        return LevelSeen(
            name=name,
            seen_by=self.seen_by,
            low_bytes=self.points[group[0].first].size_bytes,
            high_bytes=high,
            capacity_bytes=round(end) if end and end <= self.points[-1].size_bytes else None,
            value=value,
            reuse_s=high / value if self.seen_by == "stream" else high / _LINE_BYTES * value,
            advertised_bytes=size,
        )

    def _height(self, first: int, last: int, near: float, end: float) -> float:
        """The value of the middle point, of those that neither neighbour answers a part of."""
        quiet = [i for i in range(first, last + 1) if self.climb.quiet(i)] or [last]
        for least, most in _OWN:
            own = [i for i in quiet if near * least <= self.points[i].size_bytes <= end * most]
            if len(own) >= _ENOUGH_POINTS:
                break
        ranked = sorted(own or quiet, key=lambda i: self.climb.time[i])
        return self.points[ranked[(len(ranked) - 1) // 2]].value


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


def answered_by_a_cache(case: Case, sheet: Sheet) -> bool:
    """Whether a cache may have answered a part of a case in a processor's main memory, whose lines stayed."""
    return sheet.device_kind == "cpu" and not case.params.get("cold") and case.mode != "sustained"


def level_of(
    working_set: int,
    threads: int,
    levels: Sequence[LevelSeen],
    device: Device,
    sharers: Callable[[str], int] | None = None,
) -> str | None:
    """The level on whose plateau a working set per thread lies; ``None`` between two plateaus.

    ``sharers`` tells how many threads share one cache of a level, whose sets add up there; without it, all share every
    level after the second. Levels that a stream does not tell apart are told by a chase, or by their advertised
    capacities. Without a stream's sweep all are told by these, and what is not advertised by a chase.
    """
    sharing = sharers or (lambda name: 1 if name in _PRIVATE else threads)
    stream = {level.name: level for level in levels if level.seen_by == "stream"}
    if not stream:
        return _level_by_size(working_set, device, levels, sharing)
    for name, level in stream.items():
        if working_set * sharing("L1") < level.low_bytes / _SLACK:  # what one core walks through
            continue
        if name == "DRAM" or working_set * sharing(name) <= level.high_bytes * _SLACK:
            found = _nearer(working_set, name, levels, device, sharing) or name
            return None if _helped(working_set, found, device, levels, sharing) else found
    return None


def _sizes(device: Device, levels: Sequence[LevelSeen] = ()) -> dict[str, int]:
    """Bytes of each cache, near to far: what the system tells, else what a curve showed of a processor's."""
    sizes = dict(_advertised(device))
    for level in levels if device.kind == "cpu" else ():
        if level.name != "DRAM" and level.name not in dict(_advertised(device)):
            sizes[level.name] = max(level.seen_to_bytes, sizes.get(level.name, 0))
    return {name: sizes[name] for name in _CACHES[device.kind] if name in sizes}


def _nearer(
    working_set: int, name: str, levels: Sequence[LevelSeen], device: Device, sharing: Callable[[str], int]
) -> str | None:
    """The level that holds a working set already, nearer than one of which a stream cannot tell it apart."""
    seen = {level.name: level.seen_to_bytes for level in levels if level.seen_by == "chase"}
    told = {level.name for level in levels if level.seen_by == "stream"}
    for near, size in _sizes(device, levels).items():
        if near == name:
            break
        if near not in told and name != "DRAM" and working_set * sharing(near) <= seen.get(near, size):
            return near
    return None


def _helped(
    working_set: int, level: str, device: Device, levels: Sequence[LevelSeen], sharing: Callable[[str], int]
) -> bool:
    """Whether a core's own cache before this level still answers part of a cyclic walk.

    No cache replaces strictly the oldest line, so a walk through less than twice its size finds some lines left: on a
    plateau of many per cent that goes unseen, in a ceiling it does not.
    """
    before = {"L2": "L1", "L3": "L2"}.get(level) if device.kind == "cpu" else None
    return before is not None and working_set * sharing(before) < 2 * _sizes(device, levels).get(before, 0)


def _level_by_size(
    working_set: int, device: Device, levels: Sequence[LevelSeen], sharing: Callable[[str], int]
) -> str | None:
    """The first level that holds a set; none where a cache of which nobody knows the size may hold it before."""
    sizes = _sizes(device, levels)
    for place, (name, size) in enumerate(sizes.items()):
        if working_set * sharing(name) <= size:
            sure = device.kind != "cpu" or name == _CACHES[device.kind][place]
            return name if sure and not _helped(working_set, name, device, levels, sharing) else None
    return "DRAM" if working_set >= 2 * max(sizes.values(), default=math.inf) else None
