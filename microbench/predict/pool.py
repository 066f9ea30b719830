"""What fits of several devices know together of another one: means of its parameters, and rows that are witnesses.

A fit's parameters are shares of its device's figures (`OperatorFit.figures`), and its correction is of shapes and
regimes; both move to a device whose figures are known. Devices that are alike count for more: they lie near each other
by how many units they have and what peak, bandwidth and cache there is for each of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from microbench.hardware.tables import gpus
from microbench.predict import gaussian_process
from microbench.predict.analytic import PRODUCTS
from microbench.predict.figures import DeviceFigures, datasheet_figures
from microbench.predict.fit_family import CONFIDENCE, Beside
from microbench.predict.priors import scales_of
from microbench.records import Characterisation, OperatorFit
from microbench.records.dtypes import DTYPES

Floats = npt.NDArray[np.float64]

# Families that share one physics and the coordinates of their corrections.
KIN = {"matmul": "product", "linear": "product", "bmm": "product"}
# Formats that the same units multiply at the same rate.
TWINS = ({"f16", "bf16"}, {"f8e4m3", "f8e5m2"})
# Correlation lengths over devices: how far a factor of e in units, in peak, bandwidth and cache a unit, and one step of
# compute capability count beside one reach of a correction.
APART = (0.10, 0.30, 0.20, 0.10, 0.25)
# Devices so far from each other count half as much as the same device.
HALF = 0.35
# What a device's own rows may change (ln): parameters that stand beside a figure that was seen or printed, and others.
SEEN, PRINTED, LEARNT, UNKNOWN = 0.15, 0.35, 0.15, 0.7
# The same where all that is known is known of another number format.
FOREIGN = 0.5
# Spread (ln) of errors on a device without rows, where the sources do not say it.
ELSEWHERE = {"measured": 0.25, "printed": 0.35}
# Rows that speak for another device, all sources together.
WITNESSES = 1200
LAUNCHES = ("eager", "graph", "kernel")
_NORMAL = 1.645
# Bits of the formats that matrix units multiply and vector units seldom do.
_SHORT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The device that is asked for, in one number format: its figures by name of term, those printed, where it lies."""

    figures: DeviceFigures
    dtype: str
    scales: Mapping[str, float]
    sheet: Mapping[str, float]
    place: tuple[float, ...]


def target_of(figures: DeviceFigures, dtype: str) -> Target:
    """Figures of a device as those of a pool."""
    scales = scales_of(figures, _known_as(figures, dtype))
    sheet = _sheet(figures.name, dtype) if figures.measured else {}
    return Target(figures=figures, dtype=dtype, scales=scales, sheet=sheet, place=_place(scales, figures.arch, {}))


def _sheet(name: str, dtype: str) -> dict[str, float]:
    """Peak and bandwidth that are printed of a card, if it is known."""
    row = gpus.find(name)
    scales = scales_of(datasheet_figures(row.name), dtype) if row else {}
    return {name: scales[name] for name in ("peak", "bandwidth") if name in scales}


def _known_as(figures: DeviceFigures, dtype: str) -> str:
    """The format whose peak stands for a format's: its own, or that of a twin."""
    if dtype in figures.peak:
        return dtype
    return next((twin for twin in sorted(twins_of(dtype)) if twin in figures.peak), dtype)


def twins_of(dtype: str) -> set[str]:
    """A format and those that the same units multiply at the same rate."""
    return next((each for each in TWINS if dtype in each), {dtype})


def _place(scales: Mapping[str, float], arch: str, other: Mapping[str, float]) -> tuple[float, ...]:
    """Where a device lies among others; what is unknown of it is taken from another."""
    known = {**other, **scales}
    units = known.get("units", 1.0)
    each = [known.get(name, 1.0) / units for name in ("peak", "bandwidth", "capacity.0")]
    digits = (
        "".join(letter for letter in arch.removeprefix("sm_") if letter.isdigit()) if arch.startswith("sm_") else ""
    )
    generation = int(digits) / 10 if digits else 8.0
    return (math.log(units), *(math.log(value) for value in each), generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    fit: OperatorFit
    scales: Mapping[str, float]
    sheet: Mapping[str, float]
    place: tuple[float, ...]
    weight: float
    foreign: bool


def members_of(
    sources: Sequence[Characterisation], family: str, cache: str, target: Target
) -> list[tuple[Characterisation, OperatorFit]]:
    """Fits that speak for a family on a target: those of its kin in a format that the same units multiply as fast."""
    kin = KIN.get(family, family)
    twins = twins_of(target.dtype)
    pairs = [(source, fit) for source in sources for fit in source.fits.operators]
    of_kin = [pair for pair in pairs if KIN.get(pair[1].family, pair[1].family) == kin and pair[1].cache == cache]
    same = [pair for pair in of_kin if pair[1].dtype in twins]
    if same or family not in PRODUCTS:
        return same
    # No source has the format: those that the same kind of unit multiplies are the nearest.
    short = DTYPES[target.dtype].bits <= _SHORT
    return [pair for pair in of_kin if (DTYPES[pair[1].dtype].bits <= _SHORT) == short]


def beside_of(
    sources: Sequence[Characterisation], family: str, cache: str, target: Target
) -> tuple[Beside, list[OperatorFit]] | None:
    """What the sources know of a family on a target, and their fits; ``None`` where no source has one of the family."""
    found = members_of(sources, family, cache, target)
    if not found:
        return None
    if not target.scales:  # nothing is known of it: it is taken for the source with the most rows
        source, fit = max(found, key=lambda pair: pair[1].rows)
        own = _matched(source, fit, target)
        target = replace(target, place=_place(own, source.device.arch, {}))
    members = [_member(source, fit, target) for source, fit in found]
    form = max({each.fit.form for each in members}, key=lambda form: sum(each.fit.form == form for each in members))
    members = [each for each in members if each.fit.form == form]
    axes = min(len(each.fit.scale) - len(each.fit.place) for each in members)
    shapes = _shapes(members, target)
    coordinates, code, left = _witnesses(members, axes)
    names = tuple(sorted({source.device.name for source, _ in found}))
    beside = Beside(
        coordinates=coordinates,
        code=code,
        left=left,
        shapes=shapes,
        hyper=_hyper(members, axes),
        place=target.place,
        sources=names,
    )
    return beside, [each.fit for each in members]


def _member(source: Characterisation, fit: OperatorFit, target: Target) -> _Member:
    scales = _matched(source, fit, target)
    place = _place(scales, source.device.arch, target.scales)
    apart = math.sqrt(sum((a * (x - y)) ** 2 for a, x, y in zip(APART, place, target.place, strict=True)))
    weight = fit.rows**0.5 / (1 + (apart / HALF) ** 2)
    foreign, sheet = fit.dtype not in twins_of(target.dtype), _sheet(source.device.name, fit.dtype)
    return _Member(fit=fit, scales=scales, sheet=sheet, place=place, weight=weight, foreign=foreign)


def _matched(source: Characterisation, fit: OperatorFit, target: Target) -> dict[str, float]:
    """A source's figures of the kind that the target has: seen beside seen, printed beside printed."""
    own = {name: value for name, value in fit.figures.items() if name != "measured"}
    printed = gpus.find(source.device.name)
    sheet = scales_of(datasheet_figures(printed.name), fit.dtype) if printed else {}
    if not own:  # a file of an older version, or a fit without figures: what its rows implied
        own = {name: fit.terms[name] for name in ("peak", "bandwidth", "units") if name in fit.terms}
        own |= {name: value for name, value in sheet.items() if name not in own}
        return own
    if bool(fit.figures.get("measured", 0.0)) == target.figures.measured:
        return {**{name: sheet[name] for name in ("units", "capacity.0") if name in sheet}, **own}
    if target.figures.measured:
        return own | {name: fit.terms[name] for name in ("peak", "bandwidth") if name in fit.terms}
    return own | {name: value for name, value in sheet.items() if name != "measured"}


def _shapes(members: Sequence[_Member], target: Target) -> dict[str, tuple[float, float]]:
    """Means and spreads (ln) of every parameter of the target's fit."""
    found: dict[str, tuple[float, float]] = {}
    given = SEEN if target.figures.measured else PRINTED
    foreign = any(each.foreign for each in members)
    for name in sorted({name for each in members for name in each.fit.terms}):
        rows = [(each, math.log(each.fit.terms[name])) for each in members if name in each.fit.terms]
        told = []
        for wanted, theirs in ((target.scales, "scales"), (target.sheet, "sheet")):
            known: list[Mapping[str, float]] = [getattr(each, theirs) for each, _ in rows]
            if name in wanted and all(name in each for each in known):
                shares = [value - math.log(scale[name]) for (_, value), scale in zip(rows, known, strict=True)]
                mean, spread = _weighed(shares, [each.weight for each, _ in rows])
                told.append(
                    (mean + math.log(wanted[name]), math.hypot(spread, SEEN if theirs == "scales" else PRINTED))
                )
        if not told:
            mean, spread = _weighed([value for _, value in rows], [each.weight for each, _ in rows])
            floor = UNKNOWN if name in ("peak", "bandwidth") else LEARNT
            told.append((mean, math.hypot(spread, floor)))
        mean, spread = _agreed(told)
        found[name] = mean, max(spread, FOREIGN if foreign else given if name in target.scales else 0.0)
    if "sustained" in target.scales and "settled" in found:
        found["settled"] = math.log(max(1 / target.scales["sustained"] - 1, 1e-3)), 2 * SEEN
    return found | _costs(members, target)


def _agreed(told: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """What several ways to tell one parameter say together: the way on which the devices agree most says the most.

    A ceiling that says little of a family (a bandwidth from products that never wait for memory) does little then.
    """
    weight = np.asarray([1 / spread**2 for _, spread in told])
    mean = float(weight @ np.asarray([mean for mean, _ in told]) / weight.sum())
    return mean, float(1 / np.sqrt(weight.sum()))


def _weighed(values: Sequence[float], weights: Sequence[float]) -> tuple[float, float]:
    """Weighted mean of what devices say, and how far they are apart; one alone says nothing of that."""
    weight = np.asarray(weights) / np.sum(weights)
    mean = float(weight @ np.asarray(values))
    spread = math.sqrt(float(weight @ (np.asarray(values) - mean) ** 2)) if len(values) > 1 else 0.15
    return mean, spread


def _costs(members: Sequence[_Member], target: Target) -> dict[str, tuple[float, float]]:
    """Fixed costs of every launch mode: as shares of a launch's cost where both devices know it, and as they are."""
    found = {}
    rows = [each for each in members if each.fit.cost_s]
    weights = [each.weight for each in rows]
    for launch in LAUNCHES if rows else ():
        values = [math.log(each.fit.cost_s.get(launch, min(each.fit.cost_s.values()))) for each in rows]
        wanted, known = _cost(target.scales, launch), [_cost(each.scales, launch) for each in rows]
        mean, spread = _weighed(values, weights)
        told = [(mean, math.hypot(spread, PRINTED if wanted else UNKNOWN))]
        if wanted and all(known):
            shares = [value - math.log(seen or 1.0) for value, seen in zip(values, known, strict=True)]
            mean, spread = _weighed(shares, weights)
            told.append((mean + math.log(wanted), math.hypot(spread, SEEN)))
        mean, spread = _agreed(told)
        found[f"cost.{launch}"] = mean, max(spread, PRINTED)
    return found


def _cost(scales: Mapping[str, float], launch: str) -> float | None:
    """A device's cost of a launch mode; where it has but another's, that one's."""
    costs = {name: value for name, value in scales.items() if name.startswith("cost.")}
    return costs.get(f"cost.{launch}") or (min(costs.values()) if costs else None)


def _witnesses(members: Sequence[_Member], axes: int) -> gaussian_process.Rows:
    """Rows of the members' corrections with what was left of them, the nearest devices' the most."""
    total = sum(each.weight for each in members)
    parts = []
    for each in members:
        own = _points(each.fit)
        if own is None:
            continue
        coordinates, code, left = own
        most = max(50, round(WITNESSES * each.weight / total))
        keep = np.random.default_rng(len(left)).permutation(len(left))[:most]
        place = np.broadcast_to(np.asarray(each.place), (len(keep), len(each.place)))
        names = code[keep]
        if each.foreign:  # another format is an operator of another name
            names = np.asarray([f"{name}@{each.fit.dtype}" for name in names], dtype=object)
        parts.append((np.concatenate([coordinates[keep][:, :axes], place], axis=1), names, left[keep]))
    if not parts:
        return np.empty((0, axes + len(APART))), np.empty(0, dtype=object), np.empty(0)
    coordinates, code, left = (np.concatenate([part[index] for part in parts]) for index in range(3))
    return coordinates, code, left


def _points(fit: OperatorFit) -> gaussian_process.Rows | None:
    """Coordinates, operators and residuals (ln) of a fit's own rows, from what its correction keeps of them."""
    if not fit.points:
        return None
    grid = np.asarray(fit.points, dtype=np.float64)
    positions, alpha = grid[:, :-1], grid[:, -1]
    axes = len(fit.scale)
    left = fit.correction["amplitude"] ** 2 * gaussian_process.correlation(positions) @ alpha
    left = left + fit.correction["noise"] ** 2 * alpha
    coordinates = positions[:, :axes] / np.asarray(fit.scale)
    if len(fit.codes) > 1:
        code = np.asarray(fit.codes, dtype=object)[np.argmax(positions[:, axes:], axis=1)]
    else:
        code = np.full(len(alpha), fit.codes[0] if fit.codes else fit.family, dtype=object)
    own = np.asarray([("@" not in name) for name in code])
    if fit.place:  # of other devices' rows it speaks itself
        own &= np.all(np.isclose(coordinates[:, -len(fit.place) :], fit.place), axis=1)
    return coordinates[own], code[own], left[own]


def _hyper(members: Sequence[_Member], axes: int) -> Floats:
    """Hyperparameters of the common correction: the members' weighted means, with a scale for where a device lies."""
    rows = []
    for each in members:
        if each.fit.points:
            scale = np.log(np.asarray(each.fit.scale)[:axes])
            rows.append(
                (
                    each.weight,
                    [math.log(each.fit.correction[name]) for name in ("amplitude", "noise", "apart")],
                    scale,
                )
            )
    if not rows:
        return np.concatenate([gaussian_process.HYPER_MEAN, np.zeros(axes), np.log(np.asarray(APART))])
    weight = np.asarray([row[0] for row in rows]) / sum(row[0] for row in rows)
    amplitude, noise, apart = weight @ np.asarray([row[1] for row in rows])
    scale = weight @ np.stack([row[2] for row in rows])
    reach = gaussian_process.HYPER_MEAN[1]
    return np.concatenate([[amplitude, reach, noise, apart], scale + reach, np.log(np.asarray(APART)) + reach])


def carried(beside: Beside, fits: Sequence[OperatorFit], family: str, target: Target) -> OperatorFit:
    """A target's fit of a family without a row of its own."""
    like = max(fits, key=lambda fit: fit.rows)
    theta = {name: mean for name, (mean, _) in beside.shapes.items()}
    kind = "measured" if target.figures.measured else "printed"
    away = [fit.elsewhere[kind] for fit in fits if kind in fit.elsewhere]
    spread = float(np.median(away)) if away else ELSEWHERE[kind]
    if all(fit.dtype not in twins_of(target.dtype) for fit in fits):
        spread = math.hypot(spread, FOREIGN)
    made = replace(
        like,
        family=family,
        dtype=target.dtype,
        rows=sum(fit.rows for fit in fits),
        cost_s={
            name.removeprefix("cost."): math.exp(value) for name, value in theta.items() if name.startswith("cost.")
        },
        terms={name: math.exp(value) for name, value in theta.items() if not name.startswith("cost.")},
        residuals=(),
        quantile=_NORMAL,
        quantiles={},
        confidence=CONFIDENCE,
        distrusted=(),
        figures={**target.scales, "measured": float(target.figures.measured)},
        place=target.place,
        sources=beside.sources,
        elsewhere={kind: spread},
        codes=(),
        scale=(),
        points=(),
        correction={"noise": spread},
    )
    if not len(beside) or beside.hyper is None:
        return made
    correction = gaussian_process.rebuild(beside.hyper, beside.coordinates, beside.code, beside.left)
    return replace(
        made,
        codes=correction.codes,
        scale=tuple(float(value) for value in correction.scale),
        correction={
            "amplitude": correction.amplitude,
            "noise": math.hypot(correction.noise, spread),
            "apart": correction.apart,
        },
        points=gaussian_process.stored(correction),
    )
