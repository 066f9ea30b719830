"""Grade operator fits on public measured rows of GPUs: error tables anyone can print again.

For each table and each of five fixed seeds, so many rows are drawn for calibration; every row whose whole shape (n and
k, or heads and batch, ...) occurs among them is left out of the test. Nominal figures of the device are the prior, as a
user would give them; ``--without-nominal`` leaves them out. With ``--hold-out devices`` what no datasheet states is
learnt from the sets of the other chips, and only the rows drawn come from the device that is graded; with ``--hold-out
sizes`` a fit to the small shapes of a device is asked for its large ones. Printed per set: mean and median absolute
percentage error of the datasheet roofline and of the fit, coverage and half-width of the 90 % interval.

    python benchmarks/predict_shapes.py --data DIR [--rows 20 200] [--hold-out devices|sizes] [--csv FILE]
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from microbench.operators import OPERATORS, Batch
from microbench.operators.features import Features, describe, join
from microbench.predict.analytic import PRODUCTS, TILED, WINOGRAD
from microbench.predict.evaluate import evaluate
from microbench.predict.figures import DeviceFigures
from microbench.predict.fit_family import fit_family
from microbench.records import OperatorFit

SEEDS = range(5)
MOST_TESTED = 2000
LEAST_SPREAD = 0.5
# Dense peaks in FLOP/s, bandwidth in byte/s, SMs: what the vendors print.
A100_SXM = {"f32": 19.5e12, "bf16": 312e12, "f16": 312e12}
NOMINAL = {
    "a100_sxm": DeviceFigures(peak=A100_SXM, bandwidth=2039e9, units=108, kind="cuda"),
    "h100_sxm": DeviceFigures(
        peak={"f32": 67e12, "bf16": 989e12, "f16": 989e12}, bandwidth=3352e9, units=132, kind="cuda"
    ),
    "a100": DeviceFigures(peak=A100_SXM, bandwidth=2039e9, units=108, kind="cuda"),
    "NVIDIA A100-PCIE-40GB": DeviceFigures(peak=A100_SXM, bandwidth=1555e9, units=108, kind="cuda"),
    "NVIDIA A100 80GB PCIe": DeviceFigures(peak=A100_SXM, bandwidth=1935e9, units=108, kind="cuda"),
    "Tesla V100-PCIE-32GB": DeviceFigures(peak={"f32": 14.1e12}, bandwidth=900e9, units=80, kind="cuda"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """One set of measured rows: columns, seconds, the whole shape of each row."""

    group: str
    name: str
    chip: str
    dtype: str
    nominal: DeviceFigures
    features: Features
    seconds: np.ndarray
    shape: list[Any]


def _batch(name: str, dtype: str, shape: dict[str, Any], seconds: pd.Series) -> Batch:
    row = OPERATORS[name]
    size = len(seconds)
    columns = {}
    for key in row.keys:
        value = shape.get(key, 0 if key in ("pad", "causal", "bias", "train") else 1)
        columns[key] = np.array(np.broadcast_to(np.asarray(value), (size,)), dtype=np.int64)
    times = np.asarray(seconds, dtype=np.float64)
    return Batch(
        row=row,
        dtype=dtype,
        launch="eager",
        cache="hot",
        direction="forward",
        index=np.arange(size),
        shape=columns,
        seconds=times,
    )


def _rows(group: str, name: str, device: str, parts: list[tuple[Batch, list[Any]]]) -> Rows:
    return Rows(
        group=group,
        name=name,
        chip=next(chip for chip in ("A100", "H100", "V100") if chip in device.upper()),
        dtype=parts[0][0].dtype,
        nominal=NOMINAL[device],
        features=join([describe(batch) for batch, _ in parts]),
        seconds=np.concatenate([batch.seconds for batch, _ in parts]),
        shape=[shape for _, shapes in parts for shape in shapes],
    )


def gemm(data: Path) -> Iterator[Rows]:
    """Matrix products of three harnesses."""
    table = pd.read_csv(data / "gemm_a100_h100_bf16.csv", comment="#").drop_duplicates(["sys", "m", "n", "k"])
    for device, rows in table.groupby("sys"):
        batch = _batch("matmul", "bf16", {key: rows[key] for key in "mnk"}, rows.latency_ms * 1e-3)
        yield _rows(
            "gemm", f"graph replay {device} bf16", str(device), [(batch, list(zip(rows.n, rows.k, strict=True)))]
        )
    rows = pd.read_csv(data / "llm_layers_a100_fp16.csv", comment="#").query("k > 0").drop_duplicates(["m", "n", "k"])
    batch = _batch("matmul", "f16", {key: rows[key] for key in "mnk"}, rows.time_ms * 1e-3)
    yield _rows("gemm", "LLM layers a100 f16", "a100", [(batch, list(zip(rows.n, rows.k, strict=True)))])
    for operator in ("linear", "bmm"):
        table = pd.read_csv(data / f"{operator}_v100_a100_fp32.csv", comment="#").drop_duplicates(
            ["device", "split", "b", "m", "n", "k"]
        )
        for (device, split), rows in table.groupby(["device", "split"]):  # type: ignore[assignment]
            if len(rows) < 500:
                continue
            name = "bmm" if operator == "bmm" else "matmul"
            batch = _batch(name, "f32", {key: rows[key] for key in "bmnk"}, rows.latency_ms * 1e-3)
            yield _rows(
                "gemm",
                f"eager {operator} {device} {split}",
                str(device),
                [(batch, list(zip(rows.n, rows.k, strict=True)))],
            )


def memory(data: Path) -> Iterator[Rows]:
    """Elementwise, softmax and layer normalisation."""
    table = pd.read_csv(data / "vector_v100_a100_fp32.csv", comment="#").drop_duplicates(
        ["device", "split", "op", "b", "h"]
    )
    classes = {
        "elementwise": ["add", "mul", "div", "relu", "gelu", "tanh"],
        "softmax": ["softmax"],
        "layer norm": ["ln"],
    }
    for (device, split), rows in table.groupby(["device", "split"]):
        for name, operators in classes.items():
            parts = []
            for operator, each in rows[rows.op.isin(operators)].groupby("op"):
                shape = {"size": each.b * each.h, "rows": each.b, "cols": each.h}
                batch = _batch(
                    "layer_norm" if operator == "ln" else str(operator), "f32", shape, each.latency_ms * 1e-3
                )
                parts.append((batch, list(zip(each.b, each.h, strict=True))))
            yield _rows("memory", f"{name} {device} {split}", str(device), parts)


def convolution(data: Path) -> Iterator[Rows]:
    """3 x 3 convolutions."""
    keys = ["n", "c_in", "c_out", "ksize", "hw", "stride", "pad"]
    table = pd.read_csv(data / "conv_v100_a100_fp32.csv", comment="#").drop_duplicates(["device", *keys])
    for device, rows in table.groupby("device"):
        shape = {key: rows[key] for key in ("n", "c_in", "c_out", "stride", "pad")}
        shape |= {"h": rows.hw, "w": rows.hw, "kh": rows.ksize, "kw": rows.ksize}
        batch = _batch("conv2d", "f32", shape, rows.latency_ms * 1e-3)
        yield _rows("convolution", f"{device}", str(device), [(batch, list(zip(rows.c_in, rows.c_out, strict=True)))])


def attention(data: Path) -> Iterator[Rows]:
    """Prefill, decode and both."""
    table = pd.read_csv(data / "attention_a100_bf16.csv", comment="#")
    table["kv"] = np.where(table.num_key_value_heads == 0, table.num_heads, table.num_key_value_heads)
    table["length"] = table.isl + table.step
    table = table.drop_duplicates(["batch_size", "isl", "length", "num_heads", "kv", "head_dim"])
    parts = {}
    for kind, rows in table.groupby("kind"):
        shape = {
            "b": rows.batch_size,
            "heads": rows.num_heads,
            "kv_heads": rows.kv,
            "q_len": rows.isl,
            "kv_len": rows.length,
        }
        batch = _batch("attention", "bf16", shape | {"head_dim": rows.head_dim, "causal": 1}, rows.latency_ms * 1e-3)
        parts[str(kind)] = [(batch, list(zip(rows.num_heads, rows.batch_size, strict=True)))]
        yield _rows("attention", str(kind), "a100_sxm", parts[str(kind)])
    yield _rows("attention", "both", "a100_sxm", [part for each in parts.values() for part in each])


Shapes = Mapping[str, tuple[float, float]]
LEARNT_ROWS = 150


def learnt(sets: list[Rows], chip: str, family: str) -> Shapes:
    """Means and spreads (ln) of the parameters that no datasheet states, from a family's sets of all other chips."""
    seen: dict[str, list[float]] = {}
    for rows in sets:
        if rows.chip == chip or rows.features.family != family or family not in PRODUCTS:
            continue
        take = np.random.default_rng(0).permutation(len(rows.seconds))[:LEARNT_ROWS]
        made = fit_family(rows.features.take(take), rows.seconds[take], rows.dtype, rows.nominal)
        for name in (*TILED, *WINOGRAD, "sharpness"):
            if name in made.terms:
                seen.setdefault(name, []).append(math.log(made.terms[name]))
    # One set gives a parameter's value, but not how far others lie from it.
    return {name: (float(np.mean(values)), max(float(np.std(values)), LEAST_SPREAD)) for name, values in seen.items()}


def grade(rows: Rows, calibrated: int, seed: int, given: tuple[DeviceFigures | None, Shapes]) -> list[float]:
    """Errors in percent, coverage in percent and half-width of one draw."""
    order = np.random.default_rng(seed).permutation(len(rows.seconds))
    taken, rest = order[:calibrated], order[calibrated:]
    seen = {rows.shape[place] for place in taken}
    # Where shapes are few, leaving out every shape that was drawn would leave nothing.
    unseen_only = len(set(rows.shape)) > 2 * calibrated
    test = np.array([place for place in rest if not unseen_only or rows.shape[place] not in seen])[:MOST_TESTED]
    return measures(fit_family(rows.features.take(taken), rows.seconds[taken], rows.dtype, *given), rows, test)


def grade_larger(
    small: Rows, rows: Rows, calibrated: int, seed: int, given: tuple[DeviceFigures | None, Shapes]
) -> list[float]:
    """Errors on large shapes of a fit to small ones, from another set of the same device."""
    taken = np.random.default_rng(seed).permutation(len(small.seconds))[:calibrated]
    made = fit_family(small.features.take(taken), small.seconds[taken], small.dtype, *given)
    return measures(made, rows, np.random.default_rng(seed).permutation(len(rows.seconds))[:MOST_TESTED])


def measures(made: OperatorFit, rows: Rows, test: np.ndarray) -> list[float]:
    """Errors of the datasheet roofline and of a fit on some rows, in percent, coverage and half-width."""
    found = evaluate(made, rows.features.take(test))
    exact = rows.seconds[test]
    off = np.abs(np.exp(found.log_seconds) / exact - 1)
    known = rows.nominal
    sheet = np.maximum(
        rows.features.flop[test] / known.peak[rows.dtype], rows.features.bytes[test] / (known.bandwidth or 1)
    )
    inside = np.abs(np.log(exact) - found.log_seconds) <= found.half_width
    sheet_off = np.abs(sheet / exact - 1)
    shares = (sheet_off.mean(), off.mean(), float(np.median(off)), inside.mean())
    return [*(100 * float(value) for value in shares), float(np.exp(np.mean(found.half_width)))]


COLUMNS = ("datasheet_percent", "mean_error_percent", "median_error_percent", "coverage_percent", "half_width")


def grade_sets(sets: list[Rows], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Grade each set of a group with each number of calibration rows: means over the seeds."""
    known = lru_cache(maxsize=None)(partial(learnt, sets))
    by_name = {rows.name: rows for rows in sets}
    for rows in sets:
        smaller = by_name.get(rows.name.replace(" test", " train"))
        if options.hold_out == "sizes" and (smaller is None or smaller is rows):
            continue
        shapes = known(rows.chip, rows.features.family) if options.hold_out == "devices" else {}
        for calibrated in options.rows:
            if len(rows.seconds) < 3 * calibrated:
                continue
            prior = None if options.without_nominal else rows.nominal
            errors_of = partial(grade_larger, smaller) if smaller and options.hold_out == "sizes" else grade
            draws = np.array([errors_of(rows, calibrated, seed, (prior, shapes)) for seed in SEEDS])
            mean = dict(zip(COLUMNS, np.round(draws.mean(axis=0), 2).tolist(), strict=True))
            yield {"group": rows.group, "set": rows.name, "rows": calibrated, "tested": len(rows.seconds), **mean}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the public tables")
    parser.add_argument("--rows", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--groups", nargs="+", default=["gemm", "memory", "convolution", "attention"])
    parser.add_argument("--without-nominal", action="store_true")
    parser.add_argument("--hold-out", choices=["shapes", "devices", "sizes"], default="shapes")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    sources = {"gemm": gemm, "memory": memory, "convolution": convolution, "attention": attention}
    table: list[dict[str, Any]] = []
    for name in options.groups:
        for row in grade_sets(list(sources[name](options.data)), options):
            table.append(row)
            sys.stdout.write(
                f"{row['group']:12} {row['set']:45} {row['rows']:4} "
                + "  ".join(f"{key[:9]} {row[key]:6}" for key in COLUMNS)
                + "\n"
            )
            sys.stdout.flush()
    frame = pd.DataFrame(table)
    means = frame.groupby(["group", "rows"], sort=False)[list(COLUMNS)].mean().round(2).reset_index()
    sys.stdout.write(f"\nmeans over sets\n{means.to_string(index=False)}\n")
    if options.csv:
        rows_out = [
            *table,
            *({"set": "mean", **{str(key): value for key, value in row.items()}} for row in means.to_dict("records")),
        ]
        with options.csv.open("x", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["group", "set", "rows", "tested", *COLUMNS], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows_out)


if __name__ == "__main__":
    main()
