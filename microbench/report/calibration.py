"""The calibration plot: predicted over measured seconds, all operators together and the error of each family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from microbench.records import units
from microbench.report import style
from microbench.report.sweeps import plural
from microbench.storage.files import write_new

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# A prediction within this factor is drawn inside the band.
WITHIN = 1.25
# Errors beyond this factor stand at the edge, as triangles.
_FARTHEST = 4.0
_ROW_INCHES = 0.27
_LEAST_INCHES = 4.2


def draw_calibration(measured: Any, predicted: Any, families: Sequence[str], path: Path) -> None:
    """Draw measured against predicted time, and beside it the error family by family, and write a PNG.

    Parameters
    ----------
    measured, predicted
        Seconds, one a row.
    families
        The family of each row; a family needs no colour of its own, since it has a line of its own.
    path
        Where to write; nothing there is overwritten.
    """
    with style.settings("calibration"):
        made = figure(np.asarray(measured), np.asarray(predicted), families)
    write_new(path, style.png(made, "calibration"))


def figure(measured: Any, predicted: Any, families: Sequence[str]) -> Any:
    """Make the picture."""
    names = list(dict.fromkeys(families))
    inches = max(_LEAST_INCHES, _ROW_INCHES * len(names))
    height = inches + 1.45
    made = style.figure(12.0, height)
    bottom, tall = 0.6 / height, inches / height
    all_operators = made.add_axes((0.065, bottom, 0.36, tall))
    by_family = made.add_axes((0.6, bottom, 0.25, tall))
    ratio = predicted / measured
    _scatter(all_operators, measured, predicted)
    _strips(by_family, ratio, (names, np.asarray(families, dtype=object)))
    error = np.median(np.abs(ratio - 1))
    inside = np.mean((ratio <= WITHIN) & (ratio >= 1 / WITHIN))
    says = (
        f"{plural(len(ratio), 'operator')}: median error {100 * error:.1f} %, {100 * inside:.0f} % within a factor of "
        f"{WITHIN:g} (shaded)"
    )
    style.heading(all_operators, "Predicted against measured time", says)
    return made


def _scatter(ax: Any, measured: Any, predicted: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    style.dress(ax)
    ax.set(xscale="log", yscale="log")
    both = np.concatenate([measured, predicted])
    ends = np.array([both.min() / 1.5, both.max() * 1.5])
    ax.fill_between(ends, ends / WITHIN, ends * WITHIN, color=style.SHADES[0], linewidth=0, zorder=0)
    ax.plot(ends, ends, color=style.FAINT, linewidth=1, zorder=1)
    ax.scatter(measured, predicted, s=9, color=style.BLUE, alpha=0.45, linewidths=0, zorder=3)
    ax.set(xlim=ends, ylim=ends, xlabel="measured", ylabel="predicted")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(base=10, numticks=9))
        axis.set_major_formatter(FuncFormatter(lambda value, _: units.seconds(value, 1)))
        axis.set_minor_locator(NullLocator())


def _strips(ax: Any, ratio: Any, families: tuple[Sequence[str], Any]) -> None:
    """One line a family: its errors as points, the median as a bar across; beside it rows and median error."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    names, labels = families
    style.dress(ax)
    ax.set_xscale("log")
    ax.set_xlim(1 / _FARTHEST / 1.08, _FARTHEST * 1.08)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.axvspan(1 / WITHIN, WITHIN, color=style.SHADES[0], linewidth=0, zorder=0)
    ax.axvline(1, color=style.FAINT, linewidth=1, zorder=1)
    scatter = np.random.default_rng(0).uniform(-0.24, 0.24, len(ratio))
    for row, name in enumerate(names):
        chosen = labels == name
        _strip(ax, row, ratio[chosen], scatter[chosen])
    ax.set_yticks(range(len(names)), list(names))
    ax.tick_params(axis="y", labelcolor=style.INK, length=0)
    ax.grid(visible=False, axis="y")
    ax.xaxis.set_major_locator(FixedLocator([0.25, 0.5, 1 / WITHIN, 1, WITHIN, 2, 4]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("predicted / measured")
    ax.annotate(
        "median error, rows",
        (1, 1),
        (8, 4),
        xycoords="axes fraction",
        textcoords="offset points",
        **_small(style.MUTED),
    )


def _strip(ax: Any, row: int, ratio: Any, scatter: Any) -> None:
    for marker, shown in (
        ("<", ratio < 1 / _FARTHEST),
        ("o", np.abs(np.log(ratio)) <= np.log(_FARTHEST)),
        (">", ratio > _FARTHEST),
    ):
        size = 9 if marker == "o" else 26
        at = np.clip(ratio[shown], 1 / _FARTHEST, _FARTHEST)
        ax.scatter(
            at, row + scatter[shown], s=size, marker=marker, color=style.BLUE, alpha=0.45, linewidths=0, zorder=3
        )
    middle = np.clip(np.median(ratio), 1 / _FARTHEST, _FARTHEST)
    ax.plot([middle, middle], [row - 0.34, row + 0.34], color=style.VERMILLION, linewidth=2, zorder=4)
    text = f"{100 * np.median(np.abs(ratio - 1)):.1f} %, {len(ratio)}"
    place: dict[str, Any] = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points", "va": "center"}
    ax.annotate(text, (1, row), (8, 0), **place, **_small(style.INK))


def _small(colour: str) -> dict[str, Any]:
    return {"fontsize": style.SMALL, "color": colour, "annotation_clip": False}
