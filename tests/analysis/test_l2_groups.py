"""From where on lines of a second level are two groups, and sets beyond half of it a sign of copies."""

from __future__ import annotations

import pytest

from microbench.analysis.l2_partitions import halves, rises_beyond_half


def group(middle: float, count: int, step: float = 1.0) -> list[float]:
    """Latencies around a middle, so many steps apart."""
    return [middle + step * (i - (count - 1) / 2) for i in range(count)]


def why_not(*latencies: float) -> str:
    return halves(latencies).why_not or ""


def test_two_groups_of_four_are_the_least_that_tells() -> None:
    found = halves([*group(300, 4), *group(200, 4)])
    assert (found.near, found.far, found.why_not) == (tuple(group(200, 4)), tuple(group(300, 4)), None)
    assert why_not(*group(200, 4), *group(300, 3)) == "7 lines are too few to tell, 8 are needed"
    assert halves([3.0, 1.0, 2.0]).near == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(("lines", "far", "told"), [(20, 3, False), (20, 4, True), (8, 1, False), (8, 2, True)])
def test_a_group_has_a_fifth_of_the_lines_at_least_and_two(lines: int, far: int, told: bool) -> None:
    latencies = [*group(200, lines - far), *group(300, far)]
    assert halves(latencies).why_not == (None if told else f"only {far} of {lines} lines stand apart")
    mirrored = [*group(200, far), *group(300, lines - far)]
    assert (halves(mirrored).why_not is None) is told


@pytest.mark.parametrize(("far", "told"), [(218.0, False), (222.0, True)])
def test_the_far_group_takes_a_tenth_longer_at_least(far: float, told: bool) -> None:
    found = halves([*group(200, 8, 0.1), *group(far, 8, 0.1)])
    assert found.why_not == (
        None if told else f"the slower lines take {far / 200:.2f} times as long, less than 1.1 times"
    )


@pytest.mark.parametrize(("apart", "told"), [(5.8, False), (6.2, True)])
def test_the_groups_lie_six_of_their_widths_apart_at_least(apart: float, told: bool) -> None:
    # Four lines a step apart have a standard deviation of the square root of 5/3 steps.
    step = 100 / (apart * (5 / 3) ** 0.5)
    found = halves([*group(200, 4, step), *group(300, 4, step)])
    assert (found.why_not is None) is told
    assert told or f"two groups would lie {apart} of their widths apart, 6 are asked for" in str(found.why_not)


@pytest.mark.parametrize(("gap", "told"), [(44.0, False), (46.0, True)])
def test_the_gap_between_the_groups_is_half_as_wide_again_as_any_inside_them(gap: float, told: bool) -> None:
    near = [*group(200, 24, 0.01), 230.0]  # one line lies 30 apart from the others, less one hundredth of spread
    far = group(230.0 + gap * 0.99617, 25, 0.0)
    found = halves([*near, *far])
    assert (found.why_not is None) is told
    assert told or "is no wider than others" in str(found.why_not)


CAPACITY = 100
FLAT = {10: 200.0, 20: 201.0, 40: 202.0}


@pytest.mark.parametrize(
    ("size", "counts"), [(40, False), (55, False), (56, True), (89, True), (90, False), (100, False)]
)
def test_sets_between_half_and_nine_tenths_of_the_cache_can_show_copies(size: int, counts: bool) -> None:
    found = rises_beyond_half({10: 200.0, 20: 201.0, 30: 202.0, size: 300.0}, CAPACITY)
    assert found == ((201.0, 300.0) if counts else None)


def test_sets_up_to_two_fifths_of_the_cache_fit_one_half_for_certain() -> None:
    assert rises_beyond_half({40: 200.0, 41: 900.0, 60: 300.0}, CAPACITY) == (200.0, 300.0)
    assert rises_beyond_half({41: 200.0, 60: 300.0}, CAPACITY) is None


@pytest.mark.parametrize(("beyond", "told"), [(221.0, False), (221.5, True)])
def test_copies_show_where_the_slowest_set_takes_a_tenth_longer(beyond: float, told: bool) -> None:
    found = rises_beyond_half({**FLAT, 60: 202.0, 80: beyond, 85: 203.0}, CAPACITY)
    assert found == ((201.0, beyond) if told else None)
