from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from microbench.errors import CannotRun
from microbench.operators import OPERATORS, op
from microbench.predict.figures import DeviceFigures
from microbench.predict.operator_timing import Effort, lowest, measure
from microbench.predict.shape_sampling import Reach, design, reach_of


def test_a_sweep_reaches_every_family_and_repeats_itself() -> None:
    drawn = design(1, share=0.3)
    assert {made.row.family for made in drawn} == {
        row.family for row in OPERATORS.values() if "draws" not in row.without
    }
    assert [str(made) for made in drawn] == [str(made) for made in design(1, share=0.3)]
    assert len({str(made) for made in drawn}) == len(drawn)


def test_two_seeds_share_hardly_a_row() -> None:
    first, second = ({str(made) for made in design(seed, share=0.3)} for seed in (1, 2))
    assert len(first & second) < 0.05 * len(first)


def test_a_sweep_stays_within_its_limits_and_has_odd_sizes() -> None:
    reach = Reach(flop={"f32": 1e7}, bytes=1e6)
    drawn = design(3, reach=reach)
    long = [made for made in drawn if reach.beyond(made) and made.dtype == "f32"]
    assert all(reach.long.holds(made) for made in long)
    assert 0 < len(long) < 0.1 * len(drawn)
    sizes = [made.params["m"] for made in drawn if made.name == "matmul"]
    assert {size % 2 for size in sizes} == {0, 1}


# Invented: a large card of today, and a small one without 8-bit floats.
LARGE = DeviceFigures(
    peak={"f32": 5e13, "tf32": 4e14, "bf16": 8e14, "f16": 8e14, "f8e4m3": 1.6e15, "i8": 1.6e15},
    bandwidth=3e12,
    kind="cuda",
)
SMALL = DeviceFigures(peak={"f32": 5e12, "f16": 2e13}, bandwidth=3e11, kind="cuda")


@pytest.mark.parametrize(("figures", "memory"), [(LARGE, 80 << 30), (SMALL, 8 << 30)])
def test_a_gpus_sweep_spans_its_own_times_and_is_no_heap_of_launches(figures: DeviceFigures, memory: int) -> None:
    reach = reach_of(figures, memory, 2.5e-6)
    drawn = design(1, 0.5, reach)
    seconds = np.array([reach.seconds(made) for made in drawn])
    assert (seconds < reach.launch_s).mean() < 0.25
    assert (seconds > 1e-4).mean() > 0.25
    assert seconds.max() > 2e-3
    assert max(made.work.bytes for made in drawn) <= memory / 16
    assert max(made.work.bytes for made in drawn) > memory / 60
    assert {made.row.family for made in drawn} == {
        row.family for row in OPERATORS.values() if "draws" not in row.without
    }


def test_a_gpus_sweep_has_the_formats_that_the_device_has_a_ceiling_for() -> None:
    formats = {made.dtype for made in design(1, 0.5, reach_of(LARGE, 80 << 30))}
    assert formats == {"f32", "tf32", "bf16", "f16", "f8e4m3", "i8"}
    small = design(1, 0.5, reach_of(SMALL, 8 << 30))
    assert {made.dtype for made in small} == {"f32", "f16"}
    products = Counter(made.dtype for made in small if made.name == "matmul" and made.direction == "forward")
    assert products["f16"] > 2 * products["f32"]


def test_a_gpus_sweep_has_what_models_are_made_of() -> None:
    drawn = design(1, 0.5, reach_of(LARGE, 80 << 30))
    attention = [made.params for made in drawn if made.name == "attention"]
    assert {64, 128, 256} <= {size["head_dim"] for size in attention}
    assert any(size["q_len"] == 1 for size in attention)
    assert any(size["q_len"] > 1024 for size in attention)
    assert any(size["kv_heads"] < size["heads"] for size in attention)
    convolutions = [made.params for made in drawn if made.name == "conv2d"]
    assert {size["channels_last"] for size in convolutions} == {0, 1}
    groups = {(size["groups"] > 1, size["groups"] == size["c_in"], size["channels_last"]) for size in convolutions}
    assert {(True, True, 0), (True, True, 1), (True, False, 0), (True, False, 1)} <= groups
    products = [made.params for made in drawn if made.name == "matmul"]
    assert any(size["m"] <= 8 and size["n"] * size["k"] > 1 << 22 for size in products)
    assert any(min(size.values()) > 2048 for size in products)
    backward = {made.row.family for made in drawn if made.direction == "backward"}
    assert {"matmul", "convolution", "attention", "normalisation", "elementwise", "softmax"} <= backward


def test_a_processors_sweep_grows_with_its_ceilings() -> None:
    def reach(cores: int) -> Reach:
        return reach_of(DeviceFigures(peak={"f32": 1e11 * cores}, bandwidth=2.5e10 * cores, kind="cpu"))

    small, large = (max(made.work.flop for made in design(1, 0.5, reach(cores))) for cores in (2, 64))
    assert large > 8 * small
    assert {made.dtype for made in design(1, 0.5, reach(64))} == {"f32", "bf16"}


def test_a_processors_sweep_has_backward_passes_long_rows_and_results_that_no_allocator_keeps() -> None:
    reach = reach_of(DeviceFigures(peak={"f32": 2e11}, bandwidth=2.9e10, kind="cpu"))
    drawn = design(1, 0.5, reach)
    backward = {made.row.family for made in drawn if made.direction == "backward"}
    assert {"matmul", "linear", "convolution", "attention", "normalisation", "elementwise", "pooling"} <= backward
    kinds = {made.params["groups"] == made.params["c_in"] for made in drawn if made.name == "conv2d"}
    assert kinds == {True, False}
    assert max(made.work.flop for made in drawn) > 1e9
    assert max(made.work.bytes_written for made in drawn) > 32 << 20
    trained = {made.params["train"] for made in drawn if made.name == "batch_norm" and made.direction == "backward"}
    assert trained == {1}


def test_a_device_without_ceilings_is_swept_as_two_cores_are() -> None:
    assert reach_of(DeviceFigures(kind="cpu")) == Reach()
    assert design(1, 0.5, reach_of(DeviceFigures(kind="cuda"))) == []


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
