from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from microbench.analysis.disturbed import disturbed
from microbench.records import Finding, Samples

MS = 1_000_000


def burst(case: str = "fma.f32.v256[]@2", ns: int = MS, **facts: Any) -> Samples:
    return Samples(case=case, round=0, started_s=0.0, iterations=1000, ns=(ns,) * 10, count=10, **facts)


def only(samples: list[Samples], **facts: Any) -> Finding:
    (finding,) = disturbed(samples, facts)
    # Two lines of 120 columns.
    assert len(finding.says) <= 240
    return finding


QUIET = [burst(), burst("read.f32.v256[]@2")]


def test_quiet_bursts_are_no_finding() -> None:
    assert disturbed(QUIET) == []
    assert disturbed(QUIET, {"suspended_s": 0.0, "quota_stops": 0, "quota_s": 0.0}) == []


@pytest.mark.parametrize(
    ("code", "facts"),
    [
        ("affinity-changed", {"moved": 1}),
        ("suspended", {"away_s": 5.0}),
        ("quota-reached", {"away_s": 0.08, "quota_s": 0.08}),
        ("sibling-busy", {"sibling_s": 0.05}),
    ],
)
def test_each_disturbance_is_named_with_what_it_did_to_which_cases(code: str, facts: dict[str, Any]) -> None:
    spared = [*QUIET, burst(ns=2 * MS, **facts), *([burst(ns=2 * MS, **facts)] * 4)]
    finding = only(spared)
    assert (finding.code, finding.severity) == (code, "warning")
    assert "5 of 7 bursts, of 1 case, first fma.f32.v256[]@2, at 50 % of the rate elsewhere" in finding.says
    assert finding.remedy

    lost = [*QUIET, *([burst("chase.b64[]@1", **facts)] * 5)]
    finding = only(lost)
    assert (finding.code, finding.severity) == (code, "warning")
    assert "5 of 7 bursts, of 1 case, 1 has no other, so wrong figures: chase.b64[]@1" in finding.says


def test_what_shows_in_no_best_rate_is_only_told() -> None:
    finding = only([*QUIET, burst(moved=1)])
    assert finding.severity == "info"
    assert "as fast as elsewhere" in finding.says


def test_the_conditions_of_the_run_are_in_the_sentence() -> None:
    assert "(0-1 -> 0)" in only([burst(), burst(moved=1)], cpus_changed="0-1 -> 0").says
    assert "85 times, 4.1 s in all" in only([burst(), burst(quota_s=0.1)], quota_stops=85, quota_s=4.1).says
    assert "for 5.0 s" in only([burst(), burst(away_s=5.0)], suspended_s=5.0).says


def test_a_stop_between_bursts_costs_no_figure_and_is_told() -> None:
    finding = only(QUIET, suspended_s=3.0)
    assert (finding.code, finding.severity) == ("suspended", "info")
    assert "3.0 s, between bursts" in finding.says


@pytest.mark.parametrize(
    "preempted",
    [
        {"away_s": 0.4, "switches": 8},  # others had turns
        {"away_s": 5.0, "switches": 60},
        {"away_s": 0.6, "steal_s": 0.5},  # the host ran others
        {"away_s": 0.01},
        {"sibling_s": 0.01},  # housekeeping
    ],
)
def test_other_processes_the_host_and_housekeeping_are_not_taken_for_it(preempted: dict[str, Any]) -> None:
    assert disturbed([*QUIET, burst(**preempted)]) == []


def test_a_stop_that_is_known_is_found_among_other_programs_too() -> None:
    preempted_and_stopped = burst(away_s=1.2, switches=17)
    assert disturbed([*QUIET, preempted_and_stopped]) == []
    assert "1 of 3 bursts" in only([*QUIET, preempted_and_stopped], suspended_s=1.2).says


def test_a_sibling_that_works_now_and_then_is_not_busy() -> None:
    some = [burst(sibling_s=0.01 if number % 10 == 0 else 0.0) for number in range(100)]
    assert disturbed(some) == []


def test_several_disturbances_are_several_findings() -> None:
    samples = [burst(), burst(moved=1), replace(burst(), quota_s=0.1), burst(away_s=5.0)]
    assert [each.code for each in disturbed(samples)] == ["affinity-changed", "suspended", "quota-reached"]


def test_the_longest_sentences_have_two_lines() -> None:
    long = "triad.f32.v256.streams[pages=huge;prefetch=1024;streams=16;working_set=1073741824]@128/performance_cores"
    samples = [burst(f"{long}{number}", away_s=500.0, moved=3, sibling_s=9.0) for number in range(999)]
    quota = [burst(f"{long}{number}", quota_s=9.0) for number in range(999)]
    facts = {"suspended_s": 12345.6, "quota_stops": 123456, "quota_s": 12345.6, "cpus_changed": "0-255 -> 0-3,8"}
    for finding in (*disturbed([*samples, burst(long)], facts), *disturbed([*quota, burst(long)], facts)):
        assert len(finding.says) <= 240, finding
