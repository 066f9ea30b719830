from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from microbench.analysis.compare import compare
from microbench.analysis.compare_limits import exceeded
from microbench.analysis.compared import Comparison
from microbench.records import Ceiling, Characterisation, Cost, Device, Estimate
from microbench.report.comparison import as_github, as_json, readable, show, summary


def ceiling(name: str, rate: float, dtype: str) -> Ceiling:
    estimate = Estimate(value=rate, low=rate, high=rate, basis="fake")
    return Ceiling(
        name=name, measures="compute", backend="native", case=name, dtype=dtype, rate=estimate, converged=True
    )


def characterisation(rate: float, *extra: str) -> Characterisation:
    rows = (
        ceiling("fma.f32", rate, "f32"),
        ceiling("dot.i8", 4e12, "i8"),
        *(ceiling(name, 1e9, "f64") for name in extra),
    )
    cost = Cost(name="launch", seconds=Estimate(value=4e-6, low=4e-6, high=4e-6, basis="fake"))
    device = Device(id="1", kind="cpu", name="Fake", arch="fake")
    return Characterisation(schema="1.0", device=device, environment=None, plan=None, ceilings=rows, costs=(cost,))


def test_rows_carry_the_unit_of_their_kind_and_slowest_comes_first() -> None:
    rows = [readable(change) for change in compare(characterisation(100e9), characterisation(50e9)).changes]
    assert [(row[0], row[1], row[2], row[-1]) for row in rows] == [
        ("fma.f32 x1", "100.0, 50.00 GFLOP/s", "-50.0", "slower"),
        ("dot.i8 x1", "4.000, 4.000 TOP/s", "+0.0", "same: the same measurement"),
        ("launch", "4.00, 4.00 µs", "+0.0", "same: the same measurement"),
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_the_verdict_on_each_kind_and_then_only_what_changed(width: int) -> None:
    text = shown(compare(characterisation(100e9), characterisation(50e9)), width)
    assert [line.split()[:2] for line in text.splitlines() if line.startswith(("compute", "cost"))] == [
        ["compute", "slower"],
        ["cost", "same"],
    ]
    assert text.splitlines()[1].startswith("slower (1 slower, 2 same)")
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width


def test_a_terminal_says_that_nothing_changed() -> None:
    text = shown(
        compare(
            characterisation(1e9, *(f"row{i}" for i in range(9))), characterisation(1e9, *(f"row{i}" for i in range(9)))
        ),
        100,
    )
    assert "no other row surely changed" in text
    assert "3 rows not shown are the same or unresolved" in text


def test_names_of_rows_stay_whole_on_a_narrow_terminal() -> None:
    name = "write.f32.v128_nt.DRAM"
    assert f"{name} x1" in shown(compare(characterisation(1e9, name), characterisation(1e9, name)), 80)


def shown(comparison: Comparison, width: int) -> str:
    out = Console(width=width, file=io.StringIO(), highlight=False)
    show(comparison, out)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_summary_names_rows_of_one_file() -> None:
    lines = summary(compare(characterisation(1e9, "old.row"), characterisation(1e9, *(f"new{i}" for i in range(12)))))
    assert "missing in the new file: old.row x1" in lines
    assert any(line.startswith("only in the new file: new0 x1") and line.endswith("and 2 more") for line in lines)


def test_json_is_one_object_with_what_failed() -> None:
    comparison = compare(characterisation(100e9), characterisation(50e9))
    document = json.loads(as_json([comparison], [exceeded(comparison, {"compute": 0.03})]))
    assert document["exceeded"][0]["code"] == "slower"
    assert document["changes"][0]["ratio"] == pytest.approx(0.5)


def test_github_annotations_escape_percent_and_name_the_row() -> None:
    comparison = compare(characterisation(100e9), characterisation(50e9))
    lines = as_github(comparison, exceeded(comparison, {"compute": 0.03})).splitlines()
    assert lines[0].startswith("::error title=microbench slower::fma.f32 x1: 50.0 %25 slower")
    assert all(line.startswith("::") for line in lines)
