"""Tables of operator rows: read once, grouped by operator, counted a column at a time.

A wrong row costs only itself: it is remembered with its sentence, and the rest go on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from microbench.errors import UsageError
from microbench.operators import core, foreign, registry
from microbench.operators.core import Op
from microbench.operators.registry import Operator, Shape
from microbench.operators.table_files import read_frame
from microbench.records.dtypes import DTYPES
from microbench.records.dtypes import dtype as find_dtype

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable, Mapping, Sequence

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MODE_COLUMNS = {"launch": "eager", "cache": "hot", "pass": "forward"}
_DIGITS = b"0123456789"
# A duration beyond eleven days is a wrong unit, not an operator; so is one in which light crosses no chip.
LONGEST_SECONDS, SHORTEST_SECONDS = 1e6, 1e-11


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows that share operator, dtype, launch mode, cache state and pass, with one column per size.

    ``index`` gives their places in the table; ``seconds`` is NaN where nothing was measured. ``traffic`` has bytes read
    and bytes written, where tensors hold others than the rule counts, and -1 where they do not.
    """

    row: Operator
    dtype: str
    launch: str
    cache: str
    direction: str
    index: Ints
    shape: dict[str, Ints]
    seconds: Floats | None = None
    traffic: Ints | None = None

    def __len__(self) -> int:
        return len(self.index)

    def counts(self) -> dict[str, Ints]:
        """FLOP, bytes_read, bytes_written and parameters of each row."""
        tally = registry.rule_of(self.row, self.direction)(Shape(self.shape))
        bits = DTYPES[self.dtype].bits
        size = len(self.index)
        read = _column((tally.read * bits + 7) // 8 + tally.index_bytes, size)
        written = _column((tally.written * bits + 7) // 8, size)
        if self.traffic is not None:
            read, written = (
                np.where(self.traffic[:, place] >= 0, self.traffic[:, place], counted)
                for place, counted in enumerate((read, written))
            )
        return {
            "flop": _column(tally.flop, size),
            "bytes_read": read,
            "bytes_written": written,
            "parameters": _column(tally.parameters, size),
        }

    def take(self, keep: npt.NDArray[Any] | slice) -> Batch:
        """Select rows by a mask, an index or a slice."""
        return Batch(
            row=self.row,
            dtype=self.dtype,
            launch=self.launch,
            cache=self.cache,
            direction=self.direction,
            index=self.index[keep],
            shape={key: column[keep] for key, column in self.shape.items()},
            seconds=None if self.seconds is None else self.seconds[keep],
            traffic=None if self.traffic is None else self.traffic[keep],
        )


def _column(value: Any, size: int) -> Ints:
    return np.broadcast_to(np.asarray(value, dtype=np.int64), (size,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Operator rows in their order. ``faults`` maps a row's place to the sentence that says what is wrong with it."""

    size: int
    batches: tuple[Batch, ...]
    faults: dict[int, str] = field(default_factory=dict)
    frame: Any = None


def table_of(operators: Iterable[Op], seconds: Sequence[float] | None = None) -> Table:
    """Group operators that `core.op` has made."""
    groups: dict[tuple[str, str, str, str, str], list[int]] = {}
    listed = list(operators)
    for place, made in enumerate(listed):
        groups.setdefault((made.name, made.dtype, made.launch, made.cache, made.direction), []).append(place)
    times = None if seconds is None else np.asarray(seconds, dtype=np.float64)
    batches = []
    for (name, number_format, launch, cache, direction), places in groups.items():
        index = np.asarray(places, dtype=np.int64)
        row = registry.find(name)
        batches.append(
            Batch(
                row=row,
                dtype=number_format,
                launch=launch,
                cache=cache,
                direction=direction,
                index=index,
                shape={
                    key: np.asarray([listed[place].params[key] for place in places], dtype=np.int64) for key in row.keys
                },
                seconds=None if times is None else times[index],
                traffic=_traffic([listed[place].traffic for place in places]),
            )
        )
    return Table(size=len(listed), batches=tuple(batches))


def _traffic(held: Sequence[tuple[int, int] | None]) -> Ints | None:
    if not any(held):
        return None
    return np.asarray([each or (-1, -1) for each in held], dtype=np.int64)


def read_rows(
    source: str | Path | io.TextIOBase | pd.DataFrame,
    *,
    need_seconds: bool = False,
    columns: str | Sequence[str] | Mapping[str, str] = (),
) -> Table:
    """Read operator rows from CSV, whose cells commas, semicolons or tabs separate.

    Parameters
    ----------
    source
        A path, an open text file, or a table of pandas.
    need_seconds
        Whether measured times are wanted: then rows without one are faults. Otherwise a column of them is not looked
        at.
    columns
        Which column is which key, for tables of other tools, as `foreign.parse_columns` reads it.

    Raises
    ------
    UsageError
        If the file cannot be read as a table of operators, or no row of it is right.
    """
    given = read_frame(source)
    wishes = foreign.parse_columns(columns)
    frame = foreign.arranged(given, wishes) if wishes else given
    where = str(source) if isinstance(source, str | Path) else "the table"
    wanted = "columns are op,dtype,params[,seconds][,launch][,cache][,pass]"
    missing = [
        name for name in ("op", "dtype", "params", *(("seconds",) if need_seconds else ())) if name not in frame.columns
    ]
    if missing:
        raise UsageError(
            f"{where} has no column {missing[0]!r}{_unit_hint(missing[0], given.columns)}; {wanted}, or name yours by "
            "--columns m=M,n=N,k=K,seconds=time_ms:ms"
        )
    if not len(frame):
        raise UsageError(f"{where} has a header and no rows; add operator rows such as matmul,f32,m=8;n=8;k=8")
    table = replace(_group(frame, need_seconds=need_seconds), frame=given)
    if len(table.faults) == table.size:
        raise UsageError(f"no row of {where} can be used; row 1: {table.faults[0]}")
    return table


def _unit_hint(missing: str, columns: Iterable[str]) -> str:
    other = [name for name in columns if name.lower().endswith(("_ms", "_us", "_ns", "latency"))]
    return f" (column {other[0][:40]!r} is no column in seconds)" if missing == "seconds" and other else ""


def _group(frame: pd.DataFrame, *, need_seconds: bool) -> Table:
    faults: dict[int, str] = {}
    seconds = _seconds(frame["seconds"], faults) if need_seconds else None
    columns, given = ["op", "dtype"], frame
    for name, default in _MODE_COLUMNS.items():
        if name not in frame.columns:
            frame = frame.assign(**{name: default})
        columns.append(name)
    batches: list[Batch] = []
    for values, places in frame.groupby(columns, sort=False).indices.items():
        index = np.asarray(places, dtype=np.int64)
        try:
            head = _head([str(value).strip() for value in cast("tuple[str, ...]", values)])
        except UsageError as error:
            faults.update(dict.fromkeys(index.tolist(), str(error)))
            continue
        shape, kept = _shapes(head[0], frame["params"].to_numpy(), index, faults)
        batch = Batch(
            row=head[0],
            dtype=head[1],
            launch=head[2],
            cache=head[3],
            direction=head[4],
            index=kept,
            shape=shape,
            seconds=None if seconds is None else seconds[kept],
        )
        batches.append(_sound(batch, faults))
    return Table(size=len(frame), batches=tuple(batch for batch in batches if len(batch)), faults=faults, frame=given)


def _head(values: list[str]) -> tuple[Operator, str, str, str, str]:
    name, number_format, launch, cache, direction = values
    row = registry.find(name)
    try:
        known = find_dtype(number_format).name
    except ValueError as error:
        raise UsageError(str(error)) from None
    chosen = [
        core.mode(key, value or default)
        for key, value, default in (
            ("launch", launch, "eager"),
            ("cache", cache, "hot"),
            ("direction", direction, "forward"),
        )
    ]
    registry.rule_of(row, chosen[2])
    return row, known, chosen[0], chosen[1], chosen[2]


def _seconds(text: pd.Series, faults: dict[int, str]) -> Floats:
    seconds = np.array(pd.to_numeric(text, errors="coerce"), dtype=np.float64)
    wrong = ~((seconds >= SHORTEST_SECONDS) & (seconds < LONGEST_SECONDS))
    for place in np.flatnonzero(wrong):
        cell = str(text.iloc[place]).strip()
        faults[int(place)] = f"seconds is {cell[:30]!r}{_decimal_comma(cell)}"
    seconds[wrong] = np.nan
    return seconds


def _decimal_comma(cell: str) -> str:
    point = cell.replace(",", ".", 1)
    try:
        float(point)
    except ValueError:
        point = cell
    if point != cell:
        return f", with a decimal comma; write {point[:30]}"
    return f"; a measured time is a positive number of seconds, {SHORTEST_SECONDS:g} to {LONGEST_SECONDS:.0f}"


def _shapes(
    row: Operator, params: npt.NDArray[Any], index: Ints, faults: dict[int, str]
) -> tuple[dict[str, Ints], Ints]:
    """Columns of sizes, and the places of the rows that could be read."""
    keep = np.asarray([place not in faults for place in index.tolist()]) if faults else np.ones(len(index), dtype=bool)
    index = index[keep]
    fast = _same_keys(row, params, index)
    if fast is not None:
        return fast, index
    columns: dict[str, list[int]] = {key: [] for key in row.keys}
    kept = []
    for place in index.tolist():
        try:
            made = _one(row, str(params[place]))
        except UsageError as error:
            faults[place] = str(error)
            continue
        kept.append(place)
        for key in row.keys:
            columns[key].append(made[key])
    return {key: np.asarray(column, dtype=np.int64) for key, column in columns.items()}, np.asarray(
        kept, dtype=np.int64
    )


def _one(row: Operator, text: str) -> Shape:
    given: dict[str, int] = {}
    for item in text.replace(" ", "").split(";"):
        if not item:
            continue
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(
                f"{row.name}: {item[:40]!r} is not key=value; write params like {row.keys[0]}=8;{row.keys[-1]}=8"
            )
        if key in given:
            raise UsageError(f"{row.name}: {key[:40]} is given twice; give it once")
        given[key] = core.number(row.name, key, value)
    shape = registry.complete(row, given)
    for key, value in shape.items():
        shape[key] = core.whole(row.name, key, value)
    return shape


def _same_keys(row: Operator, params: npt.NDArray[Any], index: Ints) -> dict[str, Ints] | None:
    """Columns where every row names the same keys in the same order; ``None`` where the slow way must look.

    All rows are joined; without their digits they must be one template repeated, and without their letters they are the
    numbers.
    """
    if not len(index):
        return None
    first = str(params[index[0]])
    keys = [item.partition("=")[0] for item in first.split(";")]
    if len(set(keys)) != len(keys) or any(key not in row.keys for key in keys) or not first.isascii():
        return None
    try:
        joined = ("\n".join(params[index].tolist()) + "\n").encode("ascii")
    except (UnicodeEncodeError, TypeError):
        return None
    template = ";".join(f"{key}=" for key in keys).encode() + b"\n"
    if joined.translate(None, _DIGITS) != template * len(index) or b"=;" in joined or b"=\n" in joined:
        return None
    # A digit elsewhere than in a number, as in m1=8, would join it.
    bytes_of = np.frombuffer(joined, dtype=np.uint8)
    digits = (bytes_of >= ord("0")) & (bytes_of <= ord("9"))
    if digits[0] or bool((digits[1:] & ~digits[:-1] & (bytes_of[:-1] != ord("="))).any()):
        return None
    letters = bytes(sorted(set(b"".join(key.encode() for key in keys)) | {ord("=")}))
    numbers = np.fromstring(joined.translate(bytes.maketrans(b"\n", b";"), letters).decode(), dtype=np.int64, sep=";")
    if numbers.size != len(index) * len(keys):
        return None
    grid = numbers.reshape(len(index), len(keys))
    columns = {key: np.ascontiguousarray(grid[:, place]) for place, key in enumerate(keys)}
    try:
        shape = registry.complete(row, columns)
    except UsageError:
        return None
    whole = {
        key: np.full(len(index), value, dtype=np.int64) if isinstance(value, int) else value
        for key, value in shape.items()
    }
    in_bounds = all(
        bool(((column >= registry.least_value(key)) & (column <= registry.largest_value(key))).all())
        for key, column in whole.items()
    )
    return whole if in_bounds else None


def _sound(batch: Batch, faults: dict[int, str]) -> Batch:
    """Drop rows whose sizes contradict each other or whose counts leave 63 bits."""
    shape = Shape(batch.shape)
    bad = np.zeros(len(batch), dtype=bool)
    with np.errstate(all="ignore"):
        for fault, says in batch.row.check(shape) if batch.row.check else ():
            for place in np.flatnonzero(fault & ~bad):
                faults[int(batch.index[place])] = f"{batch.row.name}: {says}"
            bad |= np.asarray(fault, dtype=bool)
        # In floating point nothing wraps: it tells which integer columns would.
        tally = registry.rule_of(batch.row, batch.direction)(
            Shape({key: column.astype(np.float64) for key, column in batch.shape.items()})
        )
        most = np.maximum(tally.flop, (tally.read + tally.written) * DTYPES[batch.dtype].bits + tally.index_bytes)
        absurd = ~(np.broadcast_to(most, bad.shape) < registry.LARGEST_COUNT / 2) & ~bad
    for place in np.flatnonzero(absurd):
        faults[int(batch.index[place])] = f"{batch.row.name} does more than 2^62 FLOP or bytes; ask for smaller sizes"
    return batch.take(~(bad | absurd)) if (bad | absurd).any() else batch
