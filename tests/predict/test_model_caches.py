"""A model between hot and cold caches, its share of the ceilings, and what of it is unknown."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from microbench.operators import op
from microbench.operators.graph import Graph, Part, Step
from microbench.predict.model import ModelTime, predict_model
from microbench.records import MODULE_COST, Ceiling, Characterisation, Cost, Device, Estimate, Fits, OperatorFit

SIZE, STEPS = 10**6, 10
WORK = 8 * SIZE  # bytes of one relu
HOT, COLD = WORK / 1e11, WORK / 1e10


def exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def fitted(cache: str, bandwidth: float) -> OperatorFit:
    return OperatorFit(
        family="elementwise",
        dtype="f32",
        rows=40,
        cost_s={"eager": 1e-9},
        terms={"peak": 1e15, "bandwidth": bandwidth, "sharpness": 50.0},
        codes=("relu",),
        correction={"noise": 0.1},
        quantile=1.0,
        cache=cache,  # type: ignore[arg-type]
    )


def calibration(**fits: Any) -> Characterisation:
    """100 GB/s where the cache is hot and 10 GB/s where it is cold; half of that is paid after 1 MB of other bytes."""
    known: dict[str, Any] = {
        "operators": (fitted("hot", 1e11), fitted("cold", 1e10)),
        "reuse": {"half_bytes": 1e6, "power": 1.0, "cold_bytes": 1e12},
    }
    return Characterisation(
        schema="1.0",
        device=Device(id="0", kind="cpu", name="made up", arch="none"),
        environment=None,
        plan=None,
        ceilings=(
            Ceiling(name="fma.f32", measures="compute", backend="native", rate=exactly(1e12), case="a", dtype="f32"),
            Ceiling(name="read", measures="memory", backend="native", rate=exactly(2e10), case="b", level="DRAM"),
        ),
        fits=Fits(**{**known, **fits}),
    )


def model(peak_bytes: int, made: Characterisation | None = None, **facts: Any) -> ModelTime:
    step = Step(op=op("relu", size=SIZE), phase="forward", aten="relu")
    known: dict[str, Any] = {
        "parameters": 0,
        "parameter_bytes": 0,
        "peak_bytes": peak_bytes,
        "mean_bytes": 0.0,
        **facts,
    }
    return predict_model(Graph(name="made up", steps=(step,) * STEPS, batch=1, **known), made or calibration())


@pytest.mark.parametrize(("peak_bytes", "share"), [(1, 0.0), (250_000, 0.2), (10**6, 0.5), (10**12, 1.0)])
def test_operators_are_as_cold_as_what_the_model_touches_between_two_uses(peak_bytes: int, share: float) -> None:
    found = model(peak_bytes)
    each = HOT + share * (COLD - HOT)
    assert found.latency.value == pytest.approx(STEPS * each, rel=1e-3)
    assert found.columns.memory_s == pytest.approx([each] * STEPS, rel=1e-3)
    assert found.latency.low < found.latency.value < found.latency.high


def test_without_a_measurement_of_reuse_operators_are_hot() -> None:
    assert model(10**12, calibration(reuse={})).latency.value == pytest.approx(STEPS * HOT, rel=1e-3)


def test_a_model_says_its_share_of_the_peak_and_of_the_bandwidth_and_what_is_cost() -> None:
    found = model(1)
    assert found.compute_share == pytest.approx(STEPS * SIZE / found.latency.value / 1e12)
    assert found.memory_share == pytest.approx(STEPS * WORK / found.latency.value / 2e10)
    cost = (Cost(name=MODULE_COST, seconds=exactly(1e-4)),)
    parts = (Part(path="", kind="Sequential", parameters=0, calls=STEPS),)
    wrapped = model(1, replace(calibration(), costs=cost), parts=parts)
    assert wrapped.latency.value == pytest.approx(STEPS * (HOT + 1e-4), rel=1e-3)
    assert wrapped.launch_share == pytest.approx(STEPS * 1e-4 / wrapped.latency.value, rel=1e-3)


def test_the_largest_error_of_measured_models_is_the_interval_whichever_its_sign() -> None:
    errors = dict(zip("abcde", (0.1, -0.3, 0.0, 0.2, 0.05), strict=True))
    found = model(1, calibration(models=errors)).latency
    assert (found.high / found.value, found.value / found.low) == pytest.approx((math.exp(0.3), math.exp(0.3)))
    assert found.confidence == pytest.approx(5 / 6)


def test_operators_without_a_rule_are_named_the_most_frequent_first_and_eight_at_most() -> None:
    assert {finding.code for finding in model(1).findings} <= {"older-fits"}
    unknown = {f"aten::op{i}": 20 - i for i in range(9)} | {"aten::rare": 1}
    (finding,) = (each for each in model(1, unknown=unknown).findings if each.code == "operators-without-rule")
    assert finding.says.startswith(f"{sum(unknown.values())} operators of made up have no rule")
    assert finding.says.split(": ", 1)[1].startswith("aten::op0 x20, aten::op1 x19")
    assert finding.says.count(" x") == 8
