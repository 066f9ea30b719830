"""Timing operators in rounds: every operator is visited once a round, in seeded order, and the lower envelope over rounds is its time.

Disturbance is one-sided and comes in episodes of seconds. An episode spoils one visit of many operators and not all visits of
one, so that the smallest of several rounds is the quiet time.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import psutil

from microbench.errors import CannotRun
from microbench.records import Finding

if TYPE_CHECKING:
    from microbench.operators import Op

Floats = npt.NDArray[np.float64]

# A sample lasts at least so long, and a visit takes so many; the smallest stands for the visit.
SAMPLE_S = 0.4e-3
SAMPLES = 3
# Operators stay prepared between rounds while they fit into this share of free memory; the rest are prepared at each visit.
KEPT_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """Seconds of each operator (row) in each round (column); NaN where it could not run."""

    operators: tuple[Op, ...]
    seconds: Floats
    findings: tuple[Finding, ...] = ()

    @property
    def envelope(self) -> Floats:
        """The smallest time over rounds."""
        return lowest(self.seconds)

    def halves(self) -> tuple[Floats, Floats]:
        """Envelopes of the even and of the odd rounds: two measurements of the same rows."""
        return lowest(self.seconds[:, ::2]), lowest(self.seconds[:, 1::2])


def lowest(seconds: Floats) -> Floats:
    """Smallest of each row; NaN for a row without any."""
    least: Floats = np.where(np.isfinite(seconds), seconds, np.inf).min(axis=1, initial=np.inf)
    return least


@dataclass(slots=True)
class _Visit:
    op: Op
    times: int = 0
    call: Callable[[], object] | None = None


def measure(operators: Sequence[Op], place: str, limit_s: float, seed: int = 0, least: int = 2) -> Rounds:
    """Time operators until the time is up.

    Parameters
    ----------
    operators
        What to run; each is prepared, run once and then timed.
    place
        Torch's name of the device.
    limit_s
        No round begins after so many seconds, but ``least`` rounds are done.
    seed
        Of the order inside a round.

    Raises
    ------
    CannotRun
        If torch is missing or none of the operators can run.
    """
    calls = _library(place)
    state = [_Visit(op=operator) for operator in operators]
    findings: list[Finding] = []
    columns: list[Floats] = []
    order = list(range(len(state)))
    shuffler = random.Random(seed)  # noqa: S311 - the order is no secret
    until = time.monotonic() + limit_s
    collecting = gc.isenabled()
    gc.disable()
    try:
        while len(columns) < least or time.monotonic() < until:
            shuffler.shuffle(order)
            columns.append(_round(state, order, calls, findings))
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    seconds = np.stack(columns, axis=1)
    if not np.isfinite(seconds).any():
        raise CannotRun(f"no operator could run on {place}: {findings[0].says if findings else 'none was asked for'}")
    return Rounds(operators=tuple(operators), seconds=seconds, findings=tuple(findings))


_Library = tuple[Callable[[Any], Callable[[], object]], Callable[[Callable[[], object], int], float]]


def _library(place: str) -> _Library:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise CannotRun("torch is not installed; pip install 'microbench-roofline[torch]'")
    from microbench.kernels import torch_operators

    return (lambda operator: torch_operators.call_of(operator, place)), torch_operators.timer(place)


def _round(state: Sequence[_Visit], order: Sequence[int], calls: _Library, findings: list[Finding]) -> Floats:
    prepare, clock = calls
    column = np.full(len(state), np.nan)
    free = psutil.virtual_memory().available
    held = sum(visit.op.work.bytes for visit in state if visit.call is not None)
    for place in order:
        visit = state[place]
        if visit.times < 0:
            continue
        try:
            call = visit.call or prepare(visit.op)
        except CannotRun as error:
            visit.times = -1
            findings.append(Finding(code="operator-not-measured", severity="warning", says=str(error)))
            continue
        if visit.call is None and held + visit.op.work.bytes < KEPT_SHARE * free:
            visit.call, held = call, held + visit.op.work.bytes
        if visit.times == 0:
            visit.times = _calibrate(call, clock)
        else:
            clock(call, 1)
        column[place] = min(clock(call, visit.times) for _ in range(SAMPLES))
    return column


def _calibrate(call: Callable[[], object], clock: Callable[[Callable[[], object], int], float]) -> int:
    """Calls that fill a sample."""
    clock(call, 2)
    once = min(clock(call, 1) for _ in range(3))
    return max(1, min(1000, int(SAMPLE_S / max(once, 1e-7)) + 1))
