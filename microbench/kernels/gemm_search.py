"""A shape whose matrix product is near the fastest: squares of doubling size, then the best square's neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

Shape = tuple[int, int, int]

# Every dimension is a multiple of it.
TILE = 16
_SMALLEST = 256


def search(rate: Callable[[Shape], tuple[float, float]], budget_s: float, largest: int) -> Shape:
    """Find a shape whose rate is near the best.

    Parameters
    ----------
    rate
        Gives FLOP/s of a shape and the seconds that asking took.
    budget_s
        Seconds after which no new shape is asked for.
    largest
        No dimension grows beyond it.

    Returns
    -------
    The shape of the highest rate seen.
    """
    seen: dict[Shape, float] = {}
    spent = last = 0.0

    def ask(shape: Shape) -> bool:
        nonlocal spent, last
        if shape in seen or not all(TILE <= size <= largest for size in shape):
            return False
        # A product of eight times the work takes at most eight times as long; one that would overrun is not begun.
        if seen and spent + last * 8 * (math.prod(shape) > max(map(math.prod, seen))) > budget_s:
            return False
        seen[shape], last = rate(shape)
        spent += last
        return True

    size = _SMALLEST
    while ask((size, size, size)):
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
