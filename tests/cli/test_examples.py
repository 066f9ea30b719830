"""The examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import microbench
from microbench.kernels.cuda import registry

# Triton reads this one's functions when it is imported.
MODULES = sorted(
    found.name
    for found in pkgutil.walk_packages(microbench.__path__, "microbench.")
    if found.name != "microbench.kernels.triton.code" and not found.name.rpartition(".")[2].startswith("_")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_is_written_below_them(name: str) -> None:
    if name == registry.__name__ and (lacks := registry.sheets_for("sm_90a")[0].unavailable):
        pytest.skip(f"its examples are of code that can run: {lacks}")
    module = importlib.import_module(name)
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    assert sum(bool(test.examples) for name in MODULES for test in finder.find(importlib.import_module(name))) > 40
