"""Tables of other profilers as operator rows: which column is which key, and in which unit.

A table says ``m=M,n=N,k=K,seconds=time_ms:ms``: a key of ours, the column that holds it, and a unit where it is a time.
Sizes become ``params``. What names no column is the value itself, for every row: ``op=matmul,dtype=bf16``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from microbench.errors import UsageError, expect
from microbench.operators import registry

if TYPE_CHECKING:
    import pandas as pd

# Seconds in one of each unit.
TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
# Keys that are columns of an operator row; all others are sizes.
_HEADS = ("op", "dtype", "seconds", "launch", "cache", "pass")
_LITERAL = ("op", "dtype", "launch", "cache", "pass")
# What a table of products alone need not say.
_BY_SIZES = {frozenset("mnk"): "matmul", frozenset("bmnk"): "bmm"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a key comes from: the column of a table or a value for all rows, and the unit of a time."""

    name: str
    unit: str = "s"


def parse_columns(given: str | Sequence[str] | Mapping[str, str]) -> dict[str, Source]:
    """Read ``m=M,n=N,k=K,seconds=time_ms:ms``, in one text or several, or the same as a mapping.

    Raises
    ------
    UsageError
        If a part is not KEY=COLUMN, a key comes twice, or a unit is none of s, ms, us and ns.

    Examples
    --------
    >>> parse_columns("m=M,seconds=time_ms:ms")["seconds"]
    Source(name='time_ms', unit='ms')
    """
    if isinstance(given, Mapping):
        items = list(given.items())
    else:
        wanted = "text such as m=M,n=N,k=K,seconds=time_ms:ms"
        expect("columns", given, (str, Sequence), wanted)
        texts = [given] if isinstance(given, str) else list(given)
        for text in texts:
            expect("one of columns", text, str, wanted)
        items = [_item(part) for text in texts for part in text.split(",") if part.strip()]
    found: dict[str, Source] = {}
    for key, text in items:
        if key in found:
            raise UsageError(f"--columns says {key[:40]} twice; say it once")
        found[key] = _source(key, str(text).strip())
    return found


def _item(part: str) -> tuple[str, str]:
    key, equals, text = part.partition("=")
    if not equals or not key.strip() or not text.strip():
        raise UsageError(
            f"--columns {part.strip()[:40]!r} is not KEY=COLUMN; write for example m=M,n=N,k=K,seconds=time_ms:ms"
        )
    return key.strip(), text


def _source(key: str, text: str) -> Source:
    if key != "seconds":
        return Source(name=text)
    name, colon, unit = text.rpartition(":")
    if not colon:
        return Source(name=text)
    if unit not in TIMES:
        raise UsageError(f"--columns seconds={text[:60]}: {unit[:20]!r} is no unit; it is one of s, ms, us, ns")
    return Source(name=name, unit=unit)


def arranged(frame: pd.DataFrame, columns: Mapping[str, Source]) -> pd.DataFrame:
    """The operator rows of another tool's table, in its order.

    Raises
    ------
    UsageError
        If a column is not there, or op or dtype are told nowhere.
    """
    import pandas as pd

    heads = {key: source for key, source in columns.items() if key in _HEADS}
    sizes = {key: source for key, source in columns.items() if key not in _HEADS}
    made = pd.DataFrame(index=frame.index)
    for key in _HEADS:
        if key in heads:
            made[key] = _cells(frame, key, heads[key])
        elif (own := _same(frame, key)) is not None:
            made[key] = frame[own]
    if "op" not in made.columns:
        made["op"] = _by_sizes(sizes)
    if "dtype" not in made.columns:
        raise UsageError("the table does not say its dtype: add for example dtype=bf16 to --columns")
    if sizes:
        made["params"] = _params(frame, sizes)
    elif (own := _same(frame, "params")) is not None:
        made["params"] = frame[own]
    if "seconds" in heads and heads["seconds"].unit != "s":
        made["seconds"] = [_in_seconds(text, heads["seconds"].unit) for text in made["seconds"]]
    return made


def _same(frame: pd.DataFrame, name: str) -> str | None:
    """The column of that name, or else the only one that differs in case alone."""
    if name in frame.columns:
        return name
    alike = [str(column) for column in frame.columns if str(column).lower() == name.lower()]
    return alike[0] if len(alike) == 1 else None


def _cells(frame: pd.DataFrame, key: str, source: Source) -> pd.Series | str:
    column = _same(frame, source.name)
    if column is not None:
        return frame[column]
    if key in _LITERAL or (key not in _HEADS and source.name.isascii() and source.name.isdigit()):
        return source.name
    shown = ", ".join(map(str, frame.columns[:12]))
    raise UsageError(f"the table has no column {source.name[:40]!r} for {key[:40]}; it has {shown[:120]}")


def _by_sizes(sizes: Mapping[str, Source]) -> str:
    name = _BY_SIZES.get(frozenset(sizes))
    if name is None:
        raise UsageError("the table does not say which operator its rows are: add for example op=linear to --columns")
    return registry.find(name).name


def _params(frame: pd.DataFrame, sizes: Mapping[str, Source]) -> pd.Series:
    """Sizes as key=value; a whole number may be written as a float, as tables with empty cells do."""
    import pandas as pd

    made: pd.Series = pd.Series("", index=frame.index, dtype=object)
    for place, (key, source) in enumerate(sizes.items()):
        cells = _cells(frame, key, source)
        text = cells if isinstance(cells, str) else cells.str.strip().str.replace(r"^(\d+)\.0+$", r"\1", regex=True)
        made = made + (";" if place else "") + f"{key}=" + text
    return made


def _in_seconds(text: str, unit: str) -> str:
    """A time in another unit as text in seconds; what is no number stays, for its row to be refused."""
    try:
        return repr(float(text) * TIMES[unit])
    except ValueError:
        return text
