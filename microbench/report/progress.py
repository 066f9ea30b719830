"""The live line of `run`: share done, time left, what is being measured, the best so far.

Nothing is drawn by a thread of its own: a second thread would disturb what is being measured. The screen changes only
in `update`, which the run loop calls between samples, and at most a few times a second.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from microbench.report.console import Output
from microbench.report.sweeps import plural
from microbench.text import visible

_REDRAW_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How far a run is: the case and its round, the share of the run that is done, seconds left, the best so far."""

    case: str
    round: int
    fraction: float
    remaining_s: float | None = None
    best: str = ""


class Progress(Protocol):
    """Where the run loop reports how far it is."""

    def start(self, cases: int, limit_s: float) -> None:
        """Measuring begins: so many cases (0: not counted yet), about so many seconds."""

    def update(self, step: Step) -> None:
        """Between two samples; called as often as the loop likes."""

    def done(self, says: str = "") -> None:
        """Measuring ended, was interrupted or failed; ``says`` is the line that stays. It may be called twice."""


class Quiet:
    """Progress for a pipe or a log: silent, with one line at the end."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file or sys.stderr
        self._done = False

    def start(self, cases: int, limit_s: float) -> None:
        """Say nothing."""

    def update(self, step: Step) -> None:
        """Say nothing."""

    def done(self, says: str = "") -> None:
        """Print the one line."""
        if says and not self._done:
            print(visible(says), file=self._file, flush=True)
        self._done = True


class Shown:
    """Progress for a terminal: a bar and a line below it, which vanish at the end.

    ``clock`` is the monotonic clock that the redraw interval is taken from; a test passes its own.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live: Live | None = None
        self._cases = 0
        self._drawn_at = -_REDRAW_S

    def start(self, cases: int, limit_s: float) -> None:
        """Draw an empty bar."""
        self._cases = cases
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        with self._terminal():
            self._live.start()
        what = f"{plural(cases, 'case')} to measure" if cases else "preparing"
        self._draw(Step(case=what, round=0, fraction=0.0, remaining_s=limit_s))

    def update(self, step: Step) -> None:
        """Redraw, unless the last time was a moment ago."""
        if self._live is not None and self._clock() - self._drawn_at >= _REDRAW_S:
            self._draw(step)

    def done(self, says: str = "") -> None:
        """Take the bar away and leave the one line."""
        if self._live is not None:
            with self._terminal():
                self._live.stop()
                if says:
                    self._console.print(Text(visible(says)))
            self._live = None

    def _draw(self, step: Step) -> None:
        if self._live is not None:
            with self._terminal():
                self._live.update(render(step), refresh=True)
            self._drawn_at = self._clock()

    @contextlib.contextmanager
    def _terminal(self) -> Iterator[None]:
        """Stop drawing once the terminal is gone (its window was closed): the run goes on without the bar."""
        try:
            yield
        except OSError:
            self._live = None


@contextlib.contextmanager
def shown_progress(display: Progress, limit_s: float) -> Iterator[Callable[[str, int, float, float], None]]:
    """Show the progress of a measurement by a callback: what is measured, the round, the share done, seconds left."""
    display.start(0, limit_s)

    def on_progress(what: str, index: int, fraction: float, remaining_s: float) -> None:
        display.update(Step(case=what, round=index, fraction=fraction, remaining_s=remaining_s))

    try:
        yield on_progress
    finally:
        display.done()


def render(step: Step) -> Group:
    """The two lines of a step."""
    share = min(max(step.fraction, 0.0), 1.0)
    top = Table.grid(padding=(0, 1), expand=True)
    top.add_column(justify="right", width=5)
    top.add_column(ratio=1)
    top.add_column(justify="right", width=11, no_wrap=True)
    top.add_row(f"{100 * share:.0f} %", ProgressBar(total=1.0, completed=share), time_left(step.remaining_s))
    words = [f"round {step.round}" if step.round else "", step.case, f"best so far {step.best}" if step.best else ""]
    said = visible(" · ".join(word for word in words if word))
    below = Text(f"      {said}", style="dim", no_wrap=True, overflow="ellipsis")
    return Group(top, below)


def time_left(seconds: float | None) -> str:
    """``1:05 left``; nothing while it is unknown.

    Examples
    --------
    >>> time_left(65.2), time_left(None)
    ('1:05 left', '')
    """
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d} left"


def progress(file: TextIO | None = None) -> Shown | Quiet:
    """The live display if ``file`` (default: standard error) is a terminal, otherwise the quiet one."""
    stream = file or sys.stderr
    return Shown(Output(file=stream, highlight=False, emoji=False)) if stream.isatty() else Quiet(stream)
