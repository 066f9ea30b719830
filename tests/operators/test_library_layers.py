"""Recurrent layers for a GPU are one operator a layer and direction, with the products of all steps, in both passes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch.utils.flop_counter import FlopCounterMode

from microbench.operators import OPERATORS, op
from microbench.operators.capture import Graph, capture
from microbench.operators.weight_formats import PRODUCTS

nn = torch.nn
STEPS, BATCH, INTO, HIDDEN = 5, 3, 8, 12
LAYERS = {"gru": nn.GRU, "rnn": nn.RNN, "lstm": nn.LSTM}
WAYS: list[dict[str, Any]] = [{}, {"bidirectional": True}, {"bias": False}, {"num_layers": 2}, {"batch_first": True}]


def layer(name: str, how: dict[str, Any], device: str = "cuda", **more: Any) -> Graph:
    sizes = (BATCH, STEPS, INTO) if how.get("batch_first") else (STEPS, BATCH, INTO)
    return capture(lambda: LAYERS[name](INTO, HIDDEN, **how), ["x".join(map(str, sizes))], device=device, **more)


def of(graph: Graph, phase: str) -> list[Any]:
    return [step.op for step in graph.steps if step.phase == phase and step.op.row.family == "recurrent"]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("how", WAYS)
def test_a_layer_is_one_operator_with_the_products_of_torch(name: str, how: dict[str, Any]) -> None:
    graph = layer(name, how)
    made = of(graph, "forward")
    assert len(made) == how.get("num_layers", 1) * (2 if how.get("bidirectional") else 1)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        LAYERS[name](INTO, HIDDEN, **how)(
            torch.zeros((BATCH, STEPS, INTO) if how.get("batch_first") else (STEPS, BATCH, INTO))
        )
    units = {"gru": 15 + 2 * made[0].params["bias"], "rnn": 1 + made[0].params["bias"]}
    unit = units.get(name, 18 + 4 * made[0].params["bias"])
    assert sum(each.work.flop - STEPS * BATCH * HIDDEN * unit for each in made) == counter.get_total_flops()
    assert sum(each.work.parameters for each in made) == graph.parameters
    assert not [step for step in graph.steps if step.op.row.family in PRODUCTS]


@pytest.mark.parametrize("name", ["gru", "rnn"])
def test_on_a_processor_every_step_is_called(name: str) -> None:
    graph = layer(name, {}, device="cpu")
    assert not of(graph, "forward")
    assert sum(step.op.row.family in PRODUCTS for step in graph.steps) >= STEPS


@pytest.mark.parametrize("name", LAYERS)
def test_the_gradients_of_a_layer_are_one_operator_or_the_steps_of_its_cell(name: str) -> None:
    graph = layer(name, {}, train=True)
    assert len(of(graph, "forward")) == 1
    backward = of(graph, "backward")
    assert [each.name for each in backward] == (["lstm_cell"] * STEPS if name == "lstm" else [name])
    products = sum(step.op.row.family in PRODUCTS for step in graph.steps)
    assert products == 0
    assert Counter(step.phase for step in graph.steps)["optimiser"] == 4 * 7  # Adam's passes over four parameters


def test_layers_between_others_leave_these_as_they_are() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.layer, self.last = nn.Linear(8, 8), nn.GRU(8, 8), nn.Linear(8, 4)

        def forward(self, x: Any) -> Any:
            return self.last(self.layer(self.first(x))[0])

    graph = capture(Reads, ["5x3x8"], train=True, device="cuda")
    products = Counter((step.phase, step.module) for step in graph.steps if step.op.row.family in PRODUCTS)
    assert products == {
        ("forward", "first"): 1,
        ("forward", "last"): 1,
        ("backward", "first"): 1,
        ("backward", "last"): 2,
    }
    assert [(step.phase, step.module) for step in graph.steps if step.op.name == "gru"] == [
        ("forward", "layer"),
        ("backward", "layer"),
    ]


def test_packed_sequences_are_layers_too() -> None:
    class Packs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.GRU(8, 8)

        def forward(self, x: Any) -> Any:
            return self.layer(nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3, 1])))[1]

    (made,) = of(capture(Packs, ["5x3x8"], device="cuda"), "forward")
    assert (made.params["steps"], made.params["b"]) == (5, 2)


@pytest.mark.parametrize("name", ["gru", "rnn"])
def test_a_backward_pass_has_twice_the_products(name: str) -> None:
    shape = OPERATORS[name].example
    forward, backward = (op(name, direction=each, **shape).work for each in ("forward", "backward"))
    assert 1.8 < backward.flop / forward.flop < 2.1
