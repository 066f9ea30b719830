"""What counts as a step of the sweep over accesses in flight, and what ends it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from microbench.analysis.unroll_sweep import edges
from microbench.records import Case, Finding, Samples, Sheet, Work

SHEET = Sheet(
    name="read.i32.u1",
    measures="memory",
    backend="cuda",
    device_kind="cuda",
    says="",
    access="read",
    work=Work(bytes_read=2**20),
)


def found(*rows: tuple[str, float, dict[str, Any]]) -> list[Finding]:
    """Findings of kernels by variant, rate and what else their sheets say, over one working set."""
    sheets, cases, samples = {}, {}, []
    for variant, rate, facts in rows:
        params = facts.pop("params", {"working_set": 2**28})
        sheet = replace(SHEET, name=facts.pop("name", f"read.i32.{variant}"), variant=variant, **facts)
        case = Case(kernel=sheet.name, params=params)
        sheets[sheet.name], cases[case.key] = sheet, case
        ns = round(2**20 * 1e12 / rate)
        samples.append(Samples(case=case.key, round=0, started_s=0.0, iterations=1000, ns=(ns, 2 * ns), count=2))
    lost = Case(kernel="gone", params={"working_set": 2**28})
    strangers = [replace(samples[0], case="unknown[]@1"), replace(samples[0], case=lost.key)]
    return edges([*samples, *strangers], {**cases, lost.key: lost}, sheets)


def steps(*rates: float, **facts: Any) -> list[tuple[str, float, dict[str, Any]]]:
    return [(f"u{2**i}", rate, dict(facts)) for i, rate in enumerate(rates)]


@pytest.mark.parametrize(("last", "edge"), [(3.05e12, False), (3.1e12, True)])
def test_a_last_step_that_gains_less_than_two_per_cent_is_the_plateau(last: float, edge: bool) -> None:
    assert bool(found(*steps(1e12, 3e12, last))) is edge


def test_three_steps_are_a_sweep_and_two_are_none() -> None:
    assert found(*steps(1e12, 2e12, 3e12)) != []
    assert found(*steps(2e12, 3e12)) == []


@pytest.mark.parametrize(
    "other",
    [
        {"backend": "triton"},
        {"measures": "link", "roles": ()},
        {"access": None},
        {"params": {}},
        {"params": {"working_set": 2**29}},
        {"access": "write"},
    ],
)
def test_other_kernels_are_no_step_of_a_sweep_nor_do_they_settle_it(other: dict[str, Any]) -> None:
    beside = ("u16", 9e12, {"name": "other.u16", **other})
    bulk = (
        "bulk",
        9e12,
        {"name": "other.bulk", **other, **({"params": dict(other["params"])} if "params" in other else {})},
    )
    assert found(*steps(1e12, 3e12, 2e12), beside) == []
    (finding,) = found(*steps(1e12, 2e12, 3e12), bulk)
    assert "3.000 TB/s with 4 a thread, 2.000 TB/s with at most 2" in finding.says


def test_of_two_kernels_of_one_step_the_faster_counts_in_whatever_order_they_come() -> None:
    slow = ("u2", 1e12, {"name": "slow.u2"})
    assert found(*steps(1e12, 3e12, 3e12), slow) == found(slow, *steps(1e12, 3e12, 3e12)) == []
