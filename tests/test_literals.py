"""No size of a cache, width of a register or clock of one chip decides what is planned or what is made of it.

Every constant of the two folders that could be one is found in the syntax tree, arithmetic worked out; those that are
something else are listed by name, with the reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import microbench

ROOT = Path(microbench.__file__).parent
FILES = sorted(path for folder in ("measure", "analysis") for path in (ROOT / folder).rglob("*.py"))
# From here on a number may be the size of a cache in bytes or KiB, or a clock in kHz.
LEAST = 1024
# Conversions between units of SI, and of binary sizes to print.
UNITS = {1e3, 1e6, 1e9, 1e12, 2**10, 2**20, 2**30}
WIDTH = re.compile(r"(?:^|[._])(?:v?(?:64|128|256|512)|sse\w*|avx\w*|neon|sve\w*|amx\w*)$")

# Where a constant stands: file and the name that it is assigned to, or the function that it is in. And why it may.
ALLOWED: dict[tuple[str, str], str] = {
    ("measure/working_sets.py", "_PAGE"): "what the loops' walks are made of; every system's page is a multiple of it",
    ("measure/working_sets.py", "_COLD_PAGES"): "pages, not bytes: several times the entries of any translation cache",
    ("measure/working_sets.py", "_UNTOLD_BYTES"): "where no last cache is told; where one is, twice its size if larger",
    ("measure/working_sets.py", "_LEAST_BYTES"): "memory that a run takes for a set however little is free",
    ("measure/plan.py", "COST_BYTES"): "pages, not bytes: several times the entries of any translation cache",
    ("measure/plan.py", "_cgroup_memory"): "no limit: more than any memory",
    ("measure/plan_cuda.py", "UNKNOWN_CACHE"): "where a GPU tells no last cache",
    ("measure/plan_cuda.py", "Sets.of"): "no limit: more than any memory",
    ("measure/plan_cuda.py", "_chases"): "where a sweep begins that the first cache answers",
    ("measure/warming.py", "TWO_PASSES_BYTES"): "how long warming up may take, whatever holds the set afterwards",
    (
        "measure/warming.py",
        "LAST_CHASED_PASS_BYTES",
    ): "how long warming up may take; beyond it a chase reads its set in order",
    ("measure/budget.py", "(_OBJECTS, _EVERY, _TIMES, _FIRST_TIMES)"): "objects of an interpreter, which are timed",
    ("measure/fitting.py", "(_FILL_RATE, _PASS_RATE, _HOP_S)"): "guesses of time, before anything is timed",
    ("measure/fitting_cuda.py", "_FILL_RATE"): "a guess of time, before anything is timed",
    ("measure/fitting.py", "_CHASED_BYTES"): "how long warming up may take, as in the loop",
    ("measure/sustained.py", "_USUAL_BYTES"): "where no last cache is told; where one is, several times its size",
    ("measure/sustained.py", "_LEAST_BYTES"): "memory below which no stream lasts",
    ("measure/sustained.py", "_GRAIN"): "what a share is rounded to; no cache's size",
    ("analysis/verdicts.py", "_STACKED_BITS"): "between the widths of all buses of stacked memory and of all others",
    ("measure/order.py", "_FREQUENCY_LICENSES"): "the order of blocks in a round; a license without a place comes last",
}


def places(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Every statement of a module with the name that it defines."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            yield ast.unparse(target), node
        elif isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                yield f"{node.name}.{getattr(inner, 'name', '')}".rstrip("."), inner


def value_of(node: ast.AST, known: dict[str, float]) -> float | None:
    """What an expression of constants comes to; ``None`` for any other."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, int | float) and not isinstance(node.value, bool) else None
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.BinOp):
        left, right = value_of(node.left, known), value_of(node.right, known)
        if left is None or right is None or (isinstance(node.op, ast.Pow | ast.LShift) and right > 64):
            return None
        return float(eval(f"left {SIGNS[type(node.op)]} right", {"left": left, "right": right}))  # noqa: S307
    return None


SIGNS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.BitAnd: "&",
    ast.BitOr: "|",
}


def suspects(node: ast.AST, known: dict[str, float]) -> Iterator[str]:
    """The constants below a node that may belong to one chip; docstrings are none."""
    value = value_of(node, known)
    if value is not None:
        if abs(value) >= LEAST and value not in UNITS:
            yield ast.unparse(node)
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and WIDTH.search(node.value):
        yield repr(node.value)
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
            yield from suspects(child, known)


def found(text: str) -> dict[str, list[str]]:
    """Suspects of a module by place."""
    tree = ast.parse(text)
    known = {"KIB": 2.0**10, "MIB": 2.0**20, "GIB": 2.0**30}
    listed: dict[str, list[str]] = {}
    for name, node in places(tree):
        if name not in ("KIB", "MIB", "GIB", "KIB, MIB"):
            listed.setdefault(name, []).extend(suspects(node, known))
    return {name: each for name, each in listed.items() if each}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_size_width_or_clock_of_a_chip_decides_a_plan(path: Path) -> None:
    file = f"{path.parent.name}/{path.name}"
    unknown = {
        name: each for name, each in found(path.read_text(encoding="utf-8")).items() if (file, name) not in ALLOWED
    }
    assert unknown == {}, (
        "derive it from the device; a constant that belongs to no chip is listed above with its reason"
    )


def test_what_is_allowed_exists() -> None:
    there = {
        (f"{path.parent.name}/{path.name}", name) for path in FILES for name in found(path.read_text(encoding="utf-8"))
    }
    assert set(ALLOWED) <= there


@pytest.mark.parametrize(
    "text",
    [
        "CACHE = 32 * 1024",
        "L3_BYTES = 32 * MIB",
        "def plan(size):\n    return size <= 64 << 10",
        "class Sets:\n    last: int = 2**25",
        "CLOCK_HZ = 3.2e9",
        "def wide(sheet):\n    return sheet.variant == 'v256'",
        "def wide(sheet):\n    return 'avx512' in sheet.needs",
    ],
)
def test_a_constant_of_a_chip_is_found_wherever_it_stands(text: str) -> None:
    assert found(text)


@pytest.mark.parametrize(
    "text",
    ["SHARE = 12", "def of(ns):\n    return ns * 1e9", 'def of(x):\n    """Above v256 and 4096."""\n    return x'],
)
def test_shares_units_and_prose_are_no_constants_of_a_chip(text: str) -> None:
    assert not found(text)
