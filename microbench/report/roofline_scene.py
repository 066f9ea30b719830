"""What a roofline shows, chosen before it is drawn: roofs, bandwidths, labels, ridge points, intensity sweeps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from microbench.records import Ceiling, Characterisation, RooflineFit, RoofPoint, units
from microbench.report import side, style, summary, view

# More thin roofs than this hide the thick ones.
MOST_THIN = 4
# A unit that is slower than the main roof by more than this factor was disturbed, and would stretch the axes.
_FARTHEST_THIN = 64.0
# Roofs of one kind of unit that lie closer than this are drawn on top of each other and share a label.
_COINCIDE = 0.02
# The corner of a fit that does not tell its sharpness.
_SHARP = 40.0
# Characters of a label that fit beside the axes.
_LONGEST = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """One horizontal roof."""

    label: str
    rate: float
    colour: str
    thick: bool
    dtype: str
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is drawn: the roofs, the bandwidth of each level (label, byte/s), and the fits whose points are shown.

    ``bandwidth`` is of bursts, ``sustained`` of samples that lasted.
    """

    roofs: tuple[Roof, ...]
    bandwidth: dict[str, tuple[str, float]]
    fits: tuple[RooflineFit, ...]
    sustained: dict[str, tuple[str, float]] = field(default_factory=dict)

    @property
    def slopes(self) -> tuple[tuple[str, float, bool], ...]:
        """Label, byte/s and whether it lasts, of every slope, the steepest first."""
        slopes = [(*pair, False) for pair in self.bandwidth.values()]
        slopes += [(*pair, True) for pair in self.sustained.values()]
        return tuple(sorted(slopes, key=lambda slope: -slope[1]))

    @property
    def thick(self) -> tuple[Roof, ...]:
        """The headline roofs, one a dtype."""
        return tuple(roof for roof in self.roofs if roof.thick)

    @property
    def main(self) -> Roof | None:
        """The roof whose ridge points are labelled at every level: f32, else the highest."""
        return next(
            (roof for roof in self.thick if roof.dtype == "f32"),
            max(self.thick, key=lambda roof: roof.rate, default=None),
        )


def scene(characterisation: Characterisation) -> Scene:
    """Choose what is drawn, all at the headline thread count.

    A thick roof for each dtype, a few thin ones, the best read bandwidth of each level, in bursts and in what lasts.
    """
    compute, memory = (
        tuple(ceiling for ceiling in view.headline(characterisation, measures) if style.drawable(ceiling.rate.value))
        for measures in ("compute", "memory")
    )
    best = view.best_by_dtype(compute)
    levels = view.best_by_level(memory)
    fits = characterisation.fits.rooflines
    most = max((fit.threads for fit in fits), default=0)
    return Scene(
        roofs=(*_thick(best), *_thin(best, compute)),
        bandwidth=_slopes(levels, "burst"),
        fits=tuple(fit for fit in fits if fit.threads == most),
        sustained=_slopes(view.best_by_level(view.lasting(characterisation)), "sustained"),
    )


def _slopes(levels: Mapping[str, Ceiling], mode: str) -> dict[str, tuple[str, float]]:
    return {
        level: (f"{level} {ceiling.access} {mode} {units.rate(ceiling.rate.value, 'byte/s', 3)}", ceiling.rate.value)
        for level, ceiling in levels.items()
        if style.drawable(ceiling.rate.value)
    }


def residuals(fits: Iterable[RooflineFit]) -> tuple[tuple[RooflineFit, RoofPoint, float], ...]:
    """Every point that can be drawn, with its fit and what it lies above the fitted curve, as a share of that."""
    return tuple(
        (fit, point, point.rate / point.fitted - 1)
        for fit in fits
        for point in fit.points
        if all(map(style.drawable, (point.intensity, point.rate, point.fitted)))
    )


def curve(fit: RooflineFit, level: str, intensity: float) -> float:
    """The fitted rate at an intensity: the smooth minimum of peak and slope.

    Examples
    --------
    >>> fit = RooflineFit(dtype="f32", unit=None, threads=1, peak=8.0, bandwidth={"L1": 4.0}, ridge={}, sharpness=1.0)
    >>> round(curve(fit, "L1", 2.0), 9)
    4.0
    """
    power = fit.sharpness or _SHARP
    lower, upper = sorted((math.log(fit.peak), math.log(fit.bandwidth[level]) + math.log(intensity)))
    return math.exp(lower - math.log1p(math.exp(-power * (upper - lower))) / power)


def caption(characterisation: Characterisation) -> tuple[str, str]:
    """Title and subtitle of the picture."""
    started = (
        summary.moment(characterisation.environment.started)
        if characterisation.environment
        else "fitted, not measured here"
    )
    where = view.threads_text(characterisation, view.headline_threads(characterisation))
    dots = "" if missing(characterisation) else " · rings: ridge points in FLOP/byte, memory-bound left of them"
    lasts = " · dashed: sustained over 0.1 s" if dots and scene(characterisation).sustained else ""
    return (summary.title(characterisation), f"Measured ceilings, {where} · {started}{dots}{lasts}")


def missing(characterisation: Characterisation) -> str:
    """Why there is no roofline to draw; empty where there is one."""
    chosen = scene(characterisation)
    what = "compute" if not chosen.roofs else "memory" if not chosen.bandwidth else ""
    return f"No {what} ceiling was measured, so there is no roofline to draw." if what else ""


def ridge_rows(characterisation: Characterisation) -> tuple[tuple[str, ...], ...]:
    """The ridge points as a table: a heading row, then for each dtype FLOP/byte at each level."""
    chosen = scene(characterisation)
    held = chosen.bandwidth
    if not chosen.thick or not held:
        return ()
    rows = [
        (roof.dtype, *(units.digits(roof.rate / value, 3) for _, value in (*held.values(), *chosen.sustained.values())))
        for roof in chosen.thick
    ]
    return (("dtype", *held, *(f"{level} sustained" for level in chosen.sustained)), *rows)


def _thick(best: dict[str, Ceiling]) -> Iterable[Roof]:
    for name, ceiling in best.items():
        yield Roof(
            label=_roof_label(ceiling),
            rate=ceiling.rate.value,
            colour=style.DTYPE_COLOURS.get(name, style.INK),
            thick=True,
            dtype=name,
            unit=_shape(ceiling),
        )


def _thin(best: dict[str, Ceiling], compute: tuple[Ceiling, ...]) -> Iterable[Roof]:
    """Thin roofs: slower units of the main dtype, and the best library rates."""
    main = best.get("f32") or next(iter(best.values()), None)
    bounds = (main.rate.value / _FARTHEST_THIN, 0.97 * main.rate.value) if main else (0.0, 0.0)
    peaks = [ceiling for ceiling in compute if main and ceiling.dtype == main.dtype and ceiling.mode == "peak"]
    slower = [ceiling for ceiling in peaks if bounds[0] < ceiling.rate.value < bounds[1]]
    seen: set[tuple[str | None, ...]] = set()
    library = _libraries(compute, main)
    for ceiling in sorted(slower, key=lambda ceiling: -ceiling.rate.value)[: MOST_THIN - len(library)] + library:
        if (ceiling.dtype, ceiling.unit, ceiling.variant) not in seen:
            seen.add((ceiling.dtype, ceiling.unit, ceiling.variant))
            yield Roof(
                label=_roof_label(ceiling),
                rate=ceiling.rate.value,
                colour=style.MUTED,
                thick=False,
                dtype=str(ceiling.dtype),
            )


def _libraries(compute: Iterable[Ceiling], main: Ceiling | None) -> list[Ceiling]:
    """The library's rate of the main dtype, and its highest rate."""
    rates = sorted(
        (ceiling for ceiling in compute if ceiling.mode == "library"), key=lambda ceiling: -ceiling.rate.value
    )
    own = [ceiling for ceiling in rates if main and ceiling.dtype == main.dtype]
    return [*rates[:1], *(ceiling for ceiling in own[:1] if ceiling is not rates[0])]


def _shape(ceiling: Ceiling) -> str | None:
    if ceiling.mode == "library":
        return "library"
    if ceiling.backend in ("cuda", "triton"):
        return side.unit_words(ceiling.unit, "cuda")
    return ceiling.variant or ceiling.unit


def _roof_label(ceiling: Ceiling) -> str:
    words = [ceiling.dtype, _shape(ceiling), *(["burst"] if ceiling.mode == "peak" else [])]
    return f"{' '.join(word for word in words if word)}  {view.rate_text(ceiling, ceiling.rate.value)}"


def joined(roofs: Iterable[Roof]) -> list[Roof]:
    """The roofs to be labelled: thick ones of one unit that coincide share a label.

    It has all their dtypes, and the rate of the lowest.

    Examples
    --------
    >>> fields = {"colour": "black", "thick": True, "unit": "matrix"}
    >>> f16 = Roof(label="f16 matrix  990 TFLOP/s", rate=990e12, dtype="f16", **fields)
    >>> bf16 = Roof(label="bf16 matrix  989 TFLOP/s", rate=989e12, dtype="bf16", **fields)
    >>> [roof.label for roof in joined([f16, bf16])]
    ['f16, bf16 matrix  989 TFLOP/s']
    """
    groups: list[list[Roof]] = []
    for roof in sorted(roofs, key=lambda roof: (not roof.thick, -roof.rate)):
        group = next((group for group in groups if _coincide(group[0], roof)), None)
        if group is None:
            groups.append([roof])
        else:
            group.append(roof)
    return [replace(group[-1], label=_joined_label(group)) for group in groups]


def _joined_label(group: Sequence[Roof]) -> str:
    *others, lowest = group
    label = ", ".join([roof.dtype for roof in others] + [lowest.label])
    return label if len(label) <= _LONGEST or not others else label.replace(f" {lowest.unit}", "", 1)


def _coincide(upper: Roof, lower: Roof) -> bool:
    same = upper.thick and lower.thick and upper.unit == lower.unit and _is_integer(upper) == _is_integer(lower)
    return same and lower.rate > upper.rate * (1 - _COINCIDE)


def _is_integer(roof: Roof) -> bool:
    """Whether a roof counts integer operations, which have another unit."""
    return roof.dtype.startswith("i")
