"""How rows of a comparison are called, and what two files must both have for a difference to be told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from microbench.analysis.compare import compare
from microbench.records import Ceiling, Characterisation, Cost, Device, Environment, Estimate, Finding


def exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def made(**facts: Any) -> Characterisation:
    device = Device(id="aaaaaaaaaa", kind="cpu", name="Fake CPU", arch="fake")
    known: dict[str, Any] = {"device": device, "environment": None, "plan": None, **facts}
    return Characterisation(schema="1.0", **known)


def cost(name: str, seconds: Estimate | None = None, **facts: Any) -> Cost:
    return Cost(name=name, seconds=seconds or exactly(1e-6), **facts)


def ceiling(**facts: Any) -> Ceiling:
    known: dict[str, Any] = {
        "name": "fma.f32",
        "measures": "compute",
        "backend": "native",
        "case": "a",
        "converged": True,
    }
    return Ceiling(rate=exactly(1e9), **{**known, **facts})


def test_a_row_is_called_by_its_level_once_and_by_its_threads_and_mode() -> None:
    costs = (cost("latency", level="L2"), cost("load_to_use.L3", level="L3"), cost("barrier"))
    rows = (ceiling(), ceiling(threads=4, mode="sustained"))
    file = made(costs=costs, ceilings=rows)
    assert {change.name for change in compare(file, file).changes} == {
        "latency L2",
        "load_to_use.L3",
        "barrier",
        "fma.f32 x1",
        "fma.f32 x4 sustained",
    }


def test_a_file_is_called_by_its_device_and_when_it_was_measured() -> None:
    measured = made(ceilings=(ceiling(),), environment=environment())
    found = compare(made(ceilings=(ceiling(),)), measured)
    assert (found.old, found.new) == ("Fake CPU, fitted", "Fake CPU, 2026-11-21T22:04:00Z")
    assert found.findings == ()


def environment(version: str = "0.1", **facts: Any) -> Environment:
    return Environment(started="2026-11-21T22:04:00Z", seconds=1.0, microbench=version, facts=facts)


def told(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    one, other = (made(ceilings=(ceiling(),), environment=environment(**facts)) for facts in (old, new))
    return next((finding.says for finding in compare(one, other).findings), None)


def test_a_fact_that_one_file_lacks_is_no_difference() -> None:
    assert told({"governor": "powersave", "turbo": 1}, {"turbo": 1, "kernel": "6.1"}) is None
    assert told({"turbo": 1}, {"turbo": 0}) == "the environment changed: turbo: 1 -> 0"


def test_five_facts_that_differ_are_named_at_most() -> None:
    says = told({f"f{i}": 0 for i in range(7)}, {f"f{i}": 1 for i in range(7)})
    assert says is not None
    assert says.count("->") == 5


def test_another_device_is_called_one_of_the_same_name_only_where_it_is() -> None:
    old = made(ceilings=(ceiling(),))
    new = replace(old, device=replace(old.device, id="bbbbbbbbbb", name="Other CPU"))
    (finding,) = compare(old, new).findings
    assert finding.says == "Other CPU (bbbbbbbb) is another device than Fake CPU (aaaaaaaa)"


@pytest.mark.parametrize(("seconds", "verdict"), [(exactly(2e-6), "slower"), (exactly(0.5e-6), "faster")])
def test_a_cost_gets_its_verdict_whatever_was_doubted_of_a_case(seconds: Estimate, verdict: str) -> None:
    doubt = Finding(code="x", severity="warning", says="x", case="a")
    old, new = made(costs=(cost("c", case="a"),)), made(costs=(cost("c", seconds, case="a"),), findings=(doubt,))
    assert compare(old, new).changes[0].verdict == verdict


def test_an_interval_with_a_confidence_is_read_as_one_for_costs_too() -> None:
    sure = Estimate(value=1e-6, low=0.5e-6, high=1e-6, confidence=0.9)  # nothing above it
    tail = replace(sure, confidence=None, basis="third best")
    widths = [
        compare(made(costs=(cost("c", each),)), made(costs=(cost("c", each),))).changes[0].ratio.high
        for each in (sure, tail)
    ]
    assert widths[0] > 1.5
    assert widths[1] < 1.5


def test_an_unsettled_row_whose_typical_rate_is_unknown_gets_no_verdict() -> None:
    slow = replace(ceiling(converged=False, rounds=8), rate=exactly(0.5e9))
    assert compare(made(ceilings=(ceiling(),)), made(ceilings=(slow,))).changes[0].verdict == "unresolved"
