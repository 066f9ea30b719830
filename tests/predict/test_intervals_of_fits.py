"""Intervals of fitted operators: what they are calibrated on, whose they are, how wide they must be."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from microbench.operators import op, table_of
from microbench.predict import predict
from microbench.predict.fit import fit
from microbench.records import Characterisation, Device, Fits, OperatorFit, Prediction

NOISE = 0.05
# A row whose time is made up to be longer, to see what becomes of its score.
CHANGED = 3


@lru_cache
def fitted(relu: int, add: int = 0, factor: float = 1.0) -> OperatorFit:
    """Elementwise operators of random sizes on a device of 100 GB/s, 2 us and 5 % of noise; one row off by a factor."""
    names = ["relu"] * relu + ["add"] * add
    rng = np.random.default_rng(1)
    made = [op(name, size=int(size)) for name, size in zip(names, np.exp(rng.uniform(8, 17, len(names))), strict=True)]
    noise = np.exp(rng.normal(0, NOISE, len(names)))
    noise[CHANGED] *= factor
    seconds = [(2e-6 + each.work.bytes / 1e11) * n for each, n in zip(made, noise, strict=True)]
    (found,) = fit(table_of(made, seconds)).fits.operators
    return found


def test_below_fifty_rows_no_row_has_a_say_in_the_score_it_gets() -> None:
    # Nothing that scores a row was learnt from it, so its score is linear in the logarithm of its time.
    made = (fitted(49), fitted(49, factor=2.0), fitted(49, factor=8.0))
    scores = [each.residuals[CHANGED] for each in made]
    spread = math.log(2) / (scores[1] - scores[0])
    assert spread == pytest.approx(math.log(4) / (scores[2] - scores[1]), rel=1e-3)
    assert 0.5 * NOISE < spread < 4 * NOISE


@pytest.mark.parametrize("rows", [49, 60])
def test_scores_are_counted_in_the_spread_expected_at_their_place(rows: int) -> None:
    quantile = fitted(rows).quantile
    assert quantile is not None
    assert 1 < quantile < 3.5  # 1.64 of a normal distribution
    (inside,) = predict([op("relu", size=10**5)], holding(fitted(rows)))
    assert 1.2 * NOISE < half_width(inside) < 4 * NOISE


def test_an_operator_of_thirty_rows_has_a_quantile_of_its_own() -> None:
    made = fitted(29, add=30)
    assert set(made.quantiles) == {"add"}
    assert made.quantile is not None


def test_an_operator_that_is_alone_in_its_family_needs_no_quantile_of_its_own() -> None:
    assert fitted(60).quantiles == {}


def holding(made: OperatorFit) -> Characterisation:
    device = Device(id="0", kind="cpu", name="made up", arch="none")
    return Characterisation(schema="1.0", device=device, environment=None, plan=None, fits=Fits(operators=(made,)))


def half_width(found: Prediction) -> float:
    return math.log(found.seconds.high / found.seconds.value)


def known(**facts: Any) -> Characterisation:
    """A fit of relu and add with 2 us, 100 GB/s and an interval of 1.5 times 10 %."""
    made: dict[str, Any] = {
        "family": "elementwise",
        "dtype": "f32",
        "rows": 40,
        "cost_s": {"eager": 2e-6},
        "terms": {"peak": 1e15, "bandwidth": 1e11, "sharpness": 50.0},
        "codes": ("add", "relu"),
        "correction": {"noise": 0.1},
        "quantile": 1.5,
    }
    return holding(OperatorFit(**{**made, **facts}))


def test_the_interval_is_the_quantile_times_the_spread_at_that_place() -> None:
    (found,) = predict([op("relu", size=10**6)], known())
    assert found.seconds.value == pytest.approx(2e-6 + 8e6 / 1e11)
    assert half_width(found) == pytest.approx(0.15)
    assert found.seconds.value / found.seconds.low == pytest.approx(found.seconds.high / found.seconds.value)
    assert found.seconds.basis == "conformal on 40 rows"


def test_an_operator_with_a_quantile_of_its_own_has_the_interval_of_that() -> None:
    add, relu = predict(["add:size=1000000", "relu:size=1000000"], known(quantiles={"add": 3.0}))
    assert (half_width(add), half_width(relu)) == pytest.approx((0.3, 0.15))


def test_an_operator_whose_siblings_alone_were_measured_is_known_to_a_factor_of_two() -> None:
    relu, tanh = predict(["relu:size=1000000", "tanh:size=1000000"], known())
    assert half_width(relu) == pytest.approx(0.15)
    assert half_width(tanh) == pytest.approx(math.hypot(0.15, 0.7))
    assert tanh.seconds.value == pytest.approx(relu.seconds.value)
    assert tanh.seconds.basis == "conformal on 40 rows of other elementwise operators"


def test_rows_too_few_for_an_interval_get_the_one_of_no_fit_at_all() -> None:
    (found,) = predict(["relu:size=1000000"], known(rows=8, quantile=None))
    assert found.seconds.basis == "8 rows are too few for an interval"
    assert half_width(found) == pytest.approx(math.log(5))
