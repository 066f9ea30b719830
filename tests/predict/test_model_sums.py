"""What operators of a model add up to: one after another on a processor, beside the host that issues them on a GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from microbench.operators import op
from microbench.operators.graph import Graph, Part, Step
from microbench.predict.model import ModelTime, predict_model
from microbench.records import MODULE_COST, Ceiling, Characterisation, Cost, Device, Estimate, Fits, OperatorFit

LAUNCH = 1e-5
STEPS = 10


def exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def gpu(kind: str = "cuda", *costs: Cost) -> Characterisation:
    """100 GB/s and 10 us a launch, without a fit of any operator."""
    return Characterisation(
        schema="1.0",
        device=Device(id="0", kind=kind, name="made up", arch="none"),
        environment=None,
        plan=None,
        ceilings=(
            Ceiling(name="fma.f32", measures="compute", backend="cuda", rate=exactly(1e12), case="a", dtype="f32"),
            Ceiling(name="read", measures="memory", backend="cuda", rate=exactly(1e11), case="b", level="DRAM"),
        ),
        costs=(Cost(name="launch.eager", seconds=exactly(LAUNCH)), *costs),
    )


def model(size: int, calibration: Characterisation, steps: int = STEPS, modules: int = 0) -> ModelTime:
    """So many relus of 8 bytes an element, one after another, on a batch of 4."""
    each = Step(op=op("relu", size=size), phase="forward", aten="relu")
    graph = Graph(
        name="made up",
        steps=(each,) * steps,
        batch=4,
        parameters=0,
        parameter_bytes=10**9,
        peak_bytes=1,
        mean_bytes=0.0,
        parts=(Part(path="", kind="Sequential", parameters=0, calls=modules),),
    )
    return predict_model(graph, calibration)


def test_a_model_of_small_operators_takes_what_the_host_needs_to_issue_them_and_one_launch() -> None:
    assert model(1, gpu()).latency.value == pytest.approx((STEPS + 1) * LAUNCH)
    assert model(1, gpu()).launch_share == pytest.approx(STEPS / (STEPS + 1))


def test_a_model_of_large_operators_takes_what_the_device_works_and_one_launch() -> None:
    worked = STEPS * 8e6 / 1e11
    assert model(10**6, gpu()).latency.value == pytest.approx(worked + LAUNCH)


def test_on_a_processor_costs_and_work_add_up() -> None:
    found = model(10**6, gpu("cpu"))
    assert found.latency.value == pytest.approx(STEPS * (8e6 / 1e11 + LAUNCH))
    assert found.samples_per_s == pytest.approx(4 / found.latency.value)


def test_a_processor_pays_for_each_module_that_is_called_and_not_for_each_operator() -> None:
    calibration = gpu("cpu", Cost(name=MODULE_COST, seconds=exactly(3e-6)))
    plain, wrapped = model(1, gpu("cpu")), model(1, calibration, modules=3)
    assert wrapped.latency.value - plain.latency.value == pytest.approx(3 * 3e-6)
    assert model(1, calibration).latency.value == pytest.approx(plain.latency.value)


def test_a_model_says_its_share_of_the_ceilings_and_how_long_weights_take_to_load() -> None:
    found = model(10**6, gpu("cpu"))
    assert found.memory_share == pytest.approx(STEPS * 8e6 / found.latency.value / 1e11)
    assert found.load_s == pytest.approx(1e9 / 1e11)
    assert found.ridge == {"f32": pytest.approx(10.0)}


def test_without_measured_models_the_interval_is_the_sum_of_those_of_operators() -> None:
    found = model(10**6, gpu("cpu"))
    assert found.latency.low == pytest.approx(0.7 * found.latency.value)
    assert found.latency.high == pytest.approx(5 * found.latency.value)


@pytest.mark.parametrize(
    ("models", "basis"), [(4, "sums of the operators' lows and highs"), (5, "the largest error of 5 measured models")]
)
def test_five_measured_models_make_an_interval(models: int, basis: str) -> None:
    calibration = gpu("cpu")
    errors = {str(i): 0.1 for i in range(models)}
    found = model(1, replace(calibration, fits=replace(calibration.fits, models=errors)))
    assert found.latency.basis == basis


def test_weights_that_no_cache_holds_between_two_uses_are_read_from_memory() -> None:
    made = OperatorFit(
        family="linear",
        dtype="f32",
        rows=40,
        cost_s={"eager": 1e-9},
        terms={"peak": 1e15, "bandwidth": 1e10, "sharpness": 50.0, "capacity.0": 1e8, "ratio.0": 10.0},
        quantile=1.0,
    )
    calibration = replace(gpu("cpu"), fits=Fits(operators=(made,)))
    step = Step(op=op("linear", m=1, n=512, k=512), phase="forward", aten="linear")

    def latency(parameter_bytes: int) -> float:
        graph = Graph(
            name="made up",
            steps=(step,),
            batch=1,
            parameters=0,
            parameter_bytes=parameter_bytes,
            peak_bytes=1,
            mean_bytes=0.0,
        )
        return predict_model(graph, calibration).latency.value

    weights = 512 * 512 * 4
    assert latency(10**6) == pytest.approx(weights / 1e11, rel=0.1)
    assert latency(10**10) == pytest.approx(weights / 1e10, rel=0.1)
