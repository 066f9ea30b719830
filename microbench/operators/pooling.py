"""Pooling: the largest or the mean of a window that slides over images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from microbench.operators.aten import Call, aten
from microbench.operators.core import Op
from microbench.operators.draws import Sizes, draw, image
from microbench.operators.registry import INDEX_BYTES, Faults, Operator, Rule, Tally, TorchCall, add


def _out(s: Any) -> Any:
    return s.n * s.c * ((s.h + 2 * s.pad - s.kh) // s.stride + 1) * ((s.w + 2 * s.pad - s.kw) // s.stride + 1)


def _faults(s: Any) -> Faults:
    return (
        ((s.h + 2 * s.pad < s.kh) | (s.w + 2 * s.pad < s.kw), "the window is larger than the padded input"),
        ((2 * s.pad > s.kh) | (2 * s.pad > s.kw), "pad is at most half the window"),
    )


def _forward(s: Any) -> Tally:
    return Tally(flop=_out(s) * s.kh * s.kw, read=s.n * s.c * s.h * s.w, written=_out(s))


def _max_backward(s: Any) -> Tally:
    """Places of the maxima are read, the input is not."""
    return Tally(flop=_out(s), read=_out(s), written=s.n * s.c * s.h * s.w, index_bytes=INDEX_BYTES * _out(s))


def _avg_backward(s: Any) -> Tally:
    """Each gradient is divided once and added to every element of its window."""
    return Tally(flop=_out(s) * (s.kh * s.kw + 1), read=_out(s), written=s.n * s.c * s.h * s.w)


def _call(name: str) -> TorchCall:
    def call(torch: Any, s: Any, t: Callable[..., Any]) -> tuple[tuple[Any, ...], Callable[..., Any]]:
        pool = getattr(torch.nn.functional, name)
        return (t(s.n, s.c, s.h, s.w),), lambda x: pool(x, (s.kh, s.kw), s.stride, s.pad)

    return call


def _coordinates(s: Any, _: Any) -> list[Any]:
    return [np.log(s.n * s.c), np.log(s.h * s.w), np.log(s.kh * s.kw), np.log(s.stride)]


def _add(name: str, backward: Rule) -> None:
    add(
        Operator(
            name=name,
            family="pooling",
            keys=("n", "c", "h", "w", "kh", "kw", "stride", "pad"),
            says=f"{name[:3]} over a kh x kw window that moves by stride",
            example={"n": 2, "c": 3, "h": 9, "w": 8, "kh": 3, "stride": 2, "pad": 1},
            defaults={"w": "h", "kw": "kh", "stride": 1, "pad": 0},
            check=_faults,
            forward=_forward,
            backward=backward,
            call=_call(name),
            widths=("c",),
            rows=lambda s: (s.n * s.c, s.h * s.w),
            coordinates=_coordinates,
        )
    )


_add("max_pool2d", _max_backward)
_add("avg_pool2d", _avg_backward)


def _seen_shape(x: Any, window: Sequence[int], stride: Sequence[int], pad: Sequence[int]) -> dict[str, int]:
    return {
        "n": prod(x.shape[:-3]),
        "c": x.shape[-3],
        "h": x.shape[-2],
        "w": x.shape[-1],
        "kh": window[0],
        "kw": window[-1],
        "stride": max(stride or window),
        "pad": max(pad) if pad else 0,
    }


@aten("max_pool2d_with_indices", "max_pool2d", gives="max_pool2d")
def _seen_max(call: Call) -> list[Op]:
    return [call.op("max_pool2d", **_seen_shape(call.args[0], call.args[1], call.arg(2, []), call.arg(3, [0])))]


@aten("avg_pool2d", gives="avg_pool2d")
def _seen_avg(call: Call) -> list[Op]:
    return [call.op("avg_pool2d", **_seen_shape(call.args[0], call.args[1], call.arg(2, []), call.arg(3, [0])))]


@aten("max_pool2d_with_indices_backward", gives="max_pool2d", direction="backward")
def _seen_max_backward(call: Call) -> list[Op]:
    return [call.op("max_pool2d", "backward", **_seen_shape(call.args[1], call.args[2], call.args[3], call.args[4]))]


@aten("avg_pool2d_backward", gives="avg_pool2d", direction="backward")
def _seen_avg_backward(call: Call) -> list[Op]:
    return [call.op("avg_pool2d", "backward", **_seen_shape(call.args[1], call.args[2], call.args[3], call.args[4]))]


@draw("max_pool2d", "avg_pool2d", name="pooling", count=70)
def _sizes(s: Sizes) -> dict[str, Any]:
    kernel, stride = s.pick((2, 2), (3, 2), (3, 1))
    return image(s) | {"c": s.log(1, 512), "kh": kernel, "stride": stride, "pad": kernel // 2 if kernel == 3 else 0}
