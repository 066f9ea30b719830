"""Grade predictions on the processor at hand: `microbench validate` over several seeds, one table.

Each seed calibrates and measures its own fresh shapes in the same rounds. Run it on a quiet machine: the last column is the
error of the measurement itself, and no prediction can be better than that.

    python benchmarks/predict_cpu.py [--seeds 0 1 2] [--time-limit 60] [--csv FILE]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from microbench.devices import probe
from microbench.files import write_new
from microbench.tables import Row, as_csv
from microbench.validate import error_rows, model_rows, validate


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds of measuring operators per seed")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    table: list[Row] = []
    for seed in options.seeds:
        found = validate(probe("cpu"), None, seed, options.time_limit)
        rows = [{"seed": seed, "rounds": found.rounds, **row} for row in error_rows(found)]
        models = [{"seed": seed, **row} for row in model_rows(found.models)]
        sys.stdout.write(as_csv(rows) + "\n" + as_csv(models) + "\n")
        sys.stdout.flush()
        table += rows
    if options.csv:
        write_new(options.csv, as_csv(table).encode())


if __name__ == "__main__":
    main()
