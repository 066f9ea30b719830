"""Public tables of measured operator times as operator tables, and the ceilings that a device has by one rule.

A folder holds CSV files by kind: gemm_*, llm_layers_*, linear_*, bmm_*, vector_*, conv_*, attention_*; each opens with
its source and licence. The ceilings of a device come from one half of its rows in a table, for each number format the
98th percentile of FLOP/s of rows above the ridge point of the data sheet and of byte/s of those below, and the 5th
percentile of seconds as cost of a launch; units and caches are nominal. The other half is graded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from microbench.hardware.tables import gpus
from microbench.operators import OPERATORS, Batch, Table
from microbench.predict.figures import DeviceFigures, datasheet_figures

# Names of systems that say too little of the card.
CARDS = {"a100": "A100 SXM4 80GB", "a100_sxm": "A100 SXM4 80GB", "h100": "H100 SXM5 80GB"}
FORMATS = {"bfloat16": "bf16", "float16": "f16", "fp8": "f8e4m3", "fp8_block": "f8e4m3"}
VECTORS = {"add", "mul", "div", "relu", "gelu", "tanh", "softmax", "ln"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Measured rows of one kind, device and format: an operator table, and the whole shape that each row belongs to."""

    group: str
    kind: str
    device: str
    dtype: str
    table: Table
    shape: tuple[Any, ...]

    @property
    def seconds(self) -> np.ndarray:
        """Seconds of all rows, in their order."""
        found = np.full(self.table.size, np.nan)
        for batch in self.table.batches:
            found[batch.index] = batch.seconds
        return found

    def column(self, *names: str) -> np.ndarray:
        """The sum of counts of each row, in their order."""
        found = np.zeros(self.table.size)
        for batch in self.table.batches:
            counts = batch.counts()
            found[batch.index] = sum(counts[name] for name in names)
        return found

    def take(self, keep: np.ndarray) -> Rows:
        """Some rows by an index."""
        place = np.full(self.table.size, -1)
        place[keep] = np.arange(len(keep))
        batches = []
        for batch in self.table.batches:
            part = batch.take(place[batch.index] >= 0)
            if len(part):
                batches.append(replace(part, index=place[part.index]))
        shape = tuple(self.shape[row] for row in keep)
        return replace(self, table=Table(size=len(keep), batches=tuple(batches)), shape=shape)


def chip_of(device: str) -> str:
    """What is held out together: cards of one name in any form."""
    words = device.split()
    return " ".join(words[:3]) if words[0] == "RTX" else words[0]


def card(name: str) -> str:
    """The nominal table's name of a device as a table calls it."""
    row = gpus.find(CARDS.get(name, name).replace("_", " "))
    if row is None:
        raise SystemExit(f"{name} is not in the table of GPUs")
    return row.name


def _batch(name: str, dtype: str, launch: str, shape: dict[str, Any], seconds: pd.Series) -> Batch:
    row, size = OPERATORS[name], len(seconds)
    filled: dict[str, Any] = {}
    for key in row.keys:
        usual = row.defaults.get(key, 1)
        filled[key] = shape.get(key, filled[usual] if isinstance(usual, str) else usual)
    columns = {
        key: np.array(np.broadcast_to(np.asarray(value), (size,)), dtype=np.int64) for key, value in filled.items()
    }
    return Batch(
        row=row,
        dtype=dtype,
        launch=launch,
        cache="hot",
        direction="forward",
        index=np.arange(size),
        shape=columns,
        seconds=np.asarray(seconds, dtype=np.float64) * 1e-3,
    )


def _rows(group: str, kind: str, device: str, parts: list[tuple[Batch, list[Any]]]) -> Rows:
    start, batches = 0, []
    for batch, _ in parts:
        batches.append(replace(batch, index=batch.index + start))
        start += len(batch)
    return Rows(
        group=group,
        kind=kind,
        device=device,
        dtype=batches[0].dtype,
        table=Table(size=start, batches=tuple(batches)),
        shape=tuple(shape for _, shapes in parts for shape in shapes),
    )


def _read(data: Path, kind: str) -> pd.DataFrame:
    found = [pd.read_csv(path, comment="#") for path in sorted(data.glob(f"{kind}_*.csv"))]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _gemm(data: Path) -> Iterator[Rows]:
    table = _read(data, "gemm")
    if len(table):
        table = table.drop_duplicates(["sys", "dtype", "m", "n", "k"])
        for (device, dtype), rows in table.groupby(["sys", "dtype"]):
            batch = _batch("matmul", FORMATS[str(dtype)], "graph", {key: rows[key] for key in "mnk"}, rows.latency_ms)
            yield _rows("gemm", "gemm", card(str(device)), [(batch, list(zip(rows.n, rows.k, strict=True)))])
    table = _read(data, "llm_layers")
    if len(table):
        table = table.query("k > 0").drop_duplicates(["device", "m", "n", "k"])
        for device, rows in table.groupby("device"):
            batch = _batch("matmul", "f16", "kernel", {key: rows[key] for key in "mnk"}, rows.time_ms)
            yield _rows("gemm", "llm_layers", card(str(device)), [(batch, list(zip(rows.n, rows.k, strict=True)))])


def _products(data: Path) -> Iterator[Rows]:
    for kind, group in (("linear", "gemm"), ("bmm", "bmm")):
        table = _read(data, kind)
        if not len(table):
            continue
        table = table.drop_duplicates(["device", "b", "m", "n", "k"])
        name = "bmm" if kind == "bmm" else "matmul"
        for device, rows in table.groupby("device"):
            batch = _batch(name, "f32", "eager", {key: rows[key] for key in "bmnk"}, rows.latency_ms)
            yield _rows(group, kind, card(str(device)), [(batch, list(zip(rows.n, rows.k, strict=True)))])


def _memory(data: Path) -> Iterator[Rows]:
    table = _read(data, "vector")
    if not len(table):
        return
    table = table[table.op.isin(VECTORS)].drop_duplicates(["device", "op", "b", "h"])
    kinds = (("elementwise", VECTORS - {"softmax", "ln"}), ("softmax", {"softmax"}), ("layer norm", {"ln"}))
    for device, of_device in table.groupby("device"):
        for _, operators in kinds:
            parts = []
            for operator, rows in of_device[of_device.op.isin(operators)].groupby("op"):
                shape: dict[str, Any] = {"size": rows.b * rows.h, "rows": rows.b, "cols": rows.h}
                name = "layer_norm" if operator == "ln" else str(operator)
                batch = _batch(name, "f32", "eager", shape, rows.latency_ms)
                parts.append((batch, list(zip(rows.b, rows.h, strict=True))))
            if parts:
                yield _rows("memory", "vector", card(str(device)), parts)


def _convolution(data: Path) -> Iterator[Rows]:
    table = _read(data, "conv")
    keys = ["n", "c_in", "c_out", "ksize", "hw", "stride", "pad"]
    if not len(table):
        return
    for device, rows in table.drop_duplicates(["device", *keys]).groupby("device"):
        shape = {key: rows[key] for key in ("n", "c_in", "c_out", "stride", "pad")}
        shape |= {"h": rows.hw, "w": rows.hw, "kh": rows.ksize, "kw": rows.ksize}
        batch = _batch("conv2d", "f32", "eager", shape, rows.latency_ms)
        yield _rows("convolution", "conv", card(str(device)), [(batch, list(zip(rows.c_in, rows.c_out, strict=True)))])


def _attention(data: Path) -> Iterator[Rows]:
    table = _read(data, "attention")
    if not len(table):
        return
    table["kv"] = np.where(table.num_key_value_heads == 0, table.num_heads, table.num_key_value_heads)
    table["length"] = table.isl + table.step
    table = table.drop_duplicates(["sys", "batch_size", "isl", "length", "num_heads", "kv", "head_dim"])
    for device, of_device in table.groupby("sys"):
        parts = []
        for _, rows in of_device.groupby("kind"):
            shape: dict[str, Any] = {
                "b": rows.batch_size,
                "heads": rows.num_heads,
                "kv_heads": rows.kv,
                "q_len": rows.isl,
            }
            shape |= {"kv_len": rows.length, "head_dim": rows.head_dim, "causal": 1}
            batch = _batch("attention", "bf16", "graph", shape, rows.latency_ms)
            parts.append((batch, list(zip(rows.num_heads, rows.batch_size, strict=True))))
        yield _rows("attention", "attention", card(str(device)), parts)


def tables(data: Path) -> list[Rows]:
    """Every table of a folder, as sets of rows of one kind, device and format."""
    makers = (_gemm, _products, _memory, _convolution, _attention)
    return [rows for maker in makers for rows in maker(data)]


def halves(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """The rows that ceilings and calibration may see, and those that are graded."""
    order = np.random.default_rng(len(rows.shape)).permutation(len(rows.shape))
    return np.sort(order[::2]), np.sort(order[1::2])


def ceilings(sets: list[Rows], rows: Rows) -> DeviceFigures:
    """Ceilings of a device by the rule, from the halves that are not graded of the table that knows it."""
    sheet = datasheet_figures(rows.device)
    rates, moved, seconds = [], [], []
    for other in sets:
        if (other.device, other.kind, other.dtype) == (rows.device, rows.kind, rows.dtype):
            seen = other.take(halves(other)[0])
            took, flop, size = seen.seconds, seen.column("flop"), seen.column("bytes_read", "bytes_written")
            above = flop / size > sheet.peak[rows.dtype] / (sheet.bandwidth or 1.0)
            rates.append((flop / took)[above])
            moved.append((size / took)[~above])
            seconds.append(took)
    rate, byte_rate = np.concatenate(rates), np.concatenate(moved)
    return replace(
        sheet,
        peak={rows.dtype: float(np.percentile(rate, 98))} if len(rate) else {},
        bandwidth=float(np.percentile(byte_rate, 98)) if len(byte_rate) else None,
        cost={rows.table.batches[0].launch: float(np.percentile(np.concatenate(seconds), 5))},
        measured=True,
    )
