"""A machine on a virtual clock, for tests only: kernels and operators that take the time of a script, and nobody waits.

Its slowness is a factor on everything that is work (first touch, passes, what an interpreter adds); samples last as
long as they are asked to, as on any machine. What a scheduler or a host gives to others is a share of each moment: wall
time passes meanwhile and processor time does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from microbench.kernels import Kernel, Pairs, Prepared
from microbench.measure import budget
from microbench.operators import Op
from microbench.predict import operator_timing
from microbench.records import Device, Finding, Sheet, Timing, Value

ITERATION_S, YARDSTICK_S = 1e-7, 0.04
_FILL_RATE, _PREPARE_S, _CALL_S, _CHECK_S = 1e9, 1e-4, 5e-5, 2e-2
_LOOK_S = 1e-6
_STEP_S = 5e-4


@dataclass
class VirtualClock:
    """Seconds that pass only when something takes them.

    ``given`` is the share of a processor that this process has at a moment, counted from the first; threads that must
    all run at once take ``together`` times as long.
    """

    now: float = 1000.0
    slow: float = 1.0
    slow_to_fill: float = 1.0  # memory that nobody has touched: pages that a busy system clears when it comes to it
    given: Callable[[float], float] | None = None
    together: float = 1.0
    processor_s: float = 0.0

    def __post_init__(self) -> None:
        self.first = self.now

    def __call__(self) -> float:
        """The monotonic clock; looking takes a moment, so that a loop that only looks at it ends."""
        self.spend(_LOOK_S)
        return self.now

    def processor(self) -> float:
        """The clock of processor time."""
        self.spend(_LOOK_S)
        return self.processor_s

    def nanoseconds(self) -> int:
        """The clock that operators are timed with."""
        return round(self() * 1e9)

    def spend(self, seconds: float) -> None:
        """Let so many processor seconds pass, and as many others as it takes to get them."""
        self.processor_s += seconds
        while self.given is not None and seconds > 0:
            share = self.given(self.now - self.first)
            step = min(_STEP_S, seconds / share if share else _STEP_S)
            self.now += step
            seconds -= step * share
        self.now += max(0.0, seconds)

    def take(self, seconds: float) -> None:
        """Let work take its time on this machine."""
        self.spend(seconds * self.slow)


def busy_at_first(seconds: float, slow: float) -> Callable[[float], float]:
    """A machine that is so many times slower in its first seconds and then free."""
    return lambda now: 1 / slow if now < seconds else 1.0


def stolen(of: int = 5, slice_s: float = 0.01, first_s: float = 0.0) -> Callable[[float], float]:
    """A host that gives one time slice of so many, and all others to somebody else; ``first_s`` of them have passed."""
    return lambda now: 1.0 if int((now + first_s) / slice_s) % of == 0 else 0.0


class VirtualRun:
    """One prepared kernel."""

    def __init__(self, clock: VirtualClock, threads: int = 1) -> None:
        self.clock = clock
        self.together = clock.together if threads > 1 else 1.0

    def run(self, iterations: int) -> Timing:
        began = self.clock.now
        self.clock.take(self.together * ITERATION_S * iterations)
        took = self.clock.now - began
        self.clock.take(_CALL_S)
        return Timing(ns=max(1, round(took * 1e9)), iterations=iterations, checked=True)

    def pairs(
        self, iterations: int, reference_clock: Prepared | None, reference_iterations: int, count: int, limit_s: float
    ) -> Pairs:
        mine, others = [], []
        until = self.clock.now + limit_s
        for number in range(count):
            if number >= 2 and self.clock.now > until:
                break
            mine.append(self.run(iterations).ns)
            others += [reference_clock.run(reference_iterations).ns] if reference_clock is not None else []
        return Pairs(
            ns=tuple(mine),
            iterations=iterations,
            reference_ns=tuple(others),
            reference_iterations=reference_iterations,
            checked=True,
        )

    def close(self) -> None:
        """Nothing is held."""


def virtual_kernels(clock: VirtualClock, sheets: Mapping[str, Sheet]) -> dict[str, Kernel]:
    """Kernels with these sheets on that clock."""

    def kernel(sheet: Sheet) -> Kernel:
        def prepare(
            device: Device, params: Mapping[str, Value], threads: int, cpus: Sequence[int] | None = None
        ) -> VirtualRun:
            clock.take(_PREPARE_S + clock.slow_to_fill * int(params.get("working_set", 0)) / _FILL_RATE)
            return VirtualRun(clock, threads)

        def check(_device: Device) -> Finding | None:
            clock.take(_CHECK_S)
            return None

        return Kernel(sheet=sheet, prepare=prepare, check=check)

    return {name: kernel(sheet) for name, sheet in sheets.items()}


@dataclass
class VirtualCall:
    """A prepared operator: seconds of a call, and what the first one takes besides."""

    clock: VirtualClock
    seconds: float
    first_s: float = 0.0

    def __call__(self) -> None:
        """Call it once."""
        self.times(1)

    def times(self, count: int) -> None:
        """Call it so often, in one step of the clock."""
        first_s, self.first_s = self.first_s, 0.0
        self.clock.take(first_s + count * self.seconds)


@dataclass(frozen=True)
class VirtualOperators:
    """A library of operators: what a call takes, what the first call of a prepared one takes besides, and preparing."""

    clock: VirtualClock
    seconds: Callable[[Op], float]
    first_s: float = 0.0
    prepare_s: float = 5e-4

    def prepare(self, operator: Op) -> VirtualCall:
        """Make the call of an operator."""
        self.clock.take(self.prepare_s)
        return VirtualCall(self.clock, self.seconds(operator), self.first_s)

    def timer(self, call: object, times: int) -> float:
        """Seconds of one call, from so many."""
        assert isinstance(call, VirtualCall)
        began = self.clock.now
        call.times(times)
        return (self.clock.now - began) / times

    def library(self, _place: str) -> operator_timing._Library:
        """What stands in the place of PyTorch."""
        return operator_timing._Library(prepare=self.prepare, clock=self.timer)


@contextmanager
def virtual_time(clock: VirtualClock) -> Iterator[None]:
    """Let everything that asks a clock ask this one."""
    with (
        patch.object(time, "monotonic", clock),
        patch.object(time, "perf_counter_ns", clock.nanoseconds),
        patch.object(time, "thread_time", clock.processor),
        patch.object(time, "process_time", clock.processor),
        patch.object(budget, "yardstick", lambda: clock.take(YARDSTICK_S)),
    ):
        yield
