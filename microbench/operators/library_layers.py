"""Recurrent layers as a GPU's library runs them: one call a layer and direction, where processors call every step.

Models are captured as a processor's fake tensors, on which PyTorch takes GRU and plain recurrent layers apart. For a
GPU the layer's operator stands for its steps: those that a forward pass made, and those that their gradients make.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from microbench.operators.core import Op, op
from microbench.operators.graph import Step
from microbench.records.dtypes import dtype as find_dtype

# PyTorch's functions of recurrent layers: the operator, and its gates.
_FUNCTIONS = {"gru": ("gru", 3), "rnn_tanh": ("rnn", 1), "rnn_relu": ("rnn", 1), "lstm": ("lstm", 4)}


def layers_of(name: str, args: Sequence[Any]) -> list[Op] | None:
    """The layers that a call of PyTorch's function runs; ``None`` where no operator can express them (projections)."""
    made, gates = _FUNCTIONS[name]
    packed = isinstance(args[3], list | tuple)
    data, weights = args[0], args[3] if packed else args[2]
    bias, batch_first = bool(args[4] if packed else args[3]), not packed and bool(args[8])
    if packed:
        steps = int(args[1].numel())
        batch = math.ceil(data.shape[0] / steps)
    else:
        steps, batch = (data.shape[1], data.shape[0]) if batch_first else (data.shape[0], data.shape[1])
    each = 4 if bias else 2
    if len(weights) % each or any(weight.dim() == 1 for weight in weights[::each]):
        return None
    found = []
    for place in range(0, len(weights), each):
        into, hidden = weights[place], weights[place + 1]
        if hidden.dim() != 2 or hidden.shape[0] != gates * hidden.shape[1]:
            return None
        sizes = {"b": batch, "steps": steps, "input": into.shape[1], "hidden": hidden.shape[1], "bias": int(bias)}
        found.append(op(made, dtype=find_dtype(str(data.dtype)).name, **sizes))
    return found


def gradients_of(layer: Op) -> list[Op]:
    """The backward pass of a layer."""
    if layer.row.backward is not None:
        return [op(layer.name, dtype=layer.dtype, direction="backward", **layer.params)]
    cell = {key: layer.params[key] for key in ("b", "input", "hidden")}
    return [op("lstm_cell", dtype=layer.dtype, direction="backward", **cell)] * layer.params["steps"]


def library_layers(torch: Any, recorder: Any) -> Any:
    """A mode in which recurrent layers are written down whole, by a recorder that hears nothing of their steps."""
    from torch.overrides import TorchFunctionMode

    number = torch.autograd._get_sequence_nr  # noqa: SLF001 - the only name of it

    class Layers(TorchFunctionMode):  # type: ignore[misc, unused-ignore]
        """Hears of the functions of recurrent layers."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = getattr(func, "__name__", "")
            found = layers_of(name, args) if name in _FUNCTIONS else None
            if found is None:
                return func(*args, **(kwargs or {}))
            begun, recorder.muted = number(), True
            try:
                out = func(*args, **(kwargs or {}))
            finally:
                recorder.muted = False
            owner = recorder.calls.owner()
            recorder.steps += [Step(op=each, phase=recorder.phase, aten=name, module=owner) for each in found]
            recorder.inside.append((begun, number(), found, name, owner))
            recorder.results(out)
            return out

    return Layers()


def of_a_layer(torch: Any, recorder: Any) -> bool:
    """Whether the operator at hand is a step of a layer's backward pass; the first writes down the layer's."""
    node = torch._C._current_autograd_node() if recorder.inside else None  # noqa: SLF001 - what torch's own tracing asks
    if node is None:
        return False
    place = node._sequence_nr()  # noqa: SLF001 - the only name of it
    for index, (begun, ended, layers, name, owner) in enumerate(recorder.inside):
        if begun <= place < ended:
            if layers:
                made = [each for layer in reversed(layers) for each in gradients_of(layer)]
                recorder.steps += [Step(op=each, phase=recorder.phase, aten=name, module=owner) for each in made]
                recorder.inside[index] = (begun, ended, [], name, owner)
            return True
    return False
