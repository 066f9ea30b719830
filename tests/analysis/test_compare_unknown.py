"""A comparison that does not know says so: recorded disturbed runs, and invented ones that differ in one fact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from places import DATA

from microbench.analysis.compare import compare
from microbench.analysis.compare_limits import exceeded, exit_code, least_limit, refuse_too_fine, unresolved
from microbench.analysis.compare_noise import beyond_the_clock
from microbench.errors import UsageError
from microbench.records import Ceiling, Characterisation, Cost, Device, Environment, Estimate, Finding, Samples
from microbench.storage.store import load

DEVICE = Device(id="aaaaaaaaaa", kind="cpu", name="Fake CPU", arch="fake", units_by_kind={"core": 4, "thread": 4})


def recorded(name: str) -> Characterisation:
    return load(DATA / "compare" / f"zen3-quick-{name}.json")


def ceiling(name: str, rate: float, **facts: Any) -> Ceiling:
    known: dict[str, Any] = {"measures": "compute", "dtype": "f32", "backend": "native", "case": name}
    known |= {"converged": True, "rounds": 8, "typical": Estimate(value=0.995 * rate, low=0.99 * rate, high=rate)}
    return Ceiling(name=name, rate=Estimate(value=rate, low=rate * 0.999, high=rate * 1.001), **{**known, **facts})


def stream(name: str, rate: float, level: str = "DRAM", **facts: Any) -> Ceiling:
    return ceiling(name, rate, **{"measures": "memory", "level": level, "access": "read", **facts})


def run(*rows: Ceiling, costs: tuple[Cost, ...] = (), others: float = 0.0, **facts: Any) -> Characterisation:
    told = [Finding(code="other-processes", severity="warning", says="others")] if others else []
    seen = Environment(
        started="2026-11-21T22:04:00+00:00",
        seconds=1.0,
        microbench="0.1",
        facts={"other_processes_share": others, "steal_share": 0.0},
    )
    known: dict[str, Any] = {"environment": seen, "findings": tuple(told), "plan": None, "device": DEVICE, **facts}
    return Characterisation(schema="1.0", ceilings=rows, costs=costs, **known)


def verdicts(old: Characterisation, new: Characterisation) -> dict[str, str]:
    return {change.name: change.verdict for change in compare(old, new).changes}


@pytest.mark.parametrize(("old", "new"), [("loaded-1", "loaded-2"), ("loaded-2", "loaded-1"), ("loaded-2", "spinner")])
def test_runs_of_one_machine_nine_tenths_busy_are_neither_slower_nor_the_same(old: str, new: str) -> None:
    found = compare(recorded(old), recorded(new))
    assert found.verdict == "unresolved"
    assert {change.verdict for change in found.changes} == {"unresolved"}
    assert {group.verdict for group in found.groups} == {"unresolved"}
    assert exit_code(found, {}) == 0
    assert exit_code(found, {"compute": 0.03}) == 4
    assert all("fma" in finding.says for finding in unresolved(found, {"compute": 0.03}))


def test_a_machine_that_lost_one_of_two_cpus_lacks_the_rows_of_the_whole_device() -> None:
    found = compare(recorded("loaded-2"), recorded("one-cpu"))
    assert found.verdict == "missing"
    assert "fma.f32.v256 x2" in found.missing
    assert exit_code(found, {"compute": 0.03}) == 1
    assert "different-units" in {finding.code for finding in found.findings}


def test_rows_of_the_whole_device_are_matched_by_scope_whatever_their_threads() -> None:
    fewer = replace(DEVICE, units_by_kind={"core": 3, "thread": 3})
    old = run(ceiling("fma", 4e9, threads=4, scope="device"))
    new = run(ceiling("fma", 3e9, threads=3, scope="device"), device=fewer)
    (change,) = compare(old, new).changes
    assert (change.verdict, change.ratio and round(change.ratio.value, 3)) == ("slower", 0.75)
    assert exit_code(compare(old, new), {"compute": 0.03}) == 1


def test_a_loss_in_one_level_is_no_matter_of_the_median_over_all_levels() -> None:
    near = [stream(f"read{i}.{level}", 1e10 * (i + 1), level) for i in range(9) for level in ("L1", "L2")]
    far = [stream(f"read{i}.DRAM", 1e10 * (i + 1)) for i in range(9)]
    slow = [stream(row.name, 0.7 * row.rate.value) for row in far]
    groups = {group.name: group.verdict for group in compare(run(*near, *far), run(*near, *slow)).groups}
    assert groups == {"L1": "same", "L2": "same", "DRAM": "slower"}


@pytest.mark.parametrize(("others", "verdict"), [(0.0, "slower"), (0.1, "slower"), (0.3, "unresolved")])
def test_what_others_may_have_taken_is_no_loss(others: float, verdict: str) -> None:
    old, new = run(stream("read", 1e10)), run(stream("read", 0.7e10), others=others)
    assert verdicts(old, new) == {"read x1": verdict}
    assert {group.verdict for group in compare(old, new).groups} == {verdict}


def test_a_loss_no_larger_than_the_share_of_others_is_unresolved() -> None:
    assert verdicts(run(stream("read", 1e10)), run(stream("read", 0.85e10), others=0.2)) == {"read x1": "unresolved"}


def test_what_disturbed_the_faster_side_is_no_reason_for_doubt() -> None:
    assert verdicts(run(stream("read", 1e10), others=0.9), run(stream("read", 0.7e10))) == {"read x1": "slower"}


def test_a_peak_that_reaches_its_ports_cannot_have_been_disturbed() -> None:
    old, new = (run(ceiling("fma", rate, nominal=rate), others=0.9) for rate in (1e9, 0.9e9))
    assert verdicts(old, new) == {"fma x1": "slower"}


def test_a_run_that_tells_of_others_and_not_how_many_may_have_had_nothing_to_itself() -> None:
    new = run(stream("read", 0.5e10), others=0.9)
    assert new.environment is not None
    untold = replace(new, environment=replace(new.environment, facts={}))
    assert verdicts(run(stream("read", 1e10)), untold) == {"read x1": "unresolved"}


def test_a_row_whose_best_rounds_disagree_is_neither_the_same_nor_slower() -> None:
    for rate in (1e9, 0.5e9):
        loose = replace(ceiling("fma", rate, converged=False), rate=Estimate(value=rate, low=0.97 * rate, high=rate))
        assert verdicts(run(ceiling("fma", 1.001e9)), run(loose)) == {"fma x1": "unresolved"}


def test_arithmetic_below_its_ports_counts_only_where_nobody_shared_its_core() -> None:
    slow = ceiling("fma", 0.9e9, converged=False, nominal=1e9)
    assert verdicts(run(ceiling("fma", 1e9)), run(slow)) == {"fma x1": "slower"}
    assert verdicts(run(ceiling("fma", 1e9)), run(slow, others=0.4)) == {"fma x1": "unresolved"}


def interrupted(switches: int, **facts: Any) -> Characterisation:
    """A slow row of a busy machine, each of whose rounds has eight samples and so many interruptions."""
    rounds = [
        Samples(case="fma", round=i, started_s=i, iterations=9, ns=(1000,) * 8, count=8, switches=switches, steal_s=0.0)
        for i in range(3)
    ]
    made = run(ceiling("fma", 0.9e9, converged=False, nominal=1e9), others=0.4, samples=tuple(rounds))
    assert made.environment is not None
    return replace(made, environment=replace(made.environment, facts=made.environment.facts | facts))


def test_rounds_with_fewer_interruptions_than_samples_had_their_core_alone() -> None:
    old = run(ceiling("fma", 1e9))
    assert verdicts(old, interrupted(7, smt=False)) == {"fma x1": "slower"}
    assert verdicts(old, interrupted(8, smt=False)) == {"fma x1": "unresolved"}
    assert verdicts(old, interrupted(7, smt=True)) == {"fma x1": "unresolved"}
    assert verdicts(old, replace(interrupted(7, smt=True), schema="1.3")) == {"fma x1": "slower"}
    busy = interrupted(7, smt=True)
    shared = tuple(replace(each, sibling_s=0.01) for each in busy.samples)
    assert verdicts(old, replace(busy, schema="1.3", samples=shared)) == {"fma x1": "unresolved"}


def test_others_cannot_have_been_there_in_every_one_of_many_rounds() -> None:
    def slow(rounds: int) -> Characterisation:
        taken = [Samples(case="read", round=i, started_s=i, iterations=9, ns=(1000,), count=1) for i in range(rounds)]
        return run(stream("read", 0.5e10), others=0.2, samples=tuple(taken), device=two)

    two = replace(DEVICE, units_by_kind={"core": 2, "thread": 2})
    old = run(stream("read", 0.6e10), device=two)
    assert [verdicts(old, slow(count))["read x1"] for count in (4, 8)] == ["unresolved", "slower"]


def test_the_very_same_measurement_is_the_same_however_noisy_it_was() -> None:
    noisy = run(stream("read", 1e10, converged=False, rounds=2), others=0.9)
    assert verdicts(noisy, noisy) == {"read x1": "same"}


def test_an_interval_wider_than_what_counts_as_the_same_is_unresolved() -> None:
    wide = Estimate(value=0.4e10, low=0.3e10, high=0.5e10, confidence=0.9)
    changes = compare(run(stream("read", 1e10, typical=wide)), run(stream("read", 1.01e10, typical=wide))).changes
    assert (changes[0].verdict, changes[0].why) == ("unresolved", "within noise")


def test_a_row_too_low_for_its_neighbours_stands_where_its_rounds_agree_on_a_quiet_machine() -> None:
    doubt = Finding(code="threads-slower", severity="warning", says="slower with two threads", case="fma")
    low = ceiling("fma", 0.5e9)
    loose = replace(low, rate=Estimate(value=0.5e9, low=0.4e9, high=0.5e9), converged=False)
    old = run(ceiling("fma", 1e9))
    assert verdicts(old, run(low, findings=(doubt,))) == {"fma x1": "slower"}
    assert verdicts(old, run(loose, findings=(doubt,))) == {"fma x1": "unresolved"}
    assert verdicts(old, run(low, findings=(replace(doubt, code="above-nominal"),))) == {"fma x1": "unresolved"}


def clocked(rate: float, clock: float, beside: float = 3e9) -> Characterisation:
    """A row at one clock, and another of the same instruction set beside it that shows how far the clock wanders."""
    return run(
        ceiling("fma", rate, clock_hz=clock, variant="v256"), ceiling("add", 1e9, clock_hz=beside, variant="v256")
    )


def test_a_loss_that_the_clock_explains_as_far_as_it_wanders_is_none() -> None:
    change = next(c for c in compare(clocked(1e9, 3e9, 2.9e9), clocked(0.95e9, 2.85e9)).changes if c.name == "fma x1")
    assert (change.verdict, change.why) == ("same", "the clock explains the difference")


def test_a_clock_that_stood_still_and_fell_explains_nothing() -> None:
    assert verdicts(clocked(1e9, 3e9), clocked(0.9e9, 2.7e9, 2.7e9))["fma x1"] == "slower"


def test_a_loss_per_clock_is_one_however_far_the_clock_wanders() -> None:
    assert verdicts(clocked(1e9, 3e9, 2.8e9), clocked(0.95e9, 3e9, 2.8e9))["fma x1"] == "slower"


def test_a_clock_that_was_misread_moves_no_verdict() -> None:
    assert verdicts(clocked(1e9, 3e9), clocked(1e9, 2.1e9))["fma x1"] == "same"
    assert beyond_the_clock(0.0, -0.36, wander=0.01) == pytest.approx(0.01)


def test_of_a_level_that_was_found_elsewhere_nothing_is_known_and_of_one_not_measured_it_is_missing() -> None:
    rows = (ceiling("fma", 1e9), stream("read.L3", 1e10, "L3"))
    assert verdicts(run(*rows), run(rows[0])) == {"fma x1": "same", "read.L3 x1": "missing"}
    late = Finding(code="left-out-for-time", severity="info", says="3 of 9 cases were left out")
    assert verdicts(run(*rows, stream("read.DRAM", 1e9)), run(rows[0], findings=(late,))) == {
        "fma x1": "same",
        "read.L3 x1": "unresolved",
        "read.DRAM x1": "missing",  # quoted first, and so measured whatever the time
    }


def test_without_limits_the_exit_is_zero_whatever_was_found() -> None:
    assert exit_code(compare(run(ceiling("fma", 1e9)), run(ceiling("fma", 0.5e9))), {}) == 0


def test_a_row_of_another_kind_is_missed_by_no_limit() -> None:
    found = compare(run(ceiling("fma", 1e9), stream("read", 1e9)), run(ceiling("fma", 1e9)))
    assert [finding.code for finding in exceeded(found, {"memory": 0.1})] == ["missing"]
    assert exceeded(found, {"compute": 0.03}) == ()


def test_a_limit_is_undecided_where_the_interval_could_hide_several_times_it() -> None:
    usual = Estimate(value=0.8e10, low=0.8e10, high=0.8e10)
    found = compare(run(stream("read", 1e10, typical=usual)), run(stream("read", 1.01e10, typical=usual)))
    assert found.verdict == "same"
    assert [exit_code(found, {"memory": limit}) for limit in (0.05, 0.2)] == [4, 0]


def test_main_memory_is_decided_by_a_group_of_its_rows_where_no_single_row_is() -> None:
    def some(*rates: float) -> Characterisation:
        usual = [Estimate(value=0.75 * rate, low=0.7 * rate, high=0.8 * rate) for rate in rates]
        return run(*(stream(f"read{i}", rate, typical=usual[i]) for i, rate in enumerate(rates)))

    found = compare(some(1e10, 1.1e10, 1.2e10), some(1.02e10, 1.09e10, 1.22e10))
    assert [change.verdict for change in found.changes if change.headline] == ["unresolved"]
    assert [(group.name, group.verdict) for group in found.groups] == [("DRAM", "same")]
    assert (found.verdict, found.undecided()) == ("same", ())


def test_only_headline_rows_leave_a_limit_undecided() -> None:
    rows = (ceiling("fma.v256", 2e9), ceiling("fma.v128", 1e9))
    apart = [
        replace(row, converged=False, rate=replace(row.rate, low=0.9 * row.rate.value), quiet_share=0.0) for row in rows
    ]
    assert exit_code(compare(run(*rows), run(rows[0], apart[1])), {"compute": 0.03}) == 0
    assert exit_code(compare(run(*rows), run(*apart)), {"compute": 0.03}) == 4


@pytest.mark.parametrize(("kind", "limit"), [("compute", 0.01), ("memory", 0.03), ("link", 0.03), ("cost", 0.05)])
def test_a_limit_below_the_spread_of_one_device_is_refused_with_the_least(kind: str, limit: float) -> None:
    with pytest.raises(UsageError, match="below the spread"):
        refuse_too_fine({kind: limit}, (1, 1))
    refuse_too_fine({kind: least_limit(kind, (1, 1))}, (1, 1))


def test_repeated_runs_are_pooled_and_hold_finer_limits() -> None:
    def some(*rates: float) -> list[Characterisation]:
        return [run(ceiling("fma", rate)) for rate in rates]

    old, new = some(1e9, 1.001e9, 0.999e9, 1e9), some(0.98e9, 0.981e9, 0.979e9, 0.98e9)
    assert compare(old[0], new[0]).changes[0].verdict == "same"
    pooled = compare(old, new)
    assert (pooled.changes[0].verdict, pooled.runs) == ("slower", (4, 4))
    refuse_too_fine({"compute": 0.01}, pooled.runs)


def test_one_bad_run_of_three_moves_no_pooled_verdict() -> None:
    old = [run(ceiling("fma", 1e9)) for _ in range(3)]
    new = [run(ceiling("fma", rate)) for rate in (1e9, 0.6e9, 1e9)]
    assert compare(old, new).changes[0].verdict != "slower"


def test_disturbed_runs_among_quiet_ones_do_not_count() -> None:
    old = [run(stream("read", 1e10)) for _ in range(3)]
    new = [run(stream("read", 1e10)), run(stream("read", 0.4e10), others=0.5), run(stream("read", 0.4e10), others=0.5)]
    found = compare(old, new)
    assert (found.changes[0].verdict, found.runs) == ("same", (3, 1))


def test_runs_of_two_devices_are_not_pooled() -> None:
    other = run(ceiling("fma", 1e9), device=replace(DEVICE, id="bbbbbbbb"))
    with pytest.raises(UsageError, match="cannot be pooled"):
        compare([run(ceiling("fma", 1e9)), other], run(ceiling("fma", 1e9)))


def test_one_word_for_the_whole_is_the_worst_that_is_known() -> None:
    rows = (ceiling("fma.v256", 2e9), ceiling("fma.v128", 1e9))
    slow, fast = ceiling("fma.v128", 0.5e9), ceiling("fma.v256", 2.5e9)
    assert compare(run(*rows), run(rows[0], slow)).verdict == "slower"
    assert compare(run(*rows), run(rows[1])).verdict == "missing"
    assert compare(run(*rows), run(fast, rows[1])).verdict == "faster"
    assert compare(run(*rows), run(*rows)).verdict == "same"
