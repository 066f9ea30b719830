"""From a table of measured rows to fits of its families, and what is doubted about the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from microbench.operators.features import Features, describe, join
from microbench.operators.table import Table
from microbench.predict.figures import DeviceFigures
from microbench.predict.fit_family import ROWS_FOR_FIT, ROWS_FOR_INTERVAL, Beside, fit_scored
from microbench.predict.host import alone_seconds, work_seconds
from microbench.predict.pool import beside_of, target_of
from microbench.records import Characterisation, Finding, OperatorFit

Floats = npt.NDArray[np.float64]

# Rows that name the same operator twice and differ by more than this factor contradict each other.
CONTRADICTION = 1.5


def fit_table(
    table: Table,
    nominal: DeviceFigures | None = None,
    late: Callable[[], bool] = lambda: False,
    host: Mapping[str, float] | None = None,
    like: Sequence[Characterisation] = (),
) -> tuple[tuple[OperatorFit, ...], tuple[Finding, ...]]:
    """Fit every family, dtype and cache state of a table of measured rows.

    Parameters
    ----------
    table, nominal
        Rows with seconds, and figures known beforehand.
    late
        Asked before each fit, the largest first: whether no more should be begun.
    host
        What each row paid beside its work (`Fits.host`), which is no part of a fit.
    like
        Devices whose fits say beforehand what this one's will be like.

    Returns
    -------
    fits, findings
        Findings name rows that contradict each other, rows that are distrusted, families with too few rows or no time.
    """
    groups: dict[tuple[str, str, str], list[tuple[Features, Floats, npt.NDArray[np.int64]]]] = {}
    findings: list[Finding] = []
    for batch in table.batches:
        if batch.seconds is None:
            continue
        timed = batch.take(np.isfinite(batch.seconds))
        if len(timed) and timed.seconds is not None:
            worked = work_seconds(timed.seconds, alone_seconds(timed, host or {}))
            features, seconds, index = _merge(describe(timed), worked, timed.index, findings)
            groups.setdefault((batch.row.family, batch.dtype, batch.cache), []).append((features, seconds, index))
    fits, unfitted = [], []
    largest_first = sorted(groups.items(), key=lambda item: -sum(len(part[0]) for part in item[1]))
    for (family, dtype, cache), parts in largest_first:
        if late():
            unfitted.append(f"{family} {dtype} {cache}")
            continue
        features, seconds = join([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        if len(features) < ROWS_FOR_FIT:
            findings.append(too_few(family, dtype, len(features)))
            continue
        # A fit factorises thousands of small matrices: dealing those out to threads gains nothing, and on a busy
        # machine every barrier waits for a thread that is not running.
        with threadpool_limits(limits=1, user_api="blas"):
            beside = _like(like, features, dtype, nominal)
            made = fit_scored(features, seconds, dtype, nominal, beside).fit
        index = np.concatenate([part[2] for part in parts])
        made = replace(
            made,
            cache="cold" if cache == "cold" else "hot",
            distrusted=tuple(sorted(int(index[place]) for place in made.distrusted)),
        )
        findings += doubts_of(made)
        fits.append(made)
    return tuple(fits), (*findings, *no_time(unfitted))


def _like(
    sources: Sequence[Characterisation], features: Features, dtype: str, nominal: DeviceFigures | None
) -> Beside | None:
    """What other devices know of a family, if they do."""
    if not sources:
        return None
    cache = "cold" if bool(features.cold.all()) else "hot"
    found = beside_of(sources, features.family, cache, target_of(nominal or DeviceFigures(), dtype))
    return found[0] if found else None


def no_time(unfitted: Sequence[str]) -> list[Finding]:
    """What was left unfitted, as a finding; none where nothing was."""
    if not unfitted:
        return []
    says = f"there was no time to fit {', '.join(unfitted)}; these are predicted by the plain roofline"
    return [Finding(code="not-fitted", severity="warning", says=says, remedy="microbench run --thorough")]


def too_few(family: str, dtype: str, rows: int) -> Finding:
    """A family has fewer rows than a fit needs."""
    return Finding(
        code="too-few-rows",
        severity="warning",
        says=(
            f"{family} {dtype} has {rows} different rows; a fit needs {ROWS_FOR_FIT}, an interval {ROWS_FOR_INTERVAL}."
        ),
        remedy="Measure more shapes, small to large.",
    )


def doubts_of(made: OperatorFit) -> list[Finding]:
    """What a fit itself says against it."""
    found = []
    if made.quantile is None:
        found.append(
            Finding(
                code="no-interval",
                severity="warning",
                says=f"{made.family} {made.dtype} has {made.rows} rows; an interval needs {ROWS_FOR_INTERVAL}.",
                remedy="Measure more shapes.",
            )
        )
    if made.distrusted:
        rows = ", ".join(str(place + 1) for place in made.distrusted[:10])
        found.append(
            Finding(
                code="distrusted-rows",
                severity="warning",
                says=(
                    f"{made.family} {made.dtype}: {len(made.distrusted)} rows disagree with their neighbours: row "
                    f"{rows}."
                ),
                remedy="Measure them again.",
            )
        )
    return found


def _merge(
    features: Features, seconds: Floats, index: npt.NDArray[np.int64], findings: list[Finding]
) -> tuple[Features, Floats, npt.NDArray[np.int64]]:
    """Rows of one operator become one, with their lower median time; those that contradict each other are named."""
    keys: Sequence[bytes] = [
        row.tobytes() for row in np.column_stack([features.coordinates, features.flop, features.bytes, features.gemm])
    ]
    _, first, inverse = np.unique(np.asarray(keys, dtype=object), return_index=True, return_inverse=True)
    if len(first) == len(keys):
        return features, seconds, index
    order = np.argsort(first)
    merged = np.empty(len(first))
    for place in range(len(first)):
        times = seconds[inverse == place]
        # Of two, the lower: what disturbs a measurement makes it longer.
        merged[place] = np.sort(times)[(len(times) - 1) // 2]
        if times.max() > CONTRADICTION * times.min():
            rows = ", ".join(str(row + 1) for row in index[inverse == place][:5])
            findings.append(
                Finding(
                    code="contradictory-rows",
                    severity="warning",
                    says=(
                        f"rows {rows} name one operator, {times.max() / times.min():.1f} times apart; their lower "
                        "median is used."
                    ),
                    remedy="Keep the right one.",
                )
            )
    return features.take(first[order]), merged[order], index[first[order]]
