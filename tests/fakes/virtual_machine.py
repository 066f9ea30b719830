"""A machine on a virtual clock, for tests only: kernels that take the time of a script, and nobody waits for it.

Its speed is a factor on everything that is work (first touch, passes, what an interpreter adds); samples last as long
as they are asked to, as on any machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from microbench.kernels import Kernel, Pairs, Prepared
from microbench.records import Device, Finding, Sheet, Timing, Value

ITERATION_S = 1e-7
_FILL_RATE, _PREPARE_S, _CALL_S, _CHECK_S = 1e9, 1e-4, 5e-5, 2e-2


@dataclass
class VirtualClock:
    """Seconds that pass only when something takes them."""

    now: float = 1000.0
    slow: float = 1.0
    slow_to_fill: float = 1.0  # memory that nobody has touched: pages that a busy system clears when it comes to it

    def __call__(self) -> float:
        self.now += 1e-6  # so that a loop that only looks at the clock ends
        return self.now

    def take(self, seconds: float) -> None:
        """Let work take its time on this machine."""
        self.now += seconds * self.slow


class VirtualRun:
    """One prepared kernel."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock

    def run(self, iterations: int) -> Timing:
        seconds = ITERATION_S * iterations * self.clock.slow
        self.clock.now += seconds
        self.clock.take(_CALL_S)
        return Timing(ns=max(1, round(seconds * 1e9)), iterations=iterations, checked=True)

    def pairs(
        self, iterations: int, reference_clock: Prepared | None, reference_iterations: int, count: int, limit_s: float
    ) -> Pairs:
        mine, others = [], []
        for _ in range(count):
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
            return VirtualRun(clock)

        def check(_device: Device) -> Finding | None:
            clock.take(_CHECK_S)
            return None

        return Kernel(sheet=sheet, prepare=prepare, check=check)

    return {name: kernel(sheet) for name, sheet in sheets.items()}


@contextmanager
def virtual_time(clock: VirtualClock) -> Iterator[None]:
    """Let everything that asks the monotonic clock ask this one."""
    with patch.object(time, "monotonic", clock):
        yield
