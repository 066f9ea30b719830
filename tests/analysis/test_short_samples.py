"""No sample shorter than half of what it should last is distilled, and no clock from such a reference clock.

The files are parts of runs on a two-core Zen 3 guest whose host was busy: one on which 33 of 111 loops had been
calibrated while something held them up, and one beside a process that spun on one core.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from places import DATA

from microbench.analysis.ceilings import Analysis, analyse
from microbench.analysis.plausibility import doubts
from microbench.hardware.clock import distillable, sample_target_s
from microbench.records import Characterisation, Samples
from microbench.storage.store import load

FILES = ("zen3_short_samples.json", "zen3_spinner_samples.json")


def recorded(name: str) -> Characterisation:
    """A recorded run; its version did not store how long its samples should last, so that is filled in."""
    made = load(DATA / name)
    assert made.plan is not None
    sheets, budget = {sheet.name: sheet for sheet in made.sheets}, made.plan.budget
    cases = {case.key: case for case in made.plan.cases}
    samples = []
    for each in made.samples:
        case = cases[each.case]
        seconds = sample_target_s(case, sheets[case.kernel], budget, clocked=bool(each.reference_ns))
        samples.append(replace(each, target_ns=round(seconds * 1e9)))
    return replace(made, samples=tuple(samples))


def analysed(made: Characterisation) -> Analysis:
    assert made.plan is not None
    return analyse(made.samples, made.plan, {sheet.name: sheet for sheet in made.sheets}, made.device)


def shortest_ns(samples: Samples) -> int:
    assert samples.target_ns is not None
    return samples.target_ns // 2


@pytest.mark.parametrize("name", FILES)
def test_the_recorded_runs_hold_samples_that_are_too_short(name: str) -> None:
    assert any(min(each.ns) < shortest_ns(each) for each in recorded(name).samples)


def test_one_of_the_recorded_runs_holds_reference_clocks_that_are_too_short() -> None:
    samples = recorded("zen3_short_samples.json").samples
    assert any(each.reference_ns and min(each.reference_ns) < shortest_ns(each) for each in samples)


@pytest.mark.parametrize("name", FILES)
def test_no_ceiling_of_a_recorded_run_is_made_of_a_short_sample(name: str) -> None:
    made = recorded(name)
    for ceiling in analysed(made).ceilings:
        work = next(sheet.work for sheet in made.sheets if sheet.name == ceiling.kernel)
        each = work.flop if ceiling.measures == "compute" else work.bytes
        rates = [
            each * ceiling.threads * burst.iterations * 1e9 / ns
            for burst in made.samples
            if burst.case == ceiling.case and min(burst.ns) >= shortest_ns(burst)
            for ns in burst.ns
        ]
        assert any(rate == pytest.approx(ceiling.rate.value) for rate in rates)


@pytest.mark.parametrize("name", FILES)
def test_no_share_of_a_recorded_run_is_above_nominal_and_none_far_below(name: str) -> None:
    made = recorded(name)
    found = analysed(made).ceilings
    shares = {c.case: c.rate.value / c.nominal for c in found if c.nominal}
    assert shares
    assert all(0.3 <= share <= 1.01 for share in shares.values()), shares
    assert not [doubt for doubt in doubts(found, made.device) if "nominal" in doubt.finding.code]


def test_without_the_targets_the_spinner_run_reads_far_below_nominal_and_is_doubted() -> None:
    made = recorded("zen3_spinner_samples.json")
    old = replace(made, samples=tuple(replace(each, target_ns=None) for each in made.samples))
    assert "far-below-nominal" in {doubt.finding.code for doubt in doubts(analysed(old).ceilings, made.device)}


def test_a_case_whose_samples_are_all_short_is_named_and_has_no_ceiling() -> None:
    made = recorded("zen3_spinner_samples.json")
    case = "fma.f64.scalar[]@2"
    short = tuple(replace(each, target_ns=max(each.ns) * 3) if each.case == case else each for each in made.samples)
    found = analysed(replace(made, samples=short))
    assert case not in {ceiling.case for ceiling in found.ceilings}
    (told,) = [finding for finding in found.findings if finding.code == "too-short"]
    assert case in told.says


def test_a_ceiling_whose_reference_clocks_were_all_short_stands_without_a_clock_and_is_named() -> None:
    made = recorded("zen3_short_samples.json")
    found = analysed(made)
    unclocked = [c for c in found.ceilings if c.case == "fma.f64.v128[]@2"]
    assert [c.clock_hz for c in unclocked] == [None]
    assert [c.nominal for c in unclocked] == [None]
    assert [finding.code for finding in found.findings if "fma.f64.v128" in finding.says] == ["clock-unknown"]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_a_burst_holds_what_is_distilled_is_long_enough(seed: int) -> None:
    draw = random.Random(seed)

    def lengths() -> tuple[int, ...]:
        return tuple(round(10 ** draw.uniform(1.5, 5.5)) for _ in range(draw.randint(1, 6)))

    facts: dict[str, Any] = {"case": "a", "round": 0, "started_s": 0.0, "iterations": 7}
    ns, reference = lengths(), draw.choice([(), lengths()])
    burst = Samples(ns=ns, count=len(ns), reference_ns=reference, reference_iterations=3, target_ns=50_000, **facts)
    kept = distillable(burst)
    assert (kept is None) == (min(ns) < 25_000)
    if kept is not None:
        assert kept.ns == ns
        assert kept.reference_ns in ((), reference)
        assert not kept.reference_ns or min(kept.reference_ns) >= 25_000
        assert bool(kept.reference_ns) == (bool(reference) and min(reference) >= 25_000)
