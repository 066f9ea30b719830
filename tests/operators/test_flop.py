"""FLOP of every rule, held against torch's own counter for products and counted textbook formulas for all else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import counted_numbers as counted
import pytest
from counted_numbers import COUNT, Number

from microbench.operators import OPERATORS, op
from microbench.operators.registry import Shape

torch = pytest.importorskip("torch")

Formula = Callable[..., Any]

# name: (value of an element, gradients of its inputs from that of the result and the inputs)
ELEMENTWISE: dict[str, tuple[Formula, Formula]] = {
    "add": (lambda a, b: a + b, lambda g, a, b: [g, g]),
    "mul": (lambda a, b: a * b, lambda g, a, b: [g * b, g * a]),
    "div": (lambda a, b: a / b, counted.div_gradient),
    "relu": (lambda x: x if x > 0 else Number(0), lambda g, x: [g if x > 0 else Number(0)]),
    "gelu": (counted.gelu, lambda g, x: [counted.gelu_gradient(g, x)]),
    "silu": (lambda x: x * counted.sigmoid(x), lambda g, x: [counted.silu_gradient(g, x)]),
    "tanh": (counted.tanh, lambda g, x: [counted.tanh_gradient(g, _given(counted.tanh, x))]),
    "exp": (counted.exp, lambda g, x: [g * _given(counted.exp, x)]),
    "sigmoid": (counted.sigmoid, lambda g, x: [counted.sigmoid_gradient(g, _given(counted.sigmoid, x))]),
}


def _given(function: Formula, *values: Any) -> Any:
    """What forward has kept: nothing is counted."""
    before = COUNT[0]
    result = function(*values)
    COUNT[0] = before
    return result


def _statistics(row: Sequence[Number]) -> tuple[Number, Number]:
    """Mean and reciprocal deviation that forward has kept."""
    return _given(lambda: counted.total(row) / len(row)), _given(lambda: counted.moments(row)[1])


def _root(row: Sequence[Number]) -> Number:
    return _given(
        lambda: counted.ONE / counted.sqrt(counted.total([x * x for x in row]) / len(row) + sys.float_info.epsilon)
    )


def _stored(seen: list[Any]) -> tuple[Number, Number]:
    """Statistics that batch_norm's call draws before its inputs."""
    mean, variance = seen[0].item(), abs(seen[1].item()) + 0.5
    return Number(mean), Number((variance + 1e-5) ** -0.5)


# name: (a row or window, its gradients), from the row and what else the call takes; `seen` are all tensors drawn.
ROWS: dict[str, tuple[Formula, Formula]] = {
    "softmax": (
        lambda seen, x: counted.softmax(x),
        lambda seen, g, x: [counted.softmax_gradient(g, _given(counted.softmax, x))],
    ),
    "sum": (lambda seen, x: [counted.total(x)], lambda seen, g, x: [list(g) * len(x)]),
    "mean": (lambda seen, x: [counted.total(x) / len(x)], lambda seen, g, x: [[g[0] / len(x) for _ in x]]),
    "layer_norm": (
        lambda seen, x, w, b: counted.layer_norm(x, w, b),
        lambda seen, g, x, w, b: counted.layer_norm_gradient(g, x, w, *_statistics(x)),
    ),
    "rms_norm": (
        lambda seen, x, w: counted.rms_norm(x, w),
        lambda seen, g, x, w: counted.rms_norm_gradient(g, x, w, _root(x)),
    ),
    "group_norm": (
        lambda seen, x, w, b: counted.layer_norm(x, w * len(x), b * len(x)),
        lambda seen, g, x, w, b: counted.layer_norm_gradient(g, x, w * len(x), *_statistics(x)),
    ),
    "batch_norm train=1": (
        lambda seen, x, w, b: counted.layer_norm(x, w * len(x), b * len(x)),
        lambda seen, g, x, w, b: counted.layer_norm_gradient(g, x, w * len(x), *_statistics(x)),
    ),
    "batch_norm train=0": (
        lambda seen, x, w, b: counted.stored_norm(x, w * len(x), b * len(x), *_stored(seen)),
        lambda seen, g, x, w, b: counted.stored_norm_gradient(g, x, w * len(x), *_stored(seen)),
    ),
    "max_pool2d": (
        lambda seen, x: [counted.largest(x, start=float("-inf"))],
        lambda seen, g, x: [[Number(0) + g[0] if float(a) == max(map(float, x)) else Number(0) for a in x]],
    ),
    "avg_pool2d": (lambda seen, x: [counted.total(x) / len(x)], lambda seen, g, x: [_spread(g[0] / len(x), len(x))]),
}


def _spread(share: Number, size: int) -> list[Number]:
    return [Number(0) + share for _ in range(size)]


# The shape in which an operator is one row or window of so many elements.
SHAPES: dict[str, Callable[[int], dict[str, int]]] = {
    "batch_norm": lambda size: {"n": 1, "c": 1, "h": 1, "w": size},
    "group_norm": lambda size: {"n": 1, "c": 1, "h": 1, "w": size, "groups": 1},
    "max_pool2d": lambda size: {"n": 1, "c": 1, "h": 1, "w": size, "kh": 1, "kw": size},
    "avg_pool2d": lambda size: {"n": 1, "c": 1, "h": 1, "w": size, "kh": 1, "kw": size},
}

# Products: shapes for torch's counter, and what is counted beside the products that it sees.
NOTHING: Callable[[Any], int] = lambda s: 0  # noqa: E731
PRODUCTS: dict[str, tuple[dict[str, int], Callable[[Any], int], Callable[[Any], int]]] = {
    "matmul": ({}, NOTHING, NOTHING),
    "bmm": ({}, NOTHING, NOTHING),
    # The gradient of a bias is the sum of those of all results.
    "linear": ({}, NOTHING, lambda s: s.m * s.n),
    "conv2d": ({"groups": 1, "bias": 1}, NOTHING, lambda s: s.n * s.c_out * 5 * 4),
    "conv_transpose2d": ({"groups": 1, "bias": 1}, NOTHING, lambda s: s.n * s.c_out * 11 * 9),
    # Masked pairs are not counted here; torch counts them.
    "attention": ({"causal": 0, "kv_heads": 4}, NOTHING, NOTHING),
    "lstm_cell": ({}, lambda s: _unit_counts()[0] * s.b * s.hidden, lambda s: _unit_counts()[1] * s.b * s.hidden),
}
# Nothing is computed; gradients of rows that were picked are added to those of their table.
MOVES: dict[str, Callable[[Any], int]] = {
    "copy": NOTHING,
    "cat": NOTHING,
    "transpose": NOTHING,
    "gather": lambda s: s.count * s.cols,
    "embedding": lambda s: s.count * s.cols,
}
STEPS = {"lstm": "lstm_cell"}


@pytest.mark.parametrize("name", sorted(name for name, row in OPERATORS.items() if row.call))
def test_an_operator_that_runs_has_a_stated_count(name: str) -> None:
    stated = {*ELEMENTWISE, *(row.partition(" ")[0] for row in ROWS), *PRODUCTS, *MOVES, *STEPS}
    if name not in stated:
        pytest.fail(
            f"{name} has no formula: state in ELEMENTWISE, ROWS, PRODUCTS or MOVES what it computes", pytrace=False
        )


def _drawn(name: str, shape: dict[str, int]) -> tuple[list[Any], Any, list[Any]]:
    """Inputs in double precision, the call, and all tensors in the order in which they were drawn."""
    torch.manual_seed(3)
    seen: list[Any] = []

    def tensor(*sizes: int) -> Any:
        seen.append(torch.rand(sizes, dtype=torch.float64) * 2 - 1)
        return seen[-1]

    row = OPERATORS[name]
    assert row.call is not None
    inputs, call = row.call(torch, Shape(op(name, **shape).params), tensor)
    return list(inputs), call, seen


def _numbers(tensor: Any) -> list[Number]:
    return [Number(x) for x in tensor.flatten().tolist()]


def _count(formula: Formula, *arguments: Any) -> tuple[Any, int]:
    COUNT[0] = 0
    result = formula(*arguments)
    return result, COUNT[0]


def _floats(numbers: Sequence[Number]) -> Any:
    return torch.tensor([float(x) for x in numbers], dtype=torch.float64)


@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_an_elementwise_rule_counts_the_operations_of_its_formula(name: str) -> None:
    inputs, call, _ = _drawn(name, {"size": 1})
    forward, backward = ELEMENTWISE[name]
    values = [_numbers(x)[0] for x in inputs]
    result, flop = _count(forward, *values)
    assert flop == op(name, size=1).work.flop
    torch.testing.assert_close(_floats([result]), call(*inputs))
    gradients, flop = _count(backward, Number(0.7), *values)
    assert flop == op(name, size=1, direction="backward").work.flop
    wanted = torch.autograd.grad(call(*[x.requires_grad_() for x in inputs]), inputs, torch.full((1,), 0.7).double())
    torch.testing.assert_close([_floats([x]) for x in gradients], list(wanted))


def _row_counts(key: str, size: int) -> tuple[int, int]:
    """Operations of a row's formula and of its gradients, whose values are those of torch."""
    name, _, option = key.partition(" ")
    shape = SHAPES.get(name, lambda cols: {"rows": 1, "cols": cols})(size)
    shape |= {option.partition("=")[0]: int(option.partition("=")[2])} if option else {}
    inputs, call, seen = _drawn(name, shape)
    forward, backward = ROWS[key]
    rows = [_numbers(x) for x in inputs]
    result, flop = _count(forward, seen, *rows)
    out = call(*[x.requires_grad_() for x in inputs])
    torch.testing.assert_close(_floats(result), out.detach().flatten())
    g = torch.rand(out.shape, dtype=torch.float64)
    gradients, flop_back = _count(backward, seen, _numbers(g), *rows)
    for found, wanted in zip(gradients, torch.autograd.grad(out, inputs, g), strict=True):
        whole = _floats(found)
        # A weight that all elements share gathers what each gives.
        torch.testing.assert_close(whole.sum()[None] if wanted.numel() == 1 else whole, wanted.flatten())
    return flop, flop_back


@pytest.mark.parametrize("key", sorted(ROWS))
def test_a_rule_along_rows_counts_the_operations_of_its_formula_for_each_element(key: str) -> None:
    """What a row has once, such as a square root, is not counted: twelve elements more cost twelve times an element."""
    name, _, option = key.partition(" ")
    few, many = (_row_counts(key, size) for size in (4, 16))
    for place, direction in enumerate(("forward", "backward")):
        work = [
            op(
                name,
                direction=direction,
                **SHAPES.get(name, lambda cols: {"rows": 1, "cols": cols})(size),
                **({option.partition("=")[0]: int(option.partition("=")[2])} if option else {}),
            ).work.flop
            for size in (4, 16)
        ]
        assert work[1] - work[0] == many[place] - few[place], direction


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("key", sorted(ROWS))
def test_twice_as_many_rows_cost_twice_as_much(key: str, direction: str) -> None:
    name = key.partition(" ")[0]
    shape = op(name, **OPERATORS[name].example).params
    once = op(name, direction=direction, **shape).work.flop
    for more in {"n", "c", "rows"} & set(shape):
        assert op(name, direction=direction, **shape | {more: 2 * shape[more]}).work.flop == 2 * once, more


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_a_window_is_counted_whole(name: str) -> None:
    forward, backward = _row_counts(name, 9)
    shape = SHAPES[name](9)
    assert op(name, **shape).work.flop == forward
    assert op(name, direction="backward", **shape).work.flop == backward


def _counter() -> Any:
    """Torch's counter, which does not know the name of attention on processors."""
    from torch.utils import flop_counter

    aten = torch.ops.aten
    known = {
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: flop_counter.sdpa_flop_count(
            q, k, v
        ),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda g, q, k, v, *_, **__: flop_counter.sdpa_backward_flop_count(g, q, k, v)
        ),
    }
    return flop_counter.FlopCounterMode(display=False, custom_mapping=known)


@pytest.mark.parametrize("name", sorted(PRODUCTS))
def test_a_product_counts_what_the_counter_of_torch_counts(name: str) -> None:
    options, beside, beside_back = PRODUCTS[name]
    forward = op(name, **(OPERATORS[name].example | options))
    inputs, call, _ = _drawn(name, forward.params)
    with _counter() as counter:
        out = call(*[x.requires_grad_() for x in inputs])
    assert counter.get_total_flops() > 0
    assert forward.work.flop == counter.get_total_flops() + beside(Shape(forward.params))
    with _counter() as counter:
        torch.autograd.grad(out, inputs, torch.ones_like(out))
    backward = op(name, direction="backward", **forward.params)
    assert backward.work.flop == counter.get_total_flops() + beside_back(Shape(forward.params))


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_a_group_sees_its_share_of_the_channels(name: str, direction: str) -> None:
    """Torch's counter takes the weight's gradient of a grouped convolution for a dense one: it is not asked here."""
    dense, grouped = (
        op(name, direction=direction, **OPERATORS[name].example | {"groups": groups}).work for groups in (1, 2)
    )
    assert dense.flop == 2 * grouped.flop
    assert dense.parameters == 2 * grouped.parameters


def test_a_causal_mask_halves_the_pairs_of_a_square() -> None:
    shape = {"b": 2, "heads": 4, "q_len": 5, "head_dim": 8}
    for direction in ("forward", "backward"):
        every, masked = (op("attention", direction=direction, causal=causal, **shape).work.flop for causal in (0, 1))
        assert 25 * masked == 15 * every


def _unit_counts() -> tuple[int, int]:
    """Operations of one unit of an LSTM cell beside the two products: what torch's cell gives, and its gradients."""
    torch.manual_seed(5)
    gates, biases = torch.rand(4).double(), torch.rand(4).double()
    h, c = torch.zeros(1, 1).double(), torch.rand(1, 1).double()
    sums, state = gates[None].requires_grad_(), c.clone().requires_grad_()
    weights = (torch.eye(4).double(), torch.zeros(4, 1).double(), torch.zeros(4).double(), biases)
    wanted = torch.lstm_cell(sums, (h, state), *weights)
    found, forward = _count(counted.lstm_unit, _numbers(gates), _numbers(biases), Number(c.item()))
    torch.testing.assert_close(_floats(found), torch.stack(wanted).detach().flatten())
    whole = (gates + biases).tolist()
    i, f, o = (1 / (1 + pow(2.718281828459045, -whole[place])) for place in (0, 1, 3))
    kept = [Number(x) for x in (i, f, torch.tanh(torch.tensor(whole[2])).item(), o, torch.tanh(wanted[1]).item())]
    g_h, g_c = 0.3, 0.9
    gradients, backward = _count(counted.lstm_unit_gradient, Number(g_h), Number(g_c), kept, Number(c.item()))
    real = torch.autograd.grad(g_h * wanted[0].sum() + g_c * wanted[1].sum(), [sums, state])
    torch.testing.assert_close(_floats(gradients), torch.cat([x.flatten() for x in real]), rtol=1e-5, atol=1e-6)
    return forward, backward


def test_a_layer_counts_its_steps() -> None:
    shape = OPERATORS["lstm"].example
    cell = {key: value for key, value in shape.items() if key != "steps"}
    assert op("lstm", **shape).work.flop == shape["steps"] * op(STEPS["lstm"], **cell).work.flop


@pytest.mark.parametrize("name", sorted(MOVES))
def test_a_move_computes_nothing_and_a_scatter_adds(name: str) -> None:
    shape = OPERATORS[name].example
    assert op(name, **shape).work.flop == 0
    assert op(name, direction="backward", **shape).work.flop == MOVES[name](Shape(shape))


# The module that holds an operator's parameters; all others have none.
MODULES: dict[str, Callable[[Any], Any]] = {
    "linear": lambda s: torch.nn.Linear(s.k, s.n, bias=bool(s.bias)),
    "conv2d": lambda s: torch.nn.Conv2d(s.c_in, s.c_out, (s.kh, s.kw), groups=s.groups, bias=bool(s.bias)),
    "conv_transpose2d": lambda s: torch.nn.ConvTranspose2d(
        s.c_in, s.c_out, (s.kh, s.kw), groups=s.groups, bias=bool(s.bias)
    ),
    "conv3d": lambda s: torch.nn.Conv3d(s.c_in, s.c_out, (s.kd, s.kh, s.kw), groups=s.groups, bias=bool(s.bias)),
    "conv_transpose3d": lambda s: torch.nn.ConvTranspose3d(
        s.c_in, s.c_out, (s.kd, s.kh, s.kw), groups=s.groups, bias=bool(s.bias)
    ),
    "layer_norm": lambda s: _without_bias(torch.nn.LayerNorm(s.cols), s),
    "rms_norm": lambda s: torch.nn.RMSNorm(s.cols),
    "batch_norm": lambda s: _without_bias(torch.nn.BatchNorm2d(s.c), s),
    "group_norm": lambda s: _without_bias(torch.nn.GroupNorm(s.groups, s.c), s),
    "embedding": lambda s: torch.nn.Embedding(s.rows, s.cols),
    "lstm_cell": lambda s: torch.nn.LSTMCell(s.input, s.hidden),
    "lstm": lambda s: torch.nn.LSTM(s.input, s.hidden, bias=bool(s.bias)),
    "gru": lambda s: torch.nn.GRU(s.input, s.hidden, bias=bool(s.bias)),
    "rnn": lambda s: torch.nn.RNN(s.input, s.hidden, bias=bool(s.bias)),
}


def _without_bias(module: Any, s: Any) -> Any:
    if not s.bias:
        module.bias = None
    return module


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_parameters_are_those_of_the_module(name: str) -> None:
    for option in ({"bias": 0}, {"bias": 1}) if "bias" in OPERATORS[name].keys else ({},):
        made = op(name, **(OPERATORS[name].example | option))
        module = MODULES[name](Shape(made.params)) if name in MODULES else torch.nn.Identity()
        held = sum(tensor.numel() for tensor in module.parameters())
        assert made.work.parameters == held, f"state the module of {name} in MODULES, if it has one"
