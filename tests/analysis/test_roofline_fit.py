"""What a fitted roofline withstands, and when one is said to end below the chip's peak."""

from __future__ import annotations

from typing import Any

import pytest
from fake_backend import KIB, fake_device

from microbench.analysis.roofline import fit_rooflines, legacy_paths
from microbench.records import Case, Ceiling, Estimate, RooflineFit, Samples, Sheet, Work

PEAK, BANDWIDTH = 150e9, 12e9
DRAM_SET = 256 * 1024 * KIB


def fitted(fmas: tuple[int, ...], disturbed: dict[int, float] | None = None) -> list[RooflineFit]:
    """Points of a sharp roofline in main memory, some of them lowered by a factor."""
    sheets, cases, samples = {}, {}, []
    for each in fmas:
        work = Work(flop=32 * each, bytes_read=64)
        sheet = Sheet(
            name=f"intensity.f32.v512.x{each}",
            measures="intensity",
            backend="native",
            device_kind="cpu",
            says="",
            dtype="f32",
            variant="v512",
            work=work,
        )
        case = Case(kernel=sheet.name, params={"working_set": DRAM_SET})
        sheets[sheet.name], cases[case.key] = sheet, case
        rate = min(PEAK, BANDWIDTH * each / 2) * (disturbed or {}).get(each, 1.0)
        ns = round(work.flop * 10**6 / rate * 1e9)
        samples.append(Samples(case=case.key, round=0, started_s=0.0, iterations=10**6, ns=(2 * ns, ns), count=2))
    return fit_rooflines(samples, cases, sheets, [], fake_device())


SWEEP = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@pytest.mark.parametrize("point", [1, 4, 128])
def test_one_point_that_interference_halved_moves_no_roof_by_more_than_three_per_cent(point: int) -> None:
    (fit,) = fitted(SWEEP, {point: 0.5})
    assert fit.peak == pytest.approx(PEAK, rel=0.03)
    assert fit.bandwidth["DRAM"] == pytest.approx(BANDWIDTH, rel=0.03)
    assert fit.worst_log_residual == pytest.approx(-0.69, abs=0.05)


def test_overlap_of_arithmetic_and_traffic_is_at_most_a_sharp_corner() -> None:
    (fit,) = fitted(SWEEP)
    assert fit.sharpness is not None
    assert 20 < fit.sharpness <= 40 * (1 + 1e-9)


def test_three_points_are_no_roofline_and_four_are() -> None:
    assert fitted((1, 8, 64)) == []
    assert len(fitted((1, 8, 64, 256))) == 1


def legacy(**facts: Any) -> RooflineFit:
    known: dict[str, Any] = {
        "dtype": "bf16",
        "unit": "matrix",
        "threads": 1,
        "peak": 600e12,
        "bandwidth": {"L2": 5e12, "DRAM": 3e12},
        "ridge": {"L2": 120.0, "DRAM": 200.0},
        "variant": "m16n8k16",
        "legacy": True,
    }
    return RooflineFit(**{**known, **facts})


def peak(value: float, **facts: Any) -> Ceiling:
    known: dict[str, Any] = {"measures": "compute", "backend": "cuda", "dtype": "bf16", "unit": "matrix", "case": "a"}
    rate = Estimate(value=value, low=value, high=value)
    return Ceiling(name="wgmma.bf16.f32", rate=rate, **{**known, **facts})


@pytest.mark.parametrize(("share", "said"), [(1.02, False), (1.04, True), (1.5, True)])
def test_a_legacy_path_is_named_from_three_per_cent_below_the_peak_on(share: float, said: bool) -> None:
    found = legacy_paths([legacy()], [peak(share * 600e12)])
    assert [finding.code for finding in found] == (["legacy-roofline"] if said else [])


def test_a_legacy_path_is_told_with_the_ceiling_and_the_ridge_point_to_plan_with() -> None:
    (found,) = legacy_paths([legacy()], [peak(900e12), peak(950e12, mode="library"), peak(990e12, dtype="f16")])
    assert "ends at 600.0 TFLOP/s and turns at 200 FLOP/byte from DRAM" in found.says
    assert "reaches 900.0 TFLOP/s, which this memory feeds from 300 FLOP/byte on" in found.says


@pytest.mark.parametrize("other", [{"unit": "vector"}, {"dtype": "f16"}, {"mode": "library"}, {"variant": "legacy"}])
def test_a_legacy_path_is_compared_with_peaks_of_its_own_dtype_and_unit(other: dict[str, Any]) -> None:
    assert legacy_paths([legacy()], [peak(900e12, **other)]) == []
    assert legacy_paths([legacy(legacy=False)], [peak(900e12)]) == []
