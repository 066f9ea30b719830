from __future__ import annotations

import pytest

from microbench import tables
from microbench.errors import UsageError


def shown(rows: list[tables.Row], capsys: pytest.CaptureFixture[str]) -> list[str]:
    tables.show(rows, "title")
    return [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]


def test_a_row_that_fits_stays_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown([{"op": "add", "seconds": 1e-6, "empty": None}], capsys)[1].split() == ["op", "seconds"]


def test_a_few_rows_that_are_too_wide_are_columns_and_no_word_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    wide = {f"a_rather_long_name_{i}": i / 3 for i in range(12)}
    lines = shown([{"op": "add", **wide}, {"op": "mul", **wide}], capsys)
    assert lines[1].split() == ["op", "add", "mul"]
    assert lines[-1].split() == ["a_rather_long_name_11", "3.66667", "3.66667"]


def test_many_rows_stay_rows(capsys: pytest.CaptureFixture[str]) -> None:
    wide = {f"a_rather_long_name_{i}": "x" for i in range(12)}
    assert shown([{"op": "add", **wide}] * 4, capsys)[-1].startswith("add")


def test_two_formats_on_stdout_are_refused() -> None:
    with pytest.raises(UsageError, match="both claim stdout"):
        tables.emit([], "title", "-", "-")


def test_unknown_is_empty_in_csv() -> None:
    assert tables.as_csv([{"a": 1, "b": None}, {"c": True}]) == "a,b,c\n1,,\n,,True\n"
