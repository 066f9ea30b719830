from __future__ import annotations

import errno
import io
import os

import pytest
from rich.console import Console

from microbench.report.progress import Progress, Quiet, Shown, Step, progress, render, shown_progress, time_left

STEP = Step(case="fma.f32.avx512[]@2", round=3, fraction=0.43, remaining_s=64, best="f32 302.6 GFLOP/s")


def drawn(step: Step, width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(render(step))
    return stream.getvalue()


def test_the_live_lines_say_share_time_case_and_best() -> None:
    text = drawn(STEP, 100)
    assert "43 %" in text
    assert "1:04 left" in text
    assert "round 3 · fma.f32.avx512[]@2 · best so far f32 302.6 GFLOP/s" in text


@pytest.mark.parametrize("width", [20, 40, 80])
def test_the_live_lines_stay_two_lines_at_any_width(width: int) -> None:
    lines = drawn(STEP, width).rstrip("\n").split("\n")
    assert len(lines) == 2
    assert max(len(line) for line in lines) <= width


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00 left"), (59.6, "1:00 left"), (3661, "61:01 left"), (-5, "0:00 left"), (None, "")]
)
def test_time_left_is_minutes_and_seconds(seconds: float | None, text: str) -> None:
    assert time_left(seconds) == text


def test_a_pipe_sees_one_line_at_the_end_only() -> None:
    stream = io.StringIO()
    shown: Progress = progress(stream)
    shown.start(10, 30.0)
    shown.update(STEP)
    assert stream.getvalue() == ""
    shown.done("10 cases in 28.1 s")
    shown.done("again")
    assert stream.getvalue() == "10 cases in 28.1 s\n"


def test_a_terminal_is_redrawn_at_most_five_times_a_second() -> None:
    stream, now = io.StringIO(), [0.0]
    shown = Shown(Console(file=stream, force_terminal=True, width=80), clock=lambda: now[0])
    shown.start(10, 30.0)
    before = stream.getvalue()
    shown.update(STEP)
    assert stream.getvalue() == before
    now[0] = 0.25
    shown.update(STEP)
    assert "43 %" in stream.getvalue().removeprefix(before)
    shown.done("done in 30 s")
    assert stream.getvalue().rstrip().endswith("done in 30 s")


def test_done_without_start_is_harmless() -> None:
    Shown(Console(file=io.StringIO())).done("nothing measured")
    Quiet(io.StringIO()).done()


def test_fractions_outside_the_range_are_drawn_at_its_ends() -> None:
    assert "100 %" in drawn(Step(case="", round=0, fraction=1.7), 80)


class ClosedTerminal(io.StringIO):
    """A terminal whose window is closed after so many writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.left = writes

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().write(text)


@pytest.mark.parametrize("writes", range(6))
def test_a_terminal_that_is_closed_costs_the_bar_and_not_the_run(writes: int) -> None:
    now = iter(range(1000))
    shown = Shown(Console(file=ClosedTerminal(writes), force_terminal=True), lambda: float(next(now)))
    shown.start(3, 10.0)
    for index in range(5):
        shown.update(Step(case="x", round=index, fraction=0.1))
    shown.done("over")
    shown.done("over")


def test_what_is_told_is_drawn_and_the_bar_is_taken_away_even_after_a_failure() -> None:
    stream = io.StringIO()
    moments = iter(range(10**6))
    shown = Shown(Console(file=stream, force_terminal=True, width=80), clock=lambda: float(next(moments)))

    def fails() -> None:
        with shown_progress(shown, 20.0) as on_progress:
            on_progress("add[size=64].f32", 2, 0.25, 15.0)
            raise RuntimeError("measuring failed")

    with pytest.raises(RuntimeError):
        fails()
    text = stream.getvalue()
    for word in ("25 %", "0:15 left", "round 2", "add[size=64].f32"):
        assert word in text
    assert text.index("\x1b[?25h") > text.index("25 %"), "the cursor came back"
