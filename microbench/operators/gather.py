"""Rows picked from a table by index, and their gradients added into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from microbench.operators.aten import Call, aten
from microbench.operators.core import Op
from microbench.operators.draws import Sizes, draw
from microbench.operators.registry import INDEX_BYTES, Tally, least, operator

Built = tuple[tuple[Any, ...], Callable[..., Any]]

_AS_EMBEDDING = "aten's lookups are all taken for embedding, which does the same work"


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
    without={"aten": _AS_EMBEDDING, "aten backward": _AS_EMBEDDING},
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


@aten("embedding", "index_select", "index", gives="embedding")
def _seen(call: Call) -> list[Op]:
    table = call.args[0]
    cols = max(1, table.numel() // max(1, table.shape[0]))
    return [call.op("embedding", rows=table.shape[0], cols=cols, count=max(1, call.outputs[0].numel() // cols))]


@aten(
    "embedding_dense_backward",
    "index_put",
    "index_put_",
    "index_add",
    "scatter_add",
    gives="embedding",
    direction="backward",
)
def _seen_backward(call: Call) -> list[Op]:
    out = call.outputs[0]
    cols = max(1, out.numel() // out.shape[0])
    return [call.op("embedding", "backward", rows=out.shape[0], cols=cols, count=max(1, call.args[0].numel() // cols))]
