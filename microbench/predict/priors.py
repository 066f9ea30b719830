"""What a fit believes of a family before it sees a row: ceilings turned into means and spreads of its parameters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from microbench.operators.features import Features
from microbench.predict.analytic import PRODUCTS, Prior
from microbench.predict.figures import DeviceFigures

Floats = npt.NDArray[np.float64]

# Formats in which a GPU's libraries have Winograd's algorithm: those of its vector units.
WINOGRAD_FORMATS = ("f32", "f64")
# Shares of printed peak and bandwidth that good GPU kernels reach; families that are not products are corrected by
# their factor.
REACHED, MOSTLY_REACHED = {"bmm": (0.9, 0.55), "convolution": (0.9, 0.65)}, (0.9, 0.85)


def prior_of(nominal: DeviceFigures, features: Features, seconds: Floats, dtype: str) -> Prior:
    """Prior of a family before its shapes are seen: known figures where given, else the best rates among the rows."""
    launches = sorted(set(features.launch.tolist()))
    seen_peak, seen_bandwidth = float(np.max(features.flop / seconds)), float(np.max(features.bytes / seconds))
    product = features.family in PRODUCTS
    known_peak = nominal.peak.get(dtype)
    reached = MOSTLY_REACHED if nominal.kind == "cpu" else REACHED.get(features.family, MOSTLY_REACHED)
    peak = reached[0] * known_peak if known_peak and product else (known_peak or max(1.1 * seen_peak, 1.0))
    bandwidth = reached[1] * nominal.bandwidth if nominal.bandwidth else 1.1 * seen_bandwidth
    inner = tuple((capacity, max((speed or 2.5 * bandwidth) / bandwidth, 1.05)) for capacity, speed in nominal.caches)
    if not nominal.caches and nominal.kind != "cpu":
        inner = ((30e6, 2.0),)
    return Prior(
        regime=nominal.measured and nominal.kind == "cuda",
        quantised=nominal.kind == "cuda" and product and dtype.startswith("f8"),
        winograd=nominal.kind != "cuda" or dtype in WINOGRAD_FORMATS,
        peak=peak,
        bandwidth=bandwidth,
        cost={launch: max(0.8 * float(seconds[features.launch == launch].min()), 1e-8) for launch in launches},
        units=nominal.units or 100.0,
        units_spread=0.15 if nominal.units else 0.5,
        spread=0.35 if known_peak and nominal.bandwidth and product else 0.7,
        inner=_levels(inner),
        threads=round(nominal.units) if nominal.kind == "cpu" and nominal.units else 1,
    )


def _levels(inner: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    """Bandwidths over the outermost turned into ratios from each level to the next one out."""
    outer = [*(ratio for _, ratio in inner), 1.0][1:]
    return tuple((capacity, max(ratio / beyond, 1.05)) for (capacity, ratio), beyond in zip(inner, outer, strict=True))


def scales_of(figures: DeviceFigures, dtype: str) -> dict[str, float]:
    """What of a device the terms of a fit are shares of, by the names of the terms: those that are known."""
    found = {f"cost.{launch}": seconds for launch, seconds in figures.cost.items()}
    known = {"peak": figures.peak.get(dtype), "bandwidth": figures.bandwidth, "units": figures.units}
    found |= {name: value for name, value in known.items() if value}
    if figures.peak.get(dtype) and figures.sustained.get(dtype):
        found["sustained"] = figures.sustained[dtype] / figures.peak[dtype]
    speeds = [speed for _, speed in figures.caches] + [figures.bandwidth]
    for place, (capacity, _) in enumerate(figures.caches):
        found[f"capacity.{place}"] = capacity
        inner, outer = speeds[place], speeds[place + 1]
        if inner and outer:
            found[f"ratio.{place}"] = max(inner / outer, 1.05)
    return found
