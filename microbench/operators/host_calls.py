"""What Python calls while a model runs: what costs time beside the work of operators."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

# What only asks a tensor something.
_NO_CALLS = frozenset({"__get__", "__set__", "size", "dim", "stride", "numel", "is_floating_point", "is_complex"})


@dataclass(slots=True)
class HostCalls:
    """What Python calls while a model runs: ``views`` are calls that make a view and run no operator."""

    views: int = 0
    _operators: int | None = None

    def inside(self) -> bool:
        """Hear of an operator: whether the call that it belongs to has run another one before."""
        if self._operators is None:
            return False
        self._operators += 1
        return self._operators > 1

    def called(self, call: Callable[[], Any], *, composed: bool) -> Any:
        """Make a call of Python; what is ``composed`` in Python calls each operator from there."""
        before, self._operators = self._operators, None if composed else 0
        try:
            return call()
        finally:
            self.views += self._operators == 0
            self._operators = before


@contextlib.contextmanager
def watched(host: HostCalls) -> Iterator[None]:
    """Count the functions of torch that Python calls."""
    from torch.overrides import TorchFunctionMode

    class Calls(TorchFunctionMode):  # type: ignore[misc, unused-ignore]
        """Hears of every function of torch that is called from Python."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            composed = isinstance(func, FunctionType)
            quiet = not composed and getattr(func, "__name__", "") in _NO_CALLS
            if quiet:
                return func(*args, **(kwargs or {}))
            return host.called(lambda: func(*args, **(kwargs or {})), composed=composed)

    with Calls():
        yield
