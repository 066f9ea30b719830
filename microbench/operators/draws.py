"""Shapes to measure for a calibration: a source of sizes, and the draws that the files of this folder register."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

# Kinds of devices that a draw is for.
EVERYWHERE = ("cpu", "cuda")


@dataclass(slots=True)
class Sizes:
    """A seeded source of sizes; ``room`` is how many times as many bytes as on two processor cores a row may have."""

    random: np.random.Generator
    room: float = 1.0

    def log(self, low: int, high: int) -> int:
        """Log-uniform; three in five rounded to a multiple of 16 (8 below 64), as most models have them."""
        value = float(np.exp(self.random.uniform(np.log(low), np.log(high))))
        grain = 16 if value >= 64 else 8 if value >= 12 else 1
        if self.random.random() < 0.6:
            value = max(low, round(value / grain) * grain)
        return int(min(max(round(value), low), high))

    def large(self, low: int, high: int, share: float = 1.0) -> int:
        """Log-uniform up to ``high`` times that power of the room: what grows with the device."""
        return self.log(low, max(high, round(high * self.room**share)))

    def pick(self, *values: Any) -> Any:
        """One of the values."""
        return values[int(self.random.integers(len(values)))]


Drawn = Callable[[Sizes], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """How to draw shapes for operators that take turns; ``count`` is how many a calibration of full length has.

    ``on`` are the kinds of devices that it is for.
    """

    name: str
    operators: tuple[str, ...]
    count: int
    shape: Drawn
    on: tuple[str, ...] = EVERYWHERE


DRAWS: dict[str, Draw] = {}


def draw(*operators: str, count: int, name: str = "", on: tuple[str, ...] = EVERYWHERE) -> Callable[[Drawn], Drawn]:
    """Register the decorated function as a draw for operators; its name is that of the first where none is given."""

    def register(shape: Drawn) -> Drawn:
        made = Draw(name=name or operators[0], operators=operators, count=count, shape=shape, on=on)
        if made.name in DRAWS:
            raise ValueError(f"two draws are named {made.name}")
        DRAWS[made.name] = made
        return shape

    return register


def image(s: Sizes) -> dict[str, int]:
    """Batch and side of square images, as convolutional nets have them."""
    batch = s.pick(1, 1, 2, 4, 8) if s.room < 2 else s.large(1, 8, 0.75)
    return {"n": batch, "h": s.pick(7, 14, 28, 56, 112, s.log(5, 112))}


def rows(s: Sizes) -> dict[str, Any]:
    """Rows and their length."""
    return {"rows": s.large(1, 32768, 0.4), "cols": s.log(8, 16384)}
