"""How long a launch took by its stamps, and until when a kernel runs for clock and power to stand still; no GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from microbench.hardware import nvml
from microbench.kernels.cuda import timing
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


def stamped(*blocks: tuple[float, float, int], step: int = 32) -> np.ndarray:
    """Stamps of blocks that begin and end so many ns after a second, on a multiprocessor of 1 GHz."""
    rows = []
    for begin, end, sm in blocks:
        first, last = (10**9 + int(at) // step * step for at in (begin, end))
        rows.append([first, 1000, last, 1000 + last - first, sm, 1])
    return np.asarray(rows, dtype=np.uint64)


EQUAL = tuple((32.0 * block, 1e6 - 64 * block, block) for block in range(4))


def test_the_time_of_a_launch_is_the_span_of_its_loops_and_one_step() -> None:
    assert timing.read(stamped(*EQUAL), 1.3e6, None).ns == 1_000_000 + 32


def test_events_count_where_the_timer_is_unknown_or_coarse_and_where_they_are_shorter() -> None:
    assert timing.read(stamped(EQUAL[0]), 1.3e6, None).ns == 1_300_000
    assert timing.read(stamped(*EQUAL), 1_000_010, None).ns == 1_000_010
    coarse = stamped(*((begin + 20_000 * at, end, at) for at, (begin, end, _) in enumerate(EQUAL)), step=20_000)
    assert timing.read(coarse, 1.3e6, None).ns == 1_300_000


def test_a_span_longer_than_the_events_is_the_time() -> None:
    assert timing.read(stamped(*EQUAL), 0.4e6, 32).ns == 1_000_000


def waves(rates: tuple[float, ...], count: int) -> np.ndarray:
    """Blocks of equal work, two at a time on each multiprocessor, handed out as room becomes free."""
    free = [(0.0, sm) for sm in range(len(rates)) for _ in range(2)]
    blocks = []
    for _ in range(count):
        begin, sm = min(free)
        free.remove((begin, sm))
        blocks.append((begin, begin + 1e5 / rates[sm], sm))
        free.append((blocks[-1][1], sm))
    return stamped(*blocks)


@pytest.mark.parametrize("count", [64, 67, 120])
def test_the_rate_of_a_launch_in_waves_is_that_of_all_multiprocessors_together(count: int) -> None:
    rates = (1.0, 1.0, 1.0, 16 / 18, 16 / 18, 1.0, 0.5, 1.0)
    ns = timing.read(waves(rates, count), 1e9, 32, waves=True).ns
    assert count / ns == pytest.approx(2 * sum(rates) / 1e5, rel=0.002)


def test_one_block_a_place_tells_each_multiprocessors_own_rate() -> None:
    rates = (1.0, 1.0, 16 / 18, 1.0)
    stamps = waves(rates, 8)
    assert 8 / timing.read(stamps, 1e9, 32).ns == pytest.approx(2 * 4 * 16 / 18 / 1e5, rel=0.002)
    assert 8 / timing.read(stamps, 1e9, 32, waves=True).ns == pytest.approx(2 * sum(rates) / 1e5, rel=0.002)


def test_multiprocessors_that_were_busy_at_other_times_tell_no_common_rate() -> None:
    apart = stamped((0, 4e5, 0), (32, 4e5, 1), (6e5, 1e6, 2))
    assert timing.read(apart, 2e6, 32, waves=True).ns == 1_000_000 - 1_000_000 % 32 + 32
