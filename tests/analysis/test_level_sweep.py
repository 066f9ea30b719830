"""Which samples make the curve that memory levels are read from, and what a level says of the time between two uses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fake_backend import KIB, fake_device

from microbench.analysis.ceilings import Analysis, analyse
from microbench.analysis.levels import SweepPoint, find_levels
from microbench.measure.working_sets import sweep_sizes
from microbench.records import Budget, Case, LevelSeen, Plan, Samples, Sheet, Work

MIB = 1024 * KIB
LOADS = 8
CHASE = Sheet(name="chase", measures="latency", backend="native", device_kind="cpu", says="", loads=LOADS)
READ = Sheet(
    name="read.f32.v512",
    measures="memory",
    backend="native",
    device_kind="cpu",
    says="",
    access="read",
    work=Work(bytes_read=64),
)
SIZES = sweep_sizes(256 * MIB, 3)


def latency(size: int) -> float:
    return 1e-9 if size <= 32 * KIB else 4e-9 if size <= MIB else 25e-9 if size <= 8 * MIB else 100e-9


Curve = tuple[Sheet, list[tuple[dict[str, Any], float]]]


def analysed(*curves: Curve, threads: int = 1) -> Analysis:
    """What curves of (parameters, seconds an iteration), a round each, amount to."""
    rows = [
        (Case(kernel=sheet.name, params=params, threads=threads), seconds)
        for sheet, curve in curves
        for params, seconds in curve
    ]
    samples = [
        Samples(
            case=case.key,
            round=0,
            started_s=0.0,
            iterations=10**6,
            ns=(round(seconds * 3e15), round(seconds * 1e15)),
            count=2,
        )
        for case, seconds in rows
    ]
    plan = Plan(cases=tuple({case.key: case for case, _ in rows}.values()), budget=Budget())
    sheets = {sheet.name: sheet for sheet, _ in curves}
    return analyse(samples, plan, sheets, fake_device())


def seen(*curves: Curve, threads: int = 1) -> dict[str, LevelSeen]:
    """The levels that the curves show."""
    return {level.name: level for level in analysed(*curves, threads=threads).levels}


def chase(sizes: list[int], factor: float = 1.0, **params: Any) -> Curve:
    return CHASE, [({"working_set": size, **params}, LOADS * latency(size) * factor) for size in sizes]


def test_of_two_curves_by_pointer_chase_the_one_in_huge_pages_tells_the_levels() -> None:
    # The curve in small pages has more points, and each pays for a page walk.
    found = seen(chase(SIZES, 3.0, pages="4k"), chase(SIZES[::2], pages="huge"))
    assert found["DRAM"].value == pytest.approx(100e-9)
    assert found["L1"].value == pytest.approx(1e-9)


def test_a_few_points_in_huge_pages_are_no_curve_beside_a_whole_one_in_small_pages() -> None:
    found = seen(chase(SIZES, pages="4k"), chase(SIZES[::8], 0.5, pages="huge"))
    assert found["DRAM"].value == pytest.approx(100e-9)


def test_the_latency_of_a_level_is_that_of_the_middle_set_on_its_plateau_in_huge_pages() -> None:
    factor = dict(zip(SIZES, [1.0, 1.02, 0.98] * len(SIZES), strict=False))
    huge = (CHASE, [({"working_set": size, "pages": "huge"}, LOADS * latency(size) * factor[size]) for size in SIZES])
    found = analysed(huge, chase(SIZES, pages="4k"))  # in small pages the latency is exactly that of the plateau
    costs = {cost.name: cost for cost in found.costs}
    assert list(costs) == [f"load_to_use.{level}" for level in ("L1", "L2", "L3", "DRAM")]
    for level in found.levels:
        cost = costs[f"load_to_use.{level.name}"]
        assert cost.seconds.value == pytest.approx(level.value)
        assert "pages=huge" in str(cost.case)


def test_reads_beside_a_chase_have_no_latency() -> None:
    found = analysed(chase(SIZES, pages="huge"), read())
    assert [cost.case and cost.case.partition("[")[0] for cost in found.costs] == ["chase"] * 4


def test_of_several_rounds_the_fastest_makes_the_curve() -> None:
    found = seen(chase(SIZES, 2.0, pages="huge"), chase(SIZES, pages="huge"), chase(SIZES, 1.5, pages="huge"))
    assert found["L2"].value == pytest.approx(4e-9)


def test_a_pointer_chase_meets_a_line_again_after_as_many_loads_as_there_are_lines() -> None:
    points = [SweepPoint(size_bytes=size, value=latency(size)) for size in SIZES]
    for level in find_levels(points, fake_device(), "chase"):
        assert level.reuse_s == pytest.approx(level.high_bytes / 64 * level.value)


def rate(size: int) -> float:
    return 300e9 if size <= 32 * KIB else 100e9 if size <= MIB else 25e9 if size <= 8 * MIB else 10e9


def read(sheet: Sheet = READ, sizes: list[int] = SIZES, **params: Any) -> Curve:
    return sheet, [({"working_set": size, "pages": "huge", **params}, 64 / rate(size)) for size in sizes]


def test_a_stream_is_read_from_one_thread_and_one_stream_through_a_warm_cache() -> None:
    assert list(seen(read())) == ["L1", "L2", "L3", "DRAM"]
    assert seen(read(streams=4)) == {}
    assert seen(read(cold=1)) == {}
    assert seen(read(), threads=2) == {}


@pytest.mark.parametrize(
    "other",
    [
        replace(READ, name="write.f32.v512", access="write", roles=(), work=Work(bytes_written=640)),
        replace(READ, name="intensity.f32.v512", measures="intensity", roles=(), work=Work(bytes_read=640, flop=1)),
    ],
)
def test_writes_and_arithmetic_tell_no_levels_though_they_have_more_points(other: Sheet) -> None:
    assert seen(read(sizes=SIZES[::2]), read(other))["DRAM"].value == pytest.approx(10e9)
    assert seen(read(other)) == {}


def test_five_points_are_no_sweep() -> None:
    assert seen(read(sizes=SIZES[:5])) == {}
    assert list(seen(read(sizes=SIZES[:6]))) == ["L1"]


def test_sets_of_a_few_levels_are_no_sweep_however_many() -> None:
    few = [size for size in SIZES if not 128 * KIB < size < MIB]
    assert len(few) > 20
    assert seen(read(sizes=few)) == {}


def stream(*steps: tuple[int, float]) -> dict[str, LevelSeen]:
    """Levels of a stream that runs at each rate up to the size beside it."""
    points = [SweepPoint(size_bytes=size, value=next(rate for upto, rate in steps if size <= upto)) for size in SIZES]
    return {level.name: level for level in find_levels(points, fake_device(), "stream")}


@pytest.mark.parametrize("half", [99e9, 88e9, 80e9])
def test_a_level_goes_on_where_its_rate_sinks_a_little(half: float) -> None:
    found = stream((32 * KIB, 300e9), (320 * KIB, 100e9), (MIB, half), (8 * MIB, 25e9), (256 * MIB, 10e9))
    assert 0.7 * MIB < found["L2"].high_bytes <= MIB


@pytest.mark.parametrize(("rate", "named"), [(11.5e9, False), (12.5e9, True)])
def test_a_last_level_is_a_fifth_faster_than_main_memory(rate: float, named: bool) -> None:
    found = stream((32 * KIB, 300e9), (MIB, 100e9), (16 * MIB, rate), (256 * MIB, 10e9))
    assert ("L3" in found) is named
