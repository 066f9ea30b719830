from __future__ import annotations

import numpy as np

from microbench.report import calibration

FAMILIES = ("matmul", "matmul", "matmul", "pooling", "pooling", "data movement")
MEASURED = np.array([1e-6, 1e-5, 1e-4, 1e-3, 2e-3, 5e-4])
RATIO = np.array([1.1, 0.9, 1.2, 1.0, 9.0, 0.1])


def test_every_family_has_a_line_with_its_own_median_error_and_rows() -> None:
    made = calibration.figure(MEASURED, MEASURED * RATIO, FAMILIES)
    together, apart = made.axes
    assert [label.get_text() for label in apart.get_yticklabels()] == ["matmul", "pooling", "data movement"]
    texts = [text.get_text() for text in apart.texts]
    assert "10.0 %, 3" in texts
    assert "400.0 %, 2" in texts
    assert "90.0 %, 1" in texts
    # 4 of 6 within a factor of 1.25; the median of 10, 10, 20, 0, 800 and 90 %.
    assert any(
        "6 operators: median error 15.0 %, 67 % within a factor of 1.25" in text.get_text() for text in together.texts
    )


def test_families_are_told_apart_by_place_and_not_by_colour() -> None:
    made = calibration.figure(MEASURED, MEASURED * RATIO, FAMILIES)
    colours = {
        tuple(np.round(colour[:3], 3))
        for ax in made.axes
        for points in ax.collections[1:]
        for colour in points.get_facecolor()
    }
    assert len(colours) == 1


def test_far_errors_stand_inside_the_axes() -> None:
    made = calibration.figure(MEASURED, MEASURED * RATIO, FAMILIES)
    apart = made.axes[1]
    low, high = apart.get_xlim()
    places = np.concatenate([points.get_offsets()[:, 0] for points in apart.collections if len(points.get_offsets())])
    assert len(places) == len(RATIO)
    assert ((places > low) & (places < high)).all()


def test_names_of_families_keep_clear_of_the_other_panel() -> None:
    made = calibration.figure(MEASURED, MEASURED * RATIO, ("a family with quite a long name",) * len(RATIO))
    made.draw_without_rendering()
    together, apart = made.axes
    assert min(label.get_window_extent().x0 for label in apart.get_yticklabels()) > together.get_window_extent().x1
