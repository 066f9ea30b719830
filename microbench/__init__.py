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

from microbench.records import Characterisation

__version__ = "0.1.0"

# Public name -> module that defines it. Loaded on first use, so that `microbench --help` stays quick.
_LAZY: dict[str, str] = {
    "load": "microbench.storage.store",
    "audit": "microbench.runs.python",
    "doctor": "microbench.runs.python",
    "export": "microbench.runs.python",
    "history": "microbench.runs.python",
    "nominal": "microbench.runs.python",
    "population": "microbench.runs.python",
    "report": "microbench.runs.python",
    "validate": "microbench.runs.python",
    "compare": "microbench.analysis.compare",
    "op": "microbench.operators",
    "capture": "microbench.operators.capture",
    "fit": "microbench.predict.fit",
    "predict": "microbench.predict",
    "run": "microbench.runs.session",
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
    """A package in which ``mb.predict`` stays the function, although a folder has the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        # The import system binds each imported submodule to its name here, which would hide the function.
        if not (name in _LAZY and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


# What users look for on the record, bound here because it stands above it: analysis and drawing.


def _roofline(self: Characterisation) -> Any:
    """The empirical `microbench.analysis.roofline.Roofline` of all threads."""
    from microbench.analysis.roofline import Roofline

    return Roofline.of(self)


def _ceilings_frame(self: Characterisation) -> Any:
    """The ceilings as a pandas DataFrame in long form, SI units in the column names."""
    import pandas as pd

    from microbench.analysis.frames import ceiling_rows

    return pd.DataFrame(list(ceiling_rows(self.ceilings)))


def _draw_roofline(self: Characterisation, ax: Any) -> Any:
    """Draw the roofline on matplotlib axes and return them."""
    from microbench.report.plots import draw_roofline

    draw_roofline(ax, self)
    return ax


def _frame_rows(self: Characterisation) -> Any:
    """The rows of `Characterisation.to_frame`: the ceilings."""
    from microbench.analysis.frames import ceiling_rows

    return ceiling_rows(self.ceilings)


Characterisation.frame_rows = _frame_rows  # type: ignore[assignment,method-assign]
Characterisation.roofline = property(_roofline)  # type: ignore[assignment,method-assign]
Characterisation.ceilings_frame = _ceilings_frame  # type: ignore[method-assign]
Characterisation.draw_roofline = _draw_roofline  # type: ignore[method-assign]
