"""Which module of a model runs: an operator of a forward pass belongs to the innermost one that is being called.

An operator of a backward pass belongs to the module whose forward pass made its node: autograd numbers its nodes in
the order in which they are made, so that the numbers at which modules begin and end tell whose a node is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from typing import Any, Self

from microbench.operators.graph import Part


class ModuleCalls:
    """Follows the calls of a model's modules while it is entered."""

    def __init__(self, torch: Any, model: Any) -> None:
        self._torch = torch
        self._model = model
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._running: list[str] = []
        # Autograd's number at each change of the module that runs, and that module.
        self._numbers: list[int] = [-1]
        self._owners: list[str] = [""]
        self._handles: list[Any] = []
        self.calls: Counter[str] = Counter()

    def __enter__(self) -> Self:
        hooks = self._torch.nn.modules.module
        self._handles = [
            hooks.register_module_forward_pre_hook(self._begin),
            hooks.register_module_forward_hook(self._end, always_call=True),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _begin(self, module: Any, _: Any) -> None:
        # A module that is made while the model runs belongs to the one that made it.
        path = self._paths.get(id(module), self.path)
        self.calls[path] += id(module) in self._paths
        self._running.append(path)
        self._mark()

    def _end(self, *_: Any) -> None:
        if self._running:
            self._running.pop()
        self._mark()

    def _mark(self) -> None:
        self._numbers.append(self._torch.autograd._get_sequence_nr())  # noqa: SLF001 - the only name of it
        self._owners.append(self.path)

    @property
    def path(self) -> str:
        """The module that is being called; empty for the model itself, or for none."""
        return self._running[-1] if self._running else ""

    def owner(self) -> str:
        """The module that the operator at hand belongs to, in a backward pass that of the node that is being run."""
        if self._running:
            return self._running[-1]
        node = self._torch._C._current_autograd_node()  # noqa: SLF001 - what torch's own tracing asks
        if node is None:
            return ""
        return self._owners[bisect_right(self._numbers, node._sequence_nr()) - 1]  # noqa: SLF001 - the only name of it

    def parts(self) -> tuple[Part, ...]:
        """All modules, with their own parameters and their calls."""
        seen: set[int] = set()
        found = []
        for path, module in self._model.named_modules():
            own = [each for each in module.parameters(recurse=False) if id(each) not in seen]
            seen.update(map(id, own))
            parameters = sum(each.numel() for each in own)
            kind = type(module).__name__
            found.append(Part(path=path, kind=kind, parameters=parameters, calls=self.calls[path]))
        return tuple(found)
