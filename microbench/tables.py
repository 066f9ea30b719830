"""Rows on their way out: a table for people, CSV or JSON for programs. ``-`` as a path means stdout, in the table's place."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from microbench.errors import UsageError
from microbench.files import write_new

Cell = str | int | float | bool | None
Row = Mapping[str, Cell]

_PIPE_WIDTH = 160
_FEW_ROWS = 3


def emit(
    rows: Sequence[Row], title: str, json_path: str | None = None, csv_path: str | None = None, *, shown: Sequence[Row] | None = None
) -> None:
    """Print rows as a table, and write them where the user asked; ``shown`` are the rows for people, where those differ.

    Raises
    ------
    UsageError
        If both formats claim stdout, or a file exists already.
    """
    if json_path == "-" and csv_path == "-":
        raise UsageError("--json - and --csv - both claim stdout; write one of them to a file")
    if json_path is not None:
        _write(json_path, as_json(rows))
    if csv_path is not None:
        _write(csv_path, as_csv(rows))
    if "-" not in (json_path, csv_path):
        show(rows if shown is None else shown, title)


def as_json(rows: Sequence[Row]) -> str:
    """Rows as a JSON array."""
    return json.dumps([dict(row) for row in rows], indent=1, allow_nan=False) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV with a header; unknown is empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    return buffer.getvalue()


def show(rows: Sequence[Row], title: str) -> None:
    """Print rows as a table; columns that are empty throughout are left out. A few rows that are too wide are printed as columns."""
    if not rows:
        sys.stdout.write(f"{title}\n")
        return
    columns = [name for name in dict.fromkeys(name for row in rows for name in row) if any(row.get(name) not in (None, "") for row in rows)]
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, emoji=False)
    table = _table(title)
    for name in columns:
        numbers = all(isinstance(row.get(name), (int, float, type(None))) for row in rows)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(name))) for name in columns))
    if len(rows) <= _FEW_ROWS and Measurement.get(console, console.options.update(max_width=10**6), table).maximum > console.width:
        table = _table(title)
        table.add_column(columns[0])
        for row in rows:
            table.add_column(Text(_cell(row.get(columns[0]))), overflow="fold")
        for name in columns[1:]:
            table.add_row(name, *(Text(_cell(row.get(name))) for row in rows))
    console.print(table)


def _table(title: str) -> Table:
    return Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _write(path: str, text: str) -> None:
    if path == "-":
        sys.stdout.write(text)
        return
    write_new(Path(path), text.encode())
