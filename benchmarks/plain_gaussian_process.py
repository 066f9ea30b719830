"""The rival of a fit that knows of hardware: a Gaussian process on log(seconds / roofline), and nothing else.

One Matern 5/2 kernel with a scale for each coordinate, a constant mean and noise, all of them by maximum likelihood,
as libraries do it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import cho_solve, cholesky
from scipy.optimize import minimize

_STARTS = (2.0,)
_ROOT5 = np.sqrt(5.0)


def _kernel(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of all pairs, and what its derivative in a squared scaled difference is."""
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    distance = np.sqrt(np.maximum(squares, 0))
    falling = np.exp(-_ROOT5 * distance)
    return (1 + _ROOT5 * distance + 5 / 3 * distance**2) * falling, 5 / 3 * (1 + _ROOT5 * distance) * falling


def _objective(hyper: np.ndarray, rows: np.ndarray, wanted: np.ndarray) -> tuple[float, np.ndarray]:
    amplitude, noise, scale = np.exp(2 * hyper[0]), np.exp(2 * hyper[1]), np.exp(hyper[2:])
    scaled = rows * scale
    correlation, slope = _kernel(scaled, scaled)
    try:
        lower = cholesky(amplitude * correlation + (noise + 1e-8) * np.eye(len(rows)), lower=True)
    except np.linalg.LinAlgError:
        return 1e9, np.zeros_like(hyper)
    alpha = cho_solve((lower, True), wanted)
    pull = cho_solve((lower, True), np.eye(len(rows))) - np.outer(alpha, alpha)
    gradient = np.empty_like(hyper)
    gradient[0] = amplitude * (pull * correlation).sum()
    gradient[1] = noise * np.trace(pull)
    weight = amplitude * pull * slope
    along = 2 * (weight.sum(axis=1) @ scaled**2 - np.einsum("ij,ij->j", scaled, weight @ scaled))
    gradient[2:] = -0.5 * along
    return float(0.5 * wanted @ alpha + np.log(np.diag(lower)).sum()), gradient


def predicted(rows: np.ndarray, wanted: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """What the process learnt from some rows says of others."""
    middle, width = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
    rows, asked = (rows - middle) / width, (asked - middle) / width
    level = wanted.mean()

    def objective(hyper: np.ndarray) -> tuple[float, np.ndarray]:
        return _objective(hyper, rows, wanted - level)

    best: Any = None
    for start in _STARTS:
        first = np.concatenate([[np.log(max(wanted.std(), 0.05)), np.log(0.1)], np.full(rows.shape[1], -np.log(start))])
        bounds = [(-5, 3), (-6, 1), *[(-6, 4)] * rows.shape[1]]
        found = minimize(objective, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 30})
        if best is None or found.fun < best.fun:
            best = found
    amplitude, noise, scale = np.exp(2 * best.x[0]), np.exp(2 * best.x[1]), np.exp(best.x[2:])
    inside = amplitude * _kernel(rows * scale, rows * scale)[0] + (noise + 1e-8) * np.eye(len(rows))
    alpha = np.linalg.solve(inside, wanted - level)
    return np.asarray(level + amplitude * _kernel(asked * scale, rows * scale)[0] @ alpha)
