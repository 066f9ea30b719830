"""Timing operators in rounds: each is visited once a round, in seeded order, and its time is the lower envelope.

Disturbance is one-sided and comes in episodes of seconds. An episode spoils one visit of many operators and not all
visits of one, so that the smallest of several rounds is the quiet time. On a processor every round also times each
operator among others (`streams`), because inside a model it is never called twice in a row.
"""

from __future__ import annotations

import contextlib
import gc
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import psutil

from microbench.errors import CannotRun
from microbench.predict import cold_cache
from microbench.records import Finding

if TYPE_CHECKING:
    from microbench.operators import Op

Floats = npt.NDArray[np.float64]
Call = Callable[[], object]
# Hears between two operators what comes next, the number of the round, the share that is done and the seconds left.
OnProgress = Callable[[str, int, float, float], None]

# A sample lasts at least so long, and a visit takes so many; the smallest stands for the visit.
SAMPLE_S = 0.4e-3
SAMPLES = 3
# A sample of a whole model lasts so long.
WHOLE_S = 5e-3
# Operators stay prepared between rounds while they fit into this share of free memory; the rest are prepared at each
# visit.
KEPT_SHARE = 0.25
# For the time left: the share of a round that operators alone take, and the share of a round from which on it is told.
_ALONE = 0.7
_TELLING = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to measure: no round begins after ``limit_s`` seconds, but ``least`` are done.

    Nothing at all begins after ``end_s`` seconds, whatever rounds are still to do, nor what is known to end later.
    ``seed`` orders each round; ``None`` keeps the given order.
    """

    limit_s: float
    least: int = 2
    seed: int | None = 0
    end_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """Seconds of each operator (row) in each round (column); NaN where it could not run or there was no time.

    ``interleaved`` has the same by the bytes that other operators touched between two calls, ``whole`` seconds of whole
    models by name. Of a GPU the seconds are the device's own, and ``clocks`` has the others by name: eager, graph,
    issue (what the host takes for a call) and cold (on the device after everything was driven out of its caches).
    """

    operators: tuple[Op, ...]
    seconds: Floats
    findings: tuple[Finding, ...] = ()
    interleaved: dict[float, Floats] = field(default_factory=dict)
    whole: dict[str, float] = field(default_factory=dict)
    clocks: dict[str, Floats] = field(default_factory=dict)

    @property
    def envelope(self) -> Floats:
        """The smallest time over rounds."""
        return lowest(self.seconds)

    @property
    def cold(self) -> Floats:
        """Time after many bytes of other operators: median over rounds, each in another order; NaN if never timed."""
        rounds = self.cold_rounds
        return middle(rounds) if rounds is not None else np.full(len(self.operators), np.nan)

    @property
    def cold_rounds(self) -> Floats | None:
        """Seconds after many bytes of other operators in each round; ``None`` if none was timed so."""
        return self.interleaved[cold_cache.COLD] if self.interleaved else self.clocks.get("cold")

    def halves(self, cold: bool = False) -> tuple[Floats, Floats]:
        """Times of the even and of the odd rounds: two measurements of the same rows."""
        rounds = self.cold_rounds
        seconds, over = (rounds, middle) if cold and rounds is not None else (self.seconds, lowest)
        return over(seconds[:, ::2]), over(seconds[:, 1::2])

    def take(self, first: int, last: int) -> Rounds:
        """Rows from ``first`` up to ``last``."""
        rows = slice(first, last)
        interleaved = {reuse: seconds[rows] for reuse, seconds in self.interleaved.items()}
        clocks = {name: seconds[rows] for name, seconds in self.clocks.items()}
        return replace(
            self, operators=self.operators[rows], seconds=self.seconds[rows], interleaved=interleaved, clocks=clocks
        )


def lowest(seconds: Floats) -> Floats:
    """Smallest of each row; NaN for a row without any."""
    least: Floats = np.where(np.isfinite(seconds), seconds, np.inf).min(axis=1, initial=np.inf)
    return least


def middle(seconds: Floats) -> Floats:
    """Median of each row; NaN for a row without any."""
    seen = np.isfinite(seconds)
    ordered = np.sort(np.where(seen, seconds, np.inf), axis=1)
    place = np.maximum(seen.sum(axis=1) - 1, 0) // 2
    found = ordered[np.arange(len(ordered)), place] if ordered.shape[1] else np.full(len(ordered), np.inf)
    return np.where(np.isfinite(found), found, np.nan)


class OutOfTimeError(Exception):
    """What comes next would end too late."""


@dataclass(slots=True)
class LimitedClock:
    """Times one call a number of times; refuses where that would end too late by what the call took the last time.

    The first time nothing is known of a call, so that a measurement ends late by one call at most.
    """

    clock: Callable[[Call, int], float]
    left_s: Callable[[], float]
    last_s: float = 0.0

    def __call__(self, call: Call, times: int) -> float:
        """Seconds of one call, from so many one after another."""
        if self.last_s * times > self.left_s():
            raise OutOfTimeError
        self.last_s = self.clock(call, times)
        return self.last_s


@dataclass(slots=True)
class _Visit:
    """What is known of an operator: calls that fill a sample (-1: it cannot run), and seconds of one."""

    op: Op
    times: int = 0
    call: Call | None = None
    seconds: float = math.inf


@dataclass(slots=True)
class ProgressReporter:
    """Estimates how far a measurement is, by its time limit, or by its least rounds where those take longer."""

    on_progress: OnProgress | None
    effort: Effort
    alone: float
    started: float = field(default_factory=lambda: time.monotonic())  # noqa: PLW0108 - tests turn the clock
    rounds: int = 0

    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.started

    def left_s(self) -> float:
        """Seconds to the end."""
        return self.effort.end_s - self.elapsed()

    def over(self) -> bool:
        """Whether the end has come."""
        return self.left_s() < 0

    def among(self, share: float) -> None:
        """Operators are timed among others: so much of that part of the round is done."""
        self._tell("operators among others", self.alone + (1 - self.alone) * share)

    def next(self, what: str, share: float) -> None:
        """An operator is timed alone: so much of that part of the round is done."""
        self._tell(what, self.alone * share)

    def _tell(self, what: str, share_of_round: float) -> None:
        if self.on_progress is None:
            return
        elapsed = self.elapsed()
        done = self.rounds + share_of_round
        # The first operators load the library, and tell nothing of the others.
        needed_s = elapsed * self.effort.least / done if done > _TELLING else 0.0
        whole_s = max(min(max(self.effort.limit_s, needed_s), self.effort.end_s), elapsed + 1e-9)
        self.on_progress(what, self.rounds + 1, elapsed / whole_s, whole_s - elapsed)


def measure(
    operators: Sequence[Op],
    place: str,
    effort: Effort,
    whole: Mapping[str, Call] | None = None,
    on_progress: OnProgress | None = None,
) -> Rounds:
    """Time operators until the time is up.

    Parameters
    ----------
    operators
        What to run; each is prepared, run once and then timed.
    place
        Torch's name of the device.
    effort
        How long.
    whole
        Whole models to be timed in the same rounds, by name.
    on_progress
        Hears how far it is.

    Raises
    ------
    CannotRun
        If torch is missing or none of the operators can run.
    """
    library = _library(place)
    state = [_Visit(op=operator) for operator in operators]
    findings: list[Finding] = []
    columns: list[Floats] = []
    interleaved: dict[float, list[Floats]] = {reuse: [] for reuse in (cold_cache.STREAMS if place == "cpu" else ())}
    models = dict.fromkeys(whole or {}, math.inf)
    order = list(range(len(state)))
    shuffler = random.Random(effort.seed or 0)  # noqa: S311 - an order, no secret
    reporter = ProgressReporter(on_progress=on_progress, effort=effort, alone=_ALONE if interleaved else 1.0)
    collecting = gc.isenabled()
    gc.disable()
    try:
        while not columns or (not reporter.over() and _again(len(columns), reporter)):
            if effort.seed is not None:
                shuffler.shuffle(order)
            columns.append(_round(state, order, library, findings, reporter))
            for name, call in (whole or {}).items():
                with contextlib.suppress(OutOfTimeError):
                    models[name] = min(models[name], _whole(call, LimitedClock(library.clock, reporter.left_s)))
            for part, (reuse, found) in enumerate(interleaved.items()):
                reporter.among(part / len(interleaved))
                found.append(_stream(state, order, library, reuse, reporter))
            reporter.rounds += 1
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    seconds = np.stack(columns, axis=1)
    if not np.isfinite(seconds).any():
        why = findings[0].says if findings else "there was no time for any" if operators else "none was asked for"
        raise CannotRun(f"no operator could run on {place}: {why}")
    return Rounds(
        operators=tuple(operators),
        seconds=seconds,
        findings=tuple(findings),
        interleaved={reuse: np.stack(found, axis=1) for reuse, found in interleaved.items()},
        whole={name: seconds for name, seconds in models.items() if math.isfinite(seconds)},
    )


def _again(rounds: int, reporter: ProgressReporter) -> bool:
    return rounds < reporter.effort.least or reporter.elapsed() < reporter.effort.limit_s


@dataclass(frozen=True, slots=True, kw_only=True)
class _Library:
    """How to make an operator's call, and how to time calls."""

    prepare: Callable[[Any], Call]
    clock: Callable[[Call, int], float]


def _library(place: str) -> _Library:
    from microbench.hardware.torch_import import import_torch
    from microbench.operators import torch_calls

    import_torch()

    return _Library(prepare=lambda operator: torch_calls.call_of(operator, place), clock=torch_calls.timer(place))


def _stream(
    state: Sequence[_Visit], order: Sequence[int], library: _Library, reuse: float, reporter: ProgressReporter
) -> Floats:
    """One round of a stream; operators that were not kept join the last stream only, prepared for it."""
    column = np.full(len(state), np.nan)
    last = reuse >= cold_cache.COLD
    able = [place for place in order if math.isfinite(state[place].seconds) and (last or state[place].call is not None)]
    sizes = [visit.op.work.bytes for visit in state]
    names = [visit.op.name for visit in state]
    for hand in cold_cache.interleaved_batches(names, able if last else able[: cold_cache.PROBES]):
        for group in cold_cache.groups(sizes, hand, reuse):
            if reporter.over():
                return column
            if cold_cache.TURNS * sum(state[place].seconds for place in group) > reporter.left_s():
                continue
            calls = [state[place].call or library.prepare(state[place].op) for place in group]
            column[group] = cold_cache.timed(calls, reporter.over)
    return column


def _whole(call: Call, clock: Callable[[Call, int], float]) -> float:
    """Seconds of a model in this round."""
    clock(call, 1)
    times = max(1, min(50, int(WHOLE_S / clock(call, 1))))
    return min(clock(call, times) for _ in range(SAMPLES))


def _round(
    state: Sequence[_Visit],
    order: Sequence[int],
    library: _Library,
    findings: list[Finding],
    reporter: ProgressReporter,
) -> Floats:
    column = np.full(len(state), np.nan)
    free = psutil.virtual_memory().available
    held = sum(visit.op.work.bytes for visit in state if visit.call is not None)
    for position, place in enumerate(order):
        visit = state[place]
        if visit.times < 0:
            continue
        if reporter.over():
            break
        reporter.next(str(visit.op), position / len(order))
        try:
            call = visit.call or library.prepare(visit.op)
        except CannotRun as error:
            visit.times = -1
            findings.append(Finding(code="operator-not-measured", severity="warning", says=str(error)))
            continue
        if visit.call is None and held + visit.op.work.bytes < KEPT_SHARE * free:
            visit.call, held = call, held + visit.op.work.bytes
        with contextlib.suppress(OutOfTimeError):
            column[place] = visit.seconds = _timed(visit, call, LimitedClock(library.clock, reporter.left_s))
    return column


def _timed(visit: _Visit, call: Call, clock: Callable[[Call, int], float]) -> float:
    """Seconds of an operator in one round: the smallest of a few samples, after a call that warms up."""
    clock(call, 1)
    if visit.times == 0:
        visit.times = _calibrate(call, clock)
    return min(clock(call, visit.times) for _ in range(SAMPLES))


def _calibrate(call: Call, clock: Callable[[Call, int], float]) -> int:
    """Calls that fill a sample, of a call that was made before."""
    clock(call, 1)
    once = min(clock(call, 1) for _ in range(3))
    return max(1, min(1000, int(SAMPLE_S / max(once, 1e-7)) + 1))
