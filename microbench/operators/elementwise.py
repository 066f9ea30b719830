"""Operators on every element: arithmetic, activations, and `pointwise` for any other (fills, dropout, optimisers)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from microbench.operators.aten import Call, aten, same_size
from microbench.operators.core import Op
from microbench.operators.draws import Sizes, draw
from microbench.operators.registry import Operator, Rule, Tally, TorchCall, add, operator

# name: (tensors read, FLOP per element, tensors read by backward, FLOP per element of backward, tensors written by
# backward). gelu: x/2 * (1 + erf(x/sqrt 2)). add hands its gradient on untouched: nothing runs.
_COUNTS = {
    "add": (2, 1, 0, 0, 0),
    "mul": (2, 1, 3, 2, 2),
    "div": (2, 1, 3, 4, 2),
    "relu": (1, 1, 2, 1, 1),
    "gelu": (1, 5, 2, 12, 1),
    "silu": (1, 5, 2, 9, 1),
    "tanh": (1, 1, 2, 3, 1),
    "exp": (1, 1, 2, 1, 1),
    "sigmoid": (1, 4, 2, 3, 1),
}
# Aten names that cost what a measured operator costs: those of forward, those of backward.
_NAMES = {
    "add": ("add add_ sub sub_ rsub maximum minimum", ""),
    "mul": ("mul mul_", ""),
    "div": ("div div_", ""),
    "relu": ("relu relu_ clamp clamp_min hardtanh hardtanh_ neg abs", "threshold_backward hardtanh_backward"),
    "gelu": ("gelu", "gelu_backward"),
    "silu": ("silu silu_", "silu_backward"),
    "tanh": ("tanh tanh_", "tanh_backward"),
    "exp": ("exp", ""),
    "sigmoid": ("sigmoid sigmoid_", "sigmoid_backward"),
}
_WITHOUT_NAMES = "autograd calls other elementwise operators, or none"


def _rule(reads: int, flop: int, writes: int) -> Rule:
    return lambda s: Tally(flop=flop * s.size, read=reads * s.size, written=writes * s.size)


def _call(name: str, reads: int) -> TorchCall:
    def call(torch: Any, s: Any, t: Callable[..., Any]) -> tuple[tuple[Any, ...], Callable[..., Any]]:
        where = torch.nn.functional if name in ("relu", "gelu", "silu") else torch
        return tuple(t(s.size) for _ in range(reads)), getattr(where, name)

    return call


def _add(name: str) -> None:
    reads, flop, reads_back, flop_back, writes_back = _COUNTS[name]
    forward, backward = _NAMES[name]
    add(
        Operator(
            name=name,
            family="elementwise",
            keys=("size",),
            says=f"{name} on every element",
            example={"size": 30},
            forward=_rule(reads, flop, 1),
            backward=_rule(reads_back, flop_back, writes_back),
            call=_call(name, reads),
            widths=("size",),
            rows=lambda s: (1, s.size),
            without={} if backward else {"aten backward": _WITHOUT_NAMES},
        )
    )
    same_size(*forward.split(), gives=name)
    same_size(*backward.split(), gives=name, direction="backward")


for _name in _COUNTS:
    _add(_name)


@draw(*_COUNTS, name="elementwise", count=126)
def _sizes(s: Sizes) -> dict[str, Any]:
    return {"size": s.large(64, 6_000_000)}


_ANY = "it stands for any elementwise operator; name one"


@operator(
    "pointwise",
    "size reads writes flop",
    "elementwise",
    example={"size": 30, "reads": 60, "writes": 30, "flop": 30},
    defaults={"reads": "size", "writes": "size", "flop": "size"},
    widths=("size", "reads", "writes", "flop"),
    rows=lambda s: (1, s.size),
    coordinates=lambda s, _: [np.log(np.maximum(s.reads + s.writes, 1)), 0.0],
    without={"backward": "its work is given, not derived", "call": _ANY, "draws": _ANY},
)
def pointwise(s: Any) -> Tally:
    """Any other elementwise operator: elements read and written and FLOP are given (broadcasts, optimiser steps)."""
    return Tally(flop=s.flop, read=s.reads, written=s.writes)


_FILLS = """zeros zeros_like ones ones_like full full_like fill_ zero_ new_zeros new_ones new_full arange fill zero
scalar_tensor bernoulli_ rand randn rand_like randn_like normal_ uniform_ random_ exponential_ log_normal_ cauchy_
geometric_ randint randint_like randperm linspace logspace eye normal_functional uniform tril_indices triu_indices
_efficientzerotensor"""


@aten(*_FILLS.split(), gives="pointwise")
def _filled(call: Call) -> list[Op]:
    return [call.traffic([], call.outputs[:1], 0)]


# Elementwise operators that torch does not tag so.
_UNTAGGED = """bernoulli multinomial normal native_dropout native_dropout_backward _add_relu _masked_scale _prelu_kernel
_prelu_kernel_backward addr binary_cross_entropy_with_logits cauchy complex polar elu_backward exponential floor_divide
geometric glu glu_backward hardsigmoid_backward hardswish hardswish_backward isin leaky_relu_backward log_normal
log_sigmoid_forward log_sigmoid_backward poisson renorm rrelu_with_noise rrelu_with_noise_backward
rrelu_with_noise_functional softplus_backward masked_scatter_backward affine_grid_generator"""


@aten(*_UNTAGGED.split(), gives="pointwise")
def _passed(call: Call) -> list[Op]:
    return [call.pointwise()]


_PLACED = """slice_backward select_backward diagonal_backward unfold_backward slice_scatter select_scatter
diagonal_scatter as_strided_scatter embedding_renorm_ tril triu tril_ triu_"""


@aten(*_PLACED.split(), gives="pointwise")
def _placed(call: Call) -> list[Op]:
    """Elements keep their values; the rest are zeros or what was there."""
    return [call.traffic(call.inputs, call.outputs, 0)]


@aten("_weight_norm_interface", gives="pointwise")
def _seen_weight_norm(call: Call) -> list[Op]:
    """Square, add, divide and multiply for each weight."""
    return [call.traffic(call.inputs, call.outputs, 4 * call.inputs[0].numel())]


@aten("_weight_norm_interface_backward", gives="pointwise", direction="backward")
def _seen_weight_norm_backward(call: Call) -> list[Op]:
    return [call.traffic(call.inputs, call.outputs, 6 * call.inputs[0].numel())]
