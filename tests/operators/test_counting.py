"""Kinds of calls, each counted as torch's counter counts it or, where that counts nothing, as a hand does.

Calls run on tensors of the meta device: shapes, strides and formats without a number. Bytes are those of the tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from microbench.operators import Op
from microbench.operators.aten import VIEWS, operators_of
from microbench.operators.capture import capture

nn, aten, F = torch.nn, torch.ops.aten, torch.nn.functional


class Seen(TorchDispatchMode):
    """What the rules make of calls on any tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[Op] = []
        self.unknown: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ not in VIEWS and not func.is_view:
            outputs = [each for each in tree_leaves(out) if isinstance(each, torch.Tensor)]
            made = operators_of(torch, func, args, kwargs or {}, outputs)
            self.operators += made or []
            self.unknown += [] if made is not None else [func.overloadpacket.__name__]
        return out


def t(*sizes: int, dtype: Any = torch.float32) -> Any:
    return torch.empty(sizes, dtype=dtype, device="meta")


def seen(call: Callable[..., Any], *inputs: Any) -> Seen:
    with Seen() as found:
        call(*inputs)
    return found


def flop(call: Callable[..., Any], *inputs: Any) -> int:
    found = seen(call, *inputs)
    assert not found.unknown
    return sum(each.work.flop for each in found.operators)


def traffic(call: Callable[..., Any], *inputs: Any) -> tuple[int, int]:
    found = seen(call, *inputs)
    assert not found.unknown
    work = [each.work for each in found.operators]
    return sum(each.bytes_read for each in work), sum(each.bytes_written for each in work)


F8, BF16, I8 = torch.float8_e4m3fn, torch.bfloat16, torch.int8
ONE = lambda: t(dtype=torch.float32)  # noqa: E731
PRODUCTS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "mm": (torch.mm, (t(3, 5), t(5, 7))),
    "addmm": (torch.addmm, (t(7), t(3, 5), t(5, 7))),
    "addmm of a matrix": (torch.addmm, (t(3, 7), t(3, 5), t(5, 7))),
    "addmm by name": (lambda a, b, c: aten.addmm(self=a, mat1=b, mat2=c), (t(7), t(3, 5), t(5, 7))),
    "bmm": (torch.bmm, (t(2, 3, 5), t(2, 5, 7))),
    "baddbmm": (torch.baddbmm, (t(2, 3, 7), t(2, 3, 5), t(2, 5, 7))),
    "baddbmm of a row": (torch.baddbmm, (t(7), t(2, 3, 5), t(2, 5, 7))),
    "_scaled_mm": (
        lambda a, b, x, y: torch._scaled_mm(a, b.t(), x, y, out_dtype=BF16),
        (t(32, 64, dtype=F8), t(16, 64, dtype=F8), ONE(), ONE()),
    ),
    "einsum": (lambda a, b: torch.einsum("bij,bkj->bik", a, b), (t(2, 3, 5), t(2, 7, 5))),
    "tensordot": (lambda a, b: torch.tensordot(a, b, dims=2), (t(3, 4, 5), t(4, 5, 6))),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_counts_what_the_counter_of_torch_counts(name: str) -> None:
    call, inputs = PRODUCTS[name]
    with FlopCounterMode(display=False) as counter:
        call(*inputs)
    assert counter.get_total_flops() > 0
    assert flop(call, *inputs) == counter.get_total_flops()


# By hand, 2 FLOP a multiply-add: torch's counter counts nothing of these, or one of complex numbers like one of reals.
BY_HAND: dict[str, tuple[Callable[..., Any], tuple[Any, ...], int]] = {
    "addbmm": (torch.addbmm, (t(3, 7), t(2, 3, 5), t(2, 5, 7)), 2 * 2 * 3 * 5 * 7),
    "addmv": (torch.addmv, (t(3), t(3, 5), t(5)), 2 * 3 * 5),
    "mv": (torch.mv, (t(3, 5), t(5)), 2 * 3 * 5),
    "dot": (torch.dot, (t(5), t(5)), 2 * 5),
    "_int_mm": (torch._int_mm, (t(32, 64, dtype=I8), t(64, 16, dtype=I8)), 2 * 32 * 64 * 16),
    "_grouped_mm": (
        lambda a, b, o: torch._grouped_mm(a, b, offs=o),
        (t(64, 32, dtype=BF16), t(4, 32, 16, dtype=BF16), t(4, dtype=torch.int32)),
        2 * 64 * 32 * 16,
    ),
    "bilinear": (F.bilinear, (t(3, 4), t(3, 5), t(6, 4, 5)), 2 * 3 * 6 * 4 * 5 + 2 * 3 * 6 * 5),
    "complex product": (
        torch.mm,
        (t(3, 5, dtype=torch.complex64), t(5, 7, dtype=torch.complex64)),
        8 * 3 * 5 * 7,
    ),
    "complex multiplication": (torch.mul, (t(9, dtype=torch.complex64), t(9, dtype=torch.complex64)), 6 * 9),
    "complex addition": (torch.add, (t(9, dtype=torch.complex64), t(9, dtype=torch.complex64)), 2 * 9),
    "cdist": (lambda a, b: aten._cdist_forward(a, b, 1.0, None), (t(3, 5), t(4, 5)), 3 * 3 * 4 * 5),
    "fft": (torch.fft.rfft, (t(3, 64),), round(2.5 * 3 * 64 * 6)),
    "two-dimensional fft": (torch.fft.fft2, (t(8, 8, dtype=torch.complex64),), 5 * 64 * 6),
    "sort": (torch.sort, (t(3, 64),), 3 * 64 * 6),
    "topk": (lambda x: torch.topk(x, 4), (t(3, 64),), 3 * 64),
    "bilinear resize": (
        lambda x: F.interpolate(x, size=(8, 8), mode="bilinear"),
        (t(1, 2, 4, 4),),
        7 * 2 * 64,
    ),
    "nearest resize": (lambda x: F.interpolate(x, scale_factor=2), (t(1, 2, 4, 4),), 0),
    "pad": (lambda x: F.pad(x, (1, 2)), (t(3, 4),), 0),
    "reflected pad": (lambda x: F.pad(x, (1, 2), mode="reflect"), (t(1, 3, 4),), 0),
    "pixel shuffle": (lambda x: F.pixel_shuffle(x, 2), (t(1, 8, 4, 4),), 0),
    "cholesky": (torch.linalg.cholesky, (t(6, 6),), 72),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_call_counts_what_a_hand_counts(name: str) -> None:
    call, inputs, wanted = BY_HAND[name]
    assert flop(call, *inputs) == wanted


LONG = torch.int64
# Bytes read and written.
BYTES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], tuple[int, int]]] = {
    "a number added": (lambda x: x + 1, (t(10),), (40, 40)),
    "a row added to each row": (torch.add, (t(8, 10), t(10)), (360, 320)),
    "an expanded row": (lambda x, y: x + y.expand(8, 10), (t(8, 10), t(1, 10)), (360, 320)),
    "one tensor twice": (lambda x: x * x, (t(10),), (40, 40)),
    "a cast": (lambda x: x.to(BF16), (t(10),), (40, 20)),
    "a cast of odd length to few bits": (lambda x: x.to(torch.bool), (t(7),), (28, 7)),
    "a comparison": (torch.gt, (t(10), t(10)), (80, 10)),
    "a choice": (torch.where, (t(10, dtype=torch.bool), t(10), t(10)), (90, 40)),
    "in place": (lambda x, y: x.add_(y), (t(10), t(10)), (80, 40)),
    "copied over": (lambda x, y: x.copy_(y), (t(10), t(10, dtype=BF16)), (20, 40)),
    "filled": (lambda x: x.fill_(1.0), (t(10),), (0, 40)),
    "complex numbers": (torch.mul, (t(10, dtype=torch.complex64), t(10, dtype=torch.complex64)), (160, 80)),
    "bytes": (torch.add, (t(10, dtype=torch.uint8), t(10, dtype=torch.uint8)), (20, 10)),
    "a product of an expanded matrix": (
        lambda a, b: torch.bmm(a, b.expand(2, 5, 7)),
        (t(2, 3, 5), t(1, 5, 7)),
        (4 * (30 + 35), 4 * 42),
    ),
    "a scaled product": (PRODUCTS["_scaled_mm"][0], PRODUCTS["_scaled_mm"][1], (32 * 64 + 16 * 64 + 8, 2 * 32 * 16)),
    "an integer product": (BY_HAND["_int_mm"][0], BY_HAND["_int_mm"][1], (32 * 64 + 64 * 16, 4 * 32 * 16)),
    "elements gathered": (
        lambda x, i: torch.gather(x, 1, i),
        (t(3, 9), t(3, 4, dtype=LONG)),
        (4 * 12 + 8 * 12, 4 * 12),
    ),
    "rows selected by short integers": (
        lambda x, i: torch.index_select(x, 0, i),
        (t(9, 5), t(4, dtype=torch.int32)),
        (4 * 20 + 4 * 4, 4 * 20),
    ),
    "rows put in place": (
        lambda x, i, v: x.index_put_((i,), v),
        (t(9, 5), t(4, dtype=LONG), t(4, 5)),
        (4 * 20 + 8 * 4, 4 * 20),
    ),
    "rows added to a copy": (
        lambda x, i, v: torch.index_add(x, 0, i, v),
        (t(9, 5), t(4, dtype=LONG), t(4, 5)),
        (4 * 45 + 8 * 4 + 4 * 20, 4 * 45),
    ),
    "elements scattered": (
        lambda x, i, v: torch.scatter(x, 1, i, v),
        (t(3, 9), t(3, 4, dtype=LONG), t(3, 4)),
        (4 * 27 + 8 * 12 + 4 * 12, 4 * 27),
    ),
    "sorted": (torch.sort, (t(3, 8),), (96, 96 + 192)),
    "the largest": (lambda x: torch.topk(x, 2), (t(3, 8),), (96, 24 + 48)),
    "padded": (lambda x: F.pad(x, (1, 2)), (t(3, 4),), (48, 84)),
    "transformed": (torch.fft.rfft, (t(3, 64),), (4 * 192, 8 * 3 * 33)),
    "a bag of rows": (
        lambda w, i, o: F.embedding_bag(i, w, o),
        (t(100, 6), t(8, dtype=LONG), t(2, dtype=LONG)),
        (4 * 8 * 6 + 8 * 8 + 8 * 2, 4 * 2 * 6),
    ),
    "a norm in few bits with a wide weight": (
        lambda x, w: aten.native_layer_norm(x, [8], w, None, 1e-5),
        (t(3, 8, dtype=BF16), t(8)),
        (48 + 32, 48),
    ),
    "a group norm": (
        lambda x, w, b: F.group_norm(x, 1, w, b),
        (t(1, 64, 56, 56), t(64), t(64)),
        (803_328, 802_816),
    ),
    "a reduction of integers": (lambda x: x.sum(1), (t(3, 8, dtype=LONG),), (192, 24)),
    "a maximum with its place": (lambda x: x.max(1), (t(3, 8),), (96, 12 + 24)),
    "a loss of picked classes": (
        F.nll_loss,
        (t(6, 10), t(6, dtype=LONG)),
        (6 * 4 + 6 * 8, 4),
    ),
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes_are_those_that_the_tensors_hold(name: str) -> None:
    call, inputs, wanted = BYTES[name]
    assert traffic(call, *inputs) == wanted


def test_the_work_of_a_product_is_bound_by_the_format_of_its_operands() -> None:
    for name, wanted in (("_scaled_mm", "f8e4m3"),):
        assert [each.dtype for each in seen(*_flat(PRODUCTS[name])).operators] == [wanted]
    assert [each.dtype for each in seen(*_flat(BY_HAND["_int_mm"][:2])).operators] == ["i8"]


def _flat(case: tuple[Callable[..., Any], tuple[Any, ...]]) -> tuple[Any, ...]:
    return case[0], *case[1]


def _attention(name: str, *more: Any, causal: int = 0, **named: Any) -> None:
    q, k, v = t(1, 4, 64, 32), t(1, 4, 64, 32), t(1, 4, 64, 32)
    (made,) = (
        seen(getattr(aten, name), q, k, v, *more).operators if not named else _named(name, (q, k, v, *more), named)
    )
    assert made.params["causal"] == causal, name
    assert made.params | {"b": 1, "heads": 4, "q_len": 64, "kv_len": 64, "head_dim": 32} == made.params, name


def _named(name: str, places: tuple[Any, ...], named: dict[str, Any]) -> list[Op]:
    with Seen() as found:
        getattr(aten, name)(*places, **named)
    return found.operators


def test_a_causal_mask_is_what_the_schema_calls_so() -> None:
    """Other flags and keyword arguments are none."""
    _attention("_scaled_dot_product_efficient_attention", None, True, 0.0, False)
    _attention("_scaled_dot_product_efficient_attention", None, False, 0.0, True, causal=1)
    _attention("_scaled_dot_product_flash_attention", 0.0, False, True)
    _attention("_scaled_dot_product_flash_attention", 0.0, True, False, causal=1)
    _attention("_scaled_dot_product_flash_attention_for_cpu", 0.0, True, causal=1)
    _attention("_scaled_dot_product_flash_attention", causal=1, is_causal=True)


def _direct(name: str, *arguments: Any) -> list[Op] | None:
    """What a rule makes of a call whose kernel is not run."""
    return operators_of(torch, getattr(aten, name).default, arguments, {}, [arguments[0]])


def test_attention_whose_lengths_come_first_is_read_so() -> None:
    q, k = t(2, 10, 4, 8), t(2, 12, 4, 8)
    made = _direct("_flash_attention_forward", q, k, k, None, None, 10, 12, 0.0, False, False)
    assert made is not None
    assert made[0].params | {"b": 2, "heads": 4, "q_len": 10, "kv_len": 12, "causal": 0} == made[0].params
    made = _direct("_efficient_attention_forward", q, k, k, None, None, None, 10, 12, 0.0, 2, True)
    assert made is not None
    assert made[0].params | {"q_len": 10, "kv_len": 12, "causal": 1} == made[0].params
    first = _direct("_efficient_attention_forward", q, k, k, None, None, None, 10, 12, 0.0, 1, True)
    assert first is not None
    assert first[0].params | {"q_len": 10, "kv_len": 10, "causal": 1} == first[0].params


def test_attention_that_has_no_key_is_reported_and_not_guessed() -> None:
    q, lengths = t(40, 4, 8), t(5, dtype=torch.int32)
    ragged = _direct("_flash_attention_forward", q, q, q, lengths, lengths, 10, 10, 0.0, False, False)
    tall = _direct(
        "_scaled_dot_product_efficient_attention", t(1, 4, 64, 8), t(1, 4, 8, 8), t(1, 4, 8, 8), None, False, 0.0, True
    )
    assert ragged is None
    assert tall is None


def test_values_may_be_of_another_size_than_keys() -> None:
    q, v = t(1, 2, 6, 8), t(1, 2, 6, 4)
    with FlopCounterMode(display=False) as counter:
        aten._scaled_dot_product_flash_attention(q, q, v)
    assert flop(aten._scaled_dot_product_flash_attention, q, q, v) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("layer", "sizes"),
    [
        (nn.LayerNorm(8), (4, 8)),
        (nn.GroupNorm(2, 8), (4, 8, 5)),
        (nn.BatchNorm1d(8), (4, 8, 5)),
        (nn.RMSNorm(8), (4, 8)),
    ],
)
def test_a_norm_s_backward_pass_writes_the_gradients_that_somebody_wants(layer: nn.Module, sizes: Any) -> None:
    """A first layer makes none of its input, a frozen one none of its weights."""

    class Behind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.layer = nn.Parameter(torch.ones(1)), layer

        def forward(self, x: Any) -> Any:
            return self.layer(x * self.scale)

    def written(model: nn.Module) -> int:
        graph = capture(model, ["x".join(map(str, sizes))], train=True)
        return sum(
            step.op.work.bytes_written
            for step in graph.steps
            if step.phase == "backward" and step.op.row.family == "normalisation"
        )

    held = 4 * sum(weight.numel() for weight in layer.parameters())
    size = 4 * torch.Size(sizes).numel()
    if type(layer) is not nn.RMSNorm:  # composed of smaller operators on a processor
        assert written(layer) == held
        assert written(Behind()) == held + size
        layer.requires_grad_(False)
        assert written(Behind()) == size


@pytest.mark.parametrize(
    ("layer", "parameters"), [(nn.LayerNorm(8, bias=False), 8), (nn.LayerNorm(8, elementwise_affine=False), 0)]
)
def test_a_norm_has_the_parameters_that_it_has(layer: nn.Module, parameters: int) -> None:
    (step,) = capture(layer, ["4x8"]).steps
    assert step.op.work.parameters == parameters
    assert step.op.work.bytes_read == 4 * (32 + parameters)


def test_gradients_of_a_bilinear_layer_are_counted_by_the_larger_of_their_products() -> None:
    rows, outputs, into, other = 4, 6, 3, 5
    graph = capture(nn.Sequential(nn.Linear(into, into), Pairs(into, other, outputs)), [f"{rows}x{into}"], train=True)
    whole = 2 * rows * outputs * into * other
    made = [step.op.work.flop for step in graph.steps if step.phase == "backward" and step.aten == "_trilinear"]
    assert made == [whole] * len(made)
    assert len(made) == 3
    assert not graph.unknown


class Pairs(nn.Module):
    """A bilinear layer of an input and of a learnt one."""

    def __init__(self, into: int, other: int, outputs: int) -> None:
        super().__init__()
        self.other, self.layer = nn.Parameter(torch.zeros(1, other)), nn.Bilinear(into, other, outputs)

    def forward(self, x: Any) -> Any:
        return self.layer(x, self.other.expand(x.shape[0], -1))
