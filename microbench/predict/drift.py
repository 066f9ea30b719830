"""Fits follow the ceilings of their file: where a ceiling is changed, what rests on it moves along, and it is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from microbench.predict.figures import figures_of
from microbench.predict.priors import scales_of
from microbench.records import Ceiling, Characterisation, Finding, OperatorFit

# Ceilings that `fit` wrote are what its fits imply.
FITTED = "fitted from rows"
_SAME = 1e-3


def followed(calibration: Characterisation) -> tuple[Characterisation, tuple[Finding, ...]]:
    """A calibration whose fits stand beside the ceilings and costs that its file has now, and what was moved.

    Fits of older files do not say what they stand beside, so that nothing moves them; that is said, too.
    """
    fits = calibration.fits.operators
    if not fits:
        return calibration, ()
    implied = [row for row in calibration.ceilings if row.case == FITTED]
    moved, said = [], dict[str, Finding]()
    for fit in fits:
        ratios = _of_fitted(fit, fits, implied) if implied else _of_measured(fit, calibration)
        changed = {name: ratio for name, ratio in ratios.items() if abs(ratio - 1) > _SAME}
        for name, ratio in changed.items():
            what = f"{fit.dtype} {name}" if name == "peak" else name
            says = f"{what} is {ratio:.3g} times what the fits were made beside; predictions move with it."
            said.setdefault(what, Finding(code="ceiling-changed", severity="warning", says=says))
        moved.append(_moved(fit, changed) if changed else fit)
    if not implied and not any(fit.figures for fit in fits):
        says = (
            "the fits of this file do not say which ceilings they stand beside (an older version wrote it): changing a "
            "ceiling changes nothing that they predict."
        )
        said["older"] = Finding(
            code="older-fits", severity="info", says=says, remedy="microbench run measures them anew"
        )
    if not any(each.code == "ceiling-changed" for each in said.values()):
        return calibration, tuple(said.values())
    return replace(calibration, fits=replace(calibration.fits, operators=tuple(moved))), tuple(said.values())


def _of_measured(fit: OperatorFit, calibration: Characterisation) -> dict[str, float]:
    """What the file's ceilings are now over what they were; nothing where the fit does not say what they were."""
    now = scales_of(figures_of(calibration), fit.dtype)
    return {
        name: now[name] / value
        for name, value in fit.figures.items()
        if name in now and name.partition(".")[0] in ("peak", "bandwidth", "ratio", "cost")
    }


def _of_fitted(fit: OperatorFit, fits: tuple[OperatorFit, ...], implied: list[Ceiling]) -> dict[str, float]:
    """The same of a file that `fit` wrote, whose ceilings are the best of what its fits imply."""
    found: dict[str, float] = {}
    rates = [row.rate.value for row in implied if row.measures == "compute" and row.dtype == fit.dtype]
    peaks = [each.terms["peak"] for each in fits if each.form != "stream" and each.dtype == fit.dtype]
    if rates and peaks and fit.form != "stream":
        found["peak"] = max(rates) / max(peaks)
    moved = [row.rate.value for row in implied if row.measures == "memory"]
    streams = [each for each in fits if each.form == "stream"] or list(fits)
    if moved:
        found["bandwidth"] = max(moved) / max(each.terms["bandwidth"] for each in streams)
    return found


def _moved(fit: OperatorFit, ratios: Mapping[str, float]) -> OperatorFit:
    terms = {name: value * ratios.get(name, 1.0) for name, value in fit.terms.items()}
    costs = {launch: cost * ratios.get(f"cost.{launch}", 1.0) for launch, cost in fit.cost_s.items()}
    figures = {name: value * ratios.get(name, 1.0) for name, value in fit.figures.items()}
    return replace(fit, terms=terms, cost_s=costs, figures=figures)
