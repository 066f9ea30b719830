"""The data of the page's chart that can be used: every roof, slope, fit and point, and the raw samples of a ceiling.

Numbers are SI and unrounded but for the samples, whose rates keep four digits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from microbench.analysis.roofs import roofs
from microbench.errors import MicrobenchError
from microbench.operators.core import parse
from microbench.records import Ceiling, Characterisation, OperatorTiming, RooflineFit, Samples, Sheet, units
from microbench.report import style, view
from microbench.report.roofline_scene import residuals
from microbench.report.sweeps import plural

# A page is passed around: of so many samples of a round the fastest and the slowest stay, and some between.
_MOST_SAMPLES = 24
# The name of a dtype's colour, as the style sheet of the page knows it.
_COLOURS = {dtype: style.VARIABLES[colour] for dtype, colour in style.DTYPE_COLOURS.items()}


def data(characterisation: Characterisation) -> dict[str, Any]:
    """All that the chart can show, as JSON takes it.

    Returns
    -------
    dict
        ``roofs``, ``slopes`` and ``fits`` with their thread counts and modes; timed ``operators``; ``samples`` by case.
    """
    compute, memory = ([*_rows(characterisation, measures)] for measures in ("compute", "memory"))
    threads = sorted({row["threads"] for row in (*compute, *memory)})
    return {
        "threads": [[count, view.threads_text(characterisation, count)] for count in threads],
        "colours": _COLOURS,
        "roofs": compute,
        "slopes": memory,
        "fits": [_fit(fit) for fit in characterisation.fits.rooflines],
        "operators": [*_operators(characterisation.fits.timings)],
        "samples": _samples(characterisation),
    }


def point_rows(characterisation: Characterisation) -> tuple[tuple[str, ...], ...]:
    """The measured points of the intensity sweep as a table: a heading row, then a row a point."""
    rows = [
        (
            " ".join(word for word in (fit.dtype, fit.variant, fit.mode if fit.mode == "sustained" else "") if word),
            point.level,
            plural(fit.threads, "thread"),
            f"{point.intensity:.4g}",
            _flops(point.rate),
            _flops(point.fitted),
            f"{100 * away:+.1f} %",
        )
        for fit, point, away in residuals(characterisation.fits.rooflines)
    ]
    return (("loop", "level", "threads", "FLOP/byte", "measured", "fitted", "above fit"), *rows) if rows else ()


def unit(ceiling: Ceiling) -> str:
    """The unit of a ceiling's rate as it takes a prefix."""
    return view.rate_unit(ceiling).replace("byte", "B")


def _flops(value: float) -> str:
    return units.rate(value, "FLOP/s")


def _rows(characterisation: Characterisation, measures: str) -> Iterable[dict[str, Any]]:
    """The best ceiling of each roof (dtype and unit) or slope (level and access), for each thread count and mode."""
    best: dict[tuple[Any, ...], Ceiling] = {}
    for ceiling in roofs(view.table_ceilings(characterisation), characterisation.sheets):
        if ceiling.measures != measures or not style.drawable(ceiling.rate.value):
            continue
        kind = "library" if ceiling.mode == "library" else ceiling.unit
        what = (ceiling.dtype, kind) if measures == "compute" else (ceiling.level, ceiling.access)
        key = (*what, ceiling.threads, ceiling.mode)
        if None not in what and (key not in best or ceiling.rate.value > best[key].rate.value):
            best[key] = ceiling
    for ceiling in best.values():
        yield {
            "dtype": ceiling.dtype,
            "unit": "library" if ceiling.mode == "library" else ceiling.unit,
            "level": ceiling.level,
            "access": ceiling.access,
            "threads": ceiling.threads,
            "mode": ceiling.mode,
            "rate": ceiling.rate.value,
            "low": ceiling.rate.low,
            "high": ceiling.rate.high,
            "converged": ceiling.converged,
            "case": ceiling.case,
            "per": unit(ceiling),
        }


def _fit(fit: RooflineFit) -> dict[str, Any]:
    return {
        "dtype": fit.dtype,
        "variant": fit.variant,
        "threads": fit.threads,
        "mode": fit.mode,
        "legacy": fit.legacy,
        "peak": fit.peak,
        "sharpness": fit.sharpness,
        "bandwidth": fit.bandwidth,
        "points": [[point.level, point.intensity, point.rate, point.fitted] for _, point, _ in residuals([fit])],
    }


def _operators(timings: Iterable[OperatorTiming]) -> Iterable[dict[str, Any]]:
    """The timed operators that have arithmetic and traffic: what was called, seconds, FLOP/byte and FLOP/s."""
    for timing in timings:
        if timing.cache != "hot" or timing.launch == "issue":
            continue
        text = f"{timing.op}:{timing.params.replace(';', ',')}"
        try:
            work = parse(text, timing.dtype).work
        except (MicrobenchError, ValueError):
            continue  # of a later version
        rate = work.flop / timing.seconds
        if work.intensity and style.drawable(work.intensity) and style.drawable(rate):
            yield {
                "says": f"{timing.op} {timing.dtype} {timing.params}",
                "dtype": timing.dtype,
                "launch": timing.launch,
                "seconds": timing.seconds,
                "intensity": work.intensity,
                "rate": rate,
            }


def _samples(characterisation: Characterisation) -> dict[str, list[list[Any]]]:
    """By case of a ceiling: for each round when it began, and the rates of its samples."""
    sheets = {sheet.name: sheet for sheet in characterisation.sheets}
    wanted = {ceiling.case: ceiling for ceiling in view.table_ceilings(characterisation)}
    found: dict[str, list[list[Any]]] = defaultdict(list)
    for sample in characterisation.samples:
        ceiling = wanted.get(sample.case)
        if ceiling is not None and (each := _each(ceiling, sheets)):
            found[sample.case].append([round(sample.started_s, 2), _rates(sample, each * ceiling.threads)])
    return found


def _each(ceiling: Ceiling, sheets: Mapping[str, Sheet]) -> int:
    """What an iteration of one thread does, in the unit of the ceiling; 0 where it is unknown."""
    sheet = sheets.get(ceiling.kernel)
    if sheet is None:
        return 0
    return sheet.work.flop if ceiling.measures == "compute" else sheet.work.bytes


def _rates(sample: Samples, work: int) -> list[float]:
    rates = [work * sample.iterations * 1e9 / ns for ns in sample.ns]
    if len(rates) > _MOST_SAMPLES:
        step = (len(rates) - 1) / (_MOST_SAMPLES - 1)
        rates.sort()
        rates = [rates[round(place * step)] for place in range(_MOST_SAMPLES)]
    return [float(f"{rate:.4g}") for rate in rates]
