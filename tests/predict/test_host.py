"""What operators and models pay on a processor beside their work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from microbench.operators import op, table_of
from microbench.operators.graph import Graph, Step
from microbench.predict import predict
from microbench.predict.host import alone_seconds, model_seconds, work_seconds
from tests.predict.test_model_caches import calibration

MIB = 1 << 20
HOST = {
    "mapped_bytes": 32.0 * MIB,
    "kept_bytes": 64.0 * MIB,
    "fetch_s_per_byte": 1e-9,
    "view_s": 1e-6,
    "alone_s": 5e-6,
    "nested_s": 2e-6,
    "backward_start_s": 3e-5,
    "adam_s": 1e-4,
}


def graph(**facts: Any) -> Graph:
    known: dict[str, Any] = {
        "name": "made up",
        "steps": (),
        "batch": 1,
        "parameters": 0,
        "parameter_bytes": 0,
        "peak_bytes": 1,
        "mean_bytes": 0.0,
    }
    return Graph(**{**known, **facts})


def step(phase: str = "forward", *, nested: bool = False) -> Step:
    return Step(op=op("relu", size=8), phase=phase, aten="relu", nested=nested)


def test_an_operator_alone_pays_for_the_memory_of_a_large_result_and_for_the_start_of_a_backward_pass() -> None:
    made = [op("relu", size=size, direction=each) for size in (8, 16 * MIB) for each in ("forward", "backward")]
    paid = np.full(4, np.nan)
    for batch in table_of(made).batches:
        paid[batch.index] = alone_seconds(batch, HOST)
    written = [each.work.bytes_written for each in made]
    assert paid == pytest.approx([0.0, 3e-5, written[2] * 1e-9, written[3] * 1e-9 + 3e-5])


def test_where_nothing_is_known_of_the_host_nothing_is_paid() -> None:
    (batch,) = table_of([op("relu", size=16 * MIB)]).batches
    assert alone_seconds(batch, {}).tolist() == [0.0]
    assert model_seconds(graph(allocations=(64 * MIB, -1)), {}) == (0.0, 0.0)


def test_work_is_never_all_taken_off() -> None:
    assert work_seconds(np.array([1.0, 1.0]), np.array([0.25, 5.0])).tolist() == [0.75, 0.2]


def test_a_prediction_of_an_operator_with_a_large_result_has_the_memory_that_it_fetches() -> None:
    plain, fetching = calibration(reuse={}), calibration(reuse={}, host=HOST)
    small, large = op("relu", size=1000), op("relu", size=16 * MIB)
    before, after = (predict([small, large], made) for made in (plain, fetching))
    assert after[0].seconds == before[0].seconds
    assert after[1].seconds.value - before[1].seconds.value == pytest.approx(64 * MIB * 1e-9)


def test_a_model_pays_for_memory_once_whatever_its_operators_write() -> None:
    made = graph(allocations=(40 * MIB, -1))
    fetched_s, calls_s = model_seconds(made, HOST)
    assert fetched_s == pytest.approx(40 * MIB * 1e-9, rel=1e-3)
    assert calls_s == 0.0


def test_views_are_calls_and_an_operator_inside_another_one_is_none() -> None:
    nested = (step(), *(step(nested=True) for _ in range(10)))
    assert model_seconds(graph(python_views=4), HOST)[1] == pytest.approx(4e-6)
    assert model_seconds(graph(steps=nested), HOST)[1] == pytest.approx(-10 * 3e-6)


def test_training_starts_the_engine_once_and_pays_for_each_parameter_what_was_measured() -> None:
    passes = tuple(step("optimiser") for _ in range(14))
    made = graph(train=True, steps=passes, optimiser="adam", trained=2)
    assert model_seconds(made, HOST)[1] == pytest.approx(3e-5 + 2 * 1e-4 - 14 * 5e-6)
    assert model_seconds(replace(made, optimiser="sgd"), HOST)[1] == pytest.approx(3e-5)
