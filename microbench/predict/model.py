"""A captured model's time, memory and limits from the predictions of its operators.

On a processor operators run one after another, so times add up; each lies between its hot and its cold time, by how
much else the model touches before it comes back. On a GPU the host issues while the device works: the longer of the two
decides, with a first launch before it and a last synchronisation after it. Captured in a graph, the host issues once;
of kernels alone, never.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from microbench.operators import Op, table_of
from microbench.operators.core import Launch
from microbench.predict.cold_cache import share_paid
from microbench.predict.host import model_seconds
from microbench.predict.model_interval import LEAST_SPREAD, PLAIN, Kind, expected_spread, interval
from microbench.predict.operator import LEAST_SECONDS, Columns, predict_table, roofs
from microbench.records import MODULE_COST, Estimate, Finding, Row, units
from microbench.records.framed import Framed
from microbench.text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from microbench.operators.capture import Graph, Step
    from microbench.records import Characterisation

# Cost of a module around an operator, measured by calibration under this name.
# With fewer measured models the largest error says too little.
LEAST_MODELS = 5
# How far off what is fetched of memory may be (standard deviation over the value): where blocks come to lie hangs on
# what a process did before.
FETCHING = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTime(Framed):
    """What is predicted of a model, in seconds, bytes and FLOP; shares are of the ceilings (MFU, MBU).

    ``launch_share`` is the part of the latency that is cost and not work; ``columns`` has one row per step. Of a GPU
    ``device_s`` is the sum of its operators' times on the device, and ``issue_s`` what the host takes to issue them all
    (both ``None`` where calibration did not tell them apart); ``launch`` is how the model is run. ``spread`` is what
    error (ln) the operators' intervals expect, ``kind`` what makes models alike.
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
    launch: Launch = "eager"
    issue_s: float | None = None
    device_s: float | None = None
    kind: Kind = PLAIN
    spread: float = LEAST_SPREAD

    def __repr__(self) -> str:
        """How long, with the interval, and what of the ceilings it reaches."""
        low, high = (units.seconds(value, 3) for value in (self.latency.low, self.latency.high))
        took = f"{units.seconds(self.latency.value, 3)} ({low} to {high})"
        return visible(f"<ModelTime of {self.graph.name}, {self.launch}: {took}, {len(self.graph.steps)} operators>")

    def frame_rows(self) -> list[Row]:
        """One row an operator, in its order: what it does and how many seconds are predicted of it."""
        predicted = zip(self.columns.predicted, self.columns.low, self.columns.high, self.columns.limiter, strict=True)
        return [
            {**row, "seconds": float(value), "low_s": float(low), "high_s": float(high), "limiter": str(limiter)}
            for row, (value, low, high, limiter) in zip(self.graph.frame_rows(), predicted, strict=True)
        ]

    @property
    def steps(self) -> Sequence[Step]:
        """The captured operators, in the order of ``columns``."""
        return self.graph.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class _Time:
    """Low, predicted and high seconds of a model, what is cost of it, and of a GPU the two sides of it."""

    seconds: tuple[float, float, float]
    cost: float
    issue: float | None = None
    device: float | None = None


def predict_model(graph: Graph, calibration: Characterisation, launch: Launch = "eager") -> ModelTime:
    """Predict a captured model.

    Parameters
    ----------
    graph, calibration
        The model, and the device.
    launch
        How the model is run: eager, captured once and replayed (graph), or its kernels alone (kernel).

    Raises
    ------
    UsageError
        If the calibration has neither fits nor ceilings for what the model does.
    """
    columns = _columns(graph, calibration, launch)
    costs = {cost.name: cost.seconds.value for cost in calibration.costs}
    modules = 0.0 if graph.compiled else costs.get(MODULE_COST, 0.0) * graph.modules
    fetched_s = 0.0
    if calibration.device.kind == "cuda":
        time = _on_gpu(columns, launch, modules, costs)
    else:
        fetched_s, calls = model_seconds(graph, calibration.fits.host)
        time = _one_after_another(columns, modules + calls, fetched_s)
    low, total, high = time.seconds
    counted = Counter[str]()
    for each in graph.operators:
        counted["flop"] += each.work.flop
        counted["bytes"] += each.work.bytes
    ceilings, ridge = _ceilings(calibration, graph.operators)
    kind = Kind(train=graph.train, dtype=_most_used(graph), launch_share=min(1.0, time.cost / total))
    spread = math.hypot(expected_spread(columns, graph.steps), FETCHING * fetched_s / total)
    errors = calibration.fits.model_errors
    if len(errors) < LEAST_MODELS:
        latency = _interval(total, (low, high), calibration.fits.models)
    else:
        latency = interval(total, spread, kind, errors)
    latency = _with_unknown(latency, graph)
    return ModelTime(
        graph=graph,
        latency=latency,
        kind=kind,
        spread=spread,
        samples_per_s=graph.batch / latency.value,
        flop=counted["flop"],
        bytes=counted["bytes"],
        load_s=graph.parameter_bytes / ceilings["bandwidth"] if "bandwidth" in ceilings else None,
        compute_share=counted["flop"] / total / ceilings["peak"] if "peak" in ceilings else None,
        memory_share=counted["bytes"] / total / ceilings["bandwidth"] if "bandwidth" in ceilings else None,
        launch_share=kind.launch_share,
        ridge=ridge,
        columns=columns,
        findings=(*columns.findings, *_unknown(graph)),
        launch=launch,
        issue_s=time.issue,
        device_s=time.device,
    )


def _columns(graph: Graph, calibration: Characterisation, launch: Launch) -> Columns:
    """Operators between hot and cold cache, by the bytes that the whole model touches in one pass."""
    reuse = calibration.fits.reuse
    apart = launch == "eager" and any(made.issue_s for made in calibration.fits.operators)
    # Where the two sides of an eager call are known apart, they are added up apart.
    operators = [replace(each, launch="kernel" if apart else launch) for each in graph.operators]
    if not reuse:
        return predict_table(table_of(operators), calibration, float(graph.parameter_bytes), alone=False)
    hot = predict_table(table_of(operators), calibration, alone=False)
    cold = predict_table(table_of([replace(each, cache="cold") for each in operators]), calibration, alone=False)
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


def _most_used(graph: Graph) -> str:
    """The number format of most FLOP."""
    flop: Counter[str] = Counter()
    for each in graph.operators:
        flop[each.dtype] += each.work.flop
    return max(flop, key=lambda name: flop[name], default="f32")


def _with_unknown(latency: Estimate, graph: Graph) -> Estimate:
    """What has no rule is not in the sum: it may take what an operator takes in the mean, each of them."""
    missing = sum(graph.unknown.values())
    if not missing or not graph.steps:
        return latency
    return replace(latency, high=latency.high * (1 + missing / len(graph.steps)))


def _sums(columns: Columns) -> tuple[float, float, float]:
    known = np.isfinite(columns.predicted)
    low, total, high = (float(column[known].sum()) for column in (columns.low, columns.predicted, columns.high))
    return low, total, high


def _one_after_another(columns: Columns, calls: float, fetched: float) -> _Time:
    """A processor does one operator after another; Python calls what is around them, and memory comes anew."""
    low, total, high = (max(value + calls + fetched, LEAST_SECONDS) for value in _sums(columns))
    return _Time(seconds=(low, total, high), cost=float(np.nansum(columns.cost_s)) + calls)


def _on_gpu(columns: Columns, launch: Launch, modules: float, costs: Mapping[str, float]) -> _Time:
    """Host and device side by side, between the first launch and the end of the wait for the last kernel."""
    sums = _sums(columns)
    seen = np.isfinite(columns.issue_s[:, 1])
    if launch != "eager":
        around = costs.get("launch.round_trip", 0.0) if launch == "graph" else 0.0
        low, total, high = (value + around for value in sums)
        return _Time(seconds=(low, total, high), cost=float(np.nansum(columns.cost_s)) + around, device=sums[1])
    if not seen.any():
        return _overlapped(columns, sums)
    # A step whose family was not calibrated is issued like the others.
    issued = np.where(seen[:, None], columns.issue_s, np.median(columns.issue_s[seen], axis=0)).sum(axis=0) + modules
    around = costs.get("launch.round_trip", float(np.median(columns.issue_s[seen, 1])))
    low, total, high = (max(host, device) + around for host, device in zip(issued, sums, strict=True))
    waited = max(0.0, float(issued[1]) - sums[1])
    cost = float(np.nansum(columns.cost_s)) + waited + around
    return _Time(seconds=(low, total, high), cost=cost, issue=float(issued[1]), device=sums[1])


def _overlapped(columns: Columns, sums: tuple[float, float, float]) -> _Time:
    """Where nothing tells the host's time from the device's: a cost is the host's, all else the device's."""
    known = np.isfinite(columns.predicted)
    host, first = float(columns.cost_s[known].sum()), float(columns.cost_s[known].max(initial=0.0))
    low, total, high = (max(host, value - host) + first for value in sums)
    return _Time(seconds=(low, total, high), cost=host)


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
    """What the capture took for granted, and what it left out."""
    notes = [Finding(code="captured-as", severity="info", says=f"{note}.") for note in graph.notes]
    if not graph.unknown:
        return notes
    names = ", ".join(
        f"{name} x{count}" for name, count in sorted(graph.unknown.items(), key=lambda item: -item[1])[:8]
    )
    says = f"{sum(graph.unknown.values())} operators of {graph.name} have no rule and are not in the sum: {names}."
    return [*notes, Finding(code="operators-without-rule", severity="warning", says=says)]
