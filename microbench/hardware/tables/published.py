"""What others measured on known GPUs (published.csv): beside one's own figure it answers whether a card is normal."""

from __future__ import annotations

from dataclasses import dataclass

from microbench.hardware.tables.gpus import find, table
from microbench.records import LEVELS
from microbench.records.dtypes import DTYPES

_MEASURES = ("compute", "memory", "latency_cycles", "launch_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One figure: FLOP/s or OP/s, byte/s, cycles or seconds, as ``measures`` says."""

    gpu: str
    measures: str
    value: float
    mode: str
    source: str
    unit: str | None = None
    dtype: str | None = None
    accumulator: str | None = None
    level: str | None = None
    access: str | None = None
    operands: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        gpu = find(self.gpu)
        if gpu is None or gpu.name != self.gpu:
            raise ValueError(f"published.csv: {self.gpu!r} is no name in gpus.csv")
        if self.measures not in _MEASURES or self.mode not in ("peak", "library") or not self.source or self.value <= 0:
            raise ValueError(f"published.csv: {self} is no figure")
        if (
            self.dtype not in (None, *DTYPES)
            or self.level not in (None, *LEVELS)
            or (self.measures == "compute") != bool(self.dtype)
        ):
            raise ValueError(f"published.csv: {self} names no dtype or level")
        # Cards exceed the boost clock that their data sheet counts with, by up to a fifth; more is a slip of the pen.
        if self.measures == "compute" and self.dtype:
            flop = gpu.chip.flop_per_clock(self.unit or "", self.dtype, self.accumulator) or 0
            if self.value > 1.25 * flop * gpu.sms * gpu.boost_clock_hz:
                raise ValueError(
                    f"published.csv: {self.value:g} of {self.unit} {self.dtype} is beyond what {self.gpu} can do"
                )
        if self.measures == "memory" and self.level == "DRAM" and self.value > gpu.memory_bandwidth:
            raise ValueError(f"published.csv: {self.value:g} byte/s is beyond the memory of {self.gpu}")


def _read() -> tuple[Published, ...]:
    return tuple(
        Published(
            gpu=row["gpu"],
            measures=row["measures"],
            value=float(row["value"]),
            mode=row["mode"],
            source=row["source"],
            unit=row["unit"] or None,
            dtype=row["dtype"] or None,
            accumulator=row["accumulator"] or None,
            level=row["level"] or None,
            access=row["access"] or None,
            operands=row["operands"] or None,
            note=row["note"],
        )
        for row in table("published.csv")
    )


PUBLISHED = _read()


def published(name: str) -> tuple[Published, ...]:
    """All figures for a GPU by any of its spellings; empty where nobody's are known.

    Examples
    --------
    >>> [row.value for row in published("NVIDIA GeForce RTX 4090") if row.dtype == "f32" and row.mode == "peak"]
    [80000000000000.0]
    """
    gpu = find(name)
    return tuple(row for row in PUBLISHED if gpu is not None and row.gpu == gpu.name)
