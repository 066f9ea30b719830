from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest

import microbench as mb
from microbench.operators import op
from microbench.operators.capture import Graph, Step
from microbench.predict.fit import fit
from microbench.predict.model import predict_model
from microbench.records import Characterisation

HOT, COLD = 2e-6, 3e-5
STEPS = 10


@pytest.fixture(scope="module")
def calibration() -> Characterisation:
    """An elementwise operator of 2 us hot and 30 us cold, whatever its size."""
    rows = [
        f"relu,f32,size={2**place},{seconds},{cache}"
        for place in range(3, 15)
        for seconds, cache in ((HOT, "hot"), (COLD, "cold"))
    ]
    made = fit(io.StringIO("op,dtype,params,seconds,cache\n" + "\n".join(rows)))
    device = replace(made.device, kind="cpu")
    return replace(
        made, device=device, fits=replace(made.fits, reuse={"half_bytes": 1e6, "power": 1.0, "cold_bytes": 1e9})
    )


def _graph(peak_bytes: int) -> Graph:
    steps = tuple(Step(op=op("relu", size=1024), phase="forward", aten="relu") for _ in range(STEPS))
    return Graph(
        name="made up", steps=steps, batch=1, parameters=0, parameter_bytes=0, peak_bytes=peak_bytes, mean_bytes=0.0
    )


@pytest.mark.parametrize(("peak_bytes", "each"), [(1, HOT), (10**6, (HOT + COLD) / 2), (10**9, COLD)])
def test_operators_of_a_model_are_as_cold_as_what_it_touches(
    calibration: Characterisation, peak_bytes: int, each: float
) -> None:
    assert predict_model(_graph(peak_bytes), calibration).latency.value == pytest.approx(STEPS * each, rel=0.05)


def test_a_file_without_cold_operators_still_predicts(calibration: Characterisation) -> None:
    bare = replace(calibration, fits=replace(calibration.fits, reuse={}))
    assert predict_model(_graph(10**9), bare).latency.value == pytest.approx(STEPS * HOT, rel=0.05)


def test_the_interval_of_a_model_is_the_largest_error_of_measured_ones(calibration: Characterisation) -> None:
    models = dict(zip("abcdefgh", (0.1, -0.3, 0.0, 0.05, 0.2, 0.1, -0.1, 0.0), strict=True))
    seen = predict_model(_graph(1), replace(calibration, fits=replace(calibration.fits, models=models))).latency
    assert seen.high / seen.value == pytest.approx(math.exp(0.3))
    assert seen.value / seen.low == pytest.approx(math.exp(0.3))
    assert seen.confidence == pytest.approx(8 / 9)
    few = predict_model(_graph(1), replace(calibration, fits=replace(calibration.fits, models={"a": 0.1}))).latency
    assert few.basis is not None
    assert "operators" in few.basis


def test_predict_takes_a_captured_model_as_well_as_operators(calibration: Characterisation) -> None:
    assert mb.predict(_graph(1), calibration).latency == predict_model(_graph(1), calibration).latency
    assert len(mb.predict(_graph(1).operators, calibration)) == STEPS
