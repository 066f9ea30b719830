"""A copy of a model on fake tensors: shapes, strides and formats, no memory; shared parameters stay shared."""

from __future__ import annotations

import copy
from collections import OrderedDict
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
            return _parameter(_empty(torch, fake, tensor, changed), requires_grad=tensor.requires_grad)
        if tensor.numel() <= _SMALL_BUFFER and tensor.device.type == "cpu" and not hasattr(tensor, "fake_mode"):
            return tensor.detach().clone().to(changed)
        return _empty(torch, fake, tensor, changed)

    return _copied(model, turn)


def _empty(torch: Any, fake: Any, tensor: Any, dtype: Any) -> Any:
    from torch._subclasses.fake_tensor import FakeTensor

    if tensor.layout is not torch.strided or tensor.is_quantized:
        return fake.from_tensor(tensor.detach())
    meta = torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype, device="meta")
    return FakeTensor(fake, meta, torch.device("cpu"))


def _parameter(tensor: Any, *, requires_grad: bool) -> Any:
    """The tensor as a parameter; PyTorch's constructor would make another view of it first."""
    tensor._is_param = True  # noqa: SLF001 - what makes one of a tensor of another class
    return tensor.requires_grad_(requires_grad)


def _copied(model: Any, turn: Turn) -> Any:
    """A copy of a model whose parameters and buffers are turned, each once."""
    held = [*model.parameters(), *model.buffers()]
    memo: dict[int, Any] = {id(tensor): turn(tensor) for tensor in held}
    try:
        _copy_modules(model, memo)
        return copy.deepcopy(model, memo)
    except Exception as error:  # noqa: BLE001 - whatever a module holds may refuse to be copied
        first = (str(error).splitlines() or [""])[0][:120]
        raise UsageError(f"the model cannot be copied ({type(error).__name__}: {first})") from None


def _copy_modules(model: Any, memo: dict[int, Any]) -> None:
    """Copy the modules that are copied as PyTorch's own are, into ``memo``; deepcopy asks each of a dozen things first.

    Those that say themselves how they are copied are left to it.
    """
    from torch import nn

    plain = [each for each in model.modules() if _is_plain(nn, type(each))]
    for each in plain:
        memo[id(each)] = object.__new__(type(each))
    for each in plain:
        memo[id(each)].__dict__.update({name: _copied_value(value, memo) for name, value in vars(each).items()})


def _is_plain(nn: Any, kind: type) -> bool:
    """Whether nothing but PyTorch's module says how a class is copied, and instances keep all they have in a dict."""
    own = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__", "__slots__")
    for each in kind.__mro__:
        if each is nn.Module:
            return True
        if any(name in vars(each) for name in own):
            return False
    return False


def _copied_value(value: Any, memo: dict[int, Any]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if type(value) in (dict, OrderedDict) and id(value) not in memo:
        # Handles of hooks refer to the dictionary that holds them.
        made = memo[id(value)] = type(value)()
        made.update((name, _copied_value(each, memo)) for name, each in value.items())
        return made
    return copy.deepcopy(value, memo)


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
