from __future__ import annotations

import time

import numpy as np
import pytest

from microbench.predict.cold_cache import (
    COLD,
    KINDS,
    LEAST,
    MOST,
    STREAMS,
    groups,
    halfway,
    interleaved_batches,
    share_paid,
    timed,
)


def test_every_row_is_in_the_last_stream_and_every_group_touches_enough() -> None:
    sizes = [int(size) for size in np.geomspace(100, 3e7, 97)]
    order = list(np.random.default_rng(2).permutation(97))
    made = groups(sizes, order, COLD)
    assert set().union(*made) == set(range(97))
    for group in made[:-1]:
        assert len(group) == MOST or (len(group) >= LEAST and sum(sizes[place] for place in group) >= COLD)


def test_a_short_stream_leaves_large_operators_out() -> None:
    made = groups([1000] * 30 + [10**6] * 30, list(range(60)), STREAMS[0])
    assert made == [] or max(max(group) for group in made) < 30


def test_a_stream_has_few_kinds_of_operators() -> None:
    names = [f"kind{place % 11}" for place in range(99)]
    order = list(np.random.default_rng(3).permutation(99))
    dealt = interleaved_batches(names, order)
    assert sorted(place for hand in dealt for place in hand) == list(range(99))
    assert [len({names[place] for place in hand}) for hand in dealt] == [KINDS, KINDS, 11 - 2 * KINDS]


@pytest.mark.timed
def test_a_call_is_timed_as_long_as_it_takes() -> None:
    # The quickest of several: other work may keep this thread from running.
    rounds = [timed([lambda: time.sleep(0.001), lambda: time.sleep(0.02)]) for _ in range(20)]
    short, long = (min(times) for times in zip(*rounds, strict=True))
    assert 0.001 <= short < 0.02 <= long


def test_the_share_paid_is_found_again_from_what_it_made() -> None:
    extra = {
        reuse: np.full(50, 2e-5)
        * share_paid(reuse, 3e6, 0.8)
        / share_paid(COLD, 3e6, 0.8)
        * np.random.default_rng(1).lognormal(0, 0.2, 50)
        for reuse in STREAMS
    }
    half, power = halfway(extra)
    for reuse in (1e5, 1e6, 1e7):
        assert share_paid(reuse, half, power) == pytest.approx(share_paid(reuse, 3e6, 0.8), abs=0.06)


def test_nothing_is_paid_between_two_calls_in_a_row() -> None:
    assert share_paid(0.0, 1e6, 0.7) == 0.0
