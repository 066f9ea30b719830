"""Whether a compiled CPU loop is the loop that its sheet describes.

Multiply-adds, loads, stores and what else a sheet counts are counted in the binary, which binutils disassembles once.
In the function of ``Sheet.symbol`` the main loop is found from control flow alone: a backward jump closes a loop, and
of the loops that hold no other the one with the most counted instructions is the one that is timed. A prefetch moves no
operand, and an address computation touches no memory; a memory operand of a multiply-add is a load as well.

Why a program's text and not a library: capstone knows none of the newer instructions. Its versions 5.0.9 and 6.0.0a11
decode neither AMX tiles (``tdpbf16ps``, ``tileloadd``) nor AVX512-FP16 (``vfmadd231ph``), nor ``vdpbf16ps``, nor the
VEX form of ``vpdpbusd``, and read on inside the instruction; of aarch64 they know all that the kernels use. binutils
2.40 knows every one. When capstone has AMX, "unproven: no objdump" can go.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from microbench.proof.instruction_sets import ISAS, Instruction
from microbench.records import Proof, Sheet

_HEADER = re.compile(r"[0-9a-f]+ <(?P<name>[^>]+)>:")
_LINE = re.compile(
    r"\s*(?P<address>[0-9a-f]+):\t(?P<code>(?:[0-9a-f]{2,8} )+)\s*\t(?P<mnemonic>\S+)(?:\s+(?P<operands>.*))?"
)
# Prefixes that objdump prints before the mnemonic proper.
_PREFIXES = {"lock", "rep", "repz", "repnz", "notrack", "bnd", "data16", "cs", "ds", "{vex}", "{evex}"}
_ELF_MACHINES = {0x3E: "x86_64", 0xB7: "aarch64"}
_TIMEOUT_S = 120
# A spilled counter in a loop of hundreds of loads costs nothing that a measurement could show; more would.
_SPILLS = 0.02
_SPILLED = "; accumulators spilled to the stack: pass a pack, not an array"


def read(listing: str, wanted: Callable[[str], bool] = bool) -> dict[str, list[Instruction]]:
    """Parse what ``objdump -d -w`` prints: instructions by symbol, of those symbols that are ``wanted``."""
    functions: dict[str, list[Instruction]] = {}
    current: list[Instruction] | None = None
    for line in listing.splitlines():
        header = _HEADER.fullmatch(line) if line.endswith(">:") else None
        if header:
            current = functions.setdefault(header["name"], []) if wanted(header["name"]) else None
            continue
        match = _LINE.match(line) if current is not None else None
        if match and current is not None:
            current.append(_instruction(match))
    return functions


def _instruction(match: re.Match[str]) -> Instruction:
    mnemonic, operands = match["mnemonic"], match["operands"] or ""
    while mnemonic in _PREFIXES and operands:
        mnemonic, _, operands = operands.partition(" ")
        operands = operands.strip()
    operands = re.sub(r"\s+(#|//).*", "", operands)
    jump = re.search(r"(?:^|, ?)([0-9a-f]+) <", operands)
    return Instruction(
        address=int(match["address"], 16),
        code=match["code"].replace(" ", ""),
        mnemonic=mnemonic,
        operands=tuple(part.strip() for part in re.split(r",\s*(?![^(\[{]*[)\]}])", operands) if part.strip()),
        target=int(jump[1], 16) if jump else None,
    )


def innermost_loops(instructions: Sequence[Instruction]) -> list[list[Instruction]]:
    """Every stretch of code between a backward jump and its target that contains no other such stretch."""
    if not instructions:
        return []
    first = instructions[0].address
    spans = {
        (each.target, each.address)
        for each in instructions
        if each.target is not None
        and first <= each.target <= each.address
        and not each.mnemonic.startswith(("call", "bl"))
    }
    inner = [
        span
        for span in spans
        if not any(other != span and span[0] <= other[0] and other[1] <= span[1] for other in spans)
    ]
    return [[each for each in instructions if low <= each.address <= high] for low, high in sorted(inner)]


def count(loop: Iterable[Instruction], sheet: Sheet, machine: str) -> dict[str, int]:
    """Multiply-adds, loads and stores of one iteration, and of what else the sheet counts (`Sheet.beside`).

    Where the sheet names the size of an access, operands of another size or on the stack are counted apart, as
    ``other``.
    """
    isa = ISAS[machine]
    kinds = {"math": isa.math(sheet)} | {kind: isa.beside(sheet, kind) for kind in sheet.beside}
    found: Counter[str] = Counter()
    for each in loop:
        for kind, is_of_kind in kinds.items():
            found[kind] += int(is_of_kind is not None and is_of_kind(each))
        access = isa.access(each)
        named = not sheet.access_bytes or (access.size == sheet.access_bytes and not access.on_stack)
        moved = ("loads", "stores") if named else ("other", "other")
        found[moved[0]] += access.loads
        found[moved[1]] += access.stores
    return {kind: found[kind] for kind in (*kinds, "loads", "stores", "other")}


def prove_loop(sheet: Sheet, functions: Mapping[str, Sequence[Instruction]], machine: str, tool: str) -> Proof:
    """Compare every loop that a sheet stands for with the sheet."""
    expected = {"math": sheet.math, **sheet.beside, "loads": sheet.loads, "stores": sheet.stores}
    names = [name for name in functions if sheet.symbol and _family(name) == _family(sheet.symbol)]
    if not sheet.symbol or not names:
        return _unproven(
            sheet,
            f"symbol {sheet.symbol} is not in the binary: it was stripped"
            if sheet.symbol
            else "the sheet names no symbol",
        )
    if not any(expected.values()):
        return _unproven(sheet, "the sheet counts no instructions")
    unknown = [kind for kind in sheet.beside if ISAS[machine].beside(sheet, kind) is None]
    if (sheet.math and ISAS[machine].math(sheet) is None) or unknown:
        return _unproven(sheet, f"no {machine} {unknown[0] if unknown else 'multiply-add'} is known for {sheet.dtype}")
    digest = hashlib.sha256()
    found: dict[str, int] = {}
    for name in sorted(names, key=lambda name: (name != sheet.symbol, name)):
        loops = innermost_loops(functions[name])
        counted = [(count(loop, sheet, machine), loop) for loop in loops]
        found, loop = max(counted, key=lambda each: sum(each[0][kind] for kind in expected), default=({}, []))
        on_stack = sum(_stack_accesses(each, machine) for each in loop)
        digest.update("".join(each.code for each in loop).encode())
        # Variants that prefetch or walk several streams compute more addresses; the sheet's own loop may not.
        spills = _SPILLS * sum(expected.values()) if name == sheet.symbol else float("inf")
        reason = _complaint(expected, found, loop, spills)
        if reason:
            where = f"{reason}{_SPILLED if on_stack else ''} (in {name})"
            return Proof(
                status="failed",
                source=sheet.source,
                tool=tool,
                expected=expected,
                found=found,
                hash=digest.hexdigest()[:16],
                reason=where,
            )
    return Proof(
        status="proven", source=sheet.source, tool=tool, expected=expected, found=found, hash=digest.hexdigest()[:16]
    )


def _stack_accesses(each: Instruction, machine: str) -> int:
    access = ISAS[machine].access(each)
    return access.loads + access.stores if access.on_stack else 0


def _complaint(
    expected: Mapping[str, int], found: Mapping[str, int], loop: Sequence[Instruction], spills: float
) -> str:
    if not found:
        return "no loop was found"
    if any(each.mnemonic.startswith("call") or each.mnemonic in ("bl", "blr") for each in loop):
        return "the loop calls a function"
    wrong = [f"{found[kind]} {kind} instead of {expected[kind]}" for kind in expected if found[kind] != expected[kind]]
    if not wrong and found["other"] > spills:
        wrong = [
            f"{found['other']} memory accesses beside the {expected['loads']} loads and {expected['stores']} stores"
        ]
    return f"the loop has {', '.join(wrong)}" if wrong else ""


def _family(symbol: str) -> str:
    """Reduce a symbol to what its loop's variants share: a case may choose streams, prefetches, groups of stores."""
    return re.sub(r"Lj\d+E(Lb[01]E)Lb[01]ELj\d+E", r"Lj*E\1Lb*ELj*E", symbol)


def _unproven(sheet: Sheet, reason: str) -> Proof:
    return Proof(status="unproven", source=sheet.source, reason=reason)


def machine_of(binary: Path) -> str | None:
    """Architecture of an ELF file: ``x86_64``, ``aarch64`` or ``None``."""
    try:
        head = binary.read_bytes()[:20]
    except OSError:
        return None
    return _ELF_MACHINES.get(int.from_bytes(head[18:20], "little")) if head[:4] == b"\x7fELF" else None


def find_tool(machine: str) -> str | None:
    """Path of an objdump that reads the architecture, the system's own first; ``None`` without binutils."""
    own = shutil.which("objdump")
    cross = shutil.which(f"{machine.replace('_', '-')}-linux-gnu-objdump")
    for tool in (own, cross):
        if tool is not None and _reads(tool, machine):
            return tool
    return None


def _reads(tool: str, machine: str) -> bool:
    try:
        listed = _asked(tool, "-i")
    except OSError:
        return False
    return {"x86_64": "elf64-x86-64", "aarch64": "elf64-littleaarch64"}[machine] in listed.stdout


def _asked(*command: str) -> subprocess.CompletedProcess[str]:
    """Run binutils apart from the terminal: its Ctrl-C is for us, and below 21 columns ``objdump -i`` never ends.

    Raises
    ------
    OSError
        If it cannot be started or does not end.
    """
    plain = {**os.environ, "LC_ALL": "C", "COLUMNS": "80"}
    try:
        return subprocess.run(  # noqa: S603 - binutils on our own file
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_TIMEOUT_S,
            env=plain,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{Path(command[0]).name} took longer than {_TIMEOUT_S} s") from error


def disassemble(binary: Path, tool: str, wanted: Callable[[str], bool] = bool) -> dict[str, list[Instruction]]:
    """Disassemble a binary in one call, and keep the symbols that are ``wanted``.

    Raises
    ------
    OSError
        If objdump fails or cannot be started.
    """
    done = _asked(tool, "-d", "-w", str(binary))
    if done.returncode:
        raise OSError(
            done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"objdump ended with {done.returncode}"
        )
    return read(done.stdout, wanted)


def prove_binary(sheets: Sequence[Sheet], binary: Path) -> dict[str, Proof]:
    """Prove the loops of all sheets in one binary; where that cannot be done, ``unproven`` with the reason."""
    machine = machine_of(binary)
    if machine is None:
        return {sheet.name: _unproven(sheet, f"{binary.name} is no ELF file of x86-64 or aarch64") for sheet in sheets}
    tool = find_tool(machine)
    if tool is None:
        return {sheet.name: _unproven(sheet, "no objdump: install binutils") for sheet in sheets}
    try:
        families = {_family(sheet.symbol) for sheet in sheets if sheet.symbol}
        functions = disassemble(binary, tool, lambda name: _family(name) in families)
        version = _asked(tool, "--version")
    except OSError as error:
        return {sheet.name: _unproven(sheet, f"objdump failed: {error}") for sheet in sheets}
    named = version.stdout.splitlines()[0] if version.stdout else "objdump"
    return {sheet.name: prove_loop(sheet, functions, machine, named) for sheet in sheets}
