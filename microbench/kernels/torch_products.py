"""The matrix products that PyTorch has: operands of a dtype, and the fastest call that multiplies them on a device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from microbench.errors import CannotRun
from microbench.kernels.gemm_search import Shape
from microbench.records import Device
from microbench.records.dtypes import DTYPES

if TYPE_CHECKING:
    import torch

# Where PyTorch's integer product `_int_mm` runs at the speed of these; elsewhere on x86-64 it is a plain loop, a
# hundredth as fast as oneDNN's quantised linear layer.
_INTEGER_DOT = ("avx512_vnni", "avx_vnni", "amx_int8")


def quantised(device: Device, dtype: str) -> bool:
    """Whether the quantised linear layer is the fastest way to multiply integers: x86-64 without a dot product."""
    return (
        device.kind == "cpu"
        and dtype == "i8"
        and "avx2" in device.features
        and not any(flag in device.features for flag in _INTEGER_DOT)
    )


def operands(torch: Any, dtype: str, shape: Shape, place: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Random operands, the same for the same shape: uniform in [-1, 1], or all 8-bit integers."""
    m, n, k = shape
    random = torch.Generator(device=place).manual_seed(m * 31 + n * 7 + k)
    if dtype == "i8":
        make = (
            torch.randint(-128, 128, size, dtype=torch.int8, generator=random, device=place)
            for size in ((m, k), (k, n))
        )
        return next(make), next(make)
    a, b = (torch.rand(size, generator=random, device=place) * 2 - 1 for size in ((m, k), (k, n)))
    stored = getattr(torch, DTYPES[dtype].torch or "float32")
    return a.to(stored), b.to(stored)


def product(
    torch: Any, dtype: str, a: torch.Tensor, b: torch.Tensor, *, fast: bool = False
) -> Callable[[], torch.Tensor]:
    """Return a call that multiplies into a result made beforehand; of f32 and TF32 inside `precision` only.

    ``fast`` lets 8-bit floats be summed as the tensor cores do (about 14 bits on Hopper), without promoting sums to f32
    now and then.
    """
    # cuBLAS takes the right operand of 8-bit products column by column, and on some chips no other way.
    columns = b.t().contiguous().t() if a.device.type == "cuda" or dtype == "f8e4m3" else b
    if dtype == "i8":
        out = torch.empty(a.shape[0], b.shape[1], dtype=torch.int32, device=a.device)
        return lambda: torch._int_mm(a, columns, out=out)  # noqa: SLF001 - PyTorch has no public integer product
    if dtype == "f8e4m3":
        one = torch.ones((), device=a.device)
        scaled = torch._scaled_mm  # noqa: SLF001 - the only product of 8-bit floats
        return lambda: scaled(a, columns, one, one, out_dtype=torch.bfloat16, use_fast_accum=fast)
    out = torch.empty(a.shape[0], b.shape[1], dtype=a.dtype, device=a.device)
    return lambda: torch.mm(a, b, out=out)


@contextlib.contextmanager
def precision(torch: Any, dtype: str) -> Iterator[None]:
    """Multiply f32 as what ``dtype`` says, f32 or TF32, and leave the process as it was.

    There is one switch for the whole process: where another has left it, f32 silently becomes TF32 or bf16; and where
    it is left here, whatever is timed next is another product.
    """
    wanted = {"f32": "highest", "tf32": "high"}.get(dtype)
    before = torch.get_float32_matmul_precision()
    if wanted in (None, before):
        yield
        return
    torch.set_float32_matmul_precision(wanted)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def quantised_product(torch: Any, a: torch.Tensor, b: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Return a call that multiplies 8-bit by 7-bit integers in oneDNN's quantised linear layer, scales 1.

    Its sums leave as f32, exact up to 2^24. The left operand is stored unsigned, 128 above its value.

    Raises
    ------
    CannotRun
        If this build of PyTorch lacks the layer.
    """
    try:
        linear, prepack = torch.ops.onednn.qlinear_pointwise.default, torch.ops.onednn.qlinear_prepack.default
    except AttributeError as error:
        raise CannotRun("this PyTorch has no oneDNN quantised linear layer; install a newer one") from error
    unsigned = (a.int() + 128).to(torch.uint8)
    weights = prepack(b.t().contiguous(), list(a.shape))
    scales, zeros = torch.ones(b.shape[1]), torch.zeros(b.shape[1], dtype=torch.int64)
    return lambda: linear(unsigned, 1.0, 128, weights, scales, zeros, None, 1.0, 0, torch.float32, "none", [], "")


def multiplication(
    torch: Any, device: Device, dtype: str, shape: Shape, *, fast: bool = False
) -> tuple[Callable[[], torch.Tensor], torch.Tensor, torch.Tensor]:
    """Return the fastest product of a dtype on a device as a call, and the operands that it multiplies."""
    a, b = operands(torch, dtype, shape, place(device))
    if not quantised(device, dtype):
        return product(torch, dtype, a, b, fast=fast), a, b
    # Without a dot product two products are added in 16 bits first; weights of 7 bits keep that exact.
    b = torch.bitwise_right_shift(b, 1)
    return quantised_product(torch, a, b), a, b


def place(device: Device) -> str:
    """Where PyTorch keeps the tensors of a device."""
    return "cpu" if device.kind == "cpu" else f"cuda:{device.index}"
