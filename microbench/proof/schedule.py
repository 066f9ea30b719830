"""Whether the schedule of a loop lets its pipe run at full rate, from registers and scheduling control.

Counts say what a loop does, not whether a scheduler can issue it. `examine` reads one loop as one of a scheduler's
warps meets it, `Schedule.allows` is the share of the pipe's rate that is left, `complaints` says what takes the rest.
The model is that of `RULES`, each with its source. It is a bound and no prediction: what it refuses cannot reach the
ceiling, what it allows may still be limited by what nobody has published.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass

from microbench.kernels.cuda.row import CudaRow
from microbench.proof.sass import Function, Instruction, Loop

ENOUGH = 0.97  # of the pipe's rate: what a peak loop's schedule must allow
BANKS = 2
WINDOW = 3  # cycles in which an instruction reads its operands
TRIPS = 3  # through the loop, until its schedule repeats
# Classes whose operands the register file delivers one by one. How tensor cores read theirs is not published.
SCALAR = frozenset({"dfma", "ffma", "hfma2", "bfma2", "imad", "idp4a"})
# Packed halves are issued to two pipes of half the rate each, told apart by `.MMA` in the mnemonic.
TWO_PIPES = frozenset({("sm_80", "hfma2"), ("sm_90a", "hfma2"), ("sm_90a", "bfma2")})
_REGISTER = re.compile(r"[-~|!]*R(\d+)")
_ANY_REGISTER = re.compile(r"\bR(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that an architecture asks of a schedule: what, on which targets, and who measured it."""

    what: str
    needs: str
    targets: str
    source: str


_VOLTA = "Jia et al. 2018, Dissecting the NVIDIA Volta GPU Architecture via Microbenchmarking, arXiv 1804.06826"
_TURING = "Jia et al. 2019, Dissecting the NVidia Turing T4 GPU via Microbenchmarking, arXiv 1903.07486"
_MODERN = "Huerta et al. 2025, Analyzing Modern NVIDIA GPU Cores, arXiv 2503.20481"
RULES: tuple[Rule, ...] = (
    Rule(
        what="issue",
        needs="one warp instruction a cycle and scheduler, four schedulers an SM: everything else in the loop takes "
        "slots of the math wherever the pipe takes an instruction a cycle",
        targets="all",
        source=f"{_VOLTA}, 2; CUDA C++ Programming Guide, arithmetic throughput by compute capability",
    ),
    Rule(
        what="stalls",
        needs="the waits that the compiler wrote into the loop, summed for one warp, fit into the pipe time of all "
        "warps of a scheduler (distance x warps >= latency)",
        targets="all",
        source=f"control bits: {_VOLTA}, 2.1; latencies there, 4 (4 cycles FFMA, 6 HFMA2, 5 IMAD, 8 DFMA); {_TURING}",
    ),
    Rule(
        what="banks",
        needs="two banks, register modulo 2, each delivers one operand of 32 lanes x 32 bits a cycle, an instruction "
        "reads its own in three cycles: a pipe of 16 lanes has time for two a bank, so that only three in one bank "
        "cost a cycle; a pipe of 32 lanes for one, so that a third source must come from the operand cache; operands "
        "of 64 bits take both banks",
        targets="all",
        source=f"{_VOLTA}, 3.1; the port's 1024 bits on Ampere: {_MODERN}, 5.3",
    ),
    Rule(
        what="reuse",
        needs="a source marked `.reuse` is kept, one for each operand place and bank, until another register is read "
        "there; whether it outlives a change of warps (the instruction yields, or waits longer than the compiler "
        "spaces its kind) is not settled: both are reckoned, at best and at worst",
        targets="all",
        source=f"{_MODERN}, 5.3; loss at a change of warps: S. Gray, maxas, Control Codes (Maxwell); ptxas itself "
        "marks no source of an instruction that yields",
    ),
    Rule(
        what="pipes",
        needs="half of the packed multiply-adds go to either of two pipes of half the rate",
        targets="FP16 on sm_80 and sm_90a, BF16 on sm_90a",
        source="the two spellings HFMA2 and HFMA2.MMA that ptxas alternates there, and twice the rate of the targets "
        "without the second one (CUDA C++ Programming Guide): inferred",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How one warp's trip through a loop is scheduled.

    ``reuse`` math instructions keep a source, ``conflicts`` wait for a bank, ``distance`` is the least number of
    instructions from a result to its use in math (``None``: none depends on another), ``flight`` the accesses that are
    issued before the first of them is used. Cycles of a trip: ``pipe`` of the math, ``issue`` slots, ``banks`` of the
    register file, at best and at worst (``None``: not known), ``stalls`` that the warp waits by its control words.
    ``conflicts`` are those at best, where a kept source outlives a change of warps.
    """

    math: int
    reuse: int
    conflicts: int
    distance: int | None
    flight: int
    pipe: float
    split: float
    issue: int
    banks: tuple[float, float] | None
    stalls: int

    def times(self, warps: float, *, worst: bool = False) -> dict[str, float]:
        """Cycles a warp and trip by what takes them, where a scheduler has so many warps in turn."""
        times = {"pipes": self.split, "issue": float(self.issue), "stalls": self.stalls / max(1.0, warps)}
        return times if self.banks is None else times | {"banks": self.banks[worst]}

    def allows(self, warps: float) -> tuple[float, float]:
        """Least and largest share of the pipe's rate that the schedule leaves, at most 1."""
        least, most = (max(self.pipe, *self.times(warps, worst=worst).values()) for worst in (True, False))
        return (self.pipe / least, self.pipe / most) if self.pipe else (1.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """What math and memory accesses are spelled like, and the cycles of its pipe that one math instruction takes."""

    target: str
    math: str
    accesses: str
    cycles: float


def examine(function: Function, loop: Loop, row: CudaRow, sought: Sought) -> Schedule:
    """Read the schedule of a loop."""
    inside = [function.body[at] for at in loop.body]
    math_at = [at for at, step in enumerate(inside) if re.match(sought.math, step.opcode)]
    cycles, known = sought.cycles, row.math in SCALAR and bool(math_at)
    (best, conflicts), (worst, _) = (
        _banks(inside, set(math_at), cycles, lost=lost) if known else (0.0, 0) for lost in (False, True)
    )
    return Schedule(
        math=len(math_at),
        reuse=sum(any(".reuse" in word for word in inside[at].operands) for at in math_at),
        conflicts=conflicts,
        # Products of a warpgroup follow one another by themselves.
        distance=None if "GMMA" in sought.math else _distance(inside, set(math_at)),
        flight=_flight(inside, sought.accesses),
        pipe=len(math_at) * cycles,
        split=_split(inside, math_at, (sought.target, row.math), cycles),
        issue=len(inside),
        banks=(best, worst) if known else None,
        stalls=sum(max(1, step.control.stall) if step.control else 1 for step in inside),
    )


def _split(inside: list[Instruction], math_at: list[int], kind: tuple[str, str], cycles: float) -> float:
    if kind not in TWO_PIPES or not math_at:
        return len(math_at) * cycles
    return 2 * cycles * max(Counter(".MMA" in inside[at].opcode for at in math_at).values())


def _sources(step: Instruction) -> list[tuple[int, int, bool]]:
    """Place, register and whether it is kept, of each register that an instruction reads."""
    found = ((slot, _REGISTER.match(word), ".reuse" in word) for slot, word in enumerate(step.operands[1:4]))
    return [(slot, int(match[1]), kept) for slot, match, kept in found if match]


def _banks(inside: list[Instruction], math_at: set[int], cycles: float, *, lost: bool) -> tuple[float, int]:
    """Cycles of one trip of a warp that waits for nothing but its operands, and math instructions that had to.

    Each bank is read once a cycle; an instruction goes on when all its reads fit into the next `WINDOW` cycles, and one
    of math when its pipe is free.
    """
    kept: dict[tuple[int, int], int] = {}
    taken: list[set[int]] = [set() for _ in range(BANKS)]
    now, free, pace = 0, 0, math.ceil(cycles)
    spaced = max(pace, _spacing(inside, math_at))
    starts, conflicts = [], 0
    for _ in range(TRIPS):  # the first ones fill the operand cache
        starts.append(max(now, free))
        conflicts = 0
        for at, step in enumerate(inside):
            reads = _reads(step, kept)
            ready = now = max(now, free) if at in math_at else now
            while any(len(set(range(now, now + WINDOW)) - taken[bank]) < reads[bank] for bank in range(BANKS)):
                now += 1
            conflicts += at in math_at and now > ready
            for bank in range(BANKS):
                taken[bank].update(sorted(set(range(now, now + WINDOW)) - taken[bank])[: reads[bank]])
            if at in math_at:
                free = now + pace
            now += 1
            if lost and step.control and (step.control.yields or step.control.stall > (spaced if at in math_at else 1)):
                kept.clear()
    return float(max(now, free) - starts[-1]), conflicts


def _spacing(inside: list[Instruction], math_at: set[int]) -> int:
    """Cycles that the compiler leaves between math instructions that do not depend on each other."""
    stalls = Counter(step.control.stall for at in math_at if (step := inside[at]).control)
    return stalls.most_common(1)[0][0] if stalls else 1


def _reads(step: Instruction, kept: dict[tuple[int, int], int]) -> list[int]:
    """How often each bank is read for an instruction; what the operand cache holds afterwards is in `kept`."""
    wide = step.opcode.startswith("DFMA")
    reads = [0] * BANKS
    for slot, register, keep in _sources(step):
        for bank in range(BANKS) if wide else (register % BANKS,):
            reads[bank] += kept.get((slot, bank)) != register
            if keep:
                kept[slot, bank] = register
            else:
                kept.pop((slot, bank), None)
    return reads


def _distance(inside: list[Instruction], math_at: set[int]) -> int | None:
    """Instructions of the warp from a math result to the next math instruction that reads it, the least of a trip."""
    written: dict[int, int] = {}
    least = None
    for turn in range(2):
        for place, step in enumerate(inside):
            now = turn * len(inside) + place
            if place in math_at:
                spans = [now - written[register] for _, register, _ in _sources(step) if register in written]
                least = min(filter(None, [*spans, least]), default=None)
            if result := _REGISTER.match(step.operands[0]) if step.operands else None:
                written.pop(int(result[1]), None)
                if place in math_at:
                    written[int(result[1])] = now
    return least


def _flight(inside: list[Instruction], accesses: str) -> int:
    """Accesses issued and not yet used when the warp first has to wait for one; all of them where none is used."""
    issued = [at for at, step in enumerate(inside) if re.match(accesses, step.opcode)]
    pending: list[range] = []
    most = 0
    for step in (*inside, *inside):
        used = {int(number) for word in step.operands[1:] for number in _ANY_REGISTER.findall(word)}
        hit = [place for place, results in enumerate(pending) if used & set(results)]
        if hit:
            most = max(most, len(pending))
            pending = pending[max(hit) + 1 :]
        if re.match(accesses, step.opcode) and (result := _REGISTER.match(step.operands[0])):
            words = 4 if ".128" in step.opcode else 2 if ".64" in step.opcode else 1
            pending.append(range(int(result[1]), int(result[1]) + words))
    return most or len(issued)


def complaints(row: CudaRow, found: Schedule, warps: float) -> list[str]:
    """What keeps a compute loop below its ceiling, and accesses in flight that the row claims and the code lacks."""
    says = []
    most = found.allows(warps)[1]
    if row.measures == "compute" and most < ENOUGH:
        taken = {name: cycles for name, cycles in found.times(warps).items() if found.pipe < ENOUGH * cycles}
        why = ", ".join(f"{name} take {cycles:.0f}" for name, cycles in taken.items())
        says.append(
            f"{row.symbol}: the schedule allows {100 * most:.0f} % of the pipe's rate "
            f"({found.pipe:.0f} cycles of math a trip and warp; {why})"
        )
    if found.flight < row.in_flight:
        says.append(
            f"{row.symbol}: {found.flight} accesses are issued before the first one is used, the row says "
            f"{row.in_flight}"
        )
    return says
