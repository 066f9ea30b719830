from __future__ import annotations

import io
from pathlib import Path

import pytest
from pytest_regressions.file_regression import FileRegressionFixture
from rich.console import Console

from microbench.records import Characterisation
from microbench.report import terminal


def printed(characterisation: Characterisation, width: int) -> str:
    stream = io.StringIO()
    terminal.show(characterisation, Console(file=stream, width=width, highlight=False, emoji=False, markup=False))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ["fake_cpu", "fake_cuda", "bare"])
def test_the_terminal_report_is_as_kept(
    name: str, width: int, request: pytest.FixtureRequest, file_regression: FileRegressionFixture
) -> None:
    file_regression.check(printed(request.getfixturevalue(name), width), encoding="utf-8")


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(
    fake_cpu: Characterisation, fake_cuda: Characterisation, width: int
) -> None:
    for characterisation in (fake_cpu, fake_cuda):
        assert max(len(line) for line in printed(characterisation, width).splitlines()) <= width


def test_numbers_are_never_cut_at_80_columns(fake_cpu: Characterisation) -> None:
    assert "…" not in printed(fake_cpu, 80)


def test_a_pipe_gets_no_colour_and_fixed_columns(fake_cpu: Characterisation, tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with path.open("w", encoding="utf-8") as stream:
        terminal.show(fake_cpu, terminal.console(stream))
    text = path.read_text(encoding="utf-8")
    assert "\x1b" not in text
    assert "302.6 GFLOP/s" in text


def test_a_terminal_gets_colour(fake_cpu: Characterisation) -> None:
    stream = io.StringIO()
    terminal.show(fake_cpu, Console(file=stream, width=100, force_terminal=True, color_system="standard"))
    assert "\x1b[" in stream.getvalue()
