"""Weight-only quantisation: what products read is smaller, what is multiplied and all else stays as it is."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from microbench.errors import UsageError
from microbench.operators.capture import Graph, capture

nn = torch.nn
ROWS, INTO, OUT = 2, 256, 512
# Bytes of a matrix of 512 x 256: bits of the weights and of their scales, over eight.
STORED = {
    "i4": (OUT * INTO * 4 + OUT * INTO // 128 * 16) // 8,
    "i8": (OUT * INTO * 8 + OUT * 16) // 8,
    "f8": (OUT * INTO * 8 + OUT * 16) // 8,
    "f4": (OUT * INTO * 4 + OUT * INTO // 32 * 8) // 8,
}


def linear(weights: str | None, dtype: str | None = None) -> Graph:
    return capture(lambda: nn.Linear(INTO, OUT), [f"{ROWS}x{INTO}"], dtype=dtype, weights=weights)


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize(("dtype", "each"), [(None, 4), ("bf16", 2)])
def test_a_layer_reads_its_stored_bits_and_multiplies_in_the_activations_format(
    name: str, dtype: str | None, each: int
) -> None:
    plain, stored = linear(None, dtype), linear(name, dtype)
    (before,), (after,) = plain.operators, stored.operators
    saved = OUT * INTO * each - STORED[name]
    assert (after.dtype, after.work.flop, after.work.bytes_written) == (
        before.dtype,
        before.work.flop,
        before.work.bytes_written,
    )
    assert before.work.bytes_read - after.work.bytes_read == saved
    assert plain.parameter_bytes - stored.parameter_bytes == saved
    assert plain.peak_bytes - stored.peak_bytes == saved
    assert stored.parameters == plain.parameters
    assert any(name in note and f"{OUT * INTO:,}" in note for note in stored.notes)


def embedded(tied: bool) -> Any:
    model = nn.Sequential(nn.Embedding(1000, 64), nn.LayerNorm(64), nn.Linear(64, 1000, bias=False))
    if tied:
        model[2].weight = model[0].weight
    return model


def test_tables_and_norms_stay_as_they_are() -> None:
    saved = [capture(lambda: embedded(tied=False), ["1x8:i64"], weights=each).parameter_bytes for each in (None, "i8")]
    assert saved[0] - saved[1] == 64000 * 4 - (64000 * 8 + 1000 * 16) // 8


def test_a_matrix_that_an_embedding_shares_stays_as_it_is() -> None:
    with pytest.raises(UsageError, match="has no product whose weights"):
        capture(lambda: embedded(tied=True), ["1x8:i64"], weights="i4")


def test_convolutions_and_experts_are_stored_in_fewer_bits() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4, 64, 128))

        def forward(self, x: Any) -> Any:
            return torch.bmm(x, self.weight)

    graph = capture(Experts, ["4x8x64"], weights="i8")
    assert graph.parameter_bytes == (4 * 64 * 128 * 8 + 4 * 16) // 8
    convolution = capture(lambda: nn.Conv2d(16, 32, 3, bias=False), ["1x16x8x8"], weights="i4")
    assert convolution.parameter_bytes == (32 * 16 * 9 * 4 + 32 * 16 * 9 // 128 * 16) // 8


def test_another_spelling_is_the_same_format() -> None:
    assert linear("int4").parameter_bytes == linear("i4").parameter_bytes


def test_a_format_that_stores_no_weights_is_one_sentence() -> None:
    with pytest.raises(UsageError, match="--weights takes i4, i8, f8, f4"):
        linear("i3")


def test_training_with_weights_of_fewer_bits_is_one_sentence() -> None:
    with pytest.raises(UsageError, match="for inference"):
        capture(lambda: nn.Linear(8, 8), ["2x8"], train=True, weights="i4")
