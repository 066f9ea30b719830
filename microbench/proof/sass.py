"""The loop that a cubin holds, read from its disassembly: control flow, main loop, instruction counts, live chains.

The input is ``nvdisasm -json`` (pinned wheel), whose instructions are 16 bytes each, so that an address is an index.
FLOP come from the mnemonic, never from the source: that is what makes this a proof. What the disassembler does not
print, the scheduling control of an instruction, is read from the bits themselves.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from microbench.errors import CannotRun
from microbench.kernels.cuda import cubin as elf

BYTES_PER_INSTRUCTION = 16
_REGISTER = re.compile(r"\b(U?R)(\d+)(?:\.(64|reuse))?")
_LEAVES = ("EXIT", "RET", "KILL", "BPT")
_NO_RESULT = (
    "ST",
    "RED",
    "BAR",
    "BRA",
    "EXIT",
    "MEMBAR",
    "ERRBAR",
    "NOP",
    "BSSY",
    "BSYNC",
    "WARPSYNC",
    "UTC",
    "UBLK",
    "SYNCS",
    "DEPBAR",
    "WARPGROUP",
)
_WIDE = re.compile(r"^(DFMA|DADD|DMUL|CS2R$|IMAD\.WIDE|UIMAD\.WIDE|FFMA2|HFMA2\.X2)|\.64(\.|$)")


@dataclass(frozen=True, slots=True)
class Control:
    """What an instruction tells the scheduler (Jia et al. 2018, arXiv 1804.06826, section 2.1).

    ``stall`` is how many cycles its warp waits before it issues the next instruction, ``yields`` asks for another warp
    in between, ``reuse`` has a bit for each source operand that is kept in the operand cache.
    """

    stall: int
    yields: bool
    reuse: int

    @classmethod
    def of(cls, word: int) -> Control:
        """Decode an instruction of 128 bits; a set bit 109 means that the warp may go on."""
        bits = word >> 105
        return cls(stall=bits & 15, yields=not bits >> 4 & 1, reuse=bits >> 17 & 15)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One machine instruction: mnemonic with its modifiers, operands as printed, predicate (empty: always)."""

    opcode: str
    operands: tuple[str, ...]
    predicate: str
    control: Control | None = None

    @property
    def is_branch(self) -> bool:
        """Whether it may continue elsewhere inside the function."""
        return self.opcode.split(".")[0] in ("BRA", "BRX", "JMP")


@dataclass(frozen=True, slots=True)
class Function:
    """One kernel's instructions in address order."""

    name: str
    body: tuple[Instruction, ...]

    def successors(self, at: int) -> tuple[int, ...]:
        """Indices of the instructions that may run next."""
        step = self.body[at]
        base = step.opcode.split(".")[0]
        following = (at + 1,) if at + 1 < len(self.body) else ()
        if base in _LEAVES:
            return following if step.predicate else ()
        numeric = any(word.startswith("0x") for word in step.operands)
        if base != "BRA" and not (
            base == "CALL" and numeric
        ):  # a call to a bare address never returns: ptxas leaves some loops so
            return following
        target = next(
            (int(word, 16) // BYTES_PER_INSTRUCTION for word in reversed(step.operands) if word.startswith("0x")), None
        )
        taken = () if target is None else (target,)
        conditional = (
            step.predicate
            or len(step.operands) > 1
            or bool({"U", "ANY", "DIV", "CONV"} & set(step.opcode.split(".")[1:]))
        )
        return (*taken, *following) if conditional else taken


@dataclass(frozen=True, slots=True)
class Loop:
    """A natural loop: where it is entered, its instructions, and the branches back."""

    header: int
    body: tuple[int, ...]
    tails: tuple[int, ...]


def nvdisasm() -> Path | None:
    """Where the disassembler is: the pinned wheel first, then the PATH; ``None`` where there is neither."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        for found in sorted(Path(folder).glob("cu*/bin/nvdisasm")):
            return found
    on_path = shutil.which("nvdisasm")
    return Path(on_path) if on_path else None


def disassemble(cubin: Path) -> dict[str, Function]:
    """Every kernel of a cubin by name.

    Raises
    ------
    CannotRun
        If there is no disassembler, or it does not accept the file.
    """
    tool = nvdisasm()
    if tool is None:
        raise CannotRun(
            "no nvdisasm to read the machine code with; `pip install nvidia-cuda-nvdisasm==13.5.37` brings one"
        )
    command = [str(tool), "-json", str(cubin)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own tool and file
    if done.returncode:
        raise CannotRun(
            f"nvdisasm cannot read {cubin.name}: {done.stderr.strip().splitlines()[-1:]}; was it made by a newer "
            "toolkit?"
        )
    return parse(done.stdout, elf.code(cubin.read_bytes()))


def parse(text: str, code: Mapping[str, bytes] | None = None) -> dict[str, Function]:
    """Functions from the text that ``nvdisasm -json`` prints, with scheduling control where their bytes are given."""
    _, functions = json.loads(text)
    return {
        name: Function(name, _body(function["sass-instructions"], (code or {}).get(name, b"")))
        for function in functions
        for name in [function["function-name"]]
    }


def _body(steps: list[dict[str, str]], code: bytes) -> tuple[Instruction, ...]:
    body = []
    for at, step in enumerate(steps):
        word = code[at * BYTES_PER_INSTRUCTION : (at + 1) * BYTES_PER_INSTRUCTION]
        control = Control.of(int.from_bytes(word, "little")) if word else None
        operands = _split(step.get("operands", ""))
        body.append(Instruction(step["opcode"], operands, step.get("predicate", ""), control))
    return tuple(body)


def _split(operands: str) -> tuple[str, ...]:
    parts, depth, word = [], 0, ""
    for letter in operands:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            parts.append(word.strip())
            word = ""
        else:
            word += letter
    return (*parts, word.strip()) if word.strip() else tuple(parts)


def loops(function: Function) -> list[Loop]:
    """All natural loops of a function (an edge back to a dominator, and what reaches it without passing the header)."""
    following = [function.successors(at) for at in range(len(function.body))]
    before: dict[int, list[int]] = {}
    order = _reverse_postorder(following)
    for at in order:
        for after in following[at]:
            before.setdefault(after, []).append(at)
    above = _immediate_dominators(order, before)
    tails: dict[int, list[int]] = {}
    for at in order:
        for after in following[at]:
            if _dominates(above, after, at):
                tails.setdefault(after, []).append(at)
    found = []
    for header, ends in tails.items():
        body, work = {header}, [end for end in ends if end != header]
        while work:
            at = work.pop()
            if at not in body:
                body.add(at)
                work.extend(before.get(at, ()))
        found.append(Loop(header, tuple(sorted(body)), tuple(ends)))
    return found


def _reverse_postorder(following: list[tuple[int, ...]]) -> list[int]:
    seen, order, stack = {0}, [], [(0, iter(following[0]))]
    while stack:
        at, rest = stack[-1]
        after = next((index for index in rest if index not in seen), None)
        if after is None:
            order.append(at)
            stack.pop()
        else:
            seen.add(after)
            stack.append((after, iter(following[after])))
    return order[::-1]


def _immediate_dominators(order: list[int], before: dict[int, list[int]]) -> dict[int, int]:
    position = {at: index for index, at in enumerate(order)}
    above = {order[0]: order[0]}
    changed = True
    while changed:
        changed = False
        for at in order[1:]:
            known = [index for index in before[at] if index in above]
            nearest = known[0]
            for start in known[1:]:
                other = start
                while nearest != other:
                    if position[nearest] > position[other]:
                        nearest = above[nearest]
                    else:
                        other = above[other]
            if above.get(at) != nearest:
                above[at] = nearest
                changed = True
    return above


def _dominates(above: dict[int, int], high: int, low: int) -> bool:
    while True:
        if low == high:
            return True
        if above[low] == low:
            return False
        low = above[low]


def main_loop(function: Function, pattern: str) -> Loop | None:
    """The loop with the most instructions of a class; the smallest one where an outer loop holds no more of them."""
    wanted = re.compile(pattern)
    ranked = [
        (sum(bool(wanted.match(function.body[at].opcode)) for at in loop.body), -len(loop.body), -loop.header, loop)
        for loop in loops(function)
    ]
    ranked = [entry for entry in ranked if entry[0]]
    return max(ranked)[-1] if ranked else None


def opcode_counts(function: Function, loop: Loop) -> Counter[str]:
    """How often each mnemonic stands in a loop; an HFMA2 of zeros, which ptxas moves constants by, counts as a move."""
    return Counter(_plain_name(function.body[at]) for at in loop.body)


def _plain_name(step: Instruction) -> str:
    moves = step.opcode.startswith("HFMA2") and step.operands[1:3] == ("-RZ", "RZ")
    return "MOV.HFMA2" if moves else step.opcode


def loop_hash(function: Function, loop: Loop) -> str:
    """Twelve hexadecimal digits over the loop's mnemonics and predicates in order."""
    text = "\n".join(f"{function.body[at].predicate} {function.body[at].opcode}" for at in loop.body)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def trip_steps(function: Function, loop: Loop) -> set[int]:
    """By how much the counter that the loop's exit compares with is advanced per trip.

    Anything but one of {1} and {-1} means that the compiler unrolled the loop or counts something else. A compared
    register may be the counter plus a constant.
    """
    inside = [function.body[at] for at in loop.body]
    adds = [step for step in inside if re.match(r"(U?IADD3?|VIADD|IADD)(\.|$)", step.opcode) and step.operands]
    steps: set[int] = set()
    for compare in inside:
        if not re.match(r"U?ISETP", compare.opcode):
            continue
        registers = {operand.split(".")[0] for operand in compare.operands[1:]}
        for add in adds:
            if add.operands[0] in registers and _constant(add) is not None:
                registers |= {operand.split(".")[0] for operand in add.operands[1:]} - {"RZ", "URZ"}
        for add in adds:
            constant = _constant(add)
            if (
                constant is not None
                and add.operands[0] in registers
                and add.operands[0] in {word.split(".")[0] for word in add.operands[1:]}
            ):
                steps.add(constant)
    return steps


def _constant(add: Instruction) -> int | None:
    numbers = [int(word, 16) for word in add.operands[1:] if re.fullmatch(r"-?0x[0-9a-f]+", word)]
    if (
        len(numbers) != 1
        or len([word for word in add.operands[1:] if word.startswith(("R", "UR")) and "RZ" not in word]) != 1
    ):
        return None
    return numbers[0] - (1 << 32) if numbers[0] >= 1 << 31 else numbers[0]


def live_results(function: Function, loop: Loop, pattern: str) -> tuple[set[str], set[str]]:
    """Destination registers of a class in a loop, and those of them whose value can reach a store.

    A value that only feeds itself reaches none: relevance is carried backwards from the stores alone.
    """
    relevant: list[frozenset[str]] = [frozenset()] * (len(function.body) + 1)
    facts = [_uses_and_result(step) for step in function.body]
    before: dict[int, list[int]] = {}
    for at in range(len(function.body)):
        for after in function.successors(at):
            before.setdefault(after, []).append(at)
    outs: list[frozenset[str]] = [frozenset()] * len(function.body)
    work = list(range(len(function.body)))
    while work:
        at = work.pop()
        out = (
            frozenset().union(*(relevant[after] for after in function.successors(at)))
            if function.successors(at)
            else frozenset()
        )
        outs[at] = out
        uses, results, is_store = facts[at]
        keeps = out if function.body[at].predicate else out - results
        into = keeps | uses if is_store or out & results else keeps
        if into != relevant[at]:
            relevant[at] = into
            work.extend(before.get(at, ()))
    wanted = re.compile(pattern)
    chosen = [at for at in loop.body if wanted.match(function.body[at].opcode)]
    names = {at: sorted(facts[at][1], key=lambda name: int(name.strip("UR")))[:1] for at in chosen}
    every = {name for at in chosen for name in names[at]}
    return every, {name for at in chosen for name in names[at] if name in outs[at]}


def _uses_and_result(step: Instruction) -> tuple[frozenset[str], frozenset[str], bool]:
    base = step.opcode.split(".")[0]
    is_store = base.startswith(("ST", "RED", "ATOM"))
    has_result = (
        not base.startswith(_NO_RESULT)
        and bool(step.operands)
        and _REGISTER.fullmatch(step.operands[0].lstrip("-~!|")) is not None
    )
    matrix = "MMA" in base and base != "HFMA2"
    wide = 4 if ".128" in step.opcode or matrix else 2 if _WIDE.search(step.opcode) else 1
    uses: set[str] = set()
    for operand in step.operands[1:] if has_result else step.operands:
        for kind, number, width in _REGISTER.findall(operand):
            spread = max(2 if width == "64" else 1, wide)
            uses.update(f"{kind}{int(number) + extra}" for extra in range(spread))
    results: set[str] = set()
    if has_result and (match := _REGISTER.match(step.operands[0])):
        sure = 1 if matrix else wide
        results.update(f"{match[1]}{int(match[2]) + extra}" for extra in range(sure))
        if "GMMA" in base:  # the accumulator is read and written in place
            uses.update(results)
    return frozenset(uses), frozenset(results), is_store
