"""Local correction: what the physics leaves over, interpolated between calibration rows and shrunk where there are few.

A Gaussian process on log shapes with one Matern kernel. Its amplitude, reach and noise have priors, so that twenty rows
correct little and two hundred a lot; far from every row the correction fades and the spread grows. Rows that disagree
with their neighbours lose weight (Student-t), and are named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs
from scipy.optimize import minimize

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = npt.NDArray[np.float64]
# Coordinates, operators, and what is left to correct (ln) of so many rows.
Rows = tuple[Floats, npt.NDArray[np.object_], Floats]

# Degrees of freedom of the noise: four lets one row in twenty be far off without bending the rest.
FREEDOM = 4.0
# A row whose weight fell below this is named as distrusted; the same row is beyond three noise widths.
DISTRUST = 0.4
# Widths (from the median deviation) beyond which a row starts with little trust.
OUTLYING = 5.0
# Hyperparameters are looked for on so many rows at most, and so many at most are kept to interpolate from.
SEARCH_ROWS = 220
# With fewer rows of its own a device's correction keeps the reaches that were learnt of other devices, and looks for
# amplitude and noise alone.
SEARCH_LEAST, OF_FEW, HELD = 60, (0, 2), 0.02
MOST_POINTS = 400
# Means and spreads (ln) of amplitude, reach (in ln of a size), noise, distance between two operators.
HYPER = ("amplitude", "reach", "noise", "apart")
HYPER_MEAN = np.log(np.array([0.15, 2.5, 0.05, 1.0]))
HYPER_SPREAD = np.array([0.5, 0.5, 0.6, 0.6])
# How much the reach along one coordinate may differ from the common one (ln).
RELEVANCE_SPREAD = 0.4
# Multiply-adds of a slice of the kernel: what stays in a core's own cache, and what a library multiplies without
# calling for help from threads that are all at work already.
ALONE = 1 << 18
_SQRT3 = float(np.sqrt(3.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A fitted correction: positions (scaled), weights, amplitude and noise."""

    codes: tuple[str, ...]
    scale: Floats
    apart: float
    amplitude: float
    noise: float
    positions: Floats
    alpha: Floats

    def embed(self, coordinates: Floats, code: npt.NDArray[np.object_]) -> npt.NDArray[np.float32]:
        """Scaled coordinates with one more axis per operator."""
        return embed(coordinates, code, self.codes, self.scale, self.apart)

    def at(self, coordinates: Floats, code: npt.NDArray[np.object_]) -> tuple[Floats, Floats]:
        """Correction (ln) and its spread (ln) at each row, in slices that stay in cache."""
        size, points = len(coordinates), len(self.positions)
        mean, nearest = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
        rows = self.embed(coordinates, code)
        # Around their middle, so that little is lost where a distance is a difference of squares.
        middle = self.positions.mean(axis=0).astype(np.float32) if points else np.float32(0)
        left, right = _left(rows - middle), _right(self.positions.astype(np.float32) - middle)
        # A second column of zeros makes this a product of matrices, which a library does alone where it is small.
        alpha = np.zeros((points, 2), dtype=np.float32)
        alpha[:, 0] = self.alpha * self.amplitude**2
        step = max(16, ALONE // max(points * right.shape[1], 1))
        distance, falling = np.empty((step, points), dtype=np.float32), np.empty((step, points), dtype=np.float32)
        for start in range(0, size, step):
            stop = min(start + step, size)
            kernel = _fall(left[start:stop], right, distance[: stop - start], falling[: stop - start])
            mean[start:stop] = (kernel @ alpha)[:, 0]
            nearest[start:stop] = kernel.max(axis=1)
        near = nearest.astype(np.float64)
        return mean.astype(np.float64), np.sqrt(self.noise**2 + self.amplitude**2 * np.maximum(1 - near**2, 0))


def embed(
    coordinates: Floats, code: npt.NDArray[np.object_], codes: Sequence[str], scale: Floats, apart: float
) -> npt.NDArray[np.float32]:
    """Positions in which one unit is one reach."""
    return np.ascontiguousarray(_scaled(coordinates, code, codes, scale, apart), dtype=np.float32)


def _scaled(
    coordinates: Floats, code: npt.NDArray[np.object_], codes: Sequence[str], scale: Floats, apart: float
) -> Floats:
    axes = [coordinates * scale]
    if len(codes) > 1:
        axes.append(np.stack([(code == name) * (apart / np.sqrt(2.0)) for name in codes], axis=1))
    return np.concatenate(axes, axis=1)


_Singles = npt.NDArray[np.float32]


def _left(rows: _Singles) -> _Singles:
    """Rows with their squares and a one appended, so that a product with `_right` gives 3 x squared distances."""
    scaled = rows * np.float32(_SQRT3)
    return np.concatenate(
        [scaled, np.einsum("ij,ij->i", scaled, scaled)[:, None], np.ones((len(rows), 1), dtype=np.float32)], axis=1
    )


def _right(rows: _Singles) -> _Singles:
    scaled = rows * np.float32(_SQRT3)
    ones = np.ones((len(rows), 1), dtype=np.float32)
    return np.concatenate([-2 * scaled, ones, np.einsum("ij,ij->i", scaled, scaled)[:, None]], axis=1)


def _fall(left: _Singles, right: _Singles, distance: _Singles, falling: _Singles) -> _Singles:
    """Matern 3/2 correlation of rows prepared by `_left` and `_right`, in the two buffers given."""
    np.matmul(left, right.T, out=distance)
    np.maximum(distance, 0, out=distance)
    np.sqrt(distance, out=distance)
    np.negative(distance, out=falling)
    np.exp(falling, out=falling)
    distance += 1
    falling *= distance
    return falling


def _matern(left: _Singles, right: _Singles) -> _Singles:
    """Matern 3/2 correlation of all pairs."""
    shape = (len(left), len(right))
    return _fall(_left(left), _right(right), np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32))


def correct(
    coordinates: Floats,
    code: npt.NDArray[np.object_],
    residual: Floats,
    own: int | None = None,
    known: Floats | None = None,
) -> Fitted:
    """Fit a correction and its hyperparameters; of very many rows a seeded sample is kept.

    Parameters
    ----------
    coordinates, code, residual
        Rows, and what is left to correct of them (ln).
    own
        How many of them, the first, are the device's own: witnesses come after them, and all of these are kept.
    known
        Hyperparameters learnt elsewhere: few rows look for their own amplitude and noise near them, many for all.
    """
    codes = tuple(sorted(set(code.tolist())))
    rng = np.random.default_rng(len(residual))
    own = len(residual) if own is None or known is None else own
    keep = np.arange(own) if own <= MOST_POINTS else np.sort(rng.permutation(own)[:MOST_POINTS])
    spread = np.concatenate([HYPER_SPREAD, np.full(coordinates.shape[1], RELEVANCE_SPREAD)])
    if known is not None and len(keep) < SEARCH_LEAST:
        spread = np.where(np.isin(np.arange(len(spread)), OF_FEW), spread, HELD)
    search = keep if len(keep) <= SEARCH_ROWS else rng.permutation(keep)[:SEARCH_ROWS]
    keep = np.concatenate([keep, np.arange(own, len(residual))])
    weights = np.ones(len(residual))
    weights[keep] = _first_weights(residual[keep])
    mean = np.concatenate([HYPER_MEAN, np.zeros(coordinates.shape[1])]) if known is None else known
    start = mean
    for _ in range(2):
        rows = (coordinates[search], code[search], residual[search], weights[search])
        start = _search(start, (mean, spread), rows, codes)
        rows = (coordinates[keep], code[keep], residual[keep], weights[keep])
        made, _ = _build(start, rows, codes)
        left_over = made.noise**2 / weights[keep] * made.alpha
        weights[keep] = np.minimum(1.0, (FREEDOM + 1) / (FREEDOM + left_over**2 / made.noise**2))
    made, _ = _build(start, (coordinates[keep], code[keep], residual[keep], weights[keep]), codes)
    return Fitted(correction=made, hyper=start, kept=keep, weights=weights[keep])


def correlation(positions: Floats) -> Floats:
    """Correlation of all pairs of stored positions."""
    middle = positions.mean(axis=0)
    single = np.ascontiguousarray(positions - middle, dtype=np.float32)
    return _matern(single, single).astype(np.float64)


def stored(made: Correction) -> tuple[tuple[float, ...], ...]:
    """Positions and weights of a correction as a file has them, to six digits."""
    return tuple(
        tuple(float(f"{value:.6g}") for value in (*position, weight))
        for position, weight in zip(made.positions, made.alpha, strict=True)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A correction, its hyperparameters, the rows it kept and their trust (1 is full)."""

    correction: Correction
    hyper: Floats
    kept: npt.NDArray[np.int64]
    weights: Floats


def rebuild(hyper: Floats, coordinates: Floats, code: npt.NDArray[np.object_], residual: Floats) -> Correction:
    """Fit the correction to other rows with hyperparameters that are known (for folds)."""
    codes = tuple(sorted(set(code.tolist())))
    weights = _first_weights(residual)
    for _ in range(2):
        made, _ = _build(hyper, (coordinates, code, residual, weights), codes)
        left_over = made.noise**2 / weights * made.alpha
        weights = np.minimum(1.0, (FREEDOM + 1) / (FREEDOM + left_over**2 / made.noise**2))
    return _build(hyper, (coordinates, code, residual, weights), codes)[0]


def _first_weights(residual: Floats) -> Floats:
    """Weight 1, less for rows far outside the bulk: a bad row would else be taken for noise, and hide behind it."""
    off = np.abs(residual - np.median(residual))
    width = max(1.4826 * float(np.median(off)), 0.02)
    return np.where(off > OUTLYING * width, (FREEDOM + 1) / (FREEDOM + (off / width) ** 2), 1.0)


_Data = tuple[Floats, npt.NDArray[np.object_], Floats, Floats]


def _unpack(hyper: Floats) -> tuple[float, float, float, Floats]:
    """Amplitude, noise, distance between operators, scale of each coordinate."""
    return float(np.exp(hyper[0])), float(np.exp(hyper[2])), float(np.exp(hyper[3])), np.exp(hyper[4:] - hyper[1])


def _build(hyper: Floats, data: _Data, codes: tuple[str, ...]) -> tuple[Correction, Floats]:
    coordinates, code, residual, weights = data
    amplitude, noise, apart, scale = _unpack(hyper)
    positions = embed(coordinates, code, codes, scale, apart)
    kernel = amplitude**2 * _matern(positions, positions).astype(np.float64)
    factor = cho_factor(kernel + np.diag(noise**2 / weights) + 1e-9 * np.eye(len(residual)))
    made = Correction(
        codes=codes,
        scale=scale,
        apart=apart,
        amplitude=amplitude,
        noise=noise,
        positions=positions.astype(np.float64),
        alpha=cho_solve(factor, residual),
    )
    return made, kernel


def _search(start: Floats, prior: tuple[Floats, Floats], data: _Data, codes: tuple[str, ...]) -> Floats:
    """Most probable hyperparameters by their analytic gradient, under the means and spreads of a prior."""
    mean, spread = prior

    def objective(hyper: Floats) -> tuple[float, Floats]:
        value, gradient = negative_log_likelihood(hyper, data, codes)
        off = (hyper - mean) / spread
        return value + 0.5 * float(off @ off), gradient + off / spread

    bounds = [(centre - 4 * width, centre + 4 * width) for centre, width in zip(mean, spread, strict=True)]
    return np.asarray(minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 25}).x)


def negative_log_likelihood(hyper: Floats, data: _Data, codes: tuple[str, ...]) -> tuple[float, Floats]:
    """Negative log marginal likelihood of weighted residuals (without its constant) and its gradient.

    The derivative in one of them is half the trace of (K^-1 - alpha alpha') dK. Matern 3/2 in squared distances has the
    derivative -3/2 exp(-sqrt(3) d), and a weighted sum of squared differences is a product of matrices.
    """
    coordinates, code, residual, weights = data
    amplitude, noise, apart, scale = _unpack(hyper)
    axes = coordinates.shape[1]
    positions = _scaled(coordinates - coordinates.mean(axis=0), code, codes, scale, apart)
    squares = np.einsum("ij,ij->i", positions, positions)
    distance = np.sqrt(np.maximum(3 * (squares[:, None] + squares - 2 * positions @ positions.T), 0))
    falling = amplitude**2 * np.exp(-distance)
    matern = falling * (1 + distance)
    lower, failed = dpotrf(matern + np.diag(noise**2 / weights + 1e-9), lower=1)
    if failed:
        return 1e9, np.zeros_like(hyper)
    alpha = dpotrs(lower, residual, lower=1)[0]
    value = 0.5 * float(residual @ alpha) + float(np.log(np.diag(lower)).sum())
    inverse = np.tril(dpotri(lower, lower=1)[0])
    pull = inverse + np.tril(inverse, -1).T - np.outer(alpha, alpha)
    falling *= pull
    # Per axis: the sum over all pairs of pull x decay x squared difference.
    along = 2 * (falling.sum(axis=1) @ positions**2 - np.einsum("ij,ij->j", positions, falling @ positions))
    gradient = np.empty_like(hyper)
    gradient[0] = np.einsum("ij,ij->", pull, matern)
    gradient[1] = 1.5 * along[:axes].sum()
    gradient[2] = noise**2 * float(np.diag(pull) @ (1 / weights))
    gradient[3] = -1.5 * along[axes:].sum()
    gradient[4:] = -1.5 * along[:axes]
    return value, gradient


def sample_rows(
    coordinates: Floats, code: npt.NDArray[np.object_], residual: Floats
) -> tuple[Floats, npt.NDArray[np.object_], Floats]:
    """At most `MOST_POINTS` rows, a seeded sample."""
    if len(residual) <= MOST_POINTS:
        return coordinates, code, residual
    keep = np.random.default_rng(len(residual)).permutation(len(residual))[:MOST_POINTS]
    return coordinates[keep], code[keep], residual[keep]
