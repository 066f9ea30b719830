"""What a disassembled CPU instruction does: its loads and stores, and whether it is a sheet's multiply-add.

Operands are as binutils prints them: AT&T syntax for x86-64, where the destination comes last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from microbench.records import Sheet
from microbench.records.dtypes import DTYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One disassembled instruction; ``target`` is where a direct jump goes."""

    address: int
    code: str
    mnemonic: str
    operands: tuple[str, ...] = ()
    target: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Loads and stores of one instruction, and the bytes of each."""

    loads: int = 0
    stores: int = 0
    size: int = 0
    on_stack: bool = False


Counts = Callable[[Instruction], bool]

# x86-64

_X86_VECTOR = {"zmm": 64, "ymm": 32, "xmm": 16}
_X86_NO_MEMORY = ("lea", "nop", "prefetch", "clflush", "j", "call", "endbr", "ldtilecfg", "sttilecfg")
_X86_READS_ONLY = ("cmp", "test", "vptest", "vucomi", "bt", "vcomi")


def _x86_size(each: Instruction) -> int:
    """Bytes that a memory operand moves, from the mnemonic or the widest register beside it."""
    if each.mnemonic.startswith("tile"):
        return 1024
    scalar = re.fullmatch(
        r"v?(?:mov|add|mul|sub|fn?m\w+|div)(?:.*)(?P<kind>s[sdh]|[lh]p[sd])|v?mov(?P<word>[dq])", each.mnemonic
    )
    if scalar:
        return {"ss": 4, "sd": 8, "sh": 2, "d": 4, "q": 8}.get(scalar["kind"] or scalar["word"], 8)
    text = " ".join(part for part in each.operands if "(" not in part)
    for register, size in _X86_VECTOR.items():
        if f"%{register}" in text:
            return size
    if re.search(r"%(r[a-ds]?[a-z0-9]*[a-z0-9])\b", text) and not re.search(r"%r\d+[dwb]\b", text):
        return 8
    return {"b": 1, "w": 2, "l": 4, "q": 8}.get(each.mnemonic[-1], 4)


def x86_access(each: Instruction) -> Access:
    """Loads and stores of an x86-64 instruction (AT&T syntax: the destination comes last)."""
    memory = [
        index
        for index, part in enumerate(each.operands)
        if "(" in part or re.fullmatch(r"(%[c-gs]s:)?0x[0-9a-f]+", part)
    ]
    if not memory or each.mnemonic.startswith(_X86_NO_MEMORY):
        return Access()
    size, on_stack = _x86_size(each), "(%rsp" in each.operands[memory[-1]]
    into = memory[-1] == len(each.operands) - 1 and len(each.operands) > 1
    if not into or each.mnemonic.startswith(_X86_READS_ONLY):
        # A single memory operand is read (divq), or read and written back (incq).
        return Access(
            loads=1, stores=int(each.mnemonic.startswith(("inc", "dec", "neg", "not"))), size=size, on_stack=on_stack
        )
    moves = re.match(r"v?mov|tilestored|vextract|vcompress|vpscatter|vcvtps2ph|set", each.mnemonic)
    return Access(loads=0 if moves else 1, stores=1, size=size, on_stack=on_stack)


_X86_MATH: Mapping[tuple[str, str], tuple[str, str]] = {
    ("f64", "f64"): (r"vfmadd(132|213|231)pd", r"vfmadd(132|213|231)sd"),
    ("f32", "f32"): (r"vfmadd(132|213|231)ps", r"vfmadd(132|213|231)ss"),
    ("f16", "f16"): (r"vfmadd(132|213|231)ph", r"vfmadd(132|213|231)sh"),
    ("bf16", "f32"): (r"vdpbf16ps|tdpbf16ps", ""),
    ("f16", "f32"): (r"tdpfp16ps", ""),
    ("i8", "i32"): (r"vpdpb[us][us]ds?|tdpb[us][us]d|v?pmaddubsw", ""),
}
# What a loop does beside its multiply-adds, by the words of `Sheet.beside`.
_X86_BESIDE: Mapping[str, Mapping[tuple[str, str], tuple[str, str]]] = {
    "add": {("f64", "f64"): (r"v?addpd", r"v?addsd"), ("f32", "f32"): (r"v?addps", r"v?addss")},
    "mul": {("f64", "f64"): (r"v?mulpd", r"v?mulsd"), ("f32", "f32"): (r"v?mulps", r"v?mulss")},
    "widen": {("i8", "i32"): (r"v?pmaddwd|v?paddd", "")},
}


def x86_math(sheet: Sheet) -> Counts | None:
    """Tell a sheet's multiply-add from other instructions; ``None`` for a dtype that x86-64 has none for."""
    return _x86_counts(_X86_MATH, sheet)


def x86_beside(sheet: Sheet, kind: str) -> Counts | None:
    """Tell an addition, a multiplication or a widening of a sheet's dtype from other instructions."""
    return _x86_counts(_X86_BESIDE.get(kind, {}), sheet)


def _x86_counts(table: Mapping[tuple[str, str], tuple[str, str]], sheet: Sheet) -> Counts | None:
    spelling = _spelling(table, sheet)
    if spelling is None:
        return None
    pattern = re.compile(spelling)
    register = {16: "%xmm", 32: "%ymm", 64: "%zmm"}.get(_register_bytes(sheet), "")
    prefix = "%tmm" if sheet.unit == "matrix" else "%xmm" if sheet.unit == "scalar" else register

    def counts(each: Instruction) -> bool:
        return (
            pattern.fullmatch(each.mnemonic) is not None
            and bool(each.operands)
            and each.operands[-1].startswith(prefix)
        )

    return counts


# aarch64

_ARM_SIZES = {"q": 16, "d": 8, "s": 4, "h": 2, "b": 1, "x": 8, "w": 4}
_ARM_MATH: Mapping[tuple[str, str], tuple[str, str]] = {
    ("f64", "f64"): (r"fmla (v\d+\.2d|z\d+\.d)", r"fmadd d\d+"),
    ("f32", "f32"): (r"fmla (v\d+\.4s|z\d+\.s)", r"fmadd s\d+"),
    ("f16", "f16"): (r"fmla (v\d+\.8h|z\d+\.h)", r"fmadd h\d+"),
    ("bf16", "f32"): (r"bf(dot|mmla) (v\d+\.4s|z\d+\.s)", ""),
    ("i8", "i32"): (r"([su]dot|smmla) (v\d+\.4s|z\d+\.s)", ""),
}
_ARM_BESIDE: Mapping[str, Mapping[tuple[str, str], tuple[str, str]]] = {
    "add": {("f64", "f64"): (r"fadd v\d+\.2d", ""), ("f32", "f32"): (r"fadd v\d+\.4s", "")},
}


def arm_access(each: Instruction) -> Access:
    """Loads and stores of an aarch64 instruction; a pair counts twice, a structure as many registers as it lists."""
    kind = re.match(r"(?P<verb>ld|st)(?P<form>\d|n?p|u?r|apr|lr|xr|ar)", each.mnemonic)
    if kind is None or each.mnemonic.startswith("prf") or not any("[" in part for part in each.operands):
        return Access()
    first = each.operands[0]
    if first.startswith("{"):
        low, high = re.findall(r"v(\d+)", first)[0], re.findall(r"v(\d+)", first)[-1]
        count = (int(high) - int(low)) % 32 + 1 if "-" in first else len(re.findall(r"v\d+", first))
        size = 8 if re.search(r"\.(8b|4h|2s|1d)", first) else 16
    else:
        count = 2 if kind["form"] in ("p", "np") else 1
        size = _ARM_SIZES.get(first[:1], 8)
    on_stack = any("[sp" in part for part in each.operands)
    is_load = kind["verb"] == "ld"
    return Access(loads=count if is_load else 0, stores=0 if is_load else count, size=size, on_stack=on_stack)


def arm_math(sheet: Sheet) -> Counts | None:
    """Tell a sheet's multiply-add from other instructions; ``None`` for a dtype that aarch64 has none for."""
    return _arm_counts(_ARM_MATH, sheet)


def arm_beside(sheet: Sheet, kind: str) -> Counts | None:
    """Tell an addition of a sheet's dtype from other instructions."""
    return _arm_counts(_ARM_BESIDE.get(kind, {}), sheet)


def _arm_counts(table: Mapping[tuple[str, str], tuple[str, str]], sheet: Sheet) -> Counts | None:
    spelling = _spelling(table, sheet)
    if spelling is None:
        return None
    pattern = re.compile(spelling)
    return lambda each: bool(each.operands) and pattern.fullmatch(f"{each.mnemonic} {each.operands[0]}") is not None


def _spelling(table: Mapping[tuple[str, str], tuple[str, str]], sheet: Sheet) -> str | None:
    vector, scalar = table.get((sheet.dtype or "", sheet.accumulator or sheet.dtype or ""), ("", ""))
    return (scalar if sheet.unit == "scalar" else vector) or None


def _register_bytes(sheet: Sheet) -> int:
    return int(sheet.lanes * DTYPES[sheet.accumulator or sheet.dtype or "f32"].bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionSet:
    """What an instruction reads and writes, and which ones are a sheet's multiply-adds and what it counts beside."""

    access: Callable[[Instruction], Access]
    math: Callable[[Sheet], Counts | None]
    beside: Callable[[Sheet, str], Counts | None]


ISAS = {
    "x86_64": InstructionSet(access=x86_access, math=x86_math, beside=x86_beside),
    "aarch64": InstructionSet(access=arm_access, math=arm_math, beside=arm_beside),
}
