"""The calibration plot: predicted over measured seconds, one colour per family."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from microbench.files import write_new

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def draw_calibration(measured: Any, predicted: Any, families: Sequence[str], path: Path) -> None:
    """Draw measured against predicted time, and the error over time below, and write a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    names = list(dict.fromkeys(families))
    labels = np.asarray(families, dtype=object)
    from matplotlib import colormaps

    colours = colormaps["tab20"].resampled(max(len(names), 2))
    for place, name in enumerate(names):
        chosen = labels == name
        style = {"s": 14, "color": colours(place), "alpha": 0.8, "linewidths": 0}
        upper.scatter(measured[chosen] * 1e6, predicted[chosen] * 1e6, label=name, **style)
        lower.scatter(measured[chosen] * 1e6, predicted[chosen] / measured[chosen], **style)
    ends = np.array([measured.min(), measured.max()]) * 1e6
    upper.plot(ends, ends, color="0.3", linewidth=1)
    upper.set(xscale="log", yscale="log", ylabel="predicted (µs)")
    lower.axhline(1, color="0.3", linewidth=1)
    for factor in (0.8, 1.25):
        lower.axhline(factor, color="0.6", linewidth=0.8, linestyle="--")
    lower.set(yscale="log", xlabel="measured (µs)", ylabel="predicted / measured")
    from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

    ratio = predicted / measured
    lower.set_ylim(min(0.3, 0.9 * float(ratio.min())), max(3.3, 1.1 * float(ratio.max())))
    lower.yaxis.set_major_locator(FixedLocator([0.5, 0.8, 1, 1.25, 2]))
    lower.yaxis.set_major_formatter(ScalarFormatter())
    lower.yaxis.set_minor_formatter(NullFormatter())
    upper.legend(fontsize=8, ncols=2, loc="upper left", frameon=False)
    for axes in (upper, lower):
        axes.grid(visible=True, alpha=0.25)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_new(path, buffer.getvalue())
