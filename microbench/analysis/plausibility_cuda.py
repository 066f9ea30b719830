"""The plausibility checks for GPUs: rates that contradict each other, the architecture or the clock.

What a single rate may not exceed (FLOP a clock, bus x pin rate) is its ``nominal``, which the common check compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from microbench.hardware.tables import gpus
from microbench.records import Ceiling, Device
from microbench.records.units import rate

# Two compilers' loops for the same thing reach the same ceiling within this, or one of them misses it.
BACKENDS_AGREE = 0.10
# The device tells its boost clock as a whole number of MHz; opportunistic steps above it are a few per cent.
ABOVE_BOOST = 0.05
RATIO_TOLERANCE = 0.10
LEVEL_TIE = 0.03
_NEAR_TO_FAR = ("shared", "L2", "DRAM")
_PLAIN = ("f64", "f16", "bf16")
_CORES = ("scalar", "vector")  # units of the plain cores

Complaint = tuple[str, str, str, tuple[Ceiling, ...]]


def complaints(ceilings: Sequence[Ceiling], bounds: Sequence[Ceiling], device: Device) -> list[Complaint]:
    """List what cannot be or needs an explanation: code, sentence, remedy, and the ceilings that would settle it.

    Those that bound the roofline (``bounds``) are held against one another, the clock of any against the card's.
    """
    return [
        *backends_differ(bounds),
        *_levels_out_of_order(bounds),
        *_dtype_ratios(bounds, device),
        *_above_boost(ceilings, device),
    ]


def backends_differ(ceilings: Iterable[Ceiling]) -> Iterable[Complaint]:
    """One ceiling measured by CUDA C++ and by Triton, where the two differ by more than `BACKENDS_AGREE`.

    The fastest kernel of each backend stands for it: a slower shape of the same unit says nothing about the ceiling.
    """
    best: dict[tuple[object, ...], dict[str, Ceiling]] = {}
    for ceiling in ceilings:
        if ceiling.mode != "peak" or ceiling.backend not in ("cuda", "triton"):
            continue
        if ceiling.measures == "compute":
            thing: tuple[object, ...] = (ceiling.dtype, ceiling.accumulator, ceiling.unit)
        elif ceiling.measures == "memory":
            thing = (ceiling.level, ceiling.access)
        else:
            continue
        held = best.setdefault(thing, {})
        if ceiling.backend not in held or ceiling.rate.value > held[ceiling.backend].rate.value:
            held[ceiling.backend] = ceiling
    for thing, held in best.items():
        if len(held) == 2:
            slow, fast = sorted(held.values(), key=lambda ceiling: ceiling.rate.value)
            if slow.rate.value < fast.rate.value * (1 - BACKENDS_AGREE):
                yield _differ(" ".join(str(word) for word in thing if word), slow, fast)


def _differ(thing: str, slow: Ceiling, fast: Ceiling) -> Complaint:
    says = (
        f"{thing} by two compilers differs by {1 - slow.rate.value / fast.rate.value:.0%}: {_with_rate(fast)}, "
        f"{_with_rate(slow)}; the faster one is the ceiling"
    )
    remedy = (
        "run again with --thorough; if it stays, update Triton, whose code for this chip is then behind"
        if slow.backend == "triton"
        else f"run again with --thorough; if it stays, {slow.name} misses its ceiling on this chip: "
        "report it with this file"
    )
    return "backends-differ", says, remedy, (slow, fast)


def _with_rate(ceiling: Ceiling) -> str:
    unit = "byte/s" if ceiling.measures == "memory" else "OP/s" if (ceiling.dtype or "").startswith("i") else "FLOP/s"
    return f"{ceiling.backend} {rate(ceiling.rate.value, unit)} ({ceiling.name})"


def _levels_out_of_order(ceilings: Iterable[Ceiling]) -> Iterable[Complaint]:
    """DRAM < L2 < shared memory, by the fastest read of each: different kernels, so the common check has no pairs."""
    best: dict[str, Ceiling] = {}
    for ceiling in ceilings:
        if (
            ceiling.measures == "memory"
            and ceiling.access == "read"
            and ceiling.backend == "cuda"
            and ceiling.level in _NEAR_TO_FAR
        ):
            level = str(ceiling.level)
            if level not in best or ceiling.rate.value > best[level].rate.value:
                best[level] = ceiling
    for near, far in pairwise([best[level] for level in _NEAR_TO_FAR if level in best]):
        if near.rate.value < far.rate.value * (1 - LEVEL_TIE):
            says = f"the fastest read of {near.level} ({near.name}) is slower than that of {far.level} ({far.name})"
            yield (
                "levels-out-of-order",
                says,
                "run again with --thorough; close what else uses the card (nvidia-smi lists it)",
                (near, far),
            )


def _dtype_ratios(ceilings: Sequence[Ceiling], device: Device) -> Iterable[Complaint]:
    """Plain multiply-adds of two formats stand in the ratio that the architecture gives their lanes."""
    chip = gpus.chip(device.name, device.arch)
    plain: dict[str | None, Ceiling] = {}
    for c in sorted(ceilings, key=lambda ceiling: ceiling.rate.value):
        if (c.backend, c.mode, c.measures) == ("cuda", "peak", "compute") and c.unit in _CORES and c.clock_hz:
            plain[c.dtype] = c  # the fastest comes last
    single = plain.get("f32")
    if chip is None or single is None:
        return
    for dtype in _PLAIN:
        other = plain.get(dtype)
        flop, base = chip.flop_per_clock("vector", dtype, None), chip.flop_per_clock("vector", "f32", None)
        if other is None or not flop or not base or not other.clock_hz or not single.clock_hz:
            continue
        # Per clock, because the two may have run at different ones.
        seen = (other.rate.value / other.clock_hz) / (single.rate.value / single.clock_hz)
        if abs(seen / (flop / base) - 1) > RATIO_TOLERANCE:
            says = (
                f"{other.name} is {seen:.3g} times {single.name} per clock; {device.arch} has {flop / base:.3g} times "
                "the lanes for it"
            )
            remedy = "run again with --thorough; if it stays, one of the two loops misses its ceiling here"
            yield "dtype-ratio", says, remedy, (other, single)


def _above_boost(ceilings: Iterable[Ceiling], device: Device) -> Iterable[Complaint]:
    """Cycles = ns x GHz: stamps that tell a clock beyond the card's highest are wrong in one of the two."""
    if not device.boost_clock_hz:
        return
    above = [
        c
        for c in ceilings
        if c.backend == "cuda" and c.clock_hz and c.clock_hz > device.boost_clock_hz * (1 + ABOVE_BOOST)
    ]
    if above:
        worst = max(above, key=lambda ceiling: ceiling.clock_hz or 0)
        says = (
            f"{worst.name} ran at {(worst.clock_hz or 0) / 1e9:.3g} GHz by its own stamps, and {device.name} tells "
            f"{device.boost_clock_hz / 1e9:.3g} GHz as its highest clock"
        )
        yield (
            "clock-above-boost",
            says,
            "compare with 'nvidia-smi -q -d CLOCK' while it runs; report it with this file",
            (worst,),
        )
