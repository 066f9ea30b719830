from __future__ import annotations

import itertools
import subprocess
import sys
import warnings
from dataclasses import replace

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from places import DATA

from microbench.records import Ceiling, Characterisation, Estimate, MemoryLevel, RooflineFit, RoofPoint
from microbench.report import plots, roofline_scene, style

NAMES: tuple[plots.PlotName, ...] = ("roofline", "working-set", "latency", "compute")


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_of_the_fake_is_a_png_with_something_on_it(
    name: plots.PlotName, fake_cpu: Characterisation
) -> None:
    made = plots.figure(name, fake_cpu)
    assert made is not None
    canvas = made.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    pixels = memoryview(canvas.buffer_rgba()).tobytes()
    assert len(set(zip(pixels[::4], pixels[1::4], pixels[2::4], strict=True))) > 20
    assert (plots.png(name, fake_cpu) or b"").startswith(b"\x89PNG")


def test_the_roofline_carries_numbers_units_and_ridge_points(fake_cpu: Characterisation) -> None:
    drawn = plots.svg("roofline", fake_cpu) or ""
    for label in (
        "f32 avx512 burst  302.6 GFLOP/s",
        "f64 avx512 burst  151.3 GFLOP/s",
        "i8 avx512 burst  1.210 TOP/s",
        "DRAM read burst 23.3 GB/s",
        "L1 read burst 669 GB/s",
    ):
        assert f">{label}<" in drawn
    assert ">13.0<" in drawn
    assert "Fakechip 9000 (made up for tests)" in drawn
    assert "2 threads" in drawn


def test_the_working_set_curve_names_levels_found_and_advertised(fake_cpu: Characterisation) -> None:
    drawn = plots.svg("working-set", fake_cpu) or ""
    for label in (
        ">L3 35.75 MiB<",
        "24.0 GB/s",
        "25.0 ns",
        ">2 threads<",
        ">small pages<",
        "read.f32.avx512, huge pages",
    ):
        assert label in drawn


def test_a_picture_without_data_is_left_out(bare: Characterisation) -> None:
    assert plots.svg("working-set", bare) is None
    assert plots.svg("latency", bare) is None
    assert plots.svg("compute", bare) is None


def test_a_roofline_without_ceilings_says_so(bare: Characterisation) -> None:
    assert "No compute ceiling was measured" in (plots.svg("roofline", bare) or "")


def test_equal_data_give_equal_files(fake_cpu: Characterisation) -> None:
    assert plots.svg("roofline", fake_cpu) == plots.svg("roofline", fake_cpu)


def test_matplotlib_settings_of_the_caller_survive(fake_cpu: Characterisation) -> None:
    before = dict(mpl.rcParams)
    plots.svg("roofline", fake_cpu)
    assert dict(mpl.rcParams) == before


def test_the_roofline_can_be_drawn_into_axes_of_the_callers(fake_cpu: Characterisation) -> None:
    ax = Figure(figsize=(9, 5)).add_subplot()
    plots.draw_roofline(ax, fake_cpu)
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert any("302.6 GFLOP/s" in text.get_text() for text in ax.texts)


def test_labels_right_of_the_roofline_do_not_overlap(fake_cpu: Characterisation) -> None:
    made = plots.figure("roofline", fake_cpu)
    assert made is not None
    boxes = [
        text.get_window_extent()
        for text in made.axes[0].texts
        if "LOP/s" in text.get_text() or "TOP/s" in text.get_text()
    ]
    assert len(boxes) >= 4
    assert not any(a.overlaps(b) for index, a in enumerate(boxes) for b in boxes[:index])
    assert all(box.x1 <= made.bbox.width for box in boxes)


def test_no_glyph_is_missing(fake_cpu: Characterisation, fake_cuda: Characterisation) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for characterisation in (fake_cpu, fake_cuda):
            for name in NAMES:
                plots.png(name, characterisation)


@given(st.lists(st.floats(-1e4, 1e4), max_size=30), st.floats(0.1, 100))
def test_spread_labels_keep_their_order_and_distance(wanted: list[float], gap: float) -> None:
    placed = style.spread(wanted, gap)
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    for left, right in itertools.pairwise(order):
        assert placed[right] - placed[left] >= gap * 0.999


@given(st.lists(st.integers(0, 100), min_size=1, max_size=10, unique=True))
def test_labels_far_enough_apart_stay_where_they_are(wanted: list[int]) -> None:
    positions = [1000.0 * place for place in wanted]
    assert style.spread(positions, 10.0) == positions


def of_gpu(fake_cuda: Characterisation) -> Characterisation:
    """The fake GPU with a sweep, and with a second format of eight bits that is as fast as the first."""
    slow = next(row for row in fake_cuda.ceilings if row.dtype == "f8e4m3" and row.mode == "peak")
    rate = replace(slow.rate, value=slow.rate.value * 0.995, low=slow.rate.value * 0.99)
    twin = replace(slow, name="twin", dtype="f8e5m2", rate=rate)
    device = replace(
        fake_cuda.device,
        levels=tuple(
            MemoryLevel(name=name, capacity_bytes=size << 10)
            for name, size in (("L1", 256), ("shared", 228), ("L2", 50 << 10), ("L3", 55 << 10))
        ),
    )
    points = [
        Ceiling(
            name="read.i32.u4",
            measures="memory",
            backend="cuda",
            access="read",
            case=f"read.i32.u4[blocks_per_sm=0;working_set={size << 10}]@1",
            rate=Estimate(value=5e12, low=5e12, high=5e12),
        )
        for size in (64, 256, 1024, 4096, 16384, 65536)
    ]
    return replace(fake_cuda, device=device, ceilings=(*fake_cuda.ceilings, twin, *points))


def test_roofs_that_coincide_share_a_label(fake_cuda: Characterisation) -> None:
    drawn = plots.svg("roofline", of_gpu(fake_cuda)) or ""
    assert ">f8e4m3, f8e5m2 burst  1.843 PFLOP/s<" in drawn  # the slower of the two
    assert "f8e4m3 matrix" not in drawn
    assert ">bf16 tensor burst  925.9 TFLOP/s<" in drawn  # nothing coincides with it


def test_operations_and_unlike_units_keep_their_own_labels() -> None:
    facts = {"label": "", "colour": "black", "thick": True}
    i8 = roofline_scene.Roof(dtype="i8", rate=1e12, unit="matrix", **facts)  # type: ignore[arg-type]
    f8 = roofline_scene.Roof(dtype="f8e4m3", rate=1e12, unit="matrix", **facts)  # type: ignore[arg-type]
    f16 = roofline_scene.Roof(dtype="f16", rate=1e12, unit="vector", **facts)  # type: ignore[arg-type]
    assert len(roofline_scene.joined([i8, f8, f16, replace(f8, dtype="f8e5m2", thick=False)])) == 4


@pytest.mark.parametrize("layout", [style.ALONE, style.IN_PAGE, style.IN_NARROW_PAGE])
def test_a_gpus_working_set_curve_has_no_labels_on_each_other(
    layout: style.Layout, fake_cuda: Characterisation
) -> None:
    made = plots.figure("working-set", of_gpu(fake_cuda), layout)
    assert made is not None
    texts = [text for ax in made.axes for text in ax.texts if "iB" in text.get_text()]
    assert [text.get_text() for text in texts] == [
        "L1 256 KiB",
        "L2 50 MiB, L3 55 MiB",
    ]  # no stream rests in shared memory
    boxes = [text.get_window_extent() for text in texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_a_gpus_working_set_curve_speaks_of_the_device_and_not_of_threads(fake_cuda: Characterisation) -> None:
    drawn = plots.svg("working-set", of_gpu(fake_cuda)) or ""
    assert "read.i32.u4, as many blocks as fit" in drawn
    assert "thread" not in drawn


def with_library(characterisation: Characterisation, share: float) -> Characterisation:
    rows = [
        row for row in characterisation.ceilings if (row.measures, row.dtype, row.mode) == ("compute", "f32", "peak")
    ]
    peak = max(rows, key=lambda row: row.rate.value)
    rate = Estimate(value=share * peak.rate.value, low=share * peak.rate.value, high=share * peak.rate.value)
    fast = replace(
        peak,
        name="gemm",
        unit=None,
        variant=None,
        backend="torch",
        mode="library",
        rate=rate,
        nominal=None,
        typical=None,
        case="gemm[]@2",
    )
    other = replace(fast, dtype="f64", rate=replace(rate, value=rate.low * 0.5, low=rate.low * 0.5), case="gemm64[]@2")
    return replace(characterisation, ceilings=(other, *characterisation.ceilings, fast))


@pytest.mark.parametrize("layout", [style.ALONE, style.IN_PAGE, style.IN_NARROW_PAGE])
def test_a_file_of_library_rates_alone_keeps_its_roofs_in_every_layout(
    fake_cpu: Characterisation, layout: style.Layout
) -> None:
    made = with_library(fake_cpu, 0.5)
    alone = tuple(row for row in made.ceilings if row.measures != "compute" or row.mode == "library")
    drawn = plots.figure("roofline", replace(made, ceilings=alone), layout)
    assert drawn is not None
    highest = {round(float(max(line.get_ydata()))) for line in drawn.axes[0].lines}
    assert {round(row.rate.value) for row in alone if row.mode == "library"} & highest


def test_the_library_bar_is_a_share_of_the_fastest_units_nominal(fake_cpu: Characterisation) -> None:
    made = plots.figure("compute", with_library(fake_cpu, 0.5))
    assert made is not None
    texts = [text.get_text() for text in made.axes[0].texts]
    # Half of 302.6 GFLOP/s, of the 307.2 that 512 bit could do.
    assert "151.3 of 307.2 GFLOP/s" in texts
    assert not any("unknown" in text for text in texts)


def test_bars_show_the_headline_threads_only(fake_cpu: Characterisation) -> None:
    made = plots.figure("compute", fake_cpu)
    assert made is not None
    labels = [label.get_text() for label in made.axes[0].get_yticklabels()]
    assert (
        len(labels)
        == len(set(labels))
        == len({row.name for row in fake_cpu.ceilings if row.measures == "compute" and row.threads == 2})
    )


def test_the_thin_roofs_hold_the_library_of_the_main_dtype(fake_cpu: Characterisation) -> None:
    drawn = plots.svg("roofline", with_library(fake_cpu, 0.5)) or ""
    assert ">f32 library  151.3 GFLOP/s<" in drawn


@pytest.mark.parametrize("layout", [style.ALONE, style.IN_PAGE, style.IN_NARROW_PAGE])
def test_labels_along_slopes_stand_between_the_axis_and_the_first_point(
    layout: style.Layout, fake_cpu: Characterisation
) -> None:
    made = plots.figure("roofline", fake_cpu, layout)
    assert made is not None
    ax = made.axes[0]
    boxes = [text.get_window_extent() for text in ax.texts if " read " in text.get_text()]
    assert len(boxes) == 4
    assert all(box.x0 > ax.get_window_extent().x0 for box in boxes)
    first = min(point.intensity for fit in fake_cpu.fits.rooflines for point in fit.points)
    # Where slopes are squeezed in a narrow picture their labels step along the lines.
    free = boxes[:1] if layout.narrow else boxes
    assert all(box.x1 < ax.transData.transform((first, 1e9))[0] for box in free)


@pytest.mark.parametrize("layout", [style.ALONE, style.IN_PAGE, style.IN_NARROW_PAGE])
def test_names_of_curves_stand_clear_of_the_names_of_levels(layout: style.Layout, fake_cpu: Characterisation) -> None:
    made = plots.figure("working-set", fake_cpu, layout)
    assert made is not None
    for ax in made.axes:
        levels = [text.get_window_extent() for text in ax.texts if "\n" in text.get_text()]
        curves = [
            text.get_window_extent() for text in ax.texts if text.get_text().endswith(("pages", "thread", "threads"))
        ]
        assert levels
        assert curves
        assert not any(level.overlaps(curve) for level in levels for curve in curves)


@pytest.mark.parametrize("name", NAMES)
def test_captions_fit_beside_the_pictures(name: plots.PlotName, fake_cpu: Characterisation) -> None:
    made = plots.figure(name, fake_cpu)
    assert made is not None
    headings = [text for ax in made.axes for text in ax.texts if text.get_text() in plots.caption(name, fake_cpu)]
    assert len(headings) == 2
    assert all(text.get_window_extent().x1 <= made.bbox.width for text in headings)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", [style.ALONE, style.IN_PAGE, style.IN_NARROW_PAGE])
def test_labels_of_axes_are_whole(name: plots.PlotName, layout: style.Layout, fake_cpu: Characterisation) -> None:
    made = plots.figure(name, fake_cpu, layout)
    assert made is not None
    made.draw_without_rendering()
    for ax in made.axes:
        for label in (ax.xaxis.label, ax.yaxis.label):
            box = label.get_window_extent()
            assert box.x0 >= 0
            assert box.y0 >= 0


@pytest.mark.parametrize("layout", [style.ALONE, style.IN_NARROW_PAGE])
def test_a_roofline_of_two_ceilings_has_ticks_to_read_it_by(layout: style.Layout, fake_cpu: Characterisation) -> None:
    peak = next(row for row in fake_cpu.ceilings if (row.name, row.threads) == ("fma.f32.avx512", 2))
    read = next(row for row in fake_cpu.ceilings if (row.level, row.access, row.threads) == ("L1", "read", 2))
    made = plots.figure(
        "roofline", replace(fake_cpu, ceilings=(peak, read), fits=replace(fake_cpu.fits, rooflines=())), layout
    )
    assert made is not None
    made.draw_without_rendering()
    ax = made.axes[0]
    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        assert len([tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]) >= 2


def test_a_roofline_draws_itself_however_it_was_made() -> None:
    code = """
import matplotlib
matplotlib.use("Agg")
from matplotlib import pyplot
from microbench.analysis.roofline import Roofline
from microbench.storage import store
held = store.load(PATH)
for made in (Roofline.of(held, threads=1), held.roofline):
    axes = pyplot.figure().add_subplot()
    assert made.plot(axes) is axes
    assert axes.lines
"""
    # In a process of its own: nothing may have been drawn before.
    command = [sys.executable, "-c", code.replace("PATH", repr(str(DATA / "fake-cpu.json")))]
    subprocess.run(command, check=True, timeout=120)


def lasting(characterisation: Characterisation) -> Characterisation:
    """The same with a sustained row of main memory at half the burst, and a sustained fit through five points."""
    reads = [row for row in characterisation.ceilings if (row.level, row.access) == ("DRAM", "read")]
    burst = max(reads, key=lambda row: (row.threads, row.rate.value))
    half = burst.rate.value / 2
    rate = replace(burst.rate, value=half, low=half, high=half)
    row = replace(burst, mode="sustained", rate=rate, case=f"{burst.case}:sustained")
    points = tuple(
        RoofPoint(level="DRAM", intensity=at, rate=min(half * at, 100e9), fitted=0.95 * min(half * at, 100e9))
        for at in (1.0, 2.0, 4.0, 8.0, 32.0)
    )
    fit = RooflineFit(
        dtype="f32",
        unit="vector",
        threads=burst.threads,
        peak=100e9,
        bandwidth={"DRAM": half},
        ridge={"DRAM": 100e9 / half},
        points=points,
        sharpness=4.0,
        mode="sustained",
    )
    fits = replace(characterisation.fits, rooflines=(*characterisation.fits.rooflines, fit))
    return replace(characterisation, ceilings=(*characterisation.ceilings, row), fits=fits)


@pytest.mark.parametrize("layout", [style.ALONE, style.IN_PAGE, style.IN_NARROW_PAGE])
def test_roofs_are_named_burst_or_sustained_and_residuals_stand_below_to_the_same_scale(
    fake_cpu: Characterisation, layout: style.Layout
) -> None:
    made = plots.figure("roofline", lasting(fake_cpu), layout)
    assert made is not None
    roofline, strip = made.axes
    texts = " ".join(text.get_text() for text in roofline.texts)
    assert "DRAM read burst 23.3 GB/s" in texts
    assert "DRAM read sustained 11.7 GB/s" in texts
    assert strip.get_xlim() == roofline.get_xlim()
    away = [float(line.get_ydata()[0]) for line in strip.lines if line.get_marker() not in ("None", "")]
    assert [value for value in away if value == pytest.approx(1 / 0.95 - 1)]
    legend = roofline.get_legend()
    assert legend is not None
    assert "sustained" in [text.get_text() for text in legend.get_texts()]


def test_ridge_points_of_what_lasts_have_a_column_of_their_own(fake_cpu: Characterisation) -> None:
    heading, *rows = roofline_scene.ridge_rows(lasting(fake_cpu))
    assert heading[-1] == "DRAM sustained"
    burst, sustained = (float(rows[0][heading.index(name)]) for name in ("DRAM", "DRAM sustained"))
    assert sustained == pytest.approx(2 * burst, rel=0.01)


def test_without_an_intensity_sweep_there_is_no_strip_of_residuals(fake_cpu: Characterisation) -> None:
    made = plots.figure("roofline", replace(fake_cpu, fits=replace(fake_cpu.fits, rooflines=())))
    assert made is not None
    assert len(made.axes) == 1
