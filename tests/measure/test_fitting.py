"""Which cases are planned and measured where the time is short, on machines that are invented and a virtual clock."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_backend import KIB, fake_device
from virtual_machine import VirtualClock, virtual_kernels, virtual_time

from microbench.kernels import cpu
from microbench.measure.budget import Ending, kernels_s, share_out
from microbench.measure.fitting import PLANNED_SHARE, Fitting, cut
from microbench.measure.loop import Loop
from microbench.measure.plan import BUDGETS, Resources, Selection, limited, make_plan
from microbench.measure.priorities import ORDER, Priorities, left_out_for_time
from microbench.records import Case, Device, MemoryLevel, Plan, Samples

MIB, GIB = 1024 * KIB, 1024 * 1024 * KIB


def machine(*capacities: int) -> Device:
    caches = zip(("L1", "L2", "L3"), capacities, strict=False)
    return fake_device(
        levels=(*(MemoryLevel(name=name, capacity_bytes=size) for name, size in caches), MemoryLevel(name="DRAM"))
    )


# Device, threads and free memory, as different as machines are.
MACHINES: dict[str, tuple[Device, Resources]] = {
    "one virtual CPU": (machine(32 * KIB, MIB, 8 * MIB), Resources(threads=1, memory_bytes=2 * GIB)),
    "two virtual CPUs": (machine(32 * KIB, 512 * KIB, 32 * MIB), Resources(threads=2, memory_bytes=16 * GIB)),
    "one level": (machine(64 * KIB), Resources(threads=4, memory_bytes=GIB)),
    "128 cores": (machine(32 * KIB, MIB, 384 * MIB), Resources(threads=128, memory_bytes=512 * GIB)),
}
SHEETS = {
    sheet.name: replace(sheet, unavailable=None)
    for sheet in cpu.sheets()
    if set(sheet.needs) <= {"avx", "f16c", "fma", "avx2", "asimd"}
}


def whole_plan(where: str, budget: str, patch: pytest.MonkeyPatch, limit_s: float | None = None) -> Plan:
    device, resources = MACHINES[where]
    patch.setattr(Resources, "here", lambda: resources)
    chosen = limited(BUDGETS[budget], limit_s)
    return make_plan(device, virtual_kernels(VirtualClock(), SHEETS), Selection(), chosen)


def rules_of(plan: Plan, where: str) -> dict[str, str]:
    rules = Priorities(plan.cases, SHEETS, MACHINES[where][0]).rule
    return {case.key: rules[case.key].name for case in plan.cases}


@pytest.mark.parametrize("where", MACHINES)
@pytest.mark.parametrize("budget", ["quick", "default"])
def test_a_plan_fits_its_share_of_the_run_on_every_machine(
    where: str, budget: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, device = whole_plan(where, budget, monkeypatch), MACHINES[where][0]
    seconds = kernels_s(plan.budget, operators=budget == "default")
    kept, dropped = cut(plan, SHEETS, device, seconds)
    assert {case.key for case in (*kept.cases, *dropped)} == {case.key for case in plan.cases}
    fitting = Fitting(plan.cases, SHEETS, device, plan.budget)
    assert sum(fitting.needs_s(case, plan.budget.min_rounds) for case in kept.cases) <= PLANNED_SHARE * seconds
    assert not [case for case in dropped if fitting.priorities.rule[case.key].essential]


@pytest.mark.parametrize("where", MACHINES)
@pytest.mark.parametrize("limit_s", [2.0, 5.0, 12.0, 25.0, 60.0])
def test_what_is_left_out_is_never_more_important_than_what_is_kept(
    where: str, limit_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, device = whole_plan(where, "default", monkeypatch, limit_s), MACHINES[where][0]
    kept, dropped = cut(plan, SHEETS, device, limit_s)
    assert kept.cases
    order = Priorities(plan.cases, SHEETS, device)
    spared = [case for case in kept.cases if not order.rule[case.key].essential]
    if spared:
        assert max(map(order.rank, spared)) < min(map(order.rank, dropped), default=(1, 0.0))
        assert not [case for case in dropped if order.rule[case.key].essential]


def test_every_case_has_a_place_in_the_order_and_what_may_go_goes_before_what_may_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    essential = [rule.essential for rule in ORDER]
    assert essential == sorted(essential)
    assert len({rule.name for rule in ORDER}) == len(ORDER)
    assert all(rule.why for rule in ORDER)
    for where in MACHINES:
        assert set(rules_of(whole_plan(where, "thorough", monkeypatch), where)) >= {
            "chase[pages=huge;working_set=8192]@1"
        }


def test_the_peaks_of_each_dtype_the_widest_streams_the_latencies_and_the_sweep_go_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = whole_plan("two virtual CPUs", "default", monkeypatch)
    last = {rule.name for rule in ORDER if rule.essential}
    kept = {key.partition("[")[0] for key, name in rules_of(plan, "two virtual CPUs").items() if name in last}
    width = max(sheet.access_bytes for sheet in SHEETS.values() if sheet.name.startswith("read.f32")) * 8
    assert {f"fma.f32.v{width}", f"fma.f64.v{width}", "chase"} <= kept
    assert {f"{access}.f32.v{width}" for access in ("read", "write", "copy", "triad")} <= kept
    assert not {name for name in kept if name.endswith(".scalar")}


def test_thorough_leaves_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = whole_plan("128 cores", "thorough", monkeypatch)
    assert cut(plan, SHEETS, MACHINES["128 cores"][0], 1.0) == (plan, ())


def test_half_of_a_sweep_is_still_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, where = whole_plan("two virtual CPUs", "default", monkeypatch), "two virtual CPUs"
    rules = rules_of(plan, where)
    order = Priorities(plan.cases, SHEETS, MACHINES[where][0])
    points = sorted((case for case in plan.cases if rules[case.key].startswith("points of the sweep")), key=order.rank)
    sizes = sorted(int(case.params["working_set"]) for case in points)
    half = sorted(int(case.params["working_set"]) for case in points[: len(points) // 2])
    assert half[0] <= sizes[2]
    assert half[-1] >= sizes[-4]
    assert max(b / a for a, b in zip(half, half[1:], strict=False)) < 6  # what is still read as a curve


class Counts:
    """A watcher that counts rounds."""

    def __init__(self) -> None:
        self.rounds: dict[str, int] = {}

    def sampled(self, samples: Samples) -> None:
        self.rounds[samples.case] = self.rounds.get(samples.case, 0) + 1

    def progressed(self, case: Case, round_index: int, best: float) -> None:
        pass


def measured(
    plan: Plan, where: str, slow: float, seconds: float, slow_to_fill: float = 1.0
) -> tuple[Loop, Counts, float]:
    """Measure a plan on a machine that is so much slower; the loop, the rounds of each case, and the time it took."""
    clock, counts = VirtualClock(slow=slow, slow_to_fill=slow_to_fill), Counts()
    with virtual_time(clock):
        loop = Loop(MACHINES[where][0], virtual_kernels(clock, SHEETS), plan, counts)
        started = clock.now
        loop.run(plan.cases, seconds, plan.budget.min_rounds)
        took = clock.now - started
    return loop, counts, took


@pytest.mark.parametrize("slow", [1.0, 20.0])
@pytest.mark.parametrize("where", ["one virtual CPU", "two virtual CPUs", "128 cores"])
def test_measuring_ends_in_time_on_a_machine_however_slow_and_what_is_measured_gets_three_rounds(
    where: str, slow: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = cut(whole_plan(where, "quick", monkeypatch), SHEETS, MACHINES[where][0], 18.0)
    loop, counts, took = measured(plan, where, slow, 18.0)
    assert took <= 18.0 + 1.0  # one visit may be under way
    rules = rules_of(plan, where)
    assert {rules[case.key] for case in plan.cases if case.key in counts.rounds} >= {"wide arithmetic"}
    assert {*counts.rounds, *(case.key for case in loop.unmeasured())} == {case.key for case in plan.cases}
    if slow == 1.0:
        assert not loop.unmeasured()
        assert min(counts.rounds.values()) >= 3


@pytest.mark.parametrize("slow_to_fill", [10.0, 100.0, 300.0])
@pytest.mark.parametrize("where", ["one virtual CPU", "two virtual CPUs", "128 cores"])
def test_peaks_and_the_near_levels_are_measured_however_slowly_a_busy_system_hands_out_memory(
    where: str, slow_to_fill: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = cut(whole_plan(where, "quick", monkeypatch), SHEETS, MACHINES[where][0], 18.0)
    loop, counts, took = measured(plan, where, 1.0, 18.0, slow_to_fill)
    largest = max(int(case.params.get("working_set", 0)) for case in plan.cases)
    assert took <= 18.0 + 1.0 + slow_to_fill * largest / 1e9  # one case may be in preparation
    rules, near = rules_of(plan, where), MACHINES[where][0].levels[0].capacity_bytes or 0
    for case in plan.cases:
        peak = rules[case.key] == "wide arithmetic"
        close = rules[case.key] == "writes, copies and triads" and not case.params.get("cold")
        if peak or (close and int(case.params["working_set"]) <= near):
            assert case.key in counts.rounds
    assert {case.key for case in loop.unmeasured()}.isdisjoint(counts.rounds)


def test_the_finding_counts_what_was_left_out_and_says_what_measures_it(monkeypatch: pytest.MonkeyPatch) -> None:
    where = "128 cores"
    plan, device = whole_plan(where, "default", monkeypatch, 20.0), MACHINES[where][0]
    _, dropped = cut(plan, SHEETS, device, 12.0)
    rules = Priorities(plan.cases, SHEETS, device).rule
    found = left_out_for_time(dropped, len(plan.cases), rules, 20.0)
    assert found.says.startswith(f"{len(dropped)} of {len(plan.cases)} cases were left out")
    counted = [int(part.split()[0]) for part in found.says.partition(": ")[2].split(", ")]
    assert sum(counted) == len(dropped)
    assert "--thorough" in (found.remedy or "")


@pytest.mark.parametrize("limit_s", [0.1, 5.0, 20.0, 30.0, 150.0, 900.0])
@pytest.mark.parametrize("start_s", [0.1, 2.5, 50.0])
def test_the_shares_of_a_run_never_exceed_what_is_left_of_it(limit_s: float, start_s: float) -> None:
    for operators in (False, True):
        ending = Ending(analysis_s=start_s / 2, proof_s=2 * start_s, page_s=3 * start_s)
        shares = share_out(limit_s - start_s, limit_s, ending, operators=operators)
        assert min(shares.kernels_s, shares.operators_s, shares.after_s) >= 0
        if limit_s > start_s:
            assert shares.kernels_s + shares.operators_s <= limit_s - start_s
