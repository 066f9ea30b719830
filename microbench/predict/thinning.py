"""A sweep of operators as far as it fits a time: what each row takes is estimated, and rows are left out evenly.

The order is written down here and in docs/numbers/time.md: first rows of the backward pass and of dtypes other than
f32, whose fits lean on the forward f32 ones, down to what a fit needs; then all alike. Within each operator the rows
that stay lie evenly over its times, the shortest and the longest among them, so that every family keeps its span. Where
even so few do not fit, the longest rows of all go.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from microbench.operators import Op
from microbench.predict import cold_cache
from microbench.predict.figures import DeviceFigures
from microbench.predict.fit_family import ROWS_FOR_INTERVAL
from microbench.predict.operator_timing import SAMPLE_S, SAMPLES

Floats = npt.NDArray[np.float64]

# An operator keeps so many rows at least, where it has them: an interval needs as many, and one is left to spare.
LEAST_ROWS = ROWS_FOR_INTERVAL + 1
# Where no ceiling is known: slower than any processor of today.
_SLOW_PEAK, _SLOW_BANDWIDTH = 1e9, 1e9
# What a call costs besides its work, and preparing one: once, and a byte.
_CALL_S, _PREPARE_S, _PREPARE_RATE = 5e-6, 5e-4, 1e9
# What a library does on a GPU at the first call of a shape.
_FIRST_S = 5e-3
# Calls that find out how many fill a sample, and one to warm up before the samples of each later round.
_FINDING, _WARMING = 5, 1


def row_seconds(operators: Sequence[Op], figures: DeviceFigures, rounds: int) -> Floats:
    """Seconds that measuring each operator in so many rounds takes, by the plain roofline of a device.

    A visit prepares the operator, finds how many calls fill a sample, takes the samples, and times it among others; on
    a GPU it takes samples by each clock.
    """
    if figures.kind == "cuda":
        return _row_seconds_on_gpu(operators, figures, rounds)
    found = np.empty(len(operators))
    for place, each in enumerate(operators):
        work = each.work
        once = _CALL_S + max(
            work.flop / (figures.peak.get(each.dtype) or _SLOW_PEAK),
            work.bytes / (figures.bandwidth or _SLOW_BANDWIDTH),
        )
        visit = SAMPLES * max(SAMPLE_S, once) + _WARMING * once + cold_cache.TURNS * once
        found[place] = _PREPARE_S + work.bytes / _PREPARE_RATE + _FINDING * once + rounds * visit
    return found


def _row_seconds_on_gpu(operators: Sequence[Op], figures: DeviceFigures, rounds: int) -> Floats:
    """What is hidden behind the host is timed by three clocks, each behind writes that last as long as its issuing."""
    found = np.empty(len(operators))
    for place, each in enumerate(operators):
        work = each.work
        once = max(
            work.flop / (figures.peak.get(each.dtype) or _SLOW_PEAK),
            work.bytes / (figures.bandwidth or _SLOW_BANDWIDTH),
        )
        clocks, samples = (3, SAMPLES) if once < SAMPLE_S else (1, 1)
        visit = clocks * samples * (2 * SAMPLE_S + _FINDING * once) + samples * (SAMPLE_S + once)
        found[place] = _FIRST_S + _FINDING * once + rounds * (_PREPARE_S + visit)
    return found


def thin(operators: Sequence[Op], seconds: Floats, limit_s: float) -> list[int]:
    """The places of the rows that are kept, in order, so that their seconds fit into the limit where that can be.

    Examples
    --------
    >>> from microbench.operators import op
    >>> rows, each = [op("add", size=2**k) for k in range(4, 24)], np.full(20, 1.0)
    >>> [len(thin(rows, each, limit_s)) for limit_s in (30.0, 12.0, 0.0)]
    [20, 12, 0]
    >>> [len(thin(rows, np.arange(20.0), limit_s)) for limit_s in (95.0, 45.0, 0.0)]
    [10, 10, 1]
    """
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for place, each in enumerate(operators):
        groups[_kind(each), each.dtype, each.direction].append(place)
    ranked = {key: sorted(places, key=lambda place: seconds[place]) for key, places in groups.items()}
    for first, others in (*((share, 1.0) for share in _SHARES), *((0.0, share) for share in _SHARES)):
        kept = _kept(ranked, first, others)
        if seconds[kept].sum() <= limit_s:
            return sorted(kept)
    ascending = np.sort(seconds)
    for longest in ascending[:: -max(1, len(ascending) // _STEPS)]:
        short = {key: [place for place in places if seconds[place] < longest] for key, places in ranked.items()}
        kept = _kept(short, 0.0, 0.0)
        if seconds[kept].sum() <= limit_s:
            break
    return sorted(kept)


def _kind(each: Op) -> str:
    """The operator, convolutions by whether channels are together, in groups or each for itself."""
    groups = each.params.get("groups", 1) if each.row.family == "convolution" else 1
    return f"{each.name}.{'depthwise' if groups == each.params['c_in'] else 'grouped'}" if groups > 1 else each.name


_STEPS = 20
_SHARES = tuple(1.0 - step / _STEPS for step in range(_STEPS + 1))


def _kept(ranked: Mapping[tuple[str, str, str], Sequence[int]], first: float, others: float) -> list[int]:
    """A share of the rows of each operator; of those whose fits lean on others' a smaller one."""
    return [
        place
        for key, places in ranked.items()
        for place in _evenly(places, others if key[1:] == ("f32", "forward") else min(first, others))
    ]


def _evenly(places: Sequence[int], share: float) -> list[int]:
    """A share of ordered places, but not fewer than the least: evenly spaced, both ends among them."""
    count = min(len(places), max(LEAST_ROWS, round(share * len(places))))
    return [places[round(step)] for step in np.linspace(0, len(places) - 1, count)]
