"""What calibration makes of a GPU's clocks: rows of the file, fits, findings."""

from __future__ import annotations

import numpy as np

from microbench.operators import op
from microbench.operators.core import parse
from microbench.predict.figures import DeviceFigures
from microbench.predict.operator_timing import Rounds
from microbench.runs.calibrate import by_clock, fitted, timings

FIGURES = DeviceFigures(peak={"bf16": 1e15}, bandwidth=1e12, units=100, kind="cuda", measured=True)


def _rounds(count: int = 30) -> Rounds:
    operators = tuple(op("add", size=round(size), dtype="bf16") for size in np.geomspace(64, 1e8, count))
    kernel = np.array([[2e-6 + made.work.bytes / 1e12] * 3 for made in operators])
    kernel[:, 1] *= 1.4  # a round that something disturbed
    short = kernel < 1e-4
    clocks = {
        "eager": np.where(short, np.maximum(kernel, 8e-6), np.nan),
        "graph": np.where(short, kernel - 5e-7, np.nan),
        "issue": np.full_like(kernel, 8e-6),
        "cold": kernel + 2e-6,
    }
    return Rounds(operators=operators, seconds=kernel, clocks=clocks)


def test_an_operator_stands_by_its_quietest_kernel_and_by_what_its_host_usually_takes() -> None:
    rounds = _rounds()
    found = by_clock(rounds)
    assert np.array_equal(found["kernel"], rounds.seconds[:, 0])
    assert np.array_equal(found["cold"], np.median(rounds.clocks["cold"], axis=1))
    assert np.isnan(found["graph"][-1])
    assert found["graph"][0] == rounds.clocks["graph"][0, 0]


def test_every_clock_is_a_row_of_the_file() -> None:
    rows = timings(_rounds())
    kinds = {(row.launch, row.cache) for row in rows}
    assert kinds == {("kernel", "hot"), ("kernel", "cold"), ("graph", "hot"), ("issue", "hot"), ("eager", "hot")}
    assert all(parse(f"{row.op}[{row.params}].{row.dtype}").name == "add" for row in rows)


def test_a_gpus_rounds_are_fitted_by_clock_and_keep_the_host_apart() -> None:
    found = fitted(_rounds(), FIGURES)
    assert {fit.cache for fit in found.fits} == {"hot", "cold"}
    assert all(fit.issue_s["add"] == (8e-6, 8e-6, 8e-6) for fit in found.fits)
    assert all(set(fit.cost_s) == {"kernel", "graph"} for fit in found.fits)
    assert found.reuse == {}
