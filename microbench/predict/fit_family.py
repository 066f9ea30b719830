"""Fit operator families: physical parameters under a prior, a local correction, and cross-validated intervals.

The rows may be ours or somebody else's: shapes and seconds are all it takes. Per family and dtype the parameters of
`analytic` are fitted by maximum a posteriori with a robust loss, `gaussian_process` corrects what they leave over, and
the interval is conformal on the cross-validated residuals divided by the spread expected at their place, so that it
widens with the distance from the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from microbench.operators.features import Features
from microbench.predict import analytic, analytic_gradient, gaussian_process
from microbench.predict.analytic import NOISE, PRODUCTS, Prior
from microbench.predict.figures import DeviceFigures
from microbench.predict.priors import prior_of, scales_of
from microbench.records import OperatorFit

Floats = npt.NDArray[np.float64]
Shapes = Mapping[str, tuple[float, float]]

CONFIDENCE = 0.9
# With fewer rows the 90 % quantile of residuals lies beyond the largest one.
ROWS_FOR_INTERVAL = 9
ROWS_FOR_FIT = 5
# With so many rows the 90 % quantile is known to a few points, and an operator need not share that of its family.
ROWS_FOR_CODE = 30
_FOLDS = 10
_FOLDS_MANY = 5
_MANY_ROWS = 100
# Below so many rows a fold learns everything anew: what few rows were tuned with, they cannot judge.
_FEW_ROWS = 50
# Rows that speak for another number format, and how far its learnt shapes may differ (ln).
_WITNESSES, _LIKE = 160, 0.3


def _physics(
    features: Features,
    seconds: Floats,
    model: tuple[Prior, str],
    near: Mapping[str, float] | None = None,
    noise: float = NOISE,
) -> tuple[float, dict[str, float]]:
    """Negative log posterior, and parameters at its mode; ``near``, a fit of nearly the same rows, is a short cut."""
    prior, form = model
    modes = (tuple(prior.cost), tuple(sorted(set(features.code.tolist()))))
    names, mean, spread = analytic.parameters(form, features.family, prior, modes)
    wanted = np.log(seconds)

    def residuals(offset: Floats) -> Floats:
        theta = dict(zip(names, mean + offset * spread, strict=True))
        off = (np.log(analytic.terms(form, theta, features)[0]) - wanted) / noise
        # The square root of the smooth L1 loss: quadratic within the noise, linear beyond.
        return np.concatenate([off * np.sqrt(2 / (1 + np.hypot(1, off))), offset])

    def jacobian(offset: Floats) -> Floats:
        theta = dict(zip(names, mean + offset * spread, strict=True))
        log_seconds, slopes = analytic_gradient.log_seconds(form, theta, features)
        length = np.hypot(1, (log_seconds - wanted) / noise)
        outer = np.sqrt((1 + length) / 2) / (length * noise)
        return np.concatenate([outer[:, None] * slopes * spread, np.eye(len(offset))])

    starts = [np.zeros(len(names)), np.where(np.asarray(names) == "peak", -1.0, 0.0)]
    if near is not None:
        starts = [
            np.clip(
                (np.asarray([near.get(name, centre) for name, centre in zip(names, mean, strict=True)]) - mean)
                / spread,
                -5,
                5,
            )
        ]
    best: Any = None
    for start in starts:
        found = least_squares(residuals, start, jac=jacobian, max_nfev=40 if near is None else 8, bounds=(-6, 6))
        if best is None or found.cost < best.cost:
            best = found
    return float(best.cost), dict(zip(names, (mean + best.x * spread).tolist(), strict=True))


def _forms(family: str, kind: str | None) -> tuple[str, ...]:
    if family not in PRODUCTS:
        return ("stream",)
    return {"cuda": ("tiled",), "cpu": ("smooth",)}.get(kind or "", ("tiled", "smooth"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A fit, and for each of its rows what a fit that had not seen it said.

    ``off`` is ln(measured / predicted), ``spread`` what was expected of it at that place; ``beside`` is what it has to
    say of the same family in another number format.
    """

    fit: OperatorFit
    off: Floats
    spread: Floats
    beside: Beside


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Rows of the same family in another number format, or on other devices: what its physics left over (ln).

    They are witnesses at a distance: to the local correction those of another format are operators of another name,
    those of another device lie elsewhere. There may be none. ``shapes`` are what was learnt of parameters; of other
    devices there are also the ``hyper`` parameters of the correction and this device's ``place`` among them.
    """

    coordinates: Floats
    code: npt.NDArray[np.object_]
    left: Floats
    shapes: Shapes
    hyper: Floats | None = None
    place: tuple[float, ...] = ()
    sources: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.left)

    def after(self, coordinates: Floats, code: npt.NDArray[np.object_], left: Floats) -> gaussian_process.Rows:
        """Rows with these appended."""
        return (
            np.concatenate([coordinates, self.coordinates]),
            np.concatenate([code, self.code]),
            np.concatenate([left, self.left]),
        )


def fit_family(
    features: Features,
    seconds: Floats,
    dtype: str,
    nominal: DeviceFigures | None = None,
    shapes: Shapes | None = None,
) -> OperatorFit:
    """Fit one family and dtype.

    Parameters
    ----------
    features, seconds, dtype, nominal
        As `fit_scored` has them.
    shapes
        Means and spreads (ln) that take the place of those in `analytic.SHAPES`.
    """
    nobody = np.empty((0, features.coordinates.shape[1]))
    beside = Beside(coordinates=nobody, code=np.empty(0, dtype=object), left=np.empty(0), shapes=shapes or {})
    return fit_scored(features, seconds, dtype, nominal, beside).fit


def _beside(rows: gaussian_process.Rows, dtype: str, theta: Mapping[str, float]) -> Beside:
    """What a fit can tell others: a seeded sample of its rows."""
    coordinates, names, left = rows
    keep = np.random.default_rng(len(left)).permutation(len(left))[:_WITNESSES]
    return Beside(
        coordinates=coordinates[keep],
        code=np.asarray([f"{name}@{dtype}" for name in names[keep]], dtype=object),
        left=left[keep],
        shapes={name: (theta[name], _LIKE) for name in analytic.LEARNT if name in theta},
    )


def fit_scored(
    features: Features,
    seconds: Floats,
    dtype: str,
    nominal: DeviceFigures | None = None,
    beside: Beside | None = None,
) -> Scored:
    """Fit one family and dtype, and keep the errors behind its interval.

    Parameters
    ----------
    features, seconds
        Calibration rows.
    dtype
        Their number format.
    nominal
        Figures known beforehand.
    beside
        Rows of the family in another number format or on other devices, with the shapes learnt from them.
    """
    nominal = nominal or DeviceFigures()
    prior = prior_of(nominal, features, seconds, dtype)
    if beside is not None:
        # Rows of other devices have coordinates of the regime where all of their fits had.
        told = beside.coordinates.shape[1] > features.coordinates.shape[1] + len(beside.place)
        regime = told if beside.place else prior.regime
        prior = replace(prior, shapes=beside.shapes, place=beside.place, regime=regime)
    tried = [(*_physics(features, seconds, (prior, form)), form) for form in _forms(features.family, nominal.kind)]
    _, near, form = min(tried, key=lambda item: item[0])
    theta, noise, fitted = _learn(features, seconds, (prior, form), near, beside)
    made = fitted.correction
    if not beside and len(features) < _FEW_ROWS:
        off, spread = _learn_anew(features, seconds, (nominal, dtype, form, prior.shapes))
    else:
        off, spread = _cross_validate(features, seconds, (prior, form, theta, noise), fitted, beside)
    scores = off / spread
    fit = OperatorFit(
        family=features.family,
        dtype=dtype,
        rows=len(features),
        form=form,
        cost_s={
            name.removeprefix("cost."): math.exp(value) for name, value in theta.items() if name.startswith("cost.")
        },
        terms={name: math.exp(value) for name, value in theta.items() if not name.startswith("cost.")},
        codes=made.codes,
        scale=tuple(float(value) for value in made.scale),
        correction={"amplitude": made.amplitude, "noise": made.noise, "apart": made.apart},
        points=gaussian_process.stored(made),
        residuals=tuple(float(f"{value:.5g}") for value in scores),
        quantile=conformal_quantile(np.abs(scores), CONFIDENCE),
        quantiles=quantiles_by_code(features.code, np.abs(scores)),
        confidence=CONFIDENCE,
        cache="cold" if bool(features.cold.all()) else "hot",
        distrusted=tuple(
            int(place) for place in fitted.kept[fitted.weights < gaussian_process.DISTRUST] if place < len(features)
        ),
        figures=scales_of(nominal, dtype) | {"measured": float(nominal.measured)},
        place=prior.place,
        sources=beside.sources if beside is not None else (),
    )
    log_seconds, coordinates = analytic.placed(form, theta, features, prior)
    beside = _beside((coordinates, features.code, np.log(seconds) - log_seconds), dtype, theta)
    return Scored(fit=fit, off=off, spread=spread, beside=beside)


def _learn(
    features: Features,
    seconds: Floats,
    model: tuple[Prior, str],
    near: Mapping[str, float],
    beside: Beside | None = None,
) -> tuple[dict[str, float], float, gaussian_process.Fitted]:
    """Parameters refined from a first search, noise that weighs rows against the prior, and local correction."""
    form = model[1]
    left = np.log(seconds) - np.log(analytic.terms(form, near, features)[0])
    noise = float(np.clip(1.4826 * np.median(np.abs(left)), 0.5 * NOISE, 3 * NOISE))
    _, theta = _physics(features, seconds, model, near, noise)
    log_seconds, coordinates = analytic.placed(form, theta, features, model[0])
    rows = (coordinates, features.code, np.log(seconds) - log_seconds)
    if not beside:
        return theta, noise, gaussian_process.correct(*rows)
    return theta, noise, gaussian_process.correct(*beside.after(*rows), own=len(features), known=beside.hyper)


def _folds(size: int) -> tuple[npt.NDArray[np.int64], int]:
    """The fold of each row, and how many there are."""
    folds = min(size, _FOLDS if size < _MANY_ROWS else _FOLDS_MANY)
    return np.random.default_rng(size).permutation(size) % folds, folds


def conformal_quantile(scores: Floats, confidence: float) -> float | None:
    """Smallest score that covers so many of future rows, or ``None`` where there are too few to say."""
    rank = math.ceil((len(scores) + 1) * confidence)
    return None if rank > len(scores) else float(np.sort(scores)[rank - 1])


def quantiles_by_code(code: npt.NDArray[np.object_], scores: Floats) -> dict[str, float]:
    """Quantiles of operators with rows enough for one of their own: depthwise errors say nothing of dense ones."""
    names, counts = np.unique(code.astype(str), return_counts=True)
    if len(names) == 1:
        return {}
    found = {str(name): conformal_quantile(scores[code == name], CONFIDENCE) for name in names[counts >= ROWS_FOR_CODE]}
    return {name: float(f"{value:.5g}") for name, value in found.items() if value is not None}


def _cross_validate(
    features: Features,
    seconds: Floats,
    model: tuple[Prior, str, Mapping[str, float], float],
    fitted: gaussian_process.Fitted,
    beside: Beside | None = None,
) -> tuple[Floats, Floats]:
    """Residuals of rows that the fit of their fold has not seen, and the spread expected at their place."""
    prior, form, near, noise = model
    errors, spreads = np.zeros(len(features)), np.ones(len(features))
    order, folds = _folds(len(features))
    for fold in range(folds):
        inside, outside = order != fold, order == fold
        train, test = features.take(inside), features.take(outside)
        launches = {launch: cost for launch, cost in prior.cost.items() if (train.launch == launch).any()}
        _, theta = _physics(train, seconds[inside], (replace(prior, cost=launches or prior.cost), form), near, noise)
        log_seconds, coordinates = analytic.placed(form, theta, train, prior)
        rows = gaussian_process.sample_rows(coordinates, train.code, np.log(seconds[inside]) - log_seconds)
        made = gaussian_process.rebuild(fitted.hyper, *(beside.after(*rows) if beside else rows))
        log_seconds, coordinates = analytic.placed(form, theta, test, prior)
        mean, spread = made.at(coordinates, test.code)
        errors[outside] = np.log(seconds[outside]) - log_seconds - mean
        spreads[outside] = spread
    return errors, spreads


def _learn_anew(
    features: Features, seconds: Floats, given: tuple[DeviceFigures, str, str, Shapes]
) -> tuple[Floats, Floats]:
    """The same where rows are few: prior, parameters, noise and correction are learnt anew in each fold."""
    nominal, dtype, form, shapes = given
    errors, spreads = np.zeros(len(features)), np.ones(len(features))
    order, folds = _folds(len(features))
    for fold in range(folds):
        inside, outside = order != fold, order == fold
        train, test = features.take(inside), features.take(outside)
        model = (replace(prior_of(nominal, train, seconds[inside], dtype), shapes=shapes), form)
        _, near = _physics(train, seconds[inside], model)
        theta, _, fitted = _learn(train, seconds[inside], model, near)
        log_seconds, coordinates = analytic.placed(form, theta, test, model[0])
        mean, spread = fitted.correction.at(coordinates, test.code)
        errors[outside] = np.log(seconds[outside]) - log_seconds - mean
        spreads[outside] = spread
    return errors, spreads
