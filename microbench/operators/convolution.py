"""Convolution of images and its transpose: dense, grouped, depthwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from microbench.operators.aten import Call, aten
from microbench.operators.core import Op
from microbench.operators.draws import Drawn, Sizes, draw, image
from microbench.operators.registry import ALIGNMENT, Faults, Tally, alignment, operator

# Elements of a single image that PyTorch leaves to a kernel of its own, at a tenth of the fixed cost of the library's.
_SMALL_IMAGE = 20480
_KEYS = "n c_in c_out h w kh kw stride pad dilation groups bias channels_last"
_DEFAULTS: dict[str, int | str] = {
    "w": "h",
    "kw": "kh",
    "stride": 1,
    "pad": 0,
    "dilation": 1,
    "groups": 1,
    "bias": 0,
    "channels_last": 0,
}

Built = tuple[tuple[Any, ...], Callable[..., Any]]


def _out(size: Any, kernel: Any, s: Any) -> Any:
    return (size + 2 * s.pad - s.dilation * (kernel - 1) - 1) // s.stride + 1


def _out_transposed(size: Any, kernel: Any, s: Any) -> Any:
    return (size - 1) * s.stride - 2 * s.pad + s.dilation * (kernel - 1) + 1


def _groups_fault(s: Any) -> tuple[Any, str]:
    return (s.c_in % s.groups != 0) | (s.c_out % s.groups != 0), "groups must divide c_in and c_out"


def _faults(s: Any) -> Faults:
    larger = (s.h + 2 * s.pad < s.dilation * (s.kh - 1) + 1) | (s.w + 2 * s.pad < s.dilation * (s.kw - 1) + 1)
    return _groups_fault(s), (larger, "the kernel is larger than the padded input")


def _transposed_faults(s: Any) -> Faults:
    nothing = (_out_transposed(s.h, s.kh, s) < 1) | (_out_transposed(s.w, s.kw, s) < 1)
    return _groups_fault(s), (nothing, "the padding leaves no output")


def _sizes(s: Any) -> tuple[Any, Any, Any, Any]:
    """Inputs, outputs, weights and FLOP."""
    weights = s.c_out * (s.c_in // s.groups) * s.kh * s.kw + s.bias * s.c_out
    outputs = s.n * s.c_out * _out(s.h, s.kh, s) * _out(s.w, s.kw, s)
    return s.n * s.c_in * s.h * s.w, outputs, weights, 2 * outputs * (s.c_in // s.groups) * s.kh * s.kw


def _transposed_sizes(s: Any) -> tuple[Any, Any, Any, Any]:
    weights = s.c_in * (s.c_out // s.groups) * s.kh * s.kw + s.bias * s.c_out
    inputs = s.n * s.c_in * s.h * s.w
    outputs = s.n * s.c_out * _out_transposed(s.h, s.kh, s) * _out_transposed(s.w, s.kw, s)
    return inputs, outputs, weights, 2 * inputs * (s.c_out // s.groups) * s.kh * s.kw


def _backward(sizes: Any, s: Any) -> Tally:
    inputs, outputs, weights, flop = sizes
    return Tally(
        flop=2 * flop + s.bias * outputs, read=inputs + outputs + weights - s.bias * s.c_out, written=inputs + weights
    )


def _gemm(s: Any) -> tuple[Any, Any, Any, Any]:
    outputs = s.n * _out(s.h, s.kh, s) * _out(s.w, s.kw, s)
    return s.groups, outputs, s.c_out // s.groups, s.c_in // s.groups * s.kh * s.kw


def _transposed_gemm(s: Any) -> tuple[Any, Any, Any, Any]:
    return s.groups, s.n * s.h * s.w, s.c_out // s.groups * s.kh * s.kw, s.c_in // s.groups


def _small(s: Any) -> tuple[str, Any]:
    small = (s.n == 1) & (s.c_in * s.h * s.w <= _SMALL_IMAGE) & (s.kh <= 3) & (s.kw <= 3)
    return "small", (s.groups == 1) & small


def _variants(s: Any, _: Any) -> tuple[tuple[str, Any], ...]:
    depthwise = (s.groups > 1) & (s.groups == s.c_in)
    return (
        ("grouped", s.groups > 1),
        ("depthwise", depthwise),
        # Channels that do not fill the widest vectors are left to a slower kernel.
        ("depthwise.ragged", depthwise & (s.c_in % ALIGNMENT > 0)),
        _small(s),
        *_channels_last(s, depthwise),
    )


def _channels_last(s: Any, depthwise: Any) -> tuple[tuple[str, Any], ...]:
    """Images whose channels lie together in memory are work for other kernels."""
    last = s.channels_last == 1
    return (
        ("channels_last", last),
        ("grouped.channels_last", last & (s.groups > 1)),
        ("depthwise.channels_last", last & depthwise),
    )


def _winograd(s: Any) -> tuple[Any, ...]:
    """Dense 3 x 3 kernels of stride 1."""
    fits = (s.kh == 3) & (s.kw == 3) & (s.stride == 1) & (s.dilation == 1) & (s.groups == 1)
    high, wide = s.h + 2 * s.pad - 2, s.w + 2 * s.pad - 2
    tiles = [s.n * np.ceil(high / side) * np.ceil(wide / side) for side in (4, 2)]
    return fits, *tiles, s.c_out, s.c_in


def _coordinates(s: Any, gemm: Any) -> list[Any]:
    """The product inside, and what decides between algorithms: kernel, stride, image, dilation, channels per group."""
    return [
        *(np.log(gemm[:, place]) for place in range(4)),
        np.log(s.kh * s.kw),
        np.log(s.stride),
        0.5 * np.log(s.h * s.w),
        # Depthwise kernels take their vectors across channels, all others within a group.
        0.5 * alignment(np.where(s.groups == s.c_in, s.c_in, s.c_in / s.groups)),
        0.5 * alignment(np.where(s.groups == s.c_in, s.c_out, s.c_out / s.groups)),
    ]


def _laid_out(torch: Any, s: Any, *tensors: Any) -> tuple[Any, ...]:
    if not s.channels_last:
        return tensors
    return tuple(tensor.contiguous(memory_format=torch.channels_last) for tensor in tensors)


def _call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    bias = (t(s.c_out),) if s.bias else ()
    options = {"stride": s.stride, "padding": s.pad, "dilation": s.dilation, "groups": s.groups}
    images, kernels = t(s.n, s.c_in, s.h, s.w), t(s.c_out, s.c_in // s.groups, s.kh, s.kw)
    return (*_laid_out(torch, s, images, kernels), *bias), lambda *x: torch.nn.functional.conv2d(*x, **options)


def _transposed_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    bias = (t(s.c_out),) if s.bias else ()
    options = {"stride": s.stride, "padding": s.pad, "dilation": s.dilation, "groups": s.groups}
    images, kernels = t(s.n, s.c_in, s.h, s.w), t(s.c_in, s.c_out // s.groups, s.kh, s.kw)
    inputs = (*_laid_out(torch, s, images, kernels), *bias)
    return inputs, lambda *x: torch.nn.functional.conv_transpose2d(*x, **options)


@operator(
    "conv2d",
    _KEYS,
    "convolution",
    example={"n": 2, "c_in": 4, "c_out": 6, "h": 9, "w": 8, "kh": 3, "pad": 1, "stride": 2, "groups": 2},
    defaults=_DEFAULTS,
    check=_faults,
    backward=lambda s: _backward(_sizes(s), s),
    call=_call,
    widths=("c_in", "c_out"),
    gemm=_gemm,
    variants=_variants,
    coordinates=_coordinates,
    winograd=_winograd,
)
def conv2d(s: Any) -> Tally:
    """Convolution of n images; dense, grouped or (groups = c_in) depthwise. h and w are those of the input."""
    inputs, outputs, weights, flop = _sizes(s)
    return Tally(flop=flop, read=inputs + weights, written=outputs, parameters=weights)


@operator(
    "conv_transpose2d",
    _KEYS,
    "convolution",
    example={"n": 2, "c_in": 4, "c_out": 6, "h": 5, "w": 4, "kh": 3, "stride": 2, "groups": 2},
    defaults=_DEFAULTS,
    check=_transposed_faults,
    backward=lambda s: _backward(_transposed_sizes(s), s),
    call=_transposed_call,
    widths=("c_in", "c_out"),
    gemm=_transposed_gemm,
    variants=lambda s, _: (_small(s), ("channels_last", s.channels_last == 1)),
    coordinates=_coordinates,
)
def conv_transpose2d(s: Any) -> Tally:
    """Transposed convolution of n images; h and w are those of the input."""
    inputs, outputs, weights, flop = _transposed_sizes(s)
    return Tally(flop=flop, read=inputs + weights, written=outputs, parameters=weights)


def _seen_shape(x: Any, w: Any, options: Sequence[Any]) -> tuple[str, dict[str, int]]:
    stride, pad, dilation, transposed, groups = options
    one = x.dim() == 3
    height = 1 if one else x.shape[2]
    last = x.dim() == 4 and x.shape[1] > 1 and x.stride()[1] == 1 and not x.is_contiguous()
    shape = {"n": x.shape[0], "h": height, "w": x.shape[-1], "kh": 1 if one else w.shape[2], "kw": w.shape[-1]}
    shape |= {
        "stride": max(stride),
        "pad": max(pad) if not one else 0,
        "dilation": max(dilation),
        "groups": groups,
        "c_in": x.shape[1],
        "channels_last": int(last),
    }
    if one:
        shape["w"] += 2 * max(pad)
    return ("conv_transpose2d" if transposed else "conv2d"), shape | {
        "c_out": w.shape[1] * groups if transposed else w.shape[0]
    }


_BOTH = ("conv2d", "conv_transpose2d")


@aten("convolution", "_convolution", "mkldnn_convolution", "cudnn_convolution", gives=_BOTH)
def _seen(call: Call) -> list[Op]:
    x, w, bias, stride, pad, dilation, transposed, _, groups = call.args[:9]
    name, shape = _seen_shape(x, w, (stride, pad, dilation, transposed, groups))
    return [call.op(name, bias=bias is not None, **shape)]


@aten("convolution_backward", gives=_BOTH, direction="backward")
def _seen_backward(call: Call) -> list[Op]:
    _, x, w, bias, stride, pad, dilation, transposed, _, groups = call.args[:10]
    name, shape = _seen_shape(x, w, (stride, pad, dilation, transposed, groups))
    return [call.op(name, "backward", bias=bias is not None, **shape)]


@draw("conv2d", count=150)
def _dense(s: Sizes) -> dict[str, Any]:
    kernel = s.pick(1, 1, 3, 3, 3, 5, 7)
    return image(s) | {
        "c_in": s.pick(3, s.log(1, 512), s.log(8, 512), s.log(16, 512)),
        "c_out": s.log(4, 512),
        "kh": kernel,
        "pad": s.pick(kernel // 2, kernel // 2, 0),
        "stride": s.pick(1, 1, 1, 2),
    }


@draw("conv2d", name="conv2d.grouped", count=80)
def _grouped(s: Sizes) -> dict[str, Any]:
    groups = s.pick(2, 4, 8, 16, 32)
    return image(s) | {
        "c_in": groups * s.log(2, 32),
        "c_out": groups * s.log(2, 32),
        "groups": groups,
        "kh": s.pick(1, 3, 3),
        "pad": 1,
    }


@draw("conv2d", name="conv2d.depthwise", count=150)
def _depthwise(s: Sizes) -> dict[str, Any]:
    channels, kernel = s.log(8, 1024), s.pick(3, 3, 5, 7)
    shape = {
        "c_in": channels,
        "c_out": channels,
        "groups": channels,
        "kh": kernel,
        "pad": kernel // 2,
        "stride": s.pick(1, 1, 2),
    }
    return image(s) | shape


@draw("conv2d", name="conv2d.channels_last", count=150, on=("cuda",))
def _images_with_channels_last(s: Sizes) -> dict[str, Any]:
    """What tensor cores take without turning it: all three kinds of convolution."""
    kind: Drawn = s.pick(_dense, _dense, _grouped, _depthwise)
    return kind(s) | {"channels_last": 1}


@draw("conv_transpose2d", count=110)
def _transposed(s: Sizes) -> dict[str, Any]:
    kernel = s.pick(2, 3, 4)
    return image(s) | {
        "c_in": s.log(4, 256),
        "c_out": s.log(4, 256),
        "kh": kernel,
        "stride": s.pick(1, 2, 2),
        "pad": s.pick(0, 1),
    }
