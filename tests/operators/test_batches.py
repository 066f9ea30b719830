"""A model at a third batch size from captures at two others, and where two do not tell the third."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from microbench.operators.batches import at_batch
from microbench.operators.capture import Graph, capture
from microbench.operators.inputs import with_batch

nn = torch.nn


class Contrast(nn.Module):
    """Each item against each other: a square of the batch."""

    def forward(self, x: Any) -> Any:
        return (x @ x.t()).softmax(-1)


class Remainder(nn.Module):
    """Drops what does not fill a group of three."""

    def forward(self, x: Any) -> Any:
        return x[: x.shape[0] // 3 * 3] * 2


class Prefixed(nn.Module):
    """Puts a learnt token before each sequence and adds positions, which are there once."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, 8)), nn.Parameter(torch.zeros(1, 6, 8))

    def forward(self, x: Any) -> Any:
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places


def convnet() -> Any:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 5)
    )


GROWING: dict[str, tuple[Any, str]] = {
    "convolutions": (convnet, "1x3x16x16"),
    "attention": (lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), "1x5x16"),
    "tokens and positions": (Prefixed, "1x5x8"),
    "recurrent": (lambda: nn.LSTM(8, 8, batch_first=True), "1x4x8"),
}


def captured(name: str, batch: int, train: bool) -> Graph:
    make, spec = GROWING[name]
    return capture(make, [with_batch(spec, batch)], train=train)


# PyTorch's shape of an LSTM's gradients is another one when it is asked for the second time: not trained here.
@pytest.mark.parametrize(("name", "train"), [(name, how) for name in GROWING for how in (False, True)][:-1])
@pytest.mark.parametrize(("known", "asked"), [((4, 16), 64), ((8, 64), 4)])
def test_a_third_batch_is_what_a_capture_there_gives(
    name: str, train: bool, known: tuple[int, int], asked: int
) -> None:
    one, other = (captured(name, batch, train) for batch in known)
    found, right = at_batch((one, other), asked), captured(name, asked, train)
    assert found is not None
    assert [str(each) for each in found.operators] == [str(each) for each in right.operators]
    assert [each.work for each in found.operators] == [each.work for each in right.operators]
    assert (found.batch, found.parameter_bytes) == (asked, right.parameter_bytes)
    # The largest of several sums of bytes need not be the same sum at each batch.
    assert found.peak_bytes == pytest.approx(right.peak_bytes, rel=0.05)
    assert found.mean_bytes == pytest.approx(right.mean_bytes, rel=0.05)


@pytest.mark.parametrize("model", [Contrast, Remainder])
def test_squares_and_remainders_are_left_to_a_capture(model: Any) -> None:
    one, other = (capture(model, [f"{batch}x8"]) for batch in (4, 16))
    found = at_batch((one, other), 64)
    right = capture(model, ["64x8"])
    assert found is None or [each.work for each in found.operators] == [each.work for each in right.operators]


def test_models_of_different_operators_are_left_to_a_capture() -> None:
    one, other = capture(convnet, ["1x3x16x16"]), capture(nn.ReLU, ["4x3x16x16"])
    assert at_batch((one, other), 16) is None
