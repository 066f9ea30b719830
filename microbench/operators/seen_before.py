"""Calls that were answered before: a model repeats its operators, and shapes of results follow from those of operands.

PyTorch's fake tensors work out each call anew, at a tenth of a millisecond or more. Here the first call of a kind is
theirs; what gives new dense tensors, or one view, is remembered by operator, shapes, strides, formats and numbers, and
made again from that. Whatever writes into an operand, depends on data or gives anything else goes to PyTorch each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from microbench.operators.core import Op

# Kinds of arguments that are compared by their value.
_PLAIN = (bool, int, float, complex, str, type(None))
Spec = tuple[tuple[int, ...], tuple[int, ...], Any]


@dataclass(slots=True)
class Answer:
    """What a kind of call gives: sizes, strides and format of each result, or a view's sizes, strides and offset.

    ``operators`` are those that it stands for, once they are known (``counted``); ``None`` is no rule.
    """

    results: tuple[Spec | None, ...] = ()
    view: tuple[tuple[int, ...], tuple[int, ...], int] | None = None
    container: type | None = None
    operators: list[Op] | None = None
    counted: bool = False


class SeenBefore:
    """Answers calls on fake tensors; ``last`` is what is known of the latest call, ``None`` where nothing may be."""

    def __init__(self, torch: Any) -> None:
        from torch._subclasses.fake_tensor import FakeTensor, in_kernel_invocation_manager

        self._torch = torch
        self._fake, self._inside = FakeTensor, in_kernel_invocation_manager
        self._answers: dict[Any, Answer | None] = {}
        self._device = torch.device("cpu")
        self._kinds = (*_PLAIN, torch.dtype, torch.device, torch.layout, torch.memory_format)
        self._free: dict[Any, bool] = {}
        self.last: Answer | None = None

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run a call whose tensors are all fake."""
        self.last = None
        if not self._repeatable(func):
            return func(*args, **kwargs)
        storages: dict[int, int] = {}
        named = tuple(kwargs.items())
        key = self._key((args, named), storages)
        if key is None:
            return func(*args, **kwargs)
        key = (func, key)
        if key not in self._answers:
            out = func(*args, **kwargs)
            self._answers[key] = self.last = self._answer(args, out, storages)
            return out
        answer = self._answers[key]
        if answer is None:
            return func(*args, **kwargs)
        self.last = answer
        mode = self._mode(args)
        return func(*args, **kwargs) if mode is None else self._made(mode, answer, args)

    def _repeatable(self, func: Any) -> bool:
        """Whether equal calls give equal shapes and write nothing."""
        known = self._free.get(func)
        if known is None:
            schema, tag = func._schema, self._torch.Tag  # noqa: SLF001 - torch has no public name for it
            of_data = (tag.data_dependent_output, tag.dynamic_output_shape)
            known = not schema.is_mutable and not any(each in func.tags for each in of_data)
            self._free[func] = known
        return known

    def _key(self, value: Any, storages: dict[int, int]) -> Any:
        """A value to compare a call's arguments by; ``None`` where they cannot be compared."""
        if isinstance(value, self._fake):
            if value.layout is not self._torch.strided or value.is_conj() or value.is_neg():
                return None
            # Operands that share memory count once where bytes are counted.
            place = storages.setdefault(value.untyped_storage()._cdata, len(storages))  # noqa: SLF001 - its only name
            return value.dtype, value.shape, value.stride(), value.storage_offset(), place
        if isinstance(value, tuple | list):
            keys = [type(value)]
            for each in value:
                key = self._key(each, storages)
                if key is None:
                    return None
                keys.append(key)
            return tuple(keys)
        return (type(value), value) if isinstance(value, self._kinds) else None

    def _answer(self, args: Any, out: Any, storages: dict[int, int]) -> Answer | None:
        """What to remember of a result; ``None`` where it has to be asked for each time."""
        first = args[0] if args else None
        if isinstance(out, self._fake) and isinstance(first, self._fake) and _same_memory(out, first):
            plain = out.layout is self._torch.strided and out.dtype is first.dtype
            if not plain or out.is_conj() or out.is_neg():
                return None
            return Answer(view=(tuple(out.shape), out.stride(), int(out.storage_offset())))
        held = out if isinstance(out, tuple | list) else (out,)
        if type(held) not in (tuple, list):
            return None
        results: list[Spec | None] = []
        for each in held:
            if each is None:
                results.append(None)
            elif isinstance(each, self._fake) and self._plain(each, storages):
                results.append((tuple(each.shape), each.stride(), each.dtype))
            else:
                return None
        return Answer(results=tuple(results), container=type(out) if held is out else None)

    def _plain(self, tensor: Any, storages: dict[int, int]) -> bool:
        """Whether a result is a tensor of its own that fills its memory."""
        strided = tensor.layout is self._torch.strided and not (tensor.is_conj() or tensor.is_neg())
        if not strided or tensor.is_quantized or tensor.device != self._device or tensor.storage_offset():
            return False
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001 - the only name a storage has
        if key in storages or storage.nbytes() != prod(tensor.shape) * tensor.element_size():
            return False
        storages[key] = len(storages)
        return True

    def _made(self, mode: Any, answer: Answer, args: Any) -> Any:
        empty = self._torch.empty_strided
        with self._inside(mode):
            if answer.view is not None:
                made = [args[0].as_strided(*answer.view)]
            else:
                made = [
                    None if spec is None else empty(spec[0], spec[1], dtype=spec[2], device="meta")
                    for spec in answer.results
                ]
        wrapped = [None if each is None else self._fake(mode, each, self._device) for each in made]
        return wrapped[0] if answer.container is None else answer.container(wrapped)

    def _mode(self, args: Any) -> Any:
        for each in args:
            if isinstance(each, self._fake):
                return each.fake_mode
            if isinstance(each, tuple | list):
                found = self._mode(each)
                if found is not None:
                    return found
        return None


def _same_memory(one: Any, other: Any) -> bool:
    return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)  # noqa: SLF001 - its only name
