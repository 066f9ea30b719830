from __future__ import annotations

import pytest

from microbench.clock import clock_hz, rate_per_clock
from microbench.records import Samples, Sheet

COMPANION = Sheet(name="clock.v512", measures="clock", backend="native", device_kind="cpu", says="", cycles=3)


def burst(ns: tuple[int, ...], companion_ghz: tuple[float, ...]) -> Samples:
    companion_ns = tuple(round(3000 / ghz) for ghz in companion_ghz)
    return Samples(
        case="a", round=0, started_s=0.0, iterations=100, ns=ns, count=len(ns), companion_ns=companion_ns, companion_iterations=1000
    )


def test_the_clock_is_that_of_the_companions_beside_the_fastest_sample() -> None:
    # Turbo rises from 3.0 to 3.75 GHz between the third and the fourth sample; the fastest sample ran before.
    assert clock_hz(burst((990, 900, 990, 990, 990), (3.0, 3.0, 3.0, 3.75, 3.75)), COMPANION) == pytest.approx(3.0e9)


def test_a_disturbed_neighbour_does_not_lower_the_clock() -> None:
    assert clock_hz(burst((900, 990, 990), (1.5, 3.0, 3.0)), COMPANION) == pytest.approx(3.0e9)
    assert clock_hz(burst((990, 900, 990), (3.0, 1.5, 3.0)), COMPANION) == pytest.approx(3.0e9)


def test_readings_of_one_step_are_pooled() -> None:
    assert clock_hz(burst((900, 990, 990), (2.985, 3.0, 2.991)), COMPANION) == pytest.approx(3.0e9)


def test_cycles_stamped_by_the_device_come_first() -> None:
    stamped = Samples(case="a", round=0, started_s=0.0, iterations=100, ns=(2, 1), count=2, clock_hz=(1e9, 1.1e9))
    assert clock_hz(stamped, None) == 1.1e9


def test_without_a_companion_the_clock_is_unknown() -> None:
    assert clock_hz(burst((1, 2), (3.0, 3.0)), None) is None
    assert rate_per_clock(burst((1, 2), (3.0, 3.0)), None) is None


def test_rate_per_clock_is_what_turbo_leaves_alone() -> None:
    slow, fast = burst((1000,), (3.0,)), burst((800,), (3.75,))
    assert rate_per_clock(slow, COMPANION) == pytest.approx(rate_per_clock(fast, COMPANION))
