"""Compute ceilings as bars: what every unit and the library reach of nominal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from microbench.analysis.roofs import roofs
from microbench.records import Ceiling, Characterisation, units
from microbench.report import style, view

# Per cent of nominal at which a bar ends: what is far above nominal is a fault that the text beside the bar shows.
_FARTHEST = 300.0


def caption(characterisation: Characterisation) -> tuple[str, str]:
    """Title and subtitle of the picture."""
    where = view.threads_text(characterisation, view.headline_threads(characterisation))
    return (
        f"Compute ceilings beside nominal, {where}",
        (
            "Bar: best round over nominal at the clock seen; line: typical; pale: not converged; open: library over "
            "that of the fastest unit."
        ),
    )


def draw(characterisation: Characterisation, layout: style.Layout) -> Figure | None:
    """Draw one bar a compute ceiling of the headline thread count; ``None`` where no nominal is known."""
    headline = view.headline_threads(characterisation)
    rows = [
        row
        for group in view.groups(characterisation)
        for row in group.rows
        if row.ceiling.measures == "compute"
        and (characterisation.device.kind == "cuda" or row.ceiling.threads == headline)
    ]
    bounding = roofs([row.ceiling for row in rows], characterisation.sheets)
    nominals = [_nominal(row.ceiling, bounding) for row in rows]
    if not any(nominals):
        return None
    height = 0.5 + layout.top + 0.22 * len(rows)
    made = style.figure(layout.width, height)
    ax = made.add_axes((0.22, 0.5 / height, 0.63 if layout.narrow else 0.58, 0.22 * len(rows) / height))
    style.dress(ax)
    for index, (row, nominal) in enumerate(zip(rows, nominals, strict=True)):
        _bar(ax, (index, nominal), row, layout)
    ax.axvline(100, color=style.INK, linewidth=1.2, zorder=5)
    ax.set_xlim(0, max([110.0, *(1.08 * share for share in _shares(rows, nominals))]))
    ax.set_ylim(len(rows) - 0.4, -0.6)
    style.name_rows(ax, [row.title for row in rows], style.SMALL - layout.narrow)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    if layout.headed:
        style.heading(ax, *caption(characterisation))
    return made


def _nominal(ceiling: Ceiling, bounding: Iterable[Ceiling]) -> float | None:
    """The nominal rate that a bar is a share of; for a library that of the fastest unit with its dtype."""
    if ceiling.mode != "library":
        return ceiling.nominal
    others = [other.nominal for other in bounding if other.dtype == ceiling.dtype and other.mode == "peak"]
    return max((nominal for nominal in others if nominal), default=None)


def _shares(rows: Sequence[view.Row], nominals: Sequence[float | None]) -> Iterable[float]:
    for row, nominal in zip(rows, nominals, strict=True):
        if nominal:
            yield _per_cent(row.ceiling.rate.value, nominal)


def _per_cent(value: float, nominal: float) -> float:
    return min(100 * value / nominal, _FARTHEST)


def _bar(ax: Axes, place: tuple[int, float | None], row: view.Row, layout: style.Layout) -> None:
    index, nominal = place
    ceiling = row.ceiling
    text = row.rate if layout.narrow else f"{row.rate}, nominal unknown"
    if nominal:
        _filled(ax, index, ceiling, nominal)
        share = f"{100 * ceiling.rate.value / nominal:.1f} %"
        rate = units.like(ceiling.rate.value, nominal)
        text = share if layout.narrow else f"{rate} of {view.rate_text(ceiling, nominal)}"
    ax.annotate(
        text,
        (1, index),
        (8, 0),
        xycoords=ax.get_yaxis_transform(),
        textcoords="offset points",
        va="center",
        fontsize=style.SMALL - layout.narrow,
        color=style.INK,
    )


def _filled(ax: Axes, index: int, ceiling: Ceiling, nominal: float) -> None:
    colour = style.DTYPE_COLOURS.get(ceiling.dtype or "", style.INK)
    made_by_library = ceiling.mode == "library"
    ax.barh(
        index,
        _per_cent(ceiling.rate.value, nominal),
        height=0.62,
        color=style.PAPER if made_by_library else colour,
        edgecolor=colour,
        linewidth=1.0,
        alpha=1 if ceiling.converged else 0.45,
        zorder=3,
    )
    if ceiling.typical:
        at = _per_cent(ceiling.typical.value, nominal)
        ax.plot(
            [at, at],
            [index - 0.31, index + 0.31],
            color=colour if made_by_library else style.PAPER,
            linewidth=1.6,
            zorder=4,
        )
