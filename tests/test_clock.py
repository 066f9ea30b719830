from __future__ import annotations

import pytest

from microbench.clock import Round, best, counting
from microbench.records import Samples, Sheet

COMPANION = Sheet(name="clock.v512", measures="clock", backend="native", device_kind="cpu", says="", cycles=3)


def burst(ns: tuple[int, ...], companion_ghz: tuple[float, ...]) -> Samples:
    companion_ns = tuple(round(3e6 / ghz) for ghz in companion_ghz)
    return Samples(
        case="a", round=0, started_s=0.0, iterations=100, ns=ns, count=len(ns), companion_ns=companion_ns, companion_iterations=10**6
    )


def test_a_sample_between_two_companions_that_agree_is_taken() -> None:
    found = best(burst((990, 990, 900, 990), (3.0, 3.0, 3.0, 3.0)), COMPANION)
    assert (found.ns, found.clock_hz) == (900, pytest.approx(3.0e9))


def test_a_faster_sample_during_a_turbo_step_is_not() -> None:
    # The clock rises between the companions of the second and the third sample: the third ran at neither.
    found = best(burst((990, 990, 850, 900), (3.0, 3.0, 3.3, 3.3)), COMPANION)
    assert (found.ns, found.clock_hz) == (900, pytest.approx(3.3e9))


def test_a_sample_beside_a_disturbed_companion_is_not() -> None:
    found = best(burst((990, 900, 990, 990), (3.0, 1.5, 3.0, 3.0)), COMPANION)
    assert (found.ns, found.clock_hz) == (990, pytest.approx(3.0e9))


def test_where_no_two_companions_agree_the_clock_is_unknown() -> None:
    found = best(burst((900, 990, 990), (3.0, 3.3, 3.0)), COMPANION)
    assert (found.ns, found.clock_hz) == (900, None)


def rounds(*shares: float | None) -> list[Round]:
    return [Round(rate=1.0, share=share) for share in shares]


def test_rounds_of_unknown_clock_count_only_where_there_is_no_other() -> None:
    assert counting(rounds(None, 1.0, None), 1, timed_clock=True) == [1]
    assert counting(rounds(None, None), 1, timed_clock=True) == [0, 1]
    assert counting(rounds(None, None), 1, timed_clock=False) == [0, 1]


def test_a_few_rounds_above_nominal_had_disturbed_companions() -> None:
    assert counting(rounds(1.04, 0.99, 1.0), 1, timed_clock=True) == [1, 2]


def test_most_rounds_above_nominal_are_kept_for_the_gate_to_see() -> None:
    assert counting(rounds(1.04, 1.05, 1.0), 1, timed_clock=True) == [0, 1, 2]


def test_cycles_stamped_by_the_device_come_first() -> None:
    stamped = Samples(case="a", round=0, started_s=0.0, iterations=100, ns=(2, 1), count=2, clock_hz=(1e9, 1.1e9))
    assert best(stamped, None).clock_hz == 1.1e9


def test_without_a_companion_the_clock_is_unknown_and_the_fastest_sample_is_taken() -> None:
    found = best(burst((2, 1), (3.0, 3.0)), None)
    assert (found.ns, found.clock_hz) == (1, None)
