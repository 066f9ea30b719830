"""The empirical roofline: measured ceilings in place of datasheet numbers, fitted on the intensity sweep.

``attainable = min(peak, bandwidth(level) x intensity)`` (Williams, Waterman, Patterson, Roofline, CACM 2009), with one
bandwidth roof per memory level (Ilic, Pratas, Sousa, Cache-aware Roofline Model, 2014) and one peak per dtype.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from microbench.analysis.frames import ceiling_rows
from microbench.analysis.levels import answered_by_a_cache, level_of_case
from microbench.analysis.roofs import roofs
from microbench.errors import UsageError, expect
from microbench.records import (
    Case,
    Ceiling,
    Characterisation,
    Device,
    Finding,
    LevelSeen,
    Mode,
    RooflineFit,
    RoofPoint,
    Row,
    Samples,
    Sheet,
    units,
)
from microbench.records.dtypes import DTYPES
from microbench.records.dtypes import dtype as parse_dtype
from microbench.records.framed import Framed
from microbench.text import visible

# The smooth minimum's exponent: 1 is no overlap of arithmetic and traffic, 40 is as good as a sharp corner.
_SHARPNESS = (1.0, 40.0)
_MIN_POINTS = 4
# Modes that a roofline may be asked for.
_MODES = ("peak", "sustained", "library")
# A legacy path that ends within this of the chip's own peak misleads nobody.
_ALIKE = 0.03


class _Shape(NamedTuple):
    """What the points of one roofline have in common."""

    loop: str  # first word of the kernels' names
    dtype: str
    variant: str
    threads: int
    mode: Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline(Framed):
    """Roofs of one characterisation, for all its threads or for one.

    A roof of mode ``peak`` is a burst, the best millisecond; one of mode ``sustained`` the median of samples that
    lasted. Every `Ceiling` of ``peaks`` and ``bandwidths`` says in ``mode`` which it is.

    Examples
    --------
    >>> Roofline.of(characterisation).attainable(0.25, "f32", "DRAM")  # doctest: +SKIP
    6.6e9
    """

    peaks: Mapping[str, Ceiling]
    bandwidths: Mapping[tuple[str, str], Ceiling]
    source: Characterisation

    def __repr__(self) -> str:
        """The roofs, each with its rate."""
        peaks = [f"{name} {units.rate(row.rate.value, _unit(row), 3)}" for name, row in self.peaks.items()]
        reads = [
            f"{level} {units.rate(row.rate.value, 'byte/s', 3)}"
            for (level, access), row in self.bandwidths.items()
            if access == "read"
        ]
        return visible(f"<Roofline of {self.source.device.name}: {', '.join([*peaks, *reads]) or 'nothing'}>")

    def frame_rows(self) -> Iterable[Row]:
        """The roofs: one row a dtype, and one a level and access, SI units in the column names."""
        return ceiling_rows([*self.peaks.values(), *self.bandwidths.values()])

    @classmethod
    def of(cls, characterisation: Characterisation, threads: int | None = None, mode: str = "peak") -> Roofline:
        """Take the highest roof per dtype, and per level and access, at so many threads (default: most measured).

        Where ``mode`` is sustained, what was measured for bursts only is taken from there: caches, and the arithmetic
        of a CPU in a file without sustained rows.

        Raises
        ------
        UsageError
            If it is no characterisation, number of threads or mode.
        """
        expect("the characterisation", characterisation, Characterisation, "what microbench.load(PATH) reads")
        expect("the number of threads", threads, (int, type(None)), "a whole number, or none for most of them")
        if mode not in _MODES:
            raise UsageError(f"the mode of a roofline is {str(mode)[:40]!r}; it is one of {', '.join(_MODES)}")
        if threads is None:
            threads = max((c.threads for c in characterisation.ceilings), default=1)
        peaks: dict[str, Ceiling] = {}
        bandwidths: dict[tuple[str, str], Ceiling] = {}
        modes = (mode, "peak") if mode == "sustained" else (mode,)
        for ceiling in roofs(characterisation.ceilings, characterisation.sheets):
            if ceiling.threads != threads or ceiling.placement is not None or ceiling.mode not in modes:
                continue
            if ceiling.measures == "compute" and ceiling.dtype is not None:
                _keep_higher(peaks, ceiling.dtype, ceiling, mode)
            elif ceiling.measures == "memory" and ceiling.level is not None and ceiling.access is not None:
                _keep_higher(bandwidths, (ceiling.level, ceiling.access), ceiling, mode)
        return cls(peaks=peaks, bandwidths=bandwidths, source=characterisation)

    def peak(self, dtype: str) -> float:
        """The compute roof of a dtype in FLOP/s (OP/s for integers).

        Raises
        ------
        UsageError
            If the dtype is unknown or was not measured.
        """
        try:
            name = parse_dtype(dtype).name
        except ValueError as error:
            raise UsageError(str(error)) from error
        if name not in self.peaks:
            raise UsageError(
                f"no compute ceiling for {name} in this characterisation; it has {', '.join(self.peaks) or 'none'}"
            )
        return self.peaks[name].rate.value

    def bandwidth(self, level: str = "DRAM", access: str = "read") -> float:
        """The bandwidth roof of a level in byte/s.

        Raises
        ------
        UsageError
            If that level and access were not measured.
        """
        expect("the level", level, str, "a name such as L1 or DRAM")
        expect("the access", access, str, "read, write, copy or triad")
        ceiling = self.bandwidths.get((level, access))
        if ceiling is None:
            known = ", ".join(f"{near} {how}" for near, how in self.bandwidths) or "none"
            raise UsageError(f"no {access} ceiling for {level} in this characterisation; it has {known}")
        return ceiling.rate.value

    def attainable(self, intensity: float, dtype: str, level: str = "DRAM", access: str = "read") -> float:
        """FLOP/s attainable at an arithmetic intensity in FLOP/byte at a level.

        Raises
        ------
        UsageError
            If the intensity is not a positive finite number, or a roof is missing.
        """
        expect("the arithmetic intensity", intensity, (int, float, np.number), "a positive number of FLOP per byte")
        if not (0 < intensity < math.inf):
            raise UsageError(f"arithmetic intensity is {intensity}; it must be a positive number of FLOP per byte")
        return min(self.peak(dtype), self.bandwidth(level, access) * intensity)

    def ridge_point(self, dtype: str, level: str = "DRAM", access: str = "read") -> float:
        """The arithmetic intensity in FLOP/byte at which the roofs of a dtype and a level meet.

        Raises
        ------
        UsageError
            If a roof is missing.
        """
        return self.peak(dtype) / self.bandwidth(level, access)

    def plot(self, ax: Any) -> Any:
        """Draw the roofline on matplotlib axes and return them."""
        return self.source.draw_roofline(ax)


def _unit(ceiling: Ceiling) -> str:
    return DTYPES[ceiling.dtype].rate_unit if ceiling.dtype else "FLOP/s"


def _keep_higher(table: dict[Any, Ceiling], key: object, ceiling: Ceiling, mode: str) -> None:
    """Keep the higher of two ceilings, and one of the mode asked for before any other."""
    held = table.get(key)
    if held is None or (ceiling.mode == mode, ceiling.rate.value) > (held.mode == mode, held.rate.value):
        table[key] = ceiling


def fit_rooflines(
    samples: Sequence[Samples],
    cases: Mapping[str, Case],
    sheets: Mapping[str, Sheet],
    levels: Sequence[LevelSeen],
    device: Device,
) -> list[RooflineFit]:
    """Fit a roofline for each loop, dtype, vector variant, number of threads and mode of the intensity sweep's points.

    A point is the best round of its bursts, or the median of the rounds of samples that lasted. The peak, one bandwidth
    per level and the sharpness of the corner are fitted together, by least squares on log rates with a soft loss, since
    interference only ever lowers a point.
    """
    rates: dict[_Shape, dict[tuple[str, float], list[float]]] = defaultdict(lambda: defaultdict(list))
    through: dict[_Shape, Sheet] = {}
    for sample in samples:
        case = cases.get(sample.case)
        sheet = sheets.get(case.kernel) if case else None
        if (
            case is None
            or sheet is None
            or not sheet.takes("intensity")
            or sheet.dtype is None
            or not sheet.work.intensity
        ):
            continue
        level = level_of_case(case, levels, device)
        if level is None or (level == "DRAM" and answered_by_a_cache(case, sheet)):
            continue
        rate = sheet.work.flop * case.threads * sample.iterations * 1e9 / min(sample.ns)
        # Loops of one name read alike and differ in multiply-adds alone, so their points lie on one curve.
        loop, variant = sheet.name.partition(".")[0], sheet.variant.split(".")[0]
        shape = _Shape(loop, sheet.dtype, variant, case.threads, case.mode)
        rates[shape][level, sheet.work.intensity].append(rate)
        through[shape] = sheet
    fits = []
    for shape, seen in rates.items():
        pick = median if shape.mode == "sustained" else max
        curve = {at: float(pick(values)) for at, values in seen.items()}
        if len(curve) >= _MIN_POINTS:
            fits.append(_fit(through[shape], shape, curve))
    return sorted(fits, key=lambda fit: (fit.dtype, fit.threads, fit.variant, fit.mode))


def legacy_paths(fits: Sequence[RooflineFit], ceilings: Sequence[Ceiling]) -> list[Finding]:
    """Say which measured rooflines end below the chip's peak for their legacy instructions, and what to plan with."""
    found = []
    for fit in (fit for fit in fits if fit.legacy):
        same = [
            c
            for c in ceilings
            if c.measures == "compute" and c.mode == "peak" and (c.dtype, c.unit) == (fit.dtype, fit.unit)
        ]
        best = max(same, key=lambda ceiling: ceiling.rate.value, default=None)
        if best is None or "legacy" in best.variant or best.rate.value <= fit.peak * (1 + _ALIKE):
            continue
        level = "DRAM" if "DRAM" in fit.bandwidth else min(fit.bandwidth, key=lambda name: fit.bandwidth[name])
        peak, turn = units.rate(fit.peak, "FLOP/s"), units.digits(fit.ridge[level], 3)
        reached, ridge = units.rate(best.rate.value, "FLOP/s"), units.digits(best.rate.value / fit.bandwidth[level], 3)
        says = (
            f"the intensity sweep of {fit.dtype} on the tensor cores goes through {fit.variant}, the legacy path of "
            "this chip: it ends at "
            f"{peak} and turns at {turn} FLOP/byte from {level}; {best.name} reaches {reached}, which this memory "
            f"feeds from {ridge} "
            "FLOP/byte on"
        )
        remedy = (
            "plan with the ceiling and its ridge point; the sweep shows how arithmetic and traffic overlap near the "
            "corner"
        )
        found.append(Finding(code="legacy-roofline", severity="info", says=says, remedy=remedy))
    return found


def _fit(sheet: Sheet, shape: _Shape, curve: Mapping[tuple[str, float], float]) -> RooflineFit:
    names = sorted({level for level, _ in curve})
    index = np.array([names.index(level) for level, _ in curve])
    log_intensity = np.log([intensity for _, intensity in curve])
    log_rate = np.log(list(curve.values()))
    bandwidths = np.array([np.max((log_rate - log_intensity)[index == i]) for i in range(len(names))])
    start = np.concatenate(([np.max(log_rate)], bandwidths, [math.log(8.0)]))
    low = np.concatenate((start[:-1] - 3, [math.log(_SHARPNESS[0])]))
    high = np.concatenate((start[:-1] + 3, [math.log(_SHARPNESS[1])]))

    def modelled(x: NDArray[np.float64]) -> NDArray[np.float64]:
        sharpness = math.exp(x[-1])
        smooth: NDArray[np.float64] = np.logaddexp(-sharpness * x[0], -sharpness * (x[1 + index] + log_intensity))
        return -smooth / sharpness

    def misses(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return modelled(x) - log_rate

    solved = least_squares(misses, start, bounds=(low, high), loss="soft_l1", f_scale=0.05)
    log_fitted = modelled(solved.x)
    residuals = log_rate - log_fitted
    peak, *slopes = (math.exp(each) for each in solved.x[:-1])
    bandwidth = dict(zip(names, slopes, strict=True))
    return RooflineFit(
        dtype=shape.dtype,
        unit=sheet.unit,
        threads=shape.threads,
        peak=peak,
        bandwidth=bandwidth,
        ridge={name: peak / value for name, value in bandwidth.items()},
        points=tuple(
            RoofPoint(level=level, intensity=intensity, rate=rate, fitted=float(model))
            for ((level, intensity), rate), model in zip(curve.items(), np.exp(log_fitted), strict=True)
        ),
        sharpness=math.exp(solved.x[-1]),
        rms_log_residual=float(np.sqrt(np.mean(residuals**2))),
        worst_log_residual=float(residuals[np.argmax(np.abs(residuals))]),
        variant=shape.variant,
        legacy="legacy" in sheet.variant.split("."),
        mode=shape.mode,
    )
