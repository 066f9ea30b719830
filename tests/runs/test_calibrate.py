from __future__ import annotations

import numpy as np
import pytest
from places import ROOT

from microbench.operators import op
from microbench.operators.core import parse
from microbench.predict.cold_cache import STREAMS, share_paid
from microbench.predict.operator_timing import Rounds
from microbench.runs.calibrate import measured_figures, reuse_of, timings
from microbench.storage.store import load


def test_timings_keep_the_envelope_and_the_number_of_rounds_of_what_ran() -> None:
    operators = (op("matmul", m=4, n=5, k=6), op("add", size=7), op("relu", size=3))
    seconds = np.array([[3.0, 1.23456, np.nan], [np.nan, np.nan, np.nan], [2e-6, 1e-6, 3e-6]])
    first, second = timings(Rounds(operators=operators, seconds=seconds))
    assert (first.seconds, first.rounds) == (1.235, 2)
    assert (second.seconds, second.rounds) == (1e-6, 3)
    assert parse(f"{first.op}[{first.params}].{first.dtype}") == operators[0]


def test_cold_times_are_kept_beside_hot_ones_and_tell_what_lies_between() -> None:
    operators = tuple(op("add", size=100 + place) for place in range(40))
    hot = np.full((40, 3), 1e-6)
    interleaved = {reuse: hot * (1 + 9 * share_paid(reuse, 2e6, 0.7)) for reuse in STREAMS}
    rounds = Rounds(operators=operators, seconds=hot, interleaved=interleaved)
    kept = timings(rounds)
    assert [row.cache for row in kept] == ["hot"] * 40 + ["cold"] * 40
    assert kept[-1].seconds > 5 * kept[0].seconds
    reuse = reuse_of(rounds)
    assert share_paid(2e6, reuse["half_bytes"], reuse["power"]) == pytest.approx(0.5, abs=0.07)


def test_kept_timings_leave_defaults_out_and_are_read_back() -> None:
    operators = (
        op("conv2d", n=2, c_in=8, c_out=8, h=9, kh=3, stride=2),
        op("linear", m=2, n=3, k=4, bias=0),
        op("linear", m=2, n=3, k=4),
    )
    kept = timings(Rounds(operators=operators, seconds=np.full((3, 2), 1e-6)))
    assert [row.params for row in kept] == ["n=2;c_in=8;c_out=8;h=9;kh=3;stride=2", "m=2;n=3;k=4;bias=0", "m=2;n=3;k=4"]
    assert tuple(parse(f"{row.op}[{row.params}].{row.dtype}") for row in kept) == operators


def test_the_prior_of_operators_is_what_bounds_the_roofline_and_no_mix_that_no_product_can_reach() -> None:
    (path,) = (ROOT / "results" / "amd-epyc").glob("*.json")
    made = load(path)
    rates = {row.kernel: row.rate.value for row in made.ceilings if row.scope == "device" and row.mode == "peak"}
    assert rates["fma_add.f32.v256"] > 1.3 * rates["fma.f32.v256"]
    assert measured_figures(made).peak["f32"] == rates["fma.f32.v256"]
