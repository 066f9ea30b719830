"""The drawing of the roofline: roofs and slopes labelled with numbers and units, ridge points, the intensity sweep."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from microbench.records import Characterisation, RooflineFit, units
from microbench.report import style, view
from microbench.report.roofline_scene import Scene, caption, curve, joined, missing, residuals, scene
from microbench.report.sweeps import plural

# Points between two slopes that a label along one of them needs.
_LABEL_GAP = 14.0
# Points between the axis and a label along a slope.
_LABEL_LEAD = 12.0
_LEAST_DECADES = 3.5
# Straight pieces that a fitted curve is drawn of.
_CURVE_STEPS = 64
# The strip of residuals reaches at least so far, and at most; a tenth is shaded.
_NEAREST, _FARTHEST, _TENTH, _FAR = 0.16, 1.0, 0.1, 0.4
_MARKERS = {"L1": "o", "shared": "o", "L2": "^", "L3": "s", "DRAM": "D", "host": "v", "peer": "v"}


def draw(ax: Axes, characterisation: Characterisation, layout: style.Layout = style.ALONE) -> None:
    """Draw the measured roofline of a characterisation.

    Labels of the compute roofs stand right of the axes unless the layout is narrow: leave about a quarter of the width
    free there.

    Parameters
    ----------
    ax
        The axes to draw into; both axes become logarithmic (FLOP/byte against FLOP/s).
    characterisation
        What was measured. Without compute or memory ceilings the axes say so.
    layout
        Whether to write the heading, and where the labels go.
    """
    chosen = scene(characterisation)
    if layout.headed:
        style.heading(ax, *caption(characterisation))
    ax.set_xlabel("Arithmetic intensity, FLOP/byte")
    ax.set_ylabel("Rate, FLOP/s or OP/s")
    style.dress(ax)
    if says := missing(characterisation):
        _say(ax, says)
        return
    if layout.narrow:
        # A file of library rates alone has thin roofs only.
        chosen = replace(chosen, roofs=chosen.thick or chosen.roofs)
    _frame(ax, chosen, layout)
    _slopes(ax, chosen)
    _roofs(ax, chosen, layout)
    _curves(ax, chosen)
    _sweep(ax, chosen, layout, gpu=characterisation.device.kind == "cuda")
    _ridges(ax, chosen, labelled=not layout.narrow)


def _say(ax: Axes, says: str) -> None:
    """Write a sentence in the place of a picture."""
    place: dict[str, Any] = {"transform": ax.transAxes, "ha": "center", "va": "center"}
    ax.text(0.5, 0.5, says.replace(", ", ",\n"), color=style.MUTED, **place)
    ax.set_xticks([])
    ax.set_yticks([])


def _frame(ax: Axes, chosen: Scene, layout: style.Layout) -> None:
    bandwidths = [value for _, value, _ in chosen.slopes]
    rates = [roof.rate for roof in chosen.roofs]
    points = [point for fit in chosen.fits for point in fit.points if style.drawable(point.intensity)]
    # The labels along the slopes end before the first point.
    room = 26.0 if layout.narrow else 8.0
    left = min([min(rates) / max(bandwidths) / 4, *(point.intensity / room for point in points if point.intensity > 0)])
    right = max([max(rates) / min(bandwidths) * 5, *(1.4 * point.intensity for point in points)])
    # One roof and one slope meet on a narrow strip: at least so many decades, or the axes have a single tick each.
    short = max(0.0, _LEAST_DECADES - math.log10(right / left)) / 2
    left, right = left / 10**short, right * 10**short
    ax.set_xscale("log", base=10)
    ax.set_yscale("log", base=10)
    ax.set_xlim(left, right)
    ax.set_ylim(min(*(value * left for value in bandwidths), *rates) * 0.6, max(rates) * 2.2)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: units.prefixed(value, "", 1).strip()))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(base=10, numticks=9))
        axis.set_minor_locator(NullLocator())


def _slopes(ax: Axes, chosen: Scene) -> None:
    """Draw the slopes of bandwidth up to the highest compute roof, each labelled along its line where there is room."""
    top = max(roof.rate for roof in chosen.thick or chosen.roofs)
    left = ax.get_xlim()[0]
    origin, decade = ax.transData.transform((left, left)), ax.transData.transform((left * 10, left * 10))
    angle = math.degrees(math.atan2(decade[1] - origin[1], decade[0] - origin[0]))
    slopes = chosen.slopes
    per_decade = math.cos(math.radians(angle)) * (decade[1] - origin[1]) * 72 / ax.figure.dpi
    lead = _LABEL_LEAD * ax.figure.dpi / 72 / (decade[0] - origin[0])
    gaps = [
        math.inf,
        *(per_decade * math.log10(upper / lower) for (_, upper, _), (_, lower, _) in pairwise(slopes)),
        math.inf,
    ]
    for index, (label, value, lasts) in enumerate(slopes):
        dashes: dict[str, Any] = {"linestyle": (0, (5, 2))} if lasts else {"solid_capstyle": "round"}
        ax.plot([left, top / value], [value * left, top], color=style.INK, linewidth=1.3, zorder=2, **dashes)
        above = gaps[index] >= _LABEL_GAP
        # Squeezed from both sides, a label moves along its line, past the ends of its neighbours' labels.
        squeezed = not above and gaps[index + 1] < _LABEL_GAP
        start = left * 10 ** (lead + 1.03 * squeezed * (index % 2 + 1) / 2)
        if start * value < top:
            _along(ax, label, (start, start * value), angle, above=above or squeezed)


def _along(ax: Axes, label: str, at: tuple[float, float], angle: float, *, above: bool) -> None:
    """Write a label along a slope, above or below the line."""
    away = 3.0 if above else -3.0
    turn = math.radians(angle)
    ax.annotate(
        label,
        at,
        (-away * math.sin(turn), away * math.cos(turn)),
        textcoords="offset points",
        rotation=angle,
        rotation_mode="anchor",
        fontsize=style.SMALL,
        color=style.INK,
        va="bottom" if above else "top",
        ha="left",
        zorder=3,
        bbox={"facecolor": style.PAPER, "edgecolor": "none", "alpha": 0.7, "pad": 0.2},
    )


def _roofs(ax: Axes, chosen: Scene, layout: style.Layout) -> None:
    fastest = max(value for _, value in chosen.bandwidth.values())
    right = ax.get_xlim()[1]
    for roof in chosen.roofs:
        ax.plot(
            [roof.rate / fastest, right],
            [roof.rate, roof.rate],
            color=roof.colour,
            linewidth=2.2 if roof.thick else 0.9,
            zorder=4 if roof.thick else 3,
        )
    place = style.inside_labels if layout.narrow else style.margin_labels
    place(ax, [(roof.rate, roof.label, roof.colour, roof.thick) for roof in joined(chosen.roofs)])


def _curves(ax: Axes, chosen: Scene) -> None:
    """Draw each fitted curve from before its first point to beyond its last, dashed where its points lasted."""
    left, right = ax.get_xlim()
    for fit in chosen.fits:
        for level in fit.bandwidth:
            at = [point.intensity for point in fit.points if point.level == level and style.drawable(point.intensity)]
            if not at or not style.drawable(fit.peak) or not style.drawable(fit.bandwidth[level]):
                continue
            low, high = max(left, min(at) / 1.3), min(right, 1.3 * max(at))
            steps = [low * (high / low) ** (step / _CURVE_STEPS) for step in range(_CURVE_STEPS + 1)]
            ax.plot(
                steps,
                [curve(fit, level, intensity) for intensity in steps],
                color=style.DTYPE_COLOURS.get(fit.dtype, style.INK),
                linewidth=1.0,
                linestyle=(0, (4, 2)) if fit.mode == "sustained" else "-",
                alpha=0.75,
                zorder=5,
            )


def _marker(fit: RooflineFit, level: str) -> dict[str, Any]:
    """How a point looks: its level's shape, hollow where it lasted or goes by the chip's legacy path."""
    colour = style.DTYPE_COLOURS.get(fit.dtype, style.INK)
    hollow = fit.legacy or fit.mode == "sustained"
    return {
        "linestyle": "",
        "marker": _MARKERS.get(level, "o"),
        "color": style.PAPER if hollow else colour,
        "markersize": 6.4,
        "markeredgecolor": colour if hollow else style.PAPER,
        "markeredgewidth": 1.3 if hollow else 0.7,
    }


def _sweep(ax: Axes, chosen: Scene, layout: style.Layout, *, gpu: bool) -> None:
    """Draw the points of the intensity sweep, and their legend."""
    levels: set[str] = set()
    for fit, point, _ in residuals(chosen.fits):
        levels.add(point.level)
        ax.plot(point.intensity, point.rate, zorder=6, **_marker(fit, point.level))
    if levels:
        _sweep_legend(ax, chosen, layout, sorted(levels, key=view.NEAR_TO_FAR.index), gpu=gpu)


def has_residuals(characterisation: Characterisation) -> bool:
    """Whether there are points of the intensity sweep to hold against their fit."""
    return not missing(characterisation) and bool(residuals(scene(characterisation).fits))


def draw_residuals(ax: Axes, above: Axes, characterisation: Characterisation) -> None:
    """Draw what each point lies above or below its fitted curve, under the roofline's axes and to their scale."""
    style.dress(ax)
    seen = residuals(scene(characterisation).fits)
    # What interference did to a single point must not flatten all others.
    reach = min(_FARTHEST, max(_NEAREST, 1.25 * max(abs(away) for _, _, away in seen)))
    ax.set_xscale("log", base=10)
    ax.set_xlim(above.get_xlim())
    ax.set_ylim(-reach, reach)
    ax.axhspan(-_TENTH, _TENTH, color=style.SHADES[0], linewidth=0, zorder=0)
    ax.axhline(0, color=style.FAINT, linewidth=1, zorder=1)
    for fit, point, away in seen:
        ax.plot(point.intensity, max(-reach, min(reach, away)), zorder=6, clip_on=False, **_marker(fit, point.level))
    ax.xaxis.set_major_locator(LogLocator(base=10, numticks=9))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ends = _TENTH if reach < _FAR else reach / 1.25
    ax.yaxis.set_major_locator(FixedLocator([-ends, 0, ends]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.0f} %" if value else "fit"))
    ax.set_xlabel(above.get_xlabel())
    above.set_xlabel("")
    above.tick_params(labelbottom=False)


def _sweep_legend(ax: Axes, chosen: Scene, layout: style.Layout, levels: list[str], *, gpu: bool) -> None:
    handles = [
        Line2D([], [], linestyle="", marker=_MARKERS.get(level, "o"), color=style.MUTED, markersize=5, label=level)
        for level in levels
    ]
    hollow: dict[str, Any] = {
        "linestyle": "",
        "marker": "o",
        "color": style.PAPER,
        "markeredgecolor": style.MUTED,
        "markersize": 5,
    }
    names = [f"by {name} (legacy)" for name in sorted({fit.variant for fit in chosen.fits if fit.legacy})]
    names += ["sustained"] * any(fit.mode == "sustained" and fit.points for fit in chosen.fits)
    handles += [Line2D([], [], label=name, **hollow) for name in names]
    dtypes = ", ".join(dict.fromkeys(fit.dtype for fit in chosen.fits if fit.points))
    # On a GPU the sweep, like every other row, is of the whole device.
    threads = "" if gpu else f", {plural(chosen.fits[0].threads, 'thread')}"
    made = ax.legend(
        handles=handles,
        title=f"intensity sweep{'' if layout.narrow else f', {dtypes}{threads}'}, data in",
        loc="lower right",
        frameon=True,
        fontsize=style.SMALL,
        ncols=len(handles),
        columnspacing=1,
        handletextpad=0.1,
    )
    made.get_title().set_fontsize(style.SMALL)
    made.get_frame().set(edgecolor=style.GRID, facecolor=style.PAPER, alpha=1)
    for text in (made.get_title(), *made.get_texts()):
        text.set_color(style.MUTED)


def _ridges(ax: Axes, chosen: Scene, *, labelled: bool) -> None:
    """Draw dots where roofs meet: the main dtype's at every level, and every dtype's at the level of least bandwidth.

    Each is labelled with its intensity unless labels would overlap.
    """
    main = chosen.main
    farthest = min(value for _, value in chosen.bandwidth.values())
    wanted = [(main, value) for _, value in chosen.bandwidth.values()] if main else []
    wanted += [(roof, farthest) for roof in chosen.thick if roof is not main]
    wanted += [(main, value) for _, value in chosen.sustained.values()] if main else []
    taken: list[Text] = []
    for roof, value in wanted:
        if roof is None:
            continue
        ridge = roof.rate / value
        ax.plot(
            ridge,
            roof.rate,
            "o",
            color=style.PAPER,
            markeredgecolor=roof.colour,
            markeredgewidth=1.6,
            markersize=6,
            zorder=7,
        )
        if not labelled:
            continue
        label = ax.annotate(
            units.digits(ridge, 3 if ridge < 1000 else 4),
            (ridge, roof.rate),
            (0, 6),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=style.SMALL,
            color=roof.colour,
            zorder=8,
            bbox={"facecolor": style.PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
        )
        box = label.get_window_extent()
        if any(box.overlaps(other.get_window_extent()) for other in taken):
            label.remove()
        else:
            taken.append(label)
