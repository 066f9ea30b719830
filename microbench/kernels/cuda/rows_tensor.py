"""The rows of the tensor cores: mma.sync on every target, wgmma on Hopper, tcgen05 on data-centre Blackwell."""

from __future__ import annotations

from typing import Any

from microbench.kernels.cuda.row import TARGETS, CudaRow


def legacy(targets: tuple[str, ...]) -> tuple[str, ...]:
    """Targets on which another instruction than mma.sync feeds the tensor cores."""
    return tuple(target for target in targets if target in ("sm_90a", "sm_100a", "sm_103a"))


def _mma(name: str, symbol: str, math: str, flop: int, **fields: Any) -> CudaRow:
    dtype, accumulator, shape = name.split(".")
    chains = fields.pop("chains", 8)
    targets = fields.pop("targets", TARGETS[1:])
    return CudaRow(
        name=f"mma.{name}",
        family="mma",
        symbol=f"mma_{symbol}_{shape}",
        says=f"tensor cores by mma.sync {shape}, {dtype} into {accumulator}",
        measures="compute",
        roles=("ceiling", "roof"),
        layout="compute",
        threads=256,
        limiter="compute",
        unit="matrix",
        dtype=dtype,
        accumulator=accumulator,
        variant=shape,
        blocks_per_sm=2,
        math=math,
        math_count=8 * chains,
        flop_per_math=flop,
        chains=chains,
        operands=("exact", "random"),
        targets=targets,
        legacy=fields.pop("legacy", legacy(targets)),
        **fields,
    )


_SLOW_DMMA = ("sm_86", "sm_89", "sm_103a", "sm_120f")
_FP8 = ("sm_89", "sm_120f")
MMA: tuple[CudaRow, ...] = (
    _mma("f16.f16.m16n8k8", "f16_f16", "hmma.f16.f16", 2048, targets=("sm_75",)),
    _mma("f16.f32.m16n8k8", "f16_f32", "hmma.f16.f32", 2048, targets=("sm_75",)),
    _mma("i8.i32.m8n8k16", "i8", "imma", 2048, targets=("sm_75",)),
    _mma("f16.f16.m16n8k16", "f16_f16", "hmma.f16.f16", 4096),
    _mma("f16.f32.m16n8k16", "f16_f32", "hmma.f16.f32", 4096),
    _mma("bf16.f32.m16n8k16", "bf16_f32", "hmma.bf16.f32", 4096),
    _mma("tf32.f32.m16n8k8", "tf32_f32", "hmma.tf32.f32", 2048),
    # tcgen05 has INT8 on sm_100a alone: what is left of it on sm_103a goes through mma.sync.
    _mma("i8.i32.m16n8k32", "i8", "imma", 8192, slow=("sm_103a",), legacy=("sm_90a", "sm_100a")),
    # Neither wgmma nor tcgen05 has FP64: mma.sync is its own path everywhere, on Hopper in the larger shape.
    _mma("f64.f64.m8n8k4", "f64", "dmma", 512, slow=_SLOW_DMMA, legacy=("sm_90a",)),
    _mma("f64.f64.m16n8k16", "f64", "dmma", 4096, targets=("sm_90a",), chains=4, legacy=()),
    _mma("f8e4m3.f32.m16n8k32", "e4m3_f32", "qmma", 8192, targets=_FP8),
    _mma("f8e5m2.f32.m16n8k32", "e5m2_f32", "qmma", 8192, targets=_FP8),
    _mma("f8e4m3.f16.m16n8k32", "e4m3_f16", "qmma", 8192, targets=_FP8),
    _mma("f4e2m1.f32.m16n8k64", "e2m1_f32", "omma", 16384, targets=("sm_120f",)),
)


def _wgmma(dtype: str, k: int, math: str, form: str) -> CudaRow:
    accumulator = "i32" if dtype == "i8" else "f32"
    shape = f"m64n256k{k}"
    return CudaRow(
        name=f"wgmma.{dtype}.{accumulator}.{shape}.{form}",
        family="wgmma",
        symbol=f"wgmma_{dtype.removeprefix('f8')}_{shape}_{form}",
        says=(
            f"tensor cores by wgmma {shape}, {dtype} into {accumulator}, A from "
            f"{'shared memory' if form == 'ss' else 'registers'}"
        ),
        measures="compute",
        roles=("ceiling", "roof"),
        targets=("sm_90a",),
        layout="compute",
        threads=128,
        limiter="compute",
        unit="matrix",
        dtype=dtype,
        accumulator=accumulator,
        variant=f"{shape}.{form}",
        blocks_per_sm=2,
        shared_bytes=4 * 64 * 32 + 2 * 256 * 32,
        math=math,
        math_count=8,
        flop_per_math=2 * 64 * 256 * k,
        issuers=1,
        operand_bytes=256 * 32 + (64 * 32 if form == "ss" else 0),
        operands=("exact", "random"),
    )


# dtype, K of one instruction (always 32 bytes), the class on Hopper and on Blackwell
_TENSOR = (
    ("f16", 16, "hgmma", "utchmma"),
    ("bf16", 16, "hgmma", "utchmma"),
    ("tf32", 8, "hgmma.tf32", "utchmma.tf32"),
    ("f8e4m3", 32, "qgmma", "utcqmma"),
    ("f8e5m2", 32, "qgmma", "utcqmma"),
    ("i8", 32, "igmma", "utcimma"),
)
WGMMA = tuple(_wgmma(dtype, k, math, form) for dtype, k, math, _ in _TENSOR for form in ("ss", "rs"))


def _tcgen05(dtype: str, k: int, math: str) -> CudaRow:
    accumulator = "i32" if dtype == "i8" else "f32"
    shape = f"m128n256k{k}"
    return CudaRow(
        name=f"tcgen05.{dtype}.{accumulator}.{shape}",
        family="tcgen05",
        symbol=f"tcgen05_{dtype.removeprefix('f8')}_{shape}",
        says=f"tensor cores by tcgen05.mma {shape}, {dtype} into {accumulator}, both operands from shared memory",
        measures="compute",
        roles=("ceiling", "roof"),
        targets=("sm_100a",) if dtype == "i8" else ("sm_100a", "sm_103a"),
        layout="compute",
        threads=128,
        limiter="compute",
        unit="matrix",
        dtype=dtype,
        accumulator=accumulator,
        variant=shape,
        shared_bytes=4 * 128 * 32 + 2 * 256 * 32,
        math=math,
        math_count=32,
        flop_per_math=2 * 128 * 256 * k,
        issuers=1,
        chains=2,
        operand_bytes=256 * 32 + 128 * 32,
        operands=("exact", "random"),
    )


TCGEN05 = tuple(_tcgen05(dtype, k, math) for dtype, k, _, math in _TENSOR)
