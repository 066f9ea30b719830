from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from microbench.records import Characterisation
from microbench.report.roofline_text import Canvas, show_roofline


def printed(held: Characterisation, width: int, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    show_roofline(held, Console(file=stream, width=width, highlight=False, markup=False, emoji=False))
    return raw.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("name", ["fake_cpu", "fake_cuda"])
@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_roofline_fits_the_terminal_and_its_alphabet(
    name: str, width: int, encoding: str, request: pytest.FixtureRequest
) -> None:
    lines = printed(request.getfixturevalue(name), width, encoding)
    assert any(line.startswith("Roofline") for line in lines)
    assert max(map(len, lines)) <= width
    assert "?" not in "".join(lines)


def test_a_terminal_too_narrow_for_it_and_a_file_without_one_have_none(
    fake_cpu: Characterisation, bare: Characterisation
) -> None:
    assert printed(fake_cpu, 50) == printed(bare, 100) == []


def test_a_roof_twice_as_high_is_drawn_higher_and_labelled_on_its_row(fake_cpu: Characterisation) -> None:
    def row_of(held: Characterisation, dtype: str) -> int:
        return next(number for number, line in enumerate(printed(held, 100)) if f"  {dtype} " in line)

    assert row_of(fake_cpu, "i8") < row_of(fake_cpu, "f32") < row_of(fake_cpu, "f64")
    slower = tuple(
        replace(row, rate=replace(row.rate, value=row.rate.value / 8, low=row.rate.low / 8))
        if row.dtype == "i8" and row.measures == "compute"
        else row
        for row in fake_cpu.ceilings
    )
    assert row_of(replace(fake_cpu, ceilings=slower), "f32") < row_of(replace(fake_cpu, ceilings=slower), "i8")


def test_a_diagonal_has_a_dot_in_every_column_and_row_and_nothing_leaves_the_field() -> None:
    canvas = Canvas(30, (1.0, 1e3), (1.0, 1e3), ascii_only=True)
    canvas.line((1.0, 1.0), (1e3, 1e3), "")
    rows = [canvas.row(number).plain for number in range(15)]
    assert all("." in row for row in rows)
    assert {column for row in rows for column, letter in enumerate(row) if letter == "."} == set(range(30))
    assert rows[0].rstrip().endswith(".")
    assert rows[-1].startswith(".")
    canvas.line((1e-6, 1e-6), (1e9, 1e9), "")
    canvas.letter(1e9, 1.0, "X", "")
    assert all(len(canvas.row(number).plain) == 30 and "X" not in canvas.row(number).plain for number in range(15))
