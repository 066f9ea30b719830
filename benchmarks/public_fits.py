"""Fits of devices from public tables: each alone, then beside the others, with how far the others are off on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from public_tables import Rows, chip_of, halves

from microbench.predict import pool
from microbench.predict.figures import DeviceFigures
from microbench.predict.fit import fit
from microbench.predict.operator import predict_table
from microbench.predict.transfer import carry, families_of
from microbench.records import Characterisation, OperatorFit

# Rows of a set that a device is fitted to, and that it is graded on by the others.
SOURCE_ROWS, GRADED_ROWS = 400, 300
_NORMAL = 1.645

# Ceilings by the key of a set and by how they are known.
Figures = Mapping[tuple[str, str], DeviceFigures]
Fits = Mapping[str, Characterisation]


def key_of(rows: Rows) -> str:
    """What tells a set from all others."""
    families = "+".join(sorted({family for family, _, _ in families_of(rows.table)}))
    return f"{rows.device}, {rows.kind}, {rows.dtype}, {families}, {rows.table.size} rows"


def some(rows: Rows, count: int, seed: int) -> Rows:
    """So many rows of the half that may be seen."""
    seen = halves(rows)[0]
    return rows.take(np.sort(np.random.default_rng(seed).permutation(seen)[:count]))


def fitted(rows: Rows, figures: Figures, like: Sequence[Characterisation] = ()) -> Characterisation:
    """A set's own fit, beside those of others where they are given."""
    return fit(some(rows, SOURCE_ROWS, 0).table, on=figures[key_of(rows), "measured"], like=like)


def beside_each_other(sets: Sequence[Rows], alone: Fits, figures: Figures) -> dict[str, Characterisation]:
    """Every set fitted anew with what other chips say beforehand: what they share comes to lie together."""
    found = {}
    for rows in sets:
        others = [alone[key_of(other)] for other in sets if chip_of(other.device) != chip_of(rows.device)]
        found[key_of(rows)] = fitted(rows, figures, others) if others else alone[key_of(rows)]
    return found


def with_errors(sets: Sequence[Rows], fits: Fits, figures: Figures) -> dict[str, Characterisation]:
    """Every set with how far other chips' fits are off on it, by kind of ceilings."""
    found = {}
    for rows in sets:
        made = fits[key_of(rows)]
        others = [fits[key_of(other)] for other in sets if chip_of(other.device) != chip_of(rows.device)]
        operators = tuple(_with_error(row, rows, others, figures) for row in made.fits.operators)
        found[key_of(rows)] = replace(made, fits=replace(made.fits, operators=operators))
    return found


def _with_error(row: OperatorFit, rows: Rows, others: Sequence[Characterisation], figures: Figures) -> OperatorFit:
    spreads = {}
    for basis, kind in (("measured", "measured"), ("nominal", "printed")):
        known = figures[key_of(rows), basis]
        if pool.beside_of(others, row.family, row.cache, pool.target_of(known, row.dtype)) is None:
            continue
        test = some(rows, GRADED_ROWS, 1)
        held = carry(others, known, families_of(test.table))
        said = predict_table(test.table, held)
        keep = np.isfinite(said.predicted)
        off = np.abs(np.log(test.seconds / said.predicted))[keep]
        near = (np.log(said.high / said.predicted)[keep] / _NORMAL) ** 2
        spreads[kind] = _covering(off, np.maximum(near - held.fits.operators[0].elsewhere[kind] ** 2, 0))
    return replace(row, elsewhere=spreads)


def _covering(off: np.ndarray, near: np.ndarray) -> float:
    """The spread that has to be added for nine errors in ten to lie within the interval."""
    low, high = 0.02, 3.0
    for _ in range(30):
        middle = (low * high) ** 0.5
        covers = (off <= _NORMAL * np.sqrt(near + middle**2)).mean() >= 0.9
        low, high = (low, middle) if covers else (middle, high)
    return float(f"{high:.3g}")
