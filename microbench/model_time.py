"""A captured model's time, memory and limits from the predictions of its operators.

On a processor operators run one after another, so times add up. On a GPU the host issues while the device works: the longer of
the two decides, after a first launch and before a last synchronisation.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from microbench.operators import Op, table_of
from microbench.predict import Columns, predict_table, roofs
from microbench.records import Estimate, Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microbench.capture import Graph, Step
    from microbench.records import Characterisation

# Cost of a module around an operator, measured by calibration under this name.
MODULE_COST = "module.eager"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTime:
    """What is predicted of a model. Seconds, bytes, FLOP; ``compute_share`` and ``memory_share`` are of the ceilings (MFU, MBU).

    ``launch_share`` is the part of the latency that is cost and not work; ``columns`` has one row per step.
    """

    graph: Graph
    latency: Estimate
    samples_per_s: float
    flop: int
    bytes: int
    load_s: float | None
    compute_share: float | None
    memory_share: float | None
    launch_share: float
    ridge: dict[str, float]
    columns: Columns
    findings: tuple[Finding, ...] = ()

    @property
    def steps(self) -> Sequence[Step]:
        """The captured operators, in the order of ``columns``."""
        return self.graph.steps


def predict_model(graph: Graph, calibration: Characterisation) -> ModelTime:
    """Predict a captured model.

    Raises
    ------
    UsageError
        If the calibration has neither fits nor ceilings for what the model does.
    """
    columns = predict_table(table_of(graph.operators), calibration, float(graph.parameter_bytes))
    known = np.isfinite(columns.predicted)
    per_module = next((cost.seconds.value for cost in calibration.costs if cost.name == MODULE_COST), 0.0)
    host = per_module * sum(1 for step in graph.steps if step.phase == "forward")
    total, low, high = (float(column[known].sum()) + host for column in (columns.predicted, columns.low, columns.high))
    if calibration.device.kind == "cuda":
        total, low, high = _overlapped(columns, known, (total, low, high))
    counted = Counter[str]()
    for each in graph.operators:
        counted["flop"] += each.work.flop
        counted["bytes"] += each.work.bytes
    ceilings, ridge = _ceilings(calibration, graph.operators)
    cost = float(columns.cost_s[known].sum()) + host
    return ModelTime(
        graph=graph,
        latency=Estimate(value=total, low=min(low, total), high=max(high, total), basis="sums of the operators' lows and highs"),
        samples_per_s=graph.batch / total,
        flop=counted["flop"],
        bytes=counted["bytes"],
        load_s=graph.parameter_bytes / ceilings["bandwidth"] if "bandwidth" in ceilings else None,
        compute_share=counted["flop"] / total / ceilings["peak"] if "peak" in ceilings else None,
        memory_share=counted["bytes"] / total / ceilings["bandwidth"] if "bandwidth" in ceilings else None,
        launch_share=min(1.0, cost / total),
        ridge=ridge,
        columns=columns,
        findings=(*columns.findings, *_unknown(graph)),
    )


def _overlapped(columns: Columns, known: np.ndarray, sums: tuple[float, float, float]) -> tuple[float, float, float]:
    """Host and device side by side: eager costs queue on the host while kernels run."""
    host = float(columns.cost_s[known].sum())
    first = float(columns.cost_s[known].max(initial=0.0))
    return tuple(max(host, value - host) + first for value in sums)  # type: ignore[return-value]


def _ceilings(calibration: Characterisation, operators: Sequence[Op]) -> tuple[dict[str, float], dict[str, float]]:
    """Peak of the dtype that does most of the work, bandwidth of memory, and ridge points by dtype."""
    from microbench.errors import UsageError

    flop: Counter[str] = Counter()
    for each in operators:
        flop[each.dtype] += each.work.flop
    found: dict[str, float] = {}
    ridge: dict[str, float] = {}
    for dtype, _ in flop.most_common():
        try:
            bounds = roofs(calibration, dtype)
        except UsageError:
            continue
        found.setdefault("peak", bounds.peak)
        found.setdefault("bandwidth", bounds.bandwidth[-1])
        ridge[dtype] = bounds.peak / bounds.bandwidth[-1]
    return found, ridge


def _unknown(graph: Graph) -> list[Finding]:
    if not graph.unknown:
        return []
    names = ", ".join(f"{name} x{count}" for name, count in sorted(graph.unknown.items(), key=lambda item: -item[1])[:8])
    says = f"{sum(graph.unknown.values())} operators of {graph.name} have no rule and are not in the sum: {names}."
    return [Finding(code="operators-without-rule", severity="warning", says=says)]
