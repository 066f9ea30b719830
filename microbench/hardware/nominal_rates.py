"""What a computed rate is, and all of them of a device: records of `microbench.hardware.nominal`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from microbench.records import Row
from microbench.records.framed import Framed


@dataclass(frozen=True, slots=True, kw_only=True)
class Nominal:
    """One computed rate and the terms it is the product of.

    Parameters
    ----------
    name
        For example ``matrix f16 (f32 accumulator)``.
    rate, unit
        FLOP/s, OP/s or byte/s; ``None`` where the clock is unknown.
    per_cycle
        FLOP, OP or bytes per cycle of the whole device.
    formula, source
        The product with its terms named, and where they come from.
    """

    name: str
    rate: float | None
    unit: str
    per_cycle: float
    formula: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NominalDevice(Framed):
    """A device's computed rates, and the facts behind them (name -> value with unit, for a table)."""

    name: str
    facts: Mapping[str, str] = field(default_factory=dict)
    rows: tuple[Nominal, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<NominalDevice {self.name}: {len(self.rows)} rates>"

    def frame_rows(self) -> list[Row]:
        """One row a rate, with its terms."""
        return [{field.name: getattr(row, field.name) for field in fields(Nominal)} for row in self.rows]
