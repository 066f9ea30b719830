"""Pooling: the largest or the mean of a window that slides over sequences, images or volumes."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from microbench.operators.aten import Call, aten
from microbench.operators.core import Op
from microbench.operators.draws import Sizes, draw, image
from microbench.operators.registry import INDEX_BYTES, Faults, Operator, Rule, Tally, TorchCall, add
from microbench.operators.windows import axes, defaults, either, keys, product, seen

_STEPS = ("stride", "pad", "dilation")
_AS_IMAGES = "volumes are predicted from what images taught of the family"


def _rank(s: Any) -> int:
    return 3 if "d" in s else 2


def _in(s: Any) -> Any:
    return s.n * s.c * product([each.size for each in axes(s, _rank(s))])


def _out(s: Any) -> Any:
    return s.n * s.c * product([each.places for each in axes(s, _rank(s))])


def _window(s: Any) -> Any:
    return product([each.kernel for each in axes(s, _rank(s))])


def _faults(s: Any) -> Faults:
    window = axes(s, _rank(s))
    larger = either([each.size + 2 * each.pad < each.reach for each in window])
    padded = either([2 * each.pad > each.reach for each in window])
    return (larger, "the window is larger than the padded input"), (padded, "pad is at most half the window")


def _forward(s: Any) -> Tally:
    return Tally(flop=_out(s) * _window(s), read=_in(s), written=_out(s))


def _max_backward(s: Any) -> Tally:
    """Places of the maxima are read, the input is not."""
    return Tally(flop=_out(s), read=_out(s), written=_in(s), index_bytes=INDEX_BYTES * _out(s))


def _avg_backward(s: Any) -> Tally:
    """Each gradient is divided once and added to every element of its window."""
    return Tally(flop=_out(s) * (_window(s) + 1), read=_out(s), written=_in(s))


def _call(name: str) -> TorchCall:
    def call(torch: Any, s: Any, t: Callable[..., Any]) -> tuple[tuple[Any, ...], Callable[..., Any]]:
        pool = getattr(torch.nn.functional, name)
        high, wide = axes(s, 2)
        options = {
            "stride": (high.stride, wide.stride),
            "padding": (high.pad, wide.pad),
            "ceil_mode": bool(s.ceil),
            **({"dilation": (high.dilation, wide.dilation)} if name.startswith("max") else {}),
        }
        return (t(s.n, s.c, s.h, s.w),), lambda x: pool(x, (s.kh, s.kw), **options)

    return call


def _coordinates(s: Any, _: Any) -> list[Any]:
    window = axes(s, _rank(s))
    stride = np.log(product([each.stride for each in window])) / len(window)
    return [np.log(s.n * s.c), np.log(product([each.size for each in window])), np.log(_window(s)), stride]


def _add(name: str, backward: Rule) -> None:
    rank = int(name[-2])
    sides = ("h", "w", "kh", "kw") if rank == 2 else ("d", "h", "w", "kd", "kh", "kw")
    further = keys(rank, *_STEPS)
    example = {"n": 2, "c": 3, "h": 9, "w": 8, "kh": 3, "stride": 2, "pad": 1}
    add(
        Operator(
            name=name,
            family="pooling",
            keys=("n", "c", *sides, "stride", "pad", "dilation", "ceil", *further),
            says=f"{name[:3]} over a window that moves by stride",
            example=example if rank == 2 else example | {"d": 5, "kd": 2},
            defaults=defaults(rank, *_STEPS) | {"stride": 1, "pad": 0, "dilation": 1, "ceil": 0},
            quiet=("dilation", "ceil", *further),
            check=_faults,
            forward=_forward,
            backward=backward,
            call=_call(name) if rank == 2 else None,
            widths=("c",),
            rows=lambda s: (s.n * s.c, _in(s) / (s.n * s.c)),
            coordinates=_coordinates,
            without={} if rank == 2 else {"call": _AS_IMAGES, "draws": _AS_IMAGES},
        )
    )


for _name, _gradient in (("max_pool", _max_backward), ("avg_pool", _avg_backward)):
    _add(f"{_name}2d", _gradient)
    _add(f"{_name}3d", _gradient)


def _seen_shape(call: Call, x: Any) -> tuple[str, dict[str, int]]:
    """Which pooling it is; its input may have no batch, and its channels belong to no window."""
    rank = int(call.name.partition("pool")[2][0])
    window = call.get("kernel_size")
    shape = seen(
        x.shape[-rank:],
        window,
        stride=call.get("stride") or window,
        pad=call.get("padding") or [0],
        dilation=call.get("dilation") or [1],
    )
    shape |= {"c": x.shape[-rank - 1], "n": prod(x.shape[: -rank - 1]), "ceil": int(bool(call.get("ceil_mode")))}
    return f"{'avg' if 'avg' in call.name else 'max'}_pool{max(rank, 2)}d", shape


_ALL = ("max_pool2d", "avg_pool2d", "max_pool3d", "avg_pool3d")


@aten(
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
    "mkldnn_max_pool2d",
    "mkldnn_max_pool3d",
    "quantized_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    gives=_ALL,
)
def _seen(call: Call) -> list[Op]:
    """Places of maxima are not counted as written: inference need not keep them."""
    name, shape = _seen_shape(call, call.args[0])
    return [call.holding(call.op(name, **shape), call.inputs, call.outputs[:1])]


@aten(
    "max_pool2d_with_indices_backward",
    "max_pool3d_with_indices_backward",
    "avg_pool2d_backward",
    "avg_pool3d_backward",
    gives=_ALL,
    direction="backward",
)
def _seen_backward(call: Call) -> list[Op]:
    name, shape = _seen_shape(call, call.get("self"))
    read = (call.get("grad_output"), call.get("indices"))
    return [call.holding(call.op(name, "backward", **shape), read, call.outputs)]


def _overlapping(size: int, places: int) -> int:
    """Elements that the windows of adaptive pooling see along an axis, together."""
    return sum(-(-(place + 1) * size // places) - place * size // places for place in range(places))


@aten(
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    gives=("mean", "pointwise"),
)
def _seen_adaptive(call: Call) -> list[Op]:
    """Windows as wide as it takes: of one size they are rows of a reduction, else they overlap."""
    x, out = call.args[0], call.outputs[0]
    rank = len(call.get("output_size"))
    sizes = list(zip(x.shape[-rank:], out.shape[-rank:], strict=True))
    if any(size % places for size, places in sizes):
        flop = prod(x.shape[:-rank]) * prod(_overlapping(size, places) for size, places in sizes)
        return [call.traffic(call.inputs, [out], flop)]
    made = call.op("mean", rows=out.numel(), cols=x.numel() // out.numel())
    return [call.holding(made, call.inputs, [out])]


@aten("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", gives="mean", direction="backward")
def _seen_adaptive_backward(call: Call) -> list[Op]:
    gradient, out = call.args[0], call.outputs[0]
    if out.numel() % gradient.numel():
        return [call.traffic([gradient], [out])]
    made = call.op("mean", "backward", rows=gradient.numel(), cols=out.numel() // gradient.numel())
    return [call.holding(made, [gradient], [out])]


@aten("adaptive_max_pool2d_backward", "adaptive_max_pool3d_backward", gives="pointwise", direction="backward")
def _seen_adaptive_max_backward(call: Call) -> list[Op]:
    gradient = call.args[0]
    return [call.traffic([gradient, call.get("indices")], call.outputs, gradient.numel())]


@draw("max_pool2d", "avg_pool2d", name="pooling", count=70)
def _sizes(s: Sizes) -> dict[str, Any]:
    kernel, stride = s.pick((2, 2), (3, 2), (3, 1))
    return image(s) | {"c": s.log(1, 512), "kh": kernel, "stride": stride, "pad": kernel // 2 if kernel == 3 else 0}
