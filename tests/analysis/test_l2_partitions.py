from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microbench.analysis.l2_partitions import LEAST_LINES, halves, rises_beyond_half


def lines(near: float, far: float, count: int, spread: float, seed: int) -> list[float]:
    """Latencies of lines whose home is drawn by chance, with a spread (of the mean) for the slice and the crossbar."""
    drawn = random.Random(seed)
    return [drawn.choice((near, far)) * drawn.gauss(1, spread) for _ in range(count)]


@pytest.mark.parametrize("count", [24, 32, 64])
@pytest.mark.parametrize(("near", "far"), [(148e-9, 253e-9), (150e-9, 236e-9), (190e-9, 250e-9)])
def test_two_groups_of_lines_are_found_with_their_means(near: float, far: float, count: int) -> None:
    found = [halves(lines(near, far, count, 0.02, seed)) for seed in range(50)]
    assert sum(each.why_not is None for each in found) >= 48  # so few lines may all fall on one side
    for each in found:
        if each.why_not is None:
            assert sum(each.near) / len(each.near) == pytest.approx(near, rel=0.03)
            assert sum(each.far) / len(each.far) == pytest.approx(far, rel=0.03)


@pytest.mark.parametrize("shape", ["normal", "uniform", "one slow line", "skewed"])
@pytest.mark.parametrize("count", [24, 32, 64])
def test_one_group_of_lines_is_rarely_taken_for_two(shape: str, count: int) -> None:
    drawn = random.Random(count)
    shapes = {
        "normal": lambda: drawn.gauss(200, 20),
        "uniform": lambda: drawn.uniform(150, 250),
        "skewed": lambda: 200 + drawn.expovariate(1 / 20),
        "one slow line": lambda: drawn.gauss(200, 3),
    }
    split = 0
    for _ in range(1000):
        seen = [shapes[shape]() for _ in range(count)]
        if shape == "one slow line":
            seen[0] *= 2
        split += halves(seen).why_not is None
    assert split <= 10


def test_a_reason_is_given_in_words() -> None:
    assert "too few" in str(halves([1e-7] * (LEAST_LINES - 1)).why_not)
    assert "1 of 16 lines" in str(halves([1e-7 + i * 1e-12 for i in range(15)] + [3e-7]).why_not)
    assert "times as long" in str(halves([1e-7] * 8 + [1.05e-7] * 8).why_not)
    assert "without a gap" in str(halves([1e-7 + i * 5e-9 for i in range(16)]).why_not)


@given(st.lists(st.floats(1e-9, 1e-6), min_size=1, max_size=80), st.floats(0.1, 10))
def test_a_split_keeps_every_line_and_does_not_depend_on_the_clock(seen: list[float], factor: float) -> None:
    found, scaled = halves(seen), halves([value * factor for value in seen])
    assert sorted((*found.near, *found.far)) == sorted(seen)
    assert (found.why_not is None) == bool(found.far)
    assert not found.far or max(found.near) <= min(found.far)
    assert len(scaled.near) == pytest.approx(len(found.near), abs=len(seen) if found.why_not or scaled.why_not else 0)


def test_only_sets_between_half_and_all_of_the_cache_can_show_copies() -> None:
    capacity = 50 << 20
    flat = dict.fromkeys((4 << 20, 12 << 20, 19 << 20), 150e-9)
    assert rises_beyond_half(flat | {49 << 20: 400e-9, 60 << 20: 500e-9, 24 << 20: 300e-9}, capacity) is None
    assert rises_beyond_half(flat | {31 << 20: 160e-9, 37 << 20: 164e-9}, capacity) is None
    assert rises_beyond_half(flat | {31 << 20: 160e-9, 43 << 20: 185e-9}, capacity) == (150e-9, 185e-9)
    assert rises_beyond_half({31 << 20: 160e-9, 43 << 20: 185e-9}, capacity) is None
