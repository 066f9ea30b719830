"""Seconds of operators from a stored fit: its physics, its local correction, and the interval at that place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from microbench.errors import UsageError
from microbench.operators.features import Features
from microbench.predict import analytic, gaussian_process
from microbench.predict.analytic import NOISE, PRODUCTS
from microbench.records import OperatorFit

Floats = npt.NDArray[np.float64]
# ln of seconds, either way, and of an interval: beyond it a parameter of the fit is damaged.
_LONGEST = 100.0

# Share of a roofline's time that an operator takes at least: ceilings that were seen are seldom beaten by more.
SLACK = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What a fit says of rows: ln(seconds), half-width (ln; infinite without an interval), and the terms in seconds."""

    log_seconds: Floats
    half_width: Floats
    cost: Floats
    compute: Floats
    memory: Floats


def _floor(made: OperatorFit, features: Features) -> Floats:
    """ln(seconds) below which nothing is, by the figures that a fit stands beside: a roofline with some slack.

    Where a fit itself saw more than its figures say, its own rates stand in. Bytes that a cache may hold are free.
    Convolutions may do with fewer multiplications than are counted.
    """
    seconds = np.full(len(features), 1e-12)
    figures = made.figures if features.family != "convolution" else {}
    if "bandwidth" in figures:
        held = sum(value for name, value in figures.items() if name.startswith("capacity."))
        beyond = features.bytes - np.where(features.cold, 0.0, held)
        seconds = np.maximum(seconds, SLACK * beyond / max(figures["bandwidth"], made.terms.get("bandwidth", 0.0)))
    if "peak" in figures and features.family in PRODUCTS:
        seconds = np.maximum(seconds, SLACK * features.flop / max(figures["peak"], made.terms.get("peak", 0.0)))
    return np.asarray(np.log(seconds))


@lru_cache(maxsize=64)
def _loaded(key: tuple[Any, ...]) -> gaussian_process.Correction:
    codes, scale, correction, points = key
    grid = np.asarray(points, dtype=np.float64)
    return gaussian_process.Correction(
        codes=codes,
        scale=np.asarray(scale),
        apart=correction[2],
        amplitude=correction[0],
        noise=correction[1],
        positions=grid[:, :-1],
        alpha=grid[:, -1],
    )


def evaluate(made: OperatorFit, features: Features) -> Evaluated:
    """Predict rows of the family that a fit belongs to."""
    theta = {name: math.log(value) for name, value in made.terms.items()}
    theta |= {f"cost.{launch}": math.log(value) for launch, value in made.cost_s.items()}
    try:
        total, cost, compute, memory = analytic.terms(made.form, theta, features)
    except (KeyError, ValueError) as error:
        says = (
            f"the calibration's fit of {made.family} {made.dtype} cannot be evaluated ({error}); fit or measure it "
            "again"
        )
        raise UsageError(says) from None
    log_seconds = np.log(total)
    spread = np.full(len(features), made.correction.get("noise", NOISE))
    coordinates = features.coordinates
    beyond = len(made.scale) - coordinates.shape[1] - len(made.place)
    if made.points and beyond > 0:
        # Files of older versions have fewer coordinates of the regime.
        regime = analytic.regimes(theta, features, (cost, compute, memory))[:, :beyond]
        device = np.broadcast_to(np.asarray(made.place, dtype=np.float64), (len(features), len(made.place)))
        coordinates = np.concatenate([coordinates, regime, device], axis=1)
    if made.points and len(made.scale) != coordinates.shape[1]:
        # A file of a version that looked at other coordinates: its physics holds, what it corrected is doubt.
        spread = np.hypot(spread, made.correction.get("amplitude", NOISE))
    elif made.points:
        shrunk = tuple(made.correction[name] for name in ("amplitude", "noise", "apart"))
        mean, spread = _loaded((made.codes, made.scale, shrunk, made.points)).at(coordinates, features.code)
        log_seconds = log_seconds + mean
    log_seconds = np.maximum(log_seconds, _floor(made, features))
    quantile = np.full(len(features), np.inf if made.quantile is None else made.quantile)
    for name in set(features.code.tolist()) if made.quantiles else ():
        if name in made.quantiles:
            quantile[features.code == name] = made.quantiles[name]
    width = quantile * spread
    if not (np.abs(log_seconds) < _LONGEST).all() or (width[np.isfinite(width)] > _LONGEST).any():
        raise UsageError(f"the calibration's fit of {made.family} {made.dtype} gives no possible time; fit it again")
    return Evaluated(log_seconds=log_seconds, half_width=width, cost=cost, compute=compute, memory=memory)
