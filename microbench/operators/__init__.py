"""Work of operators from shapes alone: ``op`` for one, ``read_rows`` for a table of them."""

from __future__ import annotations

from microbench.operators import rules, windows
from microbench.operators.core import OPERATORS, Op, Operator, Tally, op, parse
from microbench.operators.table import Batch, Table, read_rows, table_of

FAMILIES = tuple(dict.fromkeys(row.family for row in OPERATORS.values()))

__all__ = [
    "FAMILIES",
    "OPERATORS",
    "Batch",
    "Op",
    "Operator",
    "Table",
    "Tally",
    "op",
    "parse",
    "read_rows",
    "rules",
    "table_of",
    "windows",
]
