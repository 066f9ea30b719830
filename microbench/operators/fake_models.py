"""A copy of a model on fake tensors: shapes, strides and formats, no memory; shared parameters stay shared."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from microbench.errors import UsageError

# Buffers up to so many elements keep their values: what a forward pass asks of them (a flag, a count, a table of
# positions) is then answered.
_SMALL_BUFFER = 1 << 16

Turn = Callable[[Any], Any]


def on_fake(torch: Any, fake: Any, model: Any, wanted: Any) -> Any:
    """Copy a model onto fake tensors, its floating parameters and buffers in the format ``wanted`` where one is."""

    def turn(tensor: Any) -> Any:
        changed = wanted if wanted is not None and tensor.is_floating_point() else tensor.dtype
        if isinstance(tensor, torch.nn.Parameter):
            return torch.nn.Parameter(_empty(torch, fake, tensor, changed), requires_grad=tensor.requires_grad)
        if tensor.numel() <= _SMALL_BUFFER and tensor.device.type == "cpu" and not hasattr(tensor, "fake_mode"):
            return tensor.detach().clone().to(changed)
        return _empty(torch, fake, tensor, changed)

    return _copied(model, turn)


def _empty(torch: Any, fake: Any, tensor: Any, dtype: Any) -> Any:
    if tensor.layout is not torch.strided or tensor.is_quantized:
        return fake.from_tensor(tensor.detach())
    with fake:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype, device="cpu")


def _copied(model: Any, turn: Turn) -> Any:
    """A copy of a model whose parameters and buffers are turned, each once."""
    held = [*model.parameters(), *model.buffers()]
    memo: dict[int, Any] = {id(tensor): turn(tensor) for tensor in held}
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # noqa: BLE001 - whatever a module holds may refuse to be copied
        first = (str(error).splitlines() or [""])[0][:120]
        raise UsageError(f"the model cannot be copied ({type(error).__name__}: {first})") from None


def shaped(torch: Any, model: Any, run: Callable[[Any], object]) -> Any:
    """A lazy model with the parameters that its inputs give it, on the meta device; any other as it is.

    ``run`` runs a model once on inputs of the meta device.
    """
    lazy = torch.nn.parameter.is_lazy
    if not any(lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        return model

    def turn(tensor: Any) -> Any:
        if lazy(tensor):
            return type(tensor)(requires_grad=tensor.requires_grad, device="meta", dtype=tensor.dtype)
        meta = tensor.detach().to("meta")
        return torch.nn.Parameter(meta, requires_grad=tensor.requires_grad) if _is_parameter(torch, tensor) else meta

    made = _copied(model, turn)
    with torch.no_grad():
        run(made)
    return made


def _is_parameter(torch: Any, tensor: Any) -> bool:
    return isinstance(tensor, torch.nn.Parameter)
