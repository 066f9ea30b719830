"""Reductions of rows to one number each. Extrema, products, norms and losses cost what a mean costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from microbench.operators.aten import Call, aten
from microbench.operators.core import Op
from microbench.operators.draws import draw, rows
from microbench.operators.registry import Operator, Rule, Tally, TorchCall, add, rows_and_cols, short_rows


def _forward(s: Any) -> Tally:
    return Tally(flop=s.rows * s.cols, read=s.rows * s.cols, written=s.rows)


def _sum_backward(s: Any) -> Tally:
    """The gradient is handed on as a view of one number a row: nothing runs."""
    return Tally(flop=0 * s.rows)


def _mean_backward(s: Any) -> Tally:
    """Each element gets its share of the gradient of its row."""
    return Tally(flop=s.rows * s.cols, read=s.rows, written=s.rows * s.cols)


def _call(name: str) -> TorchCall:
    def call(torch: Any, s: Any, t: Callable[..., Any]) -> tuple[tuple[Any, ...], Callable[..., Any]]:
        return (t(s.rows, s.cols),), lambda x: getattr(torch, name)(x, 1)

    return call


_AS_MEAN = "aten's reductions are all taken for mean, which divides as well"


def _add(name: str, backward: Rule, without: dict[str, str]) -> None:
    add(
        Operator(
            name=name,
            family="reduction",
            keys=("rows", "cols"),
            says=f"{name} of each row",
            example={"rows": 6, "cols": 5},
            forward=_forward,
            backward=backward,
            call=_call(name),
            widths=("rows",),
            rows=rows_and_cols,
            variants=short_rows,
            without=without,
        )
    )


_add("sum", _sum_backward, {"aten": _AS_MEAN, "aten backward": _AS_MEAN})
_add("mean", _mean_backward, {})
draw("sum", "mean", name="reduction", count=64)(rows)


_REDUCTIONS = """sum mean amax amin max min argmax argmin var std var_mean prod any all logsumexp norm
linalg_vector_norm _adaptive_avg_pool2d cumsum nll_loss_forward mse_loss"""


@aten(*_REDUCTIONS.split(), gives="mean")
def _seen(call: Call) -> list[Op]:
    read, written = call.inputs[0].numel(), max(1, call.outputs[0].numel())
    return [call.op("mean", rows=written, cols=max(1, read // written))]


@aten("_adaptive_avg_pool2d_backward", "nll_loss_backward", "mse_loss_backward", gives="mean", direction="backward")
def _seen_backward(call: Call) -> list[Op]:
    read, written = call.inputs[0].numel(), call.outputs[0].numel()
    return [call.op("mean", "backward", rows=read, cols=max(1, written // read))]
