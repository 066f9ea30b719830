"""How much slower a row, or a kind of rows, must be before a comparison says so."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from microbench.analysis.compare import compare
from microbench.analysis.compare_limits import exceeded, parse_limits
from microbench.analysis.compare_noise import scatter
from microbench.records import Ceiling, Characterisation, Cost, Device, Estimate, Finding

DEVICE = Device(id="aaaaaaaaaa", kind="cpu", name="Fake CPU", arch="fake")
FACTS: dict[str, dict[str, Any]] = {
    "compute": {"measures": "compute", "dtype": "f32"},
    "memory": {"measures": "memory", "level": "DRAM", "access": "read"},
    "link": {"measures": "link", "level": "host", "access": "copy"},
}


def exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def device(kind: str, speed: float, rows: int) -> Characterisation:
    """Rows of one kind, known exactly, all at this share of their speed."""
    ceilings: tuple[Ceiling, ...] = ()
    costs: tuple[Cost, ...] = ()
    if kind == "cost":
        costs = tuple(Cost(name=f"c{i}", seconds=exactly(1e-6 * (i + 1) / speed)) for i in range(rows))
    else:
        ceilings = tuple(
            Ceiling(
                name=f"c{i}",
                backend="native",
                case=f"c{i}",
                rate=exactly(1e9 * (i + 1) * speed),
                converged=True,
                **FACTS[kind],
            )
            for i in range(rows)
        )
    return Characterisation(schema="1.0", device=DEVICE, environment=None, plan=None, ceilings=ceilings, costs=costs)


# Twice the tolerance at which rounds of one run agree, and for single rows what rows repeat to on top.
@pytest.mark.parametrize(
    ("kind", "within", "beyond"),
    [("compute", 0.013, 0.025), ("memory", 0.05, 0.1), ("link", 0.05, 0.1), ("cost", 0.05, 0.3)],
)
def test_what_hits_all_rows_alike_between_two_runs_is_no_loss_of_the_kind(
    kind: str, within: float, beyond: float
) -> None:
    verdicts = [
        compare(device(kind, 1.0, 50), device(kind, 1 - lost, 50)).groups[0].verdict for lost in (within, beyond)
    ]
    assert verdicts == ["same", "slower"]


@pytest.mark.parametrize(
    ("kind", "within", "beyond"),
    [("compute", 0.02, 0.03), ("memory", 0.08, 0.12), ("link", 0.08, 0.12), ("cost", 0.03, 0.4)],
)
def test_a_single_row_may_lose_what_rows_never_repeat_better_than(kind: str, within: float, beyond: float) -> None:
    verdicts = [
        compare(device(kind, 1.0, 1), device(kind, 1 - lost, 1)).changes[0].verdict for lost in (within, beyond)
    ]
    assert verdicts == ["same", "slower"]


def unsettled(rate: float, rounds: int) -> Characterisation:
    row = Ceiling(
        name="a",
        backend="native",
        case="a",
        rate=exactly(rate),
        typical=exactly(0.99 * rate),
        rounds=rounds,
        **FACTS["compute"],
    )
    return Characterisation(schema="1.0", device=DEVICE, environment=None, plan=None, ceilings=(row,))


@pytest.mark.parametrize(("rounds", "verdict"), [(2, "unresolved"), (3, "slower")])
def test_a_row_that_did_not_settle_in_three_rounds_gets_no_verdict_however_slow(rounds: int, verdict: str) -> None:
    assert compare(unsettled(1e9, 8), unsettled(0.5e9, rounds)).changes[0].verdict == verdict
    assert compare(unsettled(1e9, rounds), unsettled(0.5e9, 8)).changes[0].verdict == verdict


def test_a_ratio_is_told_with_its_group_in_the_order_of_loss() -> None:
    old, new = (replace(device("compute", 1.0, 2), ceilings=rows) for rows in (pair(1.0, 1.0), pair(1.1, 0.8)))
    found = compare(old, new)
    assert [(change.name, change.verdict, round(change.ratio.value, 3)) for change in found.changes] == [
        ("c1 x1", "slower", 0.8),
        ("c0 x1", "faster", 1.1),
    ]
    assert found.groups[0].rows == 2
    assert found.groups[0].ratio.value == pytest.approx((1.1 * 0.8) ** 0.5)


def pair(*speeds: float) -> tuple[Ceiling, ...]:
    return tuple(
        replace(row, rate=exactly(row.rate.value * speed))
        for row, speed in zip(device("compute", 1.0, 2).ceilings, speeds, strict=True)
    )


def test_noise_that_a_row_admits_itself_widens_its_interval() -> None:
    row = device("compute", 1.0, 1).ceilings[0]
    loose = replace(row, rate=Estimate(value=1e9, low=0.9e9, high=1e9))
    quiet, noisy = (
        compare(*(replace(device("compute", 1.0, 1), ceilings=(each,)) for each in (one, row))).changes[0].ratio
        for one in (row, loose)
    )
    assert math.log(quiet.high) == pytest.approx(1.96 * 0.003 * math.sqrt(2) + 2 * 0.007, rel=1e-3)
    assert math.log(noisy.high) == pytest.approx(1.96 * -math.log(0.9) / 1.5 + 2 * 0.007, rel=1e-3)


def test_noise_that_a_cost_admits_lies_above_it() -> None:
    def cost(high: float) -> Characterisation:
        made = (Cost(name="c", seconds=Estimate(value=1e-6, low=1e-6, high=high)),)
        return replace(device("cost", 1.0, 1), costs=made)

    ratio = compare(cost(1e-6), cost(1.5e-6)).changes[0].ratio
    assert math.log(ratio.high) == pytest.approx(1.96 * math.log(1.5) / 1.5 + 2 * 0.05, rel=1e-3)


def test_seven_rows_say_nothing_of_how_rows_scatter_and_eight_do() -> None:
    seven = [0.0, 0.1, -0.1, 0.1, -0.1, 0.1, -0.1]
    assert scatter(seven, "memory") == pytest.approx(0.03 * math.sqrt(2))
    assert scatter([*seven, 0.0], "memory") == pytest.approx(1.4826 * 0.1)
    assert scatter([0.0] * 8, "memory") == pytest.approx(0.03 * math.sqrt(2))


def test_a_cost_of_nothing_is_no_row() -> None:
    nothing = Cost(name="free", seconds=exactly(0.0))
    old, new = (replace(device("cost", 1.0, 2), costs=(*device("cost", 1.0, 2).costs, nothing)) for _ in range(2))
    assert [change.name for change in compare(old, new).changes] == ["c0", "c1"]


def test_of_two_rows_of_one_kind_and_name_the_first_counts() -> None:
    old = device("compute", 1.0, 1)
    twice = replace(old, ceilings=(*old.ceilings, replace(old.ceilings[0], rate=exactly(5e9))))
    assert compare(old, twice).changes[0].verdict == "same"


def test_only_warnings_about_a_row_take_its_verdict_away() -> None:
    old, new = device("compute", 1.0, 1), device("compute", 0.5, 1)

    def told(severity: str, case: str | None = "c0") -> str:
        finding = Finding(code="x", severity=severity, says="x", case=case)  # type: ignore[arg-type]
        verdicts = {
            compare(replace(old, findings=(finding,)), new).changes[0].verdict,
            compare(old, replace(new, findings=(finding,))).changes[0].verdict,
        }
        assert len(verdicts) == 1
        return verdicts.pop()

    assert (told("info"), told("warning"), told("error"), told("warning", None)) == (
        "slower",
        "unresolved",
        "unresolved",
        "slower",
    )


@pytest.mark.parametrize(("limit", "codes"), [(0.04, {"slower", "slower-overall"}), (0.06, set())])
def test_a_limit_is_exceeded_by_a_loss_that_is_larger_and_sure(limit: float, codes: set[str]) -> None:
    found = exceeded(compare(device("compute", 1.0, 9), device("compute", 0.95, 9)), {"compute": limit})
    assert {finding.code for finding in found} == codes
    assert all("5.0 % slower (between" in finding.says for finding in found)


def test_a_gain_exceeds_no_limit_nor_does_what_may_be_chance() -> None:
    assert exceeded(compare(device("compute", 1.0, 9), device("compute", 1.5, 9)), {"compute": 0.0}) == ()
    assert exceeded(compare(device("compute", 1.0, 9), device("compute", 0.99, 9)), {"compute": 0.0}) == ()


@pytest.mark.parametrize(
    ("text", "limit"), [("cost:3%", 0.03), ("link:0.05", 0.05), ("memory:0", 0.0), ("compute:99.9%", 0.999)]
)
def test_a_limit_is_a_share_or_a_percentage(text: str, limit: float) -> None:
    assert parse_limits([text]) == {text.partition(":")[0]: pytest.approx(limit)}


def test_three_of_the_rows_that_did_not_settle_are_named() -> None:
    loose = tuple(replace(row, converged=False) for row in device("compute", 1.0, 5).ceilings)
    old = device("compute", 1.0, 5)
    finding = compare(old, replace(old, ceilings=loose)).findings[0]
    assert finding.code == "unsettled-rows"
    assert finding.says.startswith("5 of 5 rows had not settled")
    assert finding.says.count("x1") == 3
    assert compare(old, old).findings == ()
