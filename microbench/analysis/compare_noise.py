"""How far two measurements of one thing on one device may lie apart, and what may be said of a ratio then.

Two runs of one device differ: the clock settles elsewhere, a neighbour is busier, pages lie otherwise. Part of that
hits all rows of a kind alike and cannot be seen from two files, so it is allowed for (`COMMON`). Part hits rows one by
one: what a row's own rounds say of it (`own`), and how far the rows of a kind scatter about their middle (`scatter`),
robustly, so that a few real changes do not count as noise. Many rows are looked at together, so each interval is wide
enough that all of them hold at once (Šidák).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, median
from typing import Literal

from microbench.records import Ceiling, Cost, Estimate
from microbench.stats.intervals import AGREEING_ROUNDS, PORTS_TOLERANCE

Verdict = Literal["slower", "faster", "same", "unresolved", "missing"]

GROUPS = ("compute", "memory", "link", "cost")
# Standard deviation of what hits all rows of a kind alike between two runs of one device: the tolerance at which rounds
# of one run are said to agree (1 % compute, 3 % memory), shared by two files. Costs hang on the scheduler and vary
# more.
COMMON = {"compute": 0.007, "memory": 0.02, "link": 0.02, "cost": 0.05}
# Never believe that rows repeat better than this, however quiet the two files look: pages lie otherwise in every run.
LEAST = {"compute": 0.003, "memory": 0.03, "link": 0.03, "cost": 0.1}
# Rows are "the same" where the whole interval of their ratio lies within this of 1; wider, and nobody knows.
SAME = {"compute": 0.05, "memory": 0.3, "link": 0.3, "cost": 0.35}
# The three best rounds of a row must agree within this part of that, or no verdict rests on it.
SETTLED = 1 / 2
CONFIDENCE = 0.95
COMMON_WIDTH = 2.0
# A robust spread of fewer rows than this says nothing.
_ENOUGH_ROWS = 8
_GAUSS = 1.4826  # median absolute deviation of a normal variable to its standard deviation
# What the best of a run's rounds varies by from run to run, as a part of how far its usual round lies below the best:
# disturbances come in episodes of seconds, and a machine with many of them has fewer quiet moments to find.
_EPISODES = 0.4
# The part of a row's noise that all rows of its kind have in common in one run.
SHARED = 0.6


def spread(estimate: Estimate) -> float:
    """Standard deviation of ln(value) that an estimate itself admits.

    A peak's low is its third best round: for a one-sided tail the gap from the best to the third best is 1.5 times the
    scale of the tail (the expected gaps between the first order statistics are 1 and 1/2 of it). A confidence interval
    is read as one.
    """
    value = max(estimate.value, 1e-300)
    if estimate.confidence is not None:
        width = math.log(max(estimate.high, 1e-300) / max(estimate.low, 1e-300)) / 2
        return abs(width) / NormalDist().inv_cdf((1 + estimate.confidence) / 2)
    return abs(math.log(max(estimate.low, 1e-300) / value)) / 1.5 if estimate.low < estimate.value else 0.0


def own(row: Ceiling | Cost) -> float:
    """Standard deviation of ln(value) that a row's own rounds admit between runs.

    Beside the agreement of its best rounds it is a part of how far the usual round lies below the best. A peak that its
    ports bound, and that reaches them, is pinned: it lies no higher on any day.
    """
    if isinstance(row, Cost):
        if row.seconds.confidence is not None:
            return spread(row.seconds)
        return math.log(row.seconds.high / row.seconds.value) / 1.5  # its best is its lowest
    if row.rate.confidence is not None or pinned(row) or not row.typical or row.typical.value <= 0:
        return spread(row.rate)
    return max(spread(row.rate), _EPISODES * abs(math.log(row.rate.value / row.typical.value)))


def rounds_settled(row: Ceiling) -> bool:
    """Whether the three best rounds of a row agree as far as a comparison needs, which is less than a ceiling does."""
    tolerance = SETTLED * SAME[row.measures]
    return row.rounds >= AGREEING_ROUNDS and row.rate.low >= row.rate.value * (1 - tolerance)


def pinned(row: Ceiling | Cost) -> bool:
    """Whether a peak converged at what the ports of its core can do at the clock seen: nothing else held it down."""
    if isinstance(row, Cost) or row.measures != "compute" or not row.converged or not row.nominal:
        return False
    return row.rate.value >= row.nominal * (1 - PORTS_TOLERANCE)


def scatter(log_ratios: Sequence[float], group: str) -> float:
    """Row-by-row noise between two files: robust spread about the group's median, at least `LEAST` of the group."""
    if len(log_ratios) < _ENOUGH_ROWS:
        return LEAST[group] * math.sqrt(2)
    centre = median(log_ratios)
    return max(_GAUSS * median(abs(value - centre) for value in log_ratios), LEAST[group] * math.sqrt(2))


def width(sd: float, rows: int) -> float:
    """Half the width of an interval that holds for so many rows at once (Šidák), for a standard deviation of each."""
    each = CONFIDENCE ** (1 / max(rows, 1))
    return NormalDist().inv_cdf((1 + each) / 2) * sd


def interval(log_ratio: float, half_width: float, beyond: float | None = None) -> Estimate:
    """Interval of a ratio. ``beyond`` is its logarithm without what the clock explains, where that is another."""
    beyond = log_ratio if beyond is None else beyond
    return Estimate(
        value=math.exp(log_ratio),
        low=math.exp(min(log_ratio, beyond) - half_width),
        high=math.exp(max(log_ratio, beyond) + half_width),
        confidence=CONFIDENCE,
    )


def verdict(ratio: Estimate, group: str) -> Verdict:
    """Slower, faster or same only where the whole interval says so.

    Examples
    --------
    >>> verdict(Estimate(value=0.9, low=0.85, high=0.95), "compute")
    'slower'
    >>> verdict(Estimate(value=0.9, low=0.7, high=1.1), "compute")
    'unresolved'
    """
    if ratio.high < 1:
        return "slower"
    if ratio.low > 1:
        return "faster"
    margin = 1 - SAME[group]
    return "same" if ratio.low >= margin and ratio.high <= 1 / margin else "unresolved"


def beyond_the_clock(log_ratio: float, log_clock: float, wander: float) -> float:
    """What is left of a change when the clock's part of it, as far as this clock wanders anyway, is taken out.

    Examples
    --------
    >>> round(beyond_the_clock(-0.055, -0.055, wander=0.06), 3), round(beyond_the_clock(-0.055, 0.0, wander=0.06), 3)
    (0.0, -0.055)
    """
    return log_ratio - max(-wander, min(wander, log_clock))
