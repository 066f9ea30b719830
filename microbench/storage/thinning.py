"""Fewer timings in a file, and the same ceilings, costs and levels from them.

Analysis uses three things of a burst: its fastest timing, its medians, and the quiet window that shows what it reached
at what clock (see `microbench.hardware.clock`). So these are what stays; the others are kept evenly over the burst's
ranking, as many below the median as above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from microbench.records import Samples

SAMPLES_PER_ROUND = 200
# Four pairs give the clock and one timing is the fastest; all below the median, they need as many above it, and the two
# at the median.
EXACT = 12
# Where a file would be too large: first fewer samples a round, then fewer rounds a case.
STEPS = (
    *((count, 10**6) for count in (SAMPLES_PER_ROUND, 100, 50, 25, EXACT, 5, 1)),
    *((1, rounds) for rounds in (32, 16, 8, 4, 2, 1)),
)


def fewer_samples(samples: Samples, limit: int = SAMPLES_PER_ROUND) -> Samples:
    """Keep at most ``limit`` timings; ``count`` still says how many were taken.

    The fastest timing is always that of all timings. From a limit of five on, the clock that the reference clock loop
    gives is that of all, and from ``EXACT`` on the median is. Reference clocks stay only where they give the clock, and
    the timings that alternated with them come first; apart from that the order stays.

    Examples
    --------
    >>> fewer_samples(Samples(case="a", round=0, started_s=0.0, iterations=1, count=6, ns=(9, 4, 5, 6, 3, 7)), 4).ns
    (9, 5, 6, 3)
    """
    taken = len(samples.ns)
    if taken <= limit and len(samples.power_w) <= limit:
        return samples
    fastest = min(range(taken), key=samples.ns.__getitem__)
    pairs = _clock_pairs(samples)
    if len({fastest, *pairs}) > limit:
        pairs = []
    needed = {fastest, *pairs}
    kept = _representative(samples.ns, needed, limit) or sorted(needed)
    order = [*pairs, *(i for i in kept if i not in pairs)]
    return replace(
        samples,
        ns=tuple(samples.ns[i] for i in order),
        reference_ns=tuple(samples.reference_ns[i] for i in pairs),
        clock_hz=_clocks(samples, fastest, order.index(fastest), limit),
        power_w=tuple(samples.power_w[i] for i in _representative(samples.power_w, set(), limit)),
    )


def _clocks(samples: Samples, fastest: int, place: int, limit: int) -> tuple[float, ...]:
    """At most ``limit`` clocks with the median of all; that of the fastest timing stands where this timing stands."""
    if len(samples.clock_hz) != len(samples.ns):
        return samples.clock_hz[fastest:][:1] or samples.clock_hz[-1:]
    others = [i for i in _representative(samples.clock_hz, {fastest}, limit) if i != fastest]
    return tuple(samples.clock_hz[i] for i in (*others[:place], fastest, *others[place:]))


def _clock_pairs(samples: Samples) -> list[int]:
    """The pairs that give the same clock as all pairs do: in the quiet window, the two fastest of either loop.

    Where no window is quiet one pair stays: it gives no clock either, and shows that a reference clock loop ran.
    """
    from microbench.hardware.clock import quiet_window

    if not samples.reference_ns:
        return []
    window = quiet_window(samples)
    if window is None:
        return [0]
    return sorted(
        {i for column in (samples.ns, samples.reference_ns) for i in sorted(window, key=column.__getitem__)[:2]}
    )


def _representative(values: Sequence[float], needed: set[int], limit: int) -> list[int]:
    """Indices of at most ``limit`` values, ``needed`` among them, with the median of all; empty where none exist."""
    ranked = sorted(range(len(values)), key=values.__getitem__)
    half = (len(ranked) - 1) // 2
    middle = ranked[half : len(ranked) - half]
    sides = ranked[:half], ranked[len(ranked) - half :]
    room = min(half, (limit - len(middle)) // 2)
    if not ranked or room < max(len(needed.intersection(side)) for side in sides):
        return []
    return sorted({*middle, *(i for side in sides for i in _spread(side, needed, room))})


def _spread(side: Sequence[int], needed: set[int], count: int) -> list[int]:
    """Choose ``count`` values of one side of the median: those needed, and evenly spaced others."""
    must = [i for i in side if i in needed]
    others = [i for i in side if i not in needed]
    free = count - len(must)
    return [*must, *(others[(2 * i + 1) * len(others) // (2 * free)] for i in range(free))]


def fewer_rounds(samples: Sequence[Samples], limit: int) -> tuple[Samples, ...]:
    """Keep at most ``limit`` rounds of each case, evenly spaced, and always the round with the fastest timing."""
    by_case: dict[str, list[Samples]] = {}
    for each in samples:
        by_case.setdefault(each.case, []).append(each)
    kept: set[int] = set()
    for rounds in by_case.values():
        best = min(rounds, key=lambda each: min(each.ns) / each.iterations)
        others = [each for each in rounds if each is not best]
        step = max(1, -(-len(others) // max(1, limit - 1)))
        kept.update(id(each) for each in (best, *(others[::step] if limit > 1 else ())))
    return tuple(each for each in samples if id(each) in kept)
