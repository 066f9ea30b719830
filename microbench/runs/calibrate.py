"""Calibration of operators on this device: a designed sweep, timed in rounds, fitted with the ceilings as a prior."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import numpy as np

from microbench.hardware.torch_import import import_torch
from microbench.operators import Op, table_of
from microbench.predict import cold_cache
from microbench.predict.fit_family import DeviceFigures, fit_table
from microbench.predict.operator_timing import Effort, Floats, OnProgress, Rounds, measure, middle
from microbench.predict.shape_sampling import design
from microbench.records import MODULE_COST, Characterisation, Cost, Estimate, Finding, Fits, OperatorFit, OperatorTiming
from microbench.storage.store import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from microbench.predict.model import ModelTime
    from microbench.records import Ceiling, Device

# Seconds of measuring and share of the full sweep per budget; a quick run calibrates nothing.
BUDGETS = {"default": (20.0, 0.5), "thorough": (150.0, 1.0)}
# The seed of the shapes that calibrate; the fresh shapes of `validate` come from other seeds.
SEED = 1
_LEAST_ROUNDS = 3
# Modules in the chain whose time gives the cost of one.
CHAIN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """What calibration found: operator fits, the timings behind them, costs, errors on whole models, findings."""

    fits: tuple[OperatorFit, ...] = ()
    timings: tuple[OperatorTiming, ...] = ()
    reuse: dict[str, float] = field(default_factory=dict)
    models: dict[str, float] = field(default_factory=dict)
    costs: tuple[Cost, ...] = ()
    findings: tuple[Finding, ...] = ()
    rounds: Rounds | None = None


def place_of(device: Device) -> str:
    """Torch's name of a device."""
    return "cpu" if device.kind == "cpu" else f"cuda:{device.index}"


def measured_figures(device: Device, ceilings: Sequence[Ceiling]) -> DeviceFigures:
    """Measured ceilings as the prior of operator fits: the best of all threads."""

    def best(rows: list[Ceiling]) -> float | None:
        found = max(rows, key=lambda row: (row.scope == "device", row.rate.value), default=None)
        return found.rate.value if found else None

    dtypes = {row.dtype for row in ceilings if row.measures == "compute" and row.dtype}
    peaks = {
        dtype: best([row for row in ceilings if row.measures == "compute" and row.dtype == dtype]) for dtype in dtypes
    }
    speed = {
        level: best([row for row in ceilings if row.measures == "memory" and row.level == level])
        for level in ("L2", "L3", "DRAM")
    }
    caches = []
    for level in ("L2", "L3"):
        advertised = device.level(level)
        if advertised is not None and advertised.capacity_bytes and speed[level]:
            caches.append((float(advertised.capacity_bytes), speed[level]))
    return DeviceFigures(
        peak={dtype: rate for dtype, rate in peaks.items() if rate},
        bandwidth=speed["DRAM"],
        units=float(len(os.sched_getaffinity(0))) if device.kind == "cpu" else device.units_by_kind.get("sm"),
        caches=tuple(caches) or ((4e6, None), (6e7, None)) if device.kind == "cpu" else ((30e6, None),),
        kind=device.kind,
        measured=True,
    )


def use_all_threads(device: Device) -> None:
    """Let torch use every processor this process may run on: what a user gets without setting anything."""
    if device.kind == "cpu":
        import_torch().set_num_threads(len(os.sched_getaffinity(0)))


def calibrate(
    device: Device,
    ceilings: Sequence[Ceiling],
    budget: str = "default",
    seed: int = SEED,
    on_progress: OnProgress | None = None,
) -> Calibrated:
    """Measure the sweep within one of the `BUDGETS` and fit every family; ``on_progress`` is called meanwhile.

    Returns
    -------
    Calibrated
        Empty, with a finding, where torch is missing.
    """
    if find_spec("torch") is None:
        says = "operators were not calibrated: torch is not installed; predictions use the plain roofline"
        return Calibrated(
            findings=(
                Finding(
                    code="no-operators", severity="info", says=says, remedy="pip install 'microbench-roofline[torch]'"
                ),
            )
        )
    use_all_threads(device)
    limit_s, share = BUDGETS[budget]
    effort = Effort(limit_s=limit_s, least=_LEAST_ROUNDS, seed=seed)
    rounds = measure(design(seed, share), place_of(device), effort, model_calls(device), on_progress)
    found = replace(fitted(rounds, measured_figures(device, ceilings)), costs=module_cost(place_of(device)))
    return replace(
        found, models=model_errors(device, ceilings, found), findings=(*found.findings, _repeatability(rounds))
    )


def model_errors(device: Device, ceilings: Sequence[Ceiling], found: Calibrated) -> dict[str, float]:
    """ln(measured / predicted) of the whole models timed in the same rounds; a model's interval is made of them."""
    if found.rounds is None or not found.rounds.whole:
        return {}
    fits = Fits(operators=found.fits, reuse=found.reuse)
    made = Characterisation(
        schema=SCHEMA,
        device=device,
        environment=None,
        plan=None,
        ceilings=tuple(ceilings),
        costs=found.costs,
        fits=fits,
    )
    measured = found.rounds.whole
    return {
        name: math.log(measured[name] / each.latency.value) for name, each in predict_models(measured, made).items()
    }


def model_calls(device: Device) -> dict[str, Callable[[], object]]:
    """Calls that run the small real models once each."""
    from microbench.operators.capture import parse_input
    from microbench.operators.reference_models import call_of_model, models

    use_all_threads(device)
    return {
        name: call_of_model(make, parse_input(spec)[0], place_of(device)) for name, (make, spec) in models().items()
    }


def predict_models(names: Iterable[str], calibration: Characterisation) -> dict[str, ModelTime]:
    """Predict the small real models."""
    from microbench.operators.capture import capture
    from microbench.operators.reference_models import models
    from microbench.predict.model import predict_model

    made = models()
    return {name: predict_model(capture(made[name][0], [made[name][1]], name=name), calibration) for name in names}


def module_cost(place: str) -> tuple[Cost, ...]:
    """What the host pays per module around an operator: a chain of the smallest modules against the operator alone."""
    from microbench.operators import op
    from microbench.operators.reference_models import module_chain
    from microbench.operators.torch_calls import call_of, timer

    torch = import_torch()
    clock, chain, alone = timer(place), module_chain(CHAIN, place), call_of(op("relu", size=8), place)
    with torch.inference_mode():
        for call in (chain, alone):
            clock(call, 20)
        rounds = [max(0.0, clock(chain, 20) / CHAIN - clock(alone, 500)) for _ in range(15)]
    seconds = Estimate(
        value=float(np.median(rounds)), low=min(rounds), high=max(rounds), basis="15 rounds, smallest .. largest"
    )
    return (Cost(name=MODULE_COST, seconds=seconds, case=f"chain of {CHAIN} modules"),)


def fitted(rounds: Rounds, nominal: DeviceFigures) -> Calibrated:
    """Fit measured rounds: hot operators to the lower envelope, cold ones to what they took between other operators."""
    columns: tuple[tuple[Literal["hot", "cold"], Floats], ...] = (("hot", rounds.envelope), ("cold", rounds.cold))
    rows = [
        (replace(made, cache=cache), float(seconds))
        for cache, column in columns
        for made, seconds in zip(rounds.operators, column, strict=True)
        if np.isfinite(seconds)
    ]
    fits, findings = fit_table(table_of([made for made, _ in rows], [seconds for _, seconds in rows]), nominal)
    # Findings about rows of a table: this run's rows have no numbers that its reader could look up.
    kept = [finding for finding in findings if finding.code not in ("distrusted-rows", "contradictory-rows")]
    distrusted = sum(len(fit.distrusted) for fit in fits)
    if distrusted:
        says = f"{distrusted} of {len(rows)} operator timings disagree with their neighbours and count for little"
        kept.append(
            Finding(
                code="distrusted-timings",
                severity="info",
                says=says,
                remedy="'microbench validate' tells how well the fits predict",
            )
        )
    return Calibrated(
        fits=fits, timings=timings(rounds), reuse=reuse_of(rounds), findings=(*rounds.findings, *kept), rounds=rounds
    )


def reuse_of(rounds: Rounds) -> dict[str, float]:
    """How an operator's time grows from hot to cold with the bytes touched in between (`Fits.reuse`).

    Empty where no operator was timed between others.
    """
    if not rounds.interleaved:
        return {}
    half, power = cold_cache.halfway(
        {reuse: middle(seconds) - rounds.envelope for reuse, seconds in rounds.interleaved.items()}
    )
    return {"half_bytes": half, "power": power, "cold_bytes": cold_cache.COLD}


def timings(rounds: Rounds) -> tuple[OperatorTiming, ...]:
    """Measured rounds as rows of the file, to four digits: hot the lower envelope of rounds, cold their median."""
    columns: list[tuple[Literal["hot", "cold"], Floats, Floats]] = [("hot", rounds.envelope, rounds.seconds)]
    if rounds.interleaved:
        columns.append(("cold", rounds.cold, rounds.interleaved[cold_cache.COLD]))
    return tuple(
        OperatorTiming(
            op=made.name,
            dtype=made.dtype,
            params=_params_text(made),
            seconds=float(f"{seconds:.4g}"),
            rounds=int(count),
            cache=cache,
        )
        for cache, column, each in columns
        for made, seconds, count in zip(rounds.operators, column, np.isfinite(each).sum(axis=1), strict=True)
        if count
    )


def _params_text(made: Op) -> str:
    """Sizes as the operator CSV has them, without those that equal their default."""
    usual = {key: made.params[value] if isinstance(value, str) else value for key, value in made.row.defaults.items()}
    return ";".join(f"{key}={value}" for key, value in made.params.items() if value != usual.get(key))


def repeat_error(rounds: Rounds) -> float:
    """Mean relative difference of two independent measurements of the same rows: even rounds and odd ones."""
    even, odd = rounds.halves()
    both = np.isfinite(even) & np.isfinite(odd)
    return float(np.mean(np.abs(even[both] / odd[both] - 1))) if both.any() else float("nan")


def _repeatability(rounds: Rounds) -> Finding:
    error = repeat_error(rounds)
    says = (
        f"{len(rounds.operators)} operators were timed in {rounds.seconds.shape[1]} rounds, hot cache, eager; two "
        f"halves of the rounds differ by {100 * error:.1f} % in the mean."
    )
    return Finding(code="operators-calibrated", severity="info" if error < 0.08 else "warning", says=says)
