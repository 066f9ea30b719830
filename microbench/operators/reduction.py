"""Reductions of rows to one number each. Extrema, products, norms and losses cost what a mean costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from microbench.operators.aten import Call, aten, exact_quotient
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


_REDUCTIONS = """sum mean amax amin max min argmax argmin var std var_mean std_mean prod any all logsumexp norm nansum
linalg_vector_norm aminmax count_nonzero median nanmedian"""


@aten(*_REDUCTIONS.split(), gives=("mean", "pointwise"))
def _seen(call: Call) -> list[Op]:
    """Of two tensors the larger of each pair is taken: that is elementwise."""
    whole, written = call.inputs[0], call.outputs[0]
    cols = exact_quotient(whole.numel(), written.numel())
    if len(call.inputs) > 1 or cols is None or whole.is_complex():
        return [call.pointwise()]
    return [call.exact(call.op("mean", rows=written.numel(), cols=max(1, cols)))]


_SCANS = "cumsum cumprod cummax cummin logcumsumexp cumsum_ cumprod_"


@aten(*_SCANS.split(), "_cummax_helper", "_cummin_helper", gives="pointwise")
def _seen_scan(call: Call) -> list[Op]:
    return [call.pointwise()]


# FLOP for each element: subtract, square, add; Huber's and others compare as well.
_LOSSES = {
    "mse_loss": 3,
    "smooth_l1_loss": 6,
    "huber_loss": 6,
    "binary_cross_entropy": 7,
    "soft_margin_loss": 5,
    "multi_margin_loss": 4,
}


@aten(*_LOSSES, gives="pointwise")
def _seen_loss(call: Call) -> list[Op]:
    return [call.traffic(call.inputs, call.outputs, _LOSSES[call.name] * call.inputs[0].numel())]


@aten(*(f"{name}_backward" for name in _LOSSES), gives="pointwise", direction="backward")
def _seen_loss_backward(call: Call) -> list[Op]:
    return [call.pointwise()]


@aten("nll_loss_forward", "nll_loss2d_forward", gives="pointwise")
def _seen_picked(call: Call) -> list[Op]:
    """One number a target is read, and added up."""
    target = call.get("target")
    made = call.op("pointwise", size=target.numel(), reads=target.numel(), writes=call.outputs[0].numel())
    read = target.numel() * (call.args[0].element_size() + target.element_size())
    return [replace(made, traffic=(read, call.outputs[0].numel() * call.outputs[0].element_size()))]


@aten("nll_loss_backward", "nll_loss2d_backward", gives="pointwise", direction="backward")
def _seen_spread(call: Call) -> list[Op]:
    """All of the gradient is written, most of it zeros."""
    target = call.get("target")
    return [call.traffic([call.args[0], target], call.outputs, target.numel())]
