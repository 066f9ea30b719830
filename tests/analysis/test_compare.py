from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microbench.analysis.compare import compare
from microbench.analysis.compare_limits import exceeded, parse_limits
from microbench.analysis.compare_noise import interval, scatter, spread, verdict, width
from microbench.errors import UsageError
from microbench.records import Ceiling, Characterisation, Cost, Device, Environment, Estimate, Finding

DEVICE = Device(id="aaaaaaaaaa", kind="cpu", name="Fake CPU", arch="fake")


def ceiling(name: str, rate: float, **facts: Any) -> Ceiling:
    defaults: dict[str, Any] = {
        "measures": "compute",
        "backend": "native",
        "case": name,
        "converged": True,
        "dtype": "f32",
    }
    return Ceiling(
        name=name, rate=Estimate(value=rate, low=rate * 0.998, high=rate * 1.01, basis="fake"), **{**defaults, **facts}
    )


def device(*ceilings: Ceiling, costs: tuple[Cost, ...] = (), **facts: Any) -> Characterisation:
    return Characterisation(
        schema="1.0", device=replace(DEVICE, **facts), environment=None, plan=None, ceilings=ceilings, costs=costs
    )


def run_of(
    truth: list[tuple[str, str, float]], generator: np.random.Generator, *, common: float, each: float
) -> Characterisation:
    """One simulated run: a factor for all rows of a kind, one for each row, and eight rounds of one-sided noise."""
    shift = {
        kind: math.exp(generator.normal(0, common * (1 if kind == "compute" else 2))) for kind in ("compute", "memory")
    }
    rows = []
    for name, kind, rate in truth:
        own = math.exp(generator.normal(0, each * (1 if kind == "compute" else 2)))
        rounds = sorted(rate * shift[kind] * own * np.exp(-generator.exponential(0.002, size=8)), reverse=True)
        measured = Estimate(value=rounds[0], low=rounds[2], high=rounds[0] * 1.001, basis="simulated")
        memory = {"measures": "memory", "level": "DRAM", "access": "read"} if kind == "memory" else {}
        rows.append(replace(ceiling(name, rate, **memory), rate=measured))
    return device(*rows)


TRUTH = [(f"fma{i}", "compute", 1e9 * (i + 1)) for i in range(60)] + [
    (f"read{i}", "memory", 1e9 * (i + 1)) for i in range(40)
]


def test_a_device_compared_with_itself_is_rarely_slower() -> None:
    generator = np.random.default_rng(7)
    runs = [run_of(TRUTH, generator, common=0.004, each=0.003) for _ in range(120)]
    slower = [
        any(c.verdict == "slower" for c in compare(a, b).changes) for a, b in zip(runs[::2], runs[1::2], strict=True)
    ]
    assert sum(slower) <= 4  # of 60 comparisons of 100 rows each


def test_it_stays_rare_where_rows_scatter_more_than_usual() -> None:
    generator = np.random.default_rng(8)
    runs = [run_of(TRUTH, generator, common=0.004, each=0.02) for _ in range(120)]
    slower = [
        any(c.verdict == "slower" for c in compare(a, b).changes) for a, b in zip(runs[::2], runs[1::2], strict=True)
    ]
    assert sum(slower) <= 6


def test_one_row_that_lost_a_tenth_is_found_and_no_other() -> None:
    generator = np.random.default_rng(9)
    old = run_of(TRUTH, generator, common=0.002, each=0.003)
    worse = [(name, kind, rate * (0.9 if name == "fma5" else 1)) for name, kind, rate in TRUTH]
    result = compare(old, run_of(worse, generator, common=0.002, each=0.003))
    assert [change.name for change in result.changes if change.verdict == "slower"] == ["fma5 x1"]
    assert result.changes[0].ratio.low < 0.9 < result.changes[0].ratio.high


def test_a_loss_common_to_all_rows_is_found() -> None:
    generator = np.random.default_rng(10)
    worse = [(name, kind, rate * (0.95 if kind == "compute" else 1)) for name, kind, rate in TRUTH]
    old, new = run_of(TRUTH, generator, common=0, each=0.002), run_of(worse, generator, common=0, each=0.002)
    groups = {group.name: group for group in compare(old, new).groups}
    assert groups["compute"].verdict == "slower"
    assert groups["compute"].ratio.value == pytest.approx(0.95, abs=0.003)
    assert groups["DRAM"].verdict == "same"
    assert {finding.code for finding in exceeded(compare(old, new), {"compute": 0.03, "memory": 0.05})} == {
        "slower",
        "slower-overall",
    }
    assert exceeded(compare(old, new), {"compute": 0.2}) == ()


def test_identical_files_have_ratio_one() -> None:
    one = device(
        ceiling("a", 1e9),
        ceiling("b", 2e9),
        costs=(Cost(name="launch", seconds=Estimate(value=1e-6, low=1e-6, high=1.1e-6)),),
    )
    result = compare(one, one)
    assert {change.ratio.value for change in result.changes} == {1.0}
    assert {change.verdict for change in result.changes} == {"same"}
    assert result.findings == ()


def test_a_cost_that_doubled_is_half_the_speed() -> None:
    def with_cost(seconds: float) -> Characterisation:
        return device(
            costs=(
                Cost(
                    name="latency",
                    level="L2",
                    seconds=Estimate(value=seconds, low=seconds, high=seconds * 1.01, basis="x"),
                ),
            )
        )

    change = compare(with_cost(5e-9), with_cost(10e-9)).changes[0]
    assert change.ratio.value == pytest.approx(0.5)
    assert change.verdict == "slower"


def test_rows_in_one_file_only_are_named() -> None:
    result = compare(
        device(ceiling("a", 1e9), ceiling("gone", 1e9)), device(ceiling("a", 1e9), ceiling("new", 1e9, threads=4))
    )
    assert (result.missing, result.added) == (("gone x1",), ("new x4",))


def test_rows_that_differ_in_threads_or_mode_are_not_matched() -> None:
    result = compare(
        device(ceiling("a", 1e9), ceiling("b", 1e9)), device(ceiling("a", 1e9), ceiling("b", 5e9, threads=2))
    )
    assert [(change.name, change.verdict) for change in result.changes] == [("b x1", "missing"), ("a x1", "same")]


def test_another_device_is_said_aloud() -> None:
    result = compare(device(ceiling("a", 1e9)), device(ceiling("a", 1e9), id="bbbbbbbbbb"))
    assert not result.same_device
    assert "another device of the same name" in result.findings[0].says


def test_an_unsettled_row_gets_no_verdict() -> None:
    result = compare(device(ceiling("a", 1e9)), device(ceiling("a", 0.5e9, converged=False)))
    assert result.changes[0].verdict == "unresolved"
    assert result.findings[0].code == "unsettled-rows"


def test_a_ceiling_that_did_not_converge_is_compared_where_its_best_rounds_agree_as_far_as_that_needs() -> None:
    def stream(rate: float, low: float, typical: float) -> Characterisation:
        row = ceiling("a", rate, measures="memory", level="DRAM", access="read", converged=False, rounds=8)
        usual = Estimate(value=typical * rate, low=typical * rate, high=typical * rate, confidence=0.9)
        return device(replace(row, typical=usual, rate=Estimate(value=rate, low=low * rate, high=rate)))

    old = stream(1e9, 0.95, 0.9)
    assert compare(old, stream(0.5e9, 0.95, 0.9)).changes[0].verdict == "slower"
    assert compare(old, stream(0.5e9, 0.95, 0.3)).changes[0].verdict == "unresolved"
    assert compare(old, stream(0.5e9, 0.8, 0.9)).changes[0].verdict == "unresolved"


def test_a_row_that_the_run_itself_doubts_gets_no_verdict() -> None:
    doubt = Finding(code="threads-slower", severity="warning", says="slower with two threads", case="a")
    new = replace(device(ceiling("a", 0.5e9)), findings=(doubt,))
    change = compare(device(ceiling("a", 1e9)), new).changes[0]
    assert (change.verdict, change.why) == ("unresolved", "new: threads-slower in its own run")


def test_a_changed_environment_is_named() -> None:
    def at(governor: str, version: str) -> Characterisation:
        environment = Environment(
            started="2026-11-21T22:04:00Z", seconds=1.0, microbench=version, facts={"governor": governor}
        )
        return replace(device(ceiling("a", 1e9)), environment=environment)

    codes = {
        finding.code: finding.says for finding in compare(at("powersave", "0.1"), at("performance", "0.2")).findings
    }
    assert codes["different-environment"] == "the environment changed: governor: powersave -> performance"
    assert "different-version" in codes


def test_files_with_nothing_in_common_are_refused() -> None:
    with pytest.raises(UsageError, match="no ceiling or cost in common"):
        compare(device(ceiling("a", 1e9)), device(ceiling("b", 1e9)))


def test_a_limit_on_rows_that_are_not_there_fails_rather_than_passes() -> None:
    result = compare(device(ceiling("a", 1e9)), device(ceiling("a", 1e9)))
    assert [finding.code for finding in exceeded(result, {"memory": 0.05})] == ["limit-unused"]


@pytest.mark.parametrize(
    "text", ["compute", "speed:3%", "compute:", "compute:-1%", "compute:100%", "compute:nan", "compute:3%%", ":"]
)
def test_a_limit_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--fail-if"):
        parse_limits([text])


def test_a_limit_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="twice"):
        parse_limits(["compute:3%", "compute:4%"])


def test_spread_reads_an_envelope_and_a_confidence_interval() -> None:
    assert spread(Estimate(value=100, low=97, high=100, basis="third best")) == pytest.approx(-math.log(0.97) / 1.5)
    # 1.645 standard deviations make a 90 % interval
    wide = Estimate(value=1, low=math.exp(-0.1645), high=math.exp(0.1645), confidence=0.9)
    assert spread(wide) == pytest.approx(0.1, rel=1e-3)
    assert spread(Estimate(value=5, low=5, high=5)) == 0


def test_scatter_is_not_moved_by_a_few_real_changes() -> None:
    generator = np.random.default_rng(3)
    quiet = list(generator.normal(0, 0.02, size=100))
    assert scatter(quiet, "compute") == pytest.approx(0.02, rel=0.3)
    assert scatter([*quiet[:90], *[-0.5] * 10], "compute") == pytest.approx(0.02, rel=0.4)


@given(st.floats(0.01, 100), st.floats(0.0, 0.2), st.integers(1, 500))
def test_interval_holds_its_value_and_widens_with_the_rows_looked_at(ratio: float, sd: float, rows: int) -> None:
    few, many = (interval(math.log(ratio), width(sd, count)) for count in (1, rows))
    assert many.low <= few.low <= few.value <= few.high <= many.high
    assert verdict(few, "compute") in ("slower", "faster", "same", "unresolved")
