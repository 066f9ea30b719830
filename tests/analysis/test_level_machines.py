"""Curves that were measured on machines: what their levels are, in quiet moments and in loaded ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from fake_backend import KIB, fake_device

from microbench.analysis.levels import SweepPoint, find_levels
from microbench.records import LevelSeen, MemoryLevel

MIB = 1024 * KIB
CURVES = json.loads((Path(__file__).parents[1] / "data" / "levels" / "curves.json").read_text(encoding="utf-8"))
ZEN3 = [name for name in CURVES if name.startswith("Zen 3")]


def found(name: str, seen_by: Literal["stream", "chase"]) -> dict[str, LevelSeen]:
    row = CURVES[name]
    caches = (MemoryLevel(name=level, capacity_bytes=size) for level, size in row["advertised"].items())
    points = [SweepPoint(size_bytes=size, value=value) for size, value in row[seen_by]]
    levels = find_levels(points, fake_device(levels=(*caches, MemoryLevel(name="DRAM"))), seen_by)
    return {level.name: level for level in levels}


@pytest.mark.parametrize(("name", "least"), [("Zen 3 guest, idle", 8 * MIB), ("Zen 3 guest, busy host", 5.5 * MIB)])
def test_the_last_level_goes_as_far_as_its_latency_does(name: str, least: float) -> None:
    level = found(name, "chase")["L3"]
    assert least < level.seen_to_bytes < 12 * MIB  # where 12 MiB took 100 ns; 1 MiB and 1.41 MiB were printed
    assert 14e-9 < level.value < 18e-9


@pytest.mark.parametrize("name", ZEN3)
def test_each_level_has_its_name_in_loaded_moments_too(name: str) -> None:
    levels = found(name, "chase")
    assert list(levels) == ["L1", "L2", "L3", "DRAM"]
    assert levels["L1"].seen_to_bytes == pytest.approx(32 * KIB, rel=0.25)
    assert levels["L1"].value == pytest.approx(1.23e-9, rel=0.06)
    assert levels["L2"].seen_to_bytes == pytest.approx(512 * KIB, rel=0.45)  # the host's pages crowd some of its sets
    assert 100e-9 < levels["DRAM"].value < 140e-9


@pytest.mark.parametrize("name", [name for name in ZEN3 if "swept" in name])
def test_a_stream_tells_a_second_level_that_is_a_third_faster_than_the_last(name: str) -> None:
    levels = found(name, "stream")
    assert list(levels) == ["L1", "L2", "L3", "DRAM"]
    assert levels["L2"].value == pytest.approx(103.8e9, rel=0.01)
    assert levels["L3"].value == pytest.approx(80e9, rel=0.12)
    assert 12 * MIB < levels["L3"].seen_to_bytes < 20 * MIB


def test_a_stream_sees_a_shared_cache_farther_than_a_chase_that_is_slower_than_its_neighbours() -> None:
    stream, chase = found("Intel guest, 480 MiB shared L3", "stream"), found("Intel guest, 480 MiB shared L3", "chase")
    assert list(stream) == list(chase) == ["L1", "L2", "L3", "DRAM"]
    assert stream["L3"].seen_to_bytes == pytest.approx(70 * MIB, rel=0.1)
    assert chase["L3"].seen_to_bytes == pytest.approx(10.7 * MIB, rel=0.1)
    for levels in (stream, chase):
        assert levels["L1"].seen_to_bytes == pytest.approx(48 * KIB, rel=0.25)
        assert levels["L2"].seen_to_bytes == pytest.approx(2 * MIB, rel=0.1)
    assert stream["L3"].value == pytest.approx(31e9, rel=0.03)
    assert chase["L2"].value == pytest.approx(4.45e-9, rel=0.03)


def test_page_walks_of_the_largest_sets_are_main_memory_and_no_level() -> None:
    far = found("Intel guest, 480 MiB shared L3", "chase")["DRAM"]
    assert far.low_bytes < 32 * MIB
    assert far.high_bytes > 128 * MIB
