"""After which level a plateau is named, and to which level a working set belongs."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
from fake_backend import KIB, fake_device

from microbench.analysis.levels import SweepPoint, find_levels, level_of, level_of_case
from microbench.measure.working_sets import sweep_sizes
from microbench.records import Case, LevelSeen, MemoryLevel

MIB = 1024 * KIB
DEVICE = fake_device()  # 32 KiB, 1 MiB, 32 MiB


def found(
    *steps: tuple[int, float], seen_by: Literal["stream", "chase"] = "stream", per_octave: int = 3
) -> dict[str, LevelSeen]:
    """Levels of a curve that has each value up to the size beside it."""
    points = [
        SweepPoint(size_bytes=size, value=next(value for upto, value in steps if size <= upto))
        for size in sweep_sizes(256 * MIB, per_octave)
    ]
    return {level.name: level for level in find_levels(points, DEVICE, seen_by)}


def test_a_plateau_is_named_after_the_level_whose_size_is_nearest_to_its_capacity() -> None:
    wide = found((32 * KIB, 300e9), (2 * MIB, 100e9), (8 * MIB, 25e9), (256 * MIB, 10e9))
    assert wide["L2"].capacity_bytes == pytest.approx(2 * MIB, rel=0.25)
    late = found((32 * KIB, 300e9), (512 * KIB, 100e9), (8 * MIB, 50e9), (256 * MIB, 10e9))
    assert late["L2"].capacity_bytes == pytest.approx(512 * KIB, rel=0.25)
    assert late["L3"].capacity_bytes == pytest.approx(8 * MIB, rel=0.25)
    shared = found((32 * KIB, 300e9), (20 * MIB, 40e9), (256 * MIB, 10e9))
    assert list(shared) == ["L1", "L3", "DRAM"]


def test_levels_that_are_equally_fast_have_the_name_of_the_last() -> None:
    assert list(found((MIB, 50e9), (256 * MIB, 10e9))) == ["L2", "DRAM"]
    assert list(found((MIB, 50e9), (20 * MIB, 25e9), (256 * MIB, 10e9))) == ["L2", "L3", "DRAM"]


def test_of_more_plateaus_than_caches_the_two_that_differ_least_are_one_level() -> None:
    steps = ((32 * KIB, 300e9), (200 * KIB, 130e9), (MIB, 100e9), (8 * MIB, 25e9), (256 * MIB, 10e9))
    assert found(*steps)["L2"].capacity_bytes == pytest.approx(MIB, rel=0.25)


def test_a_run_of_points_that_something_slowed_cuts_no_plateau() -> None:
    steps = ((32 * KIB, 300e9), (300 * KIB, 100e9), (520 * KIB, 40e9), (MIB, 100e9), (8 * MIB, 25e9), (256 * MIB, 10e9))
    level = found(*steps, per_octave=4)["L2"]
    assert (level.value, level.capacity_bytes) == (100e9, pytest.approx(MIB, rel=0.25))


def test_a_slope_is_the_last_level_where_there_is_nothing_flatter() -> None:
    slope = [(int(MIB * 2 ** (i / 3)), 60e9 / 1.12**i) for i in range(1, 10)]
    assert "L3" in found((32 * KIB, 300e9), (MIB, 100e9), *slope, (256 * MIB, 10e9))


def test_the_height_of_a_level_is_the_middle_of_its_points() -> None:
    assert found((16 * KIB, 310e9), (32 * KIB, 300e9), (256 * MIB, 10e9))["L1"].value in (300e9, 310e9)
    level = found((32 * KIB, 300e9), (MIB, 100e9), (8 * MIB, 25e9), (256 * MIB, 10e9))["L2"]
    assert 32 * KIB < level.low_bytes <= 48 * KIB
    assert (level.advertised_bytes, level.reuse_s) == (MIB, level.high_bytes / 100e9)


def test_of_points_that_differ_the_middle_one_is_the_height_of_a_level() -> None:
    steps = [(size * KIB, 300e9 + 1e9 * size) for size in (8, 10, 12, 14, 16, 20, 24, 28, 32)]
    near = [SweepPoint(size_bytes=size, value=value) for size, value in steps]
    far = [SweepPoint(size_bytes=size * KIB, value=10e9) for size in (48, 64, 96, 128, 256, 512, 1024, 2048)]
    first = find_levels([*near, *far], DEVICE, "stream")[0]
    assert (first.name, first.value) == ("L1", 312e9)  # of 8 to 18 KiB, which lie well inside


def seen(name: str, low: int, high: int, seen_by: Literal["stream", "chase"] = "stream") -> LevelSeen:
    return LevelSeen(name=name, seen_by=seen_by, low_bytes=low, high_bytes=high, value=1.0)


SEEN = [
    seen("L1", 8 * KIB, 32 * KIB),
    seen("L2", 100 * KIB, 800 * KIB),
    seen("L3", 4 * MIB, 10 * MIB),
    seen("DRAM", 40 * MIB, 256 * MIB),
]


@pytest.mark.parametrize(
    ("size", "level"),
    [
        (38 * KIB, "L1"),
        (39 * KIB, None),
        (83 * KIB, None),
        (85 * KIB, "L2"),
        (950 * KIB, "L2"),
        (960 * KIB, None),
        (3 * MIB, None),
        (35 * MIB, "DRAM"),
        (33 * MIB, None),
        (1024 * MIB, "DRAM"),
    ],
)
def test_a_set_up_to_a_fifth_beyond_the_points_of_a_plateau_lies_on_it(size: int, level: str | None) -> None:
    assert level_of(size, 1, SEEN, DEVICE) == level


def test_where_a_set_belongs_is_told_by_the_stream_and_not_by_the_chase() -> None:
    chase = [seen("L1", 8 * KIB, MIB, "chase"), seen("DRAM", 2 * MIB, 256 * MIB, "chase")]
    assert level_of(500 * KIB, 1, [*chase, *SEEN], DEVICE) == "L2"
    assert level_of(500 * KIB, 1, chase, DEVICE) == "L2"  # advertised
    assert level_of(12 * MIB, 1, chase, DEVICE) == "L3"


@pytest.mark.parametrize(
    ("size", "threads", "level"),
    [
        (32 * KIB, 1, "L1"),
        (32 * KIB, 4, "L1"),
        (33 * KIB, 1, None),
        (64 * KIB, 1, "L2"),
        (MIB, 4, "L2"),
        (2 * MIB - 1, 1, None),
        (16 * MIB, 2, "L3"),
        (17 * MIB, 2, None),
        (64 * MIB - 1, 1, None),
        (64 * MIB, 1, "DRAM"),
    ],
)
def test_without_a_sweep_a_set_belongs_to_the_level_that_advertises_to_hold_it(
    size: int, threads: int, level: str | None
) -> None:
    assert level_of(size, threads, [], DEVICE) == level


def test_on_a_gpu_no_cache_before_a_level_helps() -> None:
    gpu = replace(DEVICE, kind="cuda")
    assert (level_of(33 * KIB, 1, [], gpu), level_of(33 * KIB, 1, [], DEVICE)) == ("L2", None)


def test_only_caches_lend_their_names() -> None:
    levels = (*DEVICE.levels[:2], MemoryLevel(name="L3"), MemoryLevel(name="DRAM", capacity_bytes=128 * MIB))
    device = replace(DEVICE, levels=levels)
    assert level_of(100 * MIB, 1, [], device) == "DRAM"
    assert level_of(MIB + 1, 1, [], device) is None
    assert level_of(1, 1, [], replace(DEVICE, levels=())) is None  # a cache that nobody tells of


def test_a_case_belongs_to_main_memory_where_its_lines_are_evicted_first() -> None:
    def level(**params: int) -> str | None:
        return level_of_case(Case(kernel="read.f32", params=dict(params)), SEEN, DEVICE)

    assert level(working_set=16 * KIB) == "L1"
    assert level(working_set=16 * KIB, cold=1) == "DRAM"
    assert level(cold=1) == "DRAM"
    assert level(streams=1) is None


def test_levels_that_a_stream_cannot_tell_apart_are_told_by_a_chase_or_by_their_sizes() -> None:
    stream = [seen("L2", 8 * KIB, 800 * KIB), seen("DRAM", 40 * MIB, 256 * MIB)]
    chase = [seen("L1", 8 * KIB, 24 * KIB, "chase"), seen("L2", 64 * KIB, MIB, "chase")]
    assert (level_of(24 * KIB, 2, stream, DEVICE), level_of(512 * KIB, 2, stream, DEVICE)) == ("L1", "L2")
    assert level_of(24 * KIB, 1, [*stream, *chase], DEVICE) == "L1"
    assert (
        level_of(28 * KIB, 1, [*stream, *chase], DEVICE) is None
    )  # beyond the first level, which still answers a part
    assert level_of(128 * MIB, 1, stream, DEVICE) == "DRAM"


def test_a_sweep_that_climbs_on_without_another_plateau_names_its_last_one_by_where_it_left_it() -> None:
    # A quick run beside six other processes: beyond 184 KiB each point is of another moment.
    told = {8192: 1.23, 11264: 1.34, 16384: 1.23, 23552: 1.23, 32768: 1.24, 46080: 3.71, 65536: 3.71, 94208: 3.71}
    told |= {131072: 3.72, 184320: 3.72, 372736: 5.2, 524288: 13.7, 741376: 11.69, 1048576: 18.57, 1482752: 50.61}
    told |= {2097152: 43.53, 2965504: 96.72, 4194304: 35.4, 5931008: 28.53, 8388608: 111.56, 11862016: 117.35}
    points = [SweepPoint(size_bytes=size, value=ns * 1e-9) for size, ns in told.items()]
    levels = tuple(MemoryLevel(name=name, capacity_bytes=size) for name, size in (("L1", 32 * KIB), ("L2", 512 * KIB)))
    device = fake_device(levels=(*levels, MemoryLevel(name="L3", capacity_bytes=32 * 1024 * KIB)))
    assert [level.name for level in find_levels(points, device, "chase")] == ["L1", "L2"]
