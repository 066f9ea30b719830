"""How long predicting takes: a million operator rows of a fitted family, and a model of ten thousand operators.

    python benchmarks/predict_speed.py [--rows 1000000] [--operators 10000]

Prints seconds by the wall and of processor time; the rows go through the same columns as ``predict --ops``.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from microbench.operators import OPERATORS, op, table_of
from microbench.operators.table import Batch, Table
from microbench.predict.figures import DeviceFigures
from microbench.predict.fit import fit
from microbench.predict.operator import predict_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from microbench.records import Characterisation

CALIBRATED = 200
BEST_OF = 3


def products(count: int, seed: int) -> np.ndarray:
    """Sizes of matrix products, log-uniform."""
    return np.exp(np.random.default_rng(seed).uniform(np.log(16), np.log(4096), (count, 3))).astype(np.int64)


def calibration(kind: Any) -> Characterisation:
    """Fit rows of an invented device with a correction to learn."""
    sizes = products(CALIBRATED, 0)
    seconds = [5e-6 + 2 * m * n * k / 1e13 * (1 + 0.2 * np.sin(m)) for m, n, k in sizes.tolist()]
    made = [op("matmul", m=m, n=n, k=k) for m, n, k in sizes.tolist()]
    units = 2.0 if kind == "cpu" else 108.0
    return fit(table_of(made, seconds), DeviceFigures(peak={"f32": 1e13}, bandwidth=1e12, units=units, kind=kind))


def rows(count: int) -> Table:
    """A table of so many matrix products, as `read_rows` would group them."""
    m, n, k = (np.ascontiguousarray(column) for column in products(count, 1).T)
    batch = Batch(
        row=OPERATORS["matmul"],
        dtype="f32",
        launch="eager",
        cache="hot",
        direction="forward",
        index=np.arange(count),
        shape={"m": m, "n": n, "k": k},
    )
    return Table(size=count, batches=(batch,))


def best(call: Callable[[], object]) -> tuple[float, float]:
    """Least wall and processor seconds of a few calls."""
    walls, processor = [], []
    for _ in range(BEST_OF):
        wall, used = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall)
        processor.append(time.process_time() - used)
    return min(walls), min(processor)


def say(what: str, seconds: tuple[float, float]) -> None:
    """Print a line."""
    sys.stdout.write(f"{what:55} {seconds[0]:6.2f} s, {seconds[1]:6.2f} s of processor time\n")


def deep(operators: int) -> object:
    """A model of so many operators."""
    import torch

    layers = [layer for _ in range(operators // 2) for layer in (torch.nn.Linear(64, 64), torch.nn.ReLU())]
    return torch.nn.Sequential(*layers)


def model(operators: int, held: Characterisation) -> object:
    """Capture and predict it."""
    from microbench.operators.capture import capture
    from microbench.predict.model import predict_model

    return predict_model(capture(lambda: deep(operators), ["8x64"]), held)


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--operators", type=int, default=10_000)
    options = parser.parse_args()
    for kind in ("cpu", "cuda"):
        held, table = calibration(kind), rows(options.rows)
        say(f"{options.rows:,} rows, form {held.fits.operators[0].form}", best(partial(predict_table, table, held)))
    say(
        f"model of {options.operators:,} operators, captured and predicted",
        best(partial(model, options.operators, held)),
    )


if __name__ == "__main__":
    main()
