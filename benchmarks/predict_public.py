"""Grade predictions for devices held out whole, on public tables of measured operators: a grid that anyone can print.

For each device its operators are predicted from the fits of all other chips and from its ceilings, which are nominal
or, by the one rule of `public_tables`, seen in half of its rows; then from 20 and from 200 of its rows beside. The
other half is graded; with rows, every shape that was drawn is left out of the test. A plain Gaussian process on
log(seconds / roofline) has the same rows: those of the other devices and those drawn.

    python benchmarks/predict_public.py --data DIR [--groups gemm ...] [--rows 0 20 200] [--csv FILE] [--worst FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from plain_gaussian_process import predicted as plainly
from public_fits import beside_each_other, fitted, key_of, some, with_errors
from public_tables import Rows, ceilings, chip_of, halves, tables
from threadpoolctl import threadpool_limits

from microbench.operators.features import describe
from microbench.predict.figures import DeviceFigures, datasheet_figures
from microbench.predict.fit import fit
from microbench.predict.operator import Columns, predict_table
from microbench.predict.pool import KIN
from microbench.predict.transfer import carry, families_of
from microbench.records import Characterisation

GROUPS = ("gemm", "bmm", "convolution", "attention", "memory")
# Rows of all other devices together that the plain process has.
PLAIN_ROWS = 150
COLUMNS = ("datasheet_percent", "plain_gp_percent", "mean_error_percent", "median_error_percent", "coverage_percent",
           "half_width")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All tables, and the ceilings of all their devices."""

    sets: list[Rows]
    figures: dict[tuple[str, str], DeviceFigures]
    options: argparse.Namespace

    def others(self, rows: Rows) -> list[Rows]:
        """Sets of the same kind, of devices that are not the same chip."""
        families = {family for family, _, _ in families_of(rows.table)}
        return [
            other
            for other in self.sets
            if chip_of(other.device) != chip_of(rows.device)
            and {KIN.get(family, family) for family, _, _ in families_of(other.table)}
            == {KIN.get(family, family) for family in families}
        ]

    def sources(self, rows: Rows) -> list[Characterisation]:
        """Fits of all other chips that have sets of this kind, fitted without a look at the one held out."""
        others = self.others(rows)
        said = f"{sorted(map(key_of, others))} {self.options.beside}"
        made: list[Characterisation] = kept(self.options.cache, said, lambda: self._fitted(others))
        return made

    def _fitted(self, others: list[Rows]) -> list[Characterisation]:
        alone = {
            key_of(rows): kept(self.options.cache, key_of(rows), partial(fitted, rows, self.figures)) for rows in others
        }
        if self.options.beside:
            alone = beside_each_other(others, alone, self.figures)
        return list(with_errors(others, alone, self.figures).values())


def world(options: argparse.Namespace) -> World:
    """Read the tables, and make the ceilings."""
    every = tables(options.data)
    figures: dict[tuple[str, str], DeviceFigures] = {}
    for rows in every:
        figures[key_of(rows), "measured"] = ceilings(every, rows)
        figures[key_of(rows), "nominal"] = datasheet_figures(rows.device)
    return World(sets=[rows for rows in every if rows.group in options.groups], figures=figures, options=options)


def kept(folder: Path | None, key: str, make: Callable[[], Any]) -> Any:
    """What a function makes, kept in a folder under a key."""
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.pickle" if folder else None
    if path is not None and path.exists():
        return pickle.loads(path.read_bytes())  # noqa: S301 - this program wrote it
    started = time.monotonic()
    made = make()
    sys.stderr.write(f"{key[:60]}: {time.monotonic() - started:.0f} s\n")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(made))
    return made


def roofline(rows: Rows, figures: DeviceFigures) -> np.ndarray:
    """Seconds of the plain roofline."""
    peak = figures.peak.get(rows.dtype, np.inf)
    moved = rows.column("bytes_read", "bytes_written") / (figures.bandwidth or 1.0)
    return np.maximum(rows.column("flop") / peak, moved)


def coordinates(rows: Rows) -> np.ndarray:
    """What the plain process sees of rows: logarithms of their shapes, and which operator it is."""
    found: np.ndarray | None = None
    codes = sorted({batch.row.name for batch in rows.table.batches})
    for batch in rows.table.batches:
        made = describe(batch).coordinates
        if found is None:
            found = np.zeros((rows.table.size, made.shape[1] + len(codes)))
        found[batch.index, : made.shape[1]] = made
        found[batch.index, made.shape[1] + codes.index(batch.row.name)] = 1.0
    assert found is not None
    return found


def plain_error(known: World, test: Rows, drawn: Rows | None, kind: tuple[str, str]) -> float:
    """Mean error in percent of the plain process with the same rows; ``kind`` is the set and how ceilings are known."""
    key, basis = kind
    alike = known.others(test)
    alike = [rows for rows in alike if rows.dtype == test.dtype and rows.group == test.group] or alike
    share = PLAIN_ROWS // max(len(alike), 1)
    parts = [(some(rows, share, 0), known.figures[key_of(rows), basis]) for rows in alike]
    if drawn is not None:
        parts.append((drawn, known.figures[key, basis]))
    if not parts:
        return float("nan")
    seen = np.concatenate([coordinates(rows) for rows, _ in parts])
    wanted = np.concatenate([np.log(rows.seconds / roofline(rows, figures)) for rows, figures in parts])
    said = plainly(seen, wanted, coordinates(test))
    off = np.exp(said) * roofline(test, known.figures[key, basis]) / test.seconds - 1
    return 100 * float(np.abs(off).mean())


def tested(rows: Rows, drawn: Rows | None, most: int) -> Rows:
    """Rows of the graded half, without shapes that were drawn where there are enough others."""
    graded = np.random.default_rng(1).permutation(halves(rows)[1])
    seen = set(drawn.shape) if drawn is not None else set()
    if len(set(rows.shape)) > 2 * len(seen):
        graded = np.asarray([row for row in graded if rows.shape[row] not in seen])
    return rows.take(np.sort(graded[:most]))


def graded(known: World, rows: Rows, cell: tuple[str, int, int]) -> tuple[dict[str, float], pd.DataFrame]:
    """Figures of one draw, and every row of it."""
    basis, count, seed = cell
    figures = known.figures[key_of(rows), basis]
    drawn = some(rows, count, 100 + seed) if count else None
    test = tested(rows, drawn, known.options.tested)
    sources = known.sources(rows)
    if drawn is None:
        held = carry(sources, figures, families_of(test.table))
    else:
        held = fit(drawn.table, like=sources, on=figures)
    said: Columns = predict_table(test.table, held)
    exact = test.seconds
    sheet = roofline(test, known.figures[key_of(rows), "nominal"])
    off = np.abs(said.predicted / exact - 1)
    inside = (said.low <= exact) & (exact <= said.high)
    shares = {
        "datasheet_percent": 100 * float(np.abs(sheet / exact - 1).mean()),
        "plain_gp_percent": plain_error(known, test, drawn, (key_of(rows), basis))
        if not known.options.without_plain
        else float("nan"),
        "mean_error_percent": 100 * float(off.mean()),
        "median_error_percent": 100 * float(np.median(off)),
        "coverage_percent": 100 * float(inside.mean()),
        "half_width": float(np.exp(np.mean(np.log(said.high / said.low)) / 2)),
    }
    frame = pd.DataFrame({"predicted": said.predicted, "measured": exact, "inside": inside})
    frame["row"] = described(test)
    return shares, frame


def described(rows: Rows) -> list[str]:
    """Rows as people write them."""
    found = [""] * rows.table.size
    for batch in rows.table.batches:
        for place, row in enumerate(batch.index):
            sizes = " ".join(f"{key}={int(column[place])}" for key, column in batch.shape.items())
            found[row] = f"{batch.row.name} {batch.dtype} {sizes}"
    return found


def grid(known: World, options: argparse.Namespace) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Every cell of every set: means over the seeds."""
    for rows in known.sets:
        if options.devices and not any(word in rows.device for word in options.devices):
            continue
        if not known.others(rows):
            continue
        for basis in options.basis:
            for count in options.rows:
                if 2 * len(rows.shape) < 3 * count:
                    continue
                seeds = range(options.seeds if count else 1)
                draws = [graded(known, rows, (basis, count, seed)) for seed in seeds]
                means = {name: float(np.mean([draw[0][name] for draw in draws])) for name in COLUMNS}
                label = {
                    "group": rows.group,
                    "device": rows.device,
                    "dtype": rows.dtype,
                    "family": next(iter(families_of(rows.table)))[0],
                    "ceilings": basis,
                    "rows": count,
                }
                yield label | {name: round(value, 2) for name, value in means.items()}, draws[0][1]


def main() -> None:
    """Print the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the public tables")
    parser.add_argument("--rows", type=int, nargs="+", default=[0, 20, 200])
    parser.add_argument("--groups", nargs="+", default=list(GROUPS))
    parser.add_argument("--basis", nargs="+", default=["measured", "nominal"])
    parser.add_argument("--devices", nargs="+", help="grade only devices whose name has one of these words")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tested", type=int, default=1000, help="rows graded of a set at most")
    parser.add_argument("--without-plain", action="store_true", help="leave out the plain Gaussian process")
    parser.add_argument("--beside", action="store_true", help="fit the other devices beside each other")
    parser.add_argument("--cache", type=Path, help="folder that keeps the fits of devices between calls")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--worst", type=Path, help="write the ten worst rows of the fits from 200 rows")
    options = parser.parse_args()
    with threadpool_limits(limits=1, user_api="blas"):
        known = world(options)
        listed, worst = [], []
        for row, frame in grid(known, options):
            listed.append(row)
            worst.append(frame.assign(device=row["device"], ceilings=row["ceilings"], rows=row["rows"]))
            sys.stdout.write(
                " ".join(f"{value:>8}" if isinstance(value, float) else f"{value!s:<9}" for value in row.values())
                + "\n"
            )
            sys.stdout.flush()
    frame = pd.DataFrame(listed)
    means = frame.groupby(["group", "ceilings", "rows"], sort=False)[list(COLUMNS)].mean().round(2).reset_index()
    sys.stdout.write(f"\nmeans over sets\n{means.to_string(index=False)}\n")
    if options.csv:
        pd.concat([frame, means.assign(device="mean")]).to_csv(options.csv, index=False, lineterminator="\n")
    if options.worst:
        rows = pd.concat(worst)
        rows = rows[rows.rows == max(options.rows)]
        rows["factor"] = np.exp(np.abs(np.log(rows.predicted / rows.measured)))
        rows.sort_values("factor", ascending=False).head(10).to_csv(options.worst, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
