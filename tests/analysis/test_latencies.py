"""Latency of each level from a chase: with a sweep and without one, with page walks and inside a window of pages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fake_backend import KIB, fake_device

from microbench.analysis.ceilings import Analysis, analyse
from microbench.measure.working_sets import sweep_sizes
from microbench.records import Budget, Case, Device, MemoryLevel, Plan, Samples, Sheet, Work

MIB = 1024 * KIB
LOADS = 32
CHASE = Sheet(name="chase", measures="latency", backend="native", device_kind="cpu", says="", loads=LOADS)
READ = replace(CHASE, name="read.f32.v256", measures="memory", access="read", roles=(), work=Work(bytes_read=1024))
WINDOW = 128 * KIB
Rows = list[tuple[Sheet, dict[str, Any], float]]


def latency(size: int) -> float:
    return 1e-9 if size <= 32 * KIB else 4e-9 if size <= MIB else 15e-9 if size <= 8 * MIB else 120e-9


def sweep(first: int = 0, last: int = 256 * MIB) -> Rows:
    sizes = [size for size in sweep_sizes(256 * MIB, 2) if first < size <= last]
    return [(CHASE, {"working_set": size, "pages": "huge"}, latency(size)) for size in sizes]


def cold(seconds: float, **params: int) -> Rows:
    return [(CHASE, {"working_set": 64 * MIB, "pages": "huge", "cold": 1, **params}, seconds)]


def analysed(rows: Rows, device: Device | None = None) -> Analysis:
    cases = [(sheet, Case(kernel=sheet.name, params=params), seconds) for sheet, params, seconds in rows]
    samples = [
        Samples(
            case=case.key, round=each, started_s=0.0, iterations=10**4, ns=(round(seconds * LOADS * 1e13),), count=1
        )
        for _, case, seconds in cases
        for each in range(3)
    ]
    sheets = {sheet.name: sheet for sheet, _, _ in rows}
    plan = Plan(cases=tuple(case for _, case, _ in cases), budget=Budget())
    return analyse(samples, plan, sheets, device or fake_device())


def costs(rows: Rows) -> dict[str, float]:
    return {cost.name: cost.seconds.value for cost in analysed(rows).costs}


def test_main_memory_has_a_latency_with_page_walks_and_one_without() -> None:
    found = analysed([*sweep(), *cold(80e-9, window=WINDOW)])
    seconds = {cost.name: (cost.level, cost.seconds.value) for cost in found.costs}
    assert seconds["load_to_use.DRAM"] == ("DRAM", pytest.approx(120e-9))
    assert seconds["load_to_use.DRAM.local"] == ("DRAM", pytest.approx(80e-9))
    local = next(cost for cost in found.costs if cost.name.endswith(".local"))
    assert local.case == f"chase[cold=1;pages=huge;window={WINDOW};working_set={64 * MIB}]@1"


def test_a_chase_inside_a_window_moves_no_level() -> None:
    alone, beside = analysed(sweep()), analysed([*sweep(), *cold(80e-9, window=WINDOW)])
    assert beside.levels == alone.levels


def test_where_lines_were_evicted_first_main_memory_answered_whatever_a_sweep_still_found_in_caches() -> None:
    assert costs([*sweep(last=16 * MIB), *cold(150e-9)])["load_to_use.DRAM"] == pytest.approx(150e-9)


def test_the_latency_of_a_level_is_of_the_middle_of_its_plateau() -> None:
    rows = [
        (sheet, params, seconds * (1 + 0.1 * (MIB < int(params["working_set"]) <= 4 * MIB)))
        for sheet, params, seconds in sweep()
    ]
    assert costs(rows)["load_to_use.L3"] == pytest.approx(16.5e-9, rel=0.11)
    assert costs(sweep())["load_to_use.L3"] == pytest.approx(15e-9)


@pytest.mark.parametrize(("level", "first", "last"), [("L1", 0, 31 * KIB), ("DRAM", 64 * MIB - 1, 256 * MIB)])
def test_a_few_sets_of_one_level_give_its_latency_without_a_sweep(level: str, first: int, last: int) -> None:
    rows = sweep(first, last)
    assert 0 < len(rows) < 6
    assert costs(rows) == {f"load_to_use.{level}": pytest.approx(latency(last))}
    assert analysed(rows).levels == ()


def chased(*sets: tuple[int, float]) -> Rows:
    return [(CHASE, {"working_set": size, "pages": "huge"}, seconds) for size, seconds in sets]


def test_without_a_sweep_a_cache_is_as_fast_as_its_fastest_set_and_none_where_memory_takes_no_longer() -> None:
    few = chased((16 * KIB, 1e-9), (3 * MIB, 16e-9), (6 * MIB, 60e-9), (24 * MIB, 110e-9))
    local = cold(80e-9, window=WINDOW)
    assert costs([*few, *local])["load_to_use.L3"] == pytest.approx(16e-9)
    taken = costs([*few[:1], *few[3:], *local])
    assert set(taken) == {"load_to_use.L1", "load_to_use.DRAM.local"}


def read(*sizes: int) -> Rows:
    return [(READ, {"working_set": size, "pages": "huge", "streams": 1}, 1e-9) for size in sizes]


def test_rates_without_a_sweep_are_of_the_level_that_was_asked_for_and_that_is_told() -> None:
    found = analysed(read(2 * MIB, 3 * MIB, 6 * MIB))
    assert [ceiling.name for ceiling in found.ceilings] == ["read.f32.v256.L3"]
    (told,) = (finding for finding in found.findings if finding.code == "levels-as-advertised")
    assert told.says.startswith("rates of L3 are of sets that the system's sizes put there")


def test_three_working_sets_of_each_level_invent_no_level() -> None:
    sets = read(16 * KIB, 24 * KIB, 96 * KIB, 192 * KIB, 384 * KIB, 2 * MIB, 3 * MIB, 6 * MIB)
    levels = {ceiling.level for ceiling in analysed(sets).ceilings}
    assert levels == {"L1", "L2", "L3"}


def test_a_whole_sweep_is_no_reason_to_tell_that_none_was_made() -> None:
    rows = [
        (READ, {"working_set": size, "pages": "huge", "streams": 1}, latency(size))
        for size in sweep_sizes(256 * MIB, 2)
    ]
    assert "levels-as-advertised" not in {finding.code for finding in analysed(rows).findings}


def untold() -> Device:
    return fake_device(levels=(MemoryLevel(name="DRAM"),))


def codes(found: Analysis) -> set[str]:
    return {finding.code for finding in found.findings}


def test_rates_of_levels_that_only_the_sweep_shows_say_so() -> None:
    rows: Rows = [
        (READ, {"working_set": size, "pages": "huge", "streams": 1}, latency(size))
        for size in sweep_sizes(256 * MIB, 2)
    ]
    write = replace(READ, name="write.f32.v256", access="write", work=Work(bytes_written=1024))
    rows += [(write, {"working_set": size, "pages": "huge"}, latency(size)) for size in (16 * KIB, 128 * KIB, 4 * MIB)]
    found = analysed(rows, untold())
    assert {ceiling.level for ceiling in found.ceilings if ceiling.access == "write"} == {"L1", "L2", "L3"}
    (told,) = (finding for finding in found.findings if finding.code == "levels-untold")
    assert told.says.startswith("the system does not tell the size of L1, L2, L3: ")
    assert "levels-untold" not in codes(analysed(rows))


def test_sets_in_caches_that_nobody_tells_and_no_sweep_shows_belong_to_no_level_and_a_finding_says_so() -> None:
    found = analysed([*read(16 * KIB, 2 * MIB), *chased((16 * KIB, 1e-9), (6 * MIB, 60e-9))], untold())
    assert (found.ceilings, found.costs) == ((), ())
    (told,) = (finding for finding in found.findings if finding.code == "levels-unknown")
    assert told.says.startswith("2 cases of memory belong to no level")
    assert "read.*" in (told.remedy or "")
    assert codes(analysed(read(16 * KIB))) == {"levels-as-advertised"}


def test_streams_of_one_rate_in_all_sets_say_that_no_rate_belongs_to_a_cache() -> None:
    flat: Rows = [
        (READ, {"working_set": size, "pages": "huge", "streams": 1}, 1e-9) for size in sweep_sizes(256 * MIB, 2)
    ]
    for rows, shown in ((flat, "none either"), ([*flat, *sweep()], "L1, L2, L3")):
        found = analysed(rows, untold())
        assert {level.name for level in found.levels if level.seen_by == "stream"} == {"DRAM"}
        (told,) = (finding for finding in found.findings if finding.code.startswith("levels-"))
        assert told.code == "levels-flat"
        assert told.says.endswith(f"a chase shows {shown}")
    assert "levels-flat" not in codes(analysed(flat))


def test_where_a_chase_alone_shows_caches_that_nobody_tells_rates_belong_to_them() -> None:
    sets = read(8 * KIB, 16 * KIB, 128 * KIB, 256 * KIB, 4 * MIB, 8 * MIB)
    found = analysed([*sets, *sweep()], untold())
    assert {level.seen_by for level in found.levels} == {"chase"}
    assert {ceiling.level for ceiling in found.ceilings} == {"L1", "L2", "L3"}
    (told,) = (finding for finding in found.findings if finding.code == "levels-untold")
    assert "a chase over working sets says" in told.says
    assert "levels-unknown" not in codes(found)
