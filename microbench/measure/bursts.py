"""The samples of one case in one round, and what the loop remembers of a case."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from microbench.hardware.clock import Round, lasts
from microbench.kernels import Bursting, Pairing, Prepared
from microbench.records import Case, Samples, Sheet, Timing
from microbench.stats.intervals import evenly_spaced

KEEP_SAMPLES = 200
# A sample that cannot be short (a large matrix product) must not hold up the round.
_BURST_LIMIT_S = 0.15
_LEAST_SAMPLES = 2


@dataclass(slots=True)
class State:
    """A case under measurement. The only mutable record: it dies with the loop."""

    case: Case
    sheet: Sheet
    prepared: Prepared
    reference_clock: Prepared | None = None
    reference_clock_sheet: Sheet | None = None
    iterations: int = 0
    reference_iterations: int = 0
    rounds: list[Round] = field(default_factory=list)
    ended_s: list[float] = field(default_factory=list)
    converged: bool = False
    lost: bool = False
    short_visits: int = 0


def burst(state: State, count: int, index: int, started_s: float) -> Samples:
    """Take the samples of one case in one round; the kernel is warm."""
    # Samples that last need no threads that stay awake between them.
    awake = isinstance(state.prepared, Pairing) and not lasts(state.case, state.sheet)
    together = isinstance(state.prepared, Bursting) and state.case.mode == "peak"
    take = _pairs if awake else _back_to_back if together else _one_by_one
    samples = replace(take(state, count), round=index, started_s=round(started_s, 4))
    return replace(samples, stop="count" if samples.count == count else "time")


def _pairs(state: State, count: int) -> Samples:
    """Threads that stay awake from sample to sample."""
    assert isinstance(state.prepared, Pairing)
    took = state.prepared.pairs(
        state.iterations, state.reference_clock, state.reference_iterations, count, _BURST_LIMIT_S
    )
    return Samples(
        case=state.case.key,
        round=0,
        started_s=0.0,
        iterations=took.iterations,
        ns=evenly_spaced(took.ns, KEEP_SAMPLES),
        count=len(took.ns),
        reference_ns=evenly_spaced(took.reference_ns, KEEP_SAMPLES),
        reference_iterations=took.reference_iterations,
        switches=took.switches,
        checked=took.checked,
        moved=took.moved,
        away_s=round(took.away_ns / 1e9, 4),
    )


def _back_to_back(state: State, count: int) -> Samples:
    """Launches with nothing between them."""
    assert isinstance(state.prepared, Bursting)
    return _samples(state, state.prepared.burst(state.iterations, count, _BURST_LIMIT_S))


def _one_by_one(state: State, count: int) -> Samples:
    """One launch a sample, with whatever the device itself tells of it."""
    taken: list[Timing] = []
    until = time.monotonic() + _BURST_LIMIT_S
    while len(taken) < count and (len(taken) < _LEAST_SAMPLES or time.monotonic() <= until):
        taken.append(state.prepared.run(state.iterations))
    return _samples(state, taken)


def _samples(state: State, taken: Sequence[Timing]) -> Samples:
    """Join launches. A peak's samples taken while the device throttled are discarded, but counted, if any others are.

    What lasts keeps them: power and heat are what it is about.
    """
    verdicts = [timing.checked for timing in taken if timing.checked is not None]
    undisturbed = [timing for timing in taken if not timing.throttled]
    kept = undisturbed if state.case.mode == "peak" and undisturbed else taken
    return Samples(
        case=state.case.key,
        round=0,
        started_s=0.0,
        # A kernel may round up to what it can do; every sample of a burst then does the same number.
        iterations=taken[-1].iterations,
        ns=evenly_spaced([timing.ns for timing in kept], KEEP_SAMPLES),
        count=len(taken),
        clock_hz=tuple(timing.clock_hz for timing in kept if timing.clock_hz is not None)[:KEEP_SAMPLES],
        power_w=tuple(timing.power_w for timing in kept if timing.power_w is not None)[:KEEP_SAMPLES],
        throttled=sum(timing.throttled for timing in taken),
        switches=sum(timing.switches for timing in taken),
        checked=all(verdicts) if verdicts else None,
        moved=max(timing.moved for timing in taken),
        away_s=round(sum(timing.away_ns for timing in taken) / 1e9, 4),
    )
