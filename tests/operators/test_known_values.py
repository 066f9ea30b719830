"""Numbers that are known while a model is captured, those that a router would choose, and those that nobody knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from microbench.errors import UsageError
from microbench.operators.capture import Graph, capture

nn, functional = torch.nn, torch.nn.functional
EXPERTS, WIDTH, TOKENS = 4, 8, 24


def by_positions(scores: Any, x: Any, experts: Any) -> Any:
    """Each expert looks up its rows: where one-hot masks are set."""
    chosen = scores.topk(2, dim=-1).indices
    mask = functional.one_hot(chosen, EXPERTS).permute(2, 1, 0)
    out = torch.zeros_like(x)
    for expert in torch.greater(mask.sum(dim=(-1, -2)), 0).nonzero():
        _, rows = torch.where(mask[expert].squeeze(0))
        out.index_add_(0, rows, experts[int(expert)](x[rows]))
    return out


def by_masks(scores: Any, x: Any, experts: Any) -> Any:
    """One expert a row, picked by comparing."""
    chosen = scores.argmax(dim=-1)
    out = torch.zeros_like(x)
    for place, expert in enumerate(experts):
        out[chosen == place] = expert(x[chosen == place])
    return out


def by_sorting(scores: Any, x: Any, experts: Any) -> Any:
    """Rows sorted by their expert, split by how many each has."""
    chosen = scores.max(dim=-1).indices
    order = chosen.argsort()
    parts = x[order].split(chosen.bincount(minlength=EXPERTS).tolist())
    return torch.cat([expert(part) for expert, part in zip(experts, parts, strict=True)])[order.argsort()]


class Mixture(nn.Module):
    """A router, and experts that loops in Python hand rows to."""

    def __init__(self, how: Callable[..., Any]) -> None:
        super().__init__()
        self.how, self.router = how, nn.Linear(WIDTH, EXPERTS)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(EXPERTS))

    def forward(self, x: Any) -> Any:
        return self.how(self.router(x).softmax(-1), x, self.experts)


def of_experts(graph: Graph) -> list[int]:
    return [step.op.params["m"] for step in graph.steps if step.module.startswith("experts") and "m" in step.op.params]


@pytest.mark.parametrize(("how", "rows"), [(by_positions, 12), (by_masks, 6), (by_sorting, 6)])
def test_experts_in_a_loop_get_equal_shares_and_the_assumption_is_told(how: Any, rows: int) -> None:
    graph = capture(lambda: Mixture(how), [f"{TOKENS}x{WIDTH}"])
    assert of_experts(graph) == [rows] * EXPERTS
    assert any("equally shared" in note for note in graph.notes)


def test_gradients_of_experts_in_a_loop_are_captured() -> None:
    graph = capture(lambda: Mixture(by_positions), [f"{TOKENS}x{WIDTH}"], train=True)
    products = Counter(step.phase for step in graph.steps if step.module.startswith("experts") and step.op.row.gemm)
    assert products["backward"] >= EXPERTS


def test_a_choice_that_decides_no_shape_is_no_assumption() -> None:
    class Weighs(nn.Module):
        def forward(self, x: Any) -> Any:
            best = x.topk(2, dim=-1)
            return torch.zeros_like(x).scatter(-1, best.indices, best.values)

    assert not capture(Weighs, ["6x8"]).notes


class Known(nn.Module):
    """Asks positions, which are known, for a shape."""

    def forward(self, x: Any) -> Any:
        places = torch.arange(x.shape[0])
        return x[: int((places > 2).sum())] * 2


class Overwritten(nn.Module):
    """Writes data over known numbers, then asks them for a shape."""

    def forward(self, x: Any) -> Any:
        flags = torch.zeros(x.shape[0], dtype=torch.bool)
        flags.copy_(x[:, 0] > 0)
        return x[flags]


class Chance(nn.Module):
    """Asks random numbers for a shape."""

    def forward(self, x: Any) -> Any:
        return x[torch.randint(0, 2, (x.shape[0],)).bool()]


class Threshold(nn.Module):
    """Asks data for a shape."""

    def forward(self, x: Any) -> Any:
        return x[x[:, 0] > 0]


def test_positions_are_known() -> None:
    assert capture(Known, ["8x4"]).steps[-1].op.work.bytes_written == 4 * 5 * 4


@pytest.mark.parametrize("model", [Overwritten, Chance, Threshold])
def test_what_data_or_chance_decides_is_refused(model: Any) -> None:
    with pytest.raises(UsageError, match="depends on data"):
        capture(model, ["8x4"])


def test_a_choice_among_a_vocabulary_is_no_router_s() -> None:
    class Decodes(nn.Module):
        def forward(self, x: Any) -> Any:
            return x[: int(x.argmax(dim=-1)[0])]

    with pytest.raises(UsageError):
        capture(Decodes, ["4x50000"])


def test_equal_calls_are_counted_alike_and_those_of_shared_operands_by_themselves() -> None:
    """The same tensor twice is read once, whatever was seen before."""

    class Squares(nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x * y + x * y + x * x

    steps = capture(Squares, ["4x8", "4x8"]).steps
    assert [step.op.work.bytes_read for step in steps if step.aten == "mul"] == [256, 256, 128]


def test_a_view_that_is_made_again_shares_memory_with_its_base() -> None:
    """Results that live on in views alone count once, however often such a view was made before."""

    class Views(nn.Module):
        def forward(self, x: Any) -> Any:
            parts = [(x * 2).view(32)[4:] for _ in range(3)]
            return parts[0] + parts[1] + parts[2]

    graph = capture(Views, ["4x8"])
    assert graph.peak_bytes >= 4 * 128
    assert graph.peak_bytes < 7 * 128


def test_a_number_that_is_put_at_known_places_is_counted() -> None:
    class Marks(nn.Module):
        def forward(self, x: Any) -> Any:
            return functional.one_hot(torch.arange(x.shape[0]) % 4, 4).to(x.dtype) @ x[:4]

    graph = capture(Marks, ["16x8"])
    assert not graph.unknown
    assert "scatter_" in [step.aten for step in graph.steps]
