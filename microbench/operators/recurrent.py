"""LSTM: one step of it, and a layer over a sequence; layers of GRU and of plain recurrence, as GPUs run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from microbench.operators.aten import Call, aten
from microbench.operators.core import Op
from microbench.operators.draws import Sizes, draw
from microbench.operators.registry import Operator, Tally, add, operator

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


# Gates, FLOP of an element of the state beside the products, and those of a second bias. GRU: two sigmoids and a tanh,
# the reset gate on the hidden product and its sum with the other, the mean of old and new state. Plain: a tanh.
_GATED = {"gru": (3, 15, 2), "rnn": (1, 1, 1)}
_ONE_CALL = "a GPU's library runs the layer in one call, which capture makes of its steps"
_AS_LSTM = "an LSTM's layers are measured; another recurrence is predicted as their sibling"


def _gated_weights(s: Any, gates: int) -> Any:
    return gates * s.hidden * (s.input + s.hidden)


def _gated_forward(name: str) -> Callable[[Any], Tally]:
    gates, unit, second = _GATED[name]

    def forward(s: Any) -> Tally:
        weights, biases = _gated_weights(s, gates), 2 * gates * s.bias * s.hidden
        return Tally(
            flop=s.steps * (2 * s.b * weights + (unit + second * s.bias) * s.b * s.hidden),
            read=s.steps * s.b * s.input + s.b * s.hidden + weights + biases,
            written=s.steps * s.b * s.hidden + s.b * s.hidden,
            parameters=weights + biases,
        )

    return forward


def _gated_backward(name: str) -> Callable[[Any], Tally]:
    """Two products for each of the forward pass, and about twice its other work; gates are read again."""
    gates, unit, _ = _GATED[name]

    def backward(s: Any) -> Tally:
        weights, biases = _gated_weights(s, gates), 2 * gates * s.bias * s.hidden
        states = s.steps * s.b * s.hidden
        return Tally(
            flop=s.steps * (4 * s.b * weights + 2 * unit * s.b * s.hidden),
            read=(gates + 2) * states + s.steps * s.b * s.input + weights,
            written=s.steps * s.b * s.input + s.b * s.hidden + weights + biases,
        )

    return backward


def _add_gated(name: str, says: str) -> None:
    gates = _GATED[name][0]
    add(
        Operator(
            name=name,
            family="recurrent",
            keys=("b", "steps", "input", "hidden", "bias"),
            says=says,
            example={"b": 3, "steps": 7, "input": 5, "hidden": 4},
            defaults={"bias": 1},
            quiet=("bias",),
            forward=_gated_forward(name),
            backward=_gated_backward(name),
            widths=("input", "hidden"),
            takes_index=True,
            gemm=lambda s: (s.steps, s.b, gates * s.hidden, s.input + s.hidden),
            without={"aten": _ONE_CALL, "aten backward": _ONE_CALL, "call": _AS_LSTM, "draws": _AS_LSTM},
        )
    )


_add_gated("gru", "A layer of GRU over a sequence, in one call: the products of its steps, weights read once.")
_add_gated(
    "rnn", "A layer of plain recurrence over a sequence, in one call: the products of its steps, weights read once."
)
