"""What a run on a GPU measures, from the kernels of compute targets that need not be here."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from unittest.mock import patch

import pytest

from microbench.hardware.cuda import imagined
from microbench.hardware.tables.gpus import GPUS, Gpu
from microbench.kernels import Kernel, library, registry
from microbench.kernels.cuda.code import Library
from microbench.kernels.cuda.registry import kinds, sheet_of
from microbench.kernels.cuda.rows import TARGETS, rows_for
from microbench.kernels.triton import registry as triton
from microbench.measure import plan_cuda
from microbench.measure.fitting import PLANNED_SHARE, Fitting
from microbench.measure.plan import BUDGETS, Selection, left_to_thorough, limited, make_plan
from microbench.measure.plan_cuda import Sets
from microbench.measure.priorities import Priorities
from microbench.records import Case, Device, MemoryLevel, Plan, Sheet
from microbench.runs.job import plan_in_time


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


@cache
def kernels(target: str) -> dict[str, Kernel]:
    """Every kernel that a card of a target could run, with Triton and PyTorch: none of them is prepared here."""
    with (
        patch.object(Library, "here", classmethod(lambda cls, device: cls(device, 13000))),
        patch.object(Library, "reason", lambda self, row: None if self.target in row.targets else "not of this card"),
        patch.object(library, "why_not", lambda _: None),
        patch.object(triton, "no_torch", lambda _: None),
    ):
        held = registry(imagined(target))
    return {name: kernel for name, kernel in held.items() if kernel.sheet.unavailable is None}


def planned(target: str, budget: str) -> Plan:
    return make_plan(imagined(target), kernels(target), Selection(), BUDGETS[budget])  # type: ignore[index]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("budget", ["quick", "default"])
def test_a_shorter_run_has_every_row_that_a_card_is_quoted_by(target: str, budget: str) -> None:
    plan = planned(target, budget)
    held = {name: kernel.sheet for name, kernel in kernels(target).items()}
    found = {case.kernel for case in plan.cases if case.mode == "peak"}
    own = {
        (sheet.dtype, sheet.unit)
        for sheet in sheets(target)
        if sheet.measures == "compute" and "legacy" not in sheet.variant.split(".")
    }
    assert {(held[name].dtype, held[name].unit) for name in found if held[name].backend == "cuda"} >= own
    assert {"read.i32.shared", "write.i32.shared", "read.i32.l1", "chase.i32.shared"} <= found
    assert {name for name in held if name.startswith(("launch.", "copy.h2d", "copy.d2h"))} <= found
    levels = Sets.of(imagined(target))
    for access in ("read", "write", "copy", "triad"):
        sizes = {
            case.params["working_set"]
            for case in plan.cases
            if held[case.kernel].access == access and "working_set" in case.params and case.kernel in found
        }
        assert {levels.dram, levels.l2[0]} <= sizes
    swept = {case.kernel for case in plan.cases if held[case.kernel].takes("sweep")}
    assert swept == {"read.i32.u4", "chase.i32.ca", "chase.i32.cg"}


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_shorter_run_leaves_to_thorough_is_told_in_one_finding_and_all_in_a_thorough_one(target: str) -> None:
    held, device = kernels(target), imagined(target)
    for name in ("quick", "default"):
        plan = planned(target, name)
        finding = left_to_thorough(device, held, Selection(), BUDGETS[name])
        assert finding is not None
        told = sum(int(number) for number in re.findall(r"(\d+) of ", finding.says))
        assert told + len({case.kernel for case in plan.cases}) == len(held)
        assert not [case for case in plan.cases if held[case.kernel].sheet.backend == "triton"]
        assert left_to_thorough(device, held, Selection(only=("dot.*",)), BUDGETS[name]) is None
    everything = {case.kernel for case in planned(target, "thorough").cases}
    assert everything == set(held)
    assert left_to_thorough(device, held, Selection(), BUDGETS["thorough"]) is None


def test_what_is_asked_for_by_name_is_measured_in_every_budget() -> None:
    only = Selection(only=("mix.f64.*", "mma.bf16.*", "read.f32.triton"))
    plan = make_plan(imagined("sm_90a"), kernels("sm_90a"), only, BUDGETS["quick"])
    assert {case.kernel.partition(".")[0] for case in plan.cases} == {"mix", "mma", "read"}


def test_triton_is_planned_where_nothing_else_has_machine_code() -> None:
    held = {name: kernel for name, kernel in kernels("sm_90a").items() if kernel.sheet.backend != "cuda"}
    plan = make_plan(imagined("sm_90a"), held, Selection(), BUDGETS["quick"])
    assert {held[case.kernel].sheet.backend for case in plan.cases} == {"triton"}


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
@pytest.mark.parametrize("budget", ["quick", "default"])
def test_the_whole_plan_of_every_card_fits_the_time_as_it_is_estimated(gpu: Gpu, budget: str) -> None:
    target = gpu.chip.target if gpu.chip.target in TARGETS else "sm_75"
    device = replace(card(gpu.l2_bytes, int(gpu.memory_gb * 1e9)), arch=target)
    chosen = limited(BUDGETS[budget], None, "cuda")  # type: ignore[index]
    plan, dropped = plan_in_time(device, kernels(target), Selection(), chosen)
    assert dropped == ()
    assert plan.cases


@pytest.mark.parametrize("limit_s", [4.0, 15.0, 40.0])
def test_where_the_time_is_short_peaks_and_levels_of_a_gpu_go_last(limit_s: float) -> None:
    held, device = kernels("sm_90a"), imagined("sm_90a")
    budget = replace(BUDGETS["default"], time_limit_s=limit_s, min_rounds=3)
    plan, dropped = plan_in_time(device, held, Selection(), budget)
    assert dropped
    sheets_of = {name: kernel.sheet for name, kernel in held.items()}
    rules = Priorities((*plan.cases, *dropped), sheets_of, device).rule
    spared = [case for case in plan.cases if not rules[case.key].essential]
    assert not spared or not [case for case in dropped if rules[case.key].essential]
    fitting = Fitting((*plan.cases, *dropped), sheets_of, device, budget)
    assert sum(fitting.needs_s(case, 3) for case in plan.cases) <= PLANNED_SHARE * limit_s
    if limit_s == 40.0:
        kept = {case.kernel for case in plan.cases}
        assert {"fma.f32", "wgmma.bf16.f32.m64n256k16.ss", "read.i32.u4", "chase.i32.ca"} <= kept
