from __future__ import annotations

import random

import pytest
from fake_backend import KIB, fake_device
from hypothesis import given
from hypothesis import strategies as st

from microbench.analysis.levels import SweepPoint, find_levels, level_of, sweep
from microbench.measure.working_sets import sweep_sizes
from microbench.records import Case, Samples, Sheet, Work

MIB = 1024 * KIB


def stream(
    l1: float, l2: float, l3: float, dram: float, l3_end: int, noise: float = 0.0, seed: int = 0
) -> list[SweepPoint]:
    """A made-up stream curve with hard edges at the fake device's L1 and L2, and at ``l3_end``."""
    shaken = random.Random(seed)
    points = []
    for size in sweep_sizes(256 * MIB, 3):
        rate = l1 if size <= 32 * KIB else l2 if size <= MIB else l3 if size <= l3_end else dram
        points.append(SweepPoint(size_bytes=size, value=rate * (1 - noise * shaken.random())))
    return points


def test_four_plateaus_get_four_names() -> None:
    found = {
        level.name: level for level in find_levels(stream(300e9, 100e9, 25e9, 10e9, 32 * MIB), fake_device(), "stream")
    }
    assert list(found) == ["L1", "L2", "L3", "DRAM"]
    assert found["L1"].high_bytes <= 32 * KIB < found["L2"].low_bytes
    assert found["L2"].high_bytes <= MIB < found["L3"].low_bytes
    assert found["L3"].value == 25e9
    assert found["DRAM"].value == 10e9


def test_a_last_level_that_neighbours_empty_is_reported_at_the_size_seen() -> None:
    found = {
        level.name: level for level in find_levels(stream(300e9, 100e9, 25e9, 10e9, 8 * MIB), fake_device(), "stream")
    }
    assert found["L3"].advertised_bytes == 32 * MIB
    assert 5 * MIB <= found["L3"].high_bytes <= 8 * MIB
    assert found["L3"].reuse_s == pytest.approx(found["L3"].high_bytes / 25e9)


def test_the_slope_behind_a_level_is_not_the_next_one() -> None:
    # Just past 1 MiB a part of each pass still comes from the second level: faster than the plateau behind, and no
    # plateau.
    tail = {1: 45e9, 2: 34e9}
    points = stream(300e9, 100e9, 25e9, 10e9, 16 * MIB)
    first = next(i for i, point in enumerate(points) if point.size_bytes > MIB)
    points[first : first + 2] = [SweepPoint(size_bytes=points[first + i - 1].size_bytes, value=tail[i]) for i in (1, 2)]
    found = {level.name: level for level in find_levels(points, fake_device(), "stream")}
    assert found["L3"].value == 25e9
    assert found["L3"].high_bytes >= 10 * MIB


def test_a_last_level_as_slow_as_memory_is_not_called_one() -> None:
    found = [level.name for level in find_levels(stream(300e9, 100e9, 10.5e9, 10e9, 32 * MIB), fake_device(), "stream")]
    assert found == ["L1", "L2", "DRAM"]


@given(st.integers(0, 10_000))
def test_ten_per_cent_of_noise_moves_no_level(seed: int) -> None:
    found = find_levels(stream(300e9, 100e9, 25e9, 10e9, 16 * MIB, noise=0.1, seed=seed), fake_device(), "stream")
    assert [level.name for level in found] == ["L1", "L2", "L3", "DRAM"]


def test_a_chase_finds_the_same_levels_from_latencies() -> None:
    points = [
        SweepPoint(
            size_bytes=s, value=1.3e-9 if s <= 32 * KIB else 4.5e-9 if s <= MIB else 25e-9 if s <= 4 * MIB else 105e-9
        )
        for s in sweep_sizes(256 * MIB, 3)
    ]
    found = {level.name: level for level in find_levels(points, fake_device(), "chase")}
    assert list(found) == ["L1", "L2", "L3", "DRAM"]
    assert found["L3"].high_bytes <= 4 * MIB
    assert found["DRAM"].value == 105e-9


def test_cases_belong_to_the_plateau_they_lie_on_and_to_none_between() -> None:
    levels = find_levels(stream(300e9, 100e9, 25e9, 10e9, 8 * MIB), fake_device(), "stream")
    assert level_of(24 * KIB, 1, levels, fake_device()) == "L1"
    assert level_of(512 * KIB, 2, levels, fake_device()) == "L2"
    assert level_of(4 * MIB, 1, levels, fake_device()) == "L3"
    assert level_of(128 * MIB, 2, levels, fake_device()) == "DRAM"


def test_threads_add_up_in_the_shared_level() -> None:
    levels = find_levels(stream(300e9, 100e9, 25e9, 10e9, 8 * MIB), fake_device(), "stream")
    assert level_of(6 * MIB, 1, levels, fake_device()) == "L3"
    assert level_of(6 * MIB, 2, levels, fake_device()) != "L3"


def test_two_sets_that_each_fit_the_second_level_are_not_the_third() -> None:
    levels = find_levels(stream(300e9, 100e9, 25e9, 10e9, 8 * MIB), fake_device(), "stream")
    assert level_of(900 * KIB, 2, levels, fake_device()) == "L2"


def test_a_set_of_less_than_two_first_levels_is_no_view_of_the_second() -> None:
    # No cache replaces strictly the oldest line, so part of such a walk is answered before it reaches the second level.
    first = fake_device().level("L1")
    assert first is not None
    assert first.capacity_bytes is not None
    for levels in (find_levels(stream(300e9, 100e9, 25e9, 10e9, 8 * MIB), fake_device(), "stream"), []):
        assert level_of(first.capacity_bytes * 3 // 2, 1, levels, fake_device()) is None
        assert level_of(first.capacity_bytes * 2, 1, levels, fake_device()) == "L2"


def test_page_walks_beyond_the_last_level_are_not_the_last_level() -> None:
    def latency(size: int) -> float:
        return (
            1.4e-9
            if size <= 32 * KIB
            else 4.5e-9
            if size <= MIB
            else 40e-9
            if size <= 6 * MIB
            else 160e-9
            if size <= 30 * MIB
            else 250e-9
        )

    points = [SweepPoint(size_bytes=s, value=latency(s)) for s in sweep_sizes(256 * MIB, 2)]
    found = {level.name: level for level in find_levels(points, fake_device(), "chase")}
    assert found["L3"].value == 40e-9


def test_a_level_whose_rate_sinks_a_little_is_one_level() -> None:
    points = [
        SweepPoint(
            size_bytes=s, value=300e9 if s <= 32 * KIB else 100e9 if s <= 256 * KIB else 88e9 if s <= MIB else 10e9
        )
        for s in sweep_sizes(256 * MIB, 3)
    ]
    found = {level.name: level for level in find_levels(points, fake_device(), "stream")}
    assert found["L2"].high_bytes > 700 * KIB


def test_without_a_sweep_the_advertised_sizes_decide() -> None:
    assert level_of(24 * KIB, 1, [], fake_device()) == "L1"
    assert level_of(20 * MIB, 2, [], fake_device()) is None
    assert level_of(256 * MIB, 1, [], fake_device()) == "DRAM"


def swept(kernel: str, roles: tuple[str, ...], rate: float, count: int) -> tuple[Sheet, list[Case], list[Samples]]:
    """A made-up read kernel over so many working sets."""
    sheet = Sheet(
        name=kernel,
        measures="memory",
        backend="native",
        device_kind="cpu",
        says="",
        access="read",
        work=Work(bytes_read=1024),
        roles=roles,  # type: ignore[arg-type]
    )
    cases = [Case(kernel=kernel, params={"working_set": 8 * KIB * (i + 1), "pages": "huge"}) for i in range(count)]
    ns = (round(1024 * 1000 / rate * 1e9),)
    return sheet, cases, [Samples(case=c.key, round=0, started_s=0.0, iterations=1000, ns=ns, count=1) for c in cases]


def test_a_read_kernel_that_does_not_sweep_stays_out_of_the_sweep_however_many_sets_it_has() -> None:
    sheet, cases, samples = swept("read.f32.v256", ("ceiling", "sweep"), 1e11, 10)
    other, more, taken = swept("ddot.f64.v256", ("ceiling",), 5e10, 20)
    by_name, by_key = {each.name: each for each in (sheet, other)}, {case.key: case for case in (*cases, *more)}
    points = sweep([*taken, *samples], by_key, by_name, "stream")
    assert points == sweep(samples, by_key, by_name, "stream")
    assert [point.size_bytes for point in points] == [case.params["working_set"] for case in cases]
    assert sweep(taken, by_key, by_name, "stream") == []
