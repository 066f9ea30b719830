"""What an optimiser's step does to one parameter: PyTorch's own passes over it, one tensor after another.

A pass reads and writes so many tensors of the parameter's size; those that make a new tensor hand it to the next pass
and give it back at the end of the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from microbench.errors import UsageError
from microbench.operators.core import op
from microbench.operators.graph import Step
from microbench.records.dtypes import dtype as find_dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass over a parameter: the aten operator, tensors read and written, FLOP an element, whether one is new."""

    aten: str
    reads: int
    writes: int
    flop: int
    new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimiser:
    """Passes of a step, and how many tensors of a parameter's size are kept between steps."""

    passes: tuple[Pass, ...]
    kept: int


OPTIMISERS = {
    "adam": Optimiser(
        passes=(
            Pass(aten="lerp_", reads=2, writes=1, flop=3),
            Pass(aten="mul_", reads=1, writes=1, flop=1),
            Pass(aten="addcmul_", reads=2, writes=1, flop=3),
            Pass(aten="sqrt", reads=1, writes=1, flop=1, new=True),
            Pass(aten="div", reads=1, writes=1, flop=1, new=True),
            Pass(aten="add_", reads=1, writes=1, flop=1),
            Pass(aten="addcdiv_", reads=3, writes=1, flop=3),
        ),
        kept=2,
    ),
    "sgd": Optimiser(
        passes=(
            Pass(aten="mul_", reads=1, writes=1, flop=1),
            Pass(aten="add_", reads=2, writes=1, flop=2),
            Pass(aten="add_", reads=2, writes=1, flop=2),
        ),
        kept=1,
    ),
    "none": Optimiser(passes=(), kept=0),
}


def optimiser(name: str) -> Optimiser:
    """Look an optimiser up.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name not in OPTIMISERS:
        raise UsageError(f"no optimiser is called {name[:40]!r}; there are {', '.join(OPTIMISERS)}")
    return OPTIMISERS[name]


def steps_of(name: str, tensor: Any, module: str = "") -> list[Step]:
    """The passes of an optimiser over one parameter of a module."""
    size = int(tensor.numel())
    number_format = find_dtype(str(tensor.dtype)).name
    return [
        Step(
            op=op(
                "pointwise",
                dtype=number_format,
                size=size,
                reads=each.reads * size,
                writes=each.writes * size,
                flop=each.flop * size,
            ),
            phase="optimiser",
            aten=each.aten,
            module=module,
        )
        for each in optimiser(name).passes
        if size
    ]


def events_of(name: str, tensor: Any, made: int) -> list[int]:
    """New tensors of a step over one parameter and their end, as `Graph.allocations`; ``made`` were made before."""
    held = int(tensor.numel() * tensor.element_size())
    new = [each for each in optimiser(name).passes if each.new] if held else []
    return [*(held for _ in new), *(-(made + place + 1) for place, _ in enumerate(new))]
