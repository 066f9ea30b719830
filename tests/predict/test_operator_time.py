"""Operators within a time, on a library that is invented and a virtual clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from virtual_machine import VirtualClock, virtual_time

from microbench.operators import Op, op
from microbench.predict import operator_timing
from microbench.predict.fit_family import DeviceFigures
from microbench.predict.operator_timing import Effort, measure
from microbench.predict.shape_sampling import design
from microbench.predict.thinning import LEAST_ROWS, row_seconds, thin
from microbench.runs import calibrate

FIGURES = DeviceFigures(peak={"f32": 1e11}, bandwidth=2e10, kind="cpu", measured=True)
SWEEP = design(1, 0.5)[::12]


class FakeLibrary:
    """Calls that take the roofline's time on the virtual clock, times a factor that may change as the clock goes on."""

    def __init__(self, clock: VirtualClock, factor: Callable[[float], float]) -> None:
        self.now, self.factor, self.started = clock, factor, clock.now

    def seconds(self, each: Op) -> float:
        return 5e-6 + max(each.work.flop / FIGURES.peak["f32"], each.work.bytes / (FIGURES.bandwidth or 1.0))

    def prepare(self, each: Op) -> Callable[[], object]:
        self.now.take(5e-4)
        once = self.seconds(each)
        return lambda: self.now.take(once * self.factor(self.now.now - self.started))

    def clock(self, call: Callable[[], object], times: int) -> float:
        before = self.now.now
        for _ in range(min(times, 3)):
            call()
        each = (self.now.now - before) / min(times, 3)
        self.now.now += each * (times - min(times, 3))
        return each


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualClock]:
    made = VirtualClock()
    with virtual_time(made):
        yield made


def library(monkeypatch: pytest.MonkeyPatch, clock: VirtualClock, factor: Callable[[float], float]) -> None:
    made = FakeLibrary(clock, factor)
    monkeypatch.setattr(operator_timing, "_library", lambda _place: made)


def chosen(seconds: float) -> list[Op]:
    return calibrate._chosen(SWEEP, FIGURES, "cpu", seconds)


@pytest.mark.parametrize("slow", [1.0, 10.0, 200.0])
def test_rows_are_chosen_so_that_three_rounds_fit_whatever_the_rows_take(
    monkeypatch: pytest.MonkeyPatch, clock: VirtualClock, slow: float
) -> None:
    library(monkeypatch, clock, lambda _elapsed: slow)
    started = clock.now
    rows = chosen(12.0)
    left_s = 12.0 - (clock.now - started)
    rounds = measure(rows, "cpu", Effort(limit_s=0.0, least=3, end_s=left_s))
    assert clock.now - started <= 13.0
    if slow == 1.0:
        assert len(rows) == len(SWEEP)
    if slow <= 10.0:
        assert (np.isfinite(rounds.seconds).sum(axis=1) >= 3).all()
    assert {each.name for each in rows} == {each.name for each in SWEEP}


def test_rows_that_take_ten_times_the_estimate_end_at_the_limit_and_what_was_timed_is_kept(
    monkeypatch: pytest.MonkeyPatch, clock: VirtualClock
) -> None:
    started = clock.now
    library(monkeypatch, clock, lambda elapsed: 1.0 if elapsed < 1.0 else 10.0)  # others arrive after a second
    rounds = measure(SWEEP, "cpu", Effort(limit_s=3.0, least=3, end_s=4.0))
    assert clock.now - started <= 5.0
    timed = np.isfinite(rounds.seconds).sum(axis=1)
    assert timed.sum() > 0
    assert timed.min() < 3
    assert rounds.interleaved[operator_timing.cold_cache.COLD].shape == rounds.seconds.shape
    kept = calibrate.timings(rounds)
    assert {row.cache for row in kept} <= {"hot", "cold"}
    assert all(np.isfinite(row.seconds) for row in kept)


def test_thinning_keeps_every_operator_and_its_span() -> None:
    seconds = row_seconds(SWEEP, FIGURES, 3)
    kept = thin(SWEEP, seconds, 0.3 * float(seconds.sum()))
    assert len(kept) < len(SWEEP)
    for name in {each.name for each in SWEEP}:
        before = [float(seconds[place]) for place, each in enumerate(SWEEP) if each.name == name]
        after = [float(seconds[place]) for place in kept if SWEEP[place].name == name]
        assert (min(after), max(after)) == (min(before), max(before))
        assert len(after) >= min(LEAST_ROWS, len(before))


def test_backward_rows_and_other_dtypes_are_thinned_before_forward_f32_rows() -> None:
    forward = [op("add", size=1000 * step) for step in range(1, 41)]
    others = [op("add", size=1000 * step, dtype="bf16") for step in range(1, 41)]
    others += [op("add", size=1000 * step, direction="backward") for step in range(1, 41)]
    rows = forward + others
    seconds = np.ones(len(rows))
    kept = thin(rows, seconds, 60.0)
    assert [place for place in kept if place < 40] == list(range(40))
    assert len(kept) <= 60
    few = thin(rows, seconds, 45.0)
    assert len([place for place in few if place >= 40]) == 2 * LEAST_ROWS
    assert len([place for place in few if place < 40]) <= 25
