"""What a row of the CUDA kernels' table says: the record, the targets, and how parameters are laid out."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from microbench.records import Access, Measures, Unit
from microbench.records.roles import Role

Limiter = Literal["compute", "memory", "shared", "latency", "mixed", "none"]
Space = Literal["global", "shared", "bulk"]

TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_103a", "sm_120f")
STAMP_WORDS = (
    6  # 8-byte words a block: ns and cycles at the start, ns and cycles at the end, the SM, the iterations done
)
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

    ``math`` is the instruction class whose spelling per architecture `microbench.proof.sass` knows, ``math_count`` how
    many of them a warp (wgmma: a warpgroup; tcgen05: the block) issues in one iteration, ``flop_per_math`` what one
    does. ``loads`` and ``stores`` count a warp's memory instructions per iteration, of ``access_bytes`` a lane
    (``space`` "bulk": bytes a block), ``in_flight`` how many of them it has issued when it first waits for one.
    ``chains`` are the independent accumulators a thread (tcgen05: a block). ``issuers`` is how many warps (warpgroups,
    threads) of a block issue math, 0 for all warps. ``blocks_per_sm`` 0 leaves residency to the host's sweep.
    ``shared_bytes`` are dynamic. ``tile`` is the number of 16-byte elements that a block moves in one iteration,
    ``operand_bytes`` what one math instruction fetches from shared memory. ``legacy`` names targets where this is not
    the way to the peak, ``slow`` those whose unit is a token one.
    """

    name: str
    family: str
    symbol: str
    says: str
    measures: Measures
    roles: tuple[Role, ...]
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
    in_flight: int = 0
    space: Space = "global"
    operand_bytes: int = 0
    tile: int = 0
    operands: tuple[str, ...] = ()
    legacy: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = [target for target in (*self.targets, *self.legacy, *self.slow) if target not in TARGETS]
        if unknown or self.layout not in LAYOUTS or self.threads % WARP:
            raise ValueError(
                f"row {self.name}: unknown target {unknown}, layout {self.layout!r}, or threads not whole warps"
            )

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
        return accesses * self.access_bytes * (1 if self.space == "bulk" else self.threads)


def parameter_offsets(layout: str) -> tuple[tuple[int, int], ...]:
    """Offset and size in bytes of each parameter, naturally aligned, as the driver expects them."""
    offsets = []
    at = 0
    for parameter in LAYOUTS[layout]:
        at = -(-at // parameter.bytes) * parameter.bytes
        offsets.append((at, parameter.bytes))
        at += parameter.bytes
    return tuple(offsets)


def packed(layout: str, **values: int) -> bytes:
    """Pack a kernel's parameters at their natural offsets, as the driver hands them on.

    Examples
    --------
    >>> packed("compute", out=1, **{"in": 2}, stamps=3, iterations=4).hex()
    '01000000000000000200000000000000030000000000000004000000'
    """
    whole = b""
    for parameter, (offset, size) in zip(LAYOUTS[layout], parameter_offsets(layout), strict=True):
        whole = whole.ljust(offset, b"\0") + struct.pack("<Q" if size == 8 else "<I", values[parameter.name])
    return whole
