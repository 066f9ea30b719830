"""Whether the last cache has a near and a far part, from latencies of single lines and of sets beyond half of it.

A large chip splits its L2; a line then answers sooner where its home lies on the multiprocessor's own side. The plan
chases single lines, each in an allocation of its own, with one warp. What they say is believed only where it cannot be
one group of lines that merely vary: two clusters, each of several lines, further apart than they are wide.

A divided cache may also keep copies: each line has one home, whose part answers for coherence, and the part on the
reader's side holds what was read of the other (the vendor's counters call it traffic of the L2 fabric). Then every
single line answers from nearby, and what lies far shows only where home lines and copies no longer fit together, beyond
half of the cache's size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

# Fewer lines cannot show two groups: eight lie on one side by chance once in 128 times.
LEAST_LINES = 8
# The distance between the means, in units of the clusters' spread (Ashman's D). One uniform group cut in half has 3.5,
# a normal one 2.7.
LEAST_SEPARATION = 6.0
# The gap between the groups, in units of the widest gap inside either.
LEAST_GAP = 1.5
# Addresses are spread evenly over both halves; of 24 lines fewer than a fifth lie in one of them once in 600 times.
LEAST_SHARE = 0.2
# The way across the chip is a good part of the whole way; clusters closer than this are neighbouring slices.
LEAST_RATIO = 1.1
# Shares of the cache: sets that fit one half for certain, and sets that fit the whole but not one half.
_WELL_BELOW = 0.4
_BEYOND = (0.55, 0.9)


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
        why = (
            f"the lines vary without a gap (two groups would lie {apart:.1f} of their widths apart, "
            f"{LEAST_SEPARATION:g} are asked for)"
        )
    elif gap < LEAST_GAP * max(_widest_gap(near), _widest_gap(far)):
        why = f"the gap of {gap * 1e9:.1f} ns between the slower and the faster lines is no wider than others"
    else:
        return Halves(near=tuple(near), far=tuple(far))
    return Halves(near=tuple(ranked), why_not=why)


def rises_beyond_half(latencies: Mapping[int, float], capacity: int) -> tuple[float, float] | None:
    """Latency of sets well below half of a cache, and the highest beyond half of it, where that is clearly longer.

    Parameters
    ----------
    latencies
        Load-to-use latency in seconds by working set in bytes.
    capacity
        The cache's size in bytes.

    Returns
    -------
    ``None`` where there are no such sets, or where those beyond half take less than `LEAST_RATIO` times as long.

    Examples
    --------
    >>> rises_beyond_half({10 << 20: 150e-9, 18 << 20: 151e-9, 40 << 20: 190e-9}, 50 << 20)
    (1.51e-07, 1.9e-07)
    >>> rises_beyond_half({10 << 20: 150e-9, 40 << 20: 152e-9}, 50 << 20) is None
    True
    """
    within = sorted(latency for size, latency in latencies.items() if size <= _WELL_BELOW * capacity)
    beyond = [latency for size, latency in latencies.items() if _BEYOND[0] * capacity < size < _BEYOND[1] * capacity]
    if not within or not beyond:
        return None
    middle = within[len(within) // 2]
    return (middle, max(beyond)) if max(beyond) >= LEAST_RATIO * middle else None


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
