"""How much slower a row, or a kind of rows, must be before a comparison says so."""

from __future__ import annotations

from typing import Any

import pytest

from microbench.analysis.compare import compare
from microbench.records import Ceiling, Characterisation, Cost, Device, Estimate

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
    [("compute", 0.013, 0.025), ("memory", 0.035, 0.06), ("link", 0.035, 0.06), ("cost", 0.09, 0.14)],
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
    [("compute", 0.02, 0.03), ("memory", 0.06, 0.09), ("link", 0.06, 0.09), ("cost", 0.15, 0.25)],
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


@pytest.mark.parametrize(("rounds", "verdict"), [(2, "same"), (3, "slower")])
def test_a_row_that_did_not_settle_in_three_rounds_gets_no_verdict_however_slow(rounds: int, verdict: str) -> None:
    assert compare(unsettled(1e9, 8), unsettled(0.5e9, rounds)).changes[0].verdict == verdict
    assert compare(unsettled(1e9, rounds), unsettled(0.5e9, 8)).changes[0].verdict == verdict
