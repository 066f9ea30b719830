"""What a fitted roofline withstands, and when one is said to end below the chip's peak."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_backend import KIB, fake_device

from microbench.analysis.roofline import fit_rooflines, legacy_paths
from microbench.records import Case, Ceiling, Estimate, Mode, RooflineFit, Samples, Sheet, Work

PEAK, BANDWIDTH = 150e9, 12e9
Swept = tuple[list[Samples], dict[str, Case], dict[str, Sheet]]


SETS = {"DRAM": (256 * 1024 * KIB, BANDWIDTH), "L1": (16 * KIB, 60e9)}


def points(
    fmas: tuple[int, ...],
    disturbed: dict[int, float] | None = None,
    *,
    sharpness: float = math.inf,
    level: str = "DRAM",
    threads: int = 1,
    mode: Mode = "peak",
    cold: bool = True,
    **facts: Any,
) -> Swept:
    """One case per multiply-adds a load, some of them lowered by a factor."""
    sheets, cases, samples = {}, {}, []
    working_set, bandwidth = SETS[level]
    for each in fmas:
        work = Work(flop=32 * each, bytes_read=64)
        made: dict[str, Any] = {"measures": "intensity", "dtype": "f32", "variant": "v512", "work": work, **facts}
        sheet = Sheet(name=f"intensity.f32.v512.x{each}", backend="native", device_kind="cpu", says="", **made)
        params = {"working_set": working_set} | ({"cold": 1} if cold and mode == "peak" and level == "DRAM" else {})
        case = Case(kernel=sheet.name, params=params, threads=threads, mode=mode)
        sheets[sheet.name], cases[case.key] = sheet, case
        roofs = np.log((PEAK, bandwidth * each / 2))
        smooth = min(roofs) if math.isinf(sharpness) else -np.logaddexp(*(-sharpness * roofs)) / sharpness
        rate = math.exp(smooth) * (disturbed or {}).get(each, 1.0)
        ns = round(work.flop * 10**6 / rate * 1e9)
        samples.append(Samples(case=case.key, round=0, started_s=0.0, iterations=10**6, ns=(2 * ns, ns), count=2))
    return samples, cases, sheets


def fit_of(*swept: Swept) -> list[RooflineFit]:
    samples = [sample for each in swept for sample in each[0]]
    cases = {key: case for each in swept for key, case in each[1].items()}
    sheets = {name: sheet for each in swept for name, sheet in each[2].items()}
    return fit_rooflines(samples, cases, sheets, [], fake_device())


def fitted(fmas: tuple[int, ...], disturbed: dict[int, float] | None = None, **how: Any) -> list[RooflineFit]:
    return fit_of(points(fmas, disturbed, **how))


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


@pytest.mark.parametrize(("made", "seen"), [(1.0, 1.0), (2.0, 2.0), (0.5, 1.0)])
def test_arithmetic_and_traffic_overlap_not_at_all_at_worst(made: float, seen: float) -> None:
    (fit,) = fitted(SWEEP, sharpness=made)
    assert fit.sharpness == pytest.approx(seen, rel=0.05)


def test_each_level_has_its_bandwidth_and_each_point_its_place_on_the_curve() -> None:
    (fit,) = fit_of(points(SWEEP, {128: 0.5}), points(SWEEP, level="L1"))
    assert fit.bandwidth == {level: pytest.approx(rate, rel=0.03) for level, (_, rate) in SETS.items()}
    assert fit.ridge == {level: pytest.approx(PEAK / rate, rel=0.05) for level, (_, rate) in SETS.items()}
    lowered = next(point for point in fit.points if (point.level, point.intensity) == ("DRAM", 64.0))
    assert lowered.rate == pytest.approx(PEAK / 2, rel=1e-3)
    assert lowered.fitted == pytest.approx(PEAK, rel=0.03)


def test_sets_of_which_a_cache_may_have_answered_a_part_are_no_points_of_main_memory() -> None:
    assert fit_of(points(SWEEP, {4: 3.0}, cold=False), points(SWEEP)) == fitted(SWEEP)
    assert fitted(SWEEP, cold=False) == []


def test_threads_add_up_and_have_a_roofline_of_their_own() -> None:
    one, two = fit_of(points(SWEEP), points(SWEEP, threads=2))
    assert (one.threads, two.threads) == (1, 2)
    assert two.peak == pytest.approx(2 * one.peak, rel=1e-3)


def test_samples_that_last_have_a_roofline_of_their_own_through_the_medians_of_their_rounds() -> None:
    samples, cases, sheets = points(SWEEP, mode="sustained")
    slower = [replace(each, ns=(3 * each.ns[1],)) for each in samples]
    lasting = [replace(each, ns=each.ns[1:]) for each in samples]
    burst, sustained = fit_of(points(SWEEP), ([*lasting, *lasting, *slower], cases, sheets))
    assert (burst.mode, sustained.mode) == ("peak", "sustained")
    assert [point.rate for point in sustained.points] == [point.rate for point in burst.points]
    (held_up,) = fit_of(([*slower, *slower, *lasting], cases, sheets))
    assert held_up.peak == pytest.approx(burst.peak / 3, rel=1e-3)


def test_other_samples_are_no_points_of_a_roofline() -> None:
    alone = fitted(SWEEP)
    samples, cases, sheets = points(SWEEP)
    stranger = replace(samples[0], case="unknown[]@1")
    compute = Sheet(
        name="fma.f32",
        measures="compute",
        backend="native",
        device_kind="cpu",
        says="",
        dtype="f32",
        variant="v512",
        work=Work(flop=32, bytes_read=1),
    )
    bare = replace(compute, name="intensity.f32.v512.x0", measures="intensity", work=Work(bytes_read=64), roles=())
    nameless = replace(bare, name="intensity.none", dtype=None, work=Work(flop=32, bytes_read=64))
    more = {
        sheet.name: Case(kernel=sheet.name, params={"working_set": SETS["L1"][0]})
        for sheet in (compute, bare, nameless)
    }
    lost = Case(kernel="gone")
    others = [replace(samples[0], case=case.key) for case in (*more.values(), lost)]
    cases |= {case.key: case for case in (*more.values(), lost)}
    sheets |= {sheet.name: sheet for sheet in (compute, bare, nameless)}
    assert fit_rooflines([*samples, stranger, *others], cases, sheets, [], fake_device()) == alone


def test_a_roofline_says_through_which_instructions_it_went() -> None:
    (usual,), (old,) = fitted(SWEEP), fitted(SWEEP, variant="m16n8k16.legacy")
    assert (usual.variant, usual.legacy) == ("v512", False)
    assert (old.variant, old.legacy) == ("m16n8k16", True)


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
    (found,) = legacy_paths(
        [legacy()], [peak(700e12), peak(900e12), peak(950e12, mode="library"), peak(990e12, dtype="f16")]
    )
    assert "ends at 600.0 TFLOP/s and turns at 200 FLOP/byte from DRAM" in found.says
    assert "reaches 900.0 TFLOP/s, which this memory feeds from 300 FLOP/byte on" in found.says


def test_a_legacy_path_that_never_reached_main_memory_turns_at_its_slowest_level() -> None:
    (found,) = legacy_paths(
        [legacy(bandwidth={"L2": 5e12, "shared": 30e12}, ridge={"L2": 120.0, "shared": 20.0})], [peak(900e12)]
    )
    assert "turns at 120 FLOP/byte from L2" in found.says
    assert "feeds from 180 FLOP/byte on" in found.says


@pytest.mark.parametrize("other", [{"unit": "vector"}, {"dtype": "f16"}, {"mode": "library"}, {"variant": "legacy"}])
def test_a_legacy_path_is_compared_with_peaks_of_its_own_dtype_and_unit(other: dict[str, Any]) -> None:
    assert legacy_paths([legacy()], [peak(900e12, **other)]) == []
    assert legacy_paths([legacy(legacy=False)], [peak(900e12)]) == []
