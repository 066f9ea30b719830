"""Measure what a device really sustains, fit an empirical roofline, predict operator time from it.

Examples
--------
>>> import microbench as mb
>>> c = mb.run("cpu", quick=True)  # doctest: +SKIP
>>> c.roofline.attainable(0.25, "f32", "DRAM")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public name -> module that defines it. Loaded on first use, so that `microbench --help` stays quick.
_LAZY: dict[str, str] = {}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'microbench' has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
