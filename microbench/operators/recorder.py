"""A dispatch mode of PyTorch that writes down every operator that passes, and the bytes of the tensors alive."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Sequence
from typing import Any

from microbench.errors import UsageError
from microbench.operators.aten import VIEWS, operators_of
from microbench.operators.core import Op
from microbench.operators.graph import Step
from microbench.operators.host_calls import HostCalls
from microbench.operators.known_values import KnownValues, listed
from microbench.operators.library_layers import of_a_layer
from microbench.operators.module_calls import ModuleCalls
from microbench.operators.registry import Shape
from microbench.operators.weight_formats import WeightUses
from microbench.records.dtypes import DTYPES


def tensors_in(torch: Any, value: Any) -> list[Any]:
    """All tensors of a result."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors_in(torch, item)]
    return []


class _Live:
    """Bytes of the tensors alive, by storage; ``events`` are those that were made and given back, in their order.

    A number above zero is so many bytes made, one below zero gives back those of that place among the made (from 1).
    """

    def __init__(self) -> None:
        self.now = 0
        self.peak = 0
        self.total = 0
        self.looks = 0
        self.events: list[int] = []
        self._made = 0
        self._holders: Counter[int] = Counter()
        self._sizes: dict[int, int] = {}
        self._places: dict[int, int] = {}

    def saw(self, tensor: Any, inputs: Sequence[Any] = ()) -> None:
        """Hear of a result; what works in place on an input that was there before makes nothing."""
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001 - the only name a storage has
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += self._sizes[key]
            self.peak = max(self.peak, self.now)
            if self._sizes[key] and all(tensor is not each for each in inputs):
                self._made += 1
                self._places[key] = self._made
                self.events.append(self._sizes[key])
        self._holders[key] += 1
        weakref.finalize(tensor, self._gone, key).atexit = False

    def worked(self, made: Op) -> None:
        """Hear of what an operator takes while it works."""
        if made.row.scratch is None:
            return
        sizes = [int(count) * DTYPES[made.dtype].bits // 8 for count in made.row.scratch(Shape(made.params))]
        self.events += sizes
        self.events += [-(self._made + place) for place in range(1, len(sizes) + 1)]
        self._made += len(sizes)

    def _gone(self, key: int) -> None:
        self._holders[key] -= 1
        if self._holders[key] <= 0:
            self.now -= self._sizes.pop(key, 0)
            del self._holders[key]
            if key in self._places:
                self.events.append(-self._places.pop(key))

    def look(self) -> None:
        self.total += self.now
        self.looks += 1


def recorder_of(torch: Any) -> Any:
    """A dispatch mode that writes down the operators that pass; ``phase`` is what they belong to."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
        """Writes down every operator that passes."""

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
            self.phase = "forward"
            self.calls: ModuleCalls | None = None
            self.steps: list[Step] = []
            self.unknown: Counter[str] = Counter()
            self.views = 0
            self.live = _Live()
            self.answers = KnownValues(torch)
            self.uses: WeightUses | None = None
            self.compiled = self.layers = False
            # Whether what passes is part of a layer that is written down whole, and those layers: the numbers of
            # autograd's first and next node, operators whose gradients are still to come, name and module.
            self.muted = False
            self.inside: list[tuple[int, int, list[Op], str, str]] = []
            self.kernels: tuple[list[Step], Counter[str]] = [], Counter()
            self.host = HostCalls()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = self.answers.call(func, args, kwargs or {})
            if self.muted or of_a_layer(torch, self):
                return out
            name = func.overloadpacket.__name__
            if name in VIEWS or (func.is_view and name != "expand_copy"):
                self.views += 1
                return out
            outputs = tensors_in(torch, out)
            for tensor in outputs:
                self.live.saw(tensor, args)
            self.live.look()
            made = self._operators(func, args, kwargs or {}, outputs)
            if self.uses is not None:
                read = [each for each in listed((*args, *(kwargs or {}).values())) if isinstance(each, torch.Tensor)]
                self.uses.saw(len(self.steps), {each.row.family for each in made or ()}, read)
            nested = self.host.inside()
            for each in made or ():
                self.live.worked(each)
            if made is None:
                self.unknown[name] += 1
            else:
                owner = self.calls.owner() if self.calls else ""
                self.steps += [Step(op=each, phase=self.phase, aten=name, module=owner, nested=nested) for each in made]
            return out

        def results(self, out: Any) -> None:
            """Hear of the results of what was not heard of."""
            for tensor in tensors_in(torch, out):
                self.live.saw(tensor)

        def _operators(self, func: Any, args: Any, kwargs: Any, outputs: list[Any]) -> list[Op] | None:
            """What a call stands for; equal calls stand for the same."""
            known = self.answers.seen.last
            if known is not None and known.counted:
                return known.operators
            try:
                made = operators_of(torch, func, args, kwargs, outputs)
            except (UsageError, AttributeError, IndexError, TypeError, ValueError, RuntimeError):
                made = None
            if known is not None:
                known.operators, known.counted = made, True
            return made

    return Recorder()
