"""Normalisation of rows and of channels. Backward passes read the statistics that forward kept."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from microbench.operators.aten import Call, aten, rows_of
from microbench.operators.core import Op
from microbench.operators.draws import Sizes, draw, image, rows
from microbench.operators.registry import Tally, operator, rows_and_cols, short_rows

Built = tuple[tuple[Any, ...], Callable[..., Any]]


def _layer_norm_backward(s: Any) -> Tally:
    """Gradient, input, weight, mean and rstd of each row; gradients of input, weight and bias."""
    size = s.rows * s.cols
    return Tally(flop=14 * size, read=2 * size + 2 * s.rows + s.cols, written=size + 2 * s.cols)


def _layer_norm_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    norm = torch.nn.functional.layer_norm
    return (t(s.rows, s.cols), t(s.cols), t(s.cols)), lambda x, w, b: norm(x, (s.cols,), w, b)


@operator(
    "layer_norm",
    "rows cols",
    "normalisation",
    example={"rows": 6, "cols": 5},
    backward=_layer_norm_backward,
    call=_layer_norm_call,
    widths=("cols",),
    rows=rows_and_cols,
    variants=short_rows,
)
def layer_norm(s: Any) -> Tally:
    """Layer normalisation of each row with weight and bias: mean, variance, normalise, scale, shift."""
    size = s.rows * s.cols
    return Tally(flop=7 * size, read=size + 2 * s.cols, written=size, parameters=2 * s.cols)


@aten("native_layer_norm", gives="layer_norm")
def _seen_layer_norm(call: Call) -> list[Op]:
    return [call.op("layer_norm", **rows_of(call.args[0], prod(call.args[1])))]


@aten("native_layer_norm_backward", gives="layer_norm", direction="backward")
def _seen_layer_norm_backward(call: Call) -> list[Op]:
    return [call.op("layer_norm", "backward", **rows_of(call.args[1], prod(call.args[2])))]


draw("layer_norm", count=44)(rows)


def _rms_norm_backward(s: Any) -> Tally:
    """Gradient, input, weight and rstd of each row; gradients of input and weight."""
    size = s.rows * s.cols
    return Tally(flop=10 * size, read=2 * size + s.rows + s.cols, written=size + s.cols)


def _rms_norm_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    return (t(s.rows, s.cols), t(s.cols)), lambda x, w: torch.nn.functional.rms_norm(x, (s.cols,), w)


@operator(
    "rms_norm",
    "rows cols",
    "normalisation",
    example={"rows": 6, "cols": 5},
    backward=_rms_norm_backward,
    call=_rms_norm_call,
    widths=("cols",),
    rows=rows_and_cols,
    variants=short_rows,
)
def rms_norm(s: Any) -> Tally:
    """Root-mean-square normalisation of each row with weight."""
    size = s.rows * s.cols
    return Tally(flop=4 * size, read=size + s.cols, written=size, parameters=s.cols)


@aten("_fused_rms_norm", "rms_norm", gives="rms_norm")
def _seen_rms_norm(call: Call) -> list[Op]:
    return [call.op("rms_norm", **rows_of(call.args[0], prod(call.args[1])))]


@aten("_fused_rms_norm_backward", gives="rms_norm", direction="backward")
def _seen_rms_norm_backward(call: Call) -> list[Op]:
    return [call.op("rms_norm", "backward", **rows_of(call.args[1], prod(call.args[2])))]


draw("rms_norm", count=40)(rows)


def _planes(s: Any) -> tuple[Any, Any]:
    return s.n * s.c, s.h * s.w


def _batch_norm_backward(s: Any) -> Tally:
    """Gradient, input, weight, mean and invstd of each channel; gradients of input, weight and bias."""
    size = s.n * s.c * s.h * s.w
    # Statistics of the batch depend on the input, stored ones do not.
    return Tally(flop=(6 + 8 * s.train) * size, read=2 * size + 3 * s.c, written=size + 2 * s.c)


def _batch_norm_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    mean, variance = t(s.c), t(s.c).abs() + 0.5
    train, norm = bool(s.train), torch.nn.functional.batch_norm
    inputs = (t(s.n, s.c, s.h, s.w), t(s.c), t(s.c))
    return inputs, lambda x, w, b: norm(x, mean, variance, w, b, training=train)


@operator(
    "batch_norm",
    "n c h w train",
    "normalisation",
    example={"n": 2, "c": 3, "h": 4, "w": 5},
    defaults={"w": "h", "train": 0},
    backward=_batch_norm_backward,
    call=_batch_norm_call,
    widths=("c",),
    rows=_planes,
    variants=lambda s, _: (("train", s.train == 1),),
)
def batch_norm(s: Any) -> Tally:
    """Batch normalisation with stored statistics (train=0) or with those of the batch (train=1)."""
    size = s.n * s.c * s.h * s.w
    # Training updates mean and variance and keeps those of the batch.
    kept = 4 * s.train * s.c
    return Tally(flop=(4 + 3 * s.train) * size, read=size + 4 * s.c, written=size + kept, parameters=2 * s.c)


def _planes_of(tensor: Any) -> dict[str, int]:
    rest = prod(tensor.shape[2:])
    return {"n": tensor.shape[0], "c": tensor.shape[1] if tensor.dim() > 1 else 1, "h": rest, "w": 1}


@aten(
    "native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit", "_batch_norm_with_update", gives="batch_norm"
)
def _seen_batch_norm(call: Call) -> list[Op]:
    train = call.arg(5) is True or call.arg(3) is True
    return [call.op("batch_norm", train=train, **_planes_of(call.args[0]))]


@aten("_native_batch_norm_legit_no_training", "_batch_norm_no_update", gives="batch_norm")
def _seen_batch_norm_inference(call: Call) -> list[Op]:
    return [call.op("batch_norm", **_planes_of(call.args[0]))]


@aten(
    "native_batch_norm_backward",
    "cudnn_batch_norm_backward",
    "batch_norm_backward",
    gives="batch_norm",
    direction="backward",
)
def _seen_batch_norm_backward(call: Call) -> list[Op]:
    return [call.op("batch_norm", "backward", train=1, **_planes_of(call.args[1]))]


@draw("batch_norm", count=60)
def _batch_norm_sizes(s: Sizes) -> dict[str, Any]:
    return image(s) | {"c": s.log(1, 512), "train": s.pick(0, 0, 1)}


def _group_norm_backward(s: Any) -> Tally:
    """Gradient, input, weight, mean and rstd of each group; gradients of input, weight and bias."""
    size = s.n * s.c * s.h * s.w
    return Tally(flop=14 * size, read=2 * size + 2 * s.n * s.groups + s.c, written=size + 2 * s.c)


def _group_norm_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    norm = torch.nn.functional.group_norm
    return (t(s.n, s.c, s.h, s.w), t(s.c), t(s.c)), lambda x, w, b: norm(x, s.groups, w, b)


@operator(
    "group_norm",
    "n c h w groups",
    "normalisation",
    example={"n": 2, "c": 6, "h": 4, "w": 5, "groups": 3},
    defaults={"w": "h"},
    check=lambda s: ((s.c % s.groups != 0, "groups must divide c"),),
    backward=_group_norm_backward,
    call=_group_norm_call,
    widths=("c",),
    rows=lambda s: (s.n * s.groups, s.c // s.groups * s.h * s.w),
)
def group_norm(s: Any) -> Tally:
    """Normalisation of groups of channels of each image, with a weight and a bias for each channel."""
    size = s.n * s.c * s.h * s.w
    return Tally(flop=7 * size, read=size + 2 * s.c, written=size, parameters=2 * s.c)


@aten("native_group_norm", gives="group_norm")
def _seen_group_norm(call: Call) -> list[Op]:
    return [call.op("group_norm", groups=call.args[6], **_planes_of(call.args[0]))]


@aten("native_group_norm_backward", gives="group_norm", direction="backward")
def _seen_group_norm_backward(call: Call) -> list[Op]:
    return [call.op("group_norm", "backward", groups=call.args[8], **_planes_of(call.args[1]))]


@draw("group_norm", count=44)
def _group_norm_sizes(s: Sizes) -> dict[str, Any]:
    groups = s.pick(1, 8, 16, 32)
    return image(s) | {"c": groups * s.log(1, 512 // groups), "groups": groups}
