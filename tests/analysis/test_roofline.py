from __future__ import annotations

import math
from dataclasses import replace

import pytest
from fake_backend import KIB, fake_device
from hypothesis import given
from hypothesis import strategies as st

from microbench.analysis.roofline import Roofline, fit_rooflines
from microbench.errors import UsageError
from microbench.records import Case, Ceiling, Characterisation, Estimate, Samples, Sheet, Work

PEAK, BANDWIDTH = 150e9, 12e9


def exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value, basis="made up")


def characterisation() -> Characterisation:
    rows = (
        Ceiling(
            name="fma.f32.v512",
            measures="compute",
            backend="native",
            dtype="f32",
            rate=exactly(PEAK),
            case="a",
            threads=2,
        ),
        Ceiling(
            name="fma.f32.v256",
            measures="compute",
            backend="native",
            dtype="f32",
            rate=exactly(PEAK / 2),
            case="b",
            threads=2,
        ),
        Ceiling(
            name="fma.f32.v512",
            measures="compute",
            backend="native",
            dtype="f32",
            rate=exactly(10 * PEAK),
            case="c",
            threads=1,
        ),
        Ceiling(
            name="read.f32.DRAM",
            measures="memory",
            backend="native",
            level="DRAM",
            access="read",
            rate=exactly(BANDWIDTH),
            case="d",
            threads=2,
        ),
    )
    return Characterisation(schema="1.0", device=fake_device(), environment=None, plan=None, ceilings=rows)


def test_the_highest_ceiling_of_the_most_threads_is_the_roof() -> None:
    assert characterisation().roofline.peak("fp32") == PEAK


def test_ridge_point_is_where_the_roofs_meet() -> None:
    roofline = Roofline.of(characterisation())
    ridge = roofline.ridge_point("f32")
    assert ridge == PEAK / BANDWIDTH
    assert roofline.attainable(ridge, "f32") == pytest.approx(PEAK)
    assert roofline.attainable(ridge / 2, "f32") == pytest.approx(PEAK / 2)


@given(st.floats(1e-6, 1e6), st.floats(1.0, 10.0))
def test_attainable_rises_with_intensity_and_never_passes_a_roof(intensity: float, factor: float) -> None:
    roofline = Roofline.of(characterisation())
    low, high = roofline.attainable(intensity, "f32"), roofline.attainable(intensity * factor, "f32")
    assert low <= high <= PEAK
    assert low <= BANDWIDTH * intensity


@pytest.mark.parametrize("intensity", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_intensity_is_refused(intensity: float) -> None:
    with pytest.raises(UsageError, match="positive"):
        Roofline.of(characterisation()).attainable(intensity, "f32")


def test_what_was_not_measured_is_named_with_what_was() -> None:
    with pytest.raises(UsageError, match=r"no compute ceiling for f64.*it has f32"):
        Roofline.of(characterisation()).peak("f64")
    with pytest.raises(UsageError, match=r"no write ceiling for DRAM.*it has DRAM read"):
        Roofline.of(characterisation()).bandwidth("DRAM", "write")
    with pytest.raises(UsageError, match="unknown dtype"):
        Roofline.of(characterisation()).peak("f12")


def mixed(kernel: str, peak: float, sharpness: float = 6.0) -> tuple[dict[str, Sheet], dict[str, Case], list[Samples]]:
    """Sheets, cases and samples of one loop that follows a known roofline in two levels."""
    sheets, cases, samples = {}, {}, []
    for fmas in (1, 2, 4, 8, 16, 32, 64, 128):
        for level_bytes, bandwidth in ((16 * KIB, 400e9), (256 * 1024 * KIB, BANDWIDTH)):
            name = f"{kernel}.x{fmas}"
            work = Work(flop=32 * fmas, bytes_read=64)
            sheets[name] = Sheet(
                name=name,
                measures="intensity",
                backend="native",
                device_kind="cpu",
                says="",
                dtype="f32",
                variant="v512",
                work=work,
            )
            params = {"working_set": level_bytes} | ({"cold": 1} if bandwidth == BANDWIDTH else {})
            case = Case(kernel=name, params=params)
            cases[case.key] = case
            roofs = (peak, bandwidth * work.flop / work.bytes)
            rate = sum(roof**-sharpness for roof in roofs) ** (-1 / sharpness)
            ns = round(work.flop * 10**6 / rate * 1e9)
            samples.append(Samples(case=case.key, round=0, started_s=0.0, iterations=10**6, ns=(ns, 2 * ns), count=2))
    return sheets, cases, samples


def test_the_fit_recovers_a_known_roofline() -> None:
    sharpness = 6.0
    sheets, cases, samples = mixed("intensity.f32.v512", PEAK, sharpness)
    fits = fit_rooflines(samples, cases, sheets, [], fake_device())
    assert len(fits) == 1
    assert fits[0].peak == pytest.approx(PEAK, rel=0.01)
    assert fits[0].bandwidth["DRAM"] == pytest.approx(BANDWIDTH, rel=0.01)
    assert fits[0].ridge["DRAM"] == pytest.approx(PEAK / BANDWIDTH, rel=0.02)
    assert fits[0].sharpness == pytest.approx(sharpness, rel=0.1)
    assert fits[0].rms_log_residual is not None
    assert fits[0].rms_log_residual < 0.01
    assert len(fits[0].points) == 16


def test_a_second_loop_of_intensities_gets_a_roofline_of_its_own() -> None:
    first, second = mixed("intensity.f32.v512", PEAK), mixed("stencil.f32.v512", PEAK / 3)
    sheets, cases = {**first[0], **second[0]}, {**first[1], **second[1]}
    fits = fit_rooflines([*first[2], *second[2]], cases, sheets, [], fake_device())
    assert [fit.peak for fit in fits] == pytest.approx([PEAK, PEAK / 3], rel=0.01)


def test_a_read_kernel_that_does_not_ask_for_it_is_no_roof() -> None:
    plain = characterisation()
    fast = replace(
        plain.ceilings[3], name="ddot.f64.v256.DRAM", case="ddot.f64.v256[cold=1]@2", rate=exactly(2 * BANDWIDTH)
    )
    facts = {
        "name": "ddot.f64.v256",
        "measures": "memory",
        "backend": "native",
        "device_kind": "cpu",
        "says": "",
        "access": "read",
    }
    beside, asking = (
        replace(plain, ceilings=(*plain.ceilings, fast), sheets=(Sheet(**facts, roles=roles),))
        for roles in (("ceiling",), ("ceiling", "roof"))
    )
    assert Roofline.of(beside).bandwidth("DRAM") == BANDWIDTH
    assert Roofline.of(asking).bandwidth("DRAM") == 2 * BANDWIDTH
