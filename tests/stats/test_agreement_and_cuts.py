"""How closely rounds agree, how wide the interval of a median is, where a series is cut."""

from __future__ import annotations

import pytest

from microbench.stats.intervals import envelope, median_interval, rounds_agree, segments


@pytest.mark.parametrize(
    ("rounds", "agree"),
    [
        ([100.0, 99.1, 99.1], True),
        ([100.0, 99.1, 98.9], False),
        ([98.9, 99.1, 100.0, 99.2], True),
        ([100.0, 100.0], False),
    ],
)
def test_the_third_best_round_lies_within_the_tolerance_of_the_best(rounds: list[float], agree: bool) -> None:
    assert rounds_agree(rounds, 0.01) is agree


def test_of_one_round_the_envelope_is_that_round() -> None:
    assert envelope([7.0]) == (7.0, 7.0)


def test_an_interval_of_the_median_has_ninety_per_cent_unless_another_confidence_is_asked_for() -> None:
    values = [float(i) for i in range(1, 21)]
    assert median_interval(values) == median_interval(values, 0.9)
    assert median_interval(values)[1:3] == (6.0, 15.0)
    assert median_interval(values, 0.99)[1:3] == (4.0, 17.0)


@pytest.mark.parametrize(("n", "low", "high"), [(4, 2.0, 3.0), (5, 2.0, 4.0), (6, 3.0, 4.0), (9, 4.0, 6.0)])
def test_at_no_confidence_the_interval_is_what_lies_beside_the_median(n: int, low: float, high: float) -> None:
    assert median_interval([float(i) for i in range(1, n + 1)], 0.0)[1:3] == (low, high)


def test_of_one_value_the_interval_is_that_value_with_no_confidence() -> None:
    assert median_interval([3.0]) == (3.0, 3.0, 3.0, 0.0)


def test_a_stretch_has_as_many_points_as_are_asked_for_at_least() -> None:
    assert segments([0.0, 0.0, 9.0], 0.1) == [(0, 3)]
    assert segments([0.0, 0.0, 9.0, 9.0], 0.1) == [(0, 2), (2, 4)]
    assert segments([0.0, 9.0], 0.1, shortest=1) == [(0, 1), (1, 2)]
    assert segments([0.0] * 4 + [9.0] * 4, 0.1, shortest=5) == [(0, 8)]
    assert segments([1.0], 0.1) == [(0, 1)]
    assert segments([], 0.1) == []


@pytest.mark.parametrize(("penalty", "cut"), [(0.9, True), (1.1, False)])
def test_a_cut_must_save_its_penalty(penalty: float, cut: bool) -> None:
    # Two pairs whose means lie 1 apart: one stretch has squared deviations of 4 x 0.5^2 = 1.
    assert (len(segments([0.0, 0.0, 1.0, 1.0], penalty)) == 2) is cut
