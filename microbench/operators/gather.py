"""Rows picked from a table by index, and their gradients added into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from microbench.operators.aten import Call, aten, held_bytes
from microbench.operators.core import Op
from microbench.operators.draws import Sizes, draw
from microbench.operators.registry import INDEX_BYTES, Tally, least, operator

Built = tuple[tuple[Any, ...], Callable[..., Any]]


def _backward(s: Any) -> Tally:
    picked = s.count * s.cols
    return Tally(flop=picked, read=picked, written=s.rows * s.cols, index_bytes=INDEX_BYTES * s.count)


def _coordinates(s: Any, _: Any) -> list[Any]:
    return [np.log(s.count), np.log(s.cols), np.log(s.rows)]


def _table(torch: Any, s: Any, t: Callable[..., Any]) -> tuple[Any, Any]:
    table = t(s.rows, s.cols)
    return table, torch.randint(0, s.rows, (s.count,), device=table.device)


def _gather_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    table, picked = _table(torch, s, t)
    return (table,), lambda w: torch.index_select(w, 0, picked)


@operator(
    "gather",
    "rows cols count",
    "embedding",
    example={"rows": 9, "cols": 4, "count": 6},
    backward=_backward,
    call=_gather_call,
    widths=("cols",),
    takes_index=True,
    rows=lambda s: (s.count, s.cols),
    coordinates=_coordinates,
)
def gather(s: Any) -> Tally:
    """Pick count rows of a table of rows x cols; a row picked twice is read once."""
    return Tally(
        flop=0 * s.rows,
        read=least(s.count, s.rows) * s.cols,
        written=s.count * s.cols,
        index_bytes=INDEX_BYTES * s.count,
    )


def _embedding_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    table, picked = _table(torch, s, t)
    return (table,), lambda w: torch.nn.functional.embedding(picked, w)


@operator(
    "embedding",
    "rows cols count",
    "embedding",
    example={"rows": 9, "cols": 4, "count": 6},
    backward=_backward,
    call=_embedding_call,
    widths=("cols",),
    takes_index=True,
    rows=lambda s: (s.count, s.cols),
    coordinates=_coordinates,
)
def embedding(s: Any) -> Tally:
    """Gather from a table of parameters."""
    picked = gather(s)
    return Tally(
        flop=0 * s.rows,
        read=picked.read,
        written=picked.written,
        index_bytes=picked.index_bytes,
        parameters=s.rows * s.cols,
    )


@draw("gather", "embedding", name="embedding", count=44)
def _sizes(s: Sizes) -> dict[str, Any]:
    return {"rows": s.large(16, 65536, 0.5), "cols": s.large(8, 1024, 0.4), "count": s.large(1, 8192, 0.7)}


# Names whose index says where each element comes from, not each row.
_SINGLE = ("gather", "take", "take_along_dim")


@aten("embedding", gives="embedding")
def _seen(call: Call) -> list[Op]:
    return [_picked(call, "embedding", call.get("weight"), call.get("indices"))]


@aten("index_select", "index", "gather", "take", "take_along_dim", "_unsafe_index", gives="gather")
def _seen_gather(call: Call) -> list[Op]:
    """Rows where whole ones are picked, else single elements."""
    table = call.args[0]
    whole = call.name not in _SINGLE
    return [_picked(call, "gather", table, *call.inputs[1:], whole=whole)]


def _picked(call: Call, name: str, table: Any, *index: Any, whole: bool = True) -> Op:
    """Rows as long as the result's share of an index, where the table has such."""
    out = call.outputs[0]
    count = max([each.numel() for each in index], default=1)
    cols = out.numel() // count if whole and out.numel() % max(count, 1) == 0 else 1
    if table.numel() % max(cols, 1):
        cols = 1
    made = call.op(name, rows=table.numel() // cols, cols=cols, count=out.numel() // cols)
    read = min(out.numel() * table.element_size(), held_bytes(table)) + sum(map(held_bytes, index))
    return call.moving(made, read, held_bytes(out))


@aten("embedding_dense_backward", gives="embedding", direction="backward")
def _seen_backward(call: Call) -> list[Op]:
    """All of the table's gradient is written, most of it zeros."""
    out, gradient = call.outputs[0], call.get("grad_output")
    cols = out.shape[1]
    made = call.op("embedding", "backward", rows=out.shape[0], cols=cols, count=gradient.numel() // cols)
    return [call.exact(made)]


_SCATTERS = """index_put index_add scatter scatter_add scatter_reduce index_copy index_reduce masked_scatter put
_index_put_impl_ _unsafe_index_put _unsafe_masked_index_put_accumulate"""


@aten(
    *_SCATTERS.split(),
    *(f"{name}_" for name in _SCATTERS.split() if not name.endswith("_") and name[0] != "_"),
    gives="gather",
    direction="backward",
)
def _seen_scatter(call: Call) -> list[Op]:
    """Elements are put or added where an index says: in place only those are written, else the rest is copied."""
    out, values = call.outputs[0], call.get("values", "source", "src", "value")
    index = call.get("index", "mask")
    moved = (values if hasattr(values, "numel") else out if index is None else index).numel()
    moved = min(max(moved, 1), out.numel())
    cols = max(1, moved // max(max((each.numel() for each in call.inputs[1:-1]), default=1), 1))
    cols = cols if moved % cols == 0 and out.numel() % cols == 0 else 1
    made = call.op("gather", "backward", rows=out.numel() // cols, cols=cols, count=moved // cols)
    read = sum(map(held_bytes, call.inputs[1:]))
    size, adds = out.element_size(), _adds(call)
    if call.name.endswith("_"):
        return [replace(made, traffic=(read + adds * moved * size, moved * size))]
    return [replace(made, traffic=(read + held_bytes(call.inputs[0]), held_bytes(out)))]


def _adds(call: Call) -> bool:
    """Whether what is there is read, to add to it."""
    return bool(call.get("accumulate") or call.get("reduce") or "add" in call.name)
