"""Every instruction set and every machine gets the rows of a roofline: ceilings of each level, a sweep, intensities."""

from __future__ import annotations

import mmap
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from fake_backend import KIB, fake_device, fake_kernel

from microbench.kernels import Kernel, cpu
from microbench.measure.plan import BUDGETS, Resources, Selection, make_plan
from microbench.measure.working_sets import Streams, WorkingSets, widest
from microbench.records import Case, Device, MemoryLevel, Sheet, Work
from microbench.storage import store

MIB, GIB = 1024 * KIB, 1024 * 1024 * KIB
X86 = {
    "sse2": {"sse2", "erms"},
    "sse4": {"ssse3", "sse4_1"},
    "avx": {"avx", "f16c"},
    "avx2": {"fma", "avx2", "vaes"},
    "avx_vnni": {"avx_vnni"},
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"},
    "amx": {"amx_tile", "amx_int8", "amx_bf16", "amx_fp16"},
}
ARM = {"asimd": {"asimd"}, "bf16": {"asimdhp", "asimddp", "bf16"}}
HERE = X86 if platform.machine() == "x86_64" else ARM
WIDEST = {"sse2": "v128_sse2", "sse4": "v128_sse2", "avx2": "v256", "avx_vnni": "v256", "avx512": "v512", "amx": "v512"}
WIDEST |= {"asimd": "v128", "bf16": "v128"}
ACCESSES = ("read", "write", "copy", "triad")


def sheets_of(isa: str) -> list[Sheet]:
    """The sheets of this build on a machine that has the instruction set and those below it, and nothing else."""
    names = list(HERE)
    flags = set().union(*(HERE[name] for name in names[: names.index(isa) + 1]))
    return [
        replace(each, unavailable=None if flags.issuperset(each.needs) else "needs another machine")
        for each in cpu.sheets()
    ]


def machine(*capacities: int) -> Device:
    caches = zip(("L1", "L2", "L3"), capacities, strict=False)
    return fake_device(
        levels=(*(MemoryLevel(name=name, capacity_bytes=size) for name, size in caches), MemoryLevel(name="DRAM"))
    )


# Caches, threads and free memory.
MACHINES: dict[str, tuple[Device, Resources]] = {
    "one level": (machine(64 * KIB), Resources(threads=2, memory_bytes=GIB)),
    "two levels": (machine(32 * KIB, 512 * KIB), Resources(threads=4, memory_bytes=8 * GIB)),
    "three levels": (machine(48 * KIB, 2 * MIB, 36 * MIB), Resources(threads=2, memory_bytes=16 * GIB)),
    "one core": (machine(32 * KIB, MIB, 8 * MIB), Resources(threads=1, memory_bytes=2 * GIB)),
    "256 threads": (machine(32 * KIB, MIB, 384 * MIB), Resources(threads=256, memory_bytes=512 * GIB)),
    "a last cache like main memory": (machine(32 * KIB, MIB, 512 * MIB), Resources(threads=64, memory_bytes=64 * GIB)),
    "a last cache and little memory": (machine(32 * KIB, 512 * KIB, 32 * MIB), Resources(threads=8, memory_bytes=GIB)),
    "little memory": (machine(32 * KIB, 256 * KIB, 4 * MIB), Resources(threads=8, memory_bytes=400 * MIB)),
} | {
    path.parent.name: (store.load(path).device, Resources(threads=2, memory_bytes=16 * GIB))
    for path in sorted(Path(__file__).parents[2].glob("results/*/*.json"))
    if store.load(path).device.kind == "cpu"
}


def kernels_of(sheets: list[Sheet]) -> dict[str, Kernel]:
    made = fake_kernel("fake.f32")
    return {each.name: replace(made, sheet=each) for each in sheets}


def planned(
    kernels: Mapping[str, Kernel], where: str, budget: str, patch: pytest.MonkeyPatch
) -> tuple[tuple[Case, ...], WorkingSets, int]:
    device, resources = MACHINES[where]
    patch.setattr(Resources, "here", lambda: resources)
    cases = make_plan(device, kernels, Selection(), BUDGETS[budget]).cases
    return cases, WorkingSets.of(device, resources.memory_bytes, resources.threads), resources.threads


def levels_of(case: Case, sets: WorkingSets) -> set[str]:
    """The levels whose ceiling a case may be."""
    if case.params.get("cold"):
        return {"DRAM"}
    return {level for level, sizes in sets.levels.items() if case.params.get("working_set") in sizes}


def shares_exceed_the_level_before(device: Device, threads: int) -> bool:
    """Whether a thread's share of the last cache holds twice its second level: else no set lies in the last alone."""
    second, last = (getattr(device.level(name), "capacity_bytes", 0) for name in ("L2", "L3"))
    return bool(2 * second * threads < last)


@pytest.mark.parametrize("budget", ["quick", "default"])
@pytest.mark.parametrize("where", MACHINES)
@pytest.mark.parametrize("isa", [isa for isa in HERE if isa in WIDEST])
def test_every_instruction_set_gets_every_row_on_every_machine(
    isa: str, where: str, budget: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheets = {each.name: each for each in sheets_of(isa)}
    cases, sets, threads = planned(kernels_of(list(sheets.values())), where, budget, monkeypatch)
    wide = [case for case in cases if WIDEST[isa] in sheets[case.kernel].variant]
    rows = {
        (sheets[case.kernel].access, level, case.threads)
        for case in wide
        if sheets[case.kernel].takes("ceiling")
        for level in levels_of(case, sets)
    }
    wanted = {
        (access, level, team)
        for access in ACCESSES
        for level in (*sets.levels, "DRAM")
        for team in (1, threads)
        if level != "L3" or shares_exceed_the_level_before(MACHINES[where][0], team)
    }
    assert rows >= wanted
    sizes = {
        name: {case.params["working_set"] for case in cases if case.kernel == name and case.threads == 1}
        for name in ("chase", f"read.f32.{WIDEST[isa]}")
    }
    assert all(len(each) >= 10 for each in sizes.values())
    assert max(sizes[f"read.f32.{WIDEST[isa]}"]) >= min(sets.largest, 256 * MIB) // 2  # type: ignore[type-var,operator]
    mixed = {
        (sheets[case.kernel].dtype, level)
        for case in wide
        if sheets[case.kernel].takes("intensity") and case.threads == threads
        for level in levels_of(case, sets)
    }
    assert mixed >= {(dtype, level) for dtype in ("f32", "f64") for level in (*list(sets.levels)[:1], "DRAM")}


@pytest.mark.parametrize("isa", [isa for isa in HERE if isa in WIDEST])
def test_triads_in_level_1_store_singly_and_in_groups_and_nothing_else_does(
    isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, sets, _ = planned(kernels_of(sheets_of(isa)), "three levels", "default", monkeypatch)
    single = [case for case in cases if "group" in case.params]
    unfused = {case.kernel for case in cases if case.kernel.endswith("_unfused")}
    assert {case.kernel for case in single} - unfused == {f"triad.f32.{WIDEST[isa]}"}
    assert unfused == ({"triad.f32.v256_unfused"} if WIDEST[isa] == "v256" else set())
    assert {case.params["working_set"] for case in single} == set(sets.levels["L1"])
    without = {
        replace(case, params={k: v for k, v in case.params.items() if k != "group"}).key
        for case in single
        if case.kernel not in unfused
    }
    assert without <= {case.key for case in cases}


def test_a_triad_that_multiplies_and_adds_apart_beside_a_fused_one_is_measured_in_level_1_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "avx2" not in HERE:
        pytest.skip("no AVX2 here")
    cases, sets, _ = planned(kernels_of(sheets_of("avx2")), "three levels", "default", monkeypatch)
    sizes = {case.params["working_set"] for case in cases if case.kernel == "triad.f32.v256_unfused"}
    assert sizes == set(sets.levels["L1"])


@pytest.mark.parametrize("asked", [(), ("L3",)])
@pytest.mark.parametrize("budget", ["quick", "default"])
@pytest.mark.parametrize("where", MACHINES)
def test_the_sweeps_have_points_on_every_level_and_beyond_the_last_cache(
    where: str, budget: str, asked: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, resources = MACHINES[where]
    if asked and device.level(asked[0]) is None:
        pytest.skip("has no such level")
    monkeypatch.setattr(Resources, "here", lambda: resources)
    kernels = kernels_of(sheets_of("avx2" if HERE is X86 else "asimd"))
    cases = make_plan(device, kernels, Selection(levels=asked), BUDGETS[budget]).cases
    for name in ("chase", "read.f32.v256" if HERE is X86 else "read.f32.v128"):
        sizes = {
            int(case.params["working_set"])
            for case in cases
            if case.kernel == name
            and case.threads == 1
            and not case.params.get("cold")
            and case.params["pages"] == "huge"
        }
        near = 0
        for level in device.levels:
            if level.capacity_bytes and level.name != "DRAM":
                wanted = not asked or level.name in asked
                assert sum(near < size < level.capacity_bytes for size in sizes) >= (3 if wanted else 0), level.name
                near = level.capacity_bytes
        filled = budget != "quick" or 2 * near <= 256 * MIB  # no time to fill more
        if not asked and filled and resources.memory_bytes // 6 >= 2 * near:
            assert sum(size > near for size in sizes) >= 2
            assert max(sizes) >= 2 * near


@pytest.mark.parametrize("caches", [(32 * KIB, 48 * KIB), (32 * KIB, MIB, 1408 * KIB), (16 * KIB,), ()])
def test_a_level_that_is_little_larger_than_the_one_before_has_three_points_too(caches: tuple[int, ...]) -> None:
    sets = WorkingSets.of(machine(*caches), 4 * GIB, 2).sweep(1)
    assert list(sets) == sorted(sets)
    for name, near, size in zip(("L1", "L2", "L3"), (0, *caches), caches, strict=False):
        inside = [each for each, level in sets.items() if level == name]
        assert len(inside) >= 3
        assert all(near < each < size for each in inside)
    assert max(sets) == 256 * MIB  # where no last level is told, the sweep goes on in the same steps
    sizes = list(sets)
    assert all(far < 2.3 * near for near, far in pairwise(sizes))


@pytest.mark.parametrize("budget", ["quick", "default"])
@pytest.mark.parametrize("where", MACHINES)
def test_main_memory_is_chased_inside_a_window_and_cold_from_everywhere_where_caches_may_hold_the_sweep(
    where: str, budget: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, sets, _ = planned(kernels_of(sheets_of(list(HERE)[1])), where, budget, monkeypatch)
    cold = [case.params for case in cases if case.kernel == "chase" and case.params.get("cold")]
    assert [each.get("window") for each in cold] == [sets.window, None][: 1 + (not sets.outgrows)]
    assert sets.window % mmap.PAGESIZE == 0
    last = max(size for _, size in sets.caches)
    assert sets.outgrows == (sets.largest >= 4 * last)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="sse2 is a set of x86")
@pytest.mark.parametrize("budget", ["quick", "default"])
def test_loops_of_sse2_are_planned_where_there_is_no_other_and_nowhere_else(
    budget: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loops(isa: str) -> set[str]:
        cases, _, _ = planned(kernels_of(sheets_of(isa)), "three levels", budget, monkeypatch)
        return {case.kernel.partition(".")[0] for case in cases if "_sse2" in case.kernel}

    assert loops("sse2") == {*ACCESSES, "intensity"}
    assert loops("avx") == {"triad", "intensity"}  # AVX has no fused multiply-add
    assert loops("avx2") == loops("avx512") == set()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the words are those of x86")
@pytest.mark.parametrize("budget", ["quick", "default"])
@pytest.mark.parametrize("isa", X86)
def test_every_instruction_set_has_a_compute_peak_of_each_float_and_the_best_row_of_bytes(
    isa: str, budget: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheets = {each.name: each for each in sheets_of(isa)}
    cases, _, threads = planned(kernels_of(list(sheets.values())), "three levels", budget, monkeypatch)
    compute = {(case.kernel, case.threads) for case in cases if sheets[case.kernel].measures == "compute"}
    names = {name for name, _ in compute}
    assert compute == {(name, team) for name in names for team in (1, threads)}
    for dtype in ("f32", "f64"):
        words = {name.split(".")[0] for name in names if name.split(".")[1] == dtype and sheets[name].takes("roof")}
        assert words == {"mul_add" if isa in ("sse2", "sse4", "avx") else "fma"}
    bytes_rows = {name for name in names if name.startswith("dot.i8")}
    wanted = {"sse2": set(), "sse4": {"madd128"}, "avx": {"madd128"}, "avx2": {"madd256"}}.get(isa)
    assert {name.rpartition(".")[2] for name in bytes_rows} == wanted or (wanted is None and bytes_rows)
    assert not any("madd" in name for name in bytes_rows) or wanted
    mixed = {name for name in names if name.startswith(("fma_add", "fma2_add"))}
    assert len(mixed) == (4 if budget == "default" and "fma" in {name.split(".")[0] for name in names} else 0)


def test_the_instruction_sets_tried_here_are_those_of_the_build() -> None:
    command = [sys.executable, "-c", "from microbench.hardware import extensions; extensions.cpu().features()"]
    said = subprocess.run(
        command, env={**os.environ, "MICROBENCH_ISA": "none"}, capture_output=True, text=True, check=False
    )
    known = said.stderr.rpartition("known here: ")[2].strip().split(", ")
    assert known == list(X86) if platform.machine() == "x86_64" else known


def distances(access: str, level: str, budget: str) -> set[tuple[int, bool]]:
    """Bytes ahead of each case of a stream at a level, and whether it walks the first of the level's sets."""
    device, resources = MACHINES["three levels"]
    sets = WorkingSets.of(device, resources.memory_bytes, resources.threads)
    params = ("working_set", "pages", "streams", "prefetch", "cold")
    sheet = moves(
        f"{access}.f32.wide", family=access, access=access, access_bytes=32, roles=("ceiling",), params=params
    )
    streams = Streams(widest=widest([sheet]), quick=budget == "quick")
    return {
        (int(each.get("prefetch", 0)), each["working_set"] == sets.levels[level][0])
        for where, each in streams.params(sheet, sets)
        if where == level and each.get("pages") == "huge"
    }


def test_stores_to_the_second_level_ask_for_lines_near_and_far_ahead_and_not_at_all() -> None:
    for access in ("write", "copy", "triad"):
        assert {ahead for ahead, first in distances(access, "L2", "default") if first} == {0, 128, 1024}
        assert distances(access, "L2", "quick") == {(0, True), (128, True), (1024, True), (0, False)}
    assert {ahead for ahead, _ in distances("read", "L2", "default")} == {0}


@pytest.mark.parametrize("access", ACCESSES)
def test_the_last_cache_is_asked_farther_ahead_at_its_first_set_unless_the_run_is_quick(access: str) -> None:
    assert distances(access, "L3", "default") == {(0, True), (1024, True), (2048, True), (0, False)}
    assert {ahead for ahead, _ in distances(access, "L3", "quick")} == {0}


def moves(name: str, **facts: object) -> Sheet:
    memory = {
        "measures": "memory",
        "backend": "native",
        "device_kind": "cpu",
        "says": "",
        "access": "read",
        "dtype": "f32",
        "work": Work(bytes_read=1024),
        "params": ("working_set", "pages", "cold"),
    }
    return Sheet(**{"name": name, **memory, **facts})  # type: ignore[arg-type]


def test_the_widest_kernel_of_a_family_is_sought_among_those_that_take_the_role() -> None:
    narrow = moves("read.f32.v128", family="read", access_bytes=16, roles=("ceiling", "sweep"))
    wide = moves("read.f32.v256", family="read", access_bytes=32, roles=("ceiling",))
    other = moves("copy.f32.v128", family="copy", access_bytes=16, access="copy", roles=("ceiling",))
    alone = moves("copy.i8.rep", access_bytes=64, access="copy", roles=("ceiling",))
    streams = Streams(widest=widest([narrow, wide, other, alone]), quick=True)
    assert [each.name for each in (narrow, wide, other, alone) if streams.wide(each, "ceiling")] == [
        "read.f32.v256",
        "copy.f32.v128",
        "copy.i8.rep",
    ]
    assert streams.wide(narrow, "sweep")
    assert not streams.wide(wide, "sweep")


@pytest.mark.parametrize("budget", ["quick", "default"])
@pytest.mark.parametrize("roles", [("ceiling",), ("ceiling", "roof"), ("dram_ceiling",)])
def test_a_second_read_kernel_adds_its_own_ceilings_and_moves_no_other_case(
    roles: tuple[str, ...], budget: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheets = sheets_of(list(HERE)[1])
    before, sets, _ = planned(kernels_of(sheets), "three levels", budget, monkeypatch)
    ddot = moves("ddot.f64.v256", dtype="f64", access_bytes=32, unit="vector", roles=roles)
    after, _, _ = planned(kernels_of([*sheets, ddot]), "three levels", budget, monkeypatch)
    own = [case for case in after if case.kernel == ddot.name]
    assert {case.key for case in after} - {case.key for case in own} == {case.key for case in before}
    reached = {level for case in own for level in levels_of(case, sets)}
    assert reached == ({"DRAM"} if roles == ("dram_ceiling",) else {"L1", "L2", "L3", "DRAM"})
    assert {case.params["working_set"] for case in own} <= {
        sets.cold,
        *(each for sizes in sets.levels.values() for each in sizes),
    }


def test_a_second_kernel_of_latencies_is_measured_at_the_levels_and_sweeps_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hop = moves("hop", measures="latency", dtype=None, roles=("latency",), params=("working_set",))
    cases, sets, _ = planned(kernels_of([*sheets_of(list(HERE)[1]), hop]), "three levels", "default", monkeypatch)
    assert {level for case in cases if case.kernel == "hop" for level in levels_of(case, sets)} == {"L1", "L2", "L3"}
    assert len([case for case in cases if case.kernel == "hop"]) == 3
