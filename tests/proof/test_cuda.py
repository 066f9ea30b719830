from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from ptx import toolchain

from microbench.kernels.cuda.rows import FAMILIES, TARGETS, CudaRow, rows_for
from microbench.proof import cuda, golden, sass
from microbench.proof.architecture import ARCHITECTURES, resident_blocks

BUILDS = [(family, target) for family, targets in FAMILIES.items() for target in targets]
ROWS = [(row, target) for target in TARGETS for row in rows_for(target) if row.limiter != "none"]
needs_nvdisasm = pytest.mark.skipif(
    sass.nvdisasm() is None, reason="no nvdisasm: pip install nvidia-cuda-nvdisasm==13.5.37"
)
needs_nvcc = pytest.mark.skipif(
    toolchain.nvcc() is None, reason="no nvcc 13 on the PATH, kernels cannot be compiled here"
)
needs_cubins = pytest.mark.skipif(
    toolchain.nvcc() is None and not any(toolchain.shipped(*build) for build in BUILDS),
    reason="no nvcc 13 on the PATH and no cubins installed: there is no machine code to prove",
)


def cubin(family: str, target: str) -> Path:
    """The bytes that ship where they are installed, else the same source and flags compiled here; left out without."""
    found = toolchain.shipped(family, target)
    if found is None and toolchain.nvcc() is None:
        pytest.skip(f"no nvcc 13 here, and the package was built without {target} (MICROBENCH_CUDA_TARGETS)")
    return found or toolchain.compiled(toolchain.source(family), target)


def rows_of(family: str, target: str) -> tuple[CudaRow, ...]:
    return tuple(row for row in rows_for(target) if row.family == family and row.limiter != "none")


@cache
def examined(family: str, target: str) -> dict[str, cuda.Examined | None]:
    return cuda.examine_all(cubin(family, target), target, rows_of(family, target))


def bytes_in_flight(row: CudaRow, found: cuda.Examined, blocks: int | None = None) -> int:
    """Bytes that one SM has asked for at once: what a thread issues before it uses the first (bulk: the whole ring)."""
    fit = resident_blocks(
        found.target, row.threads, found.resources.registers, row.shared_bytes + found.resources.shared_bytes
    )
    flight = found.schedule.flight * row.access_bytes * row.threads
    each = row.shared_bytes if row.space == "bulk" else flight
    return min(blocks or fit, fit) * each


def needed_in_flight(target: str) -> float:
    """Little's law: bytes that a SM must have asked for to keep its share of DRAM busy."""
    return ARCHITECTURES[target].dram_bytes * ARCHITECTURES[target].dram_latency


@needs_nvdisasm
@needs_cubins
@pytest.mark.parametrize(("family", "target"), BUILDS)
def test_each_loop_is_what_its_row_says_and_its_limiter_is_the_tightest_bound(family: str, target: str) -> None:
    wrong = []
    for row in rows_of(family, target):
        found = examined(family, target)[row.symbol]
        wrong += cuda.complaints(row, found)
        wrong += [f"{row.name}: {says}" for says in (cuda.limited_as_claimed(row, found) if found else ())]
    assert wrong == []


# What the compiler leaves of a unit's published rate, and why: reviewed, and exactly these. It lets a warp yield after
# every sixth instruction of a unit that it feeds every other cycle, and a kept source is read again after that: a
# ninth of the time where each instruction takes all that two banks deliver (operands of 64 bits; a published rate of
# one a cycle that the compiler takes for one in two).
REVIEWED = {
    ("dfma", "sm_90a"): 0.92,
    ("dfma", "sm_100a"): 0.92,
    ("hfma2", "sm_100a"): 0.86,
    ("bfma2", "sm_100a"): 0.86,
    ("hfma2", "sm_103a"): 0.86,
    ("bfma2", "sm_103a"): 0.86,
    ("imad", "sm_120f"): 0.51,
    ("idp4a", "sm_120f"): 0.51,
}


@needs_nvdisasm
@needs_cubins
@pytest.mark.parametrize(("family", "target"), BUILDS)
def test_each_schedule_allows_the_ceiling_and_has_the_accesses_in_flight_that_its_row_claims(
    family: str, target: str
) -> None:
    wrong = []
    for row in rows_of(family, target):
        found = examined(family, target)[row.symbol]
        assert found is not None
        allows = found.schedule.allows(cuda.warps(row, found))[1]
        if row.measures == "compute" and (row.math, target) in REVIEWED:
            assert allows == pytest.approx(REVIEWED[row.math, target], abs=0.01), row.symbol
        else:
            wrong += cuda.unscheduled(row, found)
    assert wrong == []


@needs_nvdisasm
@needs_cubins
@pytest.mark.parametrize("target", TARGETS)
def test_packed_halves_keep_their_factor_and_their_results_are_used_six_instructions_later(target: str) -> None:
    rows = [row for row in rows_of("plain", target) if row.math in ("hfma2", "bfma2")]
    assert rows
    for row in rows:
        found = examined("plain", target)[row.symbol]
        assert found is not None
        seen = found.schedule
        assert seen.reuse >= 0.8 * seen.math, row.symbol
        assert seen.distance is not None, row.symbol
        assert seen.distance >= 6, row.symbol
        if (row.math, target) not in REVIEWED:
            assert seen.conflicts <= 2, row.symbol


@needs_nvdisasm
@needs_cubins
@pytest.mark.parametrize("family", FAMILIES)
def test_the_bits_of_the_scheduling_control_agree_with_what_the_disassembler_prints(family: str) -> None:
    target = FAMILIES[family][-1]
    marked = 0
    for function in sass.disassemble(cubin(family, target)).values():
        for step in function.body:
            assert step.control is not None
            kept = sum(1 << at for at, word in enumerate(step.operands[1:4]) if word.endswith(".reuse"))
            if kept and re.match(r"[FDH]FMA|IMAD$|IDP", step.opcode):
                assert step.control.reuse == kept, (function.name, step)
                marked += 1
    assert marked > 100 or family not in ("plain", "intensity")


@needs_nvdisasm
@needs_cubins
def test_claims_of_accesses_in_flight_are_what_the_least_of_the_targets_issues() -> None:
    least: dict[str, int] = {}
    for row, target in ROWS:
        if row.in_flight:
            found = examined(row.family, target)[row.symbol]
            assert found is not None
            least[row.name] = min(least.get(row.name, 1 << 30), found.schedule.flight)
    assert least == {row.name: row.in_flight for row, _ in ROWS if row.in_flight}
    claimed = {
        row.name: row.says for row, _ in ROWS if row.in_flight < row.loads and row.family in ("stream", "shared")
    }
    assert [name for name, says in claimed.items() if "in flight" not in says] == []


@needs_nvdisasm
@needs_cubins
def test_only_the_reviewed_rows_are_closer_than_two_to_another_bound_and_exactly_so() -> None:
    narrow: dict[str, set[float]] = {}
    for row, target in ROWS:
        found = examined(row.family, target)[row.symbol]
        assert found is not None
        if row.measures == "compute":
            cost = cuda.bounds(row, found)
            margin = min(cost[row.limiter] / value for name, value in cost.items() if name != row.limiter and value)
            if margin < cuda.MARGIN:
                narrow.setdefault(cuda.operand_form(row), set()).add(round(margin, 2))
    assert narrow == {form: {margin} for form, (margin, _) in cuda.NARROW.items()}


def test_the_reviewed_margins_are_what_their_arithmetic_says() -> None:
    for margin, why in cuda.NARROW.values():
        rows, columns, fetched, port = (
            int(word) for word in re.findall(r"(\d+) x 32|(\d+) / 128 = (\d+)", why) for word in word if word
        )
        assert ((rows + columns) * 32, fetched // 128) == (fetched, port)
        assert margin == pytest.approx(128 / port, abs=0.01)


@needs_nvdisasm
@needs_cubins
@pytest.mark.parametrize("target", TARGETS)
def test_a_mixed_kernel_is_bound_by_memory_at_its_lowest_intensity_and_by_arithmetic_at_its_highest(
    target: str,
) -> None:
    shapes: dict[str, list[CudaRow]] = {}
    for row in rows_for(target):
        if row.measures == "intensity":
            shapes.setdefault(row.math, []).append(row)
    assert len(shapes) == (3 if target == "sm_75" else 6)
    for rows in shapes.values():
        lowest, highest = min(rows, key=lambda row: row.flop), max(rows, key=lambda row: row.flop)
        cycles = {}
        for row in (lowest, highest):
            found = examined("intensity", target)[row.symbol]
            assert found is not None
            blocks = bytes_in_flight(row, found) // (row.loads * row.access_bytes * row.threads)
            dram = blocks * row.bytes_read / ARCHITECTURES[target].dram_bytes
            cycles[row] = (cuda.bounds(row, found)["compute"], dram)
            pipe = found.math * cuda.math_cycles(row, target)
            assert row is lowest or pipe >= 0.95 * max(float(found.loop), pipe), row.name
        assert cycles[lowest][1] > cycles[lowest][0] or ARCHITECTURES[target].flop_per_clock[lowest.math] < 8, (
            lowest.name
        )
        assert cycles[highest][0] > cuda.MARGIN * cycles[highest][1], highest.name


@needs_nvdisasm
@needs_cubins
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("access", ["read", "copy", "triad"])
def test_streams_hold_enough_bytes_in_flight_and_the_sweep_begins_below(access: str, target: str) -> None:
    rows = [row for row in rows_for(target) if row.family == "stream" and row.access == access]
    found = {row.variant: examined("stream", target)[row.symbol] for row in rows}
    flights = {row.variant: bytes_in_flight(row, seen) for row in rows if (seen := found[row.variant]) is not None}
    needed = needed_in_flight(target)
    assert max(flights[variant] for variant in ("u2", "u4")) >= 1.2 * needed, (
        "the best must not be the sweep's last step"
    )
    assert all(flights[row.variant] >= needed for row in rows if row.space == "bulk")
    smallest = next(row for row in rows if row.variant == "u1")
    seen = found["u1"]
    assert seen is not None
    assert bytes_in_flight(smallest, seen, blocks=1) < needed or target in ("sm_86", "sm_89", "sm_120f")


@needs_nvdisasm
@needs_nvcc
@pytest.mark.skipif("V13.0.88" not in (toolchain.nvcc() or ""), reason="the golden table is for nvcc 13.0.88")
def test_the_golden_table_is_what_the_sources_compile_to() -> None:
    lines = {}
    for row, target in ROWS:
        found = examined(row.family, target)[row.symbol]
        assert found is not None
        lines[target, row.symbol] = golden.line(row, found)
    assert lines == golden.table()


@needs_cubins
@pytest.mark.skipif("V13.0.88" not in (toolchain.nvcc() or ""), reason="the golden table is for nvcc 13.0.88")
def test_the_cubins_that_ship_are_listed() -> None:
    shipped = {build: hashlib.sha256(cubin(*build).read_bytes()).hexdigest() for build in BUILDS}
    assert [build for build, seen in shipped.items() if golden.hashes().get(seen) != build] == []


@needs_cubins
def test_shipped_bytes_are_proven_by_their_hash_and_changed_bytes_are_not() -> None:
    row = next(row for row in rows_for("sm_90a") if row.symbol == "wgmma_bf16_m64n256k16_ss")
    image = cubin("wgmma", "sm_90a").read_bytes()
    if hashlib.sha256(image).hexdigest() not in golden.hashes():
        pytest.skip("the golden table is for nvcc 13.0.88")
    proven = golden.proof(row, "sm_90a", image, "cubin")
    assert (proven.status, proven.tool) == ("proven", "golden table")
    assert proven.found == proven.expected == {"math": 8, "loads": 0, "stores": 0}
    assert golden.proof(row, "sm_90a", image + b"\0", "cubin").tool != "golden table"


@needs_nvdisasm
@needs_nvcc
def test_code_made_elsewhere_is_examined_and_judged() -> None:
    row = next(row for row in rows_for("sm_80") if row.symbol == "fma_f32")
    image = toolchain.compiled(toolchain.source("plain"), "sm_87", flags=("-O3", "-std=c++17")).read_bytes()
    proven = golden.proof(row, "sm_87", image, "NVRTC")
    assert (proven.status, proven.tool, proven.found["math"]) == ("proven", "nvdisasm", 496)
    refused = golden.proof(replace(row, chains=40), "sm_87", image, "NVRTC")
    assert refused.status == "failed"
    assert refused.reason is not None
    assert "chains" in refused.reason


def test_without_a_disassembler_unknown_code_is_unproven_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sass, "nvdisasm", lambda: None)
    golden._disassembled.cache_clear()
    row = next(row for row in rows_for("sm_80") if row.symbol == "fma_f32")
    proven = golden.proof(row, "sm_80", golden.ELF + b"no known cubin", "NVRTC")
    assert proven.status == "unproven"
    assert proven.reason is not None
    assert "pip install nvidia-cuda-nvdisasm" in proven.reason


def test_the_golden_table_has_every_kernel_and_no_other() -> None:
    assert set(golden.table()) == {(target, row.symbol) for row, target in ROWS}
    assert set(golden.hashes().values()) == set(BUILDS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_source_includes_the_prelude_and_nothing_else_and_names_its_targets(family: str) -> None:
    text = (toolchain.KERNELS / f"{family}.cu").read_text()
    assert re.findall(r"#\s*include.*", text) == ['#include "prelude.cuh"']
    assert "#include" not in toolchain.source(family)
    named = re.search(r"^// targets: (.*)$", text, re.MULTILINE)
    assert named is not None
    assert tuple(named[1].split()) == FAMILIES[family]


@pytest.mark.parametrize(
    ("opcode", "flop"),
    [
        ("FFMA", 64), ("DFMA", 64), ("HFMA2.MMA", 128), ("HFMA2.BF16_V2", 128), ("IMAD", 64), ("IMAD.MOV.U32", 0),
        ("IDP.4A.S8.S8", 256),
        ("HMMA.16816.F32", 4096), ("HMMA.1688.F32.TF32", 2048), ("IMMA.16832.S8.S8", 8192), ("IMMA.8816.S8.S8", 2048),
        ("DMMA.884", 512), ("DMMA.8x8x4", 512), ("DMMA.16x8x16", 4096), ("QMMA.16832.F32.E4M3.E4M3", 8192),
        ("OMMA.SF.16864.F32.E2M1.E2M1.UE4M3.4X", 16384), ("HGMMA.64x256x16.F32", 524288),
        ("IGMMA.64x256x32.S8.S8", 1048576), ("IADD3", 0), ("LDG.E.128", 0),
    ],
)  # fmt: skip
def test_flop_come_from_the_mnemonic(opcode: str, flop: int) -> None:
    assert cuda.flop_of(opcode) == flop
