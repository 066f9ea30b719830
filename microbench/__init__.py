"""Measure what a device really sustains, fit an empirical roofline, predict operator time from it.

Examples
--------
>>> import microbench as mb
>>> c = mb.run("cpu", quick=True)  # doctest: +SKIP
>>> c.roofline.attainable(0.25, "f32", "DRAM")  # doctest: +SKIP
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

# Public name -> module that defines it. Loaded on first use, so that `microbench --help` stays quick.
_LAZY: dict[str, str] = {
    "load": "microbench.store",
    "compare": "microbench.compare",
    "op": "microbench.operators",
    "capture": "microbench.capture",
    "fit": "microbench.fit",
    "predict": "microbench.predict",
    "run": "microbench.session",
}

__all__ = ["__version__", *_LAZY]  # noqa: PLE0604 - the table is the list


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'microbench' has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """A package in which ``mb.predict`` stays the function, although a module of the same name is imported beside it."""

    def __setattr__(self, name: str, value: object) -> None:
        # The import system binds each imported submodule to its name here, which would hide the function.
        if not (name in _LAZY and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
