"""How long an operator takes on a measured device, and what limits it.

``seconds = cost(launch mode) + roofline(work, ceilings at the level that holds the working set)``, corrected by what
calibration learnt about the family where there is a fit, and with a wide interval where there is none.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from microbench.analysis.roofs import roofs as bounding
from microbench.errors import UsageError
from microbench.operators import Table
from microbench.operators.features import describe
from microbench.predict.analytic import PRODUCTS
from microbench.predict.drift import followed
from microbench.predict.evaluate import evaluate
from microbench.predict.figures import LAUNCHES
from microbench.predict.host import alone_seconds
from microbench.records import Ceiling, Characterisation, Finding, OperatorFit
from microbench.records.dtypes import DTYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microbench.operators.features import Features
    from microbench.operators.table import Batch

Floats = npt.NDArray[np.float64]

# Around a roofline without any calibration of the family: a bound is rarely beaten, and often missed by a multiple.
# In public tables of eight GPUs whole models ran at 0.40 to 0.94 of it, small operators at a fifth.
UNCALIBRATED_LOW = 0.7
UNCALIBRATED_HIGH = 5.0
# Half-width (ln) added for an operator whose siblings were measured and it was not: about a factor of two.
UNSEEN_SIBLING = 0.7
LEAST_SECONDS = 1e-9
# FLOP of a 3 x 3 convolution over those of Winograd's F(4 x 4, 3 x 3).
WINOGRAD = 4.0
_BOUNDED = ("predicted", "low", "high")
_BESIDE = (*_BOUNDED, "cost_s")
_NUMBERS = ("predicted", "low", "high", "compute_s", "memory_s", "cost_s", "flop", "bytes")
# Rows predicted at a time: a column of them is 64 KiB.
PIECE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Memory levels from the innermost out: names, byte/s, and the bytes that each holds for all threads together."""

    names: tuple[str, ...]
    bandwidth: tuple[float, ...]
    capacity: tuple[float, ...]

    def place(self, working_set: Floats, cache: str) -> npt.NDArray[np.int64]:
        """Index of the level that serves a working set: the smallest that holds it, if cold the outermost."""
        last = len(self.names) - 1
        if cache == "cold":
            return np.full(working_set.shape, last, dtype=np.int64)
        return np.minimum(np.searchsorted(np.asarray(self.capacity[:last]), working_set, side="left"), last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofs:
    """What the plain roofline of one dtype needs: a peak, memory levels, and a cost per launch mode."""

    peak: float
    peak_name: str
    memory: Levels
    cost_s: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Predictions of a table in columns (seconds): NaN, and an empty ``limiter``, where a row could not be read.

    ``issue_s`` is what the host takes to issue a call: lowest, median and highest, NaN where it was not measured.
    """

    predicted: Floats
    low: Floats
    high: Floats
    limiter: npt.NDArray[np.object_]
    level: npt.NDArray[np.object_]
    compute_s: Floats
    memory_s: Floats
    cost_s: Floats
    flop: Floats
    bytes: Floats
    basis: npt.NDArray[np.object_]
    issue_s: Floats
    findings: tuple[Finding, ...] = ()


def _best(ceilings: Sequence[Ceiling]) -> Ceiling | None:
    """Pick the ceiling that a whole operator can reach: all threads before one, bursts before what lasts, the fastest.

    Operators are timed in bursts too, so their efficiencies are shares of those.
    """
    return max(
        ceilings,
        key=lambda row: (row.scope == "device", row.threads, row.mode != "sustained", row.rate.value),
        default=None,
    )


def roofs(calibration: Characterisation, dtype: str) -> Roofs:
    """Collect the ceilings that bound a dtype.

    Raises
    ------
    UsageError
        If the calibration has no compute ceiling of that dtype or no memory ceiling.
    """
    bounds = bounding(calibration.ceilings, calibration.sheets)
    peak = _best([row for row in bounds if row.measures == "compute" and row.dtype == dtype])
    if peak is None:
        known = sorted({str(row.dtype) for row in calibration.ceilings if row.measures == "compute"})
        raise UsageError(
            f"the calibration has no {dtype} compute ceiling (it has {', '.join(known) or 'none'}); run 'microbench "
            f"run --dtype {dtype}'"
        )
    memory = memory_levels(calibration)
    if not memory.names:
        raise UsageError("the calibration has no memory ceiling; run 'microbench run' without --only")
    costs = {cost.name: cost.seconds.value for cost in calibration.costs}
    return Roofs(
        peak=peak.rate.value,
        peak_name=peak.name,
        memory=memory,
        cost_s={
            launch: next((costs[name] for name in names if name in costs), 0.0) for launch, names in LAUNCHES.items()
        },
    )


def memory_levels(calibration: Characterisation) -> Levels:
    """The levels that have a memory ceiling; none where the calibration has no such ceiling."""
    bounds = bounding(calibration.ceilings, calibration.sheets)
    found = [
        (level, _best([row for row in bounds if row.measures == "memory" and row.level == level]))
        for level in ("L1", "L2", "L3", "DRAM")
    ]
    levels = [(level, row) for level, row in found if row is not None]
    return Levels(
        names=tuple(level for level, _ in levels),
        bandwidth=tuple(row.rate.value for _, row in levels),
        capacity=tuple(_capacity(calibration, level, row.threads) for level, row in levels),
    )


def _capacity(calibration: Characterisation, level: str, threads: int) -> float:
    """Bytes that a level holds for all threads together: as seen where a sweep saw it, else as advertised."""
    seen = next((row for row in calibration.fits.levels if row.name == level), None)
    advertised = calibration.device.level(level)
    if advertised is None and seen is None:
        return 0.0
    copies = max(1, threads // (advertised.shared_by or 1)) if advertised and level != "L3" else 1
    one = seen.seen_to_bytes if seen else (advertised.capacity_bytes or 0 if advertised else 0)
    return float(one * copies)


def plain(batch: Batch, bounds: Roofs) -> dict[str, Floats]:
    """Seconds of the plain roofline, term by term."""
    counts = batch.counts()
    flop = counts["flop"].astype(np.float64)
    traffic = counts["bytes_read"].astype(np.float64) + counts["bytes_written"]
    level = bounds.memory.place(traffic, batch.cache)
    compute = flop / bounds.peak
    memory = traffic / np.asarray(bounds.memory.bandwidth)[level]
    cost = np.full(len(batch), bounds.cost_s[batch.launch])
    return {
        "flop": flop,
        "bytes": traffic,
        "level": level.astype(np.float64),
        "compute": compute,
        "memory": memory,
        "cost": cost,
    }


def least_seconds(calibration: Characterisation, batch: Batch) -> Floats:
    """What no operator of a batch can be faster than by measured loops; zeros where none was measured.

    Bytes count at the level that holds half of them, since a level's size is not known better. Where Winograd's
    algorithm applies, its least number of operations counts.
    """
    try:
        bounds = roofs(calibration, batch.dtype)
    except UsageError:
        return np.zeros(len(batch))
    if calibration.environment is None:
        return np.zeros(len(batch))
    terms = plain(batch, bounds)
    # What a processor's cold rows find is a cache that others used, and not an empty one.
    level = bounds.memory.place(terms["bytes"] / 2, "hot" if calibration.device.kind == "cpu" else batch.cache)
    compute = terms["compute"] / (1.0 if batch.row.winograd is None else WINOGRAD)
    return np.asarray(np.maximum(compute, terms["bytes"] / np.asarray(bounds.memory.bandwidth)[level]))


def predict_table(
    table: Table, calibration: Characterisation, footprint: float = 0.0, *, alone: bool = True
) -> Columns:
    """Predict every row of a table, a column at a time.

    Parameters
    ----------
    table, calibration
        Rows, and the device.
    footprint
        Bytes that a whole model reads between two uses of one weight; 0 for operators on their own.
    alone
        Whether each is called on its own, and pays for the memory of its result (`host.alone_seconds`).

    Raises
    ------
    UsageError
        If no dtype of the table can be predicted from the calibration.
    """
    columns: dict[str, Any] = {name: np.full(table.size, np.nan) for name in _NUMBERS}
    columns |= {"issue_s": np.full((table.size, 3), np.nan)}
    columns |= {name: np.full(table.size, "", dtype=object) for name in ("limiter", "level", "basis")}
    calibration, told = followed(calibration)
    findings, refused = list(told), list[str]()
    held = memory_levels(calibration)
    if not held.names:  # fitted from rows: one memory, as large as need be
        held = Levels(names=("DRAM",), bandwidth=(float("nan"),), capacity=(0.0,))
    for batch in table.batches:
        made, finding = _fit_for(calibration, batch)
        findings += [finding] if finding is not None else []
        try:
            found = _local(made, batch, footprint, held) if made else _plain(batch, roofs(calibration, batch.dtype))
            floor = least_seconds(calibration, batch) if made else np.zeros(len(batch))
            found |= {name: np.maximum(found[name], floor) for name in _BOUNDED}
            beside = alone_seconds(batch, calibration.fits.host) if alone else np.zeros(len(batch))
            _fill(columns, batch, found | {name: found[name] + beside for name in _BESIDE})
        except UsageError as error:
            refused.append(str(error))
            findings.append(Finding(code="no-ceiling", severity="error", says=str(error)))
    if table.batches and len(refused) == len(table.batches):
        raise UsageError(refused[0])
    return Columns(**columns, findings=tuple(dict.fromkeys(findings)))


def _fit_for(calibration: Characterisation, batch: Batch) -> tuple[OperatorFit | None, Finding | None]:
    """Fit of a batch's family, dtype and cache state, or of the other state, and a finding about it."""
    family = batch.row.family
    of_family = [row for row in calibration.fits.operators if row.family == family]
    fits = [row for row in of_family if row.dtype == batch.dtype]
    if not fits and family not in PRODUCTS:
        # What moves bytes takes as long in any format of that width.
        fits = _as_wide(of_family, batch.dtype)
        if fits:
            wide = "as wide" if DTYPES[fits[0].dtype].bits == DTYPES[batch.dtype].bits else "nearest in width"
            says = f"{family} {batch.dtype} is predicted as {fits[0].dtype}, which is {wide} and was calibrated."
            finding = Finding(code="other-format", severity="info", says=says)
            return next((row for row in fits if row.cache == batch.cache), fits[0]), finding
    if not fits:
        says = (
            f"{family} {batch.dtype} was never calibrated on this device; the plain roofline is used, with a wide "
            "interval."
        )
        return None, Finding(
            code="family-not-calibrated", severity="warning", says=says, remedy="microbench run, with torch installed"
        )
    chosen = next((row for row in fits if row.cache == batch.cache), fits[0])
    if chosen.cache != batch.cache:
        says = (
            f"{family} {batch.dtype} was calibrated with a {chosen.cache} cache and is asked for a {batch.cache} one."
        )
        return chosen, Finding(code="other-cache", severity="info", says=says)
    return chosen, None


def _as_wide(fits: Sequence[OperatorFit], dtype: str) -> list[OperatorFit]:
    """Fits of formats of a format's width.

    Of integers, which have no roofline of their own, and on a device without rows of its own those nearest to it.
    """
    bits = DTYPES[dtype].bits
    apart = {row.dtype: abs(math.log2(DTYPES[row.dtype].bits / bits)) for row in fits}
    least = min(apart.values(), default=0.0)
    if least and DTYPES[dtype].kind != "int" and not any(row.sources for row in fits):
        return []
    return [row for row in fits if apart[row.dtype] == least]


def _local(made: OperatorFit, batch: Batch, footprint: float, held: Levels) -> dict[str, Any]:
    """Columns of a calibrated batch, computed in pieces that stay in cache; levels named by what holds the bytes."""
    size = len(batch)
    columns: dict[str, Any] = {name: np.empty(size) for name in _NUMBERS}
    columns |= {"issue_s": np.empty((size, 3))}
    columns |= {name: np.empty(size, dtype=object) for name in ("limiter", "level", "basis")}
    names = np.asarray(held.names, dtype=object)

    def fill(start: int) -> None:
        part = slice(start, min(start + PIECE, size))
        features = describe(batch.take(part), footprint)
        level = held.place(features.bytes, batch.cache)
        piece = {name: column[part] for name, column in columns.items()}
        terms = _fill_piece(piece, made, features)
        piece["level"][:], piece["limiter"][:] = names[level], limiters(held.names, level, terms)

    starts = range(0, size, PIECE)
    if len(starts) == 1:
        fill(0)
    else:
        # numpy lets go of the interpreter inside a piece.
        with ThreadPoolExecutor(max_workers=min(8, len(os.sched_getaffinity(0)))) as pool:
            list(pool.map(fill, starts))
    return columns


def _fill_piece(columns: dict[str, Any], made: OperatorFit, features: Features) -> tuple[Floats, Floats, Floats]:
    """All columns but those that name things; returns the terms compute, memory and cost."""
    # Waves of tiles are counted in single precision: whole numbers to 2^24, the rest to seven digits.
    issue, eager = _issue(made, features), np.asarray(features.launch == "eager") & bool(made.issue_s)
    launch = np.where(eager, "kernel", features.launch).astype(object)
    found = evaluate(made, replace(features, gemm=np.asfortranarray(features.gemm, dtype=np.float32), launch=launch))
    seconds = np.exp(found.log_seconds)
    width = found.half_width
    carried = made.sources and not made.residuals
    said = f"carried from {', '.join(made.sources)}" if carried else f"conformal on {made.rows} rows"
    basis = np.full(len(features), said, dtype=object)
    if made.codes:
        # A sibling of the operators that were measured: the family's physics holds, its factor is a guess.
        unseen = set(features.code.tolist()).difference(made.codes)
        if unseen:
            strange = np.isin(features.code.astype(str), list(unseen))
            width = np.where(strange, np.hypot(width, UNSEEN_SIBLING), width)
            basis[strange] = f"{said} of other {made.family} operators"
    if made.quantile is None:
        width = np.full(len(features), np.log(UNCALIBRATED_HIGH))
        basis[:] = f"{made.rows} rows are too few for an interval"
    three = np.stack([seconds * np.exp(-width), seconds, seconds * np.exp(width)], axis=1)
    # Eager code waits for the slower of host and device.
    three = np.where(eager[:, None], np.fmax(three, issue), three)
    cost = found.cost + (three[:, 1] - seconds)
    columns["low"][:], columns["predicted"][:], columns["high"][:] = three.T
    columns["basis"][:], columns["issue_s"][:] = basis, issue
    columns["compute_s"][:], columns["memory_s"][:], columns["cost_s"][:] = found.compute, found.memory, cost
    columns["flop"][:], columns["bytes"][:] = features.flop, features.bytes
    return found.compute, found.memory, cost


def _issue(made: OperatorFit, features: Features) -> Floats:
    """Lowest, median and highest seconds of issuing each row's call; what was not measured is as its siblings are."""
    found = np.full((len(features), 3), np.nan)
    if made.issue_s:
        found[:] = np.median(np.asarray(list(made.issue_s.values())), axis=0)[[1, 0, 2]]
    for code, (middle, low, high) in made.issue_s.items():
        found[features.code == code] = low, middle, high
    return found


def _plain(batch: Batch, bounds: Roofs) -> dict[str, Any]:
    """Columns of a batch whose family was never calibrated."""
    terms = plain(batch, bounds)
    # Work of zero bytes and no launch cost still takes the clock's resolution to notice.
    seconds = np.maximum(terms["cost"] + np.maximum(terms["compute"], terms["memory"]), LEAST_SECONDS)
    level = terms["level"].astype(np.int64)
    return {
        "predicted": seconds,
        "low": UNCALIBRATED_LOW * seconds,
        "high": UNCALIBRATED_HIGH * seconds,
        "basis": f"roofline without a fit of the family: x{UNCALIBRATED_LOW} .. x{UNCALIBRATED_HIGH}",
        "compute_s": terms["compute"],
        "memory_s": terms["memory"],
        "cost_s": terms["cost"],
        "flop": terms["flop"],
        "bytes": terms["bytes"],
        "level": np.asarray(bounds.memory.names, dtype=object)[level],
        "limiter": limiters(bounds.memory.names, level, (terms["compute"], terms["memory"], terms["cost"])),
        "issue_s": np.full((len(batch), 3), np.nan),
    }


def _fill(columns: dict[str, Any], batch: Batch, found: dict[str, Any]) -> None:
    for name, values in found.items():
        columns[name][batch.index] = values


def _largest(compute: Floats, memory: Floats, cost: Floats) -> npt.NDArray[np.int64]:
    """0 where compute, 1 where memory, 2 where cost is the largest term."""
    found = np.where(compute >= memory, 0, 1)
    found[(cost > compute) & (cost > memory)] = 2
    return found


def limiters(
    names: Sequence[str], level: npt.NDArray[np.int64], terms: tuple[Floats, Floats, Floats]
) -> npt.NDArray[np.object_]:
    """Name the largest term of each row: ``compute``, ``memory:<level>`` or ``cost``."""
    said = np.asarray(["compute", "cost", *(f"memory:{name}" for name in names)], dtype=object)
    chosen: npt.NDArray[np.object_] = said[np.choose(_largest(*terms), [0, 2 + level, 1])]
    return chosen
