"""A shape whose matrix product is near the fastest: squares of doubling size, then the best square's neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

Shape = tuple[int, int, int]

# Every dimension is a multiple of it.
TILE = 16
_SMALLEST = 256
# No product may take more than this share of the time for all of them: there are some twenty, each timed twice.
_SHARE = 0.1


def search(rate: Callable[[Shape], tuple[float, float]], budget_s: float, largest: int) -> Shape:
    """Find a shape whose rate is near the best.

    What is asked for is bounded beforehand: squares by their number and by what a product would take at the best rate
    seen, and twelve neighbours. What a first call takes (a library that starts, code that is loaded) bounds nothing.

    Parameters
    ----------
    rate
        Gives FLOP/s of a shape and the seconds of products that asking took, the first one of a shape left out.
    budget_s
        Seconds of products after which no new shape is asked for.
    largest
        No dimension grows beyond it.

    Returns
    -------
    The shape of the highest rate seen.
    """
    seen: dict[Shape, float] = {}
    spent = 0.0

    def ask(shape: Shape) -> bool:
        nonlocal spent
        if shape in seen or not all(TILE <= size <= largest for size in shape):
            return False
        if seen and 2 * math.prod(shape) / max(seen.values()) > _SHARE * budget_s:
            return False
        # The very first is asked for twice: a library may start in it.
        seen[shape], took = max(rate(shape) for _ in range(1 if seen else 2))
        spent += took
        return True

    size = _SMALLEST
    while spent < budget_s and ask((size, size, size)):
        size *= 2
    best = max(seen, key=lambda shape: seen[shape])
    for neighbour in _neighbours(best):
        if spent >= budget_s:
            break
        ask(neighbour)
    return max(seen, key=lambda shape: seen[shape])


def _neighbours(shape: Shape) -> Iterable[Shape]:
    for factor in (2.0, 0.5, 1.5, 0.75):
        for axis in range(3):
            sizes = list(shape)
            sizes[axis] = int(sizes[axis] * factor) // 128 * 128
            yield sizes[0], sizes[1], sizes[2]
