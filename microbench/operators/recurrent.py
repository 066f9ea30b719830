"""LSTM: one step of it, and a layer over a sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from microbench.operators.aten import Call, aten
from microbench.operators.core import Op
from microbench.operators.draws import Sizes, draw
from microbench.operators.registry import Tally, operator

Built = tuple[tuple[Any, ...], Callable[..., Any]]

_COMPOSED = "aten calls two products and elementwise operators"


def _weights(s: Any) -> Any:
    return 4 * s.hidden * (s.input + s.hidden)


def _parameters(s: Any, t: Callable[..., Any]) -> tuple[Any, ...]:
    return t(4 * s.hidden, s.input), t(4 * s.hidden, s.hidden), t(4 * s.hidden), t(4 * s.hidden)


def _cell_backward(s: Any) -> Tally:
    weights = _weights(s)
    state = s.b * (s.input + 2 * s.hidden)
    return Tally(
        flop=4 * s.b * weights + 30 * s.b * s.hidden,
        read=state + weights + 6 * s.b * s.hidden,
        written=state + weights + 8 * s.hidden,
    )


def _cell_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    state = (t(s.b, s.input), t(s.b, s.hidden), t(s.b, s.hidden))
    return (*state, *_parameters(s, t)), lambda x, h, c, *w: torch.lstm_cell(x, (h, c), *w)[0]


@operator(
    "lstm_cell",
    "b input hidden",
    "recurrent",
    example={"b": 3, "input": 5, "hidden": 4},
    backward=_cell_backward,
    call=_cell_call,
    widths=("input", "hidden"),
    takes_index=True,
    gemm=lambda s: (1, s.b, 4 * s.hidden, s.input + s.hidden),
    without={"aten": _COMPOSED},
)
def lstm_cell(s: Any) -> Tally:
    """One step of an LSTM: two products, two biases, three sigmoids, two tanh, the new cell and hidden state."""
    weights = _weights(s)
    return Tally(
        flop=2 * s.b * weights + 22 * s.b * s.hidden,
        read=s.b * (s.input + 2 * s.hidden) + weights + 8 * s.hidden,
        written=2 * s.b * s.hidden,
        parameters=weights + 8 * s.hidden,
    )


@aten("_thnn_fused_lstm_cell", "lstm_cell", gives="pointwise")
def _seen_fused(call: Call) -> list[Op]:
    """What follows the two products, which are calls of their own."""
    return [call.pointwise()] if call.inputs[0].dim() == 2 else []


@draw("lstm_cell", count=36)
def _cell_sizes(s: Sizes) -> dict[str, Any]:
    return {"b": s.large(1, 128, 0.4), **{key: s.large(8, 768, 0.4) for key in ("input", "hidden")}}


def _layer_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    inputs = (t(s.steps, s.b, s.input), t(1, s.b, s.hidden), t(1, s.b, s.hidden))
    held = _parameters(s, t)[: 4 if s.bias else 2]
    return (*inputs, *held), lambda x, h, c, *w: torch.lstm(
        x, (h, c), list(w), bool(s.bias), 1, 0.0, False, False, False
    )


_STEPS = "a layer's backward pass is counted as that of a cell at each step"


@operator(
    "lstm",
    "b steps input hidden bias",
    "recurrent",
    example={"b": 3, "steps": 7, "input": 5, "hidden": 4},
    defaults={"bias": 1},
    quiet=("bias",),
    call=_layer_call,
    widths=("input", "hidden"),
    takes_index=True,
    gemm=lambda s: (s.steps, s.b, 4 * s.hidden, s.input + s.hidden),
    without={"backward": _STEPS, "aten backward": _STEPS},
)
def lstm(s: Any) -> Tally:
    """A layer of LSTM over a sequence, as libraries run it in one call: the steps of a cell, weights read once."""
    weights, biases = _weights(s), 8 * s.bias * s.hidden
    return Tally(
        flop=s.steps * (2 * s.b * weights + (18 + 4 * s.bias) * s.b * s.hidden),
        read=s.steps * s.b * s.input + 2 * s.b * s.hidden + weights + biases,
        written=s.steps * s.b * s.hidden + 2 * s.b * s.hidden,
        parameters=weights + biases,
    )


@aten("mkldnn_rnn_layer", gives="lstm")
def _seen_layer(call: Call) -> list[Op]:
    x, w_input, w_hidden = call.args[0], call.args[1], call.args[2]
    shape = {"b": x.shape[1], "steps": x.shape[0], "input": w_input.shape[1], "hidden": w_hidden.shape[1]}
    return [call.op("lstm", bias=call.get("has_biases"), **shape)]


@aten("mkldnn_rnn_layer_backward", gives="lstm_cell", direction="backward")
def _seen_layer_backward(call: Call) -> list[Op]:
    x, w_input, w_hidden = call.args[0], call.args[1], call.args[2]
    steps, batch = x.shape[0], x.shape[1]
    return [call.op("lstm_cell", "backward", b=batch, input=w_input.shape[1], hidden=w_hidden.shape[1])] * steps


@draw("lstm", count=40)
def _layer_sizes(s: Sizes) -> dict[str, Any]:
    sizes = {key: s.large(8, 512, 0.3) for key in ("input", "hidden")}
    return {"b": s.large(1, 64, 0.3), "steps": s.log(2, 128), **sizes}
