from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microbench.stats.intervals import envelope, evenly_spaced, median_interval, rounds_agree, segments

positive = st.floats(min_value=1e-6, max_value=1e15)


def test_envelope_is_the_best_and_the_third_best_round() -> None:
    assert envelope([3.0, 1.0, 2.0, 5.0, 4.0]) == (5.0, 3.0)


def test_envelope_of_two_rounds_falls_back_to_the_worst() -> None:
    assert envelope([3.0, 1.0]) == (3.0, 1.0)


def test_two_rounds_never_agree() -> None:
    assert not rounds_agree([1.0, 1.0], 0.5)


def test_one_good_round_among_bad_ones_is_no_agreement() -> None:
    assert not rounds_agree([100.0, 90.0, 90.0, 90.0], 0.01)


@pytest.mark.parametrize(("n", "k"), [(5, 1), (8, 2), (11, 3), (14, 4), (20, 6)])
def test_median_interval_takes_the_tabulated_order_statistics(n: int, k: int) -> None:
    # Two-sided 90 % limits of the sign test; Conover, table A3.
    _, low, high, reached = median_interval([float(i) for i in range(1, n + 1)], 0.9)
    assert (low, high) == (k, n + 1 - k)
    assert reached >= 0.9


def test_too_few_values_say_the_confidence_they_have() -> None:
    assert median_interval([1.0, 2.0, 3.0], 0.9)[1:] == (1.0, 3.0, pytest.approx(0.75))


@given(st.lists(positive, min_size=1, max_size=60))
def test_median_lies_in_its_interval(values: list[float]) -> None:
    middle, low, high, reached = median_interval(values)
    assert low <= middle <= high
    assert 0 <= reached < 1


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=500), st.integers(2, 200))
def test_thinning_keeps_order_ends_and_the_limit(values: list[int], keep: int) -> None:
    kept = evenly_spaced(values, keep)
    assert len(kept) == min(len(values), keep)
    assert (kept[0], kept[-1]) == (values[0], values[-1])


def test_segments_find_a_step() -> None:
    assert segments([0.0] * 6 + [1.0] * 5, penalty=0.1) == [(0, 6), (6, 11)]


def test_segments_leave_a_flat_line_whole() -> None:
    assert segments([2.0, 2.01, 1.99, 2.0, 2.02], penalty=0.1) == [(0, 5)]


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=40), st.floats(0.001, 3))
def test_segments_cover_the_series_without_gaps(values: list[float], penalty: float) -> None:
    found = segments(values, penalty)
    assert found[0][0] == 0
    assert found[-1][1] == len(values)
    assert all(left[1] == right[0] for left, right in zip(found, found[1:], strict=False))
    assert all(end - start >= 2 for start, end in found)


def test_segments_match_exhaustive_search_on_three_levels() -> None:
    series = [0.0, 0.1, 0.0, 2.0, 2.1, 5.0, 5.1, 4.9]

    def cost(cuts: tuple[int, ...]) -> float:
        total = 0.0
        for start, end in zip((0, *cuts), (*cuts, len(series)), strict=True):
            part = series[start:end]
            mean = sum(part) / len(part)
            total += sum((x - mean) ** 2 for x in part) + 0.3
        return total

    best = min(((), *((i,) for i in range(2, 7)), *((i, j) for i in range(2, 6) for j in range(i + 2, 7))), key=cost)
    assert [start for start, _ in segments(series, 0.3)] == [0, *best]
    assert math.isclose(cost(best), cost((3, 5)))
