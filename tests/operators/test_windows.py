"""Sliding windows of any rank, held against what torch makes of them: FLOP by its counter, elements by its results."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch
from torch.utils.flop_counter import FlopCounterMode

from microbench.operators import op
from microbench.operators.capture import Graph, capture

nn = torch.nn
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOLS = {
    "max": {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d},
    "avg": {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d},
}


class Behind(nn.Module):
    """A layer behind one that needs its gradient."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.scale, self.layer = nn.Parameter(torch.ones(1)), layer

    def forward(self, x: Any) -> Any:
        return self.layer(x * self.scale)


def _each(rank: int, low: int, high: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(low, high)] * rank)


def _spec(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def _counted(model: nn.Module, sizes: tuple[int, ...], *, train: bool) -> int:
    x = torch.randn(sizes)
    with FlopCounterMode(display=False) as counter:
        out = model(x)
        if train:
            out.sum().backward()
    return counter.get_total_flops()


def _windows(graph: Graph, phase: str = "forward") -> Any:
    (made,) = [step.op for step in graph.steps if step.phase == phase and step.op.row.family in _FAMILIES]
    return made


_FAMILIES = ("convolution", "pooling")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_convolution_of_any_rank_counts_what_torch_counts(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 3))
    stride, pad, dilation = (data.draw(_each(rank, low, 3)) for low in (1, 0, 1))
    kernel, groups = data.draw(_each(rank, 1, 3)), data.draw(st.sampled_from([1, 1, 2]))
    sides = data.draw(_each(rank, 5, 9))
    assume(all(n + 2 * p > d * (k - 1) for n, p, d, k in zip(sides, pad, dilation, kernel, strict=True)))
    layer = CONVOLUTIONS[rank](4, 6, kernel, stride, pad, dilation, groups, bias=data.draw(st.booleans()))
    sizes = (2, 4, *sides)
    made = _windows(capture(layer, [_spec(sizes)]))
    assert made.work.flop == _counted(layer, sizes, train=False)
    assert made.work.parameters == sum(weight.numel() for weight in layer.parameters())
    assert made.work.bytes_written == 4 * layer(torch.randn(sizes)).numel()
    assert made.work.bytes_read == 4 * (torch.Size(sizes).numel() + made.work.parameters)
    assert (made.traffic is None) == (made.work.bytes_read == op(made.name, **made.params).work.bytes_read)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_transposed_convolution_of_any_rank_counts_what_torch_counts(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 3))
    stride, pad, dilation = (data.draw(_each(rank, low, 3)) for low in (1, 0, 1))
    kernel, more = data.draw(_each(rank, 1, 3)), data.draw(_each(rank, 0, 2))
    assume(all(o < max(s, d) for o, s, d in zip(more, stride, dilation, strict=True)))
    sides = data.draw(_each(rank, 5, 7))
    assume(all((n - 1) * s > 2 * p for n, s, p in zip(sides, stride, pad, strict=True)))
    layer = TRANSPOSED[rank](4, 6, kernel, stride, pad, more, dilation=dilation, bias=data.draw(st.booleans()))
    sizes = (2, 4, *sides)
    made = _windows(capture(layer, [_spec(sizes)]))
    assert made.work.flop == _counted(layer, sizes, train=False)
    assert op(made.name, **made.params).work.bytes_written == 4 * layer(torch.randn(sizes)).numel()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_pool_of_any_rank_writes_what_torch_writes(data: st.DataObject) -> None:
    rank, kind = data.draw(st.integers(1, 3)), data.draw(st.sampled_from(["max", "avg"]))
    kernel, stride = data.draw(_each(rank, 1, 3)), data.draw(_each(rank, 1, 3))
    pad = tuple(data.draw(st.integers(0, size // 2)) for size in kernel)
    sides, dilation = data.draw(_each(rank, 6, 9)), data.draw(_each(rank, 1, 2)) if kind == "max" else (1,) * rank
    how = {"dilation": dilation} if kind == "max" else {}
    layer = POOLS[kind][rank](kernel, stride, pad, ceil_mode=data.draw(st.booleans()), **how)
    sizes = (2, 3, *sides)
    out = layer(torch.randn(sizes))
    made = _windows(capture(layer, [_spec(sizes)]))
    plain = op(made.name, **made.params).work
    assert plain == made.work
    assert plain.bytes_written == 4 * out.numel()
    assert plain.flop == out.numel() * torch.Size(kernel).numel()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("layers", [CONVOLUTIONS, TRANSPOSED])
def test_a_backward_pass_makes_the_gradients_that_somebody_wants(layers: dict[int, Any], rank: int, bias: bool) -> None:
    layer = layers[rank](4, 6, 3, bias=bias)
    sizes = (2, 4, *[7] * rank)
    once = _counted(layer, sizes, train=False)
    for model, gradients in ((layer, 1), (Behind(layer), 2)):
        made = _windows(capture(model, [_spec(sizes)], train=True), "backward")
        summed = layer(torch.randn(sizes)).numel() if bias else 0
        assert made.work.flop - summed == gradients * once == _counted(model, sizes, train=True) - once
    frozen = _windows(capture(Behind(layer.requires_grad_(False)), [_spec(sizes)], train=True), "backward")
    assert frozen.work.flop == once


def test_windows_that_overlap_unevenly_are_counted_one_by_one() -> None:
    (step,) = capture(nn.AdaptiveAvgPool2d((3, 2)), ["2x4x8x7"]).steps
    rows, cols = (3 + 4 + 3), (4 + 4)
    assert step.op.work.flop == 2 * 4 * rows * cols
    assert (step.op.work.bytes_read, step.op.work.bytes_written) == (4 * 2 * 4 * 56, 4 * 2 * 4 * 6)


@pytest.mark.parametrize(
    ("layer", "sizes", "flop"),
    [
        (nn.Conv3d(4, 6, 3, bias=False), "1x4x8x10x12", 622_080),
        (nn.ConvTranspose3d(4, 6, 2, stride=2, bias=False), "1x4x4x5x6", 46_080),
        (nn.ConvTranspose1d(8, 16, 4, stride=2, padding=1, bias=False), "2x8x100", 204_800),
        (nn.Conv2d(8, 16, (1, 7), padding=(0, 3), bias=False), "1x8x17x17", 517_888),
    ],
)
def test_a_convolution_counts_what_a_hand_counts(layer: nn.Module, sizes: str, flop: int) -> None:
    assert _windows(capture(layer, [sizes])).work.flop == flop


def test_a_flat_window_of_a_pool_moves_along_each_axis_by_its_own_step() -> None:
    made = _windows(capture(nn.MaxPool2d((2, 1), (2, 1)), ["1x4x16x16"]))
    assert made.work.bytes_written == 4 * 512


def test_an_axis_that_moves_like_the_first_is_not_printed() -> None:
    made = op("conv2d", n=1, c_in=3, c_out=8, h=10, kh=3, stride=2)
    assert str(made) == "conv2d[n=1;c_in=3;c_out=8;h=10;w=10;kh=3;kw=3;stride=2;pad=0;dilation=1;groups=1;bias=0].f32"
    assert str(op("conv2d", n=1, c_in=3, c_out=8, h=10, kh=3, stride_w=2)).endswith("bias=0;stride_w=2].f32")
