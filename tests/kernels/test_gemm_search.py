from __future__ import annotations

import math

from microbench.kernels.gemm_search import Shape, search


def test_the_search_finds_the_best_shape_of_a_smooth_landscape() -> None:
    asked = []

    def rate(shape: Shape) -> tuple[float, float]:
        asked.append(shape)
        distance = sum(abs(math.log2(size / best)) for size, best in zip(shape, (2048, 1024, 1024), strict=True))
        return 1e12 * 0.8**distance, 0.01

    assert search(rate, budget_s=3.0, largest=4096) == (2048, 1024, 1024)
    assert asked[0] == asked[1]  # a library may start in it
    assert len(asked) - 1 == len(set(asked)) < 25


def test_a_slow_first_call_ends_no_search() -> None:
    """A product's own time bounds the search, and not what a library takes to start or to load code for a shape."""
    best = (8192, 8192, 8192)
    started: list[Shape] = []

    def rate(shape: Shape) -> tuple[float, float]:
        started.append(shape)
        distance = sum(abs(math.log2(size / near)) for size, near in zip(shape, best, strict=True))
        flops = 6e14 * 0.8**distance
        # The first call of all is of a library that starts: the products of that shape take their third of a second.
        return (1e8 if len(started) == 1 else flops), (1.0 if len(started) == 1 else 6 * math.prod(shape) / flops)

    assert search(rate, budget_s=3.0, largest=16384) == best
    assert len(started) <= 20


def test_the_search_stops_within_its_budget() -> None:
    spent = 0.0

    def rate(shape: Shape) -> tuple[float, float]:
        nonlocal spent
        took = math.prod(shape) / 1e9
        spent += took
        return 1e9, took

    search(rate, budget_s=0.3, largest=16384)
    assert spent < 0.6
