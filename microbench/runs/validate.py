"""Fresh shapes and real models, measured now and held against what is predicted of them.

The datasheet roofline and the plain measured roofline are graded on the same rows, and so is the measurement itself:
two halves of its rounds are two measurements. Calibration rows, fresh rows and whole models, where all are measured,
share their rounds, so that no change of the machine between them is taken for an error of the prediction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from microbench.errors import UsageError
from microbench.operators import Op, Table, table_of
from microbench.operators.core import Cache, Launch
from microbench.predict.fit_family import CONFIDENCE
from microbench.predict.model_interval import interval
from microbench.predict.operator import plain, predict_table, roofs
from microbench.predict.operator_clocks import measure
from microbench.predict.operator_timing import Effort, OnProgress, Rounds
from microbench.predict.shape_sampling import design
from microbench.records import Characterisation, Finding, Row
from microbench.records.framed import Framed
from microbench.runs.calibrate import error_of, fitted, host_of, measured_figures, reach, timed_host
from microbench.runs.host_costs import keep_memory
from microbench.runs.whole_models import model_calls, module_cost, place_of, predict_models, use_all_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microbench.records import Device

Floats = npt.NDArray[np.float64]

FRESH_SHARE = 0.55
# Fresh rows never come from the seeds that calibrate.
FRESH_SEED = 1000
# Seconds for what a processor pays beside operators.
_HOST_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """Fresh rows with measured and predicted seconds, the interval, and other predictors on the same rows.

    ``plain`` is the plain roofline on measured ceilings, ``datasheet`` that on nominal figures; ``even`` and ``odd``
    are the measured seconds of either half of the rounds.
    """

    operators: tuple[Op, ...]
    measured: Floats
    predicted: Floats
    low: Floats
    high: Floats
    plain: Floats
    datasheet: Floats
    even: Floats
    odd: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedModel:
    """A whole model: seconds measured and predicted, and the interval from the other models' errors."""

    name: str
    measured: float
    predicted: float
    low: float
    high: float
    operators: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation(Framed):
    """What `validate` measured and how the predictions did: fresh rows hot and cold, whole models."""

    calibration: Characterisation
    rows: Graded
    models: tuple[GradedModel, ...]
    rounds: int
    cold: Graded | None = None
    findings: tuple[Finding, ...] = ()

    def __repr__(self) -> str:
        """How much was graded on what."""
        rows, models = len(self.rows.operators), len(self.models)
        return (
            f"<Validation on {self.calibration.device.name}: {rows} operators, {models} models, {self.rounds} rounds>"
        )

    def frame_rows(self) -> list[Row]:
        """Errors of the predictions by kind of operator, as the command prints them."""
        return error_rows(self)


def kind_of(op: Op) -> str:
    """The family of an operator; convolutions by kind."""
    if op.row.family != "convolution":
        return op.row.family
    if op.name == "conv_transpose2d":
        return "convolution, transposed"
    groups = op.params["groups"]
    return f"convolution, {'dense' if groups == 1 else 'depthwise' if groups == op.params['c_in'] else 'grouped'}"


def validate(
    device: Device,
    calibration: Characterisation | None,
    seed: int = 0,
    limit_s: float = 60.0,
    on_progress: OnProgress | None = None,
) -> Validation:
    """Measure and grade.

    Parameters
    ----------
    device
        The device at hand.
    calibration
        What to grade; ``None`` measures ceilings quickly and calibrates operators in the same rounds.
    seed
        Of the fresh shapes.
    limit_s
        Seconds of measuring operators.
    on_progress
        Called with how far the measuring of operators is.

    Raises
    ------
    UsageError
        If the calibration is of another kind of device.
    CannotRun
        If torch is missing.
    """
    if calibration is not None and calibration.device.kind != device.kind:
        raise UsageError(
            f"the calibration is of a {calibration.device.kind} device and this is a {device.kind} one; name one of "
            "this device"
        )
    use_all_threads(device)
    given = calibration is not None
    calibration = calibration or _ceilings(device)
    host = dict(calibration.fits.host) if given else host_of(device, _HOST_S)
    # Rows and models are timed where memory stays, if that can be had: what is fetched anew is no part of them.
    host = timed_host(host, kept=bool(host) and keep_memory())
    calibration = replace(calibration, fits=replace(calibration.fits, host=host))
    within = reach(calibration)
    known = [] if given else design(1, reach=within)
    calibrating = {str(op) for op in known}
    fresh = [op for op in design(FRESH_SEED + seed, FRESH_SHARE, within) if str(op) not in calibrating]
    effort = Effort(limit_s=limit_s, least=4, seed=seed)
    rounds = measure([*known, *fresh], place_of(device), effort, model_calls(device), on_progress)
    if not given:
        calibration = _calibrated(device, calibration, rounds.take(0, len(known)))
    fresh_rounds = rounds.take(len(known), len(rounds.operators))
    return Validation(
        calibration=calibration,
        rows=_grade(fresh_rounds, calibration, device),
        cold=_grade(fresh_rounds, calibration, device, cold=True) if rounds.cold_rounds is not None else None,
        models=_models(rounds.whole, calibration),
        rounds=rounds.seconds.shape[1],
        findings=rounds.findings,
    )


def _ceilings(device: Device) -> Characterisation:
    """Ceilings by a quick run: how far a sweep goes, and what bounds its rows."""
    from microbench.runs.session import run

    return run("cpu" if device.kind == "cpu" else f"cuda:{device.index}", quick=True)


def _calibrated(device: Device, ceilings: Characterisation, rounds: Rounds) -> Characterisation:
    """Calibrate operators anew, from the rounds already measured."""
    found = fitted(rounds, measured_figures(ceilings), host=ceilings.fits.host)
    return replace(
        ceilings,
        fits=replace(ceilings.fits, operators=found.fits, timings=found.timings, reuse=found.reuse),
        costs=(*ceilings.costs, *module_cost(place_of(device))),
        findings=(*ceilings.findings, *found.findings),
    )


def _grade(rounds: Rounds, calibration: Characterisation, device: Device, cold: bool = False) -> Graded:
    measured = rounds.cold if cold else rounds.envelope
    keep = np.flatnonzero(np.isfinite(measured))
    launch: Launch = "kernel" if rounds.clocks else "eager"
    cache: Cache = "cold" if cold else "hot"
    operators = tuple(replace(rounds.operators[place], cache=cache, launch=launch) for place in keep)
    even, odd = rounds.halves(cold)
    table = table_of(operators)
    columns = predict_table(table, calibration)
    return Graded(
        operators=operators,
        measured=measured[keep],
        predicted=columns.predicted,
        low=columns.low,
        high=columns.high,
        plain=_plain(table, calibration),
        datasheet=_datasheet(table, calibration, device),
        even=even[keep],
        odd=odd[keep],
    )


def _plain(table: Table, calibration: Characterisation) -> Floats:
    seconds = np.full(table.size, np.nan)
    for batch in table.batches:
        try:
            terms = plain(batch, roofs(calibration, batch.dtype))
        except UsageError:
            continue
        seconds[batch.index] = terms["cost"] + np.maximum(terms["compute"], terms["memory"])
    return seconds


def _datasheet(table: Table, calibration: Characterisation, device: Device) -> Floats:
    """Seconds by the data sheet: FLOP over the nominal peak or bytes over the printed bandwidth, no cost, no cache.

    The measured bandwidth stands in where none is printed.
    """
    from microbench.hardware.nominal import described

    nominal = {
        row.name.split()[1]: row.rate for row in described(device).rows if row.rate and len(row.name.split()) > 1
    }
    printed = next((row.rate for row in described(device).rows if row.name == "memory" and row.rate), None)
    seconds = np.full(table.size, np.nan)
    for batch in table.batches:
        try:
            bounds = roofs(calibration, batch.dtype)
        except UsageError:
            continue
        counts = batch.counts()
        traffic = counts["bytes_read"].astype(np.float64) + counts["bytes_written"]
        compute = counts["flop"] / (nominal.get(batch.dtype) or bounds.peak)
        seconds[batch.index] = np.maximum(compute, traffic / (printed or bounds.memory.bandwidth[-1]))
    return seconds


def _models(measured: dict[str, float], calibration: Characterisation) -> tuple[GradedModel, ...]:
    """Grade whole models; the interval of each is made of the errors of all others, without its own."""
    found = predict_models(measured, replace(calibration, fits=replace(calibration.fits, model_errors=())))
    errors = [error_of(name, measured[name], row) for name, row in found.items()]
    graded = []
    for name, row in found.items():
        others = [each for each in errors if each.name.partition(",")[0] != name.partition(",")[0]]
        seconds = interval(row.latency.value, row.spread, row.kind, others)
        graded.append(
            GradedModel(
                name=name,
                measured=measured[name],
                predicted=seconds.value,
                low=seconds.low,
                high=seconds.high,
                operators=len(row.steps),
            )
        )
    return tuple(graded)


def error_rows(found: Validation) -> list[Row]:
    """One row a family: errors in percent, coverage and its band, half-width, other predictors, the repeat error."""
    rows = _error_rows(found.rows, "hot")
    return rows + (_error_rows(found.cold, "cold") if found.cold is not None else [])


def _error_rows(graded: Graded, cache: str) -> list[Row]:
    kinds = np.asarray([kind_of(op) for op in graded.operators], dtype=object)
    groups: list[tuple[str, npt.NDArray[np.bool_]]] = [(str(kind), kinds == kind) for kind in dict.fromkeys(kinds)]
    groups.append(("all", np.ones(len(kinds), dtype=bool)))
    rows: list[Row] = []
    for kind, chosen in groups:
        off = np.abs(graded.predicted[chosen] / graded.measured[chosen] - 1)
        inside = (graded.low[chosen] <= graded.measured[chosen]) & (graded.measured[chosen] <= graded.high[chosen])
        width = np.log(graded.high[chosen] / graded.low[chosen]) / 2
        lowest, highest = band(int(chosen.sum()))
        rows.append(
            {
                "cache": cache,
                "family": kind,
                "rows": int(chosen.sum()),
                "mean_error_percent": _percent(off.mean()),
                "median_error_percent": _percent(float(np.median(off))),
                "coverage_percent": _percent(inside.mean()),
                "band_percent": f"{100 * lowest:.0f}..{100 * highest:.0f}",
                "in_band": bool(lowest <= inside.mean() <= highest),
                "half_width": round(float(np.exp(width.mean())), 3),
                "plain_roofline_percent": _percent(_mean_error(graded.plain, graded.measured, chosen)),
                "datasheet_percent": _percent(_mean_error(graded.datasheet, graded.measured, chosen)),
                "repeat_percent": _percent(_mean_error(graded.even, graded.odd, chosen)),
            }
        )
    return rows


def band(rows: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The band of coverage that a predictor with exact intervals shows in 95 of 100 tables of so many rows.

    A table's coverage is a share of independent rows, so its band follows from the binomial distribution.
    """
    from scipy.stats import binom

    lowest, highest = (float(binom.ppf(tail, rows, confidence)) for tail in (0.025, 0.975))
    return lowest / rows, highest / rows


def _percent(share: float) -> float | None:
    return round(100 * float(share), 1) if np.isfinite(share) else None


def _mean_error(predicted: Floats, measured: Floats, chosen: npt.NDArray[np.bool_]) -> float:
    off = np.abs(predicted[chosen] / measured[chosen] - 1)
    return float(np.nanmean(off)) if np.isfinite(off).any() else float("nan")


def worst_rows(found: Validation, count: int = 10) -> list[Row]:
    """The largest errors, each with its likely reason by what the measurement and the interval show."""
    graded = found.rows
    off = np.abs(np.log(graded.predicted / graded.measured))
    rows: list[Row] = []
    for place in np.argsort(-off)[:count]:
        repeat = abs(float(np.log(graded.even[place] / graded.odd[place])))
        wide = float(np.log(graded.high[place] / graded.low[place]) / 2)
        why = (
            "the measurement does not repeat"
            if repeat > 0.2
            else "far from calibrated shapes"
            if wide > 0.5
            else "another kernel of the library"
        )
        rows.append(
            {
                "op": str(graded.operators[place]),
                "measured_s": float(graded.measured[place]),
                "predicted_s": float(graded.predicted[place]),
                "ratio": round(float(graded.predicted[place] / graded.measured[place]), 3),
                "why": why,
            }
        )
    return rows


def model_rows(models: Sequence[GradedModel]) -> list[Row]:
    """Measured against predicted latency per model, and the mean error."""
    rows: list[Row] = []
    for row in models:
        error = 100 * (row.predicted / row.measured - 1)
        inside = row.low <= row.measured <= row.high
        rows.append(
            {
                "model": row.name,
                "operators": row.operators,
                "measured_s": float(f"{row.measured:.6g}"),
                "predicted_s": float(f"{row.predicted:.6g}"),
                "error_percent": round(error, 1),
                "low_s": float(f"{row.low:.6g}"),
                "high_s": float(f"{row.high:.6g}"),
                "inside": inside,
            }
        )
    return rows
