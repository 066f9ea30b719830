"""A predicted model by its modules: each with the time, work and parameters of all that is inside it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from microbench.predict.model import ModelTime


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A module with all that is inside it, in seconds, FLOP and bytes, over all phases that were captured.

    ``depth`` is 0 for the model; ``share`` is of the model's latency; ``calls`` are those of one forward pass;
    ``operators`` are counted with those inside. A module's cost of being called is in no branch.
    """

    path: str
    kind: str
    depth: int
    calls: int
    parameters: int
    operators: int
    flop: int
    bytes: int
    seconds: float
    share: float


def _outer(path: str) -> Iterator[str]:
    """The modules that a path lies in, itself first, the model last."""
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


def module_tree(found: ModelTime) -> list[Branch]:
    """Modules in their order, outer before inner; those without parameters in which nothing runs are left out."""
    totals: dict[str, Counter[str]] = {"": Counter()}
    seconds: dict[str, float] = {}
    for place, step in enumerate(found.steps):
        work, predicted = step.op.work, float(found.columns.predicted[place])
        for path in _outer(step.module):
            counted = totals.setdefault(path, Counter())
            counted.update(flop=work.flop, bytes=work.bytes, operators=1)
            seconds[path] = seconds.get(path, 0.0) + (0.0 if math.isnan(predicted) else predicted)
    for part in found.graph.parts:
        for path in _outer(part.path):
            totals.setdefault(path, Counter())["parameters"] += part.parameters
    branches = []
    for part in found.graph.parts:
        counted = totals.get(part.path, Counter())
        if not part.path or counted["operators"] or counted["parameters"]:
            took = seconds.get(part.path, 0.0)
            branches.append(
                Branch(
                    path=part.path,
                    kind=part.kind,
                    depth=part.path.count(".") + 1 if part.path else 0,
                    calls=part.calls,
                    parameters=counted["parameters"],
                    operators=counted["operators"],
                    flop=counted["flop"],
                    bytes=counted["bytes"],
                    seconds=took,
                    share=took / found.latency.value,
                )
            )
    return branches
