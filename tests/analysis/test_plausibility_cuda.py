from __future__ import annotations

from dataclasses import replace

import pytest
from fake_backend import fake_device

from microbench.analysis.plausibility import doubts
from microbench.records import Ceiling, Estimate, Sheet

GPU = replace(
    fake_device(), kind="cuda", name="Fake GPU", arch="sm_90a", boost_clock_hz=1.98e9, units_by_kind={"sm": 132}
)


def seen(name: str, value: float, **facts: object) -> Ceiling:
    rate = Estimate(value=value, low=value, high=value, basis="made up")
    return Ceiling(
        **{"name": name, "measures": "compute", "backend": "cuda", "rate": rate, "case": f"{name}[]@1", **facts}
    )  # type: ignore[arg-type]


def matrix(backend: str, value: float, name: str = "", **facts: object) -> Ceiling:
    what = {"backend": backend, "dtype": "bf16", "accumulator": "f32", "unit": "matrix"}
    return seen(name or f"product.{backend}", value, **{**what, **facts})


def read(level: str, value: float, backend: str = "cuda", variant: str = "u4") -> Ceiling:
    name = f"read.i32.{variant}.{level}.{backend}"
    return seen(name, value, backend=backend, measures="memory", level=level, access="read", variant=variant)


def codes(*ceilings: Ceiling) -> list[str]:
    return [doubt.finding.code for doubt in doubts(ceilings, GPU)]


def test_two_backends_that_agree_within_a_tenth_raise_no_doubt() -> None:
    assert codes(matrix("cuda", 800e12), matrix("triton", 721e12)) == []
    assert codes(read("DRAM", 3.0e12), read("DRAM", 2.75e12, "triton", "triton")) == []


def test_a_format_that_differs_by_more_than_a_tenth_between_backends_names_both_with_their_values() -> None:
    (doubt,) = doubts([matrix("cuda", 800e12), matrix("triton", 600e12)], GPU)
    assert doubt.finding.code == "backends-differ"
    assert "bf16 f32 matrix by two compilers differs by 25%" in doubt.finding.says
    assert "cuda 800.0 TFLOP/s (product.cuda)" in doubt.finding.says
    assert "triton 600.0 TFLOP/s (product.triton)" in doubt.finding.says
    assert "Triton" in doubt.finding.remedy
    assert set(doubt.cases) == {"product.cuda[]@1", "product.triton[]@1"}


def test_a_level_that_triton_reads_faster_blames_the_other_kernel() -> None:
    (doubt,) = doubts([read("DRAM", 2e12), read("DRAM", 3e12, "triton", "triton")], GPU)
    assert doubt.finding.code == "backends-differ"
    assert "read.i32.u4.DRAM.cuda misses its ceiling" in doubt.finding.remedy


def test_the_fastest_kernel_of_a_backend_stands_for_it() -> None:
    assert codes(matrix("cuda", 400e12, "mma"), matrix("cuda", 800e12, "wgmma"), matrix("triton", 790e12)) == []


@pytest.mark.parametrize("facts", [{"dtype": "f16"}, {"accumulator": "f16"}, {"unit": "scalar"}, {"mode": "sustained"}])
def test_different_things_are_not_compared(facts: dict[str, object]) -> None:
    assert codes(matrix("cuda", 800e12), matrix("triton", 100e12, "", **facts)) == []


def test_levels_read_by_different_kernels_are_still_ordered() -> None:
    fine = [read("DRAM", 3e12), read("L2", 6e12, variant="u8"), read("shared", 30e12, variant="shared")]
    assert codes(*fine) == []
    assert codes(fine[0], fine[1], read("shared", 5e12, variant="shared")) == ["levels-out-of-order"]


def test_plain_formats_stand_in_the_ratio_of_their_lanes_per_clock() -> None:
    f32 = seen("fma.f32", 60e12, dtype="f32", unit="scalar", clock_hz=1.9e9)
    f64 = seen("fma.f64", 30e12, dtype="f64", unit="scalar", clock_hz=1.9e9)
    assert codes(f32, f64) == []
    assert codes(f32, replace(f64, rate=replace(f64.rate, value=20e12, low=20e12, high=20e12))) == ["dtype-ratio"]
    # Half the rate at half the clock is the same rate per clock.
    assert codes(f32, replace(f64, clock_hz=0.95e9, rate=replace(f64.rate, value=15e12, low=15e12, high=15e12))) == []


def test_stamps_that_tell_more_than_the_highest_clock_are_doubted() -> None:
    assert codes(seen("fma.f32", 60e12, dtype="f32", clock_hz=2.0e9)) == []
    assert codes(seen("fma.f32", 60e12, dtype="f32", clock_hz=2.2e9)) == ["clock-above-boost"]
    assert doubts([seen("fma.f32", 60e12, clock_hz=9e9)], replace(GPU, boost_clock_hz=None)) == []


def test_the_fastest_plain_kernel_of_a_format_stands_for_it() -> None:
    f32, f64, slow = (
        seen(name, value, dtype=dtype, unit="scalar", clock_hz=1.9e9)
        for name, value, dtype in (("fma.f32", 60e12, "f32"), ("fma.f64", 30e12, "f64"), ("poly.f64", 5e12, "f64"))
    )
    assert codes(f32, f64, slow) == codes(slow, f64, f32) == []


def test_a_second_read_kernel_that_bounds_nothing_is_not_the_fastest_read_of_its_level() -> None:
    fine = [read("DRAM", 3e12), read("L2", 6e12)]
    fast = seen("twice.i32.DRAM", 9e12, measures="memory", level="DRAM", access="read", case="twice.i32[]@1")
    sheet = Sheet(
        name="twice.i32",
        measures="memory",
        backend="cuda",
        device_kind="cuda",
        says="",
        access="read",
        roles=("ceiling",),
    )
    assert [doubt.finding.code for doubt in doubts([*fine, fast], GPU, [sheet])] == []
    assert codes(*fine, fast) == ["levels-out-of-order"]
