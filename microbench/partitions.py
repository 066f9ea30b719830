"""Whether the last cache has a near and a far part, from latencies of single lines.

A large chip splits its L2; a line then answers sooner where its home lies on the multiprocessor's own side. The plan chases single lines,
each in an allocation of its own, with one warp. What they say is believed only where it cannot be one group of lines that merely
vary: two clusters, each of several lines, further apart than they are wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

# Fewer lines cannot show two groups: eight lie on one side by chance once in 128 times.
LEAST_LINES = 8
# The distance between the means, in units of the clusters' spread (Ashman's D). One uniform group cut in half has 3.5, a normal one 2.7.
LEAST_SEPARATION = 6.0
# The gap between the groups, in units of the widest gap inside either.
LEAST_GAP = 1.5
# Addresses are spread evenly over both halves; of 24 lines fewer than a fifth lie in one of them once in 600 times.
LEAST_SHARE = 0.2
# The way across the chip is a good part of the whole way; clusters closer than this are neighbouring slices.
LEAST_RATIO = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    """Latencies of lines in seconds, ascending: those near by and those far away; ``why_not`` says why none is far."""

    near: tuple[float, ...]
    far: tuple[float, ...] = ()
    why_not: str | None = None


def halves(latencies: Sequence[float]) -> Halves:
    """Split lines into near and far ones, if they are two groups.

    Parameters
    ----------
    latencies
        One load-to-use latency a line, in seconds.

    Examples
    --------
    >>> found = halves([210e-9, 212e-9, 208e-9, 211e-9, 355e-9, 357e-9, 360e-9, 354e-9])
    >>> len(found.near), len(found.far), found.why_not
    (4, 4, None)
    """
    ranked = sorted(latencies)
    if len(ranked) < LEAST_LINES:
        return Halves(near=tuple(ranked), why_not=f"{len(ranked)} lines are too few to tell, {LEAST_LINES} are needed")
    cut = max(range(1, len(ranked)), key=lambda at: _between(ranked[:at], ranked[at:]))
    near, far = ranked[:cut], ranked[cut:]
    least = max(2, round(len(ranked) * LEAST_SHARE))
    ratio = _mean(far) / _mean(near)
    apart, gap = _separation(near, far), far[0] - near[-1]
    if min(len(near), len(far)) < least:
        why = f"only {min(len(near), len(far))} of {len(ranked)} lines stand apart"
    elif ratio < LEAST_RATIO:
        why = f"the slower lines take {ratio:.2f} times as long, less than {LEAST_RATIO} times"
    elif apart < LEAST_SEPARATION:
        why = f"the lines vary without a gap (two groups would lie {apart:.1f} of their widths apart, {LEAST_SEPARATION:g} are asked for)"
    elif gap < LEAST_GAP * max(_widest_gap(near), _widest_gap(far)):
        why = f"the gap of {gap * 1e9:.1f} ns between the slower and the faster lines is no wider than others"
    else:
        return Halves(near=tuple(near), far=tuple(far))
    return Halves(near=tuple(ranked), why_not=why)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _between(low: Sequence[float], high: Sequence[float]) -> float:
    """Variance between two groups, up to a factor: the cut with the most of it leaves the least inside them."""
    return len(low) * len(high) * (_mean(high) - _mean(low)) ** 2


def _separation(low: Sequence[float], high: Sequence[float]) -> float:
    variance = (_variance(low) + _variance(high)) / 2
    return (_mean(high) - _mean(low)) / math.sqrt(variance) if variance else math.inf


def _widest_gap(ranked: Sequence[float]) -> float:
    return max((high - low for low, high in pairwise(ranked)), default=0.0)


def _variance(values: Sequence[float]) -> float:
    middle = _mean(values)
    return math.fsum((value - middle) ** 2 for value in values) / max(1, len(values) - 1)
