"""How long a quiet window is, how closely its samples agree, and which rounds are faster than can be."""

from __future__ import annotations

import pytest

from microbench.hardware.clock import Round, best, quiet_window, select_rounds
from microbench.records import Samples, Sheet

CLOCK = Sheet(name="clock.v512", measures="clock", backend="native", device_kind="cpu", says="", cycles=3)


def burst(ns: list[int], reference_ns: list[int]) -> Samples:
    return Samples(
        case="a",
        round=0,
        started_s=0.0,
        iterations=100,
        ns=tuple(ns),
        count=len(ns),
        reference_ns=tuple(reference_ns),
        reference_iterations=1000,
    )


@pytest.mark.parametrize(("second", "quiet"), [(10_000, True), (10_025, True), (10_050, False), (10_200, False)])
def test_two_readings_agree_within_three_in_a_thousand(second: int, quiet: bool) -> None:
    samples, clocks = burst([10_000, second], [10_000, 10_000]), burst([10_000, 10_000], [10_000, second])
    assert (quiet_window(samples) is not None) is quiet
    assert (quiet_window(clocks) is not None) is quiet


@pytest.mark.parametrize(("apart", "believed"), [(15, True), (16, False), (30, False)])
def test_a_window_is_sixteen_pairs_so_fast_samples_farther_apart_do_not_confirm_each_other(
    apart: int, believed: bool
) -> None:
    ns = [10_000] * 64
    ns[20] = ns[20 + apart] = 9_000
    found = best(burst(ns, [1_000] * 64), CLOCK)
    assert found.ns == (9_000 if believed else 10_000)
    assert found.clock_hz == pytest.approx(3e9)


def test_one_pair_alone_tells_no_clock() -> None:
    assert quiet_window(burst([9_000], [1_000])) is None
    assert quiet_window(burst([9_000, 9_000], [1_000])) is None


@pytest.mark.parametrize(
    ("threads", "share", "counts"), [(1, 1.004, True), (1, 1.007, False), (2, 1.007, True), (2, 1.02, False)]
)
def test_several_threads_may_exceed_nominal_by_one_per_cent_and_one_thread_by_half(
    threads: int, share: float, counts: bool
) -> None:
    rounds = [Round(rate=1.0, share=each) for each in (share, 0.99, 0.98)]
    assert select_rounds(rounds, threads, timed_clock=True) == ([0, 1, 2] if counts else [1, 2])
