"""Results that are shown in a line, as a pandas frame, and as a table in a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from microbench.records.values import Row
from microbench.text import visible_lines

# Rows that a notebook shows of a result; all of them are in its frame.
SHOWN_ROWS = 40


class Framed:
    """A result with rows: subclasses say what is in a row, and themselves in a line."""

    __slots__ = ()

    def frame_rows(self) -> Iterable[Row]:
        """The rows, SI units in the names of the columns."""
        raise NotImplementedError

    def to_frame(self) -> Any:
        """The rows as a pandas DataFrame, SI units in the column names."""
        import pandas as pd

        return pd.DataFrame(list(self.frame_rows()))

    def _repr_html_(self) -> str:
        """What a notebook shows: the line, and the first rows as a table."""
        frame = self.to_frame().dropna(axis="columns", how="all")
        more = f"<p>{len(frame) - SHOWN_ROWS} more rows in to_frame()</p>" if len(frame) > SHOWN_ROWS else ""
        table = frame.head(SHOWN_ROWS).to_html(index=False, border=0, float_format="{:.4g}".format, na_rep="")
        return visible_lines(f"<p>{escape(repr(self))}</p>{table}{more}")


class Rows(list[Any], Framed):
    """A list of records of one kind: a list in every way, shown as a table."""

    __slots__ = ()

    def frame_rows(self) -> Iterable[Row]:
        """A row for each record: plain fields as they are, an estimate as value, low and high."""
        return [_flat(record) for record in self]

    def __repr__(self) -> str:
        """How many there are, of what, and the first."""
        if len(self) <= 1:
            return list.__repr__(self)
        return f"<{len(self)} x {type(self[0]).__name__}, the first {str(self[0])[:80]}>"


def _flat(record: Any) -> dict[str, str | int | float | bool | None]:
    from dataclasses import fields, is_dataclass

    from microbench.records.values import Estimate

    row: dict[str, str | int | float | bool | None] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Estimate):
            row |= {field.name: value.value, f"{field.name}_low": value.low, f"{field.name}_high": value.high}
        elif value is None or isinstance(value, str | int | float | bool):
            row[field.name] = value
        elif is_dataclass(value) and not isinstance(value, type):
            row |= {f"{field.name}_{name}": cell for name, cell in _flat(value).items()}
    return row
