"""Which rounds stay where a file would be too large."""

from __future__ import annotations

import pytest

from microbench.records import Samples
from microbench.storage.thinning import EXACT, STEPS, fewer_rounds


def rounds(*ns: int, case: str = "a", iterations: int = 1) -> list[Samples]:
    return [
        Samples(case=case, round=i, started_s=float(i), iterations=iterations, ns=(2 * each, each), count=2)
        for i, each in enumerate(ns)
    ]


def kept(samples: list[Samples], limit: int) -> list[tuple[str, int]]:
    return [(each.case, each.round) for each in fewer_rounds(samples, limit)]


@pytest.mark.parametrize("best", [0, 3, 9])
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 9, 10])
def test_at_most_so_many_rounds_stay_and_the_fastest_always(best: int, limit: int) -> None:
    found = kept(rounds(*(50 if i == best else 100 + i for i in range(10))), limit)
    assert ("a", best) in found
    assert 1 <= len(found) <= limit
    assert found == sorted(found)
    assert limit < 10 or len(found) == 10


def test_the_rounds_that_stay_are_spread_over_the_run() -> None:
    assert kept(rounds(1, *range(100, 109)), 4) == [("a", 0), ("a", 1), ("a", 4), ("a", 7)]


def test_each_case_keeps_its_own_rounds() -> None:
    mixed = [each for pair in zip(rounds(3, 1, 2), rounds(1, 2, 3, case="b"), strict=True) for each in pair]
    assert kept(mixed, 1) == [("b", 0), ("a", 1)]


def test_the_fastest_round_is_that_of_the_shortest_iteration() -> None:
    long, short = rounds(1000, iterations=100), rounds(50, iterations=1)
    assert [each.iterations for each in fewer_rounds([*short, *long], 1)] == [100]


def test_samples_become_fewer_before_rounds_do() -> None:
    assert STEPS[0] == (200, 10**6)
    assert all(later <= sooner for sooner, later in zip(STEPS, STEPS[1:], strict=False))
    assert (EXACT, 10**6) in STEPS
    assert STEPS[-1] == (1, 1)
