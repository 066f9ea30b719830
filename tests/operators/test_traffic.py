"""Bytes of every rule, held against the tensors that torch reads and writes, forward and backward.

Each call runs on the processor under a dispatch mode. Read is what was there before the pass; written is what the pass
leaves behind: its results, tensors that it changes, and what it keeps for the backward pass. What is made and used up
inside is neither. Views are their storage, counted once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from microbench.operators import OPERATORS, Op, op
from microbench.operators.aten import VIEWS
from microbench.operators.registry import Shape

pytest.importorskip("torch")

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_FLOAT, _INDEX = 4, 8


class Traffic(TorchDispatchMode):
    """Storages that calls read and write, and the order of both."""

    def __init__(self) -> None:
        super().__init__()
        self.read: dict[int, Any] = {}
        self.written: dict[int, Any] = {}
        self.used: set[int] = set()
        self.seen: list[Any] = []  # alive until the end, so that no storage takes another's place

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = _tensors((args, kwargs))
        before = [tensor.clone() for tensor in inputs]
        out = func(*args, **(kwargs or {}))
        outputs = _tensors(out)
        self.seen += inputs + outputs
        if func.overloadpacket.__name__ in VIEWS or func.is_view:
            return out
        for tensor in inputs:
            if _key(tensor) in self.written:
                self.used.add(_key(tensor))
            else:
                self.read[_key(tensor)] = tensor
        changed = [tensor for tensor, old in zip(inputs, before, strict=True) if not torch.equal(tensor, old)]
        self.written |= {_key(tensor): tensor for tensor in (*outputs, *changed) if tensor.numel()}
        return out

    def left(self, results: Sequence[Any]) -> list[Any]:
        """What is there afterwards: results, and what was written and not used up."""
        wanted = {*map(_key, results), *self.read}
        return [tensor for key, tensor in self.written.items() if key in wanted or key not in self.used]


def _key(tensor: Any) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(value: Any) -> list[Any]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _bytes(tensors: Any) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def traffic(made: Op) -> tuple[int, int]:
    """Bytes that torch reads and writes in an operator's pass."""
    torch.manual_seed(1)
    assert made.row.call is not None
    inputs, call = made.row.call(torch, Shape(made.params), lambda *sizes: torch.rand(sizes))
    if made.direction == "forward":
        with torch.no_grad(), Traffic() as seen:
            results = _tensors(call(*inputs))
    else:
        out = call(*[tensor.requires_grad_() for tensor in inputs])
        gradient = torch.ones_like(out)
        with Traffic() as seen:
            results = list(torch.autograd.grad(out, inputs, gradient))
    return _bytes(seen.read.values()), _bytes(seen.left(results))


@dataclass(frozen=True, slots=True)
class Difference:
    """Bytes that torch reads and writes beyond the rule, and why the rule leaves them out."""

    why: str
    read: Callable[[Any], int] = field(default=lambda s: 0)
    written: Callable[[Any], int] = field(default=lambda s: 0)


def _pooled(s: Any) -> int:
    return s.n * s.c * ((s.h + 2 * s.pad - s.kh) // s.stride + 1) * ((s.w + 2 * s.pad - s.kw) // s.stride + 1)


_KEPT = "kept for the backward pass, which reads it; inference need not write it"
_UNREAD = "handed in, and not read"
DIFFERENCES: dict[tuple[str, str], Difference] = {
    ("layer_norm", "forward"): Difference(f"mean and rstd: {_KEPT}", written=lambda s: 2 * s.rows * _FLOAT),
    ("layer_norm", "backward"): Difference(f"bias: {_UNREAD}", read=lambda s: s.cols * _FLOAT),
    ("group_norm", "forward"): Difference(f"mean and rstd: {_KEPT}", written=lambda s: 2 * s.n * s.groups * _FLOAT),
    ("batch_norm", "backward"): Difference(
        f"running mean and variance: {_UNREAD} where the batch's own are", read=lambda s: 2 * s.c * s.train * _FLOAT
    ),
    ("rms_norm", "backward"): Difference(
        "the normalised rows: the processor's composed form keeps them, a fused one makes them anew",
        read=lambda s: s.rows * s.cols * _FLOAT,
    ),
    ("attention", "forward"): Difference(
        f"the log-sum of each row: {_KEPT}", written=lambda s: s.b * s.heads * s.q_len * _FLOAT
    ),
    ("max_pool2d", "forward"): Difference(f"places of the maxima: {_KEPT}", written=lambda s: _pooled(s) * _INDEX),
    ("max_pool2d", "backward"): Difference(
        f"the input: {_UNREAD}, but for its shape", read=lambda s: s.n * s.c * s.h * s.w * _FLOAT
    ),
    ("avg_pool2d", "backward"): Difference(
        f"the input: {_UNREAD}, but for its shape", read=lambda s: s.n * s.c * s.h * s.w * _FLOAT
    ),
    ("gather", "forward"): Difference(
        "rows of the table that no index names: not read", read=lambda s: max(0, s.rows - s.count) * s.cols * _FLOAT
    ),
    ("embedding", "forward"): Difference(
        "rows of the table that no index names: not read", read=lambda s: max(0, s.rows - s.count) * s.cols * _FLOAT
    ),
    ("lstm_cell", "forward"): Difference(
        "the new cell state: the call here drops it", written=lambda s: -s.b * s.hidden * _FLOAT
    ),
}
# Shapes beside an operator's example.
FURTHER: dict[str, tuple[dict[str, int], ...]] = {
    "linear": ({"bias": 0},),
    "conv2d": ({"bias": 1}, {"groups": 1, "stride": 1, "dilation": 2}),
    "conv_transpose2d": ({"bias": 1}, {"groups": 1, "pad": 1}),
    "batch_norm": ({"train": 1},),
    "attention": ({"causal": 0, "kv_heads": 4, "q_len": 1},),
    "gather": ({"count": 30, "rows": 2},),
    "embedding": ({"count": 30, "rows": 2},),
}


def _cases() -> list[Op]:
    return [
        op(name, direction=direction, **row.example | further)
        for name, row in sorted(OPERATORS.items())
        for further in ({}, *FURTHER.get(name, ()))
        for direction in ("forward", "backward")
        if row.call and (direction == "forward" or row.backward)
    ]


@pytest.mark.parametrize("made", _cases(), ids=str)
def test_a_rule_counts_the_bytes_that_torch_reads_and_writes(made: Op) -> None:
    stated = DIFFERENCES.get((made.name, made.direction), Difference("none"))
    shape = Shape(made.params)
    counted = made.work.bytes_read + stated.read(shape), made.work.bytes_written + stated.written(shape)
    says = f"{made}: the rule reads and writes {counted} bytes, torch {traffic(made)}"
    assert counted == traffic(made), f"{says}; mend the rule, or state in DIFFERENCES what it leaves out and why"


def test_every_stated_difference_is_one() -> None:
    for (name, direction), stated in DIFFERENCES.items():
        shapes = [Shape(made.params) for made in _cases() if (made.name, made.direction) == (name, direction)]
        assert any(stated.read(shape) or stated.written(shape) for shape in shapes), name
