from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from microbench.cli import output
from microbench.errors import UsageError

ROWS: list[output.Row] = [
    {
        "kernel": f"write.f32.v128_nt.{number}",
        "measures": "memory",
        "dtype": "f32",
        "source": "csrc/cpu/kernels/stream.cpp",
        "available": True,
    }
    for number in range(4)
]


def shown(rows: list[output.Row], capsys: pytest.CaptureFixture[str]) -> list[str]:
    output.show(rows, "title")
    return [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]


def test_a_row_that_fits_stays_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown([{"op": "add", "seconds": 1e-6, "empty": None}], capsys)[1].split() == ["op", "seconds"]


def test_a_few_rows_that_are_too_wide_are_columns_and_no_word_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    wide = {f"a_rather_long_name_{i}": i / 3 for i in range(12)}
    lines = shown([{"op": "add", **wide}, {"op": "mul", **wide}], capsys)
    assert lines[1].split() == ["op", "add", "mul"]
    assert lines[-1].split() == ["a_rather_long_name_11", "3.66667", "3.66667"]


def test_many_rows_stay_rows(capsys: pytest.CaptureFixture[str]) -> None:
    wide = [{f"a_rather_long_name_{i}": f"x{row}" for i in range(12)} for row in range(4)]
    assert shown([{"op": "add", **row} for row in wide], capsys)[-1].startswith("add")


def test_two_formats_on_stdout_are_refused() -> None:
    with pytest.raises(UsageError, match="both claim stdout"):
        output.emit([], "title", "-", "-")


def test_unknown_is_empty_in_csv() -> None:
    assert output.as_csv([{"a": 1, "b": None}, {"c": True}]) == "a,b,c\n1,,\n,,True\n"


def printed(rows: list[output.Row], width: int) -> str:
    out = Console(width=width, file=io.StringIO(), highlight=False)
    output.show(rows, "title", out)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_what_is_the_same_throughout_stands_below_a_table_that_has_no_room() -> None:
    narrow, wide = printed(ROWS, 60), printed(ROWS, 160)
    assert "in every row: measures memory, dtype f32, source csrc/cpu/kernels/stream.cpp, available yes" in " ".join(
        narrow.split()
    )
    assert "in every row" not in wide
    for row in ROWS:
        assert str(row["kernel"]) in narrow


def test_a_name_in_the_first_column_stays_whole() -> None:
    text = printed(
        [{**row, "dtype": f"f{number}", "note": "many words " * 9 + str(number)} for number, row in enumerate(ROWS)], 60
    )
    assert all(str(row["kernel"]) in text for row in ROWS)


def test_a_long_path_leaves_room_for_what_is_said_of_it() -> None:
    text = printed([{"file": "results/" + 7 * "long-name-", "device": "Some Processor 9000", "ceilings": 212}] * 4, 60)
    assert "Some Processor 9000" in text


def test_bytes_are_for_programs_and_sizes_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[output.Row] = [{"device": "cpu", "memory_bytes": 25769803776}]
    output.emit(rows, "devices")
    assert "24 GiB" in capsys.readouterr().out
    output.emit(rows, "devices", json_path="-")
    assert json.loads(capsys.readouterr().out) == rows
