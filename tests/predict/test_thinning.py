"""Which rows of a sweep of operators are kept where the time is short."""

from __future__ import annotations

import numpy as np

from microbench.operators import op
from microbench.predict.figures import DeviceFigures
from microbench.predict.shape_sampling import design
from microbench.predict.thinning import LEAST_ROWS, row_seconds, thin

FIGURES = DeviceFigures(peak={"f32": 1e11}, bandwidth=2e10, kind="cpu", measured=True)
SWEEP = design(1, 0.5)


def test_thinning_keeps_every_operator_and_its_span() -> None:
    seconds = row_seconds(SWEEP, FIGURES, 3)
    kept = thin(SWEEP, seconds, 0.6 * float(seconds.sum()))
    assert len(kept) < len(SWEEP)
    for name in {each.name for each in SWEEP}:
        before = [float(seconds[place]) for place, each in enumerate(SWEEP) if each.name == name]
        after = [float(seconds[place]) for place in kept if SWEEP[place].name == name]
        assert (min(after), max(after)) == (min(before), max(before))
        assert len(after) >= min(LEAST_ROWS, len(before))


def test_backward_rows_and_other_dtypes_are_thinned_before_forward_f32_rows() -> None:
    forward = [op("add", size=1000 * step) for step in range(1, 41)]
    others = [op("add", size=1000 * step, dtype="bf16") for step in range(1, 41)]
    others += [op("add", size=1000 * step, direction="backward") for step in range(1, 41)]
    rows = forward + others
    seconds = np.ones(len(rows))
    kept = thin(rows, seconds, 60.0)
    assert [place for place in kept if place < 40] == list(range(40))
    assert len(kept) <= 60
    few = thin(rows, seconds, 45.0)
    assert len([place for place in few if place >= 40]) == 2 * LEAST_ROWS
    assert len([place for place in few if place < 40]) <= 25
