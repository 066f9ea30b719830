"""The roofline: ceilings as roofs, labelled at the lines with numbers and units, ridge points, and the measured intensity sweep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from microbench.records import Ceiling, Characterisation, RooflineFit, units
from microbench.report import side, style, summary, view
from microbench.report.sweeps import plural

# More thin roofs than this hide the thick ones.
MOST_THIN = 4
# Slower than the main roof by more than this, a unit was disturbed and would stretch the axes.
_FARTHEST_THIN = 64.0
# Roofs of one kind of unit that lie closer than this are drawn on top of each other and share a label.
_COINCIDE = 0.02
# Longer labels than this many letters leave the margin.
_LONGEST = 31
# Points between two slopes that a label along one of them needs.
_LABEL_GAP = 14.0
# Points between the axis and a label along a slope.
_LABEL_LEAD = 12.0
_LEAST_DECADES = 3.5
_MARKERS = {"L1": "o", "shared": "o", "L2": "^", "L3": "s", "DRAM": "D", "host": "v", "peer": "v"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """One horizontal roof."""

    label: str
    rate: float
    colour: str
    thick: bool
    dtype: str
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything the drawing needs, chosen once: roofs, bandwidths by level (byte/s), the fits whose points are shown, the limits."""

    roofs: tuple[Roof, ...]
    bandwidth: dict[str, tuple[str, float]]
    fits: tuple[RooflineFit, ...]

    @property
    def thick(self) -> tuple[Roof, ...]:
        """The headline roofs, one a dtype."""
        return tuple(roof for roof in self.roofs if roof.thick)

    @property
    def main(self) -> Roof | None:
        """The roof whose ridge points are labelled at every level: f32, else the highest."""
        return next(
            (roof for roof in self.thick if roof.dtype == "f32"),
            max(self.thick, key=lambda roof: roof.rate, default=None),
        )


def scene(characterisation: Characterisation) -> Scene:
    """Choose what is drawn: the headline thread count, one thick roof a dtype, a few thin ones, the best read of each level."""
    compute, memory = (
        tuple(ceiling for ceiling in view.headline(characterisation, measures) if style.drawable(ceiling.rate.value))
        for measures in ("compute", "memory")
    )
    best = view.best_by_dtype(compute)
    levels = view.best_by_level(memory)
    fits = characterisation.fits.rooflines
    most = max((fit.threads for fit in fits), default=0)
    return Scene(
        roofs=(*_thick(best), *_thin(best, compute)),
        bandwidth={
            level: (f"{level} {ceiling.access} {units.rate(ceiling.rate.value, 'byte/s', 3)}", ceiling.rate.value)
            for level, ceiling in levels.items()
        },
        fits=tuple(fit for fit in fits if fit.threads == most),
    )


def caption(characterisation: Characterisation) -> tuple[str, str]:
    """Title and subtitle of the picture."""
    started = (
        summary.moment(characterisation.environment.started)
        if characterisation.environment
        else "fitted, not measured here"
    )
    where = view.threads_text(characterisation, view.headline_threads(characterisation))
    dots = (
        ""
        if missing(characterisation)
        else " · dots: ridge points in FLOP/byte, memory-bound left of them, compute-bound right"
    )
    return (summary.title(characterisation), f"Measured ceilings, {where} · {started}{dots}")


def missing(characterisation: Characterisation) -> str:
    """Why there is no roofline to draw; empty where there is one."""
    chosen = scene(characterisation)
    what = "compute" if not chosen.roofs else "memory" if not chosen.bandwidth else ""
    return f"No {what} ceiling was measured, so there is no roofline to draw." if what else ""


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
        ax.text(
            0.5,
            0.5,
            says.replace(", ", ",\n"),
            transform=ax.transAxes,
            ha="center",
            va="center",
            color=style.MUTED,
        )
        ax.set_xticks([])
        ax.set_yticks([])
        return
    if layout.narrow:
        # A file of library rates alone has thin roofs only.
        chosen = replace(chosen, roofs=chosen.thick or chosen.roofs)
    _frame(ax, chosen, layout)
    _slopes(ax, chosen)
    _roofs(ax, chosen, layout)
    _measured(ax, chosen, layout, gpu=characterisation.device.kind == "cuda")
    _ridges(ax, chosen, labelled=not layout.narrow)


def _thick(best: dict[str, Ceiling]) -> Iterable[Roof]:
    for name, ceiling in best.items():
        yield Roof(
            label=_roof_label(ceiling),
            rate=ceiling.rate.value,
            colour=style.DTYPE_COLOURS.get(name, style.INK),
            thick=True,
            dtype=name,
            unit=_shape(ceiling),
        )


def _thin(best: dict[str, Ceiling], compute: tuple[Ceiling, ...]) -> Iterable[Roof]:
    """Slower units of the main dtype, and the best library rates: context, not headline."""
    main = best.get("f32") or next(iter(best.values()), None)
    bounds = (main.rate.value / _FARTHEST_THIN, 0.97 * main.rate.value) if main else (0.0, 0.0)
    peaks = [ceiling for ceiling in compute if main and ceiling.dtype == main.dtype and ceiling.mode == "peak"]
    slower = [ceiling for ceiling in peaks if bounds[0] < ceiling.rate.value < bounds[1]]
    seen: set[tuple[str | None, ...]] = set()
    library = _libraries(compute, main)
    for ceiling in sorted(slower, key=lambda ceiling: -ceiling.rate.value)[: MOST_THIN - len(library)] + library:
        if (ceiling.dtype, ceiling.unit, ceiling.variant) not in seen:
            seen.add((ceiling.dtype, ceiling.unit, ceiling.variant))
            yield Roof(
                label=_roof_label(ceiling),
                rate=ceiling.rate.value,
                colour=style.MUTED,
                thick=False,
                dtype=str(ceiling.dtype),
            )


def _libraries(compute: Iterable[Ceiling], main: Ceiling | None) -> list[Ceiling]:
    """What a user can get: the library's rate of the main dtype, and its highest."""
    rates = sorted(
        (ceiling for ceiling in compute if ceiling.mode == "library"), key=lambda ceiling: -ceiling.rate.value
    )
    own = [ceiling for ceiling in rates if main and ceiling.dtype == main.dtype]
    return [*rates[:1], *(ceiling for ceiling in own[:1] if ceiling is not rates[0])]


def _shape(ceiling: Ceiling) -> str | None:
    if ceiling.mode == "library":
        return "library"
    if ceiling.backend in ("cuda", "triton"):
        return side.unit_words(ceiling.unit, "cuda")
    return ceiling.variant or ceiling.unit


def _roof_label(ceiling: Ceiling) -> str:
    words = [ceiling.dtype, _shape(ceiling)]
    return f"{' '.join(word for word in words if word)}  {view.rate_text(ceiling, ceiling.rate.value)}"


def _frame(ax: Axes, chosen: Scene, layout: style.Layout) -> None:
    bandwidths = [value for _, value in chosen.bandwidth.values()]
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
        axis.set_minor_formatter(NullFormatter())


def _slopes(ax: Axes, chosen: Scene) -> None:
    """Bandwidth roofs up to the highest compute roof, each labelled along its line, on the side where there is room."""
    top = max(roof.rate for roof in chosen.thick or chosen.roofs)
    left = ax.get_xlim()[0]
    origin, decade = ax.transData.transform((left, left)), ax.transData.transform((left * 10, left * 10))
    angle = math.degrees(math.atan2(decade[1] - origin[1], decade[0] - origin[0]))
    slopes = sorted(chosen.bandwidth.values(), key=lambda pair: -pair[1])
    per_decade = math.cos(math.radians(angle)) * (decade[1] - origin[1]) * 72 / ax.figure.dpi
    lead = _LABEL_LEAD * ax.figure.dpi / 72 / (decade[0] - origin[0])
    gaps = [
        math.inf,
        *(per_decade * math.log10(upper / lower) for (_, upper), (_, lower) in pairwise(slopes)),
        math.inf,
    ]
    for index, (label, value) in enumerate(slopes):
        ax.plot(
            [left, top / value], [value * left, top], color=style.INK, linewidth=1.3, zorder=2, solid_capstyle="round"
        )
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


def joined(roofs: Iterable[Roof]) -> list[Roof]:
    """The roofs to be labelled: thick ones of one unit that coincide become one, with all their dtypes and the lowest one's rate.

    Examples
    --------
    >>> fields = {"colour": "black", "thick": True, "unit": "matrix"}
    >>> f16 = Roof(label="f16 matrix  990 TFLOP/s", rate=990e12, dtype="f16", **fields)
    >>> bf16 = Roof(label="bf16 matrix  989 TFLOP/s", rate=989e12, dtype="bf16", **fields)
    >>> [roof.label for roof in joined([f16, bf16])]
    ['f16, bf16 matrix  989 TFLOP/s']
    """
    groups: list[list[Roof]] = []
    for roof in sorted(roofs, key=lambda roof: (not roof.thick, -roof.rate)):
        group = next((group for group in groups if _coincide(group[0], roof)), None)
        if group is None:
            groups.append([roof])
        else:
            group.append(roof)
    return [replace(group[-1], label=_joined_label(group)) for group in groups]


def _joined_label(group: Sequence[Roof]) -> str:
    *others, lowest = group
    label = ", ".join([roof.dtype for roof in others] + [lowest.label])
    return label if len(label) <= _LONGEST or not others else label.replace(f" {lowest.unit}", "", 1)


def _coincide(upper: Roof, lower: Roof) -> bool:
    same = upper.thick and lower.thick and upper.unit == lower.unit and _counted(upper) == _counted(lower)
    return same and lower.rate > upper.rate * (1 - _COINCIDE)


def _counted(roof: Roof) -> bool:
    """Whether a roof counts integer operations, which have another unit."""
    return roof.dtype.startswith("i")


def _measured(ax: Axes, chosen: Scene, layout: style.Layout, *, gpu: bool) -> None:
    levels: dict[str, None] = {}
    for fit in chosen.fits:
        colour = style.DTYPE_COLOURS.get(fit.dtype, style.INK)
        for point in fit.points:
            if style.drawable(point.intensity) and style.drawable(point.rate):
                levels[point.level] = None
                ax.plot(
                    point.intensity,
                    point.rate,
                    _MARKERS.get(point.level, "o"),
                    color=style.PAPER if fit.legacy else colour,
                    markersize=4.6,
                    markeredgecolor=colour if fit.legacy else style.PAPER,
                    markeredgewidth=1.1 if fit.legacy else 0.7,
                    zorder=6,
                )
    if not levels:
        return
    handles = [
        Line2D([], [], linestyle="", marker=_MARKERS.get(level, "o"), color=style.MUTED, markersize=5, label=level)
        for level in sorted(levels, key=view.NEAR_TO_FAR.index)
    ]
    legacy = sorted({fit.variant for fit in chosen.fits if fit.legacy})
    handles += [
        Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            color=style.PAPER,
            markeredgecolor=style.MUTED,
            markersize=5,
            label=f"by {name} (legacy)",
        )
        for name in legacy
    ]
    dtypes = ", ".join(dict.fromkeys(fit.dtype for fit in chosen.fits if fit.points))
    # A GPU's sweep is one of the whole device, as all that it shows.
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
    """Dots where roofs meet; the main dtype's at every level and every dtype's at the farthest, labelled where there is room."""
    main = chosen.main
    farthest = min(value for _, value in chosen.bandwidth.values())
    wanted = [(main, value) for _, value in chosen.bandwidth.values()] if main else []
    wanted += [(roof, farthest) for roof in chosen.thick if roof is not main]
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


def ridge_rows(characterisation: Characterisation) -> tuple[tuple[str, ...], ...]:
    """The ridge points as a table: a heading row, then for each dtype FLOP/byte at each level."""
    chosen = scene(characterisation)
    if not chosen.thick or not chosen.bandwidth:
        return ()
    rows = [
        (roof.dtype, *(units.digits(roof.rate / value, 3) for _, value in chosen.bandwidth.values()))
        for roof in chosen.thick
    ]
    return (("dtype", *chosen.bandwidth), *rows)
