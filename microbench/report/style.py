"""How pictures look: one palette, one set of sizes, and matplotlib's global settings restored after each call.

The colours are those that people with any colour vision tell apart (Okabe and Ito), darkened until text in them can be
read on white.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PAPER = "#ffffff"
INK = "#1c2733"
MUTED = "#5b6875"
FAINT = "#a9b3bd"
GRID = "#e6eaee"
SHADES = ("#eef4fa", "#f8f3e8")

BLUE = "#0067a5"
VERMILLION = "#bd4a00"
GREEN = "#007a5a"
PURPLE = "#8e4585"
OCHRE = "#946300"
SKY = "#007992"
RED = "#a3263a"
OLIVE = "#5f6b00"

DTYPE_COLOURS = {
    "f64": PURPLE,
    "f32": BLUE,
    "tf32": SKY,
    "f16": GREEN,
    "bf16": VERMILLION,
    "f8e4m3": RED,
    "f8e5m2": RED,
    "f4e2m1": OLIVE,
    "i8": OCHRE,
    "i32": MUTED,
    "i64": MUTED,
}
SERIES = (BLUE, VERMILLION, GREEN, PURPLE)
# Names of the colours in a page, so that its style sheet can replace them in the dark.
VARIABLES = {
    PAPER: "paper",
    INK: "ink",
    MUTED: "muted",
    FAINT: "faint",
    GRID: "grid",
    SHADES[0]: "shade-a",
    SHADES[1]: "shade-b",
    BLUE: "blue",
    VERMILLION: "vermillion",
    GREEN: "green",
    PURPLE: "purple",
    OCHRE: "ochre",
    SKY: "sky",
    RED: "red",
    OLIVE: "olive",
}

SMALL, NORMAL, TITLE = 8.5, 9.5, 13.0
PNG_DPI = 160

_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": NORMAL,
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.usetex": False,
    "axes.unicode_minus": False,
    "path.simplify": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The layout of a picture: inches across, with a heading or not, labels inside the axes (narrow) or beside them."""

    width: float = 11.0
    headed: bool = True
    narrow: bool = False

    @property
    def top(self) -> float:
        """Inches above the axes."""
        return 0.8 if self.headed else 0.12


ALONE = Layout()
IN_PAGE = Layout(headed=False)
IN_NARROW_PAGE = Layout(width=4.8, headed=False, narrow=True)


@contextmanager
def settings(salt: str = "microbench") -> Iterator[None]:
    """Hold the project's matplotlib settings; the caller's come back afterwards.

    A letter that the font lacks becomes a box without a warning: names of devices may hold any letter.
    """
    chosen: Any = {**_SETTINGS, "svg.hashsalt": salt}
    with mpl.rc_context(chosen), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def figure(width: float, height: float) -> Figure:
    """Make an empty figure of so many inches on the light background."""
    made = Figure(figsize=(width, height), facecolor=PAPER)
    FigureCanvasAgg(made)
    return made


def dress(ax: Axes) -> None:
    """Style the axes: no box, a pale grid behind the data."""
    ax.set_autoscale_on(False)
    ax.set_facecolor(PAPER)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(FAINT)
    ax.tick_params(which="both", colors=MUTED, labelsize=SMALL, length=3, width=0.8)
    ax.grid(visible=True, which="major", color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_color(MUTED)
        label.set_fontsize(NORMAL)


def drawable(value: float) -> bool:
    """Whether a logarithmic axis can show a number; a file can hold any."""
    return 1e-24 < value < 1e30


def heading(ax: Axes, title: str, subtitle: str, raised: float = 0.0) -> None:
    """Write a title and a smaller line below it, above the axes at their left edge, ``raised`` points higher."""
    lines = ((title, 26, TITLE, "bold", INK), (subtitle, 10, SMALL, "normal", MUTED))
    for text, up, size, weight, colour in lines:
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
        ax.annotate(text, (0, 1), (0, up + raised), fontsize=size, fontweight=weight, color=colour, **place)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Move positions apart until neighbours are at least ``gap`` away, as little as possible.

    Groups that touch are pooled and centred on the mean of what their members wanted.

    Examples
    --------
    >>> spread([0.0, 1.0, 50.0], 10.0)
    [-4.5, 5.5, 50.0]
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    pools: list[tuple[float, list[int]]] = []
    for index in order:
        members, centre = [index], wanted[index]
        while pools and pools[-1][0] + gap * (len(pools[-1][1]) + len(members)) / 2 > centre:
            members = pools.pop()[1] + members
            centre = sum(wanted[member] for member in members) / len(members)
        pools.append((centre, members))
    placed = [0.0] * len(wanted)
    for centre, members in pools:
        for rank, member in enumerate(members):
            placed[member] = centre + gap * (rank - (len(members) - 1) / 2)
    return placed


def raised(wanted: Sequence[float], gap: float) -> list[float]:
    """Move positions up until neighbours are at least ``gap`` away, as little as possible.

    Examples
    --------
    >>> raised([0.0, 50.0, 1.0], 10.0)
    [0.0, 50.0, 10.0]
    """
    placed = [0.0] * len(wanted)
    lowest = float("-inf")
    for index in sorted(range(len(wanted)), key=lambda index: wanted[index]):
        placed[index] = max(wanted[index], lowest)
        lowest = placed[index] + gap
    return placed


def margin_labels(ax: Axes, labels: Sequence[tuple[float, str, str, bool]], gap_points: float = 12.5) -> None:
    """Write labels (value, text, colour, bold) right of the axes at the height of their value.

    Where they would overlap they are spread apart; each has a leader line to its height.
    """
    if not labels:
        return
    figure_dpi = ax.figure.dpi
    to_pixels = ax.transData.transform
    wanted = [float(to_pixels((ax.get_xlim()[1], value))[1]) for value, *_ in labels]
    placed = spread(wanted, gap_points * figure_dpi / 72)
    for (value, text, colour, bold), want, place in zip(labels, wanted, placed, strict=True):
        ax.annotate(
            text,
            xy=(1, value),
            xycoords=ax.get_yaxis_transform(),
            xytext=(16, (place - want) * 72 / figure_dpi),
            textcoords="offset points",
            fontsize=SMALL,
            fontweight="bold" if bold else "normal",
            color=colour,
            va="center",
            ha="left",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "alpha": 0.6,
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def inside_labels(ax: Axes, labels: Sequence[tuple[float, str, str, bool]], gap_points: float = 12.5) -> None:
    """Write labels (value, text, colour, bold) inside the axes at their right edge, just above their value.

    Where they would overlap they stand one above another.
    """
    if not labels:
        return
    points = 72 / ax.figure.dpi
    wanted = [float(ax.transData.transform((ax.get_xlim()[1], value))[1]) * points for value, *_ in labels]
    for (value, text, colour, bold), want, place in zip(labels, wanted, raised(wanted, gap_points), strict=True):
        ax.annotate(
            text,
            xy=(1, value),
            xycoords=ax.get_yaxis_transform(),
            xytext=(-2, place - want + 3),
            textcoords="offset points",
            fontsize=SMALL,
            fontweight="bold" if bold else "normal",
            color=colour,
            va="bottom",
            ha="right",
            zorder=9,
            bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
        )


def name_rows(ax: Axes, names: Sequence[str], size: float) -> None:
    """Name the rows of a bar chart, and move the left edge of the axes to where the longest name still fits."""
    ax.set_yticks(range(len(names)), list(names))
    ax.tick_params(axis="y", labelsize=size, labelcolor=INK, length=0)
    ax.grid(visible=False, axis="y")
    made = ax.get_figure(root=True)
    if made is None:
        return
    box = ax.get_position()
    widest = max(label.get_window_extent().width for label in ax.get_yticklabels()) / made.bbox.width
    # A browser's font may run wider than the one measured here: 4 % and the pad of the ticks.
    left = min(max(1.04 * widest + 0.14 / made.get_figwidth(), 0.05), box.x1 - 0.2)
    ax.set_position((left, box.y0, box.x1 - left, box.height))


def png(made: Figure, salt: str) -> bytes:
    """Render a figure as PNG."""
    stream = io.BytesIO()
    with settings(salt):
        made.savefig(stream, format="png", dpi=PNG_DPI, facecolor=PAPER, metadata={"Software": "microbench"})
    return stream.getvalue()


def svg(made: Figure, salt: str) -> str:
    """Render a figure as SVG with its text kept as text; without date, so that equal data give equal files."""
    stream = io.StringIO()
    with settings(salt):
        made.savefig(stream, format="svg", facecolor=PAPER, metadata={"Date": None, "Creator": "microbench"})
    return stream.getvalue()


def inline(drawing: str, label: str) -> str:
    """Make an SVG fit for a page.

    Without prologue, metadata and repeated ids; with the page's font, its colours by variable, and a label for screen
    readers.
    """
    body = drawing[drawing.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", body)
    body = re.sub(
        r'\sid="(?:figure|axes|patch|text|line2d|matplotlib\.axis|xtick|ytick|PathCollection|LineCollection|FillBetweenPolyCollection|legend)_?\d*"',
        "",
        body,
    )
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", body)
    body = re.sub(r'<svg ([^>]*?)width="[\d.]+pt" height="[\d.]+pt"', r"<svg \1", body, count=1)
    for colour, name in VARIABLES.items():
        body = re.sub(rf"{colour}\b", f"var(--{name})", body, flags=re.IGNORECASE)
    escaped = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return re.sub(r"\n\s*", "\n", body.replace("<svg ", f'<svg role="img" aria-label="{escaped}" ', 1))
