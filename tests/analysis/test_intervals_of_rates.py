"""How wide the interval of a peak or a cost is, which rounds were quiet, and which cases are no ceiling at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fake_backend import KIB, fake_device

from microbench.analysis.ceilings import Analysis, analyse
from microbench.records import Budget, Case, Ceiling, Plan, Samples, Sheet, Work

FMA = Sheet(
    name="fma.f32.v128",
    measures="compute",
    backend="native",
    device_kind="cpu",
    says="",
    dtype="f32",
    work=Work(flop=1000),
)
READ = Sheet(
    name="read.f32.v128",
    measures="memory",
    backend="native",
    device_kind="cpu",
    says="",
    access="read",
    work=Work(bytes_read=1024),
)
BARRIER = Sheet(name="cost.barrier", measures="cost", backend="native", device_kind="cpu", says="")
DRAM_SET = 256 * 1024 * KIB


def analysed(sheet: Sheet, *per_round: tuple[int, ...], kind: str = "cpu", threads: int = 1, **params: Any) -> Analysis:
    """Rounds of 1000 iterations of one case, as nanoseconds a sample."""
    case = Case(kernel=sheet.name, params=params, threads=threads)
    samples = [
        Samples(case=case.key, round=i, started_s=float(i), iterations=1000, ns=ns, count=len(ns))
        for i, ns in enumerate(per_round)
    ]
    return analyse(samples, Plan(cases=(case,), budget=Budget()), {sheet.name: sheet}, fake_device(kind=kind))


def ceiling(sheet: Sheet, *per_round: tuple[int, ...], **params: Any) -> Ceiling:
    return analysed(sheet, *per_round, **params).ceilings[0]


@pytest.mark.parametrize(("ns", "share"), [(1_000, 0.04), (50_000, 0.0008)])
def test_two_reads_of_the_clock_leave_forty_nanoseconds_open_above_a_peak(ns: int, share: float) -> None:
    rate = ceiling(FMA, (ns,), (ns,), (ns,)).rate
    assert rate.high == pytest.approx(rate.value * (1 + share))
    assert rate.basis == "best round; low: third best round; high: one timer step"


def test_with_fewer_than_three_rounds_the_low_of_a_peak_is_the_lowest_median_of_a_round_and_says_so() -> None:
    rate = ceiling(FMA, (1000,), (1250,)).rate
    assert rate.low == pytest.approx(rate.value * 0.8)
    assert rate.basis == "best round; low: lowest median of 2 rounds; high: one timer step"
    alone = ceiling(FMA, (1000, 1250, 2000)).rate
    assert alone.low == pytest.approx(alone.value * 0.8)


@pytest.mark.parametrize(
    ("sheet", "params", "slower", "share"),
    [
        (FMA, {}, 1.015, 1.0),
        (FMA, {}, 1.03, 0.5),
        (READ, {"working_set": 8 * KIB}, 1.045, 1.0),
        (READ, {"working_set": 8 * KIB}, 1.06, 0.5),
    ],
)
def test_a_round_is_quiet_within_two_per_cent_of_the_best_for_arithmetic_and_five_for_memory(
    sheet: Sheet, params: dict[str, int], slower: float, share: float
) -> None:
    assert ceiling(sheet, (10_000,), (round(10_000 * slower),), **params).quiet_share == share


def test_a_sweep_through_main_memory_of_a_processor_is_no_ceiling_unless_lines_were_evicted_first() -> None:
    assert analysed(READ, (1000,), working_set=DRAM_SET).ceilings == ()
    assert ceiling(READ, (1000,), working_set=DRAM_SET, cold=1).level == "DRAM"


def test_a_sweep_through_main_memory_of_a_gpu_is_a_ceiling() -> None:
    sheet = replace(READ, backend="cuda", device_kind="cuda")
    assert ceiling(sheet, (1000,), kind="cuda", working_set=DRAM_SET).level == "DRAM"


def test_a_cost_is_its_best_round_and_at_most_its_third_best() -> None:
    (cost,) = analysed(BARRIER, (9000,), (2000, 5000), (1000, 4000), (1500,), (3000,)).costs
    assert (cost.seconds.value, cost.seconds.low, cost.seconds.high) == pytest.approx((1e-9, 1e-9, 2e-9))


def test_a_cost_of_two_rounds_is_at_most_the_slower() -> None:
    (cost,) = analysed(BARRIER, (2000,), (1000,)).costs
    assert (cost.seconds.value, cost.seconds.high) == pytest.approx((1e-9, 2e-9))


def test_a_cost_is_called_by_its_threads_and_pages() -> None:
    def name(**how: Any) -> str:
        return analysed(BARRIER, (1000,), **how).costs[0].name

    assert [name(), name(threads=2), name(pages="huge"), name(threads=4, pages="4k")] == [
        "cost.barrier",
        "cost.barrier.2_threads",
        "cost.barrier.huge",
        "cost.barrier.4_threads.4k",
    ]
