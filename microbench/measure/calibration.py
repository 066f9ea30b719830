"""How many samples a burst has, and how many iterations make one long enough for the clock."""

from __future__ import annotations

from collections.abc import Callable

from microbench.records import Timing

# Samples of what is timed in pairs with a reference clock: they are short.
CLOCKED_SAMPLES = 32
# A count that was found while nothing disturbed it makes samples of at least this share of their target.
_CALIBRATED = 0.75
# Doubling reaches the longest loops in 40 steps; a run time that jumps about could go on for ever.
_MOST_STEPS = 64


def calibrate(run: Callable[[int], Timing], sample_s: float) -> int:
    """The number of iterations that last at least ``sample_s``: by doubling, one proportional step, and a check.

    Each step is timed twice and the shorter one believed: a thread that was held up would pass for a long loop. Where
    both were, the count comes out too small, and its own time, again the shorter of two, shows it: then the search goes
    on from there.
    """
    iterations = 1
    for _ in range(_MOST_STEPS):
        took_s, done = _quicker(run, iterations)
        if done < iterations:
            return iterations  # it does no more at once
        if took_s >= sample_s / 4:
            count = max(1, -(-int(done * sample_s * 1e9) // max(1, round(took_s * 1e9))))
            if _quicker(run, count)[0] >= _CALIBRATED * sample_s:
                return count
            iterations = max(count, iterations)
        else:
            iterations = max(2 * iterations, min(16 * iterations, int(done * sample_s / 2 / max(took_s, 1e-9))))
    return iterations


def _quicker(run: Callable[[int], Timing], iterations: int) -> tuple[float, int]:
    """Seconds of the quicker of two runs, and the iterations that it did."""
    timing = min((run(iterations) for _ in range(2)), key=lambda each: each.ns)
    return timing.ns * 1e-9, timing.iterations
