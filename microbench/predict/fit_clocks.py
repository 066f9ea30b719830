"""Fit operators timed on a GPU by several clocks: one fit of the kernels, and what the other clocks add to it.

Rows of one operator under several clocks are one shape: a fit of all of them together would take each for a witness of
the other. So the kernel's rows alone are fitted, and cross-validated. A graph differs from it by a constant, an eager
call is the longer of the kernel and the host's issuing of it, and a cold call differs by a constant and a share of the
traffic; each of these is two numbers at most, from all rows of the family.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from threadpoolctl import threadpool_limits

from microbench.operators import table_of
from microbench.operators.features import Features, describe, join
from microbench.predict.evaluate import evaluate
from microbench.predict.figures import DeviceFigures
from microbench.predict.fit_family import (
    CONFIDENCE,
    ROWS_FOR_FIT,
    Beside,
    Scored,
    conformal_quantile,
    fit_scored,
    quantiles_by_code,
)
from microbench.predict.fit_table import doubts_of, no_time, too_few
from microbench.records import Finding, OperatorFit

if TYPE_CHECKING:
    from microbench.operators import Op

Floats = npt.NDArray[np.float64]
Columns = Mapping[str, Floats]

# The spread (ln) of what a cold call's traffic takes over a hot one's from the same memory, and its scale of noise.
_TRAFFIC_SPREAD, _NOISE = 0.3, 0.05
# Families whose kernels are those of another, seen through the same coordinates.
_KIN = {"linear": "matmul", "bmm": "matmul"}
# Quantiles of the host's time that are kept beside its median.
_TAILS = (0.05, 0.95)


def fit_clocks(
    operators: Sequence[Op], clocks: Columns, nominal: DeviceFigures, late: Callable[[], bool] = lambda: False
) -> tuple[tuple[OperatorFit, ...], tuple[Finding, ...]]:
    """Fit every family and dtype, hot and cold.

    Parameters
    ----------
    operators
        What was timed.
    clocks
        Seconds of each by clock, NaN where it was not timed: ``kernel``, and as far as known ``graph``, ``issue`` and
        ``cold``.
    nominal
        Figures known beforehand.
    late
        Asked before each fit, the largest first: whether no more should be begun.
    """
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place in np.flatnonzero(np.isfinite(clocks["kernel"])).tolist():
        groups[operators[place].row.family, operators[place].dtype].append(place)
    fits: list[OperatorFit] = []
    findings: list[Finding] = []
    unfitted: list[str] = []
    # The largest group of a family is fitted first, and is witness to its other formats and to its kin.
    first: dict[str, Beside] = {}
    for (family, dtype), members in sorted(groups.items(), key=lambda item: -len(item[1])):
        if len(members) < ROWS_FOR_FIT:
            findings.append(too_few(family, dtype, len(members)))
            continue
        if late():
            unfitted.append(f"{family} {dtype}")
            continue
        features, places = _described(operators, members)
        columns = {name: column[places] for name, column in clocks.items()}
        with threadpool_limits(limits=1, user_api="blas"):
            scored = fit_scored(features, columns["kernel"], dtype, nominal, first.get(_KIN.get(family, family)))
        first.setdefault(_KIN.get(family, family), scored.beside)
        scored = replace(scored, fit=_with_launches(scored.fit, features, columns))
        findings += doubts_of(scored.fit)
        fits.append(scored.fit)
        if "cold" in columns and np.isfinite(columns["cold"]).sum() >= ROWS_FOR_FIT:
            fits.append(_cold(scored, features, columns))
    return tuple(fits), (*findings, *no_time(unfitted))


def _described(operators: Sequence[Op], members: Sequence[int]) -> tuple[Features, npt.NDArray[np.int64]]:
    """Features of the members of a group as kernels with a warm cache, and the places of their rows."""
    table = table_of([replace(operators[place], launch="kernel", cache="hot") for place in members])
    index = np.concatenate([batch.index for batch in table.batches])
    return join([describe(batch) for batch in table.batches]), np.asarray(members)[index]


def _with_launches(fit: OperatorFit, features: Features, columns: Columns) -> OperatorFit:
    """What a launch in a graph costs beside the kernel's, and what the host takes to issue a call of each operator."""
    costs = dict(fit.cost_s)
    if "graph" in columns:
        paired = np.isfinite(columns["graph"])
        overhead = np.asarray([fit.terms.get(f"overhead.{code}", 1.0) for code in features.code])
        if paired.any():
            less = np.median((columns["kernel"] - columns["graph"])[paired] / overhead[paired])
            costs["graph"] = max(0.1 * costs["kernel"], costs["kernel"] - float(less))
    return replace(fit, cost_s=costs, issue_s=_issue(features, columns) if "issue" in columns else {})


def _issue(features: Features, columns: Columns) -> dict[str, tuple[float, float, float]]:
    found = {}
    for code in sorted(set(features.code.tolist())):
        seen = columns["issue"][(features.code == code) & np.isfinite(columns["issue"])]
        if len(seen):
            low, high = np.quantile(seen, _TAILS)
            found[str(code)] = (_short(np.median(seen)), _short(low), _short(high))
    return found


def _short(seconds: float) -> float:
    return float(f"{seconds:.4g}")


def _cold(scored: Scored, features: Features, columns: Columns) -> OperatorFit:
    """The same fit for operands that no cache holds; its interval has the errors of both steps."""
    fit = scored.fit
    timed = np.isfinite(columns["cold"])
    cold = replace(features.take(timed), cold=np.ones(int(timed.sum()), dtype=np.bool_))
    wanted = np.log(columns["cold"][timed])

    def changed(offset: Floats) -> OperatorFit:
        later = math.exp(offset[0]) * fit.cost_s["kernel"]
        return replace(
            fit,
            cost_s={launch: seconds + later for launch, seconds in fit.cost_s.items()},
            terms=fit.terms | {"bandwidth": fit.terms["bandwidth"] * math.exp(_TRAFFIC_SPREAD * offset[1])},
        )

    def residuals(offset: Floats) -> Floats:
        off = (evaluate(changed(offset), cold).log_seconds - wanted) / _NOISE
        return np.concatenate([off, [offset[0] / 2, offset[1]]])

    best = least_squares(residuals, np.array([-1.0, 0.0]), loss="soft_l1", bounds=([-8, -5], [4, 5]), max_nfev=30).x
    made = changed(best)
    hot_left = np.log(columns["kernel"][timed]) - evaluate(fit, features.take(timed)).log_seconds
    cold_left = wanted - evaluate(made, cold).log_seconds
    scores = (scored.off[timed] + cold_left - hot_left) / scored.spread[timed]
    return replace(
        made,
        cache="cold",
        rows=int(timed.sum()),
        residuals=tuple(float(f"{value:.5g}") for value in scores),
        quantile=conformal_quantile(np.abs(scores), CONFIDENCE),
        quantiles=quantiles_by_code(features.code[timed], np.abs(scores)),
        distrusted=(),
    )
