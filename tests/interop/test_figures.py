"""Which figures of a characterisation consumers are given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from microbench.interop.figures import bandwidth, compute, fixed_cost, link, plain, tidy
from microbench.records import Ceiling, Characterisation, Cost, Device, Estimate, Fits, OperatorFit, RooflineFit


def row(value: float, high: float | None = None, **facts: Any) -> Ceiling:
    known: dict[str, Any] = {
        "name": "gemm.f32",
        "measures": "compute",
        "backend": "torch",
        "dtype": "f32",
        "scope": "device",
        "mode": "library",
        "case": "a",
    }
    return Ceiling(rate=Estimate(value=value, low=0.9 * value, high=high or value), **{**known, **facts})


def device(*ceilings: Ceiling, **facts: Any) -> Characterisation:
    made = Device(id="1", kind="cpu", name="Fake", arch="fake", units_by_kind={"core": 2})
    return Characterisation(
        schema="1.0", **{"device": made, "environment": None, "plan": None, "ceilings": ceilings, **facts}
    )


def test_the_interval_of_a_rate_ends_at_its_peak() -> None:
    rate = compute(device(row(900.0, high=1100.0, nominal=1000.0)))["f32"]
    assert (rate.value, rate.low, rate.high, rate.peak) == (900.0, 810.0, 1000.0, 1000.0)
    assert rate.efficiency == pytest.approx(0.9)
    assert compute(device(row(900.0, high=950.0, nominal=1000.0)))["f32"].high == 950.0


def test_a_library_wins_over_a_sustained_rate_and_that_over_a_burst() -> None:
    rows = (row(300.0, mode="peak", nominal=310.0), row(250.0, mode="sustained"), row(200.0), row(190.0))
    assert [compute(device(*rows[i:]))["f32"].value for i in (0, 2)] == [200.0, 200.0]
    assert compute(device(*rows[:2]))["f32"].value == 250.0
    assert compute(device(*rows[:1]))["f32"].value == 300.0
    assert compute(device(*rows))["f32"].peak == 310.0


def test_a_core_speaks_for_a_device_of_one_core_only() -> None:
    one = row(10.0, scope="core")
    single = Device(id="1", kind="cpu", name="Fake", arch="fake", units_by_kind={"core": 1})
    assert compute(device(one)) == {}
    assert compute(device(one, device=single))["f32"].value == 10.0
    assert compute(device(one, device=replace(single, kind="cuda"))) == {}
    assert compute(device(one, row(18.0)))["f32"].value == 18.0


def fits(*costs: tuple[str, dict[str, float]]) -> Fits:
    return Fits(
        operators=tuple(
            OperatorFit(family=f"family{i}", dtype="f32", rows=9, cost_s=cost, cache=cache)  # type: ignore[arg-type]
            for i, (cache, cost) in enumerate(costs)
        )
    )


def test_the_fixed_cost_of_an_operator_is_the_median_over_families() -> None:
    eager = [("hot", {"eager": cost}) for cost in (9e-6, 1e-6, 8e-6, 1.5e-6)]
    made = device(fits=fits(*eager, ("hot", {"eager": 2e-6, "graph": 5e-7})))
    assert fixed_cost(made, "eager") == 2e-6
    assert fixed_cost(made, "graph", "eager") == 5e-7


def test_cold_operators_tell_the_fixed_cost_only_where_there_are_no_hot_ones() -> None:
    cold = ("cold", {"eager": 9e-6})
    assert fixed_cost(device(fits=fits(cold, cold, ("hot", {"eager": 2e-6}))), "eager") == 2e-6
    assert fixed_cost(device(fits=fits(cold)), "eager") == 9e-6


def test_without_fits_the_fixed_cost_is_the_cheapest_launch() -> None:
    costs = tuple(
        Cost(name=name, seconds=Estimate(value=s, low=s, high=s))
        for name, s in (("launch.plain", 4e-6), ("launch.graph", 3e-6), ("barrier", 1e-6))
    )
    assert fixed_cost(device(costs=costs), "eager") == 3e-6
    assert fixed_cost(device(), "eager") is None


def test_a_roofline_and_a_fit_stand_in_for_ceilings_that_were_not_measured() -> None:
    roofline = RooflineFit(dtype="f64", unit=None, threads=1, peak=5e9, bandwidth={"DRAM": 2e9}, ridge={"DRAM": 2.5})
    matmul = OperatorFit(family="matmul", dtype="bf16", rows=12, terms={"peak": 7e9, "bandwidth": 3e9})
    made = device(row(4e9), fits=Fits(rooflines=(roofline,), operators=(matmul,)))
    assert {dtype: rate.value for dtype, rate in compute(made).items()} == {"f32": 4e9, "bf16": 7e9, "f64": 5e9}
    found = bandwidth(made, "read")
    assert found is not None
    assert (found.value, found.source) == (2e9, "roofline fit of f64")
    without = bandwidth(replace(made, fits=Fits(operators=(matmul,))), "read")
    assert without is not None
    assert (without.value, without.source) == (3e9, "fit of matmul bf16 on 12 rows")


def test_the_link_is_that_to_a_peer_before_that_to_the_host() -> None:
    def over(level: str, access: str, value: float) -> Ceiling:
        return row(value, name=f"copy.{level}", measures="link", level=level, access=access, dtype=None, mode="peak")

    rows = (over("host", "read", 25e9), over("peer", "copy", 300e9), over("peer", "write", 310e9))
    assert [found and found.value for found in (link(device(*rows)), link(device(rows[0])), link(device()))] == [
        300e9,
        25e9,
        None,
    ]


@pytest.mark.parametrize(("value", "written"), [(1234567.89, 1234570), (0.81234567, 0.812346), (3.0, 3), (2.5, 2.5)])
def test_figures_are_written_with_six_digits(value: float, written: float) -> None:
    assert tidy(value) == written
    assert isinstance(tidy(value), type(written))


def test_only_arithmetic_of_a_known_dtype_is_a_rate_of_that_dtype() -> None:
    stream = row(5e12, name="read.f32", measures="memory", level="DRAM", access="read")
    assert {dtype: rate.value for dtype, rate in compute(device(stream, row(4e9), row(9e9, dtype=None))).items()} == {
        "f32": 4e9
    }


def test_fits_of_products_stand_in_for_a_dtype_matmul_first_and_no_other_family() -> None:
    def fitted(family: str, dtype: str, **terms: float) -> OperatorFit:
        return OperatorFit(family=family, dtype=dtype, rows=12, terms=terms)

    operators = (
        fitted("elementwise", "f64", peak=9e12),
        fitted("linear", "bf16", peak=6e12),
        fitted("matmul", "bf16", peak=7e12),
        fitted("bmm", "f16", flops=5e12),
        fitted("bmm", "tf32", bandwidth=1e12),
        fitted("matmul", "f32", peak=1e12),
    )
    made = device(row(4e9), fits=Fits(operators=operators))
    assert {dtype: rate.value for dtype, rate in compute(made).items()} == {"f32": 4e9, "bf16": 7e12, "f16": 5e12}
    found = bandwidth(made, "read")
    assert found is not None
    assert found.source == "fit of bmm tf32 on 12 rows"


def test_a_name_in_a_generated_file_is_one_short_line_without_quotes() -> None:
    assert plain('x"\n\\ y') == "x y"
    assert plain("n" * 500) == "n" * 120
