"""Operators of which only traffic and a nominal number of FLOP are known: sorting, transforms, resampling, algebra.

They belong to a family that no calibration measures, so that what is predicted of them is a roofline with a wide
interval. FLOP are those of the textbook algorithm, given with each.
"""

from __future__ import annotations

from math import ceil, log2, prod
from typing import Any

import numpy as np

from microbench.operators.aten import Call, aten, held_bytes
from microbench.operators.core import Op
from microbench.operators.registry import Tally, operator

_GIVEN = "it stands for operators whose traffic is given; name one"


@operator(
    "opaque",
    "size reads writes flop",
    "other",
    example={"size": 30, "reads": 60, "writes": 30, "flop": 30},
    defaults={"reads": "size", "writes": "size", "flop": "size"},
    widths=("size", "reads", "writes", "flop"),
    rows=lambda s: (1, s.size),
    coordinates=lambda s, _: [np.log(np.maximum(s.reads + s.writes, 1)), np.log(np.maximum(s.flop, 1))],
    without={"backward": "its work is given, not derived", "call": _GIVEN, "draws": _GIVEN},
)
def opaque(s: Any) -> Tally:
    """An operator of which elements read and written and FLOP are given (sorting, FFT, resampling, matrix algebra)."""
    return Tally(flop=s.flop, read=s.reads, written=s.writes)


def _moving(call: Call, flop: float) -> list[Op]:
    return [call.traffic(call.inputs, call.outputs, round(flop), "opaque")]


def _steps(length: int) -> int:
    """Comparisons of a binary search, and levels of a sort or a transform."""
    return ceil(log2(max(2, length)))


@aten("sort", "argsort", "msort", gives="opaque")
def _sorted(call: Call) -> list[Op]:
    """One comparison for each element and each level of a merge."""
    x = call.args[0]
    length = x.shape[call.get("dim") or 0] if x.dim() else 1
    return _moving(call, x.numel() * _steps(length))


_SCANNED = "topk kthvalue mode histc bincount nonzero_static fractional_max_pool2d fractional_max_pool3d max_unpool2d"


@aten(*_SCANNED.split(), "max_unpool3d", "dist", "trace", gives="opaque")
def _scanned(call: Call) -> list[Op]:
    """At least one comparison for each element."""
    return _moving(call, call.inputs[0].numel())


@aten("searchsorted", "bucketize", gives="opaque")
def _searched(call: Call) -> list[Op]:
    """A binary search for each value."""
    edges = call.get("sorted_sequence", "boundaries")
    return _moving(call, call.outputs[0].numel() * _steps(edges.shape[-1]))


# FLOP of a transform of n numbers by Cooley and Tukey: 5 n log2 n, half of it where one side is real.
_FFT = {"_fft_c2c": 5.0, "_fft_r2c": 2.5, "_fft_c2r": 2.5}


@aten(*_FFT, gives="opaque")
def _transformed(call: Call) -> list[Op]:
    x, out = call.args[0], call.outputs[0]
    whole = out if call.name == "_fft_c2r" else x
    length = prod(whole.shape[dim] for dim in call.get("dim"))
    return _moving(call, _FFT[call.name] * whole.numel() * log2(max(2, length)))


# FLOP for each element of the result: a multiplication for each tap and one addition less.
_TAPS = {"nearest": 0, "nearest_exact": 0, "linear": 3, "bilinear": 7, "trilinear": 15, "bicubic": 31}
_RESAMPLED = {
    "upsample_nearest1d": "nearest",
    "upsample_nearest2d": "nearest",
    "upsample_nearest3d": "nearest",
    "_upsample_nearest_exact1d": "nearest_exact",
    "_upsample_nearest_exact2d": "nearest_exact",
    "_upsample_nearest_exact3d": "nearest_exact",
    "upsample_linear1d": "linear",
    "upsample_bilinear2d": "bilinear",
    "upsample_trilinear3d": "trilinear",
    "upsample_bicubic2d": "bicubic",
    "grid_sampler_2d": "bilinear",
    "grid_sampler_3d": "trilinear",
    "_grid_sampler_2d_cpu_fallback": "bilinear",
}
_SMOOTHED = {"_upsample_bilinear2d_aa": 2, "_upsample_bicubic2d_aa": 4}


@aten(*_RESAMPLED, gives="opaque")
def _resampled(call: Call) -> list[Op]:
    return _moving(call, _TAPS[_RESAMPLED[call.name]] * call.outputs[0].numel())


@aten(*_SMOOTHED, gives="opaque")
def _smoothed(call: Call) -> list[Op]:
    """One axis after the other, as many taps as the kernel covers when it is stretched to the smaller image."""
    x, out = call.args[0], call.outputs[0]
    sides = zip(x.shape[-2:], out.shape[-2:], strict=True)
    return _moving(call, 2 * out.numel() * sum(ceil(_SMOOTHED[call.name] * max(1.0, a / b)) for a, b in sides))


@aten(*(f"{name}_backward" for name in (*_RESAMPLED, *_SMOOTHED)), gives="opaque", direction="backward")
def _resampled_backward(call: Call) -> list[Op]:
    """Each gradient is multiplied for each tap and added there."""
    name = call.name.removesuffix("_backward")
    taps = (_TAPS[_RESAMPLED[name]] + 1) if name in _RESAMPLED else 4 * _SMOOTHED[name]
    return _moving(call, taps * call.args[0].numel())


@aten("_cdist_forward", "_pdist_forward", "_euclidean_dist", gives="opaque")
def _distances(call: Call) -> list[Op]:
    """Subtract, raise and add for each coordinate of each pair."""
    return _moving(call, 3 * call.outputs[0].numel() * call.args[0].shape[-1])


@aten("_cdist_backward", "_pdist_backward", gives="opaque", direction="backward")
def _distances_backward(call: Call) -> list[Op]:
    return _moving(call, 4 * call.args[0].numel() * call.outputs[0].shape[-1])


@aten("_embedding_bag", "_embedding_bag_forward_only", gives="opaque")
def _bags(call: Call) -> list[Op]:
    """Rows that are picked are read and added up; one result a bag is written."""
    table, index = call.get("weight"), call.get("indices")
    picked = index.numel() * table.shape[1]
    made = call.traffic([*call.inputs[1:]], call.outputs[:1], picked, "opaque")
    read = min(picked * table.element_size(), held_bytes(table)) + made.work.bytes_read
    return [call.moving(made, read, made.work.bytes_written)]


@aten("_embedding_bag_backward", "_embedding_bag_dense_backward", gives="opaque", direction="backward")
def _bags_backward(call: Call) -> list[Op]:
    return _moving(call, call.get("indices").numel() * call.args[0].shape[-1])


# FLOP of LAPACK's algorithms on n x n matrices in n cubed, to the leading order.
_SQUARE = {
    "linalg_cholesky_ex": 1 / 3,
    "linalg_lu_factor_ex": 2 / 3,
    "linalg_inv_ex": 2.0,
    "_linalg_solve_ex": 2 / 3,
    "_linalg_det": 2 / 3,
    "_linalg_slogdet": 2 / 3,
    "_linalg_eigh": 9.0,
    "linalg_matrix_exp": 20.0,
}


@aten(*_SQUARE, gives="opaque")
def _square(call: Call) -> list[Op]:
    return _moving(call, _SQUARE[call.name] * call.args[0].numel() * call.args[0].shape[-1])


@aten("linalg_qr", "_linalg_svd", gives="opaque")
def _decomposed(call: Call) -> list[Op]:
    """By Householder; singular values take twice as much and a small square problem."""
    large, small = sorted(call.args[0].shape[-2:], reverse=True)
    count = call.args[0].numel() // max(1, large * small)
    flop = 2 * large * small**2 - 2 * small**3 / 3
    return _moving(call, count * (flop if call.name == "linalg_qr" else 4 * large * small**2 + 8 * small**3))


@aten("linalg_solve_triangular", "triangular_solve", "cholesky_solve", gives="opaque")
def _substituted(call: Call) -> list[Op]:
    """One multiply-add for half of the matrix and each right side; two such for a product of two triangles."""
    twice = 2 if call.name == "cholesky_solve" else 1
    return _moving(call, twice * call.outputs[0].numel() * call.outputs[0].shape[-2])


@aten("torchvision.roi_align", "torchvision.ps_roi_align", "torchvision.roi_pool", gives="opaque")
def _regions(call: Call) -> list[Op]:
    """Four taps for each of four samples of a cell, as the models of torchvision ask; traffic at least."""
    return _moving(call, 4 * _TAPS["bilinear"] * call.outputs[0].numel())


@aten("torchvision.deform_conv2d", gives="opaque")
def _deformed(call: Call) -> list[Op]:
    """A convolution whose taps are read between elements."""
    weight, out = call.get("weight"), call.outputs[0]
    return _moving(call, 2 * out.numel() * prod(weight.shape[1:]))
