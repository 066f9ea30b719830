from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from microbench.errors import UsageError
from microbench.operators import Op, op
from microbench.records import Characterisation, Device
from microbench.report.calibration import draw_calibration
from microbench.runs.validate import (
    Graded,
    GradedModel,
    Validation,
    band,
    error_rows,
    kind_of,
    model_rows,
    validate,
    worst_rows,
)


def _graded(ratios: list[float]) -> Validation:
    """Rows whose predictions are off by known ratios, with intervals of a factor of 1.5."""
    made_up = [
        op("relu", size=9 + place) if place % 2 else op("matmul", m=4, n=4, k=place + 1) for place in range(len(ratios))
    ]
    operators: tuple[Op, ...] = tuple(made_up)
    measured = np.full(len(ratios), 1e-3)
    predicted = measured * np.array(ratios)
    rows = Graded(
        operators=operators,
        measured=measured,
        predicted=predicted,
        low=predicted / 1.5,
        high=predicted * 1.5,
        plain=measured * 0.5,
        datasheet=measured * 0.25,
        even=measured * 1.02,
        odd=measured,
    )
    device = Device(id="0", kind="cpu", name="made up", arch="none")
    made = Characterisation(schema="1.0", device=device, environment=None, plan=None)
    return Validation(calibration=made, rows=rows, models=(), rounds=4)


def test_the_table_says_what_known_ratios_say() -> None:
    rows = {row["family"]: row for row in error_rows(_graded([1.1, 1.1, 0.9, 2.0]))}
    assert rows["matmul"]["mean_error_percent"] == 10.0
    assert rows["elementwise"]["mean_error_percent"] == 55.0
    assert rows["all"]["coverage_percent"] == 75.0
    assert rows["all"]["half_width"] == 1.5
    assert rows["all"]["plain_roofline_percent"] == 50.0
    assert rows["all"]["datasheet_percent"] == 75.0
    assert rows["all"]["repeat_percent"] == 2.0


def test_the_worst_row_comes_first() -> None:
    worst = worst_rows(_graded([1.1, 1.1, 0.2, 2.0]), count=2)
    assert [row["ratio"] for row in worst] == [0.2, 2.0]


def test_convolutions_are_told_apart() -> None:
    shape = {"n": 1, "c_in": 4, "c_out": 4, "h": 8, "kh": 3}
    kinds = [kind_of(op("conv2d", groups=groups, **shape)) for groups in (1, 2, 4)]
    assert kinds == ["convolution, dense", "convolution, grouped", "convolution, depthwise"]


def test_a_model_outside_its_interval_is_said_to_be() -> None:
    (row,) = model_rows([GradedModel(name="m", measured=2.0, predicted=1.0, low=0.9, high=1.5, operators=3)])
    assert row["error_percent"] == -50.0
    assert row["inside"] is False


def test_a_calibration_of_another_kind_of_device_is_refused() -> None:
    foreign = Characterisation(
        schema="1.0", device=Device(id="1", kind="cuda", name="g", arch="sm_80"), environment=None, plan=None
    )
    with pytest.raises(UsageError, match="cuda"):
        validate(Device(id="0", kind="cpu", name="c", arch="none"), foreign)


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    rows = _graded([1.1, 1.1, 0.9, 2.0]).rows
    path = tmp_path / "plot.png"
    draw_calibration(rows.measured, rows.predicted, [kind_of(each) for each in rows.operators], path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_band_of_a_coverage_holds_nine_in_ten_and_narrows_with_rows() -> None:
    low, high = band(20)
    assert (low, high) == (pytest.approx(0.75), pytest.approx(1.0))
    low, high = band(2000)
    assert 0.88 < low < 0.9 < high < 0.92


def test_a_family_outside_its_band_is_said_to_be() -> None:
    rows = {row["family"]: row for row in error_rows(_graded([1.0] * 60))}
    assert rows["all"]["in_band"] is False  # all inside: intervals too wide
    rows = {row["family"]: row for row in error_rows(_graded([1.0] * 54 + [3.0] * 6))}
    assert rows["all"]["in_band"] is True
