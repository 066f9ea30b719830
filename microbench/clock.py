"""The core clock while a sample ran, told by the companion samples beside it.

A companion loop's dependent chain takes a known number of cycles, so its time is the clock. Turbo moves the clock in steps of
some 100 MHz within seconds, as neighbours come and go; interference only ever makes a companion look slower. So the clock of a
sample is the highest among those companions of its burst that ran at the same step as the two beside it.
"""

from __future__ import annotations

from microbench.records import Samples, Sheet

# Steps of turbo are 2.5 % and more, readings of one step agree within a few tenths of a per cent.
_SAME_STEP = 0.01


def best_sample(samples: Samples) -> int:
    """Index of the fastest sample."""
    return min(range(len(samples.ns)), key=samples.ns.__getitem__)


def clock_hz(samples: Samples, companion: Sheet | None) -> float | None:
    """The clock during the fastest sample of a burst in hertz, ``None`` where nothing tells it.

    Examples
    --------
    >>> sheet = Sheet(name="clock.v128", measures="clock", backend="native", device_kind="cpu", says="", cycles=3)
    >>> facts = {"case": "a", "round": 0, "started_s": 0.0, "iterations": 1, "count": 2}
    >>> burst = Samples(ns=(9, 8), companion_ns=(1000, 2000), companion_iterations=1000, **facts)
    >>> clock_hz(burst, sheet)
    3000000000.0
    """
    best = best_sample(samples)
    if samples.clock_hz:
        return samples.clock_hz[min(best, len(samples.clock_hz) - 1)]
    if not samples.companion_ns or companion is None or not companion.cycles:
        return None
    cycles = companion.cycles * samples.companion_iterations * 1e9
    clocks = [cycles / ns for ns in samples.companion_ns]
    # The companion of sample i runs right after it, so the neighbours are the one before and its own.
    beside = max(clocks[best - 1 : best + 1] if 0 < best < len(clocks) else clocks[:2] if best == 0 else clocks)
    return max(clock for clock in clocks if clock <= beside * (1 + _SAME_STEP))


def rate_per_clock(samples: Samples, companion: Sheet | None) -> float | None:
    """Iterations per cycle in the fastest sample; a rate that turbo leaves alone."""
    clock = clock_hz(samples, companion)
    return samples.iterations * 1e9 / min(samples.ns) / clock if clock else None
