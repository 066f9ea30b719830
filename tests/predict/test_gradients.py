from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from microbench.operators import op, table_of
from microbench.operators.features import Features, describe, join
from microbench.predict import analytic, analytic_gradient, gaussian_process
from microbench.predict.analytic import Prior

Floats = np.ndarray
# So that among the rows of each family some are bound by compute and some by memory.
PEAK = {"matmul": 3e13, "convolution": 1.5e13, "rows": 5e10}


def features_of(family: str, rng: np.random.Generator) -> Features:
    sizes = np.exp(rng.uniform(3, 9, (60, 3))).astype(int).tolist()
    made = {
        "matmul": [op("matmul", m=m, n=n, k=k) for m, n, k in sizes],
        "convolution": [
            op("conv2d", n=4, c_in=c_in, c_out=c_out, h=hw, w=hw, kh=kernel, kw=kernel, pad=kernel // 2)
            for c_in, c_out, hw in np.exp(rng.uniform((2, 2, 2.5), (6, 6, 4.5), (60, 3))).astype(int).tolist()
            for kernel in (1, 3)
        ],
        "rows": [op(("softmax", "layer_norm")[rows % 2], rows=rows, cols=cols) for rows, cols, _ in sizes],
    }[family]
    return join([describe(batch) for batch in table_of(made).batches])


def differences(function: Callable[[Floats], Floats], at: Floats, step: float) -> Floats:
    """Central differences, an axis per parameter last."""
    steps = step * np.eye(len(at))
    return np.stack([(function(at + one) - function(at - one)) / (2 * step) for one in steps], axis=-1)


@pytest.mark.parametrize(
    ("family", "form", "threads"),
    [
        ("matmul", "tiled", 1),
        ("matmul", "tiled", 4),
        ("matmul", "smooth", 4),
        ("convolution", "tiled", 1),
        ("rows", "stream", 1),
        ("rows", "stream", 4),
    ],
)
def test_derivatives_of_the_physics_are_those_of_finite_differences(family: str, form: str, threads: int) -> None:
    rng = np.random.default_rng(0)
    features = features_of(family, rng)
    launches = tuple(sorted(set(features.launch.tolist())))
    prior = Prior(
        peak=PEAK[family],
        bandwidth=1e11,
        cost=dict.fromkeys(launches, 1e-6),
        inner=((3e5, 2.0), (3e7, 3.0)),
        threads=threads,
    )
    names, mean, spread = analytic.parameters(
        form, features.family, prior, (launches, tuple(sorted(set(features.code.tolist()))))
    )

    def log_seconds(theta: Floats) -> Floats:
        return np.log(analytic.terms(form, dict(zip(names, theta, strict=True)), features)[0])

    largest = np.zeros(len(names))
    for _ in range(6):
        at = mean + 0.7 * spread * rng.standard_normal(len(mean))
        value, slopes = analytic_gradient.log_seconds(form, dict(zip(names, at, strict=True)), features)
        assert np.allclose(value, log_seconds(at), rtol=1e-12)
        off = np.abs(slopes - differences(log_seconds, at, 1e-6)) > 1e-5
        # A step may pass a whole wave, or from one tile to another: there is no derivative there.
        assert off.any(axis=1).mean() < 0.02, [name for name, bad in zip(names, off.any(axis=0), strict=True) if bad]
        largest = np.maximum(largest, np.abs(slopes).max(axis=0))
    assert (largest > 1e-4).all(), [name for name, most in zip(names, largest, strict=True) if most <= 1e-4]


@pytest.mark.parametrize("codes", [("p",), ("p", "q", "r")])
def test_the_gradient_of_the_likelihood_is_that_of_finite_differences(codes: tuple[str, ...]) -> None:
    rng = np.random.default_rng(5)
    count, axes = 60, 3
    data = (
        rng.uniform(3, 9, (count, axes)),
        np.array([codes[place % len(codes)] for place in range(count)], dtype=object),
        rng.normal(0, 0.1, count),
        rng.uniform(0.3, 1, count),
    )
    at = np.concatenate([gaussian_process.HYPER_MEAN, np.zeros(axes)]) + rng.normal(0, 0.3, 4 + axes)

    def value(hyper: Floats) -> Floats:
        return np.asarray(gaussian_process.negative_log_likelihood(hyper, data, codes)[0])

    gradient = gaussian_process.negative_log_likelihood(at, data, codes)[1]
    assert gradient == pytest.approx(differences(value, at, 1e-5), rel=1e-4, abs=1e-5)
