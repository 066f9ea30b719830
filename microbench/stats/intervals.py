"""Statistics of one-sided noise: pure functions, apart from the hardware, tested on known answers.

Interference only ever slows a sample down, and comes in episodes of seconds. So a peak is the best of many short
samples spread over the run, believed when independent rounds agree on it; what a user gets on an ordinary day is the
median over rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

AGREEING_ROUNDS = 3
COMPUTE_TOLERANCE = 0.01
MEMORY_TOLERANCE = 0.03
SHAPE_TOLERANCE = 0.06
# Agreement of rounds below what the ports can do means that something held all of them down alike.
PORTS_TOLERANCE = 0.015
# On a GPU the launch, the tail of the grid and the shared-memory port take a few per cent of a loop that is as fast as
# others' best.
UNITS_TOLERANCE = 0.05


def envelope(best_of_rounds: Sequence[float]) -> tuple[float, float]:
    """The best round and the third best (the worst where there are fewer): value and low of a peak.

    Examples
    --------
    >>> envelope([90.0, 100.0, 99.5, 60.0, 99.8])
    (100.0, 99.5)
    """
    ranked = sorted(best_of_rounds, reverse=True)
    return ranked[0], ranked[min(AGREEING_ROUNDS, len(ranked)) - 1]


def rounds_agree(best_of_rounds: Sequence[float], tolerance: float) -> bool:
    """Whether the three best rounds lie within ``tolerance`` (a fraction) of the best.

    Examples
    --------
    >>> rounds_agree([90.0, 100.0, 99.5, 99.8], 0.01), rounds_agree([100.0, 99.9], 0.01)
    (True, False)
    """
    if len(best_of_rounds) < AGREEING_ROUNDS:
        return False
    value, low = envelope(best_of_rounds)
    return low >= value * (1 - tolerance)


def median_interval(values: Sequence[float], confidence: float = 0.9) -> tuple[float, float, float, float]:
    """Median with a distribution-free interval from order statistics.

    The interval between the k-th smallest and k-th largest of n independent values holds the median with probability
    ``1 - 2 P(Binomial(n, 1/2) < k)``; the largest k that keeps ``confidence`` is taken (Conover, Practical
    Nonparametric Statistics, section 3.2). With too few values for the confidence asked, the range is returned with the
    confidence it has.

    Returns
    -------
    median, low, high, confidence reached

    Examples
    --------
    >>> median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])[:3]
    (4.5, 2.0, 7.0)
    """
    ranked = sorted(values)
    n = len(ranked)
    middle = float(np.median(ranked))
    k, reached = 1, 1 - 2 * 0.5**n
    while k < n // 2:
        tail = sum(math.comb(n, i) for i in range(k + 1)) * 0.5**n
        if 1 - 2 * tail < confidence:
            break
        k, reached = k + 1, 1 - 2 * tail
    return middle, ranked[k - 1], ranked[n - k], max(reached, 0.0)


def evenly_spaced(values: Sequence[int], keep: int) -> tuple[int, ...]:
    """At most ``keep`` of the values, evenly spaced, first and last included, in order.

    Examples
    --------
    >>> evenly_spaced(range(9), 3)
    (0, 4, 8)
    """
    if len(values) <= keep:
        return tuple(values)
    return tuple(values[round(i * (len(values) - 1) / (keep - 1))] for i in range(keep))


def segments(values: Sequence[float], penalty: float, shortest: int = 2) -> list[tuple[int, int]]:
    """Cut a series into stretches of constant mean: the optimal partition under a penalty per cut.

    Minimises the sum of squared deviations from each stretch's mean plus ``penalty`` for every stretch, by dynamic
    programming (Jackson et al., An algorithm for optimal partitioning of data on an interval, 2005).

    Parameters
    ----------
    values
        The series, in order.
    penalty
        What a further stretch must save, in squared units of the values.
    shortest
        The least number of points of a stretch.

    Returns
    -------
    Half-open index ranges that cover the series.

    Examples
    --------
    >>> segments([1.0, 1.1, 0.9, 5.0, 5.1, 5.0], penalty=0.5)
    [(0, 3), (3, 6)]
    """
    y: NDArray[np.float64] = np.asarray(values, dtype=float)
    n = len(y)
    if n < 2 * shortest:
        return [(0, n)] if n else []
    sums = np.concatenate(([0.0], np.cumsum(y)))
    squares = np.concatenate(([0.0], np.cumsum(y * y)))
    # Of the best partition of the first ``end`` points: its cost, and where its last stretch begins.
    best = [0.0] + [math.inf] * n
    cut = [0] * (n + 1)
    for end in range(shortest, n + 1):
        for start in range(end - shortest + 1):
            if math.isinf(best[start]):
                continue
            spread = squares[end] - squares[start] - (sums[end] - sums[start]) ** 2 / (end - start)
            cost = best[start] + float(spread) + penalty
            if cost < best[end]:
                best[end], cut[end] = cost, start
    return _stretches(cut)


def _stretches(cut: Sequence[int]) -> list[tuple[int, int]]:
    """The ranges of a partition, first to last, from where the stretch that ends at each point begins."""
    found = []
    end = len(cut) - 1
    while end > 0:
        found.append((cut[end], end))
        end = cut[end]
    return found[::-1]
