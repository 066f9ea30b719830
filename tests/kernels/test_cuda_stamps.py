"""A kernel runs until clock and power stand still: scripted clocks, no GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from microbench.kernels.cuda_stamps import Seen, Settling


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

    def settle(self, settling: Settling) -> float:
        before = self.second
        settling.until_steady(self.launch, lambda: self.power(self.second))
        return self.second - before


def test_a_steady_card_needs_two_windows_that_agree() -> None:
    card = Card()
    assert card.settle(Settling(now=card.now)) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("falls", ["clock", "power"])
def test_a_card_that_still_moves_is_waited_for(falls: str) -> None:
    card = Card(clock=lambda at: 1.8e9 - 0.2e9 * min(at, 3)) if falls == "clock" else Card(power=lambda at: 400 + 100 * min(at, 3))
    # It moves for 3 s, and the first two windows that agree lie after that.
    assert 3.4 < card.settle(Settling(now=card.now)) < 4.6


def test_a_card_that_never_settles_is_waited_for_so_long_and_no_longer() -> None:
    card = Card(power=lambda at: 400 + 100 * (int(2 * at) % 2))
    assert card.settle(Settling(now=card.now)) == pytest.approx(6.0, abs=0.55)


def test_sensors_that_are_not_there_do_not_hold_the_run_up() -> None:
    card = Card(clock=lambda _: None, power=lambda _: None)
    assert card.settle(Settling(now=card.now)) == pytest.approx(1.0, abs=0.05)


def test_samples_that_follow_each_other_settle_once_and_a_pause_settles_again() -> None:
    card = Card()
    settling = Settling(now=card.now)
    card.settle(settling)
    assert card.settle(settling) == 0
    card.second += 0.3
    assert card.settle(settling) == pytest.approx(1.0, abs=0.05)
