from __future__ import annotations

import json

from microbench.compare import compare, exceeded
from microbench.records import Ceiling, Characterisation, Cost, Device, Estimate
from microbench.report.comparison import as_github, as_json, readable, summary


def ceiling(name: str, rate: float, dtype: str) -> Ceiling:
    estimate = Estimate(value=rate, low=rate, high=rate, basis="fake")
    return Ceiling(name=name, measures="compute", backend="native", case=name, dtype=dtype, rate=estimate, converged=True)


def characterisation(rate: float, *extra: str) -> Characterisation:
    rows = (ceiling("fma.f32", rate, "f32"), ceiling("dot.i8", 4e12, "i8"), *(ceiling(name, 1e9, "f64") for name in extra))
    cost = Cost(name="launch", seconds=Estimate(value=4e-6, low=4e-6, high=4e-6, basis="fake"))
    device = Device(id="1", kind="cpu", name="Fake", arch="fake")
    return Characterisation(schema="1.0", device=device, environment=None, plan=None, ceilings=rows, costs=(cost,))


def test_rows_carry_the_unit_of_their_kind_and_slowest_comes_first() -> None:
    rows = readable(compare(characterisation(100e9), characterisation(50e9)))
    assert [(row["row"], row["new"], row["verdict"]) for row in rows] == [
        ("fma.f32 x1", "50.00 GFLOP/s", "slower"),
        ("dot.i8 x1", "4.000 TOP/s", "same"),
        ("launch", "4.00 µs", "same"),
    ]


def test_summary_names_rows_of_one_file() -> None:
    lines = summary(compare(characterisation(1e9, "old.row"), characterisation(1e9, *(f"new{i}" for i in range(12)))))
    assert "only in the old file: old.row x1" in lines
    assert any(line.startswith("only in the new file: new0 x1") and line.endswith("and 2 more") for line in lines)


def test_json_is_one_object_with_what_failed() -> None:
    comparison = compare(characterisation(100e9), characterisation(50e9))
    document = json.loads(as_json(comparison, exceeded(comparison, {"compute": 0.03})))
    assert document["exceeded"][0]["code"] == "slower"
    assert document["changes"][0]["ratio"] == 0.5


def test_github_annotations_escape_percent_and_name_the_row() -> None:
    comparison = compare(characterisation(100e9), characterisation(50e9))
    lines = as_github(comparison, exceeded(comparison, {"compute": 0.03})).splitlines()
    assert lines[0].startswith("::error title=microbench slower::fma.f32 x1: 50.0 %25 slower")
    assert all(line.startswith("::") for line in lines)
