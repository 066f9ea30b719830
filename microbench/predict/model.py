"""A captured model's time, memory and limits from the predictions of its operators.

On a processor operators run one after another, so times add up; each lies between its hot and its cold time, by how
much else the model touches before it comes back. On a GPU the host issues while the device works: the longer of the two
decides, after a first launch and before a last synchronisation.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from microbench.operators import Op, table_of
from microbench.predict.cold_cache import share_paid
from microbench.predict.operator import LEAST_SECONDS, Columns, predict_table, roofs
from microbench.records import MODULE_COST, Estimate, Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from microbench.operators.capture import Graph, Step
    from microbench.records import Characterisation

# Cost of a module around an operator, measured by calibration under this name.
# With fewer measured models the largest error says too little.
LEAST_MODELS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTime:
    """What is predicted of a model, in seconds, bytes and FLOP; shares are of the ceilings (MFU, MBU).

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
    columns = _columns(graph, calibration)
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
        latency=_interval(total, (low, high), calibration.fits.models),
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


def _columns(graph: Graph, calibration: Characterisation) -> Columns:
    """Operators between hot and cold cache, by the bytes that the whole model touches in one pass."""
    reuse = calibration.fits.reuse
    if not reuse:
        return predict_table(table_of(graph.operators), calibration, float(graph.parameter_bytes))
    hot = predict_table(table_of(graph.operators), calibration)
    cold = predict_table(table_of([replace(each, cache="cold") for each in graph.operators]), calibration)
    paid = [
        share_paid(size, reuse["half_bytes"], reuse["power"]) for size in (float(graph.peak_bytes), reuse["cold_bytes"])
    ]
    share = paid[0] / paid[1]
    between = {
        name: np.maximum(getattr(hot, name) + share * (getattr(cold, name) - getattr(hot, name)), LEAST_SECONDS)
        for name in ("predicted", "low", "high", "compute_s", "memory_s", "cost_s")
    }
    nearer = cold if share > 0.5 else hot
    return replace(nearer, **between, findings=tuple(dict.fromkeys((*hot.findings, *cold.findings))))


def _interval(total: float, sums: tuple[float, float], residuals: Mapping[str, float]) -> Estimate:
    """Interval from the errors of whole models measured beside the operators, else from the operators' own."""
    if len(residuals) < LEAST_MODELS:
        return Estimate(
            value=total,
            low=min(sums[0], total),
            high=max(sums[1], total),
            basis="sums of the operators' lows and highs",
        )
    width = max(abs(error) for error in residuals.values())
    confidence = len(residuals) / (len(residuals) + 1)
    basis = f"the largest error of {len(residuals)} measured models"
    return Estimate(
        value=total, low=total * math.exp(-width), high=total * math.exp(width), basis=basis, confidence=confidence
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
        found.setdefault("bandwidth", bounds.memory.bandwidth[-1])
        ridge[dtype] = bounds.peak / bounds.memory.bandwidth[-1]
    return found, ridge


def _unknown(graph: Graph) -> list[Finding]:
    if not graph.unknown:
        return []
    names = ", ".join(
        f"{name} x{count}" for name, count in sorted(graph.unknown.items(), key=lambda item: -item[1])[:8]
    )
    says = f"{sum(graph.unknown.values())} operators of {graph.name} have no rule and are not in the sum: {names}."
    return [Finding(code="operators-without-rule", severity="warning", says=says)]
