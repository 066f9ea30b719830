"""A predicted model by its modules: what is inside a module is part of it."""

from __future__ import annotations

import numpy as np
import pytest

from microbench.operators import op
from microbench.operators.graph import Graph, Part, Step
from microbench.predict.model import ModelTime
from microbench.predict.module_tree import module_tree
from microbench.predict.operator import Columns
from microbench.records import Estimate

MODULES = ("", "layer", "layer.inner", "layer.inner.0", "unused", "idle")


def predicted(*owners: str) -> ModelTime:
    """A model with an operator of one second and 10 FLOP in each of these modules; one module holds unused weights."""
    steps = tuple(Step(op=op("relu", size=10), phase="forward", aten="relu", module=each) for each in owners)
    parts = tuple(Part(path=each, kind="Any", parameters=5 * (each == "unused"), calls=1) for each in MODULES)
    graph = Graph(
        name="m", steps=steps, batch=1, parameters=5, parameter_bytes=20, peak_bytes=1, mean_bytes=1.0, parts=parts
    )
    column = np.ones(len(owners))
    names = np.full(len(owners), "", dtype=object)
    columns = Columns(
        **dict.fromkeys(("predicted", "low", "high", "compute_s", "memory_s", "cost_s", "flop", "bytes"), column),
        **dict.fromkeys(("limiter", "level", "basis"), names),
        issue_s=np.full((len(owners), 3), np.nan),
    )
    return ModelTime(
        graph=graph,
        latency=Estimate(value=8.0, low=8.0, high=8.0, basis="made up"),
        samples_per_s=1.0,
        flop=0,
        bytes=0,
        load_s=None,
        compute_share=None,
        memory_share=None,
        launch_share=0.0,
        ridge={},
        columns=columns,
    )


def test_a_module_has_the_time_and_work_of_all_that_is_inside_it() -> None:
    found = {each.path: each for each in module_tree(predicted("", "layer", "layer.inner.0", "layer.inner.0"))}
    assert {path: each.operators for path, each in found.items()} == {
        "": 4,
        "layer": 3,
        "layer.inner": 2,
        "layer.inner.0": 2,
        "unused": 0,
    }
    assert found["layer"].flop == 30
    assert found["layer"].seconds == 3.0
    assert found["layer"].share == pytest.approx(3 / 8)
    assert [found[path].depth for path in MODULES[:4]] == [0, 1, 2, 3]


def test_the_model_has_all_parameters_and_a_module_without_any_in_which_nothing_runs_is_left_out() -> None:
    found = {each.path: each for each in module_tree(predicted("layer"))}
    assert found[""].parameters == found["unused"].parameters == 5
    assert "idle" not in found


def test_an_operator_that_was_not_predicted_counts_with_its_work_alone() -> None:
    made = predicted("layer", "layer")
    made.columns.predicted[0] = np.nan
    branch = next(each for each in module_tree(made) if each.path == "layer")
    assert (branch.operators, branch.seconds) == (2, 1.0)
