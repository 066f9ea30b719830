"""Normalisation of rows and of channels. Backward passes read the statistics that forward kept.

``weight`` and ``bias`` say whether there are such parameters; in a backward pass ``bias`` whether its gradient is made,
``grad_input`` and ``grad_weight`` which of the others are.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from microbench.operators.aten import Call, aten, rows_of
from microbench.operators.core import Op
from microbench.operators.draws import Sizes, draw, image, rows
from microbench.operators.registry import OPERATORS, Tally, operator, rows_and_cols, short_rows

Built = tuple[tuple[Any, ...], Callable[..., Any]]

_GRADIENTS = "grad_input grad_weight"
_AFFINE: dict[str, int | str] = {"weight": 1, "bias": "weight", "grad_input": 1, "grad_weight": 1}
_QUIET = tuple(_AFFINE)


def _parameters(s: Any, length: Any) -> Any:
    """Weights and biases of so many."""
    return (s.weight + s.get("bias", 0)) * length


def _backward(s: Any, size: Any, length: Any, kept: Any) -> Tally:
    """Gradient, input, weight and ``kept`` statistics; the gradients of input, weight and bias that are made.

    For each element 2 to normalise it again, 8 and the weight's multiplication for the input's gradient, 2 for that of
    the weight, 1 for that of the bias.
    """
    of_weight = s.grad_weight * s.weight
    return Tally(
        flop=(2 + s.grad_input * (8 + s.weight) + 2 * of_weight + s.bias) * size,
        read=2 * size + kept + s.weight * length,
        written=s.grad_input * size + (of_weight + s.bias) * length,
    )


def _given(s: Any, t: Callable[..., Any], length: Any) -> tuple[Any, ...]:
    """Weight and bias of a call, those that there are."""
    return (*((t(length),) if s.weight else ()), *((t(length),) if s.get("bias", 0) else ()))


def _apart(s: Any, given: tuple[Any, ...]) -> tuple[Any, Any]:
    """Weight and bias, ``None`` where there is none."""
    rest = list(given)
    weight = rest.pop(0) if s.weight else None
    return weight, rest.pop(0) if s.get("bias", 0) else None


def _seen_gradients(call: Call) -> dict[str, int]:
    """Which parameters there are and which gradients are made of them."""
    mask = (*call.get("output_mask"), False)
    return {"weight": call.get("weight") is not None, "bias": mask[2], "grad_input": mask[0], "grad_weight": mask[1]}


def _seen_backward(call: Call, name: str, shape: dict[str, int]) -> list[Op]:
    flags = _seen_gradients(call)
    if not (flags["grad_input"] or flags["grad_weight"] or flags["bias"]):
        return []
    if "bias" not in OPERATORS[name].keys:
        del flags["bias"]
    read = [tensor for tensor in call.inputs if tensor is not call.get("bias")]
    return [call.holding(call.op(name, "backward", **shape, **flags), read, call.outputs)]


def _affine(call: Call) -> dict[str, bool]:
    return {key: call.get(key) is not None for key in ("weight", "bias")}


def _layer_norm_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    norm = torch.nn.functional.layer_norm
    inputs = (t(s.rows, s.cols), *_given(s, t, s.cols))
    return inputs, lambda x, *given: norm(x, (s.cols,), *_apart(s, given))


@operator(
    "layer_norm",
    f"rows cols weight bias {_GRADIENTS}",
    "normalisation",
    example={"rows": 6, "cols": 5},
    defaults=_AFFINE,
    quiet=_QUIET,
    backward=lambda s: _backward(s, s.rows * s.cols, s.cols, 2 * s.rows),
    call=_layer_norm_call,
    widths=("cols",),
    rows=rows_and_cols,
    variants=short_rows,
)
def layer_norm(s: Any) -> Tally:
    """Layer normalisation of each row with weight and bias: mean, variance, normalise, scale, shift."""
    size, held = s.rows * s.cols, _parameters(s, s.cols)
    return Tally(flop=(5 + s.weight + s.bias) * size, read=size + held, written=size, parameters=held)


@aten("native_layer_norm", gives="layer_norm")
def _seen_layer_norm(call: Call) -> list[Op]:
    made = call.op("layer_norm", **rows_of(call.args[0], prod(call.args[1])), **_affine(call))
    return [call.holding(made, call.inputs, call.outputs[:1])]


@aten("native_layer_norm_backward", gives="layer_norm", direction="backward")
def _seen_layer_norm_backward(call: Call) -> list[Op]:
    return _seen_backward(call, "layer_norm", rows_of(call.args[1], prod(call.args[2])))


draw("layer_norm", count=44)(rows)


def _rms_norm_backward(s: Any) -> Tally:
    """Gradient, input, weight and rstd of each row; gradients of input and weight."""
    size, of_weight = s.rows * s.cols, s.grad_weight * s.weight
    return Tally(
        flop=(1 + s.grad_input * (6 + s.weight) + 2 * of_weight) * size,
        read=2 * size + s.rows + s.weight * s.cols,
        written=s.grad_input * size + of_weight * s.cols,
    )


def _rms_norm_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    norm = torch.nn.functional.rms_norm
    return (t(s.rows, s.cols), *_given(s, t, s.cols)), lambda x, *w: norm(x, (s.cols,), *w)


@operator(
    "rms_norm",
    f"rows cols weight {_GRADIENTS}",
    "normalisation",
    example={"rows": 6, "cols": 5},
    defaults={key: value for key, value in _AFFINE.items() if key != "bias"},
    quiet=_QUIET,
    backward=_rms_norm_backward,
    call=_rms_norm_call,
    widths=("cols",),
    rows=rows_and_cols,
    variants=short_rows,
)
def rms_norm(s: Any) -> Tally:
    """Root-mean-square normalisation of each row with weight."""
    size, held = s.rows * s.cols, _parameters(s, s.cols)
    return Tally(flop=(3 + s.weight) * size, read=size + held, written=size, parameters=held)


@aten("_fused_rms_norm", "rms_norm", gives="rms_norm")
def _seen_rms_norm(call: Call) -> list[Op]:
    shape = rows_of(call.args[0], prod(call.args[1]))
    made = call.op("rms_norm", weight=call.get("weight") is not None, **shape)
    return [call.holding(made, call.inputs, call.outputs[:1])]


@aten("_fused_rms_norm_backward", gives="rms_norm", direction="backward")
def _seen_rms_norm_backward(call: Call) -> list[Op]:
    return _seen_backward(call, "rms_norm", rows_of(call.args[1], prod(call.args[2])))


draw("rms_norm", count=40)(rows)


def _planes(s: Any) -> tuple[Any, Any]:
    return s.n * s.c, s.h * s.w


def _batch_norm_backward(s: Any) -> Tally:
    """Gradient, input, weight, mean and invstd of each channel; gradients of input, weight and bias.

    Statistics of the batch depend on the input, stored ones do not: one multiplication for the input's gradient.
    """
    size = s.n * s.c * s.h * s.w
    batch = _backward(s, size, s.c, 2 * s.c)
    of_weight = s.grad_weight * s.weight
    stored = (s.grad_input + 4 * of_weight + s.bias) * size
    return Tally(flop=s.train * batch.flop + (1 - s.train) * stored, read=batch.read, written=batch.written)


def _batch_norm_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    mean, variance = t(s.c), t(s.c).abs() + 0.5
    train, norm = bool(s.train), torch.nn.functional.batch_norm
    inputs = (t(s.n, s.c, s.h, s.w), *_given(s, t, s.c))
    return inputs, lambda x, *given: norm(x, mean, variance, *_apart(s, given), training=train)


@operator(
    "batch_norm",
    f"n c h w train weight bias {_GRADIENTS}",
    "normalisation",
    example={"n": 2, "c": 3, "h": 4, "w": 5},
    defaults={"w": "h", "train": 0} | _AFFINE,
    quiet=_QUIET,
    backward=_batch_norm_backward,
    call=_batch_norm_call,
    widths=("c",),
    rows=_planes,
    variants=lambda s, _: (("train", s.train == 1),),
)
def batch_norm(s: Any) -> Tally:
    """Batch normalisation with stored statistics (train=0) or with those of the batch (train=1)."""
    size, held = s.n * s.c * s.h * s.w, _parameters(s, s.c)
    # Training updates mean and variance and keeps those of the batch.
    kept = 4 * s.train * s.c
    flop = (2 + s.weight + s.bias + 3 * s.train) * size
    return Tally(flop=flop, read=size + 2 * s.c + held, written=size + kept, parameters=held)


def _planes_of(tensor: Any) -> dict[str, int]:
    rest = prod(tensor.shape[2:])
    return {"n": tensor.shape[0], "c": tensor.shape[1] if tensor.dim() > 1 else 1, "h": rest, "w": 1}


@aten(
    "native_batch_norm",
    "cudnn_batch_norm",
    "miopen_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit_functional",
    "_batch_norm_with_update",
    "_batch_norm_with_update_functional",
    "_batch_norm_no_update",
    gives="batch_norm",
)
def _seen_batch_norm(call: Call) -> list[Op]:
    """Training is an argument, or part of the name; statistics that nobody keeps are the batch's own as well."""
    told = call.get("training", "train")
    train = "with_update" in call.name if told is None else told
    made = call.op("batch_norm", train=train, **_planes_of(call.args[0]), **_affine(call))
    running = [call.get("running_mean"), call.get("running_var")] if train else []
    return [call.holding(made, call.inputs, [*(call.outputs if train else call.outputs[:1]), *running])]


@aten(
    "native_batch_norm_backward",
    "cudnn_batch_norm_backward",
    "miopen_batch_norm_backward",
    "batch_norm_backward",
    gives="batch_norm",
    direction="backward",
)
def _seen_batch_norm_backward(call: Call) -> list[Op]:
    """Of stored statistics and the batch's own those are read that the pass depends on; cuDNN makes every gradient."""
    train = bool(call.get("train", "update")) or "cudnn" in call.name or "miopen" in call.name
    unread = ("running_mean", "running_var") if train else ("save_mean", "save_invstd", "save_var")
    named = [call.get("grad_out", "grad_output"), call.get("input"), call.get("weight")]
    kept = ("running_mean", "running_var", "save_mean", "save_invstd", "save_var")
    mask = call.get("output_mask") or (True, True, True)
    flags = {"weight": named[2] is not None, "bias": mask[2], "grad_input": mask[0], "grad_weight": mask[1]}
    made = call.op("batch_norm", "backward", train=train, **_planes_of(named[1]), **flags)
    read = [*named, *(call.get(name) for name in kept if name not in unread)]
    # A tensor without data stands for a gradient that nobody makes, too.
    kinds = (
        zip(call.outputs, mask, strict=False) if len(call.outputs) == len(mask) else ((x, True) for x in call.outputs)
    )
    return [call.holding(made, read, [tensor for tensor, wanted in kinds if wanted])]


@draw("batch_norm", count=60)
def _batch_norm_sizes(s: Sizes) -> dict[str, Any]:
    return image(s) | {"c": s.log(1, 512), "train": s.pick(0, 0, 1)}


def _group_norm_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    norm = torch.nn.functional.group_norm
    inputs = (t(s.n, s.c, s.h, s.w), *_given(s, t, s.c))
    return inputs, lambda x, *given: norm(x, s.groups, *_apart(s, given))


@operator(
    "group_norm",
    f"n c h w groups weight bias {_GRADIENTS}",
    "normalisation",
    example={"n": 2, "c": 6, "h": 4, "w": 5, "groups": 3},
    defaults={"w": "h"} | _AFFINE,
    quiet=_QUIET,
    check=lambda s: ((s.c % s.groups != 0, "groups must divide c"),),
    backward=lambda s: _backward(s, s.n * s.c * s.h * s.w, s.c, 2 * s.n * s.groups),
    call=_group_norm_call,
    widths=("c",),
    rows=lambda s: (s.n * s.groups, s.c // s.groups * s.h * s.w),
)
def group_norm(s: Any) -> Tally:
    """Normalisation of groups of channels of each image, with a weight and a bias for each channel."""
    size, held = s.n * s.c * s.h * s.w, _parameters(s, s.c)
    return Tally(flop=(5 + s.weight + s.bias) * size, read=size + held, written=size, parameters=held)


@aten("native_group_norm", gives="group_norm")
def _seen_group_norm(call: Call) -> list[Op]:
    made = call.op("group_norm", groups=call.get("group"), **_planes_of(call.args[0]), **_affine(call))
    return [call.holding(made, call.inputs, call.outputs[:1])]


@aten("native_group_norm_backward", gives="group_norm", direction="backward")
def _seen_group_norm_backward(call: Call) -> list[Op]:
    return _seen_backward(call, "group_norm", {"groups": call.get("group"), **_planes_of(call.args[1])})


@draw("group_norm", count=44)
def _group_norm_sizes(s: Sizes) -> dict[str, Any]:
    groups = s.pick(1, 8, 16, 32)
    return image(s) | {"c": groups * s.log(1, 512 // groups), "groups": groups}
