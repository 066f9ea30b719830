"""Machines that tell no cache sizes, or not all: sets of every size are planned, and the sweep says where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from fake_backend import KIB, fake_device, fake_kernel
from fake_caches import MACHINES
from fake_machines import FakeFiles

from microbench.analysis.levels import SweepPoint, find_levels, level_of_case
from microbench.hardware.cpu import describe
from microbench.kernels import cpu
from microbench.measure.plan import BUDGETS, Resources, Selection, make_plan
from microbench.measure.priorities import Priorities
from microbench.measure.working_sets import WorkingSets, meant_for
from microbench.records import Case, Device, LevelSeen, MemoryLevel, Sheet

MIB, GIB = 1024 * KIB, 1024 * 1024 * KIB
CACHES = ("L1", "L2", "L3")
SHEETS = {
    sheet.name: replace(sheet, unavailable=None)
    for sheet in cpu.sheets()
    if set(sheet.needs) <= {"avx", "f16c", "fma", "avx2", "asimd"}
}
WIDE = max(sheet.access_bytes for sheet in SHEETS.values() if sheet.name.startswith("read.f32")) * 8
ACCESSES = ("read", "write", "copy", "triad")


def machine(**told: int | None) -> Device:
    caches = (MemoryLevel(name=name, capacity_bytes=size) for name, size in told.items())
    return fake_device(levels=(*caches, MemoryLevel(name="DRAM", capacity_bytes=16 * GIB)))


def planned(
    device: Device, patch: pytest.MonkeyPatch, budget: str = "default", threads: int = 2, **asked: tuple[str, ...]
) -> tuple[Case, ...]:
    patch.setattr(Resources, "here", lambda: Resources(threads=threads, memory_bytes=16 * GIB))
    made = fake_kernel("fake.f32")
    kernels = {name: replace(made, sheet=sheet) for name, sheet in SHEETS.items()}
    return make_plan(device, kernels, Selection(**asked), BUDGETS[budget]).cases


def curve(cases: Sequence[Case], name: str, device: Device) -> list[LevelSeen]:
    """What the sweep of a plan shows of an invented machine."""
    sizes = sorted(
        int(case.params["working_set"])
        for case in cases
        if case.kernel == f"read.f32.v{WIDE}"
        and case.threads == 1
        and case.params.get("streams") == 1
        and case.params["pages"] == "huge"
        and not case.params.get("cold")
        and case.mode == "peak"
    )
    invented, _ = MACHINES[name]
    points = [SweepPoint(size_bytes=size, value=invented.rate(size)) for size in dict.fromkeys(sizes)]
    return find_levels(points, device, "stream", invented.memory_rate)


@pytest.mark.parametrize("budget", ["quick", "default"])
@pytest.mark.parametrize("name", MACHINES)
def test_every_level_that_a_sweep_shows_has_its_rows_though_the_system_tells_none(
    name: str, budget: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = machine()
    cases = planned(device, monkeypatch, budget)
    levels = curve(cases, name, device)
    caches, sizes = CACHES[: len(MACHINES[name][0].caches)], MACHINES[name][0].capacities()
    assert [level.name for level in levels][: len(caches)] == list(caches)
    rows = {
        (case.kernel.partition(".")[0], level_of_case(case, levels, device))
        for case in cases
        if case.threads == 1 and case.kernel.endswith(f".f32.v{WIDE}")
    }
    for near, level, size in zip((0, *sizes), caches, sizes, strict=False):
        # A level that holds less than four times the one before it may have no power of two to itself.
        if size >= 4 * near:
            assert rows >= {(access, level) for access in ACCESSES}, level


@pytest.mark.parametrize("told", [{}, {"L1": None, "L2": None, "L3": None}])
def test_levels_without_a_size_are_planned_as_levels_that_are_not_told(
    told: dict[str, None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without = {case.key for case in planned(machine(), monkeypatch)}
    assert {case.key for case in planned(machine(**told), monkeypatch)} == without


@pytest.mark.parametrize("features", [{"vendor": "GenuineIntel", "brand": "x86"}, {"vendor": "0x41"}])
def test_no_pseudo_files_and_no_cpuid_are_one_kind_of_machine(
    features: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = describe(features, {"caches": []}, FakeFiles({}))
    assert [level.name for level in device.levels] == ["DRAM"]
    sets = WorkingSets.of(device, 16 * GIB, 2)
    assert sets.levels == WorkingSets.of(machine(), 16 * GIB, 2).levels
    assert list(sets.levels) == list(CACHES)
    kinds = {(case.kernel, case.params.get("working_set")) for case in planned(device, monkeypatch)}
    assert {size for kernel, size in kinds if kernel == f"triad.f32.v{WIDE}"} >= {
        size for sizes in sets.levels.values() for size in sizes
    }


def test_what_is_told_is_planned_as_before_and_what_is_not_lies_between_and_behind() -> None:
    whole = WorkingSets.of(machine(L1=32 * KIB, L2=MIB, L3=32 * MIB), 16 * GIB, 2).levels
    for names in ((), ("L1",), ("L2",), ("L3",), ("L1", "L2"), ("L1", "L3"), ("L2", "L3")):
        sizes = {"L1": 32 * KIB, "L2": MIB, "L3": 32 * MIB}
        levels = WorkingSets.of(machine(**{name: sizes[name] for name in names}), 16 * GIB, 2).levels
        assert list(levels) == list(CACHES)
        for name, sets in levels.items():
            if name in names:
                assert sets == whole[name] or name == "L3"
                continue
            before = [sizes[each] for each in names if each < name]
            behind = [sizes[each] for each in names if each > name]
            assert min(sets) >= 2 * max(before, default=0)
            assert max(sets) < min(behind, default=GIB)
        order = [size for sets in levels.values() for size in sorted(sets)]
        assert order == sorted(order)


@pytest.mark.parametrize("threads", [1, 2, 64, 256, 2048])
@pytest.mark.parametrize("memory", [64 * MIB, GIB, 512 * GIB])
def test_sets_of_untold_levels_take_no_more_memory_than_the_sweep(threads: int, memory: int) -> None:
    sets = WorkingSets.of(machine(), memory, threads)
    assert all(size * threads <= sets.largest for sizes in sets.levels.values() for size in sizes)


def test_a_machine_of_one_level_that_is_told_is_swept_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    device = machine(L1=64 * KIB)
    cases = planned(device, monkeypatch)
    shown = curve(cases, "two levels, embedded", device)
    wide = [case for case in cases if case.kernel == f"write.f32.v{WIDE}" and case.threads == 1]
    assert "L2" in {level_of_case(case, shown, device) for case in wide}


def test_a_gpu_is_looked_for_no_cache_that_it_does_not_tell() -> None:
    gpu = replace(machine(L2=40 * MIB), kind="cuda")
    assert list(WorkingSets.of(gpu, 16 * GIB, 1).levels) == ["L2"]
    assert [meant_for(size, gpu) for size in (32 * KIB, 8 * MIB, 64 * MIB, 32 * GIB)] == ["L2", "L2", "DRAM", "DRAM"]


@pytest.mark.parametrize("level", CACHES)
def test_a_level_that_is_asked_for_has_sets_where_none_is_told(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = planned(machine(), monkeypatch, levels=(level,))
    sizes = {int(case.params["working_set"]) for case in cases if case.kernel == f"copy.f32.v{WIDE}"}
    assert len(sizes) == 4
    assert {meant_for(size, machine()) for size in sizes} == {level}


def test_where_time_is_short_one_set_of_each_untold_level_goes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    device = machine()
    cases = planned(device, monkeypatch, "quick")
    order = Priorities(cases, SHEETS, device)
    last = {
        (meant_for(int(case.params["working_set"]), device), bool(case.params.get("cold")))
        for case in cases
        if case.kernel == f"copy.f32.v{WIDE}" and case.threads == 1 and order.rule[case.key].essential
    }
    assert last == {("L1", False), ("L2", False), ("L3", False), ("DRAM", True)} or last >= {
        ("L1", False),
        ("L2", False),
        ("L3", False),
    }
    loops = [case for case in cases if SHEETS[case.kernel].measures == "intensity"]
    near = {order.rule[case.key].name for case in loops if not case.params.get("cold") and case.threads == 2}
    assert "arithmetic intensities" in near


def test_without_a_sweep_a_set_belongs_to_no_level_that_nobody_tells() -> None:
    def level(size: int, device: Device) -> str | None:
        return level_of_case(Case(kernel="write", params={"working_set": size}), [], device)

    assert [level(size, machine()) for size in (8 * KIB, MIB, GIB)] == [None, None, None]
    hole = machine(L1=32 * KIB, L3=32 * MIB)
    assert [level(size, hole) for size in (16 * KIB, 256 * KIB, 8 * MIB, 64 * MIB)] == ["L1", None, None, "DRAM"]


def test_a_level_that_only_the_sweep_shows_has_no_set_that_the_one_before_still_answers() -> None:
    device = machine()

    def seen(name: str, low: int, high: int, capacity: int | None = None) -> LevelSeen:
        facts = {"low_bytes": low, "high_bytes": high, "capacity_bytes": capacity}
        return LevelSeen(name=name, seen_by="stream", value=1e9, reuse_s=1.0, **facts)

    levels = [seen("L1", 8 * KIB, 40 * KIB, 48 * KIB), seen("L2", 64 * KIB, MIB, 2 * MIB), seen("DRAM", 4 * MIB, GIB)]
    found = [
        level_of_case(Case(kernel="write", params={"working_set": size << 10}), levels, device)
        for size in (32, 64, 128, 1024)
    ]
    assert found == ["L1", None, "L2", "L2"]


def test_the_sheets_tried_here_have_all_accesses() -> None:
    sheets: list[Sheet] = list(SHEETS.values())
    assert {sheet.access for sheet in sheets if sheet.measures == "memory"} >= set(ACCESSES)
