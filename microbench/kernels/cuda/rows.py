"""The CUDA C++ kernels as data: one frozen row a kernel, and the targets that each exists for.

Those of the tensor cores stand in `rows_tensor`.

Nothing here touches a device. The host packs arguments by `LAYOUTS`, the proof compares the shipped machine code with
the counts, the tests' PTX interpreter counts FLOP and bytes on its own and compares them with `CudaRow.flop` and the
byte fields.
"""

from __future__ import annotations

from typing import Any

from microbench.kernels.cuda.row import LAYOUTS, STAMP_WORDS, TARGETS, CudaRow, Parameter, parameter_offsets
from microbench.kernels.cuda.rows_tensor import MMA, TCGEN05, WGMMA, legacy
from microbench.records import Access

__all__ = [
    "FAMILIES",
    "LAYOUTS",
    "ROWS",
    "STAMP_WORDS",
    "TARGETS",
    "CudaRow",
    "Parameter",
    "parameter_offsets",
    "rows_for",
]

_SLOW_F64 = ("sm_75", "sm_86", "sm_89", "sm_103a", "sm_120f")


def _plain(name: str, symbol: str, math: str, flop: int, **fields: Any) -> CudaRow:
    pairs, turns = 8, fields.pop("turns", 31)
    return CudaRow(
        name=name,
        family="plain",
        symbol=symbol,
        says=f"{fields.pop('of')} on the plain cores",
        measures="compute",
        roles=("ceiling", "roof"),
        layout="compute",
        threads=256,
        limiter="compute",
        blocks_per_sm=4,
        math=math,
        math_count=2 * pairs * turns,
        flop_per_math=flop,
        chains=pairs,
        operands=("exact", "random"),
        targets=fields.pop("targets", TARGETS),
        **fields,
    )


_PLAIN = (
    _plain("fma.f64", "fma_f64", "dfma", 64, of="FP64 multiply-add", dtype="f64", unit="scalar", slow=_SLOW_F64),
    _plain("fma.f32", "fma_f32", "ffma", 64, of="FP32 multiply-add", dtype="f32", unit="scalar"),
    _plain("fma.f16.half2", "fma_f16x2", "hfma2", 128, of="packed FP16 multiply-add", dtype="f16", unit="vector",
           variant="half2", turns=47),
    _plain("fma.bf16.bf16x2", "fma_bf16x2", "bfma2", 128, of="packed BF16 multiply-add", dtype="bf16", unit="vector",
           variant="bf16x2", turns=47, targets=TARGETS[1:]),
    _plain("mad.i32", "mad_i32", "imad", 64, of="INT32 multiply-add", dtype="i32", unit="scalar"),
    _plain("dp4a.i8.i32", "dp4a_i8", "idp4a", 256, of="four-way INT8 dot product", dtype="i8", accumulator="i32",
           unit="vector"),
)  # fmt: skip


# The stream that visits every working set: enough accesses in flight for any level, few enough to fill any chip.
SWEPT = ("read", 4)
# Loads that a thread has issued when it first waits for one, where that is not all of a trip: the compiler keeps eight
# blocks of a read resident rather than eight loads, on some targets.
_IN_FLIGHT = {("read", 8): 4, ("triad", 4): 5, ("triad", 8): 9}


def _stream(what: str, unroll: int) -> CudaRow:
    loads, stores = {"read": (1, 0), "write": (0, 1), "copy": (1, 1), "triad": (2, 1)}[what]
    dtype = "f32" if what == "triad" else "i32"
    flight = _IN_FLIGHT.get((what, unroll), max(loads * unroll, stores * unroll))
    return CudaRow(
        name=f"{what}.{dtype}.u{unroll}",
        family="stream",
        symbol=f"{what}_u{unroll}",
        says=f"{what} with {unroll} 16-byte accesses a thread, array and trip past L1, {flight} or more in flight",
        measures="memory",
        roles=("ceiling", "roof", "sweep") if (what, unroll) == SWEPT else ("ceiling", "roof"),
        targets=TARGETS,
        layout="stream",
        threads=256,
        limiter="memory",
        dtype=dtype,
        access=what,  # type: ignore[arg-type]
        variant=f"u{unroll}",
        blocks_per_sm=0,
        math="ffma" if what == "triad" else "",
        math_count=4 * unroll if what == "triad" else 0,
        flop_per_math=64 if what == "triad" else 0,
        loads=loads * unroll,
        stores=stores * unroll,
        access_bytes=16,
        in_flight=flight,
        tile=256 * unroll,
        operands=("exact",),
    )


_STREAM = tuple(_stream(what, unroll) for what in ("read", "write", "copy", "triad") for unroll in (1, 2, 4, 8))


def _bulk(what: Access, loads: int, stores: int) -> CudaRow:
    return CudaRow(
        name=f"{what}.i32.bulk",
        family="stream",
        symbol=f"{what}_bulk",
        says=f"{what} by bulk copies of 8 KiB, eight stages in flight a block",
        measures="memory",
        roles=("ceiling", "roof"),
        targets=TARGETS[4:],
        layout="stream",
        threads=32,
        limiter="memory",
        dtype="i32",
        access=what,
        variant="bulk",
        blocks_per_sm=0,
        shared_bytes=8 * 8192,
        loads=loads,
        stores=stores,
        access_bytes=8192,
        space="bulk",
        tile=512,
        operands=("exact",),
    )


_BULK = (_bulk("read", 1, 0), _bulk("write", 0, 1), _bulk("copy", 1, 1))


def _near(name: str, symbol: str, says: str, **fields: Any) -> CudaRow:
    return CudaRow(
        name=name,
        symbol=symbol,
        says=says,
        layout="compute",
        targets=TARGETS,
        dtype="i32",
        operands=("exact",),
        **fields,
    )


def _port(name: str, says: str, **fields: Any) -> CudaRow:
    access, _, level = name.split(".")
    return _near(
        name,
        f"{access}_{level}",
        says,
        family="shared",
        measures="memory",
        roles=("ceiling", "roof"),
        limiter="shared",
        access=access,
        variant=level,
        access_bytes=16,
        **fields,
    )


_SHARED = (
    _port(
        "read.i32.shared",
        "32 volatile 16-byte loads of shared memory a thread and trip, 4 or more in flight",
        threads=256,
        blocks_per_sm=2,
        space="shared",
        loads=32,
        in_flight=4,
    ),
    _port(
        "write.i32.shared",
        "32 volatile 16-byte stores to shared memory a thread and trip",
        threads=256,
        blocks_per_sm=2,
        space="shared",
        stores=32,
        in_flight=32,
    ),
    _port(
        "read.i32.l1",
        "8 16-byte loads a thread and trip from 32 KiB in L1, 4 or more in flight",
        threads=128,
        blocks_per_sm=4,
        loads=8,
        in_flight=4,
    ),
)
_CHASE = tuple(
    _near(
        f"chase.i32.{how}",
        f"chase_{how}",
        f"dependent loads through {where}, 16 a trip",
        family="chase",
        measures="latency",
        roles=("latency",) if how == "shared" else ("latency", "sweep"),
        threads=32,
        limiter="latency",
        variant=how,
        space="shared" if how == "shared" else "global",
        loads=16,
        access_bytes=width,
    )
    for how, where, width in (("ca", "L1 and below", 8), ("cg", "L2 and below", 8), ("shared", "shared memory", 4))
)
_CHASE_SERVES = tuple(
    CudaRow(
        name=f"chase.{what}",
        family="chase",
        symbol=f"chase_{what}",
        says=says,
        measures="latency",
        roles=("latency",),
        targets=TARGETS,
        layout="compute",
        threads=256,
        limiter="none",
    )
    for what, says in (("lay", "lays the cycle that a chase follows"), ("touch", "reads it from every multiprocessor"))
)


def _mix(dtype: str, fmas: int) -> CudaRow:
    symbol, math, packed, unit = {
        "f64": ("f64", "dfma", 0.5, "scalar"),
        "f32": ("f32", "ffma", 1, "scalar"),
        "f16": ("f16x2", "hfma2", 2, "vector"),
        "bf16": ("bf16x2", "bfma2", 2, "vector"),
    }[dtype]
    instructions = round(8 * fmas * min(1, packed))  # eight registers hold elements, FP64 takes two for one
    flop = 128 if packed == 2 else 64
    return CudaRow(
        name=f"mix.{dtype}.fma{fmas}",
        family="intensity",
        symbol=f"mix_{symbol}_{fmas}",
        says=f"{fmas} multiply-adds in {dtype} for each element read, {instructions * flop / 1024:g} FLOP a byte",
        measures="intensity",
        roles=("intensity",),
        targets=TARGETS[1:] if dtype == "bf16" else TARGETS,
        layout="stream",
        threads=256,
        limiter="mixed",
        unit=unit,  # type: ignore[arg-type]
        dtype=dtype,
        access="read",
        variant=f"{math}.fma{fmas}",
        blocks_per_sm=0,
        math=math,
        math_count=instructions,
        flop_per_math=flop,
        chains=4 if packed >= 1 else 2,
        loads=2,
        access_bytes=16,
        in_flight=2,
        tile=512,
        operands=("exact", "random"),
    )


def _mix_mma(dtype: str, mmas: int) -> CudaRow:
    targets = TARGETS[1:]
    return CudaRow(
        name=f"mix.{dtype}.f32.mma{mmas}",
        family="intensity",
        symbol=f"mix_mma_{dtype}_{mmas}",
        says=f"{mmas} products by mma.sync in {dtype} for each 16-byte load, {8 * mmas} FLOP a byte",
        measures="intensity",
        roles=("intensity",),
        targets=targets,
        layout="stream",
        threads=256,
        limiter="mixed",
        unit="matrix",
        dtype=dtype,
        accumulator="f32",
        access="read",
        variant=f"mma_sync.mma{mmas}",
        blocks_per_sm=0,
        math=f"hmma.{dtype}.f32",
        math_count=2 * mmas,
        flop_per_math=4096,
        chains=4 if mmas > 1 else 2,
        loads=2,
        access_bytes=16,
        in_flight=2,
        tile=512,
        operands=("exact",),
        legacy=legacy(targets),
    )


_MIX = (
    *(_mix("f32", 1 << power) for power in range(9)),
    *(_mix(dtype, 1 << power) for dtype in ("f64", "f16", "bf16") for power in range(0, 9, 2)),
    *(_mix_mma(dtype, 1 << power) for dtype in ("f16", "bf16") for power in range(0, 9, 2)),
)


def _launch(what: str, layout: str, threads: int, says: str) -> CudaRow:
    return CudaRow(
        name=f"launch.{what}",
        family="launch",
        symbol=what,
        says=says,
        measures="cost",
        roles=("cost",),
        targets=TARGETS,
        layout=layout,
        threads=threads,
        limiter="none",
    )


_LAUNCH = (
    _launch("empty", "compute", 32, "a kernel that does nothing"),
    _launch("gate", "gate", 32, "holds the queue until a word of host memory is set or its time is up"),
    _launch("ticks", "compute", 32, "writes down the nanosecond timer, one reading an iteration"),
)

_NEAR = (*_SHARED, *_CHASE, *_CHASE_SERVES)
ROWS: tuple[CudaRow, ...] = (*_PLAIN, *_STREAM, *_BULK, *MMA, *WGMMA, *TCGEN05, *_NEAR, *_MIX, *_LAUNCH)

# Which source exists for which target: a family's file is compiled exactly for the targets of its rows.
FAMILIES: dict[str, tuple[str, ...]] = {
    family: tuple(target for target in TARGETS if any(row.family == family and target in row.targets for row in ROWS))
    for family in dict.fromkeys(row.family for row in ROWS)
}

for _target in TARGETS:
    _names = [row.name for row in ROWS if _target in row.targets]
    _symbols = [(row.family, row.symbol) for row in ROWS if _target in row.targets]
    if len(_names) != len(set(_names)) or len(_symbols) != len(set(_symbols)):
        raise ValueError(f"two CUDA rows share a name or a symbol on {_target}")


def rows_for(target: str) -> tuple[CudaRow, ...]:
    """The rows that exist for a target, for example ``sm_90a``."""
    return tuple(row for row in ROWS if target in row.targets)
