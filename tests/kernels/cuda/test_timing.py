"""A kernel runs until clock and power stand still: scripted clocks, no GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from microbench.hardware import nvml
from microbench.kernels.cuda.timing import Seen, SteadyStateWarmup


@dataclass
class Card:
    """A FAKE card whose clock and power are functions of the seconds since the start; a launch takes 10 ms."""

    clock: Callable[[float], float | None] = lambda _: 1.8e9
    power: Callable[[float], float | None] = lambda _: 650.0
    second: float = 0.0

    def now(self) -> float:
        return self.second

    def launch(self) -> Seen:
        self.second += 0.01
        return Seen(ns=10_000_000, clock_hz=self.clock(self.second), step_ns=32)

    def settle(self, warming_up: SteadyStateWarmup) -> float:
        before = self.second
        warming_up.until_steady(self.launch, lambda: self.power(self.second), lambda: None)
        return self.second - before


def test_a_steady_card_needs_two_windows_that_agree() -> None:
    card = Card()
    assert card.settle(SteadyStateWarmup(now=card.now)) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("falls", ["clock", "power"])
def test_a_card_that_still_moves_is_waited_for(falls: str) -> None:
    card = (
        Card(clock=lambda at: 1.8e9 - 0.2e9 * min(at, 3))
        if falls == "clock"
        else Card(power=lambda at: 400 + 100 * min(at, 3))
    )
    # It moves for 3 s, and the first two windows that agree lie after that.
    assert 3.4 < card.settle(SteadyStateWarmup(now=card.now)) < 4.6


def test_a_card_that_never_settles_is_waited_for_so_long_and_no_longer() -> None:
    card = Card(power=lambda at: 400 + 100 * (int(2 * at) % 2))
    assert card.settle(SteadyStateWarmup(now=card.now)) == pytest.approx(6.0, abs=0.55)


def test_sensors_that_are_not_there_do_not_hold_the_run_up() -> None:
    card = Card(clock=lambda _: None, power=lambda _: None)
    assert card.settle(SteadyStateWarmup(now=card.now)) == pytest.approx(1.0, abs=0.05)


def test_samples_that_follow_each_other_settle_once_and_a_pause_settles_again() -> None:
    card = Card()
    warming_up = SteadyStateWarmup(now=card.now)
    card.settle(warming_up)
    assert card.settle(warming_up) == 0
    card.second += 0.3
    assert card.settle(warming_up) == pytest.approx(1.0, abs=0.05)


class Counter:
    """A FAKE energy counter beside the card: joules since the start, of whatever ran."""

    NVMLError = RuntimeError

    def __init__(self, card: Card) -> None:
        self.card = card

    def nvmlDeviceGetTotalEnergyConsumption(self, _: object) -> int:  # noqa: N802 - the library's own name
        # 700 W went into other kernels for ten seconds; this one takes 300 W.
        return round(1000 * (700 * min(self.card.second, 10) + 300 * max(0.0, self.card.second - 10)))


def test_the_power_of_a_settled_kernel_is_its_own_and_not_that_of_kernels_before_it() -> None:
    card = Card()
    sensors = nvml.Sensors(b"0" * 16, card.now)
    sensors._found = (Counter(card), None)
    for _ in range(1000):  # looked at while the others ran
        card.launch()
        sensors.read()
    SteadyStateWarmup(now=card.now).until_steady(card.launch, lambda: sensors.read().power_w, sensors.restart)
    assert sensors.read().power_w == pytest.approx(300, rel=0.01)
