"""The roofline in characters, for a terminal: lines of dots four high and two wide in a character (Braille patterns).

Where the terminal has ASCII only, a character is one dot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from microbench.records import Characterisation, units
from microbench.report import style, view
from microbench.report.roofline_scene import Roof, Scene, missing, residuals, scene

_HEIGHT, _LEAST_WIDTH, _MOST_WIDTH = 15, 40, 100
# The bit of each dot of a Braille pattern, by row and column.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BRAILLE = 0x2800
_TICK = 8
_LEAST_DECADES = 2.0
# What stands in the place of a colour of the page.
_COLOURS = {
    style.BLUE: "blue",
    style.PURPLE: "magenta",
    style.GREEN: "green",
    style.VERMILLION: "red",
    style.SKY: "cyan",
    style.OCHRE: "yellow",
}


class Canvas:
    """A field of characters with logarithmic axes; lines are drawn in dots, letters over them."""

    def __init__(self, across: int, x: tuple[float, float], y: tuple[float, float], *, ascii_only: bool) -> None:
        self.across, self.x, self.y = across, x, y
        self._fine = (1, 1) if ascii_only else (2, 4)
        self._dots: dict[tuple[int, int], int] = {}
        self._styles: dict[tuple[int, int], str] = {}
        self._letters: dict[tuple[int, int], tuple[str, str]] = {}

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Column and row of a point, as fractions from the upper left corner."""
        across = math.log(x / self.x[0]) / math.log(self.x[1] / self.x[0]) * (self.across - 1)
        down = math.log(self.y[1] / y) / math.log(self.y[1] / self.y[0]) * (_HEIGHT - 1)
        return across, down

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: str, every: int = 1) -> None:
        """A line from a point to another; ``every`` so many dots one is drawn."""
        (x0, y0), (x1, y1) = self.place(*start), self.place(*end)
        steps = max(2, round(max(abs(x1 - x0) * self._fine[0], abs(y1 - y0) * self._fine[1])))
        for step in range(0, steps + 1, every):
            share = step / steps
            self._dot(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share, colour)

    def letter(self, x: float, y: float, letter: str, colour: str) -> None:
        """One character at a point."""
        column, row = (round(value) for value in self.place(x, y))
        if 0 <= column < self.across and 0 <= row < _HEIGHT:
            self._letters[column, row] = (letter, colour)

    def row(self, number: int) -> Text:
        """One row of characters."""
        made = Text()
        for column in range(self.across):
            at = (column, number)
            if at in self._letters:
                made.append(*self._letters[at])
            elif at in self._dots:
                drawn = "." if self._fine == (1, 1) else chr(_BRAILLE + self._dots[at])
                made.append(drawn, self._styles[at])
            else:
                made.append(" ")
        return made

    def _dot(self, across: float, down: float, colour: str) -> None:
        wide, high = self._fine
        column, row = round((across + 0.5) * wide - 0.5), round((down + 0.5) * high - 0.5)
        at = (column // wide, row // high)
        if 0 <= at[0] < self.across and 0 <= at[1] < _HEIGHT:
            self._dots[at] = self._dots.get(at, 0) | _DOTS[row % high][column % wide]
            self._styles[at] = colour


def show_roofline(characterisation: Characterisation, out: Console) -> None:
    """Print the roofline: slopes of the levels, roofs of the formats, and the measured points of the sweep."""
    if missing(characterisation):
        return
    chosen = scene(characterisation)
    roofs, space = chosen.thick or chosen.roofs, min(out.width, _MOST_WIDTH) - _TICK - 2
    for labels in (_labels(roofs), _labels(roofs, short=True)):
        across = space - max(len(text) for _, text, _ in labels)
        if across >= _LEAST_WIDTH:
            break
    else:
        return
    canvas = _drawn(chosen, across, _mark(out), ascii_only=out.options.ascii_only)
    out.print()
    says = [f"FLOP/s over FLOP/byte, {view.threads_text(characterisation, view.headline_threads(characterisation))}"]
    says += [f"{_mark(out)} points of the sweep"] * bool(residuals(chosen.fits))
    says += ["thin dots sustained"] * bool(chosen.sustained)
    out.print(Text("Roofline", style="bold").append(f"  {'; '.join(says)}", style="dim"))
    ticks = {round(canvas.place(canvas.x[0], at)[1]): units.prefixed(at, "", 1).strip() for at in _decades(canvas.y)}
    beside = _beside(canvas, labels)
    for row in range(_HEIGHT):
        line = Text(f"{ticks.get(row, ''):>{_TICK - 2}} ", style="dim").append("|" if out.options.ascii_only else "│")
        line.append_text(canvas.row(row))
        if row in beside:
            line.append(f"  {beside[row][0]}", beside[row][1])
        line.rstrip()
        out.print(line, no_wrap=True, overflow="crop")
    out.print(Text(_below(canvas), style="dim"), no_wrap=True, overflow="crop")


def _mark(out: Console) -> str:
    return "o" if out.options.ascii_only else "●"


def _drawn(chosen: Scene, across: int, mark: str, *, ascii_only: bool) -> Canvas:
    points = residuals(chosen.fits)
    bandwidths = [value for value, _ in _slopes(chosen)]
    roofs = chosen.thick or chosen.roofs
    rates = [roof.rate for roof in roofs]
    left = min([min(rates) / max(bandwidths) / 3, *(point.intensity / 2 for _, point, _ in points)])
    right = max([max(rates) / min(bandwidths) * 3, *(point.intensity * 1.3 for _, point, _ in points)])
    x, y = _wide(left, right), _wide(min(bandwidths) * left, max(rates) * 1.3)
    canvas = Canvas(across, x, y, ascii_only=ascii_only)
    left, right = x
    top, steepest = max(rates), max(bandwidths)
    for bandwidth, lasts in _slopes(chosen):
        canvas.line((left, bandwidth * left), (top / bandwidth, top), "dim", every=3 if lasts else 1)
    for roof in roofs:
        canvas.line((max(left, roof.rate / steepest), roof.rate), (right, roof.rate), _COLOURS.get(roof.colour, ""))
    for level, (_, bandwidth) in chosen.bandwidth.items():
        for place, letter in enumerate(level):  # written along the slope, where it begins
            at = left * (right / left) ** ((place + 1) / across)
            canvas.letter(at, bandwidth * left * (right / left) ** (1 / across), letter, "bold")
    for fit, point, _ in points:
        canvas.letter(point.intensity, point.rate, mark, _COLOURS.get(style.DTYPE_COLOURS.get(fit.dtype, ""), ""))
    return canvas


def _wide(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis, at least so many decades apart: a roof that meets its slope at once leaves none."""
    short = max(0.0, _LEAST_DECADES - math.log10(high / low)) / 2
    return low / 10**short, high * 10**short


def _slopes(chosen: Scene) -> list[tuple[float, bool]]:
    return [(value, lasts) for _, value, lasts in chosen.slopes]


def _labels(roofs: Sequence[Roof], *, short: bool = False) -> list[tuple[float, str, str]]:
    """Rate, text and colour of each roof's label; a short one has no unit's name."""
    texts = (
        f"{roof.dtype} {roof.label.rpartition('  ')[2]}" if short else " ".join(roof.label.split()) for roof in roofs
    )
    return [(roof.rate, text, _COLOURS.get(roof.colour, "")) for roof, text in zip(roofs, texts, strict=True)]


def _beside(canvas: Canvas, labels: Sequence[tuple[float, str, str]]) -> dict[int, tuple[str, str]]:
    """The label of each row; where two would share one, the lower roof's moves down."""
    placed: dict[int, tuple[str, str]] = {}
    for rate, text, colour in sorted(labels, reverse=True):
        row = round(canvas.place(canvas.x[0], rate)[1])
        while row in placed:
            row += 1
        placed[row] = (text, colour)
    return placed


def _decades(ends: tuple[float, float]) -> list[float]:
    low, high = (math.log10(end) for end in ends)
    return [10.0**power for power in range(math.ceil(low), math.floor(high) + 1)]


def _below(canvas: Canvas) -> str:
    """The axis of intensities with its unit."""
    line = [" "] * (_TICK + canvas.across + 12)
    for at in _decades(canvas.x):
        text = f"{at:g}"
        start = _TICK + round(canvas.place(at, canvas.y[0])[0]) - len(text) // 2
        line[start : start + len(text)] = text
    return "".join(line).rstrip() + "  FLOP/byte"
