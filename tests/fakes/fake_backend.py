"""A scripted backend, for tests only: kernels whose times are computed from a script instead of measured.

It counts its own FLOP and bytes from the script's rate, never from the sheet.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from microbench.kernels import Kernel, Pairs, Prepared
from microbench.records import Device, MemoryLevel, Sheet, Timing, Value, Work

KIB = 1024


def fake_device(**changes: object) -> Device:
    levels = (
        MemoryLevel(name="L1", capacity_bytes=32 * KIB),
        MemoryLevel(name="L2", capacity_bytes=1024 * KIB),
        MemoryLevel(name="L3", capacity_bytes=32 * 1024 * KIB),
        MemoryLevel(name="DRAM"),
    )
    facts: dict[str, object] = {
        "id": "fake",
        "kind": "cpu",
        "name": "Fake 1",
        "arch": "fake",
        "levels": levels,
        "units_by_kind": {"core": 2},
    }
    return Device(**{**facts, **changes})  # type: ignore[arg-type]


@dataclass
class FakeRun:
    """Seconds per iteration by call number; records how often it ran and whether it was closed."""

    seconds: Callable[[int], float]
    calls: int = 0
    closed: int = 0
    checked: bool | None = True
    iterations: list[int] = field(default_factory=list)

    def run(self, iterations: int) -> Timing:
        took = self.seconds(self.calls) * iterations
        self.calls += 1
        self.iterations.append(iterations)
        return Timing(ns=max(1, round(took * 1e9)), iterations=iterations, checked=self.checked)

    def pairs(
        self, iterations: int, reference_clock: Prepared | None, reference_iterations: int, count: int, limit_s: float
    ) -> Pairs:
        mine, others = [], []
        for _ in range(count if limit_s > 0 else 2):
            mine.append(self.run(iterations))
            others += [reference_clock.run(reference_iterations)] if reference_clock is not None else []
        return Pairs(
            ns=tuple(timing.ns for timing in mine),
            iterations=iterations,
            reference_ns=tuple(timing.ns for timing in others),
            reference_iterations=reference_iterations,
            checked=self.checked,
        )

    def close(self) -> None:
        self.closed += 1


def fake_kernel(
    name: str, seconds: Callable[[int], float] | None = None, runs: list[FakeRun] | None = None, **facts: object
) -> Kernel:
    """A kernel whose every prepared instance follows the script."""
    sheet_facts: dict[str, object] = {
        "measures": "compute",
        "backend": "native",
        "device_kind": "cpu",
        "says": "a fake",
        "dtype": "f32",
        "work": Work(flop=1000),
        "frequency_license": "128",
        **facts,
    }
    made = runs if runs is not None else []

    def prepare(
        device: Device, params: Mapping[str, Value], threads: int, cpus: Sequence[int] | None = None
    ) -> FakeRun:
        made.append(FakeRun(seconds or (lambda _call: 1e-6)))
        return made[-1]

    return Kernel(sheet=Sheet(name=name, **sheet_facts), prepare=prepare, check=lambda _device: None)  # type: ignore[arg-type]


def episodes(fast_s: float, slow_s: float, period: int) -> Callable[[int], float]:
    """Half of every period of calls is slow: interference in episodes."""
    pattern = itertools.cycle([fast_s] * (period // 2) + [slow_s] * (period - period // 2))
    return lambda _call: next(pattern)
