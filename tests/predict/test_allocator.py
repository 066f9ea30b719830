"""What a pass of a model fetches anew, by a simulated heap."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from microbench.predict.allocator import fetched_bytes

MIB = 1 << 20
# What glibc maps at the least in the end, and keeps at the most.
LIMITS = (32 * MIB, 64 * MIB)


def test_an_allocator_that_keeps_everything_fetches_nothing() -> None:
    assert fetched_bytes([100 * MIB, 200 * MIB, -1, -2]) == 0


def test_a_block_that_is_always_mapped_is_fetched_at_every_pass() -> None:
    assert 40 * MIB <= fetched_bytes([40 * MIB, -1], *LIMITS) < 41 * MIB


def test_a_block_below_the_limit_is_mapped_once_and_kept_from_then_on() -> None:
    assert fetched_bytes([20 * MIB, -1], *LIMITS) == 0


def test_many_small_blocks_are_given_back_together_and_fetched_again() -> None:
    forward = [4 * MIB] * 32
    backward = [-place for place in range(32, 0, -1)]
    assert fetched_bytes([*forward, *backward], *LIMITS) >= 128 * MIB - LIMITS[1]


def test_few_small_blocks_stay() -> None:
    assert fetched_bytes([4 * MIB, 4 * MIB, -1, -2], *LIMITS) == 0


def test_a_large_block_goes_where_the_heap_has_room_for_it() -> None:
    learnt = [30 * MIB, -1]
    held = [*([16 * MIB] * 3), -2, -3, -4]
    assert fetched_bytes([*learnt, *held, 40 * MIB, -5], *LIMITS) == 0
    assert fetched_bytes([*learnt, 40 * MIB, -2], *LIMITS) >= 40 * MIB


@given(
    st.lists(st.tuples(st.integers(1, 64 * MIB), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([LIMITS, (1 * MIB, 2 * MIB), (math.inf, math.inf)]),
)
def test_no_pass_fetches_more_than_it_makes(made: list[tuple[int, bool]], limits: tuple[float, float]) -> None:
    events: list[int] = []
    for place, (size, dropped) in enumerate(made, start=1):
        events += [size, -place] if dropped else [size]
    fetched = fetched_bytes(events, *limits)
    assert 0 <= fetched <= sum(size + 4096 for size, _ in made)


def test_what_an_optimiser_keeps_holds_the_end_of_the_heap_where_it_is() -> None:
    made = [MIB] * 128
    assert fetched_bytes(made, *LIMITS, once=[1024]) < 8 * MIB
    assert fetched_bytes(made, *LIMITS) > 100 * MIB
