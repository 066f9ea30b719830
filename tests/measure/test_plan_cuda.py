"""What a run on a GPU measures, from the kernels of compute targets that need not be here."""

from __future__ import annotations

import pytest

from microbench.hardware.cuda import imagined
from microbench.hardware.tables.gpus import GPUS, Gpu
from microbench.kernels.cuda.code import Library
from microbench.kernels.cuda.registry import kinds, sheet_of
from microbench.kernels.cuda.rows import TARGETS, rows_for
from microbench.measure import plan_cuda
from microbench.measure.plan_cuda import Sets
from microbench.records import Case, Device, MemoryLevel, Sheet


def sheets(target: str) -> list[Sheet]:
    library = Library(imagined(target), 13000)
    return [sheet_of(row, library, kind, None) for row in rows_for(target) for kind in kinds(row)]


def cases(target: str, budget: str) -> list[Case]:
    return [case for case, _ in plan_cuda.candidates(imagined(target), sheets(target), budget)]


def sustained(target: str, budget: str) -> set[str]:
    return {case.kernel for case in cases(target, budget) if case.mode == "sustained"}


@pytest.mark.parametrize("target", TARGETS)
def test_a_thorough_run_sustains_every_format_of_every_unit(target: str) -> None:
    held = {sheet.name: sheet for sheet in sheets(target)}
    peaks = {(sheet.dtype, sheet.accumulator, sheet.unit) for sheet in held.values() if sheet.measures == "compute"}
    settled = {(held[name].dtype, held[name].accumulator, held[name].unit) for name in sustained(target, "thorough")}
    assert settled == peaks
    assert all(held[name].operands == "random" for name in sustained(target, "thorough"))


@pytest.mark.parametrize(
    ("target", "kernel"),
    [
        ("sm_75", "mma.i8.i32.m8n8k16.random"),  # no bf16 there: the last of its matrix formats
        ("sm_80", "mma.bf16.f32.m16n8k16.random"),
        ("sm_90a", "wgmma.bf16.f32.m64n256k16.rs.random"),
        ("sm_100a", "tcgen05.bf16.f32.m128n256k16.random"),
    ],
)
def test_a_default_run_sustains_the_headline_format_on_the_chips_own_matrix_path(target: str, kernel: str) -> None:
    assert sustained(target, "default") == {kernel}
    assert sustained(target, "quick") == set()


def test_random_operands_are_never_taken_for_a_burst() -> None:
    bursts = {case.kernel for case in cases("sm_90a", "thorough") if case.mode == "peak"}
    assert not [name for name in bursts if name.endswith(".random")]


def card(l2: int | None, memory: int) -> Device:
    levels = (MemoryLevel(name="L2", capacity_bytes=l2),)
    return Device(id="0" * 16, kind="cuda", name="a card", arch="sm_90a", levels=levels, memory_bytes=memory)


@pytest.mark.parametrize("gpu", [gpu for gpu in GPUS if gpu.l2_bytes], ids=lambda gpu: gpu.name)
@pytest.mark.parametrize("share", [1, 8], ids=["whole", "slice"])
def test_what_is_meant_for_main_memory_is_three_last_caches_and_fits(gpu: Gpu, share: int) -> None:
    assert gpu.l2_bytes
    l2, memory = gpu.l2_bytes // share, int(gpu.memory_gb * 1e9) // share
    for l2_of_slice in (l2, gpu.l2_bytes):  # a slice may tell the whole cache as its own
        assert 3 * l2_of_slice <= Sets.of(card(l2_of_slice, memory)).dram <= memory // 4


def test_streams_meant_for_main_memory_work_on_that_set() -> None:
    device = imagined("sm_90a")
    meant = [case for case, level in plan_cuda.candidates(device, sheets("sm_90a"), "default") if level == "DRAM"]
    assert {case.kernel.partition(".")[0] for case in meant} >= {"read", "write", "copy", "triad", "mix"}
    assert {case.params["working_set"] for case in meant} == {Sets.of(device).dram}
