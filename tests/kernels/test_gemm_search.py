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
    assert len(asked) == len(set(asked)) < 25


def test_the_search_stops_within_its_budget() -> None:
    spent = 0.0

    def rate(shape: Shape) -> tuple[float, float]:
        nonlocal spent
        took = math.prod(shape) / 1e9
        spent += took
        return 1e9, took

    search(rate, budget_s=0.3, largest=16384)
    assert spent < 0.6
