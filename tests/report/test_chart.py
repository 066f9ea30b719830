from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from microbench.records import Characterisation, Fits, OperatorTiming, Samples, Work
from microbench.report import chart, html, roofline_scene


@pytest.mark.parametrize("name", ["fake_cpu", "fake_cuda", "bare"])
def test_the_chart_shows_what_the_still_picture_shows(name: str, request: pytest.FixtureRequest) -> None:
    held: Characterisation = request.getfixturevalue(name)
    data, scene = chart.data(held), roofline_scene.scene(held)
    most = max((count for count, _ in data["threads"]), default=0)
    burst = [row for row in data["slopes"] if (row["threads"], row["mode"], row["access"]) == (most, "peak", "read")]
    assert {row["level"]: row["rate"] for row in burst} == {level: rate for level, (_, rate) in scene.bandwidth.items()}
    roofs = {
        row["dtype"]: row["rate"]
        for row in sorted(data["roofs"], key=lambda row: row["rate"])
        if row["threads"] == most and row["mode"] == "peak"
    }
    assert {roof.dtype: roof.rate for roof in scene.thick} == roofs
    points = [tuple(point) for fit in data["fits"] if fit["threads"] == most for point in fit["points"]]
    drawn = roofline_scene.residuals(scene.fits)
    assert points == [(point.level, point.intensity, point.rate, point.fitted) for _, point, _ in drawn]
    json.dumps(data, allow_nan=False)


def test_the_samples_of_a_ceiling_contain_its_rate(fake_cpu: Characterisation) -> None:
    ceiling = next(row for row in fake_cpu.ceilings if row.mode == "peak" and row.measures == "compute")
    best_ns = 64 * ceiling.threads * 10**9 / ceiling.rate.value * 1e9
    ns = tuple(round(best_ns * (1 + each / 50)) for each in range(60))
    taken = Samples(case=ceiling.case, round=0, started_s=1.234, iterations=10**9, ns=ns, count=len(ns))
    sheets = tuple(replace(sheet, work=Work(flop=64)) for sheet in fake_cpu.sheets)
    (found,) = chart.data(replace(fake_cpu, samples=(taken,), sheets=sheets))["samples"].items()
    case, ((started, rates),) = found
    assert (case, started) == (ceiling.case, 1.23)
    assert len(rates) < len(ns)  # a page is passed around
    assert max(rates) == pytest.approx(ceiling.rate.value, rel=1e-3)
    assert min(rates) == pytest.approx(ceiling.rate.value / (1 + 59 / 50), rel=1e-3)


def test_timed_operators_are_points_of_the_chart(fake_cpu: Characterisation) -> None:
    timings = (
        OperatorTiming(op="matmul", dtype="f32", params="m=64;n=64;k=64", seconds=1e-5, rounds=3),
        OperatorTiming(op="of_another_version", dtype="f32", params="x=1", seconds=1e-5, rounds=3),
        OperatorTiming(op="matmul", dtype="f32", params="m=64;n=64;k=64", seconds=2e-5, rounds=3, cache="cold"),
    )
    (point,) = chart.data(replace(fake_cpu, fits=Fits(timings=timings)))["operators"]
    assert point["rate"] == pytest.approx(2 * 64**3 / 1e-5)
    assert point["intensity"] == pytest.approx(2 * 64**3 / (3 * 64 * 64 * 4))


def test_no_text_of_a_file_ends_the_data_of_the_page(fake_cpu: Characterisation) -> None:
    rude = "</script><img src=x onerror=alert(1)>"
    page = html.render(replace(fake_cpu, device=replace(fake_cpu.device, name=rude)))
    assert rude not in page
    island = page.split('id="chart-data">')[1].split("</script>")[0]
    assert "<" not in island
    assert math.isfinite(json.loads(island)["roofs"][0]["rate"])


def test_every_point_of_the_sweep_stands_in_a_table_that_needs_no_script(fake_cpu: Characterisation) -> None:
    rows = chart.point_rows(fake_cpu)
    assert len(rows) == 1 + len(roofline_scene.residuals(fake_cpu.fits.rooflines))
    assert len({len(row) for row in rows}) == 1
    page = html.render(fake_cpu)
    assert all(cell in page for row in rows for cell in row)
