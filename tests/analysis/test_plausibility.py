from __future__ import annotations

from dataclasses import replace

import pytest
from fake_backend import fake_device

from microbench.analysis.plausibility import doubts
from microbench.records import Ceiling, Estimate, Sheet


def exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value, basis="made up")


def compute(name: str, value: float, **facts: object) -> Ceiling:
    return Ceiling(
        **{
            "name": name,
            "measures": "compute",
            "backend": "native",
            "rate": exactly(value),
            "case": f"{name}[]@1",
            **facts,
        }
    )  # type: ignore[arg-type]


def read(level: str, value: float, kernel: str = "read.f32.v512", **facts: object) -> Ceiling:
    case = f"{kernel}[working_set={len(level)}]@1"
    memory = {"measures": "memory", "level": level, "access": "read", "variant": "v512", "case": case}
    return compute(f"{kernel}.{level}", value, **{**memory, **facts})


def codes(*ceilings: Ceiling) -> list[str]:
    return [doubt.finding.code for doubt in doubts(ceilings, fake_device())]


def test_a_plausible_set_raises_no_doubt() -> None:
    fine = [
        read("L1", 300e9),
        read("L2", 100e9),
        read("L3", 25e9),
        read("DRAM", 12e9),
        compute("fma.f32.v512", 99.0, nominal=100.0),
    ]
    assert codes(*fine) == []


def test_above_nominal_is_doubted() -> None:
    assert codes(compute("fma.f32.v512", 101.0, nominal=100.0)) == ["above-nominal"]


def test_nominal_may_be_met_within_the_clocks_error() -> None:
    assert codes(compute("fma.f32.v512", 100.4, nominal=100.0)) == []


@pytest.mark.parametrize(("near", "far"), [("L1", "L2"), ("L2", "L3"), ("L3", "DRAM"), ("L1", "DRAM")])
def test_a_near_level_slower_than_a_far_one_is_doubted(near: str, far: str) -> None:
    assert codes(read(near, 10e9), read(far, 12e9)) == ["levels-out-of-order"]


def test_levels_are_compared_within_one_access_and_thread_count_only() -> None:
    assert codes(read("L1", 10e9), replace(read("L2", 12e9, threads=2), scope="device")) == []


def test_two_threads_below_one_are_doubted_and_both_cases_are_named() -> None:
    two = replace(compute("fma.f32.v512", 90.0, threads=2), case="fma.f32.v512[]@2")
    found = doubts([compute("fma.f32.v512", 100.0), two], fake_device())
    assert [doubt.finding.code for doubt in found] == ["threads-slower"]
    assert set(found[0].cases) == {"fma.f32.v512[]@1", "fma.f32.v512[]@2"}


def test_single_precision_must_be_twice_double_precision() -> None:
    f32, f64 = (
        compute(f"fma.{d}.v512", v, unit="vector", variant="v512", dtype=d) for d, v in (("f32", 150.0), ("f64", 100.0))
    )
    assert codes(f32, f64) == ["vector-ratio"]
    assert codes(replace(f32, rate=exactly(199.0)), f64) == []


def test_a_library_faster_than_every_unit_is_doubted() -> None:
    unit = compute("fma.f32.v512", 100.0, dtype="f32")
    library = compute("gemm.f32", 120.0, dtype="f32", mode="library", backend="torch")
    assert codes(unit, library) == ["library-above-units"]
    assert codes(unit, replace(library, rate=exactly(90.0))) == []


@pytest.mark.parametrize("turned", [False, True])
def test_two_read_kernels_of_one_variant_are_held_against_themselves_only(*, turned: bool) -> None:
    mine = [read("L1", 300e9), read("L2", 100e9)]
    slow = [read("L1", 40e9, "ddot.f32.v512"), read("L2", 30e9, "ddot.f32.v512")]
    both = [*slow, *mine] if turned else [*mine, *slow]
    assert codes(*both) == []
    doubted = [*slow, read("L1", 90e9), mine[1]] if turned else [read("L1", 90e9), mine[1], *slow]
    (doubt,) = doubts(doubted, fake_device())
    assert doubt.finding.says.startswith("read.f32.v512.L1 with 1 thread is slower than read.f32.v512.L2")


def test_a_kernel_that_does_not_bound_the_roofline_need_not_double_with_half_the_width() -> None:
    f32, f64 = (
        compute(f"div.{d}.v512", v, unit="vector", variant="v512", dtype=d) for d, v in (("f32", 130.0), ("f64", 100.0))
    )
    sheets = [
        Sheet(
            name=f"div.{d}.v512", measures="compute", backend="native", device_kind="cpu", says="", roles=("ceiling",)
        )
        for d in ("f32", "f64")
    ]
    assert [doubt.finding.code for doubt in doubts([f32, f64], fake_device(), sheets)] == []
    assert codes(f32, f64) == ["vector-ratio"]


def test_another_kernel_of_that_variant_does_not_stand_in_for_its_double() -> None:
    f32, f64, other = (
        compute(name, value, unit="vector", variant="v512", dtype=name.split(".")[1])
        for name, value in (("fma.f32.v512", 200.0), ("fma.f64.v512", 100.0), ("add.f64.v512", 50.0))
    )
    assert codes(f32, f64, other) == codes(other, f64, f32) == []
