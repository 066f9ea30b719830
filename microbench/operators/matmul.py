"""Matrix products: one, a batch of them, and a linear layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from microbench.operators.aten import Call, aten, format_of
from microbench.operators.core import Op
from microbench.operators.draws import Sizes, draw
from microbench.operators.registry import Tally, operator

# PyTorch multiplies very small matrices itself.
_SMALL_PRODUCT = 400
_TWO_PRODUCTS = "autograd calls two products"

Built = tuple[tuple[Any, ...], Callable[..., Any]]


def _vector(_: Any, gemm: Any) -> tuple[tuple[str, Any], ...]:
    return (("vector", (gemm[:, 1] == 1) | (gemm[:, 2] == 1)),)


def _product_backward(s: Any) -> Tally:
    return Tally(flop=4 * s.m * s.n * s.k, read=s.m * s.n + s.m * s.k + s.k * s.n, written=s.m * s.k + s.k * s.n)


def _matmul_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    left = t(s.m, s.k)
    if left.element_size() > 1:
        return (left, t(s.k, s.n)), torch.mm
    # Libraries multiply 8-bit numbers row by column only: the right operand is stored as its transpose.
    return (left, t(s.n, s.k).t()), _product_of_bytes(torch, left)


def _product_of_bytes(torch: Any, like: Any) -> Callable[..., Any]:
    """The product of 8-bit integers, which gives i32, or of 8-bit floats, as inference calls it, which gives bf16."""
    if like.dtype == torch.int8:
        return torch._int_mm  # type: ignore[no-any-return]  # noqa: SLF001 - PyTorch has no public one
    one = torch.ones((), device=like.device)
    scaled = torch._scaled_mm  # noqa: SLF001 - PyTorch has no public one
    return lambda a, b: scaled(a, b, one, one, out_dtype=torch.bfloat16, use_fast_accum=True)


@operator(
    "matmul",
    "m n k",
    "matmul",
    example={"m": 3, "n": 5, "k": 7},
    backward=_product_backward,
    call=_matmul_call,
    widths=("k", "n"),
    gemm=lambda s: (1, s.m, s.n, s.k),
    variants=_vector,
    without={"aten backward": _TWO_PRODUCTS},
)
def matmul(s: Any) -> Tally:
    """C[m,n] = A[m,k] B[k,n]."""
    return Tally(flop=2 * s.m * s.n * s.k, read=s.m * s.k + s.k * s.n, written=s.m * s.n)


def _product(call: Call, name: str, left: Any, **shape: Any) -> Op:
    """A product in the format of its left operand; one of complex numbers is four of real ones."""
    call.dtype = format_of(left)
    made = call.op(name, **shape | {"k": shape["k"] * (4 if left.is_complex() else 1)})
    return call.exact(made)


def _sides(a: Any, b: Any) -> dict[str, int]:
    """A vector is a matrix of one row on the left, of one column on the right."""
    return {"m": a.shape[0] if a.dim() > 1 else 1, "n": b.shape[1] if b.dim() > 1 else 1, "k": a.shape[-1]}


@aten("mm", "mv", "dot", "vdot", "_int_mm", "_scaled_mm", "_scaled_mm_v2", gives="matmul")
def _mm(call: Call) -> list[Op]:
    a, b = call.args[0], call.args[1]
    return [_product(call, "matmul", a, **_sides(a, b))]


@aten("_weight_int8pack_mm", "_weight_int4pack_mm", "_weight_int4pack_mm_for_cpu", gives="matmul")
def _packed(call: Call) -> list[Op]:
    """Weights of few bits, multiplied in the format of the other operand."""
    a, out = call.args[0], call.outputs[0]
    return [_product(call, "matmul", a, m=out.numel() // out.shape[-1], n=out.shape[-1], k=a.shape[-1])]


@draw("matmul", count=300)
def _matmul_sizes(s: Sizes) -> dict[str, Any]:
    return {key: s.large(1 if key == "m" else 4, 2048, 0.5) for key in "mnk"}


def _bmm_backward(s: Any) -> Tally:
    one = _product_backward(s)
    return Tally(flop=s.b * one.flop, read=s.b * one.read, written=s.b * one.written)


def _bmm_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    return (t(s.b, s.m, s.k), t(s.b, s.k, s.n)), torch.bmm


@operator(
    "bmm",
    "b m n k",
    "bmm",
    example={"b": 2, "m": 3, "n": 5, "k": 7},
    backward=_bmm_backward,
    call=_bmm_call,
    widths=("k", "n"),
    gemm=lambda s: (s.b, s.m, s.n, s.k),
    variants=lambda s, gemm: (
        *_vector(s, gemm),
        ("small", gemm[:, 1] * gemm[:, 2] * gemm[:, 3] < _SMALL_PRODUCT),
    ),
    without={"aten backward": _TWO_PRODUCTS},
)
def bmm(s: Any) -> Tally:
    """Multiply b independent pairs: C[m,n] = A[m,k] B[k,n]."""
    return Tally(flop=2 * s.b * s.m * s.n * s.k, read=s.b * (s.m * s.k + s.k * s.n), written=s.b * s.m * s.n)


def _batched(call: Call, a: Any, b: Any) -> list[Op]:
    return [_product(call, "bmm", a, b=a.shape[0], m=a.shape[1], n=b.shape[2], k=a.shape[2])]


@aten("bmm", "baddbmm", "baddbmm_", gives="bmm")
def _bmm(call: Call) -> list[Op]:
    """The two matrices come last."""
    return _batched(call, *[tensor for tensor in call.inputs if tensor.dim() == 3][-2:])


@aten("addbmm", "addbmm_", gives="matmul")
def _addbmm(call: Call) -> list[Op]:
    """Products that are added up are one of all columns together."""
    a, b = call.get("batch1"), call.get("batch2")
    return [_product(call, "matmul", a, m=a.shape[1], n=b.shape[2], k=a.shape[0] * a.shape[2])]


@aten("_grouped_mm", "_scaled_grouped_mm", gives=("bmm", "matmul"))
def _grouped(call: Call) -> list[Op]:
    """Groups of rows, of columns or of what is summed, each with its matrix: groups of one size, where they can be.

    The FLOP are the same, whoever gets the rows.
    """
    a, b = call.args[0], call.args[1]
    if a.dim() == b.dim() == 3:
        return _batched(call, a, b)
    groups = call.outputs[0].shape[0] if a.dim() == b.dim() else (a if a.dim() == 3 else b).shape[0]
    sizes = {"m": a.shape[-2], "n": b.shape[-1], "k": a.shape[-1]}
    split = "k" if a.dim() == b.dim() else "m" if a.dim() == 2 else "n"
    if sizes[split] % groups:
        return [_product(call, "matmul", a, **sizes)]
    return [_product(call, "bmm", a, b=groups, **sizes | {split: sizes[split] // groups})]


@aten("_trilinear", gives=("matmul", "bmm", "opaque"))
def _bilinear(call: Call) -> list[Op]:
    """A bilinear layer: its weight times the first input, what that gives times the second.

    No intermediate is counted. Of its gradients, which have other forms, the larger of the two products is.
    """
    x, weight, y = call.args[:3]
    if [*call.get("sumdim")] != [2, 3] or (x.dim(), weight.dim(), y.dim()) != (2, 3, 2):
        return [call.traffic(call.inputs, call.outputs, 2 * _all_pairs(call), "opaque")]
    rows, (outputs, into, other) = x.shape[0], weight.shape
    first = _product(call, "matmul", x, m=rows, n=outputs * other, k=into)
    second = call.op("bmm", b=rows, m=outputs, n=1, k=other)
    return [first, replace(second, traffic=(0, 0))]


def _all_pairs(call: Call) -> int:
    """Elements of the product of all three tensors before anything is added up."""
    whole = []
    for tensor, expanded in zip(call.args[:3], ("expand1", "expand2", "expand3"), strict=True):
        shape = list(tensor.shape)
        for place in sorted(call.get(expanded)):
            shape.insert(place, 1)
        whole.append(shape)
    return math.prod(map(max, *whole))


@draw("bmm", count=120)
def _bmm_sizes(s: Sizes) -> dict[str, Any]:
    return {"b": s.large(2, 96, 0.4), **{key: s.large(1 if key == "m" else 4, 512, 0.3) for key in "mnk"}}


def _linear_backward(s: Any) -> Tally:
    one = _product_backward(s)
    return Tally(flop=one.flop + s.bias * s.m * s.n, read=one.read, written=one.written + s.bias * s.n)


def _linear_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    left = t(s.m, s.k)
    if left.element_size() == 1:
        return (left, t(s.n, s.k).t()), _product_of_bytes(torch, left)
    return (left, t(s.n, s.k), *((t(s.n),) if s.bias else ())), torch.nn.functional.linear


@operator(
    "linear",
    "m n k bias",
    "linear",
    example={"m": 3, "n": 5, "k": 7},
    defaults={"bias": 1},
    backward=_linear_backward,
    call=_linear_call,
    widths=("k", "n"),
    gemm=lambda s: (1, s.m, s.n, s.k),
    # A few rows times a transposed weight is a stream of the weight with a kernel of its own, like one row.
    variants=lambda s, gemm: (*_vector(s, gemm), ("few", (gemm[:, 1] > 1) & (gemm[:, 1] <= 4))),
    without={"aten backward": _TWO_PRODUCTS},
)
def linear(s: Any) -> Tally:
    """Y[m,n] = X[m,k] W[n,k]^T + bias[n]; W and bias are parameters."""
    weights = s.n * s.k + s.bias * s.n
    return Tally(flop=2 * s.m * s.n * s.k, read=s.m * s.k + weights, written=s.m * s.n, parameters=weights)


@aten("addmm", "addmv", "_addmm_activation", "addmm_", "sspaddmm", gives=("linear", "matmul"))
def _addmm(call: Call) -> list[Op]:
    """A layer where one row is added to all of the product, else a product."""
    added, a, b = call.args[:3]
    if added.dim() > 1:
        return [_product(call, "matmul", a, **_sides(a, b))]
    return [_product(call, "linear", a, **_sides(a, b))]


@aten("linear", gives="linear")
def _linear(call: Call) -> list[Op]:
    x, w = call.get("input"), call.get("weight")
    sizes = {"m": math.prod(x.shape[:-1]), "n": w.shape[0], "k": w.shape[1]}
    return [_product(call, "linear", x, **sizes, bias=call.get("bias") is not None)]


@draw("linear", count=240)
def _linear_sizes(s: Sizes) -> dict[str, Any]:
    return {key: s.large(1 if key == "m" else 4, 3072, 0.5) for key in "mnk"}
