"""Output of rows: a table for people, CSV or JSON for programs; the path ``-`` is stdout, in place of the table."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from microbench.errors import UsageError
from microbench.records import Finding, Row, units
from microbench.report.console import Output
from microbench.report.terminal import width_of
from microbench.storage.files import write_new
from microbench.text import cell as csv_cell
from microbench.text import one_line, visible

Cell = str | int | float | bool | None

_PIPE_WIDTH = 160
_FEW_ROWS = 3
_WIDEST_NAME = 0.4
_STYLES = {"error": "bold red", "warning": "yellow"}


def emit(
    rows: Sequence[Row],
    title: str,
    json_path: str | None = None,
    csv_path: str | None = None,
    *,
    shown: Sequence[Row] | None = None,
) -> None:
    """Print rows as a table, and write them where the user asked; ``shown`` are the table's rows if they differ.

    Raises
    ------
    UsageError
        If both formats claim stdout, or a file exists already.
    """
    check_stdout(json_path, csv_path)
    if json_path is not None:
        write_text(json_path, as_json(rows))
    if csv_path is not None:
        write_text(csv_path, as_csv(rows))
    if "-" not in (json_path, csv_path):
        show(rows if shown is None else shown, title)


def finding_line(finding: Finding) -> str:
    """A finding as a line for standard error."""
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    return f"{one_line(f'{finding.severity}: {finding.says}{remedy}')}\n"


def check_stdout(json_path: str | None, csv_path: str | None) -> None:
    """Refuse JSON and CSV that both go to stdout.

    Raises
    ------
    UsageError
        If both claim stdout.
    """
    if json_path == "-" and csv_path == "-":
        raise UsageError("--json - and --csv - both claim stdout; write one of them to a file")


def as_json(rows: Sequence[Row]) -> str:
    """Rows as a JSON array."""
    return json.dumps([dict(row) for row in rows], indent=1, allow_nan=False) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV with a header; unknown is empty, and no text is a formula to a spreadsheet."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({name: _csv_cell(value) for name, value in row.items()} for row in rows)
    return buffer.getvalue()


def _csv_cell(value: Cell) -> Cell:
    return "" if value is None else csv_cell(value) if isinstance(value, str) else value


def show(rows: Sequence[Row], title: str, to: Console | None = None) -> None:
    """Print rows as a table; columns that are empty throughout are left out.

    Where the table is wider than the terminal, a few rows are printed as columns; of many rows, columns with the same
    value in every row leave the table and are named below it.
    """
    if not rows:
        sys.stdout.write(f"{visible(title)}\n")
        return
    out = to or Output(width=width_of(sys.stdout, _PIPE_WIDTH), highlight=False, emoji=False)
    columns = [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if any(row.get(name) not in (None, "") for row in rows)
    ]
    wide = _natural_width(rows, columns) > out.width
    if wide and len(rows) <= _FEW_ROWS:
        out.print(_transposed(rows, columns, title))
        return
    same = _same_throughout(rows, columns) if wide else {}
    shown = [name for name in columns if name not in same]
    # The first column, the names, is not broken over lines unless it would take too much of the width.
    unbroken = bool(shown) and _natural_width(rows, shown[:1]) <= _WIDEST_NAME * out.width
    table = _table(title)
    for name in shown:
        numbers = all(isinstance(row.get(name), (int, float, type(None))) for row in rows)
        justify: Literal["left", "right"] = "right" if numbers else "left"
        table.add_column(_heading(name), justify=justify, overflow="fold", no_wrap=unbroken and name == shown[0])
    for row in rows:
        table.add_row(*(Text(_cell(name, row.get(name)), style=_STYLES.get(str(row.get(name)), "")) for name in shown))
    out.print(table)
    if same:
        out.print(
            Text("in every row: " + ", ".join(f"{_heading(name)} {cell}" for name, cell in same.items()), style="dim")
        )


def _transposed(rows: Sequence[Row], columns: Sequence[str], title: str) -> Table:
    """A table with a column for each row, and a row for each column."""
    table = _table(title)
    table.add_column(_heading(columns[0]), no_wrap=True)
    for row in rows:
        table.add_column(Text(_cell(columns[0], row.get(columns[0]))), overflow="fold")
    for name in columns[1:]:
        table.add_row(_heading(name), *(Text(_cell(name, row.get(name))) for row in rows))
    return table


def _table(title: str) -> Table:
    return Table(
        title=Text(visible(title), style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1),
        collapse_padding=True,
        header_style="dim",
    )


def _natural_width(rows: Sequence[Row], columns: Sequence[str]) -> int:
    """Characters across that the table needs if no cell is broken over lines."""
    widest = [max(len(_heading(name)), *(len(_cell(name, row.get(name))) for row in rows)) for name in columns]
    return sum(widest) + 2 * (len(widest) - 1)


def _same_throughout(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, str]:
    """Columns other than the first that hold one and the same text in every row, with that text."""
    texts = {name: {_cell(name, row.get(name)) for row in rows} for name in columns[1:]}
    return {name: found.pop() for name, found in texts.items() if len(found) == 1}


def _heading(name: str) -> str:
    return visible(name.removesuffix("_bytes"))


def _cell(name: str, value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)) and name.endswith("_bytes"):
        return units.size(value)
    return f"{value:.6g}" if isinstance(value, float) else visible(str(value))


def write_text(path: str, content: str) -> None:
    """Write to a new file, or to stdout."""
    if path == "-":
        sys.stdout.write(content)
        return
    write_new(Path(path), content.encode())
