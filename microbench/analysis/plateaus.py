"""Plateaus of a working-set curve: where time per access stays level, between the climbs from one memory to the next.

Noise only slows, and a larger set is never answered sooner than a smaller one; so a point that two larger neighbours
undercut was disturbed, and its place on the curve is theirs. What remains is cut by dynamic programming into plateaus
that rise gently at most and points on the climbs between them, at the least cost in squared deviation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Everything below is in octaves of time over octaves of working set.
# What a point costs at most, of that which it lies off by over what points of one plateau scatter by, squared: one that
# was disturbed cuts no plateau.
_OUTLIER = 9.0
# A point on a climb, and a further plateau: three points off by 12 % pay for one.
_CLIMBING, _ANOTHER = 3.5, 4.5
# A plateau rises this much an octave at most: a last level whose sets fill unevenly by 0.25, a climb of a fifth by 0.3.
_RISES = np.array([[0.0], [0.08], [0.16], [0.24], [0.3]])
# No plateau has fewer undisturbed points or is narrower: on a climb, two may lie level by chance.
_LEAST_POINTS, _LEAST_WIDTH = 3, 0.8
# Where a sweep of one point an octave ends, two show where it leads.
_LAST_POINTS, _LAST_WIDTH = 2, 0.95
# A point that lies so far above its place on the curve was disturbed.
_DISTURBED = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """One working set of a sweep: bytes, and byte/s (stream) or seconds per load (chase), best over rounds."""

    size_bytes: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plateau:
    """Points ``first`` to ``last`` (inclusive) of a curve; ``low`` and ``high`` are its ends, in octaves of time."""

    first: int
    last: int
    low: float
    high: float

    @property
    def middle(self) -> float:
        """The height halfway between its ends."""
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """A curve as octaves of size and of time; ``time`` as measured, ``curve`` without what disturbed single points."""

    size: tuple[float, ...]
    time: tuple[float, ...]
    curve: tuple[float, ...]

    @classmethod
    def of(cls, points: Sequence[SweepPoint], *, rate: bool, beyond: float | None = None) -> Climb:
        """Take points in ascending order of size whose value is a rate or a time.

        ``beyond`` is where the curve leads at least, in octaves of time: a plateau there goes on from its end.
        """
        size = [math.log2(point.size_bytes) for point in points]
        time = [(-1.0 if rate else 1.0) * math.log2(point.value) for point in points]
        if beyond is not None:
            end = min(time[-_LEAST_POINTS:])
            size += [size[-1] + 1 + octave for octave in range(_LEAST_POINTS)]
            time += [end if end > beyond - _DISTURBED else beyond] * _LEAST_POINTS
        return cls(size=tuple(size), time=tuple(time), curve=tuple(undisturbed(time)))

    def quiet(self, index: int) -> bool:
        """Whether a point was measured where the curve says it belongs."""
        return self.time[index] - self.curve[index] <= _DISTURBED

    def crossing(self, level: float, first: int, last: int) -> float | None:
        """The size at which the curve leaves the times below ``level`` for good, interpolated between two points."""
        below = [i for i in range(first, last + 1) if self.curve[i] < level]
        if not below or below[-1] == last:
            return None
        at = below[-1]
        share = (level - self.curve[at]) / (self.curve[at + 1] - self.curve[at])
        return float(2 ** (self.size[at] + share * (self.size[at + 1] - self.size[at])))


def undisturbed(time: Sequence[float]) -> list[float]:
    """Lower every point that two larger neighbours undercut to the next; one alone may itself be wrong.

    Examples
    --------
    >>> undisturbed([1.0, 5.0, 1.2, 1.1, 9.0, 8.0])
    [1.0, 1.2, 1.2, 1.1, 8.0, 8.0]
    """
    found = list(time)
    undercut = math.inf
    for i in range(len(time) - 2, -1, -1):
        undercut = min(undercut, max(time[i + 1 : i + 3]))  # the last point has no second neighbour to confirm it
        if time[i] > undercut:
            found[i] = found[i + 1]
    return found


def plateaus(climb: Climb, step: float, scatter: float) -> list[Plateau]:
    """The plateaus of a curve, each at least ``step`` octaves of time above the one before it.

    ``scatter`` is what points of one plateau lie apart by, in octaves of time.
    """
    count = len(climb.size)
    x, y = np.asarray(climb.size), np.asarray(climb.curve)
    quiet = np.cumsum([0, *(climb.quiet(i) for i in range(count))])
    spans = [
        (i, j)
        for j in range(1, count + 1)
        for i in range(j)
        if (quiet[j] - quiet[i] >= _LEAST_POINTS and x[j - 1] - x[i] >= _LEAST_WIDTH)
        or (j == count and quiet[j] - quiet[i] == _LAST_POINTS and x[j - 1] - x[i] >= _LAST_WIDTH)
    ]
    if not spans:
        return []
    starts, ends = (np.asarray(each) for each in zip(*spans, strict=True))
    own, low, high = (np.asarray(each) for each in zip(*(_fit(x[i:j], y[i:j], scatter) for i, j in spans), strict=True))
    best = own + _ANOTHER + _CLIMBING * starts
    before = np.full(len(spans), -1)
    for k, start in enumerate(starts):
        fits = (ends[:k] <= start) & (high[:k] + step <= low[k])
        if fits.any():
            costs = np.where(fits, best[:k] + _CLIMBING * (start - ends[:k]), np.inf)
            chosen = int(np.argmin(costs))
            if costs[chosen] + own[k] + _ANOTHER < best[k]:
                best[k], before[k] = costs[chosen] + own[k] + _ANOTHER, chosen
    at = int(np.argmin(best + _CLIMBING * (count - ends)))
    found = []
    while at >= 0:
        found.append(Plateau(first=int(starts[at]), last=int(ends[at]) - 1, low=float(low[at]), high=float(high[at])))
        at = int(before[at])
    return found[::-1]


def _fit(x: NDArray[np.float64], y: NDArray[np.float64], scatter: float) -> tuple[float, float, float]:
    """What the best gently rising line through the middle of some points leaves unexplained, and its two ends."""
    off = np.sort(y - _RISES * x, axis=1)
    level = off[:, len(x) // 2 : len(x) // 2 + 1]
    cost = np.minimum(((off - level) / scatter) ** 2, _OUTLIER).sum(axis=1)
    at = int(np.argmin(cost))
    start = float(level[at, 0])
    return float(cost[at]), start + float(_RISES[at, 0] * x[0]), start + float(_RISES[at, 0] * x[-1])
