"""Levels of invented machines are recovered from what a run would measure of them, whatever their caches are like."""

from __future__ import annotations

import math
from typing import Literal

import pytest
from fake_backend import fake_device
from fake_caches import MACHINES, MIB, Machine, measured

from microbench.analysis.level_findings import level_findings
from microbench.analysis.levels import SweepPoint, find_levels
from microbench.measure.working_sets import sweep_sizes
from microbench.records import Device, LevelSeen, MemoryLevel

SeenBy = Literal["stream", "chase"]
SEEDS = range(4)
CAPACITY, HEIGHT = 0.25, 0.03


def device_of(advertised: tuple[int, ...]) -> Device:
    caches = (
        MemoryLevel(name=name, capacity_bytes=size) for name, size in zip(("L1", "L2", "L3"), advertised, strict=False)
    )
    return fake_device(levels=(*caches, MemoryLevel(name="DRAM")))


def curve(machine: Machine, seen_by: SeenBy, seed: int, end: int, per_octave: int) -> list[SweepPoint]:
    sizes = sweep_sizes(end, per_octave)
    times = [1 / machine.rate(size) if seen_by == "stream" else machine.load_s(size) for size in sizes]
    return [
        SweepPoint(size_bytes=size, value=1 / time if seen_by == "stream" else time)
        for size, time in zip(sizes, measured(times, seed), strict=True)
    ]


def memory(machine: Machine, seen_by: SeenBy) -> float:
    return machine.memory_rate if seen_by == "stream" else machine.memory_s


def found(name: str, seen_by: SeenBy, seed: int, per_octave: int, end: int | None = None) -> list[LevelSeen]:
    machine, advertised = MACHINES[name]
    last = max(256 * MIB, 2 * max(advertised, default=0))
    points = curve(machine, seen_by, seed, end or 1 << math.ceil(math.log2(last)), per_octave)
    return find_levels(points, device_of(advertised), seen_by, memory(machine, seen_by))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("seen_by", ["stream", "chase"])
@pytest.mark.parametrize("per_octave", [2, 3])
@pytest.mark.parametrize("name", MACHINES)
def test_every_level_is_recovered_with_its_capacity_and_its_height(
    name: str, per_octave: int, seen_by: SeenBy, seed: int
) -> None:
    machine, _ = MACHINES[name]
    levels = found(name, seen_by, seed, per_octave)
    caches = [level for level in levels if level.name != "DRAM"]
    assert [level.name for level in caches] == ["L1", "L2", "L3"][: len(machine.caches)]
    for level, middle, height in zip(
        caches, machine.middles(rate=seen_by == "stream"), machine.heights(rate=seen_by == "stream"), strict=True
    ):
        assert level.capacity_bytes == pytest.approx(middle, rel=CAPACITY)
        assert level.value == pytest.approx(height, rel=HEIGHT)
    # Twice a cache that drops lines at random still holds a fifth of a walk: no point lies on memory's own plateau.
    assert levels[-1].name == "DRAM" or name == "big shared L3"


@pytest.mark.parametrize("name", MACHINES)
def test_what_a_curve_calls_capacity_is_near_the_size_of_the_cache(name: str) -> None:
    # A cache that drops lines at random answers part of a walk beyond its size; a crowded one drops some before.
    machine, _ = MACHINES[name]
    for rate in (True, False):
        for middle, size in zip(machine.middles(rate=rate), machine.capacities(), strict=True):
            assert 0.65 * size < middle < 1.35 * size


def test_latency_of_main_memory_pays_for_page_walks_where_loads_come_from_everywhere() -> None:
    machine, _ = MACHINES["page walks beyond the last level"]
    *_, last, far = found("page walks beyond the last level", "chase", 1, 2)
    assert last.capacity_bytes == pytest.approx(MIB, rel=CAPACITY)  # and not where the walks begin
    assert far.value == pytest.approx(machine.load_s(128 * MIB), rel=0.05)
    assert far.low_bytes < 16 * MIB


@pytest.mark.parametrize("seen_by", ["stream", "chase"])
def test_a_sweep_that_ends_inside_the_last_cache_sees_no_memory_and_no_end_of_it(seen_by: SeenBy) -> None:
    *_, last = found("big shared L3", seen_by, 2, 2, end=64 * MIB)
    assert (last.name, last.capacity_bytes, last.high_bytes) == ("L3", None, 64 * MIB)
    machine, advertised = MACHINES["big shared L3"]
    alone = find_levels(curve(machine, seen_by, 2, 64 * MIB, 2), device_of(advertised), seen_by)
    assert [level.name for level in alone] == ["L1", "L2", "L3"]  # nor where nobody knows what memory does


@pytest.mark.parametrize("seen_by", ["stream", "chase"])
def test_a_part_of_a_sweep_shows_the_levels_it_passes(seen_by: SeenBy) -> None:
    machine, advertised = MACHINES["neighbours"]
    points = [point for point in curve(machine, seen_by, 1, 64 * MIB, 3) if point.size_bytes >= MIB]
    near, far = find_levels(points, device_of(advertised), seen_by)
    assert (near.name, far.name) == ("L3", "DRAM")
    assert near.capacity_bytes == pytest.approx(machine.middles(rate=seen_by == "stream")[-1], rel=CAPACITY)


@pytest.mark.parametrize("name", MACHINES)
def test_a_cache_is_told_to_be_missing_only_where_it_is(name: str) -> None:
    levels = [level for seen_by in ("stream", "chase") for level in found(name, seen_by, 1, 2)]  # type: ignore[arg-type]
    told = [finding.says for finding in level_findings(levels, (), device_of(MACHINES[name][1]))]
    assert [says.partition(" ")[0] for says in told] == (["L3"] if name == "an L3 that is not there" else [])


@pytest.mark.parametrize("start", range(0, 28, 3))
@pytest.mark.parametrize("seen_by", ["stream", "chase"])
def test_some_slow_points_in_a_row_make_no_level_and_move_none_that_goes_on_behind_them(
    seen_by: SeenBy, start: int
) -> None:
    machine, advertised = MACHINES["three levels, inclusive"]
    points = curve(machine, seen_by, 1, 256 * MIB, 3)
    slow = 2.5 if seen_by == "chase" else 0.4
    for i in range(start, start + 3):
        points[i] = SweepPoint(size_bytes=points[i].size_bytes, value=points[i].value * slow)
    levels = find_levels(points, device_of(advertised), seen_by, memory(machine, seen_by))
    assert [level.name for level in levels] == ["L1", "L2", "L3", "DRAM"]
    for level, size in zip(levels, machine.capacities(), strict=False):
        if not points[start].size_bytes <= size < 1.3 * points[start + 2].size_bytes:
            assert level.capacity_bytes == pytest.approx(size, rel=CAPACITY)
