from __future__ import annotations

import pytest
from fake_backend import KIB, fake_device, fake_kernel
from hypothesis import given
from hypothesis import strategies as st

from microbench.errors import UsageError
from microbench.kernels import Kernel
from microbench.measure.plan import BUDGETS, Selection, make_plan
from microbench.measure.working_sets import WorkingSets, sweep_sizes
from microbench.records import Work

MIB = 1024 * KIB
BUDGET = BUDGETS["default"]


def kernels() -> dict[str, Kernel]:
    params = ("working_set", "pages", "streams", "cold")
    memory = {
        "measures": "memory",
        "work": Work(bytes_read=1024),
        "access_bytes": 64,
        "frequency_license": "512",
        "params": params,
    }
    made = (
        fake_kernel("fma.f32.v512", frequency_license="512", unit="vector", variant="v512"),
        fake_kernel("fma.f64.v512", dtype="f64", frequency_license="512"),
        fake_kernel("fma.f16.v512", dtype="f16", unavailable="needs avx512_fp16"),
        fake_kernel("read.f32.v512", access="read", variant="v512", **memory),
        fake_kernel("write.f32.v512_nt", access="write", variant="v512_nt", roles=("dram_ceiling", "roof"), **memory),
        fake_kernel("chase", measures="latency", dtype=None, loads=16),
        fake_kernel("barrier", measures="cost", dtype=None),
        fake_kernel("clock.v512", measures="clock", dtype=None, cycles=3),
    )
    return {kernel.sheet.name: kernel for kernel in made}


def planned(**choices: object) -> set[str]:
    return {case.key for case in make_plan(fake_device(), kernels(), Selection(**choices), BUDGET).cases}  # type: ignore[arg-type]


def test_unavailable_kernels_and_reference_clocks_are_not_cases() -> None:
    names = {key.split("[")[0] for key in planned()}
    assert {"fma.f32.v512", "read.f32.v512", "chase", "barrier"} <= names
    assert not names & {"fma.f16.v512", "clock.v512"}


def test_only_takes_names_and_globs() -> None:
    assert {key.split("[")[0] for key in planned(only=("fma.*",))} == {"fma.f32.v512", "fma.f64.v512"}


def planned_beside(*free: str, budget: str = "default", only: tuple[str, ...] = ()) -> set[str]:
    """Kernels of a plan where those that stand for others can run or not."""
    unless = {"mul_add.f32.v128": ("fma.f32.v128",), "dot.i8.madd": ("dot.i8.vnni", "dot.i8.vex")}
    named = ("fma.f32.v128", "dot.i8.vnni", "dot.i8.vex")
    made = [fake_kernel(name, unavailable=None if name in free else "needs more") for name in named]
    made += [fake_kernel(name, unless=others) for name, others in unless.items()]
    made += [fake_kernel("fma_add.f32.v128", roles=("ceiling",)), fake_kernel("plain.f32")]
    plan = make_plan(
        fake_device(), {kernel.sheet.name: kernel for kernel in made}, Selection(only=only), BUDGETS[budget]
    )
    return {case.kernel for case in plan.cases}


def test_a_kernel_that_others_stand_for_is_planned_where_none_of_them_can_run() -> None:
    assert {"mul_add.f32.v128", "dot.i8.madd"} <= planned_beside()
    assert planned_beside("fma.f32.v128", "dot.i8.vex").isdisjoint({"mul_add.f32.v128", "dot.i8.madd"})
    assert "dot.i8.madd" in planned_beside("fma.f32.v128")


def test_what_others_stand_for_is_measured_by_thorough_and_by_name() -> None:
    everything = ("fma.f32.v128", "dot.i8.vnni", "dot.i8.vex")
    assert {"mul_add.f32.v128", "dot.i8.madd"} <= planned_beside(*everything, budget="thorough")
    assert planned_beside(*everything, only=("mul_add.*",)) == {"mul_add.f32.v128"}
    assert "mul_add.f32.v128" not in planned_beside(*everything, only=("mul_add*@1", "plain.*"))


def test_a_quick_run_measures_the_arithmetic_that_bounds_the_roofline() -> None:
    assert "fma_add.f32.v128" in planned_beside()
    assert "fma_add.f32.v128" not in planned_beside(budget="quick")
    assert {"plain.f32", "mul_add.f32.v128"} <= planned_beside(budget="quick")


def test_dtype_takes_any_spelling() -> None:
    assert {key.split("[")[0] for key in planned(only=("fma.*",), dtypes=("float64",))} == {"fma.f64.v512"}


@pytest.mark.parametrize(("level", "low", "high"), [("L1", 0, 32 * KIB), ("L2", 32 * KIB, MIB), ("L3", MIB, 32 * MIB)])
def test_level_keeps_that_levels_working_sets(level: str, low: int, high: int) -> None:
    cases = make_plan(fake_device(), kernels(), Selection(levels=(level,)), BUDGET).cases
    sizes = [int(case.params["working_set"]) for case in cases if case.kernel == "read.f32.v512"]
    assert len(sizes) > 5
    assert all(low < size < high for size in sizes)
    assert "chase" in {case.kernel for case in cases}


def test_non_temporal_stores_are_measured_in_memory_only() -> None:
    cases = make_plan(fake_device(), kernels(), Selection(only=("write*",)), BUDGET).cases
    assert all(int(case.params["working_set"]) >= 16 * MIB for case in cases)


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"dtypes": ("f12",)}, "unknown dtype 'f12'"),
        ({"levels": ("L9",)}, "unknown memory level 'L9'"),
        ({"only": ("nope*",)}, "nothing to measure.*nope"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(choice: dict[str, tuple[str, ...]], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        planned(**choice)


@given(st.integers(16 * MIB, 4096 * MIB), st.integers(1, 4))
def test_sweeps_rise_from_8_kib_to_the_largest_set(largest: int, per_octave: int) -> None:
    sizes = sweep_sizes(largest, per_octave)
    assert sizes[0] == 8 * KIB
    assert sizes == sorted(set(sizes))
    assert abs(sizes[-1] - largest) <= largest * 0.5


def test_the_sweep_passes_the_last_level_where_memory_allows() -> None:
    assert WorkingSets.of(fake_device(), 64 * 1024 * MIB, threads=2).largest >= 2 * 32 * MIB
    assert WorkingSets.of(fake_device(), 512 * MIB, threads=2).largest <= 512 * MIB // 6


def test_main_memory_is_measured_cold_where_the_kernel_can() -> None:
    assert all("cold=1" in key for key in planned(levels=("DRAM",)) if key.startswith(("read", "write")))
