"""Softmax along rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from microbench.operators.aten import Call, aten, rows_of
from microbench.operators.core import Op
from microbench.operators.draws import draw, rows
from microbench.operators.registry import Tally, operator, rows_and_cols, short_rows


def _backward(s: Any) -> Tally:
    size = s.rows * s.cols
    return Tally(flop=4 * size, read=2 * size, written=size)


def _call(torch: Any, s: Any, t: Callable[..., Any]) -> tuple[tuple[Any, ...], Callable[..., Any]]:
    return (t(s.rows, s.cols),), lambda x: torch.softmax(x, 1)


@operator(
    "softmax",
    "rows cols",
    "softmax",
    example={"rows": 6, "cols": 5},
    backward=_backward,
    call=_call,
    # Scores are queries times keys: no width of a model.
    widths=(),
    rows=rows_and_cols,
    variants=short_rows,
)
def softmax(s: Any) -> Tally:
    """Softmax along each row: maximum, subtract, exp, sum, divide."""
    return Tally(flop=5 * s.rows * s.cols, read=s.rows * s.cols, written=s.rows * s.cols)


@aten("_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax", gives="softmax")
def _seen(call: Call) -> list[Op]:
    return [call.op("softmax", **rows_of(call.args[0], call.args[0].shape[call.args[1]]))]


@aten("_softmax_backward_data", "_log_softmax_backward_data", gives="softmax", direction="backward")
def _seen_backward(call: Call) -> list[Op]:
    return [call.op("softmax", "backward", **rows_of(call.args[0], call.args[0].shape[call.args[2]]))]


draw("softmax", count=80)(rows)
