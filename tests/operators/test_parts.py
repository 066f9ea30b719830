"""Every operator has every part, or says which it does without: what is forgotten is named here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pkgutil import iter_modules

import numpy as np
import pytest

from microbench import operators
from microbench.operators import OPERATORS, Operator, Tally, op, registry, table_of
from microbench.operators.aten import ATEN
from microbench.operators.draws import DRAWS, Sizes
from microbench.operators.features import describe


def _seen(row: Operator, direction: str) -> bool:
    return any(row.name in seen.operators and seen.direction == direction for seen in ATEN.values())


# part: (whether the operator has it, what its absence is called and how it is given)
PARTS: dict[str, tuple[Callable[[Operator], object], str]] = {
    "example": (lambda row: row.example, "no example: give a small shape, example={...}"),
    "backward": (lambda row: row.backward, "no backward rule: give backward="),
    "aten": (lambda row: _seen(row, "forward"), "no aten name: decorate a rule with @aten(NAME, gives=...)"),
    "aten backward": (
        lambda row: _seen(row, "backward"),
        "no aten name of its backward pass: decorate a rule with @aten(NAME, gives=..., direction='backward')",
    ),
    "call": (lambda row: row.call, "no torch call: give call="),
    "draws": (
        lambda row: any(row.name in draw.operators for draw in DRAWS.values()),
        "no shapes to draw: decorate a function with @draw(NAME, count=...)",
    ),
    "widths": (lambda row: row.widths is not None, "no width axis: give widths=, say none explicitly by widths=()"),
    "coordinates": (
        lambda row: row.coordinates or row.gemm or row.rows,
        "nothing that says which shapes are near: give rows=, gemm= or coordinates=",
    ),
}
# Parts that no operator does without.
ALWAYS = ("example", "widths", "coordinates")


def missing(row: Operator, part: str) -> str:
    """What is wrong with a part of an operator; nothing if it is there, or done without for a reason."""
    there, absence = PARTS[part]
    if there(row):
        return f"{row.name} has {part} and says that it does without" if part in row.without else ""
    if part in row.without and part not in ALWAYS:
        return "" if row.without[part] else f"{row.name} gives no reason for having {absence}"
    return f"{row.name} has {absence}" + ("" if part in ALWAYS else f", or without={{{part!r}: WHY}}")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_an_operator_has_every_part(name: str, part: str) -> None:
    fault = missing(OPERATORS[name], part)
    if fault:
        pytest.fail(fault, pytrace=False)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_an_operator_does_without_known_parts_only(name: str) -> None:
    assert set(OPERATORS[name].without) <= set(PARTS) - set(ALWAYS)


@pytest.mark.parametrize("part", PARTS)
def test_a_forgotten_part_is_named(part: str) -> None:
    bare = Operator(name="bare", family="none", keys=("size",), says="", forward=lambda s: Tally())
    assert missing(bare, part) == f"bare has {PARTS[part][1]}" + (
        "" if part in ALWAYS else f", or without={{{part!r}: WHY}}"
    )


def test_what_is_registered_belongs_to_an_operator() -> None:
    for name, seen in ATEN.items():
        assert seen.operators, name
        assert set(seen.operators) <= set(OPERATORS), name
    for name, draw in DRAWS.items():
        assert draw.operators, name
        assert set(draw.operators) <= set(OPERATORS), name


@pytest.mark.parametrize("name", sorted(DRAWS))
def test_what_is_drawn_is_a_shape_of_its_operators(name: str) -> None:
    sizes = Sizes(np.random.default_rng(1))
    for _ in range(5):
        shape = DRAWS[name].shape(sizes)
        for operator in DRAWS[name].operators:
            assert set(shape) <= set(OPERATORS[operator].keys), f"{name} draws keys that {operator} has not"


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_coordinates_and_code_of_an_example_are_sound(name: str) -> None:
    row = OPERATORS[name]
    for direction in ("forward", "backward") if row.backward else ("forward",):
        features = describe(table_of([op(name, direction=direction, **row.example)]).batches[0])
        assert np.isfinite(features.coordinates).all()
        assert features.family == row.family
        assert features.code[0].startswith(name)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_torch_has_an_aten_operator_of_the_name(name: str, direction: str) -> None:
    torch = pytest.importorskip("torch")
    names = [key for key, seen in ATEN.items() if name in seen.operators and seen.direction == direction]
    assert not names or any(hasattr(torch.ops.aten, key) for key in names), f"torch has none of {names}"


def test_every_file_of_the_folder_is_imported_without_torch() -> None:
    asked = "import sys, microbench.operators; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    imported = said.stdout.split()
    assert {f"microbench.operators.{each.name}" for each in iter_modules(operators.__path__)} <= set(imported)
    assert "torch" not in imported


def test_two_operators_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two operators are named relu"):
        registry.add(OPERATORS["relu"])


def test_what_is_given_for_unknown_keys_is_refused() -> None:
    for fact in ({"defaults": {"z": 1}}, {"example": {"z": 1}}, {"widths": ("z",)}):
        with pytest.raises(ValueError, match=r"for unknown keys \['z'\]"):
            registry.add(Operator(name="new", family="none", keys=("m",), says="", forward=lambda s: Tally(), **fact))
    assert "new" not in OPERATORS
