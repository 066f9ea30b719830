"""Rows of a predicted table as records, in the order in which they were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from microbench.operators import Op, Table
from microbench.predict.operator import Columns
from microbench.records import Estimate, Prediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microbench.operators.table import Batch


def predictions(table: Table, columns: Columns, names: Sequence[str]) -> list[Prediction]:
    """Rows of a predicted table as records, in the order asked; an empty entry of ``names`` stands for its own name."""
    found = [(int(place), batch, row) for batch in table.batches for row, place in enumerate(batch.index)]
    return [
        _record(columns, place, batch.take(np.asarray([row])), names[place])
        for place, batch, row in sorted(found, key=lambda item: item[0])
        if columns.limiter[place]
    ]


def _record(columns: Columns, place: int, one: Batch, name: str) -> Prediction:
    made = Op(
        name=one.row.name,
        dtype=one.dtype,
        params={key: int(column[0]) for key, column in one.shape.items()},
        direction="backward" if one.direction == "backward" else "forward",
        traffic=None
        if one.traffic is None or one.traffic[0, 0] < 0
        else (int(one.traffic[0, 0]), int(one.traffic[0, 1])),
    )
    limits = str(columns.limiter[place])
    return Prediction(
        op=name or str(made),
        seconds=Estimate(
            value=float(columns.predicted[place]),
            low=float(columns.low[place]),
            high=float(columns.high[place]),
            basis=str(columns.basis[place]),
        ),
        limiter=limits,
        work=made.work,
        family=one.row.family,
        terms={name: float(getattr(columns, f"{name}_s")[place]) for name in ("compute", "memory", "cost")},
        level=str(columns.level[place]) or None,
        bound="memory" if limits.startswith("memory") else "cost" if limits == "cost" else "compute",
    )
