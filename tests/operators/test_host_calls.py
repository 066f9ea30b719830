"""What Python calls while a model runs, and what an optimiser's step does."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from microbench.errors import UsageError
from microbench.operators.capture import capture

torch = pytest.importorskip("torch")
nn = torch.nn


def test_the_steps_of_a_recurrent_layer_are_one_call_from_python() -> None:
    graph = capture(lambda: nn.GRU(8, 8), ["16x1x8"])
    nested = Counter(step.nested for step in graph.steps)
    assert nested[False] == 2  # the layer, and the state that it begins with
    assert nested[True] > 50


def test_operators_that_python_calls_are_not_nested() -> None:
    graph = capture(lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), ["4x8"])
    assert [step.nested for step in graph.steps] == [False, False, False]
    assert graph.modules == 4


def test_views_that_python_makes_are_counted_and_those_inside_an_operator_are_not() -> None:
    class Turned(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.transpose(0, 1).reshape(8, 2, 2).relu()

    assert capture(Turned, ["4x8"]).python_views == 2
    assert capture(lambda: nn.Linear(8, 8), ["4x8"]).python_views == 0


@pytest.mark.parametrize(("optimiser", "passes", "kept"), [("adam", 7, 2), ("sgd", 3, 1), ("none", 0, 0)])
def test_an_optimiser_passes_over_every_parameter_and_keeps_tensors_of_its_size(
    optimiser: str, passes: int, kept: int
) -> None:
    graph = capture(lambda: nn.Linear(16, 4), ["2x16"], train=True, optimiser=optimiser)
    assert sum(step.phase == "optimiser" for step in graph.steps) == 2 * passes
    assert sum(graph.state_bytes) == kept * 4 * graph.parameters
    assert graph.trained == 2


def test_an_optimiser_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UsageError, match="no optimiser is called 'adagrad'; there are adam, sgd, none"):
        capture(lambda: nn.Linear(16, 4), ["2x16"], train=True, optimiser="adagrad")


def test_what_is_made_is_given_back_at_most_once_and_after_it_was_made() -> None:
    net = lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))  # noqa: E731
    for train in (False, True):
        events = capture(net, ["2x3x8x8"], train=train).allocations
        made, gone = 0, set()
        for event in events:
            if event > 0:
                made += 1
            else:
                assert 1 <= -event <= made
                assert -event not in gone
                gone.add(-event)
        assert made > 5


def test_a_convolution_takes_copies_of_its_input_and_its_result_while_it_works() -> None:
    graph = capture(lambda: nn.Conv2d(3, 4, 3, bias=False), ["2x3x8x8"])
    assert graph.allocations[:3] == (4 * 2 * 4 * 36, 4 * 2 * 3 * 64, 4 * 2 * 4 * 36)
    assert set(graph.allocations[3:5]) == {-2, -3}
