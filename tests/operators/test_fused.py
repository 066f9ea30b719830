"""A model as torch.compile runs it: chains are one pass, products stay what they are, several graphs are refused."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from microbench.errors import UsageError
from microbench.operators.capture import Graph, capture
from microbench.operators.weight_formats import PRODUCTS

nn = torch.nn
SIZE = 64 * 256


class Chain(nn.Module):
    """Five elementwise operators."""

    def forward(self, x: Any, y: Any) -> Any:
        return torch.sigmoid(x * 2 + y).exp() - 1


def products(graph: Graph) -> list[str]:
    return [str(each) for each in graph.operators if each.row.family in (*PRODUCTS, "attention")]


def test_a_chain_of_elementwise_operators_is_one_pass_over_its_ends() -> None:
    eager, compiled = (capture(Chain, ["64x256", "64x256"], compiled=how) for how in (False, True))
    assert len(eager.steps) == 5
    (one,) = compiled.operators
    assert (one.work.bytes_read, one.work.bytes_written) == (2 * SIZE * 4, SIZE * 4)
    assert one.work.flop >= 5 * SIZE
    assert compiled.compiled
    assert any("torch.compile" in note for note in compiled.notes)


def test_a_chain_in_half_precision_moves_half_the_bytes() -> None:
    (one,) = capture(Chain, ["64x256", "64x256"], compiled=True, dtype="bf16").operators
    assert one.dtype == "bf16"
    assert (one.work.bytes_read, one.work.bytes_written) == (2 * SIZE * 2, SIZE * 2)


@pytest.mark.parametrize(
    ("make", "spec"),
    [
        (lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), "2x5x16"),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(1568, 4)),
            "2x3x16x16",
        ),
    ],
)
def test_products_are_those_of_the_eager_model_and_all_else_moves_less(make: Any, spec: str) -> None:
    eager, compiled = (capture(make, [spec], compiled=how) for how in (False, True))
    assert products(compiled) == products(eager)
    assert not compiled.unknown
    assert (compiled.parameters, compiled.peak_bytes) == (eager.parameters, eager.peak_bytes)


def test_shared_weights_and_keyword_inputs_are_traced() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(50, 16), nn.Linear(16, 50, bias=False)
            self.head.weight = self.table.weight

        def forward(self, places: Any, *, scale: float, mask: Any = None) -> Any:
            return self.head(self.table(places)) * scale + mask

    graph = capture(Tied, ["places=2x3:i64", "scale=float:0.5", "mask=2x3x50"], compiled=True)
    assert [each.work.flop for each in graph.operators if each.row.family in PRODUCTS] == [2 * 6 * 16 * 50]
    assert graph.parameters == 800


def test_what_cannot_be_compiled_as_one_graph_is_one_sentence() -> None:
    class Looks(nn.Module):
        def forward(self, x: Any) -> Any:
            return x[: int(x.argmax(-1)[0])]

    with pytest.raises(UsageError):
        capture(Looks, ["4x8"], compiled=True)


@pytest.mark.parametrize("more", [{"train": True}, {"weights": "i4"}])
def test_training_and_weights_of_fewer_bits_are_not_compiled(more: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="leave --"):
        capture(lambda: nn.Linear(8, 8), ["2x8"], compiled=True, **more)
