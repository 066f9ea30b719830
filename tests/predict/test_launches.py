"""What a fit of a GPU's clocks says of eager code, of graphs, of kernels, and of whole models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import microbench as mb
from microbench.errors import UsageError
from microbench.operators import op
from microbench.operators.core import Launch
from microbench.operators.graph import Graph, Part, Step
from microbench.predict.figures import DeviceFigures
from microbench.predict.fit_clocks import fit_clocks
from microbench.predict.model import predict_model
from microbench.records import Characterisation, Cost, Device, Estimate, Fits
from microbench.storage import store

# An invented GPU: a kernel takes 2 us and its bytes at 1 TB/s, half a microsecond less in a graph and 3 us more after
# everything left the caches; the host issues one in 9 us.
START, RATE, GRAPH, COLD, ISSUE = 2e-6, 1e12, 0.5e-6, 3e-6, 9e-6
ROUND_TRIP = 2e-5
SIZES = [int(size) for size in np.geomspace(64, 1e9, 40)]


@pytest.fixture(scope="module")
def calibration() -> Characterisation:
    operators = [op("relu", size=size, dtype="bf16") for size in SIZES]
    kernel = np.array([START + made.work.bytes / RATE for made in operators])
    clocks = {
        "kernel": kernel,
        "graph": np.where(kernel < 1e-4, kernel - GRAPH, np.nan),
        "issue": np.full(len(kernel), ISSUE),
        "cold": kernel + COLD,
    }
    figures = DeviceFigures(peak={"bf16": 1e15}, bandwidth=RATE, units=100, caches=((1e3, RATE),), kind="cuda")
    fits, _ = fit_clocks(operators, clocks, figures)
    round_trip = Estimate(value=ROUND_TRIP, low=ROUND_TRIP, high=ROUND_TRIP, basis="made up")
    return Characterisation(
        schema=store.SCHEMA,
        device=Device(id="made up", kind="cuda", name="invented", arch="sm_90"),
        environment=None,
        plan=None,
        costs=(Cost(name="launch.round_trip", seconds=round_trip),),
        fits=Fits(operators=fits),
    )


def _seconds(calibration: Characterisation, size: int, launch: Launch, cache: str = "hot") -> float:
    asked = op("relu", size=size, dtype="bf16", launch=launch, cache=cache)
    return mb.predict(asked, calibration)[0].seconds.value


@pytest.mark.parametrize("size", [1000, 300_000, 40_000_000])
def test_each_launch_mode_has_its_own_time(calibration: Characterisation, size: int) -> None:
    kernel = START + 4 * size / RATE
    assert _seconds(calibration, size, "kernel") == pytest.approx(kernel, rel=0.04)
    assert _seconds(calibration, size, "graph") == pytest.approx(kernel - GRAPH, rel=0.06)
    assert _seconds(calibration, size, "eager") == pytest.approx(max(kernel, ISSUE), rel=0.04)
    assert _seconds(calibration, size, "kernel", "cold") == pytest.approx(kernel + COLD, rel=0.08)


def test_what_the_host_is_waited_for_is_limited_by_cost(calibration: Characterisation) -> None:
    short, long = (mb.predict(op("relu", size=size, dtype="bf16"), calibration)[0] for size in (100, 1_000_000_000))
    assert (short.limiter, long.bound) == ("cost", "memory")


def test_a_launch_given_for_all_takes_the_place_of_each_ones_own(calibration: Characterisation) -> None:
    expression = "relu:size=1000,dtype=bf16,launch=eager"
    (found,) = mb.predict(expression, calibration, launch="kernel")
    assert found.seconds.value == pytest.approx(_seconds(calibration, 1000, "kernel"))
    with pytest.raises(UsageError, match="launch is 'soon'"):
        mb.predict(expression, calibration, launch="soon")  # type: ignore[call-overload]


def test_f16_moves_bytes_as_bf16_does_and_says_so(calibration: Characterisation) -> None:
    (found,) = mb.predict(op("relu", size=1_000_000, dtype="f16", launch="kernel"), calibration)
    assert found.seconds.value == pytest.approx(_seconds(calibration, 1_000_000, "kernel"))


def _model(size: int, steps: int) -> Graph:
    step = Step(op=op("relu", size=size, dtype="bf16"), phase="forward", aten="relu")
    return Graph(
        name="made up", steps=(step,) * steps, batch=1, parameters=0, parameter_bytes=0, peak_bytes=0, mean_bytes=0.0
    )


def test_a_model_of_short_kernels_takes_what_the_host_takes(calibration: Characterisation) -> None:
    found = predict_model(_model(1000, 100), calibration)
    assert found.issue_s == pytest.approx(100 * ISSUE, rel=0.01)
    assert found.device_s is not None
    assert found.device_s < 0.4 * found.issue_s
    assert found.latency.value == pytest.approx(100 * ISSUE + ROUND_TRIP, rel=0.01)
    assert found.launch_share > 0.9


def test_a_model_of_long_kernels_takes_what_the_device_takes(calibration: Characterisation) -> None:
    found = predict_model(_model(10_000_000, 100), calibration)
    assert found.device_s is not None
    assert found.latency.value == pytest.approx(found.device_s + ROUND_TRIP, rel=1e-6)
    assert found.latency.value == pytest.approx(100 * (START + 4e7 / RATE) + ROUND_TRIP, rel=0.05)


def test_modules_are_the_hosts_time(calibration: Characterisation) -> None:
    module = Cost(name="module.eager", seconds=Estimate(value=5e-6, low=5e-6, high=5e-6, basis="made up"))
    called = (Part(path="", kind="Sequential", parameters=0, calls=100),)
    model = replace(_model(1000, 100), parts=called)
    slower = predict_model(model, replace(calibration, costs=(*calibration.costs, module)))
    assert slower.issue_s == pytest.approx(100 * (ISSUE + 5e-6), rel=0.01)


def test_a_model_in_a_graph_is_issued_once_and_its_kernels_alone_never(calibration: Characterisation) -> None:
    kernels, graph = (predict_model(_model(1000, 100), calibration, how) for how in ("kernel", "graph"))
    assert graph.issue_s is None
    assert kernels.latency.value == pytest.approx(100 * START, rel=0.05)
    assert graph.latency.value == pytest.approx(100 * (START - GRAPH) + ROUND_TRIP, rel=0.06)


def test_launches_survive_the_file(calibration: Characterisation) -> None:
    again = store.loads(store.dumps(calibration))
    assert again.fits.operators == calibration.fits.operators
    assert again.fits.operators[0].issue_s["relu"][0] == pytest.approx(ISSUE)
