"""The parts of records: the words a field may hold, checks of fields, estimates with intervals, work."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Measures = Literal["compute", "memory", "link", "latency", "intensity", "clock", "cost", "operator"]
Unit = Literal["scalar", "vector", "matrix"]
Access = Literal["read", "write", "copy", "triad"]
Backend = Literal["native", "cuda", "triton", "torch"]
Scope = Literal["core", "device"]
Mode = Literal["peak", "sustained", "library"]
Operands = Literal["exact", "random"]
Severity = Literal["info", "warning", "error"]
ProofStatus = Literal["proven", "unproven", "failed"]
# One line of a table, for people or programs: SI units in the names, None is unknown.
Row = Mapping[str, str | int | float | bool | None]
Value = int | float | str | bool

LEVELS = ("L1", "L2", "L3", "DRAM", "shared", "host", "peer")
MEASURES = ("compute", "memory", "link", "latency", "intensity", "clock", "cost", "operator")
BACKENDS = ("native", "cuda", "triton", "torch")
# The magnitudes that a number of a record may have, 0 apart: its inverse, and its product with another, are finite.
_LEAST, _MOST = 1e-40, 1e40
# What no device has had, by far, of each quantity in SI: a number outside is a damaged file or a wrong unit.
BOUNDS: Mapping[str, tuple[float, float]] = {
    "hertz": (1e5, 1e11),
    "rate": (1e-3, 1e21),  # FLOP/s, OP/s, byte/s
    "seconds": (1e-16, 1e9),
    "cost": (1e-16, 1e5),  # seconds of one operation
    "bytes": (1, 2**60),
    "watts": (1e-4, 1e6),
    "joules": (1e-20, 1e4),  # of one operation, of one byte
    "intensity": (1e-12, 1e12),  # FLOP/byte
    "units": (1, 1e8),  # cores, threads, multiprocessors, rounds
    "count": (1, 1e18),
    "share": (0, 1),
    "factor": (1e-30, 1e30),
    "log": (-100, 100),  # of a ratio
    "spread": (0, 1e4),  # of logarithms, and multiples of it
}
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")


def refuse(condition: bool, message: str) -> None:
    """Raise `ValueError` where the condition holds."""
    if condition:
        raise ValueError(message)


def finite(record: object, *names: str, positive: bool = False) -> None:
    """Refuse fields that are infinite, not a number or negative; unknown ones (``None``) may pass."""
    for name in names:
        value = getattr(record, name)
        if value is None:
            continue
        refuse(not math.isfinite(value), f"{type(record).__name__}.{name} is {value}; a number must be finite")
        refuse(
            value != 0 and not _LEAST < abs(value) < _MOST,
            f"{type(record).__name__}.{name} is {value:.3g}; no quantity is that small or large",
        )
        refuse(
            value < 0 or (positive and value == 0),
            f"{type(record).__name__}.{name} is {value}; it must be {'positive' if positive else 'at least 0'}",
        )


def within(record: object, quantity: str, *names: str, zero: bool = False) -> None:
    """Refuse fields outside of the bounds of a quantity; unknown ones (``None``) pass, 0 where it may be."""
    for name in names:
        value = getattr(record, name)
        if value is not None and not (zero and value == 0):
            possible(value, quantity, f"{type(record).__name__}.{name}")


def all_within(record: object, quantity: str, name: str, *, zero: bool = False) -> None:
    """Refuse a sequence, or the values of a mapping, with an entry outside of the bounds of a quantity."""
    values = getattr(record, name)
    listed = values.values() if isinstance(values, Mapping) else values
    if not listed:
        return
    where, total, low = f"{type(record).__name__}.{name}", sum(listed), min(listed)
    refuse(isinstance(total, float) and math.isnan(total), f"{where} holds what is not a number")
    if zero and low == 0:
        low = min((value for value in listed if value != 0), default=None)
        if low is None:
            return
    possible(low, quantity, where)
    possible(max(listed), quantity, where)


def possible(value: float, quantity: str, where: str) -> None:
    """Refuse a value outside of the bounds of a quantity; ``where`` stands for it in the sentence."""
    low, high = BOUNDS[quantity]
    if not low <= value <= high or 0 < value < _LEAST:
        wanted = "must be positive" if value <= 0 < low else f"lies between {low:g} and {high:g}"
        raise ValueError(f"{where} is {_short(value)}; it {wanted}")


def _short(value: float) -> str:
    try:
        return f"{float(value):.6g}"
    except OverflowError:
        return "beyond any number"


def one_of(record: object, name: str, allowed: tuple[str, ...] | Mapping[str, Any]) -> None:
    """Refuse a field that holds none of the allowed words; an unknown one (``None``) may pass."""
    value = getattr(record, name)
    refuse(
        value is not None and value not in allowed,
        f"{type(record).__name__}.{name} is {value!r}; known: {', '.join(allowed)}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its interval.

    ``basis`` says how low and high came about where they are no confidence interval ("third best round .. nominal");
    ``confidence`` is the coverage asked for where they are one.
    """

    value: float
    low: float
    high: float
    basis: str | None = None
    confidence: float | None = None

    def __post_init__(self) -> None:
        finite(self, "value", "low", "high")
        refuse(
            not self.low <= self.value <= self.high,
            f"an estimate needs low <= value <= high, not {self.low} {self.value} {self.high}",
        )
        refuse(
            self.confidence is not None and not 1e-6 < self.confidence < 1,
            f"confidence is {self.confidence}; it lies between 0 and 1",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What an operator or one iteration of a kernel does, counted from shapes alone.

    ``flop`` counts an FMA as 2 (integer operations likewise). Bytes are those asked for, write-allocate not included.
    """

    flop: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    parameters: int = 0

    def __post_init__(self) -> None:
        finite(self, "flop", "bytes_read", "bytes_written", "parameters")

    @property
    def bytes(self) -> int:
        """Bytes read plus bytes written."""
        return self.bytes_read + self.bytes_written

    @property
    def intensity(self) -> float | None:
        """Arithmetic intensity in FLOP/byte; ``None`` without traffic."""
        return self.flop / self.bytes if self.bytes else None

    def __add__(self, other: Work) -> Work:
        return Work(
            flop=self.flop + other.flop,
            bytes_read=self.bytes_read + other.bytes_read,
            bytes_written=self.bytes_written + other.bytes_written,
            parameters=self.parameters + other.parameters,
        )

    def __mul__(self, times: int) -> Work:
        return Work(
            flop=self.flop * times,
            bytes_read=self.bytes_read * times,
            bytes_written=self.bytes_written * times,
            parameters=self.parameters * times,
        )
