"""Which module an operator of a captured model belongs to, in both passes, and what the modules hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch.utils.checkpoint import checkpoint

from microbench.operators.capture import capture

nn = torch.nn


class Twice(nn.Module):
    """Calls one layer two times and another once, and adds by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.inner = nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8), nn.ReLU())

    def forward(self, x: Any) -> Any:
        return self.layer(self.layer(x)) + self.inner(x)


def owners(train: bool) -> Counter[tuple[str, str]]:
    graph = capture(Twice, ["4x8"], train=train)
    return Counter((step.phase, step.module) for step in graph.steps)


def test_an_operator_belongs_to_the_innermost_module_that_runs_it() -> None:
    assert owners(train=False) == {
        ("forward", "layer"): 2,
        ("forward", "inner.0"): 1,
        ("forward", "inner.1"): 1,
        ("forward", ""): 1,
    }


def test_an_operator_of_the_backward_pass_belongs_to_the_module_whose_gradient_it_makes() -> None:
    """The last layer's input needs no gradient; the other makes those of its weights twice and of one input."""
    found = owners(train=True)
    products = [
        step.module
        for step in capture(Twice, ["4x8"], train=True).steps
        if step.phase == "backward" and step.aten == "mm"
    ]
    assert Counter(products) == {"layer": 3, "inner.0": 1}
    assert found["backward", "inner.1"] == 1


def test_an_optimiser_step_belongs_to_the_module_that_holds_the_parameter() -> None:
    found = owners(train=True)
    assert found["optimiser", "layer"] == found["optimiser", "inner.0"] > 0
    assert {module for phase, module in found if phase == "optimiser"} == {"layer", "inner.0"}


def test_modules_have_their_own_parameters_and_their_calls() -> None:
    graph = capture(Twice, ["4x8"])
    assert [(part.path, part.kind, part.parameters, part.calls) for part in graph.parts] == [
        ("", "Twice", 0, 1),
        ("layer", "Linear", 72, 2),
        ("inner", "Sequential", 0, 1),
        ("inner.0", "Linear", 72, 1),
        ("inner.1", "ReLU", 0, 1),
    ]


def test_weights_that_two_modules_share_belong_to_the_first() -> None:
    def tied() -> Any:
        model = nn.Sequential(nn.Embedding(100, 16), nn.Linear(16, 100, bias=False))
        model[1].weight = model[0].weight
        return model

    graph = capture(tied, ["2x3:i64"])
    assert sum(part.parameters for part in graph.parts) == graph.parameters == 1600


def test_what_runs_inside_a_checkpoint_belongs_to_its_module_when_it_runs_again() -> None:
    class Saves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))

        def forward(self, x: Any) -> Any:
            return checkpoint(self.inner, x, use_reentrant=False)

    graph = capture(Saves, ["4x8"], train=True)
    assert Counter(step.module for step in graph.steps if step.aten == "addmm")["inner.0"] == 2
