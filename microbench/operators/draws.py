"""Shapes to measure for a calibration: a source of sizes, and the draws that the files of this folder register."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(slots=True)
class Sizes:
    """A seeded source of sizes."""

    random: np.random.Generator

    def log(self, low: int, high: int) -> int:
        """Log-uniform; three in five rounded to a multiple of 16 (8 below 64), as most models have them."""
        value = float(np.exp(self.random.uniform(np.log(low), np.log(high))))
        grain = 16 if value >= 64 else 8 if value >= 12 else 1
        if self.random.random() < 0.6:
            value = max(low, round(value / grain) * grain)
        return int(min(max(round(value), low), high))

    def pick(self, *values: Any) -> Any:
        """One of the values."""
        return values[int(self.random.integers(len(values)))]


Drawn = Callable[[Sizes], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """How to draw shapes for operators that take turns; ``count`` is how many a calibration of full length has."""

    name: str
    operators: tuple[str, ...]
    count: int
    shape: Drawn


DRAWS: dict[str, Draw] = {}


def draw(*operators: str, count: int, name: str = "") -> Callable[[Drawn], Drawn]:
    """Register the decorated function as a draw for operators; its name is that of the first where none is given."""

    def register(shape: Drawn) -> Drawn:
        made = Draw(name=name or operators[0], operators=operators, count=count, shape=shape)
        if made.name in DRAWS:
            raise ValueError(f"two draws are named {made.name}")
        DRAWS[made.name] = made
        return shape

    return register


def image(s: Sizes) -> dict[str, int]:
    """Batch and side of square images, as convolutional nets have them."""
    return {"n": s.pick(1, 1, 2, 4, 8), "h": s.pick(7, 14, 28, 56, 112, s.log(5, 112))}


def rows(s: Sizes) -> dict[str, Any]:
    """Rows and their length."""
    return {"rows": s.log(1, 32768), "cols": s.log(8, 16384)}
