"""The proof of CPU loops: known assembly, mutations that must be refused, the built extension, and clang's code."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from places import ROOT

from microbench.proof import instruction_sets, objdump, prove
from microbench.records import Sheet, Work

SYMBOL = "loop"

needs_binutils = pytest.mark.skipif(not all(map(shutil.which, ("as", "objdump"))), reason="no binutils")
x86_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="assembles x86-64 code")


def sheet(**changes: object) -> Sheet:
    facts: dict[str, object] = {
        "name": "triad.f32.v512",
        "measures": "memory",
        "backend": "native",
        "device_kind": "cpu",
        "says": "",
        "unit": "vector",
        "dtype": "f32",
        "lanes": 16,
        "math": 4,
        "loads": 3,
        "stores": 1,
        "access_bytes": 64,
        "symbol": SYMBOL,
        "work": Work(bytes_read=192, bytes_written=64),
    }
    return Sheet(**(facts | changes))  # type: ignore[arg-type]


# A loop with four multiply-adds (one of them on memory), three loads, one store, a prefetch, an address computation
# and, before and after it, what must not be counted: a short loop that copies, and stores of the result.
GOOD = """
.globl loop
.type loop, @function
loop:
    mov $4, %ecx
1:  vmovups (%rsi), %ymm1
    vmovups %ymm1, (%rdi)
    dec %ecx
    jnz 1b
    mov %rdx, -8(%rsp)
    jmp 3f
2:  vmovups (%rsi,%rax), %zmm0
    vmovups 64(%rsi,%rax), %zmm1
    prefetcht0 4096(%rsi,%rax)
    vfmadd231ps %zmm2, %zmm3, %zmm4
    vfmadd231ps %zmm2, %zmm3, %zmm5
    vfmadd213ps 128(%rsi,%rax), %zmm0, %zmm6
    vfmadd132ps %zmm0, %zmm1, %zmm7
    vmovntps %zmm7, (%rdi,%rax)
    lea 64(%rax), %rax
    nopw 0x0(%rax,%rax,1)
3:  sub $1, %rdx
    jne 2b
    vmovups %zmm4, (%rdi)
    vzeroupper
    ret
"""


def assemble(folder: Path, source: str) -> Path:
    (folder / "loop.s").write_text(source)
    subprocess.run(["as", "loop.s", "-o", "loop.o"], cwd=folder, check=True)
    return folder / "loop.o"


def proof_of(folder: Path, source: str, **changes: object) -> tuple[str, str]:
    row = sheet(**changes)
    found = objdump.prove_binary([row], assemble(folder, source))[row.name]
    return found.status, found.reason or ""


@needs_binutils
@x86_only
def test_the_loop_of_the_sheet_is_proven(tmp_path: Path) -> None:
    row = sheet()
    found = objdump.prove_binary([row], assemble(tmp_path, GOOD))[row.name]
    assert found.status == "proven"
    assert found.found == {"math": 4, "loads": 3, "stores": 1, "other": 0}
    assert found.tool is not None
    assert "objdump" in found.tool
    assert found.hash is not None
    assert len(found.hash) == 16


@needs_binutils
@x86_only
@pytest.mark.parametrize(
    ("what", "old", "new", "says"),
    [
        ("a removed multiply-add", "    vfmadd231ps %zmm2, %zmm3, %zmm5\n", "", "3 math instead of 4"),
        ("an added multiply-add", "    vzeroupper\n", "", None),
        (
            "a doubled multiply-add",
            "%zmm3, %zmm5\n",
            "%zmm3, %zmm5\n    vfmadd231ps %zmm2, %zmm3, %zmm8\n",
            "5 math instead of 4",
        ),
        (
            "an addition in its place",
            "vfmadd231ps %zmm2, %zmm3, %zmm5",
            "vaddps %zmm2, %zmm3, %zmm5",
            "3 math instead of 4",
        ),
        (
            "a narrower multiply-add",
            "vfmadd231ps %zmm2, %zmm3, %zmm5",
            "vfmadd231ps %ymm2, %ymm3, %ymm5",
            "3 math instead of 4",
        ),
        (
            "a scalar multiply-add",
            "vfmadd231ps %zmm2, %zmm3, %zmm5",
            "vfmadd231ss %xmm2, %xmm3, %xmm5",
            "3 math instead of 4",
        ),
        ("another dtype", "vfmadd231ps %zmm2, %zmm3, %zmm5", "vfmadd231pd %zmm2, %zmm3, %zmm5", "3 math instead of 4"),
        ("a hoisted load", "    vmovups 64(%rsi,%rax), %zmm1\n", "", "2 loads instead of 3"),
        ("a hoisted memory operand", "128(%rsi,%rax), %zmm0, %zmm6", "%zmm9, %zmm0, %zmm6", "2 loads instead of 3"),
        ("a narrower load", "vmovups 64(%rsi,%rax), %zmm1", "vmovups 64(%rsi,%rax), %ymm1", "2 loads instead of 3"),
        ("an extra store", "    lea 64", "    vmovups %zmm6, 64(%rdi,%rax)\n    lea 64", "2 stores instead of 1"),
        ("a dropped store", "    vmovntps %zmm7, (%rdi,%rax)\n", "", "0 stores instead of 1"),
        (
            "a spilled accumulator",
            "    lea 64",
            "    vmovaps %zmm6, -128(%rsp)\n    lea 64",
            "beside the 3 loads and 1 stores; accumulators spilled to the stack: pass a pack, not an array",
        ),
        ("a reloaded counter", "    lea 64", "    addq $1, (%rbx)\n    lea 64", "memory accesses beside"),
        ("a call", "    lea 64", "    call loop\n    lea 64", "calls a function"),
        ("no loop at all", "jne 2b", "nop", "instead of"),
    ],
)
def test_every_deviation_from_the_sheet_is_refused(
    tmp_path: Path, what: str, old: str, new: str, says: str | None
) -> None:
    assert old in GOOD
    status, reason = proof_of(tmp_path, GOOD.replace(old, new))
    if says is None:  # what follows the loop is none of its business
        assert status == "proven"
        return
    assert status == "failed", what
    assert says in reason, what


@needs_binutils
@x86_only
def test_a_spilled_result_in_a_compute_loop_is_refused(tmp_path: Path) -> None:
    source = "loop:\n1: vfmadd231pd %ymm0, %ymm1, %ymm2\n vmovapd %ymm2, -0x78(%rsp)\n sub $1, %rax\n jne 1b\n ret\n"
    status, reason = proof_of(tmp_path, source, dtype="f64", lanes=4, math=1, loads=0, stores=0, access_bytes=0)
    assert status == "failed"
    assert "1 stores instead of 0; accumulators spilled to the stack: pass a pack, not an array" in reason


@needs_binutils
@x86_only
def test_only_a_loop_that_touches_the_stack_is_said_to_spill(tmp_path: Path) -> None:
    status, reason = proof_of(tmp_path, GOOD.replace("    lea 64", "    addq $1, (%rbx)\n    lea 64"))
    assert status == "failed"
    assert "spilled" not in reason


def test_spilled_accumulators_of_aarch64_are_named_too() -> None:
    listing = ARM.replace("\tprfm\tpldl1keep, [x1, #8]", "\tstr\tq4, [sp, #16]")
    found = objdump.prove_loop(
        sheet(lanes=4, math=2, loads=3, stores=2, access_bytes=16), objdump.read(listing), "aarch64", "objdump"
    )
    assert found.status == "failed"
    assert "accumulators spilled to the stack" in (found.reason or "")


@needs_binutils
@x86_only
@pytest.mark.parametrize(
    ("instruction", "facts"),
    [
        ("vfmadd231sd %xmm0, %xmm1, %xmm2", {"dtype": "f64", "unit": "scalar", "lanes": 1}),
        ("vfmadd231ph %zmm0, %zmm1, %zmm2", {"dtype": "f16", "lanes": 32}),
        ("vdpbf16ps %ymm0, %ymm1, %ymm2", {"dtype": "bf16", "accumulator": "f32", "lanes": 8}),
        ("vpdpbusd %zmm0, %zmm1, %zmm2", {"dtype": "i8", "accumulator": "i32", "lanes": 16}),
        ("{vex} vpdpbusd %ymm0, %ymm1, %ymm2", {"dtype": "i8", "accumulator": "i32", "lanes": 8}),
        ("tdpbssd %tmm0, %tmm1, %tmm2", {"dtype": "i8", "accumulator": "i32", "lanes": 256, "unit": "matrix"}),
        ("tdpbf16ps %tmm0, %tmm1, %tmm2", {"dtype": "bf16", "accumulator": "f32", "lanes": 256, "unit": "matrix"}),
    ],
)
def test_each_multiply_add_is_known_by_its_dtype(tmp_path: Path, instruction: str, facts: dict[str, object]) -> None:
    source = f"loop:\n1: {instruction}\n {instruction}\n sub $1, %rax\n jne 1b\n ret\n"
    rest = {"loads": 0, "stores": 0, "access_bytes": 0}
    assert proof_of(tmp_path, source, math=2, **facts, **rest)[0] == "proven"
    assert proof_of(tmp_path, source, math=3, **facts, **rest)[0] == "failed"


MIXED = """
loop:
1:  vfmadd231ps %ymm0, %ymm1, %ymm2
    vfmadd231ps %ymm0, %ymm1, %ymm3
    vaddps %ymm0, %ymm4, %ymm4
    sub $1, %rax
    jne 1b
    ret
"""


@needs_binutils
@x86_only
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("", "", None),
        ("vaddps %ymm0, %ymm4, %ymm4", "nop", "0 add instead of 1"),
        ("vaddps %ymm0, %ymm4, %ymm4", "vaddps %xmm0, %xmm4, %xmm4", "0 add instead of 1"),
        ("vaddps %ymm0, %ymm4, %ymm4", "vaddpd %ymm0, %ymm4, %ymm4", "0 add instead of 1"),
        ("vfmadd231ps %ymm0, %ymm1, %ymm3", "vaddps %ymm0, %ymm3, %ymm3", "1 math instead of 2, 2 add instead of 1"),
        ("vfmadd231ps %ymm0, %ymm1, %ymm3", "vmulps %ymm0, %ymm3, %ymm3", "1 math instead of 2"),
    ],
)
def test_additions_beside_multiply_adds_are_counted_apart(tmp_path: Path, old: str, new: str, says: str | None) -> None:
    facts = {"lanes": 8, "math": 2, "beside": {"add": 1}, "loads": 0, "stores": 0, "access_bytes": 0}
    status, reason = proof_of(tmp_path, MIXED.replace(old, new), **facts)
    assert status == ("failed" if says else "proven")
    assert (says or "") in reason


@needs_binutils
@x86_only
@pytest.mark.parametrize(
    ("mul", "add", "facts"),
    [
        ("mulps %xmm0, %xmm2", "addps %xmm2, %xmm3", {"dtype": "f32", "lanes": 4}),
        ("mulsd %xmm0, %xmm2", "addsd %xmm2, %xmm3", {"dtype": "f64", "lanes": 1, "unit": "scalar"}),
        ("vmulpd %ymm0, %ymm1, %ymm2", "vaddpd %ymm2, %ymm3, %ymm3", {"dtype": "f64", "lanes": 4}),
    ],
)
def test_products_and_sums_apart_are_counted_without_a_multiply_add(
    tmp_path: Path, mul: str, add: str, facts: dict[str, object]
) -> None:
    source = f"loop:\n1: movaps %xmm1, %xmm2\n {mul}\n {add}\n {add}\n sub $1, %rax\n jne 1b\n ret\n"
    rest = {"math": 0, "loads": 0, "stores": 0, "access_bytes": 0}
    assert proof_of(tmp_path, source, beside={"mul": 1, "add": 2}, **facts, **rest)[0] == "proven"
    assert proof_of(tmp_path, source, beside={"mul": 2, "add": 2}, **facts, **rest)[0] == "failed"
    assert "no x86_64 widen is known" in proof_of(tmp_path, source, beside={"widen": 2}, **facts, **rest)[1]


@needs_binutils
@x86_only
def test_a_sequence_of_bytes_is_counted_by_each_of_its_instructions(tmp_path: Path) -> None:
    lines = ("vpmaddubsw %ymm0, %ymm1, %ymm2", "vpmaddwd %ymm3, %ymm2, %ymm2", "vpaddd %ymm2, %ymm4, %ymm4")
    facts = {"dtype": "i8", "accumulator": "i32", "lanes": 8, "math": 1, "beside": {"widen": 2}}
    rest = {"loads": 0, "stores": 0, "access_bytes": 0}
    source = "loop:\n1: " + "\n ".join((*lines, "sub $1, %rax", "jne 1b", "ret", ""))
    assert proof_of(tmp_path, source, **facts, **rest)[0] == "proven"
    status, reason = proof_of(tmp_path, source.replace(lines[1], "nop"), **facts, **rest)
    assert status == "failed"
    assert "1 widen instead of 2" in reason


@needs_binutils
@x86_only
def test_a_variant_of_the_loop_that_differs_is_found(tmp_path: Path) -> None:
    name = "_ZN4loopILj1ELb0ELb0ELj4EE3runERm"
    variant = name.replace("Lj1E", "Lj4E")
    body = "1: vmovups (%rsi), %zmm0\n{more} sub $1, %rax\n jne 1b\n ret\n"
    source = f"{name}:\n" + body.format(more="") + f"{variant}:\n" + body.format(more="{more}")
    facts = {"math": 0, "loads": 1, "stores": 0, "symbol": name}
    assert proof_of(tmp_path, source.format(more=""), **facts)[0] == "proven"
    status, reason = proof_of(tmp_path, source.format(more="vmovups 64(%rsi), %zmm1\n"), **facts)
    assert status == "failed"
    assert variant in reason


# As `aarch64-linux-gnu-objdump -d -w` prints it.
ARM = """
0000000000000000 <loop>:
   0:\t3dc00020 \tldr\tq0, [x1]
   4:\tad400821 \tldp\tq1, q2, [x1]
   8:\t4e22cc24 \tfmla\tv4.4s, v1.4s, v2.4s
   c:\t4e22cc25 \tfmla\tv5.4s, v1.4s, v2.4s
  10:\tf9800420 \tprfm\tpldl1keep, [x1, #8]
  14:\tac000400 \tstnp\tq0, q1, [x0]
  18:\tf1000442 \tsubs\tx2, x2, #0x1
  1c:\t54ffff21 \tb.ne\t0 <loop>  // b.any
  20:\td65f03c0 \tret
"""


@pytest.mark.parametrize(
    ("edit", "status"),
    [
        (lambda text: text, "proven"),
        (lambda text: text.replace("\tfmla\tv5.4s, v1.4s, v2.4s", "\tfadd\tv5.4s, v1.4s, v2.4s"), "failed"),
        (lambda text: text.replace("ldp\tq1, q2", "ldr\tq1"), "failed"),
        (lambda text: text.replace("stnp\tq0, q1", "str\tq0"), "failed"),
        (lambda text: text.replace(".4s", ".2d"), "failed"),
    ],
)
def test_aarch64_loops_are_counted_alike(edit: Callable[[str], str], status: str) -> None:
    row = sheet(lanes=4, math=2, loads=3, stores=2, access_bytes=16)
    assert objdump.prove_loop(row, objdump.read(edit(ARM)), "aarch64", "objdump").status == status


def test_additions_of_aarch64_are_counted_beside_multiply_adds() -> None:
    listing = (
        "0000000000000000 <loop>:\n   0:\t4e21cc02 \tfmla\tv2.4s, v0.4s, v1.4s\n"
        "   4:\t4e3fd484 \tfadd\tv4.4s, v4.4s, v31.4s"
        "\n   8:\tf1000400 \tsubs\tx0, x0, #0x1\n   c:\t54ffffa1 \tb.ne\t0 <loop>"
    )
    facts = {"lanes": 4, "math": 1, "loads": 0, "stores": 0, "access_bytes": 0}
    for added, status in ((1, "proven"), (2, "failed")):
        row = sheet(beside={"add": added}, **facts)
        assert objdump.prove_loop(row, objdump.read(listing), "aarch64", "objdump").status == status


@pytest.mark.parametrize(
    ("instruction", "facts"),
    [
        ("fmla\tz0.s, p0/m, z30.s, z31.s", {"dtype": "f32"}),
        ("fmla\tz19.d, p0/m, z30.d, z31.d", {"dtype": "f64"}),
        ("fmla\tz1.h, p0/m, z30.h, z31.h", {"dtype": "f16"}),
        ("sdot\tz1.s, z30.b, z31.b", {"dtype": "i8", "accumulator": "i32"}),
        ("bfdot\tz1.s, z30.h, z31.h", {"dtype": "bf16", "accumulator": "f32"}),
        ("smmla\tv1.4s, v20.16b, v21.16b", {"dtype": "i8", "accumulator": "i32", "unit": "matrix"}),
        ("bfmmla\tv1.4s, v20.8h, v21.8h", {"dtype": "bf16", "accumulator": "f32", "unit": "matrix"}),
    ],
)
def test_each_multiply_add_of_aarch64_is_known_by_its_dtype(instruction: str, facts: dict[str, object]) -> None:
    lines = (f"   0:\t04bf7bc0 \t{instruction}", "   4:\t4e3fd484 \tfadd\tv4.4s, v4.4s, v31.4s")
    listing = "\n".join(
        ("0000000000000000 <loop>:", *lines, "   8:\tf1000400 \tsubs\tx0, x0, #0x1", "   c:\t54ffffa1 \tb.ne\t0 <loop>")
    )
    functions = objdump.read(listing)
    rest = {"loads": 0, "stores": 0, "access_bytes": 0}
    assert objdump.prove_loop(sheet(math=1, **facts, **rest), functions, "aarch64", "objdump").status == "proven"
    assert objdump.prove_loop(sheet(math=2, **facts, **rest), functions, "aarch64", "objdump").status == "failed"


@pytest.mark.parametrize(
    ("text", "loads", "stores"),
    [
        ("ld1\t{v0.16b-v3.16b}, [x0]", 4, 0),
        ("st1\t{v0.4s}, [x0], #16", 0, 1),
        ("ldnp\tq0, q1, [x0]", 2, 0),
        ("add\tx0, x0, #1", 0, 0),
    ],
)
def test_aarch64_structure_loads_count_their_registers(text: str, loads: int, stores: int) -> None:
    (each,) = objdump.read(f"0000000000000000 <f>:\n   0:\t00000000 \t{text}\n")["f"]
    access = instruction_sets.arm_access(each)
    assert (access.loads, access.stores) == (loads, stores)


def test_without_objdump_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = tmp_path / "x.so"
    binary.write_bytes(b"\x7fELF" + bytes(14) + (0x3E).to_bytes(2, "little"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    found = objdump.prove_binary([sheet()], binary)["triad.f32.v512"]
    assert (found.status, found.reason) == ("unproven", "no objdump: install binutils")


def test_a_file_that_is_no_binary_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("not a binary")
    for name in ("x", "missing"):
        assert objdump.prove_binary([sheet()], tmp_path / name)["triad.f32.v512"].status == "unproven"


@needs_binutils
@x86_only
def test_a_stripped_symbol_proves_nothing(tmp_path: Path) -> None:
    status, reason = proof_of(tmp_path, GOOD.replace("loop", "gone"))
    assert status == "unproven"
    assert "stripped" in reason


# --- the real thing
# ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def native_sheets() -> list[Sheet]:
    pytest.importorskip("microbench._cpu", reason="the CPU module is not built here")
    from microbench.kernels import cpu

    return cpu.sheets()


def provable(row: Sheet) -> bool:
    # A string instruction is one instruction of any length: its sheet counts none, and there is nothing to prove.
    counted = row.math + row.loads + row.stores > 0
    return row.measures in ("compute", "memory", "intensity") and row.symbol is not None and counted


@needs_binutils
def test_every_loop_of_the_built_extension_is_what_its_sheet_says(
    native_sheets: list[Sheet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objdump, "_TIMEOUT_S", 3600)  # a busy emulator takes minutes over a megabyte of code
    found = prove(native_sheets)
    wrong = {
        row.name: found[row.name].reason
        for row in native_sheets
        if provable(row) and found[row.name].status != "proven"
    }
    assert wrong == {}
    assert sum(provable(row) for row in native_sheets) >= 12


@needs_binutils
@x86_only
def test_what_lies_ahead_is_asked_for_without_a_load_for_each_line(native_sheets: list[Sheet]) -> None:
    # Where the distance to each line is kept apart, most of them come from the stack.
    one_stream_ahead = re.compile(r"6stream\w+4loop\w+Lj1ELb[01]ELb1ELj\d+E")
    _cpu = pytest.importorskip("microbench._cpu")
    tool = objdump.find_tool("x86_64")
    assert tool is not None
    functions = objdump.disassemble(Path(_cpu.__file__), tool, lambda name: bool(one_stream_ahead.search(name)))
    assert functions
    access = instruction_sets.ISAS["x86_64"].access
    for name, instructions in functions.items():
        loop = max(objdump.innermost_loops(instructions), key=len)
        lines = sum(each.mnemonic.startswith("prefetch") for each in loop)
        # Stores past the caches ask for nothing.
        assert lines == 0 or sum(access(each).on_stack for each in loop) <= lines / 4 + 3, name


@pytest.mark.nightly
@needs_binutils
@pytest.mark.skipif(shutil.which("clang++") is None, reason="no clang++ for the second compiler")
def test_every_loop_is_what_its_sheet_says_under_clang_too(native_sheets: list[Sheet], tmp_path: Path) -> None:
    sources = sorted((ROOT / "csrc/cpu/kernels").glob("*.cpp"))
    options = [
        "-std=c++20",
        "-O3",
        "-DNDEBUG",
        "-fPIC",
        "-fvisibility=hidden",
        "-fno-unroll-loops",
        "-falign-loops=64",
        "-c",
    ]

    def compiled(source: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["clang++", *options, str(source)], cwd=tmp_path, check=False, capture_output=True, text=True
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(compiled, sources):
            assert done.returncode == 0, done.stderr[-2000:]
    wrong = {}
    for row in filter(provable, native_sheets):
        binary = tmp_path / f"{Path(row.source).stem}.o"
        found = objdump.prove_binary([row], binary)[row.name]
        if found.status != "proven":
            wrong[row.name] = found.reason
    assert wrong == {}


@needs_binutils
@x86_only
def test_a_narrow_terminal_keeps_objdump_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1")  # objdump -i would print its tables forever
    monkeypatch.setattr(objdump, "_TIMEOUT_S", 20)
    assert objdump.find_tool("x86_64") is not None


@pytest.mark.parametrize("script", ["no program at all", "#!/bin/sh\nexec sleep 60\n", "#!/bin/sh\nkill -9 $$\n"])
def test_an_objdump_that_does_not_work_proves_nothing_and_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    tool = tmp_path / "objdump"
    tool.write_text(script)
    tool.chmod(0o755)
    monkeypatch.setattr(objdump, "_TIMEOUT_S", 0.5)
    monkeypatch.setattr(objdump.shutil, "which", lambda name: str(tool) if name == "objdump" else None)
    found = objdump.prove_binary([sheet()], Path(sys.executable).resolve())["triad.f32.v512"]
    assert found.status == "unproven"
    assert "objdump" in (found.reason or "")
