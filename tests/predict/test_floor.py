"""No operator is predicted below the measured roofline; an operator that was never swept is like its relatives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from microbench.operators import op
from microbench.operators.core import Op
from microbench.predict import predict
from microbench.predict.analytic import inherited
from microbench.records import Characterisation, Environment, OperatorFit
from tests.predict.test_model_caches import calibration

# What the made-up processor's loops did: FLOP/s, and byte/s of main memory.
PEAK, BANDWIDTH = 1e12, 2e10


def too_fast(family: str, form: str, *, measured: bool = True) -> Characterisation:
    """A fit that a slip has made far faster than any loop."""
    terms = {"peak": 1e18, "bandwidth": 1e18, "sharpness": 50.0, "m0": 1e-9, "n0": 1e-9, "k0": 1e-9, "lanes": 1e-9}
    fit = OperatorFit(
        family=family,
        dtype="f32",
        rows=40,
        form=form,  # type: ignore[arg-type]
        cost_s={"eager": 1e-12},
        terms=terms,
        correction={"noise": 0.1},
        quantile=1.0,
    )
    seen = Environment(started="2026-11-21T22:04:00Z", seconds=1.0, microbench="0.1") if measured else None
    return replace(calibration(operators=(fit,), reuse={}), environment=seen)


@pytest.mark.parametrize(
    ("family", "form", "made", "least"),
    [
        ("elementwise", "stream", op("relu", size=10**8), 8e8 / BANDWIDTH),
        ("matmul", "smooth", op("matmul", m=2048, n=2048, k=2048), 2 * 2048**3 / PEAK),
        ("convolution", "smooth", op("conv2d", n=8, c_in=64, c_out=64, h=56, w=56, kh=3, pad=1), None),
    ],
)
def test_no_operator_is_faster_than_the_measured_loops(family: str, form: str, made: Op, least: float | None) -> None:
    if least is None:  # as many FLOP as Winograd's algorithm leaves
        least = max(made.work.flop / 4 / PEAK, made.work.bytes / BANDWIDTH)
    (found,) = predict([made], too_fast(family, form))
    assert found.seconds.value == pytest.approx(least, rel=1e-6)
    assert found.seconds.low == pytest.approx(least, rel=1e-6)


def test_ceilings_that_were_fitted_are_no_floor() -> None:
    (found,) = predict([op("relu", size=10**8)], too_fast("elementwise", "stream", measured=False))
    assert found.seconds.value < 1e-6


def test_an_operator_never_swept_takes_after_its_nearest_relative_of_the_same_pass() -> None:
    known = {"conv2d": 1.0, "conv2d.grouped": 2.0, "conv2d.backward": 3.0, "conv_transpose2d": 4.0}
    assert inherited("conv2d.grouped.channels_last", known) == 2.0
    assert inherited("conv2d.grouped.backward", known) == 3.0
    assert inherited("conv_transpose2d.backward", known) == 4.0
    assert inherited("conv3d", known) == pytest.approx((1.0 + 2.0 + 4.0) / 3)
    assert inherited("conv3d.backward", known) == 3.0
    assert inherited("anything", {"only": 5.0}) == 5.0
