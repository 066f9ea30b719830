"""What a burst of a device that launches back to back becomes, and preparing before measuring: FAKE kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from fake_backend import fake_device
from virtual_machine import VirtualClock, virtual_time

from microbench.kernels import Kernel
from microbench.measure.bursts import State, burst
from microbench.measure.loop import Loop
from microbench.records import Budget, Case, Device, Mode, Plan, Samples, Sheet, Timing, Value, Work

SHEET = Sheet(
    name="fma.f32",
    measures="compute",
    backend="cuda",
    device_kind="cuda",
    says="",
    dtype="f32",
    unit="scalar",
    roles=("ceiling", "roof"),
    work=Work(flop=2),
)


class Salvo:
    """A FAKE kernel whose launches take 1 ms, 2 ms and so on; those named are throttled."""

    def __init__(self, throttled: Sequence[int] = ()) -> None:
        self.throttled = throttled
        self.asked: list[str] = []

    def run(self, iterations: int) -> Timing:
        self.asked.append("run")
        return Timing(ns=1_000_000, iterations=iterations, checked=True, power_w=300.0)

    def burst(self, iterations: int, count: int, limit_s: float) -> list[Timing]:
        self.asked.append("burst")
        return [
            Timing(ns=(index + 1) * 1_000_000, iterations=iterations, checked=True, throttled=index in self.throttled)
            for index in range(count)
        ]

    def close(self) -> None:
        """Nothing is held."""


def taken(salvo: Salvo, mode: Mode = "peak") -> Samples:
    state = State(case=Case(kernel=SHEET.name, mode=mode), sheet=SHEET, prepared=salvo, iterations=10)
    return burst(state, 5, 0, 0.0)


def test_samples_under_throttling_are_discarded_and_counted() -> None:
    samples = taken(Salvo(throttled=(0, 3)))
    assert sorted(samples.ns) == [2_000_000, 3_000_000, 5_000_000]
    assert (samples.count, samples.throttled, samples.stop) == (5, 2, "count")


def test_a_burst_that_was_throttled_from_end_to_end_is_kept_and_labelled() -> None:
    samples = taken(Salvo(throttled=range(5)))
    assert (len(samples.ns), samples.throttled) == (5, 5)


def test_what_lasts_keeps_throttled_samples_and_is_looked_at_launch_by_launch() -> None:
    salvo = Salvo()
    samples = taken(salvo, "sustained")
    assert salvo.asked == ["run"] * 5
    assert samples.power_w == (300.0,) * 5


class Slow:
    """A FAKE GPU whose kernels take seconds to prepare."""

    def __init__(self, clock: VirtualClock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds
        self.prepared: list[float] = []

    def kernel(self, name: str) -> Kernel:
        def prepare(
            device: Device, params: Mapping[str, Value], threads: int, cpus: Sequence[int] | None = None
        ) -> Salvo:
            self.prepared.append(self.clock.now)
            self.clock.take(self.seconds)
            return Salvo()

        return Kernel(sheet=replace(SHEET, name=name), prepare=prepare, check=lambda _: None)


class Nobody:
    """Hears nothing."""

    def sampled(self, samples: Samples) -> None:
        """Keep nothing."""

    def progressed(self, case: Case, round_index: int, best: float) -> None:
        """Show nothing."""


@pytest.mark.parametrize("seconds", [0.1, 3.0])
def test_preparing_is_bounded_by_itself_and_no_part_of_the_clock_of_measuring(seconds: float) -> None:
    clock = VirtualClock()
    slow = Slow(clock, seconds)
    names = [f"fma.f32.{number}" for number in range(20)]
    kernels = {name: slow.kernel(name) for name in names}
    cases = tuple(Case(kernel=name) for name in names)
    device = replace(fake_device(), kind="cuda")
    with virtual_time(clock):
        loop = Loop(device, kernels, Plan(cases=cases, budget=Budget(min_rounds=3)), Nobody())
        began = clock.now
        ready = loop.prepare(cases, 10.0, 60.0, 3)
        assert ready
        assert all(at - began <= 10.0 for at in slow.prepared)
        assert loop.prepared_s == pytest.approx(clock.now - began, abs=0.01)
        assert loop.started == pytest.approx(clock.now, abs=0.01)
        assert (len(ready) == len(cases)) == (20 * seconds < 10.0)
