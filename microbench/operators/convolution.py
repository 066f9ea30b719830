"""Convolution of sequences, images and volumes and its transpose: dense, grouped, depthwise.

``grad_input`` and ``grad_weight`` say which gradients a backward pass makes (both, unless said), ``bias`` there whether
that of the bias. A first layer makes none of its input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from microbench.operators.aten import Call, aten
from microbench.operators.core import Op
from microbench.operators.draws import Drawn, Sizes, draw, image
from microbench.operators.registry import ALIGNMENT, Faults, Tally, alignment, operator
from microbench.operators.windows import axes, defaults, either, keys, product, seen

# Elements of a single image that PyTorch leaves to a kernel of its own, at a tenth of the fixed cost of the library's.
_SMALL_IMAGE = 20480
_STEPS = ("stride", "pad", "dilation")
_GRADIENTS = {"grad_input": 1, "grad_weight": 1}


def _keys(rank: int, *more: str) -> tuple[str, dict[str, int | str], tuple[str, ...]]:
    """Keys of a convolution, their defaults, and which are printed only where they differ."""
    sides = "h w kh kw" if rank == 2 else "d h w kd kh kw"
    quiet = (*more, *keys(rank, *_STEPS, *more), *(("channels_last",) if rank == 2 else ()), *_GRADIENTS)
    fixed: dict[str, int | str] = {"stride": 1, "pad": 0, "dilation": 1, "groups": 1, "bias": 0}
    given = dict.fromkeys((*more, "channels_last"), 0) | _GRADIENTS
    missing = defaults(rank, *_STEPS, *more) | fixed | {key: given[key] for key in quiet if key in given}
    return f"n c_in c_out {sides} stride pad dilation groups bias {' '.join(quiet)}", missing, quiet


Built = tuple[tuple[Any, ...], Callable[..., Any]]


def _groups_fault(s: Any) -> tuple[Any, str]:
    return (s.c_in % s.groups != 0) | (s.c_out % s.groups != 0), "groups must divide c_in and c_out"


def _faults(rank: int) -> Callable[[Any], Faults]:
    def faults(s: Any) -> Faults:
        larger = either([each.size + 2 * each.pad < each.reach for each in axes(s, rank)])
        return _groups_fault(s), (larger, "the kernel is larger than the padded input")

    return faults


def _transposed_faults(rank: int) -> Callable[[Any], Faults]:
    def faults(s: Any) -> Faults:
        nothing = either([each.spread < 1 for each in axes(s, rank)])
        return _groups_fault(s), (nothing, "the padding leaves no output")

    return faults


def _sizes(s: Any, rank: int) -> tuple[Any, Any, Any, Any]:
    """Inputs, outputs, weights and FLOP."""
    window = axes(s, rank)
    kernel = product([each.kernel for each in window])
    weights = s.c_out * (s.c_in // s.groups) * kernel + s.bias * s.c_out
    outputs = s.n * s.c_out * product([each.places for each in window])
    inputs = s.n * s.c_in * product([each.size for each in window])
    return inputs, outputs, weights, 2 * outputs * (s.c_in // s.groups) * kernel


def _transposed_sizes(s: Any, rank: int) -> tuple[Any, Any, Any, Any]:
    window = axes(s, rank)
    kernel = product([each.kernel for each in window])
    weights = s.c_in * (s.c_out // s.groups) * kernel + s.bias * s.c_out
    inputs = s.n * s.c_in * product([each.size for each in window])
    outputs = s.n * s.c_out * product([each.spread for each in window])
    return inputs, outputs, weights, 2 * inputs * (s.c_out // s.groups) * kernel


def _forward(sizes: tuple[Any, Any, Any, Any]) -> Tally:
    inputs, outputs, weights, flop = sizes
    return Tally(flop=flop, read=inputs + weights, written=outputs, parameters=weights)


def _backward(sizes: Any, s: Any) -> Tally:
    """One product for each gradient that is made."""
    inputs, outputs, weights, flop = sizes
    kernels = weights - s.bias * s.c_out
    return Tally(
        flop=(s.grad_input + s.grad_weight) * flop + s.bias * outputs,
        read=outputs + s.grad_weight * inputs + s.grad_input * kernels,
        written=s.grad_input * inputs + s.grad_weight * kernels + s.bias * s.c_out,
    )


def _gemm(rank: int) -> Callable[[Any], tuple[Any, Any, Any, Any]]:
    def gemm(s: Any) -> tuple[Any, Any, Any, Any]:
        window = axes(s, rank)
        outputs = s.n * product([each.places for each in window])
        return s.groups, outputs, s.c_out // s.groups, s.c_in // s.groups * product([each.kernel for each in window])

    return gemm


def _transposed_gemm(rank: int) -> Callable[[Any], tuple[Any, Any, Any, Any]]:
    def gemm(s: Any) -> tuple[Any, Any, Any, Any]:
        window = axes(s, rank)
        inputs = s.n * product([each.size for each in window])
        return s.groups, inputs, s.c_out // s.groups * product([each.kernel for each in window]), s.c_in // s.groups

    return gemm


def _laid_out_anew(rank: int, sizes: Callable[[Any, int], tuple[Any, Any, Any, Any]]) -> Callable[[Any], Any]:
    """A library works on images in blocks of channels: copies of its input and of its result."""
    return lambda s: sizes(s, rank)[:2]


def _small(s: Any) -> tuple[str, Any]:
    small = (s.n == 1) & (s.c_in * s.h * s.w <= _SMALL_IMAGE) & (s.kh <= 3) & (s.kw <= 3)
    return "small", (s.groups == 1) & small


def _by_groups(s: Any, _: Any) -> tuple[tuple[str, Any], ...]:
    return ("grouped", s.groups > 1), ("depthwise", (s.groups > 1) & (s.groups == s.c_in))


def _variants(s: Any, _: Any) -> tuple[tuple[str, Any], ...]:
    depthwise = (s.groups > 1) & (s.groups == s.c_in)
    return (
        *_by_groups(s, _),
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
    high, wide = axes(s, 2)
    fits = s.groups == 1
    for each in (high, wide):
        fits = fits & (each.kernel == 3) & (each.stride == 1) & (each.dilation == 1)
    sides = [each.size + 2 * each.pad - 2 for each in (high, wide)]
    tiles = [s.n * np.ceil(sides[0] / side) * np.ceil(sides[1] / side) for side in (4, 2)]
    return fits, *tiles, s.c_out, s.c_in


def _coordinates(s: Any, gemm: Any) -> list[Any]:
    """The product inside, and what decides between algorithms: kernel, stride, image, dilation, channels per group."""
    window = axes(s, 3 if "d" in s else 2)
    return [
        *(np.log(gemm[:, place]) for place in range(4)),
        np.log(product([each.kernel for each in window])),
        np.log(product([each.stride for each in window])) / len(window),
        np.log(product([each.size for each in window])) / len(window),
        # Depthwise kernels take their vectors across channels, all others within a group.
        0.5 * alignment(np.where(s.groups == s.c_in, s.c_in, s.c_in / s.groups)),
        0.5 * alignment(np.where(s.groups == s.c_in, s.c_out, s.c_out / s.groups)),
    ]


def _laid_out(torch: Any, s: Any, *tensors: Any) -> tuple[Any, ...]:
    if not s.channels_last:
        return tensors
    return tuple(tensor.contiguous(memory_format=torch.channels_last) for tensor in tensors)


def _options(s: Any) -> dict[str, Any]:
    high, wide = axes(s, 2)
    names = {"stride": "stride", "padding": "pad", "dilation": "dilation"}
    return {option: (getattr(high, name), getattr(wide, name)) for option, name in names.items()} | {"groups": s.groups}


def _call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    bias = (t(s.c_out),) if s.bias else ()
    options = _options(s)
    images, kernels = t(s.n, s.c_in, s.h, s.w), t(s.c_out, s.c_in // s.groups, s.kh, s.kw)
    return (*_laid_out(torch, s, images, kernels), *bias), lambda *x: torch.nn.functional.conv2d(*x, **options)


def _transposed_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    bias = (t(s.c_out),) if s.bias else ()
    options = _options(s) | {"output_padding": (s.out_pad, s.out_pad_w)}
    images, kernels = t(s.n, s.c_in, s.h, s.w), t(s.c_in, s.c_out // s.groups, s.kh, s.kw)
    inputs = (*_laid_out(torch, s, images, kernels), *bias)
    return inputs, lambda *x: torch.nn.functional.conv_transpose2d(*x, **options)


_PLAIN, _PLAIN_DEFAULTS, _PLAIN_QUIET = _keys(2)
_TURNED, _TURNED_DEFAULTS, _TURNED_QUIET = _keys(2, "out_pad")
_SOLID, _SOLID_DEFAULTS, _SOLID_QUIET = _keys(3)
_SOLID_TURNED, _SOLID_TURNED_DEFAULTS, _SOLID_TURNED_QUIET = _keys(3, "out_pad")
_AS_IMAGES = "volumes are predicted from what images taught of the family"
_UNMEASURED = {"call": _AS_IMAGES, "draws": _AS_IMAGES}


@operator(
    "conv2d",
    _PLAIN,
    "convolution",
    example={"n": 2, "c_in": 4, "c_out": 6, "h": 9, "w": 8, "kh": 3, "pad": 1, "stride": 2, "groups": 2},
    defaults=_PLAIN_DEFAULTS,
    quiet=_PLAIN_QUIET,
    check=_faults(2),
    backward=lambda s: _backward(_sizes(s, 2), s),
    call=_call,
    widths=("c_in", "c_out"),
    gemm=_gemm(2),
    variants=_variants,
    scratch=_laid_out_anew(2, _sizes),
    coordinates=_coordinates,
    winograd=_winograd,
)
def conv2d(s: Any) -> Tally:
    """Convolution of n images; dense, grouped or (groups = c_in) depthwise. h and w are those of the input."""
    return _forward(_sizes(s, 2))


@operator(
    "conv_transpose2d",
    _TURNED,
    "convolution",
    example={"n": 2, "c_in": 4, "c_out": 6, "h": 5, "w": 4, "kh": 3, "stride": 2, "groups": 2},
    defaults=_TURNED_DEFAULTS,
    quiet=_TURNED_QUIET,
    check=_transposed_faults(2),
    backward=lambda s: _backward(_transposed_sizes(s, 2), s),
    call=_transposed_call,
    widths=("c_in", "c_out"),
    gemm=_transposed_gemm(2),
    variants=lambda s, _: (_small(s), ("channels_last", s.channels_last == 1)),
    scratch=_laid_out_anew(2, _transposed_sizes),
    coordinates=_coordinates,
)
def conv_transpose2d(s: Any) -> Tally:
    """Transposed convolution of n images; h and w are those of the input."""
    return _forward(_transposed_sizes(s, 2))


@operator(
    "conv3d",
    _SOLID,
    "convolution",
    example={"n": 2, "c_in": 4, "c_out": 6, "d": 5, "h": 9, "w": 8, "kd": 2, "kh": 3, "pad": 1, "stride": 2},
    defaults=_SOLID_DEFAULTS,
    quiet=_SOLID_QUIET,
    check=_faults(3),
    backward=lambda s: _backward(_sizes(s, 3), s),
    widths=("c_in", "c_out"),
    gemm=_gemm(3),
    variants=_by_groups,
    scratch=_laid_out_anew(3, _sizes),
    coordinates=_coordinates,
    without=_UNMEASURED,
)
def conv3d(s: Any) -> Tally:
    """Convolution of n volumes; dense, grouped or (groups = c_in) depthwise. d, h and w are those of the input."""
    return _forward(_sizes(s, 3))


@operator(
    "conv_transpose3d",
    _SOLID_TURNED,
    "convolution",
    example={"n": 2, "c_in": 4, "c_out": 6, "d": 3, "h": 5, "w": 4, "kd": 2, "kh": 3, "stride": 2},
    defaults=_SOLID_TURNED_DEFAULTS,
    quiet=_SOLID_TURNED_QUIET,
    check=_transposed_faults(3),
    backward=lambda s: _backward(_transposed_sizes(s, 3), s),
    widths=("c_in", "c_out"),
    gemm=_transposed_gemm(3),
    variants=_by_groups,
    scratch=_laid_out_anew(3, _transposed_sizes),
    coordinates=_coordinates,
    without=_UNMEASURED,
)
def conv_transpose3d(s: Any) -> Tally:
    """Transposed convolution of n volumes; d, h and w are those of the input."""
    return _forward(_transposed_sizes(s, 3))


_ALL = ("conv2d", "conv_transpose2d", "conv3d", "conv_transpose3d")


def _seen_shape(call: Call) -> tuple[str, dict[str, int]]:
    x, w, transposed = call.get("input", "self"), call.get("weight"), bool(call.get("transposed"))
    rank = w.dim() - 2
    shape = seen(
        x.shape[-rank:],
        w.shape[2:],
        stride=call.get("stride") or [1],
        pad=call.get("padding") or [0],
        dilation=call.get("dilation") or [1],
        **({"out_pad": call.get("output_padding") or [0]} if transposed else {}),
    )
    # Older names have no groups: as many as the weight's channels leave.
    groups = call.get("groups") or (1 if transposed else max(1, x.shape[1] // w.shape[1]))
    shape |= {"n": x.shape[0], "c_in": x.shape[1], "groups": groups}
    shape["c_out"] = w.shape[1] * groups if transposed else w.shape[0]
    if rank == 2:
        shape["channels_last"] = x.shape[1] > 1 and x.stride()[1] == 1 and not x.is_contiguous()
    return f"conv{'_transpose' if transposed else ''}{max(rank, 2)}d", shape


@aten(
    "convolution",
    "_convolution",
    "convolution_overrideable",
    "mkldnn_convolution",
    "cudnn_convolution",
    "miopen_convolution",
    "_slow_conv2d_forward",
    "slow_conv3d_forward",
    "_conv_depthwise2d",
    "conv_depthwise3d",
    gives=_ALL,
)
def _seen(call: Call) -> list[Op]:
    name, shape = _seen_shape(call)
    made = call.op(name, bias=call.get("bias") is not None, **shape)
    return [call.holding(made, call.inputs, call.outputs[:1])]


@aten("convolution_backward", "convolution_backward_overrideable", gives=_ALL, direction="backward")
def _seen_backward(call: Call) -> list[Op] | None:
    name, shape = _seen_shape(call)
    of_input, of_weight, of_bias = call.get("output_mask")
    if not (of_input or of_weight or of_bias):
        return []
    made = call.op(name, "backward", bias=of_bias, grad_input=of_input, grad_weight=of_weight, **shape)
    read = [call.args[0], call.get("input") if of_weight else None, call.get("weight") if of_input else None]
    return [call.holding(made, read, call.outputs)]


@draw("conv2d", count=150)
def _dense(s: Sizes) -> dict[str, Any]:
    kind = s.pick("body", "body", "body", "body", "body", "stem", "patches")
    if kind == "stem":
        kernel, stride = s.pick((7, 2), (3, 2), (11, 4), (3, 1))
        side = s.pick(224, 224, s.log(64, 320))
        shape = {"c_in": s.pick(3, 3, 1, 4), "c_out": s.log(8, 128), "kh": kernel, "stride": stride, "pad": kernel // 2}
        return image(s) | {"h": side} | shape
    if kind == "patches":
        side = s.pick(2, 4, 8, 14, 16)
        shape = {"c_in": 3 if side > 2 else s.log(32, 384), "c_out": s.log(64, 768), "kh": side, "stride": side}
        return image(s) | {"h": s.pick(224, 224, side * s.log(4, 24)) if side > 2 else s.pick(14, 28, 56)} | shape
    kernel = s.pick(1, 1, 3, 3, 3, 5, 7)
    return image(s) | {
        "c_in": s.pick(s.log(1, 512), s.log(8, 512), s.log(16, 1024)),
        "c_out": s.pick(s.log(4, 512), s.log(16, 2048)),
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
