"""Derivatives of `analytic.terms` in its parameters, in closed form: what the search for the best ones follows.

All are logarithmic, d ln(seconds) / d parameter, so that products become sums; the parameters are logarithms
themselves. Where the mean takes the best of several (tiles, algorithms, one thread or all), the derivative is that of
the best; where it counts whole waves or vectors, the count stands still.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from microbench.predict import analytic
from microbench.predict.analytic import BLEND, FUSED_TILE, LANES, LEAST_SPLIT_K, TILES, WHOLE_K

if TYPE_CHECKING:
    from microbench.operators.features import Features

Floats = npt.NDArray[np.float64]
Slopes = dict[str, Floats]
_LEAST = 1e-300


def log_seconds(form: str, theta: Mapping[str, float], features: Features) -> tuple[Floats, Floats]:
    """ln(seconds) of calibration rows (without footprint), and its derivatives, a column per entry of ``theta``."""
    cost, factor = analytic.costs(theta, features), analytic.factors(theta, features)
    joined, slopes = _joined(form, theta, features)
    before = analytic.quantising(theta, features) if "quantise" in theta else np.zeros(len(features))
    total = cost + before + factor * joined
    varies, fixed = factor * joined / total, cost / total
    slopes = {name: varies * slope for name, slope in slopes.items()}
    if "quantise" in theta:
        slopes["quantise"] = before / total
        slopes["bandwidth"] = slopes["bandwidth"] - before / total
    if "short" in theta:
        longer = math.exp(theta["short"])
        slopes["short"] = varies * longer / (features.cols + longer)
    for name in theta:
        kind, _, which = name.partition(".")
        if kind == "factor":
            slopes[name] = varies * (features.code == which)
        elif kind == "overhead":
            slopes[name] = fixed * (features.code == which)
        elif kind == "cost":
            slopes[name] = fixed * _pays(theta, features, name)
    return np.log(total), np.stack([slopes[name] for name in theta], axis=1)


def _pays(theta: Mapping[str, float], features: Features, name: str) -> npt.NDArray[np.bool_]:
    """Rows with the fixed cost of a launch mode: its own, and those of unseen modes if it is the smallest."""
    known = {other: value for other, value in theta.items() if other.startswith("cost.")}
    own = np.asarray(features.launch == name.removeprefix("cost."))
    if name != min(known, key=known.__getitem__):
        return own
    return own | ~np.isin(features.launch.astype(str), [other.removeprefix("cost.") for other in known])


def _joined(form: str, theta: Mapping[str, float], features: Features) -> tuple[Floats, Slopes]:
    """Compute and memory joined by a power mean, on one thread or on all."""
    compute, by_compute = _compute(form, theta, features)
    memory, by_memory = _memory(theta, features)
    memory = memory * analytic.by_operator("traffic", theta, features)
    for name in theta:
        kind, _, which = name.partition(".")
        if kind == "traffic":
            by_memory[name] = (features.code == which).astype(np.float64)
    joined = analytic.power_mean(theta, compute, memory)
    most, power = np.maximum(np.maximum(compute, memory), _LEAST), 1 + math.exp(theta["sharpness"])
    compute, memory = np.maximum(compute / most, _LEAST), np.maximum(memory / most, _LEAST)
    both = compute**power + memory**power
    share = compute**power / both
    slopes = {name: share * slope for name, slope in by_compute.items()}
    for name, slope in by_memory.items():
        slopes[name] = slopes.get(name, 0.0) + (1 - share) * slope
    tilt = share * np.log(compute) + (1 - share) * np.log(memory) - np.log(both) / power
    slopes["sharpness"] = tilt * math.exp(theta["sharpness"]) / power
    if "team" not in theta:
        return joined, slopes
    together, alone = joined + math.exp(theta["sync"]), joined * math.exp(theta["team"])
    best, team = np.minimum(together, alone), together < alone
    slopes = {name: np.where(team, joined / best, 1.0) * slope for name, slope in slopes.items()}
    slopes["sync"] = np.where(team, math.exp(theta["sync"]) / best, 0.0)
    slopes["team"] = np.where(team, 0.0, 1.0)
    return best, slopes


def _memory(theta: Mapping[str, float], features: Features) -> tuple[Floats, Slopes]:
    slopes: Slopes = {"bandwidth": np.full(len(features), -1.0)}
    log_bytes, place = np.log(features.bytes), 0
    while f"capacity.{place}" in theta:
        inside = 1 / (1 + np.exp(np.clip((log_bytes - theta[f"capacity.{place}"]) / BLEND, -50, 50)))
        inside = np.where(features.cold, 0.0, inside)
        slopes[f"ratio.{place}"] = -inside
        slopes[f"capacity.{place}"] = -theta[f"ratio.{place}"] * inside * (1 - inside) / BLEND
        place += 1
    return analytic.memory_seconds(theta, features), slopes


def _compute(form: str, theta: Mapping[str, float], features: Features) -> tuple[Floats, Slopes]:
    if form == "tiled":
        return _tiled(theta, features)
    slopes: Slopes = {"peak": np.full(len(features), -1.0)}
    if form == "smooth":
        _, m, n, k = features.gemm.T
        share = 1 / (1 + math.exp(-theta["lanes"]))
        whole = LANES * np.ceil(n / LANES)
        padded = n * (1 - share) + share * whole
        for name, size in (("m0", m), ("n0", padded), ("k0", k)):
            slopes[name] = math.exp(theta[name]) / (size + math.exp(theta[name]))
        slopes["lanes"] = share * (1 - share) * (whole - n) / (padded + math.exp(theta["n0"]))
    return analytic.compute_seconds(form, theta, features), slopes


def _tiled(theta: Mapping[str, float], features: Features) -> tuple[Floats, Slopes]:
    """Tiles in waves; of a convolution the best algorithm."""
    product, scale = analytic.at_once(features)
    splits = analytic.splits_of(theta, features)
    starting = analytic.by_operator("depth", theta, features)
    best, slopes = _waves(theta, product, features.element_bytes, (TILES, splits), starting)
    best, whole = scale * best, np.ones(len(features), dtype=np.bool_)
    fits = np.flatnonzero(np.isfinite(features.winograd[:, 0])) if "winograd" in theta else np.arange(0)
    slopes |= {name: np.zeros(len(features)) for name in analytic.WINOGRAD if "winograd" in theta}
    if fits.size:
        seconds, others = _winograd(theta, features.winograd[fits], features.element_bytes)
        seconds = np.maximum(scale[fits], 1) * seconds
        wins = seconds < best[fits]
        best[fits[wins]] = seconds[wins]
        for name, slope in others.items():
            slopes[name][fits[wins]] = slope[wins]
        whole[fits[wins]] = False
    starts = {name: name.partition(".")[2] for name in theta if name.startswith("depth.")}
    slopes |= {name: slopes["depth"] * (features.code == code) * whole for name, code in starts.items()}
    if "settled" in theta:
        best, slopes = _settled(theta, best, slopes)
    return best, slopes


def _settled(theta: Mapping[str, float], burst: Floats, slopes: Slopes) -> tuple[Floats, Slopes]:
    """Products that last are slower once power has settled, as in `analytic`."""
    lasting = burst / (burst + math.exp(theta["settling"]))
    longer = 1 + math.exp(theta["settled"]) * lasting
    more = math.exp(theta["settled"]) * lasting / longer
    slopes = {name: slope * (1 + more * (1 - lasting)) for name, slope in slopes.items()}
    return burst * longer, slopes | {"settled": more, "settling": -more * (1 - lasting)}


def _winograd(theta: Mapping[str, float], tiled: Floats, element_bytes: float) -> tuple[Floats, Slopes]:
    """The better of F(4 x 4, 3 x 3) through memory and F(2 x 2, 3 x 3) in one kernel, as in `analytic`."""
    large, small, c_out, c_in = tiled.T
    per_byte = element_bytes * math.exp(-theta["bandwidth"])
    filters = math.exp(theta["filters"]) * c_out * c_in * per_byte
    images = math.exp(theta["images"]) * large * (c_in + c_out) * per_byte
    product = np.stack([np.full(len(tiled), 36.0), large, c_out, c_in], axis=1)
    through, by_through = _waves(theta, product, element_bytes, (TILES, WHOLE_K))
    product = np.stack([np.ones(len(tiled)), 16 * small, c_out, c_in], axis=1)
    at_once, by_at_once = _waves(theta, product, element_bytes, (FUSED_TILE, WHOLE_K))
    through, at_once = math.exp(theta["winograd"]) * through, math.exp(theta["fused"]) * at_once
    moved = (72 * images + 81 * filters, 25 * filters)
    first = through + moved[0] < at_once + moved[1]
    product_s, seconds = np.where(first, through, at_once), np.where(first, through + moved[0], at_once + moved[1])
    slopes = {
        name: np.where(first, slope, by_at_once[name]) * product_s / seconds for name, slope in by_through.items()
    }
    slopes["bandwidth"] = slopes["bandwidth"] - np.where(first, *moved) / seconds
    slopes["winograd"], slopes["fused"] = (np.where(which, product_s / seconds, 0.0) for which in (first, ~first))
    slopes["images"] = np.where(first, 72 * images, 0.0) / seconds
    slopes["filters"] = np.where(first, 81.0, 25.0) * filters / seconds
    return seconds, slopes


def _waves(
    theta: Mapping[str, float],
    product: Floats,
    element_bytes: float,
    menu: tuple[tuple[tuple[int, int], ...], tuple[int, ...]],
    starting: Floats | float = 1.0,
) -> tuple[Floats, Slopes]:
    """Seconds of the best tile and split of a menu, and their derivatives."""
    batch, m, n, k = product.T
    choices = np.asarray([(*tile, split) for tile in menu[0] for split in menu[1]], dtype=np.float64)
    tile_m, tile_n, split = choices.T[:, :, None]
    share, slope, depth = (
        1 / (1 + math.exp(-theta["waves"])),
        math.exp(theta["slope"]),
        math.exp(theta["depth"]) * starting,
    )
    small = np.maximum(64 * (1 / tile_m + 1 / tile_n) - 0.75, 0)
    multiply = 2 * tile_m * tile_n * (1 + slope * small) * math.exp(theta["units"] - theta["peak"])
    per_byte = element_bytes * math.exp(-theta["bandwidth"])
    draw = per_byte * math.exp(theta["units"] - theta["feed"]) if "feed" in theta else 0.0
    draw = draw * (np.minimum(m, tile_m) + np.minimum(n, tile_n))
    step = np.maximum(multiply, draw)
    waves = batch * math.exp(-theta["units"]) * np.ceil(m / tile_m) * np.ceil(n / tile_n) * split
    rounded = share * np.ceil(waves) + (1 - share) * np.maximum(waves, 1)
    traffic = np.where(split > 1, split, 0) * (batch * m * n * per_byte * math.exp(theta.get("parts", 0.0)))
    joining = np.where(split > 1, math.exp(theta["joining"]) if "joining" in theta else 0.0, 0.0)
    main = rounded * step * (k / split + depth)
    seconds = np.where((split > 1) & (k < split * LEAST_SPLIT_K), np.inf, main + traffic + joining)
    best = np.argmin(seconds, axis=0), np.arange(len(product))
    small, split, waves, rounded = small[best[0], 0], split[best[0], 0], waves[best], rounded[best]
    main, traffic, seconds = main[best], traffic[best], seconds[best]
    draws = (draw >= multiply)[best] if "feed" in theta else np.zeros(len(product), dtype=np.bool_)
    joins, least = joining[best[0], 0], np.maximum(seconds, _LEAST)
    part = main / least
    slopes = {
        "peak": -part * ~draws,
        "units": part * (1 - (1 - share) * np.where(waves > 1, waves, 0.0) / rounded),
        "slope": part * ~draws * slope * small / (1 + slope * small),
        "depth": part * depth / (k / split + depth),
        "waves": part * share * (1 - share) * (np.ceil(waves) - np.maximum(waves, 1)) / rounded,
        "bandwidth": -traffic / least - part * draws,
    }
    if "feed" in theta:
        slopes |= {"feed": -part * draws, "parts": traffic / least, "joining": joins / least}
    return seconds, slopes
