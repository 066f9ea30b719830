"""A captured model: its operators in their order, each with the module that it belongs to, and what it holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from microbench.operators.core import Op
from microbench.records import Row, units
from microbench.records.framed import Framed
from microbench.text import visible


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operator of a model.

    ``phase`` is forward, backward or optimiser; ``aten`` the operator that was seen; ``module`` the path of the
    innermost module that runs it, as in ``named_modules``, empty for the model itself. ``nested`` says that it was
    called inside another one (a step of a recurrent layer) and not from Python.
    """

    op: Op
    phase: str
    aten: str
    module: str = ""
    nested: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A module of a model: its path, its class, how often a forward pass calls it.

    ``parameters`` are its own, without those of the modules inside; what several share belongs to the first.
    """

    path: str
    kind: str
    parameters: int
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph(Framed):
    """A captured model. ``unknown`` counts operators without a rule; bytes are of the tensors alive.

    ``notes`` say what was taken for granted, one sentence each; ``parts`` are its modules, outer before inner.
    ``compiled`` says that the steps are kernels as `torch.compile` fuses them, which no module runs.
    ``python_views`` is how many calls from Python made a view and nothing else; ``optimiser`` steps over ``trained``
    parameters and keeps ``state_bytes`` of them. ``allocations`` are the bytes of results in the order in which they
    are made; a number below zero gives back those of that place, counted from 1, and what is still there at the end is
    given back before the next pass.
    """

    name: str
    steps: tuple[Step, ...]
    batch: int
    parameters: int
    parameter_bytes: int
    peak_bytes: int
    mean_bytes: float
    views: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    train: bool = False
    notes: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    compiled: bool = False
    python_views: int = 0
    optimiser: str = "none"
    trained: int = 0
    allocations: tuple[int, ...] = ()
    state_bytes: tuple[int, ...] = ()

    @property
    def modules(self) -> int:
        """How many modules a forward pass calls."""
        return sum(part.calls for part in self.parts)

    def __repr__(self) -> str:
        """How much of what."""
        flop = units.prefixed(sum(step.op.work.flop for step in self.steps), "FLOP", 3)
        size = units.size(self.parameter_bytes, 3)
        return visible(
            f"<Graph {self.name}: {len(self.steps)} operators, {flop}, {self.parameters} parameters in {size}>"
        )

    def frame_rows(self) -> list[Row]:
        """One row an operator, in its order: FLOP, bytes."""
        return [
            {
                "op": str(step.op),
                "phase": step.phase,
                "module": step.module,
                "aten": step.aten,
                "flop": step.op.work.flop,
                "read_bytes": step.op.work.bytes_read,
                "written_bytes": step.op.work.bytes_written,
            }
            for step in self.steps
        ]

    @property
    def operators(self) -> tuple[Op, ...]:
        """The operators in their order."""
        return tuple(step.op for step in self.steps)
