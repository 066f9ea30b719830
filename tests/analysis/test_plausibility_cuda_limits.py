"""How far rates of a GPU may lie apart, and which of them are held against each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fake_backend import fake_device

from microbench.analysis.plausibility import doubts
from microbench.records import Ceiling, Estimate

GPU = replace(fake_device(), kind="cuda", name="Fake GPU", arch="sm_90a", boost_clock_hz=2e9, units_by_kind={"sm": 132})


def seen(name: str, value: float, **facts: Any) -> Ceiling:
    known: dict[str, Any] = {"measures": "compute", "backend": "cuda", "case": f"{name}[]@1"}
    rate = Estimate(value=value, low=value, high=value, basis="made up")
    return Ceiling(name=name, rate=rate, **{**known, **facts})


def fma(dtype: str, value: float, **facts: Any) -> Ceiling:
    return seen(f"fma.{dtype}", value, **{"dtype": dtype, "unit": "scalar", "clock_hz": 1.9e9, **facts})


def read(near: str, value: float, name: str = "", **facts: Any) -> Ceiling:
    memory: dict[str, Any] = {"measures": "memory", "level": near, "access": "read"}
    return seen(name or f"read.i32.{near}", value, **{**memory, **facts})


def codes(*ceilings: Ceiling, device: Any = GPU) -> list[str]:
    return [doubt.finding.code for doubt in doubts(ceilings, device)]


@pytest.mark.parametrize(("triton", "found"), [(0.91, []), (0.89, ["backends-differ"])])
def test_two_compilers_agree_within_a_tenth(triton: float, found: list[str]) -> None:
    product = {"dtype": "i8", "unit": "matrix"}
    assert codes(seen("a", 1e15, **product), seen("b", triton * 1e15, backend="triton", **product)) == found


def test_integer_rates_are_told_in_operations_and_memory_in_bytes() -> None:
    def told(**facts: Any) -> str:
        (doubt,) = doubts([seen("a", 1e15, **facts), seen("b", 5e14, backend="triton", **facts)], GPU)
        return doubt.finding.says

    assert told(dtype="i8", unit="matrix").startswith("i8 matrix by two compilers differs by 50%: cuda 1.000 POP/s (a)")
    assert "cuda 1.000 PFLOP/s (a)" in told(dtype="f16", accumulator="f32", unit="matrix")
    assert "cuda 1.000 PB/s (a)" in told(measures="memory", level="L2", access="read")


def test_a_slower_kernel_after_the_fastest_does_not_stand_for_its_backend() -> None:
    rows = (seen("a", 8e14, dtype="f16"), seen("b", 4e14, dtype="f16"))
    assert codes(*rows, seen("c", 7.9e14, dtype="f16", backend="triton")) == []
    assert codes(*rows, seen("c", 1e14, dtype="f16", backend="torch")) == []


@pytest.mark.parametrize(("near", "found"), [(2.95e12, []), (2.88e12, ["levels-out-of-order"])])
def test_a_near_level_may_tie_with_a_far_one_within_three_per_cent(near: float, found: list[str]) -> None:
    assert codes(read("L2", near), read("DRAM", 3e12)) == found


def test_levels_are_ordered_by_the_fastest_read_of_each() -> None:
    assert codes(read("L2", 6e12, "a"), read("L2", 2e12, "b"), read("DRAM", 3e12)) == []
    assert codes(read("L2", 2e12, "b"), read("L2", 6e12, "a"), read("DRAM", 3e12)) == []


@pytest.mark.parametrize(
    "other",
    [
        {"access": "write"},
        {"backend": "torch", "mode": "library"},
        {"measures": "link", "level": "host"},
    ],
)
def test_other_rates_say_nothing_of_the_order_of_levels(other: dict[str, Any]) -> None:
    assert codes(read("L2", 2e12), read("DRAM", 3e12, "other", **other)) == []


@pytest.mark.parametrize(
    ("f64", "found"), [(27.5e12, []), (26e12, ["dtype-ratio"]), (32.5e12, []), (34e12, ["dtype-ratio"])]
)
def test_double_precision_has_half_the_lanes_within_a_tenth(f64: float, found: list[str]) -> None:
    assert codes(fma("f32", 60e12), fma("f64", f64)) == found


@pytest.mark.parametrize(
    "other",
    [
        {"backend": "torch", "mode": "library"},
        {"mode": "sustained"},
        {"clock_hz": None},
        {"unit": "matrix", "name": "mma.f64"},
    ],
)
def test_only_stamped_peaks_of_plain_cores_are_held_against_each_other(other: dict[str, Any]) -> None:
    facts = {**other}
    slow = replace(fma("f64", 10e12), **facts)
    assert codes(fma("f32", 60e12), fma("f64", 30e12), slow) == []
    assert codes(fma("f32", 60e12), slow) == []


def test_lanes_of_a_chip_that_is_in_no_table_are_unknown() -> None:
    unknown = replace(GPU, arch="sm_999", name="Nobody's GPU")
    assert codes(fma("f32", 60e12), fma("f64", 10e12), device=unknown) == []
    assert codes(fma("f64", 10e12)) == []


@pytest.mark.parametrize(("clock_ghz", "found"), [(2.08, []), (2.12, ["clock-above-boost"])])
def test_a_clock_may_step_above_the_highest_by_five_per_cent(clock_ghz: float, found: list[str]) -> None:
    assert codes(fma("f32", 60e12, clock_hz=clock_ghz * 1e9)) == found


def test_the_highest_clock_is_named() -> None:
    rows = [seen(name, 1.0, dtype=None, clock_hz=ghz * 1e9) for name, ghz in (("a", 2.5), ("b", 2.75), ("c", 2.6))]
    (doubt,) = doubts(rows, GPU)
    assert doubt.finding.says == "b ran at 2.75 GHz by its own stamps, and Fake GPU tells 2 GHz as its highest clock"
    assert doubt.cases == ("b[]@1",)
    assert codes(seen("a", 1.0, backend="torch", clock_hz=9e9)) == []
