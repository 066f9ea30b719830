"""The pictures of a report: roofline, working-set curve, latency ladder, compute bars; each as a figure, PNG or SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from microbench.errors import expect
from microbench.records import Characterisation, Cost, LevelSeen, units
from microbench.report import bars, roofline_scene, roofplot, style, view
from microbench.report.sweeps import Curve, chases, names, streams
from microbench.text import shown

PlotName = Literal["roofline", "working-set", "latency", "compute"]
MOST_CURVES = 3
# A stream leaves the lower left corner free, a chase the lower right.
_FREE_CORNER = {"stream": (0.012, "left"), "chase": (0.988, "right")}


def draw_roofline(ax: Axes, characterisation: Characterisation) -> None:
    """Draw the measured roofline into axes of the caller's; see `roofplot.draw`.

    Raises
    ------
    UsageError
        If these are no axes.
    """
    expect("what to draw on", ax, Axes, "axes of matplotlib, such as matplotlib.pyplot.subplots()[1]")
    with style.settings():
        roofplot.draw(ax, shown(characterisation))


def caption(name: PlotName, characterisation: Characterisation) -> tuple[str, str]:
    """Title and subtitle of a picture; on a page they stand beside it."""
    if name == "roofline":
        return roofline_scene.caption(characterisation)
    if name == "compute":
        return bars.caption(characterisation)
    return _WORKING_SET_OF_GPU if name == "working-set" and characterisation.device.kind == "cuda" else _CAPTIONS[name]


def figure(name: PlotName, characterisation: Characterisation, layout: style.Layout = style.ALONE) -> Figure | None:
    """Make one of the pictures; ``None`` where nothing for it was measured (the roofline says so in the picture)."""
    with style.settings(name):
        return _FIGURES[name](shown(characterisation), layout)


def png(name: PlotName, characterisation: Characterisation) -> bytes | None:
    """Render one of the pictures as PNG."""
    made = figure(name, characterisation)
    return style.png(made, name) if made else None


def svg(name: PlotName, characterisation: Characterisation, layout: style.Layout = style.ALONE) -> str | None:
    """Render one of the pictures as SVG."""
    made = figure(name, characterisation, layout)
    # Two layouts of one picture may stand in one page: their ids must differ.
    return style.svg(made, f"{name}{layout.width}") if made else None


def _roofline(characterisation: Characterisation, layout: style.Layout) -> Figure:
    strip = 1.25 if roofplot.has_residuals(characterisation) else 0.0
    height = (5.1 if layout.narrow else 5.8) + layout.top + strip
    made = style.figure(layout.width, height)
    left, right = (0.155, 0.985) if layout.narrow else (0.07, 0.77)
    across, bottom = right - left, 0.6 + strip
    ax = made.add_axes((left, bottom / height, across, (height - bottom - layout.top) / height))
    roofplot.draw(ax, characterisation, layout)
    if strip:
        roofplot.draw_residuals(made.add_axes((left, 0.5 / height, across, 0.95 / height)), ax, characterisation)
    return made


def _working_set(characterisation: Characterisation, layout: style.Layout) -> Figure | None:
    panels: list[tuple[Literal["stream", "chase"], list[Curve]]] = [
        ("stream", _distinct(streams(characterisation), by_threads=True)),
        ("chase", _distinct(chases(characterisation), by_threads=False)),
    ]
    shown = [(by, curves) for by, curves in panels if curves]
    if not shown:
        return None
    height = 0.6 + layout.top + 3.1 * len(shown)
    made = style.figure(layout.width, height)
    left, width = (
        (0.19, 0.765) if layout.narrow else (0.095, 0.76 if any(len(curves) > 1 for _, curves in shown) else 0.885)
    )
    axes = [
        made.add_axes((left, (0.6 + 3.1 * (len(shown) - 1 - row)) / height, width, 2.75 / height))
        for row in range(len(shown))
    ]
    sizes = [size for _, curves in shown for curve in curves for size, _ in curve.points]
    gpu = characterisation.device.kind == "cuda"
    for ax, (by, curves) in zip(axes, shown, strict=True):
        common, own = names(curves, gpu=gpu)
        _panel(ax, by, curves, common)
        _size_axis(ax, sizes, 4 if layout.narrow else 2)
        _shade(ax, characterisation, by, style.SMALL - 1.2 if layout.narrow else style.SMALL)
        _mark_advertised(ax, characterisation)
        labels = [
            (curve.points[-1][1], own[index], style.SERIES[index], False)
            for index, curve in enumerate(curves)
            if own[index]
        ]
        if layout.narrow:
            _name_in_corner(ax, by, labels)
        else:
            style.margin_labels(ax, labels)
    for ax in axes[:-1]:
        ax.tick_params(labelbottom=False)
    axes[-1].set_xlabel("Working set" if gpu else "Working set of each thread")
    if layout.headed:
        style.heading(axes[0], *caption("working-set", characterisation), raised=14)
    return made


def _distinct(curves: Sequence[Curve], *, by_threads: bool) -> list[Curve]:
    """At most three curves: the best of each thread count, or of each set of parameters."""
    chosen: dict[object, Curve] = {}
    for curve in curves:
        chosen.setdefault(curve.threads if by_threads else tuple(sorted(curve.params.items())), curve)
    return list(chosen.values())[:MOST_CURVES]


def _panel(ax: Axes, by: str, curves: Sequence[Curve], common: str) -> None:
    style.dress(ax)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=10)
    for index, curve in enumerate(curves):
        ax.plot(
            *zip(*curve.points, strict=True), "-o", color=style.SERIES[index], linewidth=1.6, markersize=3.4, zorder=4
        )
    values = [value for curve in curves for _, value in curve.points]
    ax.set_ylim(min(values) / 1.6, max(values) * 4)
    as_text: Callable[[float], str] = (
        (lambda value: units.rate(value, "byte/s", 2)) if by == "stream" else (lambda value: units.seconds(value, 2))
    )
    ax.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=9))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: as_text(value).replace(".0 ", " ")))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_ylabel("Read bandwidth" if by == "stream" else "Load-to-use latency")
    x, ha = _FREE_CORNER[by]
    ax.text(x, 0.03, common, transform=ax.transAxes, ha=ha, va="bottom", fontsize=style.SMALL, color=style.MUTED)


def _name_in_corner(ax: Axes, by: str, labels: Sequence[tuple[float, str, str, bool]]) -> None:
    """Write the names of the curves into the corner that they leave free, highest on top."""
    x, ha = _FREE_CORNER[by]
    for rank, (_, text, colour, _) in enumerate(sorted(labels), start=1):
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": ha, "va": "bottom"}
        ax.annotate(text, (x, 0.03), (0, 12.5 * rank), fontsize=style.SMALL, color=colour, **place)


def _size_axis(ax: Axes, sizes: Sequence[int], step: int) -> None:
    """Label sizes along the bottom, one every ``step`` powers of two."""
    ax.set_xlim(min(sizes) / 1.25, max(sizes) * 1.25)
    low, high = math.floor(math.log2(min(sizes))), math.ceil(math.log2(max(sizes)))
    ax.xaxis.set_major_locator(
        FixedLocator([2.0**power for power in range(low, high + 1, step if high - low > 4 else 1)])
    )
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: units.size(value)))
    ax.xaxis.set_minor_locator(NullLocator())


def _shade(ax: Axes, characterisation: Characterisation, by: str, fontsize: float) -> None:
    """Shade the memory levels found, each labelled with its name and what is seen there."""
    left, right = ax.get_xlim()
    found = sorted(
        (level for level in characterisation.fits.levels if level.seen_by == by), key=lambda level: level.low_bytes
    )
    for index, level in enumerate(found):
        low, high = max(left, level.low_bytes), min(right, level.high_bytes)
        if low < high:
            ax.axvspan(low, high, color=style.SHADES[index % 2], linewidth=0, zorder=0)
            # A plateau at the end of the sweep may be narrower than its label, which then hangs inwards.
            ha = "right" if high > right / 2 and high < 4 * low else "center"
            ax.text(
                right if ha == "right" else math.sqrt(low * high),
                0.97,
                _level_label(level),
                transform=ax.get_xaxis_transform(),
                ha=ha,
                va="top",
                fontsize=fontsize,
                color=style.INK,
                linespacing=1.35,
                bbox={"facecolor": style.SHADES[index % 2], "edgecolor": "none", "pad": 0.5},
            )


def _mark_advertised(ax: Axes, characterisation: Characterisation) -> None:
    """Draw dashed lines at the advertised capacities, labelled above the axes; labels that would overlap become one.

    Streams and chases do not pass through a GPU's shared memory, so its capacity says nothing about these curves.
    """
    left, right = ax.get_xlim()
    previous: Text | None = None
    for advertised in sorted(characterisation.device.levels, key=lambda level: level.capacity_bytes or 0):
        capacity = advertised.capacity_bytes or 0
        if left < capacity < right and advertised.name != "shared":
            ax.axvline(capacity, color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
            label = ax.annotate(
                f"{advertised.name} {units.size(capacity)}",
                (capacity, 1),
                (0, 3),
                xycoords=ax.get_xaxis_transform(),
                textcoords="offset points",
                fontsize=style.SMALL - 1,
                color=style.MUTED,
                ha="center",
                va="bottom",
            )
            if previous is not None and label.get_window_extent().overlaps(previous.get_window_extent()):
                previous.set_text(f"{previous.get_text()}, {label.get_text()}")
                label.remove()
            else:
                previous = label


def _level_label(level: LevelSeen) -> str:
    value = units.rate(level.value, "byte/s", 3) if level.seen_by == "stream" else units.seconds(level.value, 3)
    return f"{level.name}\n{value}"


def _latency(characterisation: Characterisation, layout: style.Layout) -> Figure | None:
    costs = [cost for cost in view.ladder(characterisation) if style.drawable(cost.seconds.value)]
    if not costs:
        return None
    height = 0.5 + layout.top + 0.3 * len(costs)
    made = style.figure(layout.width, height)
    ax = made.add_axes((0.18, 0.5 / height, 0.62 if layout.narrow else 0.72, 0.3 * len(costs) / height))
    style.dress(ax)
    left = 10.0 ** math.floor(math.log10(min(cost.seconds.value for cost in costs)) - 0.1)
    longest = max(min(cost.seconds.high, 1e3 * cost.seconds.value) for cost in costs)
    for row, cost in enumerate(costs):
        _lollipop(ax, row, cost, left)
    ax.set_xscale("log", base=10)
    ax.set_xlim(left, 10.0 ** math.ceil(math.log10(longest) + 0.1))
    ax.set_ylim(len(costs) - 0.4, -0.6)
    style.name_rows(ax, [view.cost_title(cost) for cost in costs], style.NORMAL)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: units.seconds(value, 1)))
    ax.xaxis.set_minor_locator(NullLocator())
    if layout.headed:
        style.heading(ax, *_CAPTIONS["latency"])
    return made


def _lollipop(ax: Axes, row: int, cost: Cost, left: float) -> None:
    """Draw a cost as a point at the end of a line from the left, with its interval as a thicker line."""
    colour, seconds = style.BLUE if cost.level else style.OCHRE, cost.seconds
    ax.plot([left, seconds.value], [row, row], color=colour, linewidth=1.6, alpha=0.45, zorder=2)
    interval: dict[str, Any] = {"linewidth": 4.5, "alpha": 0.45, "zorder": 3, "solid_capstyle": "round"}
    ax.plot([max(seconds.low, left), seconds.high], [row, row], color=colour, **interval)
    ax.plot(seconds.value, row, "o", color=colour, markersize=6, zorder=4)
    ax.annotate(
        units.seconds(seconds.value),
        (1, row),
        (8, 0),
        xycoords=ax.get_yaxis_transform(),
        textcoords="offset points",
        va="center",
        fontsize=style.NORMAL,
        color=style.INK,
    )


_CAPTIONS: dict[PlotName, tuple[str, str]] = {
    "working-set": (
        "What a stream and a chase see of each memory level",
        "Shaded: the levels found, with what one thread sees there. Dashed: the capacities advertised.",
    ),
    "latency": (
        "What waiting costs",
        (
            "Load-to-use latency of each level found (blue) and other fixed costs (ochre), with their intervals; "
            "logarithmic"
        ),
    ),
}
_WORKING_SET_OF_GPU = (
    _CAPTIONS["working-set"][0],
    (
        "Shaded: the levels found, with what all SMs read there and what one warp waits. Dashed: the capacities "
        "advertised."
    ),
)
_FIGURES: dict[PlotName, Callable[[Characterisation, style.Layout], Figure | None]] = {
    "roofline": _roofline,
    "working-set": _working_set,
    "latency": _latency,
    "compute": bars.draw,
}
