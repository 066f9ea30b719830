"""Whether the machine code of a CUDA kernel is what its row claims, and which bound limits it.

`examine` reads one kernel of one cubin; `complaints` lists in sentences what differs from the row; `unscheduled` what
keeps its schedule below the ceiling; `bounds` computes the static bounds of the loop from the architecture table. Two
empty lists are the proof.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from microbench.kernels.cuda import cubin as elf
from microbench.kernels.cuda.rows import CudaRow, parameter_offsets
from microbench.proof import sass, schedule
from microbench.proof.architecture import ARCHITECTURES, PARTITIONS, cycles, resident_blocks

# How each class is spelled in SASS, per class of `CudaRow.math`. `.MMA` on an HFMA2 is another pipe for the same packed
# FMA.
SPELLING: dict[str, str] = {
    "dfma": r"DFMA$",
    "ffma": r"FFMA$",
    "hfma2": r"HFMA2(\.MMA)?$",
    "bfma2": r"HFMA2(\.MMA)?\.BF16_V2$",
    "imad": r"IMAD$",
    "idp4a": r"IDP\.4A\.S8\.S8$",
    "hmma.f16.f16": r"HMMA\.(16816|1688)\.F16$",
    "hmma.f16.f32": r"HMMA\.(16816|1688)\.F32$",
    "hmma.bf16.f32": r"HMMA\.16816\.F32\.BF16$",
    "hmma.tf32.f32": r"HMMA\.1688\.F32\.TF32$",
    "imma": r"IMMA\.(16832|8816)\.S8\.S8(\.SAT)?$",
    "dmma": r"DMMA\.(884|8x8x4|16x8x16)$",
    "qmma": r"QMMA\.16832\.F(16|32)\.E[45]M[32]\.E[45]M[32]$",
    "omma": r"OMMA\.SF\.16864\.",
    "hgmma": r"HGMMA\.64x256x16\.F32(\.BF16)?$",
    "hgmma.tf32": r"HGMMA\.64x256x8\.F32\.TF32$",
    "qgmma": r"QGMMA\.64x256x32\.F32\.E[45]M[32]\.E[45]M[32]$",
    "igmma": r"IGMMA\.64x256x32\.S8\.S8$",
    "utchmma": r"UTCHMMA",
    "utchmma.tf32": r"UTCHMMA",
    "utcqmma": r"UTCQMMA",
    "utcimma": r"UTCIMMA",
}
WARPGROUP = frozenset({"hgmma", "hgmma.tf32", "qgmma", "igmma"})
WHOLE_SM = WARPGROUP | {"utchmma", "utchmma.tf32", "utcqmma", "utcimma"}
MARGIN = 2.0  # by which the claimed limiter of a compute loop must be tighter than every other bound
# Loops that cannot keep that distance from the operand port, which gives an SM 128 bytes a clock, and why. An
# instruction fetches 32 bytes of K for each row of A and each column of B that lie in shared memory, whatever the
# dtype; N = 256 is the widest that there is, and a wider M is more instructions. The proof accepts these margins and no
# smaller ones, and nothing else below `MARGIN`.
NARROW: dict[str, tuple[float, str]] = {
    "wgmma ss": (
        1.6,
        "A 64 x 32 and B 256 x 32 bytes: 10240 / 128 = 80 clocks of the port, 128 clocks of the tensor cores",
    ),
    "tcgen05 ss": (
        1.33,
        "A 128 x 32 and B 256 x 32 bytes: 12288 / 128 = 96 clocks of the port, 128 clocks of the tensor cores",
    ),
}
_LATENCY_OF = dict.fromkeys(("hmma", "imma", "qmma", "omma"), "mma") | dict.fromkeys(
    ("hgmma", "qgmma", "igmma"), "wgmma"
)
_LATENCY_OF |= dict.fromkeys(("utchmma", "utcqmma", "utcimma"), "tcgen05")
_SHAPES = {
    "16816": (16, 8, 16),
    "1688": (16, 8, 8),
    "16832": (16, 8, 32),
    "16864": (16, 8, 64),
    "8816": (8, 8, 16),
    "884": (8, 8, 4),
}
_PER_LANE = {"DFMA": 2, "FFMA": 2, "HFMA2": 4, "IMAD": 2, "IDP": 8}
_LOADS = {"global": r"LDG?(\.|$)", "shared": r"LDS(\.|$)", "bulk": r"UBLKCP\.S\.G"}
_STORES = {"global": r"STG?(\.|$)", "shared": r"STS(\.|$)", "bulk": r"UBLKCP\.G\.S"}
_OVERHEAD = (
    r"(U?IADD3?|VIADD|U?VI(ADD)?MNMX|U?ISETP|U?PLOP3|U?LOP3|U?MOV|IMAD|UIMAD|U?LEA|U?SEL|SHF|USHF|R2UR|BRA|NOP|CALL|LDC|ULDC|LDCU|CS2R|VOTEU|WARPSYNC|"
    r"WARPGROUP|SYNCS|UTCBAR|UPRMT|PRMT|UBLKCP|UBLKPF|FENCE|UISETP|DEPBAR|UP2UR|R2P|P2R|NANOSLEEP|BSSY|BSYNC|BREAK|R2B|CREDUX|YIELD|UTMACMDFLUSH|UR2UR)(\.|$)"
)
_REFUSED = r"(LDL|STL|F2FP|F2F|I2F|F2I|MUFU|ATOM|SHFL|JMP|BRX|RET)(\.|$)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What was found in one kernel: its loop without NOPs, and what it holds."""

    symbol: str
    target: str
    loop: int
    nops: int
    opcodes: dict[str, int]
    math: int
    flop: int
    loads: int
    stores: int
    chains: int
    stored_chains: int
    steps: tuple[int, ...]
    branches: int
    local: int
    predicated_math: int
    hash: str
    resources: elf.Resources
    schedule: schedule.Schedule


def flop_of(opcode: str) -> int:
    """FLOP (or OP) of one warp instruction, from its mnemonic alone; a warpgroup's counts for all four warps.

    Examples
    --------
    >>> flop_of("HMMA.16816.F32.BF16"), flop_of("HGMMA.64x256x16.F32"), flop_of("FFMA"), flop_of("IADD3")
    (4096, 524288, 64, 0)
    """
    words = opcode.split(".")
    if "MMA" in words[0] and words[0] != "HFMA2":
        for word in words[1:]:
            if found := re.fullmatch(r"(\d+)x(\d+)x(\d+)", word):
                m, n, k = (int(part) for part in found.groups())
                return 2 * m * n * k
            if word in _SHAPES:
                m, n, k = _SHAPES[word]
                return 2 * m * n * k
        return 0  # UTC*MMA: the shape is in the instruction word that the kernel passes
    return 32 * _PER_LANE.get(words[0], 0) if not re.match(r"IMAD\.|IDP\.2A", opcode) else 0


def main_pattern(row: CudaRow) -> str:
    """What the main loop of a row is recognised by."""
    if row.measures == "compute" or (row.math in SPELLING and row.math_count > row.loads + row.stores):
        return SPELLING[row.math]
    return _LOADS[row.space] if row.loads else _STORES[row.space]


def examine_all(path: Path, target: str, rows: tuple[CudaRow, ...]) -> dict[str, Examined | None]:
    """Every row's kernel in one cubin by symbol; ``None`` where the kernel or its loop is missing."""
    functions = sass.disassemble(path)
    resources = elf.resources(path.read_bytes())
    return {
        row.symbol: examine(functions[row.symbol], target, row, resources[row.symbol])
        if row.symbol in functions
        else None
        for row in rows
    }


def examine(function: sass.Function, target: str, row: CudaRow, resources: elf.Resources) -> Examined | None:
    """Read one kernel; ``None`` if it has no loop with an instruction of the row's class."""
    loop = sass.main_loop(function, main_pattern(row))
    if loop is None:
        return None
    counts = sass.opcode_counts(function, loop)
    nops = counts.pop("NOP", 0)
    math = SPELLING.get(row.math, r"(?!)")
    inside = [function.body[at] for at in loop.body]
    results, stored = sass.live_results(function, loop, math)
    accesses = _LOADS[row.space] if row.loads else _STORES[row.space]
    sought = schedule.Sought(target=target, math=math, accesses=accesses, cycles=math_cycles(row, target))
    return Examined(
        symbol=row.symbol,
        target=target,
        loop=sum(counts.values()),
        nops=nops,
        opcodes=dict(sorted(counts.items())),
        math=_matching(counts, math),
        flop=sum(flop_of(opcode) * count for opcode, count in counts.items() if re.match(math, opcode)),
        loads=_matching(counts, _LOADS[row.space]),
        stores=_matching(counts, _STORES[row.space]),
        chains=len(results),
        stored_chains=len(stored),
        steps=tuple(sorted(sass.trip_steps(function, loop))),
        branches=sum(step.is_branch for step in inside),
        local=sum(bool(re.match(r"(LDL|STL)(\.|$)", step.opcode)) for step in function.body),
        predicated_math=sum(bool(step.predicate and re.match(math, step.opcode)) for step in inside),
        hash=sass.loop_hash(function, loop),
        resources=resources,
        schedule=schedule.examine(function, loop, row, sought),
    )


def _matching(counts: Counter[str], pattern: str) -> int:
    return sum(count for opcode, count in counts.items() if re.match(pattern, opcode))


def complaints(row: CudaRow, found: Examined | None) -> list[str]:
    """Everything in which the machine code differs from its row, a sentence each; empty when it is proven."""
    if found is None:
        return [f"{row.symbol}: no loop with {main_pattern(row)} in it"]
    says = []
    wanted = {"math": row.math_count, "loads": row.loads, "stores": row.stores}
    for what, expected in wanted.items():
        seen = getattr(found, what)
        if seen != expected:
            says.append(f"{row.symbol}: {seen} {what} instructions in the loop, the row says {expected}")
    if found.math and found.flop and found.flop != row.math_count * row.flop_per_math:
        says.append(f"{row.symbol}: {found.flop} FLOP in the loop, the row says {row.math_count * row.flop_per_math}")
    if (
        row.measures == "compute"
        and min(found.chains, found.stored_chains) < row.chains
        and not row.math.startswith("utc")
    ):
        says.append(
            f"{row.symbol}: {found.chains} chains in the loop, {found.stored_chains} of them stored, the row says "
            f"{row.chains}"
        )
    if found.steps not in ((1,), (-1,)):
        says.append(f"{row.symbol}: the loop counts by {found.steps}, it must count by one")
    if found.local or found.resources.stack_bytes:
        says.append(f"{row.symbol}: {found.local} local-memory accesses, {found.resources.stack_bytes} bytes of stack")
    if found.predicated_math:
        says.append(f"{row.symbol}: {found.predicated_math} math instructions are predicated")
    if found.resources.parameters != parameter_offsets(row.layout):
        says.append(
            f"{row.symbol}: parameters {found.resources.parameters}, layout {row.layout!r} packs "
            f"{parameter_offsets(row.layout)}"
        )
    return [*says, *_odd_company(row, found), *_share(row, found)]


def unscheduled(row: CudaRow, found: Examined) -> list[str]:
    """What of its ceiling the loop's schedule does not allow, a sentence each; empty when it allows it."""
    return schedule.complaints(row, found.schedule, warps(row, found))


def warps(row: CudaRow, found: Examined, blocks: int | None = None) -> float:
    """Warps a scheduler that issue the row's loop; ``blocks`` a SM default to the row's, or to as many as fit."""
    each = PARTITIONS if row.math in WARPGROUP else 1  # a warpgroup is one warp on every sub-partition
    return max(1.0, resident(row, found, blocks) * (row.issuers or row.warps) * each / PARTITIONS)


def resident(row: CudaRow, found: Examined, blocks: int | None = None) -> int:
    """Blocks of a row that are on an SM at once."""
    fit = resident_blocks(
        found.target, row.threads, found.resources.registers, row.shared_bytes + found.resources.shared_bytes
    )
    return min(blocks or row.blocks_per_sm or fit, fit)


def _odd_company(row: CudaRow, found: Examined) -> list[str]:
    allowed = f"{_OVERHEAD}|{_LOADS[row.space]}|{_STORES[row.space]}|{SPELLING.get(row.math, '(?!)')}"
    odd = [opcode for opcode in found.opcodes if re.match(_REFUSED, opcode) or not re.match(allowed, opcode)]
    waits = any(opcode.startswith("SYNCS") for opcode in found.opcodes)
    says = [f"{row.symbol}: unexpected in the loop: {', '.join(odd)}"] if odd else []
    scope = [opcode for opcode in found.opcodes if opcode.endswith(".SYS") and "SPIN" not in opcode]
    if scope and not (found.target == "sm_75" and not any(opcode.startswith("LD.") for opcode in scope)):
        says.append(f"{row.symbol}: system-scope accesses ({', '.join(scope)}) do not time this GPU's own caches")
    elected = [opcode for opcode in found.opcodes if opcode.startswith(("ELECT", "BRA.U.ANY"))]
    if elected:
        says.append(
            f"{row.symbol}: {', '.join(elected)} in the loop: the compiler took the issuing thread for a divergent one"
        )
    groups = {opcode: count for opcode, count in found.opcodes.items() if opcode.startswith("WARPGROUP.")}
    if row.math in WARPGROUP and set(groups.values()) != {1}:
        says.append(f"{row.symbol}: products are serialised in the loop ({groups})")
    if found.branches != 1 and not waits:
        says.append(f"{row.symbol}: {found.branches} branches in the loop, one (back) is expected")
    return says


def _share(row: CudaRow, found: Examined) -> list[str]:
    if row.measures != "compute" or not found.math:
        return []
    pipe = found.math * math_cycles(row, found.target)
    share = pipe / max(float(found.loop), pipe)
    return (
        []
        if share >= 0.99
        else [f"{row.symbol}: math takes {share:.3f} of the loop's {found.loop} issue slots, at least 0.99 is claimed"]
    )


def math_cycles(row: CudaRow, target: str) -> float:
    """Cycles of its pipe that one math instruction takes, on the sub-partition (or the whole SM) that works on it."""
    if not row.math:
        return 0.0
    at = cycles(target, row.math, row.flop_per_math)
    return at / PARTITIONS if row.math in WHOLE_SM else at


def bounds(row: CudaRow, found: Examined, blocks: int | None = None) -> dict[str, float]:
    """Lower bounds on the cycles that one SM needs for one iteration of all its resident blocks, by limiter.

    ``compute`` is the larger of issue slots and math pipe, ``shared`` the bytes through the shared-memory or L1 port,
    ``memory`` the bytes at the fastest rate of L2, ``latency`` one warp's dependent steps. The largest is the limiter.
    ``blocks`` a SM default to the row's, or to as many as fit.
    """
    arch = ARCHITECTURES[found.target]
    held = resident(row, found, blocks)
    issuing = warps(row, found, blocks)
    per_issuer = held * (row.issuers or row.warps) if row.math in WHOLE_SM else issuing
    moved = held * (row.bytes_read + row.bytes_written)
    fetched = held * found.math * row.operand_bytes
    port = {"shared": arch.shared_bytes, "l1": arch.l1_bytes}.get(row.variant)
    latency = 0.0
    if row.measures == "compute":
        latency = found.math / row.chains * arch.latency[_LATENCY_OF.get(row.math.split(".")[0], row.math)]
    elif row.measures == "latency":
        latency = found.loads * arch.latency["lds" if row.variant == "shared" else "ldg_l1"]
    return {
        "compute": max(found.loop * issuing, found.math * math_cycles(row, found.target) * per_issuer),
        "shared": moved / port if port else fetched / arch.shared_bytes,
        "memory": 0.0 if port else moved / arch.l2_bytes,
        "latency": float(latency),
    }


def operand_form(row: CudaRow) -> str:
    """A key of `NARROW` where a tensor row fetches both operands from shared memory, else empty."""
    shape = re.match(r"m(\d+)n(\d+)k", row.variant)
    if not row.operand_bytes or shape is None:
        return ""
    m, n = int(shape[1]), int(shape[2])
    return f"{row.family} ss" if row.operand_bytes == (m + n) * 32 else ""


def limited_as_claimed(row: CudaRow, found: Examined) -> list[str]:
    """A sentence for each bound too close to the claimed limiter: compute loops keep `MARGIN` or `NARROW`."""
    if row.limiter in ("none", "mixed"):
        return []
    cost = bounds(row, found)
    others = {name: value for name, value in cost.items() if name != row.limiter}
    margins = dict.fromkeys(others, MARGIN if row.measures == "compute" else 1.0)
    if (narrow := operand_form(row)) in NARROW:
        margins["shared"] = NARROW[narrow][0]
    return [
        (
            f"{row.symbol} on {found.target}: {row.limiter} takes {cost[row.limiter]:.0f} cycles, {name} {value:.0f}: "
            "not the limiter"
        )
        for name, value in others.items()
        if cost[row.limiter] < margins[name] * value
    ]
