"""Seconds of an operator from a handful of physical parameters: the mean that local correction starts from.

    seconds = cost(launch) + factor(operator) x (compute^p + (traffic(operator) x memory)^p)^(1/p)

``memory`` is bytes over the bandwidth of the level that holds the working set, levels blending into each other.
``compute`` has three forms: ``tiled`` for products on many units (tiles of a menu are dealt out in waves, the best tile
and split of k wins), ``smooth`` for products on few cores (each dimension costs as if it were a little longer),
``stream`` for all else. All parameters are kept as natural logarithms, so that a prior is a mean and a spread in
factors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from microbench.operators.features import Features

Floats = npt.NDArray[np.float64]

# Output tiles that matrix libraries pick from, and how often they split k: the menu of cuBLAS and CUTLASS profiles.
TILES = ((256, 128), (128, 256), (128, 128), (128, 64), (64, 128), (64, 64), (64, 32), (32, 64), (32, 32), (16, 32))
SPLITS = (1, 2, 4, 8, 16)
# Keys of one sequence are dealt out to as many units as there are.
SPLITS_OF_KEYS = (*SPLITS, 32, 64, 128)
LEAST_SPLIT_K = 128
# Convolutions: the output tile of Winograd's F(2 x 2) kernel, 16 products for 32 image tiles times 32 channels, in one
# launch.
FUSED_TILE = ((512, 32),)
WHOLE_K = (1,)
# Bytes moved for each element of an operand that is turned from 16 bits into 8.
QUANTISED = 3
# Elements of the widest vector that libraries pad columns to.
LANES = 16
# Width, in ln(working set), over which one level gives way to the next.
BLEND = 0.4

# How far from a ridge a row may lie (ln) until it is all of one regime.
REGIME, _LEAST = 3.0, 1e-30

# Width (ln) at which a residual stops counting as noise and starts counting as an outlier.
NOISE = 0.12

PRODUCTS = ("matmul", "bmm", "linear", "convolution", "attention", "recurrent")

# Parameters that no datasheet tells, with means and spreads in ln: where 300 rows each of public tables of three GPUs
# put them.
TILED = ("slope", "depth", "waves", "feed", "parts", "joining", "settled", "settling")
SPLITTING = ("parts", "joining")
WINOGRAD = ("winograd", "images", "filters", "fused")
LEARNT = ("sharpness", *TILED, *WINOGRAD)
SHAPES: Mapping[str, tuple[float, float]] = {
    "sharpness": (0.7, 0.7),
    "slope": (-2.7, 0.8),
    "depth": (3.9, 0.9),
    "waves": (-0.7, 1.0),
    # What one unit draws over its share of the memory's bandwidth; what splitting k writes and reads, over those bytes
    # at that bandwidth, and takes beside it in seconds; how much longer settled power makes a product (its share), and
    # after how many seconds.
    "feed": (1.5, 0.4),
    "parts": (-0.5, 0.7),
    "joining": (-13.8, 1.0),
    "settled": (-2.5, 1.0),
    "settling": (-6.5, 1.0),
}
SHAPES_OF: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "convolution": {"slope": (-0.9, 0.7), "depth": (2.1, 0.8), "waves": (0.9, 1.0),
                    "winograd": (-0.2, 0.4), "images": (0.0, 0.4), "filters": (0.6, 0.6), "fused": (0.0, 0.3)},
    "attention": {"slope": (0.0, 1.0), "depth": (4.6, 1.0), "waves": (0.7, 1.0)},
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is believed before any row is seen: ceilings by which the fit is pulled, with spreads in ln.

    ``peak`` in FLOP/s and ``bandwidth`` in byte/s of the outermost level; ``inner`` has (capacity in bytes, bandwidth
    over the next level out) of each cache from the innermost; ``units`` is how many share the work (SMs, cores);
    ``winograd`` says whether convolutions of the format have that algorithm, which tensor cores do without;
    ``quantised`` whether an operand is turned into the format before it is multiplied; ``regime``
    whether a row's place for the local correction is also what bounds it, ``place`` where the device lies among others
    (`figures.place_of`); ``shapes`` has means and spreads (ln) that take the place of any parameter's own.
    """

    peak: float
    bandwidth: float
    cost: Mapping[str, float]
    units: float = 100.0
    units_spread: float = 0.5
    spread: float = 0.7
    inner: tuple[tuple[float, float], ...] = ()
    inner_spread: float = 0.5
    threads: int = 1
    winograd: bool = True
    quantised: bool = False
    regime: bool = False
    place: tuple[float, ...] = ()
    shapes: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def parameters(
    form: str, family: str, prior: Prior, modes: tuple[tuple[str, ...], tuple[str, ...]]
) -> tuple[tuple[str, ...], Floats, Floats]:
    """Names, means and spreads of a form's parameters; ``modes`` are the launch modes and the operators there are."""
    launches, codes = modes
    rows: list[tuple[str, float, float]] = [(f"cost.{launch}", np.log(prior.cost[launch]), 1.5) for launch in launches]
    rows += [("peak", np.log(prior.peak), prior.spread), ("bandwidth", np.log(prior.bandwidth), prior.spread)]
    shapes = {**SHAPES, **SHAPES_OF.get(family, {}), **prior.shapes}
    rows.append(("sharpness", *shapes["sharpness"]))
    for place, (capacity, ratio) in enumerate(prior.inner):
        rows += [(f"capacity.{place}", np.log(capacity), 0.7), (f"ratio.{place}", np.log(ratio), prior.inner_spread)]
    if form == "tiled":
        rows.append(("units", np.log(prior.units), prior.units_spread))
        whole = family == "convolution" and prior.winograd
        rows += [(name, *shapes[name]) for name in TILED if not (whole and name in SPLITTING)]
        rows += [(name, *shapes[name]) for name in WINOGRAD if family == "convolution" and prior.winograd]
        # What a library moves beside the operands, to turn them: it costs where traffic does.
        rows += [(f"traffic.{code}", 0.0, 0.5) for code in codes if len(codes) > 1]
        # What starting a tile costs: prompts and single tokens are kernels of different kinds.
        rows += [(f"depth.{code}", 0.0, 0.7) for code in codes if len(codes) > 1]
        if prior.quantised:
            rows.append(("quantise", 0.0, 0.8))
    if form == "smooth":
        rows += [("m0", np.log(2.0), 1.0), ("n0", np.log(4.0), 1.0), ("k0", np.log(8.0), 1.0), ("lanes", 0.0, 1.0)]
    if prior.threads > 1:
        # Waking the team: below some size one thread alone is quicker.
        rows += [("team", np.log(float(prior.threads)), 0.15), ("sync", np.log(4e-6), 1.0)]
    if form == "stream" and family != "elementwise":
        # A row costs as if it were so many elements longer.
        rows.append(("short", np.log(2.0), 1.2))
    if len(codes) > 1:
        rows += [(f"factor.{code}", 0.0, 0.7) for code in codes] + [(f"overhead.{code}", 0.0, 0.7) for code in codes]
    names, means, spreads = zip(*((name, *prior.shapes.get(name, known)) for name, *known in rows), strict=True)
    return names, np.asarray(means), np.asarray(spreads)


def memory_seconds(theta: Mapping[str, float], features: Features) -> Floats:
    """Bytes over the bandwidth of the level they come from; weights come from where a whole model leaves them."""
    seconds = features.bytes / _bandwidth(theta, features, features.bytes)
    if features.footprint > 0:
        outside = np.maximum(features.bytes, features.footprint)
        slower = 1 / _bandwidth(theta, features, outside) - 1 / _bandwidth(theta, features, features.bytes)
        seconds = seconds + features.weights * slower
    return np.asarray(seconds)


def _bandwidth(theta: Mapping[str, float], features: Features, working_set: Floats) -> Floats:
    log_bandwidth = np.full(len(features), theta["bandwidth"])
    log_bytes = np.log(working_set)
    place = 0
    while f"capacity.{place}" in theta:
        inside = 1 / (1 + np.exp(np.clip((log_bytes - theta[f"capacity.{place}"]) / BLEND, -50, 50)))
        log_bandwidth += theta[f"ratio.{place}"] * np.where(features.cold, 0.0, inside)
        place += 1
    return np.asarray(np.exp(log_bandwidth))


def compute_seconds(form: str, theta: Mapping[str, float], features: Features) -> Floats:
    """FLOP over the peak, with what the form says about shapes."""
    if form == "tiled":
        return _tiled(theta, features)
    plain = features.flop * np.exp(-theta["peak"])
    if form == "smooth":
        _, m, n, k = features.gemm.T
        # Columns come in vectors: what does not fill the last one is computed all the same.
        share = 1 / (1 + np.exp(-theta["lanes"]))
        n = n * (1 - share) + share * LANES * np.ceil(n / LANES)
        plain = plain * n / np.maximum(features.gemm[:, 2], 1)
        return np.asarray(
            plain * (1 + np.exp(theta["m0"]) / m) * (1 + np.exp(theta["n0"]) / n) * (1 + np.exp(theta["k0"]) / k)
        )
    return np.asarray(plain)


def _tiled(theta: Mapping[str, float], features: Features) -> Floats:
    """Waves of tiles over the units, by the best tile and split of k; of a convolution also by the best algorithm."""
    product, scale = at_once(features)
    starting = by_operator("depth", theta, features)
    menu = (TILES, splits_of(theta, features))
    best: Floats = scale * _waves(theta, product, features.element_bytes, menu, starting)
    fits = np.isfinite(features.winograd[:, 0]) if "winograd" in theta else np.zeros(len(features), dtype=np.bool_)
    if fits.any():
        # The transformed product counts one pass; a backward pass is two of them.
        seconds = np.maximum(scale[fits], 1) * _winograd(theta, features.winograd[fits], features.element_bytes)
        best[fits] = np.minimum(best[fits], seconds)
    if "settled" in theta:
        best = best * (1 + math.exp(theta["settled"]) * best / (best + math.exp(theta["settling"])))
    return np.asarray(best)


def splits_of(theta: Mapping[str, float], features: Features) -> tuple[int, ...]:
    """In how many parts a kernel may take the sum of a product."""
    if "winograd" in theta:
        return WHOLE_K
    return SPLITS_OF_KEYS if features.family == "attention" and "feed" in theta else SPLITS


def at_once(features: Features) -> tuple[Floats, Floats]:
    """The product that a GPU's units share, and how often a row has its work: steps of a sequence come one by one.

    Products counted by the rule may be fewer than the gemm view has (causal masks) or more (the two products of
    attention).
    """
    product = features.gemm
    if features.family == "recurrent":
        product = np.concatenate([np.ones_like(product[:, :1]), product[:, 1:]], axis=1)
    batch, m, n, k = product.T
    return product, features.flop / np.maximum(2 * batch * m * n * k, 1)


def _winograd(theta: Mapping[str, float], tiled: Floats, element_bytes: float) -> Floats:
    """The better of Winograd's F(4 x 4, 3 x 3), which passes through memory, and F(2 x 2, 3 x 3) in one kernel.

    Their 36 and 16 products have image tiles, c_out and c_in as sizes; a filter of 9 becomes one of 36 or 16 elements.
    """
    large, small, c_out, c_in = tiled.T
    per_byte = element_bytes * np.exp(-theta["bandwidth"])
    filters, images = (
        np.exp(theta["filters"]) * c_out * c_in * per_byte,
        np.exp(theta["images"]) * large * (c_in + c_out) * per_byte,
    )
    product = np.stack([np.full(len(tiled), 36.0), large, c_out, c_in], axis=1)
    through_memory = (
        np.exp(theta["winograd"]) * _waves(theta, product, element_bytes, (TILES, WHOLE_K)) + 72 * images + 81 * filters
    )
    product = np.stack([np.ones(len(tiled)), 16 * small, c_out, c_in], axis=1)
    at_once = np.exp(theta["fused"]) * _waves(theta, product, element_bytes, (FUSED_TILE, WHOLE_K)) + 25 * filters
    return np.asarray(np.minimum(through_memory, at_once))


def _waves(
    theta: Mapping[str, float],
    product: Floats,
    element_bytes: float,
    menu: tuple[tuple[tuple[int, int], ...], tuple[int, ...]],
    starting: Floats | float = 1.0,
) -> Floats:
    """Seconds of the best tile and the best number of parts of k of a menu, in the precision of the product's sizes.

    ``starting`` multiplies what a tile costs to begin with.
    """
    batch, m, n, k = product.T
    units, share = math.exp(theta["units"]), 1 / (1 + math.exp(-theta["waves"]))
    unit_rate = math.exp(theta["peak"]) / units
    slope, depth = math.exp(theta["slope"]), math.exp(theta["depth"]) * starting
    per_byte = element_bytes * math.exp(-theta["bandwidth"])
    # Seconds for a unit to draw one column or row of an operand's element; files of older versions know nothing of it.
    draw = per_byte * units * math.exp(-theta["feed"]) if "feed" in theta else 0.0
    joining = math.exp(theta["joining"]) if "joining" in theta else 0.0
    best = np.full(len(product), np.inf, dtype=product.dtype)
    each, traffic = batch / units, batch * m * n * (per_byte * math.exp(theta.get("parts", 0.0)))
    for tile_m, tile_n in menu[0]:
        efficiency = 1 / (1 + slope * max(64 * (1 / tile_m + 1 / tile_n) - 0.75, 0))
        step = 2 * tile_m * tile_n / (unit_rate * efficiency)
        step = np.maximum(step, draw * (np.minimum(m, tile_m) + np.minimum(n, tile_n)))
        tiles = each * np.ceil(m / tile_m) * np.ceil(n / tile_n)
        for split in menu[1]:
            waves = tiles * split
            seconds = np.ceil(waves)
            seconds *= share
            np.maximum(waves, 1, out=waves)
            waves *= 1 - share
            seconds += waves
            seconds *= step * (k / split + depth)
            if split > 1:
                seconds += split * traffic + joining
                seconds[k < split * LEAST_SPLIT_K] = np.inf
            np.minimum(best, seconds, out=best)
    return best


def costs(theta: Mapping[str, float], features: Features) -> Floats:
    """Fixed cost of each row by launch mode (an unseen mode takes the smallest), times its operator's overhead."""
    known = {
        name.removeprefix("cost."): float(np.exp(value)) for name, value in theta.items() if name.startswith("cost.")
    }
    least = min(known.values())
    found = np.full(len(features), least)
    for launch, seconds in known.items():
        found[features.launch == launch] = seconds
    if "units" in theta and features.family == "recurrent":
        found = found * features.gemm[:, 0]  # on a GPU every step of a sequence starts kernels of its own
    return found * by_operator("overhead", theta, features)


def factors(theta: Mapping[str, float], features: Features) -> Floats:
    """What multiplies the time beyond the fixed cost: short rows, and the operator."""
    factor = by_operator("factor", theta, features)
    return np.asarray(factor * (1 + np.exp(theta["short"]) / features.cols)) if "short" in theta else factor


def by_operator(kind: str, theta: Mapping[str, float], features: Features) -> Floats:
    """What a parameter that each operator has of its own multiplies; 1 where there is none.

    An operator that no row was of takes the parameter of its nearest relative (`inherited`).
    """
    found = np.ones(len(features))
    known = {name.partition(".")[2]: value for name, value in theta.items() if name.startswith(f"{kind}.")}
    for code in set(features.code.tolist()) if known else ():
        found[features.code == code] = np.exp(inherited(code, known))
    return found


_BACKWARD = ".backward"


def inherited(code: str, known: Mapping[str, float]) -> float:
    """The parameter (ln) of an operator, or of what it is a variant of, in the same pass before the other one.

    Where no relative is known it is the mean of those of the same pass, else of all.

    Examples
    --------
    >>> inherited("conv2d.depthwise.ragged", {"conv2d": 1.0, "conv2d.depthwise": 2.0, "conv2d.backward": 3.0})
    2.0
    >>> inherited("conv2d.grouped.backward", {"conv2d": 1.0, "conv2d.grouped": 2.0, "conv2d.backward": 3.0})
    3.0
    """
    forward, backward = code.removesuffix(_BACKWARD), _BACKWARD if code.endswith(_BACKWARD) else ""
    parts = forward.split(".")
    line = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    for name in (*(f"{each}{backward}" for each in line), *line):
        if name in known:
            return known[name]
    alike = [value for name, value in known.items() if name.endswith(_BACKWARD) == bool(backward)]
    return float(np.mean(alike or list(known.values())))


def power_mean(theta: Mapping[str, float], compute: Floats, memory: Floats) -> Floats:
    """Compute and memory seconds overlapped: the larger where they differ much, more than it where they are alike."""
    power = 1 + np.exp(theta["sharpness"])
    most = np.maximum(np.maximum(compute, memory), 1e-30)
    return np.asarray(most * ((compute / most) ** power + (memory / most) ** power) ** (1 / power))


def terms(form: str, theta: Mapping[str, float], features: Features) -> tuple[Floats, Floats, Floats, Floats]:
    """Total seconds, and cost, compute and memory seconds."""
    cost, factor = costs(theta, features), factors(theta, features)
    compute = compute_seconds(form, theta, features)
    memory = memory_seconds(theta, features) * by_operator("traffic", theta, features)
    if "quantise" in theta:
        cost = cost + quantising(theta, features)
    joined = power_mean(theta, compute, memory)
    if "team" in theta:
        joined = np.minimum(joined + np.exp(theta["sync"]), joined * np.exp(theta["team"]))
    return cost + factor * joined, cost, factor * compute, factor * memory


def quantising(theta: Mapping[str, float], features: Features) -> Floats:
    """Seconds of turning the left operand into eight bits before it is multiplied: it is read and written."""
    batch, m, _, k = features.gemm.T
    return np.asarray(QUANTISED * batch * m * k * np.exp(theta["quantise"] - theta["bandwidth"]))


def regimes(theta: Mapping[str, float], features: Features, seconds: tuple[Floats, Floats, Floats]) -> Floats:
    """What a row is bound by, as coordinates of a local correction (ln).

    Compute over memory, both over cost, and of a product how many waves of large tiles its units see: near shapes on
    two sides of a ridge, or of a whole wave, are near in size alone. ``seconds`` are those of cost, compute and memory.
    """
    cost, compute, memory = seconds
    work = np.maximum(compute, memory)
    columns = [np.maximum(compute, _LEAST) / np.maximum(memory, _LEAST), work / np.maximum(cost, _LEAST)]
    if "units" in theta:
        batch, m, n, _ = at_once(features)[0].T
        columns.append(batch * m * n / (TILES[2][0] * TILES[2][1] * math.exp(theta["units"])))
    return np.asarray(np.clip(np.log(np.maximum(np.stack(columns, axis=1), _LEAST)), -REGIME, REGIME))


def placed(form: str, theta: Mapping[str, float], features: Features, prior: Prior) -> tuple[Floats, Floats]:
    """ln(seconds) by the physics, and coordinates of its correction: of shapes, regime and device as the prior asks."""
    total, *seconds = terms(form, theta, features)
    parts = [features.coordinates]
    if prior.regime:
        parts.append(regimes(theta, features, (seconds[0], seconds[1], seconds[2])))
    if prior.place:
        parts.append(np.broadcast_to(np.asarray(prior.place), (len(features), len(prior.place))))
    return np.log(total), np.concatenate(parts, axis=1)
