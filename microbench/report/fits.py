"""Fits as rows of tables: a row for each calibrated operator family, and for each roofline and memory level."""

from __future__ import annotations

import math
from dataclasses import dataclass

from microbench.records import Characterisation, OperatorFit, RooflineFit, units
from microbench.records.dtypes import DTYPES
from microbench.report import view
from microbench.report.side import unit_words
from microbench.report.sweeps import plural

# Half intervals above this, in ln, are written as a factor and not as a percentage.
_DOUBLE = math.log(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRow:
    """The fit of one operator family as text: fixed cost, the rates it approaches, how wide its intervals are."""

    family: str
    dtype: str
    rows: str
    cost: str
    compute: str
    memory: str
    near: str
    far: str


def fit_rows(characterisation: Characterisation) -> tuple[FitRow, ...]:
    """One row for each calibrated operator family and cache state."""
    return tuple(_fit(fit) for fit in characterisation.fits.operators)


HEADING = (
    "family",
    "dtype",
    "rows",
    "fixed cost",
    "compute roof",
    "memory roof",
    "interval beside",
    "interval far off",
)


def cells(row: FitRow) -> tuple[str, ...]:
    """The cells of a row, in the order of `HEADING`."""
    return (row.family, row.dtype, row.rows, row.cost, row.compute, row.memory, row.near, row.far)


def explained(characterisation: Characterisation) -> str:
    """What the columns of the table of families mean, in two sentences."""
    shares = sorted({fit.confidence for fit in characterisation.fits.operators})
    held = " or ".join(f"{100 * share:g} %" for share in shares)
    return (
        "Fixed cost and roofs are those that the family's own timings approach. The interval of a prediction is meant "
        f"to hold {held} of fresh shapes, and widens from shapes beside those timed to shapes far off; 'microbench "
        "validate' tests it."
    )


def _fit(fit: OperatorFit) -> FitRow:
    near, far = _widths(fit)
    rate_unit = DTYPES[fit.dtype].rate_unit
    return FitRow(
        family=fit.family if fit.cache == "hot" else f"{fit.family}, cold",
        dtype=fit.dtype,
        rows=f"{fit.rows}",
        cost=", ".join(f"{launch} {units.seconds(value)}" for launch, value in fit.cost_s.items()) or view.UNKNOWN,
        compute=units.rate(fit.terms["peak"], rate_unit, 3) if "peak" in fit.terms else view.UNKNOWN,
        memory=units.rate(fit.terms["bandwidth"], "byte/s", 3) if "bandwidth" in fit.terms else view.UNKNOWN,
        near=near,
        far=far,
    )


def _widths(fit: OperatorFit) -> tuple[str, str]:
    """Half of the interval beside the timed shapes, and far from all of them.

    Either is the conformal quantile times the spread that is expected there.
    """
    noise, amplitude = fit.correction.get("noise"), fit.correction.get("amplitude", 0.0)
    if fit.quantile is None or noise is None:
        return "none", "none"
    quantiles = (fit.quantile, *fit.quantiles.values())
    ends = (min(quantiles), max(quantiles))
    return _span(ends, noise), _span(ends, math.hypot(noise, amplitude))


def _span(ends: tuple[float, float], spread: float) -> str:
    low, high = (width_text(end * spread) for end in ends)
    if low == high:
        return low
    return f"{low.removesuffix(' %')} to {high.removeprefix('± ')}" if high.endswith("%") else f"{low} to {high}"


def width_text(width: float) -> str:
    """Half of an interval in ln as a percentage, or as a factor where it is wide.

    Examples
    --------
    >>> width_text(0.22), width_text(1.2), width_text(800.0)
    ('± 25 %', 'factor 3.3', 'factor 1e+30')
    """
    if width <= _DOUBLE:
        return f"± {100 * math.expm1(width):.0f} %"
    return f"factor {math.exp(min(width, math.log(1e30))):.2g}"


def roofline_rows(characterisation: Characterisation) -> tuple[tuple[str, ...], ...]:
    """The fitted rooflines as a table with a heading row, levels from near to far; empty without fits."""
    fits = characterisation.fits.rooflines
    gpu = characterisation.device.kind == "cuda"
    rows = [_roofline(fit, level, gpu=gpu) for fit in fits for level in view.NEAR_TO_FAR if level in fit.bandwidth]
    return (
        (("fit", "data in", "peak", "bandwidth", "ridge point", "sharpness", "residual (rms, worst)"), *rows)
        if rows
        else ()
    )


def _roofline(fit: RooflineFit, level: str, *, gpu: bool) -> tuple[str, ...]:
    ridge = fit.ridge.get(level)
    where = "whole device" if gpu else plural(fit.threads, "thread")
    path = ", the legacy path" if fit.legacy else ", sustained" if fit.mode == "sustained" else ""
    residual = view.UNKNOWN
    if fit.rms_log_residual is not None:
        worst = f", {100 * math.expm1(fit.worst_log_residual):+.1f} %" if fit.worst_log_residual is not None else ""
        residual = f"{100 * math.expm1(fit.rms_log_residual):.1f} %{worst}"
    unit = unit_words(fit.unit, "cuda") if gpu else fit.unit
    return (
        f"{' '.join(filter(None, (fit.dtype, unit, fit.variant)))}{path}, {where}",
        level,
        units.rate(fit.peak, "FLOP/s"),
        units.rate(fit.bandwidth[level], "byte/s"),
        f"{units.digits(ridge, 3)} FLOP/byte" if ridge else view.UNKNOWN,
        view.UNKNOWN if fit.sharpness is None else units.digits(fit.sharpness, 3),
        residual,
    )
