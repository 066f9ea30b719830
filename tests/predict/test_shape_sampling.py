from __future__ import annotations

import numpy as np
import pytest

from microbench.errors import CannotRun
from microbench.operators import FAMILIES, op
from microbench.predict.operator_timing import Effort, lowest, measure
from microbench.predict.shape_sampling import design


def test_a_sweep_reaches_every_family_and_repeats_itself() -> None:
    drawn = design(1, share=0.3)
    assert {made.row.family for made in drawn} == set(FAMILIES)
    assert [str(made) for made in drawn] == [str(made) for made in design(1, share=0.3)]
    assert len({str(made) for made in drawn}) == len(drawn)


def test_two_seeds_share_hardly_a_row() -> None:
    first, second = ({str(made) for made in design(seed, share=0.3)} for seed in (1, 2))
    assert len(first & second) < 0.05 * len(first)


def test_a_sweep_stays_within_its_limits_and_has_odd_sizes() -> None:
    drawn = design(3, most=(1e7, 1e6))
    assert max(made.work.flop for made in drawn) <= 1e7
    assert max(made.work.bytes for made in drawn) <= 1e6
    sizes = [made.params["m"] for made in drawn if made.name == "matmul"]
    assert {size % 2 for size in sizes} == {0, 1}


def test_the_envelope_is_the_smallest_over_rounds_and_forgives_a_missing_one() -> None:
    assert lowest(np.array([[3.0, 1.0, np.nan], [np.nan, 5.0, 4.0]])).tolist() == [1.0, 4.0]


def test_rounds_time_what_runs_and_name_what_cannot() -> None:
    pytest.importorskip("torch")
    runs, cannot = op("add", size=1000), op("attention", b=1, heads=1, q_len=4, kv_len=9, head_dim=8, causal=1)
    found = measure([runs, cannot], "cpu", Effort(limit_s=0.0, least=2))
    assert found.seconds.shape == (2, 2)
    assert (found.seconds[0] > 0).all()
    assert np.isnan(found.seconds[1]).all()
    assert len(found.findings) == 1
    assert "causal mask" in found.findings[0].says


def test_nothing_that_can_run_is_refused() -> None:
    pytest.importorskip("torch")
    with pytest.raises(CannotRun, match="no operator could run"):
        measure(
            [op("attention", b=1, heads=1, q_len=4, kv_len=9, head_dim=8, causal=1)],
            "cpu",
            Effort(limit_s=0.0, least=1),
        )


def test_a_measurement_of_operators_tells_how_far_it_is() -> None:
    pytest.importorskip("torch")
    told: list[tuple[str, int, float, float]] = []
    operators = [op("add", size=size) for size in (64, 128)]
    measure(operators, "cpu", Effort(limit_s=0.0, least=3), on_progress=lambda *facts: told.append(facts))
    assert {what for what, *_ in told} >= {str(each) for each in operators}
    assert sorted({index for _, index, _, _ in told}) == [1, 2, 3]
    assert all(0 <= share <= 1 and left >= 0 for _, _, share, left in told)
    # With no time to spare the rounds that must be done tell the share: the last visit belongs to the last third.
    assert told[-1][2] > 2 / 3
