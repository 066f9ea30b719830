"""Imported first, it makes PyTorch seem not installed: one with CUDA asks a fake driver for what it has not.

The finders are blocked rather than ``None`` put into ``sys.modules``: libraries take a name there for torch being
loaded, and ask it for its tensors.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _WithoutTorch:
    """A finder of modules that finds no torch, and everything else as before."""

    def __init__(self, finder: Any) -> None:
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found: ModuleSpec | None = self._finder.find_spec(name, path, target)
        return None if name.partition(".")[0] == "torch" else found


sys.meta_path[:] = [_WithoutTorch(finder) for finder in sys.meta_path]  # type: ignore[misc]
