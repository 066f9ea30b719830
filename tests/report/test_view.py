from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from microbench.records import Characterisation, Cost, Estimate, units
from microbench.report import fits, page, roofline_scene, summary, view


def test_titles_are_unique_within_a_group(fake_cpu: Characterisation, fake_cuda: Characterisation) -> None:
    for characterisation in (fake_cpu, fake_cuda):
        for group in view.groups(characterisation):
            assert max(Counter(row.title for row in group.rows).values()) == 1, group.title


def test_sweep_points_are_in_no_table(fake_cpu: Characterisation) -> None:
    rows = [row for group in view.groups(fake_cpu) for row in group.rows]
    assert len(rows) == 16 + 38
    assert all(row.ceiling.level for row in rows if row.ceiling.measures == "memory")


def test_where_no_nominal_is_known_the_table_says_what_a_core_does_in_a_cycle(fake_cpu: Characterisation) -> None:
    unknown = tuple(
        replace(ceiling, nominal=None, per_clock=32.0 if ceiling.clock_hz else None) for ceiling in fake_cpu.ceilings
    )
    rows = [row for group in view.groups(replace(fake_cpu, ceilings=unknown)) for row in group.rows]
    told = {(row.ceiling.measures, row.ceiling.level, row.share) for row in rows if row.ceiling.clock_hz}
    assert {"32.00 FLOP a cycle", "32.00 OP a cycle"} >= {share for measures, _, share in told if measures == "compute"}
    assert all(share == "32.00 byte a cycle" for _, level, share in told if level == "L1")
    assert all(row.share == view.UNKNOWN for row in rows if row.ceiling.level in ("L3", "DRAM"))
    compute = next(row.ceiling for row in rows if row.ceiling.measures == "compute" and row.ceiling.clock_hz)
    assert "no nominal rate is known; 32.00 FLOP a cycle and core seen" in page._nominal(compute)


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
        assert [line.about for line in summary.lines(characterisation)] == [
            "Device",
            "Compute",
            "Bandwidth",
            "Latency",
            "Trust",
        ]


def test_the_summary_names_units_clock_and_what_the_library_reaches(
    fake_cpu: Characterisation, fake_cuda: Characterisation
) -> None:
    device, compute, bandwidth, _, trust = (line.says for line in summary.lines(fake_cpu))
    assert "2 cores, 24 GiB; clock seen 2.40 to 3.10 GHz" in device
    assert "library" not in compute
    assert "f32 is compute-bound above 13.0 FLOP/byte of DRAM reads" in bandwidth
    assert "1 error, 2 warnings: objdump was not found" in trust
    device, compute, *_ = (line.says for line in summary.lines(fake_cuda))
    assert "132 SMs, 80 GiB" in device
    assert "matrix products of the library reach 75 %" in compute


def test_the_summary_of_libraries_alone_says_what_they_reach(fake_cuda: Characterisation) -> None:
    alone = replace(fake_cuda, ceilings=tuple(row for row in fake_cuda.ceilings if row.mode == "library"))
    says = summary.lines(alone)[1].says
    assert "bf16 695.6 TFLOP/s" in says
    assert "no instruction peak was measured" in says


def test_the_latency_of_a_cache_in_halves_is_what_lies_between_them(fake_cuda: Characterisation) -> None:
    costs = [
        Cost(name=f"load_to_use.L2{which}", level="L2", seconds=Estimate(value=seconds, low=seconds, high=seconds))
        for which, seconds in ((".near", 148e-9), ("", 200e-9), (".far", 253e-9))
    ]
    assert "L2 200 ns" in summary.lines(replace(fake_cuda, costs=tuple(costs)))[3].says


def test_the_summary_counts_failed_proofs(fake_cpu: Characterisation) -> None:
    failed = replace(fake_cpu.ceilings[0], proof=replace(fake_cpu.ceilings[0].proof, status="failed"))
    assert "1 failed that proof" in summary.lines(replace(fake_cpu, ceilings=(failed, *fake_cpu.ceilings[1:])))[4].says
    assert "failed" not in summary.lines(fake_cpu)[4].says


def test_the_summary_says_whether_a_card_is_like_others(fake_cuda: Characterisation) -> None:
    known = replace(fake_cuda, device=replace(fake_cuda.device, name="NVIDIA H100 80GB HBM3"))
    assert "% of the highest published" not in summary.lines(fake_cuda)[1].says
    # FP32 59.10 of 59.1, and the library's BF16 695.6 of 821 TFLOP/s.
    assert summary.lines(known)[1].says.endswith("85 to 100 % of the highest published")


@pytest.mark.parametrize(
    ("value", "significant", "text"),
    [(9.996, 3, "10.0 B/s"), (999.96e9, 4, "1.000 TB/s"), (999.4e9, 4, "999.4 GB/s"), (0.99999, 4, "1.000 B/s")],
)
def test_numbers_have_as_many_digits_as_asked_for_after_rounding(value: float, significant: int, text: str) -> None:
    assert units.prefixed(value, "B/s", significant) == text
    assert f"{units.like(value, value, significant)}" == text.split(maxsplit=1)[0]


def test_seen_sizes_have_three_digits_and_no_exponent() -> None:
    assert [units.size(value, 3) for value in (84_557_168, 1_047_552, 1_000_000, 2**28)] == [
        "80.6 MiB",
        "1023 KiB",
        "977 KiB",
        "256 MiB",
    ]


def test_a_roofline_of_a_gpu_counts_no_threads_of_the_host(fake_cpu: Characterisation) -> None:
    gpu = replace(fake_cpu, device=replace(fake_cpu.device, kind="cuda"))
    assert {row[0].rpartition(", ")[2] for row in fits.roofline_rows(gpu)[1:]} == {"whole device"}


def test_the_summary_says_that_a_cache_is_smaller_than_advertised(fake_cpu: Characterisation) -> None:
    assert "of 35.75 MiB L3 advertised, a chase sees 3 MiB" in summary.lines(fake_cpu)[3].says


def test_ridge_points_are_peak_over_bandwidth(fake_cpu: Characterisation) -> None:
    heading, *rows = roofline_scene.ridge_rows(fake_cpu)
    table = {row[0]: dict(zip(heading[1:], row[1:], strict=True)) for row in rows}
    # f32 0.985 x 307.2 GFLOP/s over DRAM 2 x 12.4 x 0.94 GB/s
    assert table["f32"]["DRAM"] == "13.0"


def test_unknown_facts_are_dashes(fake_cpu: Characterisation) -> None:
    assert ("governor", "–") in page.environment_facts(fake_cpu)


def test_facts_carry_their_units(fake_cpu: Characterisation) -> None:
    assert fake_cpu.environment is not None
    named = {
        "memory_available": 3 * 2**30,
        "steal_share": 0.0056,
        "steal_s": 0.26,
        "clock_max": 3.1e9,
        "sanitisers": "",
        "smt": False,
    }
    shown = page.environment_facts(replace(fake_cpu, environment=replace(fake_cpu.environment, facts=named)))
    expected = [
        ("memory available", "3 GiB"),
        ("steal share", "0.56 %"),
        ("steal", "0.26 s"),
        ("clock max", "3.10 GHz"),
    ]
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
