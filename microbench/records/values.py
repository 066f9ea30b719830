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
            value < 0 or (positive and value == 0),
            f"{type(record).__name__}.{name} is {value}; it must be {'positive' if positive else 'at least 0'}",
        )


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
            self.confidence is not None and not 0 < self.confidence < 1,
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
