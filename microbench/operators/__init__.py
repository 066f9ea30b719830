"""Work of operators from shapes alone: ``op`` for one, ``read_rows`` for a table of them.

Every file of this folder is imported here, so that a file of operators registers them by being there.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from microbench.operators.core import Op, op, parse
from microbench.operators.registry import OPERATORS, Operator, Tally
from microbench.operators.table import Batch, Table, read_rows, table_of

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

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
    "table_of",
]
