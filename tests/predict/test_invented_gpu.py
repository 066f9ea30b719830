"""The calibration of an INVENTED GPU, whose law of operator times is known and is not the form of the fits.

The sweep is timed on a virtual clock by the code that times a real one, and graded on fresh shapes whose roofline time
is ten times and a tenth of the median swept.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
from fake_operator_law import FakeLaw
from fake_torch_cuda import GAP_S, GRAPH_GAP_S, FakeTorch

from microbench.operators import Op, table_of
from microbench.operators.core import Cache, Launch
from microbench.operators.gpu_clock import GpuClock
from microbench.predict.figures import DeviceFigures
from microbench.predict.operator import Columns, predict_table
from microbench.predict.operator_clocks import Library, measure_on_gpu
from microbench.predict.operator_timing import Effort, Rounds
from microbench.predict.shape_sampling import Reach, design, reach_of
from microbench.records import Characterisation, Device, Fits, OperatorFit
from microbench.runs.calibrate import fitted
from microbench.storage import store

Floats = npt.NDArray[np.float64]

LAW = FakeLaw()
FIGURES = DeviceFigures(
    peak=LAW.peak,
    bandwidth=LAW.bandwidth,
    units=LAW.sms,
    caches=((50e6, LAW.l2_bandwidth),),
    kind="cuda",
    measured=True,
)
REACH: Reach = reach_of(FIGURES, LAW.memory_bytes, 2.4e-6)
# Time for the rounds of a default run, of the 90 s that operators have in all: fitting needs the rest.
ROUNDS_S = 65.0
# Families that are graded here, in the format that they are mostly run in.
GRADED = ("matmul", "linear", "attention", "elementwise", "normalisation", "softmax", "data movement", "pooling")


def _measured(rows: list[Op]) -> tuple[Rounds, float]:
    """Rounds on the virtual clock, and the seconds that they took there."""
    torch = FakeTorch(LAW)
    clock = GpuClock(torch, "cuda:0", 1 << 28, now=torch.host)
    library = Library(prepare=torch.call_of, settings=lambda _: nullcontext(), clock=clock)
    began = torch.host.now
    with patch.object(time, "monotonic", torch.host):
        rounds = measure_on_gpu(rows, library, Effort(limit_s=0.0, least=3))
    return rounds, torch.host.now - began


def test_the_rounds_of_a_default_sweep_leave_time_to_fit_them() -> None:
    rows = design(1, 0.5, REACH)
    _, seconds = _measured(rows[::10])
    assert 10 * seconds < ROUNDS_S


@dataclass(frozen=True)
class Graded:
    """Fresh rows, what the law says of them by clock, and their roofline time over the median swept of their family."""

    calibration: Characterisation
    rows: list[Op]
    ratio: Floats
    truth: dict[tuple[Launch, Cache], Floats]

    def asked(self, launch: Launch, cache: Cache) -> Columns:
        return predict_table(
            table_of([replace(row, launch=launch, cache=cache) for row in self.rows]), self.calibration
        )


def _hot(made: Op) -> float:
    """The share of an operator's bytes that its last call left in the second cache."""
    return min(1.0, max(0.0, (1.6 * LAW.l2_bytes - made.work.bytes) / (0.8 * LAW.l2_bytes)))


@cache
def graded() -> Graded:
    """Calibrate the invented device and draw the fresh rows, once."""

    def of_these(rows: list[Op]) -> list[Op]:
        return [row for row in rows if row.row.family in GRADED and row.dtype == "bf16"]

    swept = of_these(design(1, 0.5, REACH))
    fits: tuple[OperatorFit, ...] = fitted(_measured(swept)[0], FIGURES).fits
    device = Device(id="made up", kind="cuda", name="invented", arch="sm_90")
    calibration = Characterisation(
        schema=store.SCHEMA, device=device, environment=None, plan=None, fits=Fits(operators=fits)
    )
    seconds = {family: [REACH.seconds(row) for row in swept if row.row.family == family] for family in GRADED}
    fresh = of_these(design(77, 1.5, REACH))
    ratio = np.array([REACH.seconds(row) / np.median(seconds[row.row.family]) for row in fresh])
    far = ((ratio > 7) & (ratio < 14)) | ((ratio > 1 / 14) & (ratio < 1 / 7))
    rows = [row for row, kept in zip(fresh, far, strict=True) if kept]
    kernel = np.array([LAW.seconds(row, _hot(row)) + GAP_S for row in rows])
    issue = np.array([LAW.issue_seconds(row) for row in rows])
    truth: dict[tuple[Launch, Cache], Floats] = {
        ("kernel", "hot"): kernel,
        ("graph", "hot"): kernel - GAP_S + GRAPH_GAP_S,
        ("eager", "hot"): np.maximum(kernel, issue),
        ("kernel", "cold"): np.array([LAW.seconds(row, 0.0) for row in rows]) + GAP_S,
    }
    return Graded(calibration=calibration, rows=rows, ratio=ratio[far], truth=truth)


def _errors(launch: Launch, cache: Cache = "hot") -> tuple[Floats, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Relative errors, what lies inside its interval, and which rows are larger than the median."""
    found = graded()
    columns, truth = found.asked(launch, cache), found.truth[launch, cache]
    inside = (columns.low <= truth) & (truth <= columns.high)
    return np.abs(columns.predicted / truth - 1), inside, found.ratio > 1


@pytest.mark.parametrize("launch", ["kernel", "graph", "eager"])
def test_shapes_ten_times_the_median_are_predicted_within_their_intervals(launch: Launch) -> None:
    error, inside, larger = _errors(launch)
    assert larger.sum() > 60
    assert error[larger].mean() < 0.08
    assert 0.85 <= inside[larger].mean() <= 0.95


@pytest.mark.parametrize(("launch", "most"), [("kernel", 0.12), ("graph", 0.12), ("eager", 0.08)])
def test_shapes_a_tenth_of_the_median_are_predicted_nearly_as_well(launch: Launch, most: float) -> None:
    error, inside, larger = _errors(launch)
    assert (~larger).sum() > 60
    assert error[~larger].mean() < most
    assert 0.8 <= inside[~larger].mean() <= 0.95


def test_both_together_are_covered_as_promised() -> None:
    error, inside, _ = _errors("kernel")
    assert error.mean() < 0.085
    assert 0.85 <= inside.mean() <= 0.95


def test_cold_shapes_are_predicted_and_covered() -> None:
    error, inside, _ = _errors("kernel", "cold")
    assert error.mean() < 0.1
    assert inside.mean() > 0.85
