"""What one SM of each compute target can do per clock: the table behind the static bounds.

Rates of plain instructions are the throughput table of the CUDA C++ Programming Guide (results per clock and SM, by
compute capability); tensor rates are the dense figures of the vendor's architecture papers divided by SMs and boost
clock; FP64 of the 10.3 and 12.0 parts and INT8 of 10.3, a token unit there, from their data sheets likewise. Where
parts of one target differ (FP32 accumulation on GeForce) the faster one stands, so that no loop is proven against a
pipe that is slower than the one it may meet. Latencies in cycles are published micro-benchmarks (rounded up); where
none is known the neighbour's stands. A wgmma or tcgen05.mma that adds to the accumulator of the one before follows it
at once (single streams of them were seen to reach the peak), so its latency is its own 128 cycles. For mma.sync on
10.x, the legacy path, no rate is published: Hopper's stands.
"""

from __future__ import annotations

from dataclasses import dataclass

PARTITIONS = 4  # warp schedulers an SM, one instruction a clock each, on every target here


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One compute target.

    ``flop_per_clock`` is dense FLOP (or OP) per clock and SM by instruction class. ``shared_bytes``, ``l1_bytes``,
    ``l2_bytes`` and ``dram_bytes`` are bytes per clock and SM, the last two the best of any part. ``latency`` is cycles
    from issue to dependent issue.
    """

    target: str
    flop_per_clock: dict[str, int]
    latency: dict[str, int]
    shared_bytes: int = 128
    l1_bytes: int = 128
    l2_bytes: int = 64
    dram_bytes: float
    dram_latency: int = 900
    threads: int = 2048
    blocks: int = 32
    registers: int = 65536
    shared_capacity: int


_LATENCY = {
    "dfma": 8, "ffma": 4, "hfma2": 6, "bfma2": 6, "imad": 5, "idp4a": 5, "lds": 30, "ldg_l1": 40, "ldg_l2": 300,
    "mma": 36, "dmma": 40, "wgmma": 128, "tcgen05": 128,
}  # fmt: skip
_SLOW_F64 = _LATENCY | {"dfma": 48, "dmma": 400}


def _plain(f64: int, f32: int, half2: int, bfloat2: int, i32: int = 64) -> dict[str, int]:
    """FLOP per clock and SM from multiply-adds (elements) per clock and SM; a dp4a does four."""
    return {
        "dfma": 2 * f64,
        "ffma": 2 * f32,
        "hfma2": 2 * half2,
        "bfma2": 2 * bfloat2,
        "imad": 2 * i32,
        "idp4a": 8 * i32,
    }


def _tensor(f16: int, f64: int, fp8: int = 0, fp4: int = 0, i8: int = 0) -> dict[str, int]:
    return {
        "hmma.f16.f16": f16, "hmma.f16.f32": f16, "hmma.bf16.f32": f16, "hmma.tf32.f32": f16 // 2,
        "imma": i8 or 2 * f16, "dmma": f64, "qmma": fp8, "omma": fp4,
    }  # fmt: skip


ARCHITECTURES: dict[str, Architecture] = {
    row.target: row
    for row in (
        Architecture(target="sm_75", flop_per_clock=_plain(2, 64, 128, 0) | _tensor(1024, 0),
                     latency=_LATENCY | {"dfma": 48}, l1_bytes=64, dram_bytes=10, threads=1024, blocks=16,
                     shared_capacity=64 << 10),
        Architecture(target="sm_80", flop_per_clock=_plain(32, 64, 256, 128) | _tensor(2048, 128), latency=_LATENCY,
                     dram_bytes=14, shared_capacity=164 << 10),
        Architecture(target="sm_86", flop_per_clock=_plain(2, 128, 128, 128) | _tensor(1024, 4), latency=_SLOW_F64,
                     dram_bytes=8, threads=1536, blocks=16, shared_capacity=100 << 10),
        Architecture(target="sm_89", flop_per_clock=_plain(2, 128, 128, 128) | _tensor(1024, 4, 2048),
                     latency=_SLOW_F64, dram_bytes=6, threads=1536, blocks=24, shared_capacity=100 << 10),
        Architecture(target="sm_90a", flop_per_clock=_plain(64, 128, 256, 256) | _tensor(4096, 256)
                     | {"hgmma": 4096, "hgmma.tf32": 2048, "qgmma": 8192, "igmma": 8192}, latency=_LATENCY,
                     dram_bytes=22, shared_capacity=228 << 10),
        Architecture(target="sm_100a", flop_per_clock=_plain(64, 128, 256, 256) | _tensor(4096, 128)
                     | {"utchmma": 8192, "utchmma.tf32": 4096, "utcqmma": 16384, "utcimma": 16384}, latency=_LATENCY,
                     dram_bytes=29, shared_capacity=228 << 10),
        # INT8 of sm_103a is a slow unit (the compiler pads its loop): 0.15 POPS dense on a B300 and 0.165 on a GB300,
        # whose FP32 is 75 and 80 TFLOP/s (Verda, "GB300 NVL72 architecture", after table 3 of NVIDIA's Blackwell
        # architecture brief), so twice the FP32 rate.
        Architecture(target="sm_103a", flop_per_clock=_plain(2, 128, 256, 256) | _tensor(4096, 4, i8=512)
                     | {"utchmma": 8192, "utchmma.tf32": 4096, "utcqmma": 16384}, latency=_SLOW_F64,
                     dram_bytes=29, shared_capacity=228 << 10),
        Architecture(target="sm_120f", flop_per_clock=_plain(2, 128, 128, 128, 128) | _tensor(1024, 4, 2048, 4096),
                     latency=_SLOW_F64, dram_bytes=6, threads=1536, blocks=24, shared_capacity=100 << 10),
    )
}  # fmt: skip


def nearest(target: str) -> str:
    """The tabulated target whose SM stands for a chip's: of the same major version if there is one, and no newer.

    Examples
    --------
    >>> nearest("sm_90"), nearest("sm_121a"), nearest("sm_87"), nearest("sm_110")
    ('sm_90a', 'sm_120f', 'sm_86', 'sm_103a')
    """
    if target in ARCHITECTURES:
        return target

    def number(name: str) -> int:
        return int("".join(filter(str.isdigit, name)) or 0)

    below = [known for known in ARCHITECTURES if number(known) <= number(target)]
    return max(below, key=number, default=next(iter(ARCHITECTURES)))


def cycles(target: str, instruction_class: str, flop: int) -> float:
    """Cycles for which one instruction of a class occupies its sub-partition's pipe.

    Parameters
    ----------
    target
        For example ``sm_90a``.
    instruction_class
        A key of ``flop_per_clock``.
    flop
        FLOP of the instruction.

    Examples
    --------
    >>> cycles("sm_80", "ffma", 64)
    2.0
    """
    return flop * PARTITIONS / ARCHITECTURES[target].flop_per_clock[instruction_class]


def resident_blocks(target: str, threads: int, registers: int, shared_bytes: int) -> int:
    """How many blocks fit an SM by threads, registers (8 a thread at a time), shared memory and blocks."""
    arch = ARCHITECTURES[target]
    by_registers = arch.registers // (-(-registers // 8) * 8 * threads)
    by_shared = arch.shared_capacity // (shared_bytes + 1024) if shared_bytes else arch.blocks
    return min(arch.threads // threads, by_registers, by_shared, arch.blocks)
