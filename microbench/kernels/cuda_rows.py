"""The CUDA C++ kernels as data: one frozen row a kernel, and the targets that each exists for.

Nothing here touches a device. The host packs arguments by `LAYOUTS`, the proof compares the shipped machine code with the counts,
the tests' PTX interpreter counts FLOP and bytes on its own and compares them with `CudaRow.flop` and the byte fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from microbench.records import Access, Measures, Unit

Limiter = Literal["compute", "memory", "shared", "latency", "none"]

TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_103a", "sm_120f")
STAMP_WORDS = 6  # 8-byte words a block: ns and cycles at the start, ns and cycles at the end, the SM, the iterations done
WARP = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One kernel parameter: its name and its size in bytes, in the order of the signature (naturally aligned)."""

    name: str
    bytes: int


def _layout(**sizes: int) -> tuple[Parameter, ...]:
    return tuple(Parameter(name=name, bytes=size) for name, size in sizes.items())


# "out", "in", "in2" and "stamps" are device pointers. Each source says what it expects behind them.
LAYOUTS: dict[str, tuple[Parameter, ...]] = {
    "compute": _layout(out=8, **{"in": 8}, stamps=8, iterations=4),
    "stream": _layout(out=8, **{"in": 8}, in2=8, stamps=8, count=4, first=4, step=4, iterations=4),
    "gate": _layout(out=8, flag=8, stamps=8, timeout_ns=8),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaRow:
    """One kernel.

    ``math`` is the instruction class whose spelling per architecture `microbench.proof.sass` knows, ``math_count`` how many of them
    a warp (wgmma: a warpgroup; tcgen05: the block) issues in one iteration, ``flop_per_math`` what one does. ``loads`` and ``stores``
    count a warp's memory instructions per iteration, of ``access_bytes`` a lane (bulk copies: bytes a block). ``chains`` are the
    independent accumulators a thread. ``issuers`` is how many warps (groups, blocks) a block issues from. ``blocks_per_sm`` 0 leaves
    residency to the host's sweep. ``tile`` is the number of 16-byte elements a block moves in one iteration. ``pass_bytes`` are the
    bytes that ``in`` holds for one block's worth of operands, where the layout is "compute".
    """

    name: str
    family: str
    symbol: str
    says: str
    measures: Measures
    targets: tuple[str, ...]
    layout: str
    threads: int
    limiter: Limiter
    unit: Unit | None = None
    dtype: str | None = None
    accumulator: str | None = None
    access: Access | None = None
    variant: str = ""
    blocks_per_sm: int = 1
    shared_bytes: int = 0
    math: str = ""
    math_count: int = 0
    flop_per_math: int = 0
    issuers: int = 0
    chains: int = 1
    loads: int = 0
    stores: int = 0
    access_bytes: int = 0
    lanes_active: int = WARP
    tile: int = 0
    operands: tuple[str, ...] = ()
    legacy: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = [target for target in (*self.targets, *self.legacy, *self.slow) if target not in TARGETS]
        if unknown or self.layout not in LAYOUTS or self.threads % WARP:
            raise ValueError(f"row {self.name}: unknown target {unknown}, layout {self.layout!r}, or threads not whole warps")

    @property
    def warps(self) -> int:
        """Warps a block."""
        return self.threads // WARP

    @property
    def flop(self) -> int:
        """FLOP (or OP) of one block in one iteration."""
        return self.math_count * self.flop_per_math * (self.issuers or self.warps)

    @property
    def bytes_read(self) -> int:
        """Bytes that one block asks for in one iteration."""
        return self._bytes(self.loads)

    @property
    def bytes_written(self) -> int:
        """Bytes that one block writes in one iteration."""
        return self._bytes(self.stores)

    def _bytes(self, accesses: int) -> int:
        if "bulk" in self.variant:
            return accesses * self.access_bytes
        return accesses * self.access_bytes * (self.lanes_active if self.lanes_active < WARP else self.threads)


_SLOW_F64 = ("sm_75", "sm_86", "sm_89", "sm_103a", "sm_120f")


def _plain(name: str, symbol: str, math: str, flop: int, **fields: Any) -> CudaRow:
    pairs, turns = 8, fields.pop("turns", 31)
    return CudaRow(
        name=name,
        family="plain",
        symbol=symbol,
        says=f"{fields.pop('of')} on the plain cores",
        measures="compute",
        layout="compute",
        threads=256,
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
    _plain("fma.f64", "fma_f64", "dfma", 64, of="FP64 multiply-add", dtype="f64", limiter="compute", unit="scalar", slow=_SLOW_F64),
    _plain("fma.f32", "fma_f32", "ffma", 64, of="FP32 multiply-add", dtype="f32", limiter="compute", unit="scalar"),
    _plain("fma.f16.half2", "fma_f16x2", "hfma2", 128, of="packed FP16 multiply-add", dtype="f16", limiter="compute", unit="vector",
           variant="half2", turns=47),
    _plain("fma.bf16.bf16x2", "fma_bf16x2", "bfma2", 128, of="packed BF16 multiply-add", dtype="bf16", limiter="compute", unit="vector",
           variant="bf16x2", turns=47, targets=TARGETS[1:]),
    _plain("mad.i32", "mad_i32", "imad", 64, of="INT32 multiply-add", dtype="i32", limiter="compute", unit="scalar"),
    _plain("dp4a.i8.i32", "dp4a_i8", "idp4a", 256, of="four-way INT8 dot product", dtype="i8", accumulator="i32", limiter="compute",
           unit="vector"),
)  # fmt: skip


def _stream(what: str, unroll: int) -> CudaRow:
    loads, stores = {"read": (1, 0), "write": (0, 1), "copy": (1, 1), "triad": (2, 1)}[what]
    dtype = "f32" if what == "triad" else "i32"
    return CudaRow(
        name=f"{what}.{dtype}.u{unroll}",
        family="stream",
        symbol=f"{what}_u{unroll}",
        says=f"{what} with {unroll} independent 16-byte accesses a thread and trip, past L1",
        measures="memory",
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
        tile=256 * unroll,
        operands=("exact",),
    )


_STREAM = tuple(_stream(what, unroll) for what in ("read", "write", "copy", "triad") for unroll in (1, 2, 4, 8))

ROWS: tuple[CudaRow, ...] = (*_PLAIN, *_STREAM)

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


def parameter_offsets(layout: str) -> tuple[tuple[int, int], ...]:
    """Offset and size in bytes of each parameter, naturally aligned, as the driver expects them."""
    offsets = []
    at = 0
    for parameter in LAYOUTS[layout]:
        at = -(-at // parameter.bytes) * parameter.bytes
        offsets.append((at, parameter.bytes))
        at += parameter.bytes
    return tuple(offsets)
