from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from microbench.records import Characterisation, Cost, Estimate
from microbench.report import page, roofplot, summary, view


def test_titles_are_unique_within_a_group(fake_cpu: Characterisation, fake_cuda: Characterisation) -> None:
    for characterisation in (fake_cpu, fake_cuda):
        for group in view.groups(characterisation):
            assert max(Counter(row.title for row in group.rows).values()) == 1, group.title


def test_sweep_points_are_in_no_table(fake_cpu: Characterisation) -> None:
    rows = [row for group in view.groups(fake_cpu) for row in group.rows]
    assert len(rows) == 16 + 38
    assert all(row.ceiling.level for row in rows if row.ceiling.measures == "memory")


def test_every_flag_shown_is_in_the_legend(fake_cpu: Characterisation) -> None:
    rows = [row for group in view.groups(fake_cpu) for row in group.rows]
    assert {flag for row in rows for flag in row.flags} == {flag for flag, _ in view.legend(rows)} == set("CPV!")


def test_the_best_variant_is_the_fastest_that_converged(fake_cpu: Characterisation) -> None:
    memory = next(group for group in view.groups(fake_cpu) if group.title == "Memory, 2 threads")
    best = {(row.ceiling.level, row.ceiling.access): row.title for row in view.best_variants(memory).rows}
    assert best["DRAM", "triad"] == "DRAM triad avx512.nt"
    assert len(best) == 16


def test_the_summary_has_five_lines_whatever_is_missing(
    fake_cpu: Characterisation, fake_cuda: Characterisation, bare: Characterisation
) -> None:
    for characterisation in (fake_cpu, fake_cuda, bare):
        assert [line.about for line in summary.lines(characterisation)] == ["Device", "Compute", "Bandwidth", "Latency", "Trust"]


def test_the_summary_says_that_a_cache_is_smaller_than_advertised(fake_cpu: Characterisation) -> None:
    assert "of 35.75 MiB L3 advertised, a chase sees 3 MiB" in summary.lines(fake_cpu)[3].says


def test_ridge_points_are_peak_over_bandwidth(fake_cpu: Characterisation) -> None:
    heading, *rows = roofplot.ridge_rows(fake_cpu)
    table = {row[0]: dict(zip(heading[1:], row[1:], strict=True)) for row in rows}
    # f32 0.985 x 307.2 GFLOP/s over DRAM 2 x 12.4 x 0.94 GB/s
    assert table["f32"]["DRAM"] == "13.0"


def test_unknown_facts_are_dashes(fake_cpu: Characterisation) -> None:
    assert ("governor", "–") in page.environment_facts(fake_cpu)


def test_facts_carry_their_units(fake_cpu: Characterisation) -> None:
    assert fake_cpu.environment is not None
    named = {"memory_available": 3 * 2**30, "steal_share": 0.0056, "steal_s": 0.26, "clock_max": 3.1e9, "sanitisers": "", "smt": False}
    shown = page.environment_facts(replace(fake_cpu, environment=replace(fake_cpu.environment, facts=named)))
    expected = [("memory available", "3 GiB"), ("steal share", "0.56 %"), ("steal", "0.26 s"), ("clock max", "3.10 GHz")]
    assert list(shown[-6:]) == [*expected, ("sanitisers", "none"), ("smt", "no")]


def test_many_findings_of_one_kind_are_gathered(fake_cpu: Characterisation) -> None:
    from microbench.records import Finding

    many = tuple(Finding(code="not-converged", severity="warning", says=f"Row {number}.") for number in range(7))
    shown = view.gathered_findings(replace(fake_cpu, findings=many))
    assert [(finding.says, left) for finding, left in shown] == [("Row 0.", 0), ("Row 1.", 5)]


@pytest.mark.parametrize(
    ("name", "level", "title"),
    [
        ("load_to_use.L2", "L2", "L2 load to use"),
        ("cost.timer.2_threads", None, "timer, 2 threads"),
        ("cost.first_touch.huge", None, "first touch huge"),
        ("", None, "–"),
    ],
)
def test_costs_are_called_by_words(name: str, level: str | None, title: str) -> None:
    assert view.cost_title(Cost(name=name, level=level, seconds=Estimate(value=1, low=1, high=1))) == title
