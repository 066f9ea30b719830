"""Grade predictions on the processor at hand: `microbench validate` over several seeds, pooled.

Each seed calibrates and measures its own fresh shapes and the whole models in the same rounds. Run it on a quiet
machine: the last column is the error of the measurement itself, and no prediction can be better than that.

    python benchmarks/predict_cpu.py [--seeds 0 1 2] [--time-limit 40] [--out DIR]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from microbench.cli.output import as_csv
from microbench.hardware import probe
from microbench.records import Row
from microbench.report.calibration import draw_calibration
from microbench.runs.validate import Graded, Validation, error_rows, kind_of, model_rows, validate
from microbench.storage.files import check_writable, write_new


def pooled(parts: list[Graded]) -> Graded:
    """Rows of several seeds as one table."""
    columns = ("measured", "predicted", "low", "high", "plain", "datasheet", "even", "odd")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    return Graded(operators=tuple(op for part in parts for op in part.operators), **joined)


def models_of(found: dict[int, Validation]) -> list[Row]:
    """Every model at every seed, then the mean absolute error and how many were inside their interval."""
    rows: list[Row] = [{"seed": seed, **row} for seed, each in found.items() for row in model_rows(each.models)]
    off = [abs(each.predicted / each.measured - 1) for part in found.values() for each in part.models]
    inside = [each.low <= each.measured <= each.high for part in found.values() for each in part.models]
    mean: Row = {
        "seed": "all",
        "model": "mean",
        "error_percent": round(100 * float(np.mean(off)), 1),
        "inside": f"{sum(inside)} of {len(inside)}",
    }
    return [*rows, mean]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--time-limit", type=float, default=40.0, help="seconds of measuring operators per seed")
    parser.add_argument("--out", type=Path, help="folder for cpu-fresh-shapes.csv and .png and cpu-models.csv")
    options = parser.parse_args()
    names = ("cpu-fresh-shapes.csv", "cpu-fresh-shapes.png", "cpu-models.csv")
    paths = {name: options.out / name for name in names} if options.out else {}
    if options.out:
        check_writable(options.out)
    found: dict[int, Validation] = {}
    for seed in options.seeds:
        found[seed] = validate(probe("cpu"), None, seed, options.time_limit)
        sys.stderr.write(f"seed {seed}: {len(found[seed].rows.operators)} rows, {found[seed].rounds} rounds\n")
    hot = pooled([part.rows for part in found.values()])
    cold = pooled([part.cold for part in found.values() if part.cold is not None])
    first = found[options.seeds[0]]
    table = error_rows(Validation(calibration=first.calibration, rows=hot, cold=cold, models=(), rounds=first.rounds))
    models = models_of(found)
    sys.stdout.write(f"{as_csv(table)}\n{as_csv(models)}\n")
    if paths:
        write_new(paths["cpu-fresh-shapes.csv"], as_csv(table).encode())
        write_new(paths["cpu-models.csv"], as_csv(models).encode())
        draw_calibration(
            hot.measured, hot.predicted, [kind_of(op) for op in hot.operators], paths["cpu-fresh-shapes.png"]
        )


if __name__ == "__main__":
    main()
