"""Whether a card is normal: its ceilings beside those that others measured, and what would hold a slow one down.

Where nobody published a ceiling, what its data sheet computes bounds it, as far as good loops are known to reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from microbench.hardware.nominal import whole_gpu
from microbench.hardware.tables.gpus import Gpu
from microbench.hardware.tables.published import Published, published
from microbench.records import Ceiling, Device, Finding, Value, units

Word = Literal["slow", "normal", "fast"]
Key = tuple[str, ...]

# How far figures of one thing lie apart on cards of one name: bursts by the card (leakage, clocks), products by the
# library's version too, memory by the kernel (reads of an H100 at 3.19 and 3.24 TB/s, of a B200 at 6.69 and 7.26).
_SPREAD = {"peak": 0.05, "library": 0.1, "memory": 0.08, "link": 0.1, "latency": 0.12, "launch": 0.25}
# Shares of the data sheet's rates that good loops reach: of units x clock, and of bus width x pin rate by access.
_COMPUTE = (0.9, 1.06)
_PROMISED = 0.95
_DRAM = {"read": (0.8, 1.0), "write": (0.78, 1.02), "copy": (0.72, 1.0), "triad": (0.72, 1.0)}
# A limit or clock this far below the card's own explains something.
_BELOW = 0.95
_THROTTLED = 0.1
_FIRST = 3
# Buses this wide are those of stacked memory, which keeps its error-correcting bits apart.
_STACKED_BITS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is normal for a card: from ``low`` to ``high``, after so many published figures (0: its data sheet)."""

    low: float
    high: float
    figures: int

    def word(self, value: float) -> Word:
        """Judge a rate; for a time the words change places.

        Examples
        --------
        >>> Expected(low=90, high=100, figures=2).word(80)
        'slow'
        """
        return "slow" if value < self.low else "fast" if value > self.high else "normal"


def known_figures(device: Device) -> tuple[Published, ...]:
    """What others measured on such a GPU; empty for a MIG slice, of which nothing is published."""
    return published(device.name) if whole_gpu(device) is not None else ()


def unit_class(unit: str | None) -> str | None:
    """``plain`` or ``matrix``: scalar and vector are one, since a GPU's lanes run scalar code and count together."""
    return None if unit is None else "matrix" if unit == "matrix" else "plain"


def same_unit(figure: Published, key: tuple[str, str | None, str | None]) -> bool:
    """Whether a figure is about a dtype, a class of units (``None``: any) and an accumulator."""
    dtype, unit, accumulator = key
    if figure.dtype != dtype or unit is None:
        return figure.dtype == dtype
    return unit == unit_class(figure.unit) and (
        figure.accumulator is None or figure.accumulator == (accumulator or dtype)
    )


def spanned(values: Sequence[float], what: str) -> Expected | None:
    """What is normal after published figures of one thing; ``None`` without any."""
    if not values:
        return None
    spread = _SPREAD[what]
    return Expected(low=min(values) * (1 - spread), high=max(values) * (1 + spread), figures=len(values))


def expected(ceiling: Ceiling, alike: Sequence[Published], device: Device) -> Expected | None:
    """What is normal for a ceiling.

    Parameters
    ----------
    ceiling
        The fastest of its kind: a slower path of a chip is no slow card.
    alike
        Published figures about the same thing on such cards.
    device
        Where it was measured.

    Returns
    -------
    Expected or None
        ``None`` where neither a figure nor the data sheet says anything: sustained rates, slices, unknown cards.
    """
    if ceiling.mode == "sustained":
        return None
    what = ceiling.mode if ceiling.measures == "compute" else ceiling.measures
    figures = [figure.value for figure in alike if ceiling.measures != "compute" or figure.mode == ceiling.mode]
    normal, sheet = spanned(figures, what), _of_data_sheet(ceiling, device)
    if normal is None or sheet is None or ceiling.measures != "compute":
        return normal or sheet
    # Some cards run above the clock that their maker counts with: what he promises is no slow card all the same.
    promised = _PROMISED * sheet.high / _COMPUTE[1]
    return Expected(low=min(normal.low, promised), high=normal.high, figures=normal.figures)


def _of_data_sheet(ceiling: Ceiling, device: Device) -> Expected | None:
    card = whole_gpu(device)
    if card is None or ceiling.mode != "peak":
        return None
    if ceiling.measures == "memory":
        shares = _DRAM.get(ceiling.access or "") if ceiling.level == "DRAM" else None
        whole: float | None = card.memory_bandwidth
    else:
        shares, whole = _COMPUTE, _at_boost(ceiling, card)
    if shares is None or whole is None:
        return None
    return Expected(low=shares[0] * whole, high=shares[1] * whole, figures=0)


def _at_boost(ceiling: Ceiling, card: Gpu) -> float | None:
    """Units x FLOP x the clock that the data sheet multiplies with."""
    unit = {"matrix": "matrix", "plain": "vector"}.get(unit_class(ceiling.unit) or "")
    if ceiling.measures != "compute" or unit is None or ceiling.dtype is None:
        return None
    flop = card.chip.flop_per_clock(unit, ceiling.dtype, ceiling.accumulator)
    return card.sms * flop * card.clock_hz(unit, ceiling.dtype) if flop else None


def slow_findings(
    ceilings: Sequence[Ceiling], device: Device, facts: Mapping[str, Value | None] | None = None
) -> Iterator[Finding]:
    """Tell which ceilings are below what is normal for the card, and which settings would explain it, once a kind.

    Parameters
    ----------
    ceilings
        All of a run; the fastest of each kind is judged.
    device
        Where they were measured.
    facts
        Conditions of the run: those of a card are named ``gpu_`` and what `hardware.cuda.facts` calls them.
    """
    card = whole_gpu(device)
    if card is None:
        return
    figures = known_figures(device)
    slow: dict[str, list[tuple[Ceiling, Expected]]] = {}
    for ceiling in _fastest(ceilings):
        normal = expected(ceiling, [each for each in figures if _alike(each, ceiling)], device)
        if normal is not None and normal.word(ceiling.rate.value) == "slow":
            slow.setdefault(ceiling.measures, []).append((ceiling, normal))
    for measures, held in slow.items():
        named = ", ".join(_named(ceiling, normal) for ceiling, normal in held[:_FIRST])
        more = f" and {len(held) - _FIRST} more" if len(held) > _FIRST else ""
        why = reasons([ceiling for ceiling, _ in held], device, facts or {})
        told = "; ".join(why) or "no power limit, clock, ECC, MIG mode or throttling that was seen explains it"
        yield Finding(
            code="slow-for-this-card",
            severity="warning",
            says=f"slow for a {card.name}, {_WHAT[measures]}: {named}{more}; {told}",
            remedy=(
                "nvidia-smi -q -d POWER,CLOCK,PERFORMANCE,TEMPERATURE shows limits and what holds the clock; measure "
                "again with the card to yourself"
            ),
        )


_WHAT = {"compute": "arithmetic", "memory": "memory", "link": "copies to the host"}


def _named(ceiling: Ceiling, normal: Expected) -> str:
    unit = "byte/s" if ceiling.measures != "compute" else "OP/s" if str(ceiling.dtype).startswith("i") else "FLOP/s"
    whose = f"{'others saw' if normal.figures else 'its data sheet implies'} {units.rate(normal.low, unit, 3)} and more"
    where = f" {ceiling.level}" if ceiling.level else ""
    return f"{ceiling.name}{where} reaches {units.rate(ceiling.rate.value, unit, 3)} where {whose}"


def _fastest(ceilings: Sequence[Ceiling]) -> list[Ceiling]:
    """The fastest ceiling of each kind on the whole device, sustained ones apart."""
    best: dict[Key, Ceiling] = {}
    for ceiling in sorted(ceilings, key=lambda each: each.rate.value):
        if ceiling.scope == "device":
            kind = (ceiling.dtype, unit_class(ceiling.unit), ceiling.accumulator, ceiling.level, ceiling.access)
            of = ceiling.variant if ceiling.measures == "link" else ""
            best[(ceiling.measures, ceiling.mode, of, *map(str, kind))] = ceiling
    return list(best.values())


def _alike(figure: Published, ceiling: Ceiling) -> bool:
    if figure.measures != ceiling.measures or ceiling.measures == "link":
        return False
    if ceiling.measures == "memory":
        return (figure.level, figure.access) == (ceiling.level, ceiling.access)
    return same_unit(figure, (ceiling.dtype or "", unit_class(ceiling.unit), ceiling.accumulator))


def reasons(ceilings: Sequence[Ceiling], device: Device, facts: Mapping[str, Value | None]) -> list[str]:
    """What was seen of a run that would make such ceilings slow, a clause each: power, clocks, ECC, MIG, throttling."""
    card = whole_gpu(device)
    if card is None:
        return []
    return [
        *_power(device, card),
        *_clocks(ceilings, card),
        *_memory(ceilings, card, facts),
        *(["MIG mode is on, and holds a part of the card back"] if facts.get("gpu_mig_mode") else []),
        *_throttled(ceilings),
    ]


def _power(device: Device, card: Gpu) -> Iterator[str]:
    limit = device.power_limit_w
    if limit and limit < _BELOW * card.power_limit_w:
        yield f"its power limit is {limit:g} W of {card.power_limit_w:g} W"


def _clocks(ceilings: Sequence[Ceiling], card: Gpu) -> Iterator[str]:
    # A library does not say on which units it ran: its products are those of matrix units.
    units_of = ((each, "vector" if unit_class(each.unit) == "plain" else "matrix") for each in ceilings)
    seen = [(each.clock_hz, card.clock_hz(unit, each.dtype or "")) for each, unit in units_of if each.clock_hz]
    below = [(clock, full) for clock, full in seen if clock < _BELOW * full]
    if below:
        clock, full = min(below)
        yield f"it ran at {units.prefixed(clock, 'Hz')} where the data sheet counts with {units.prefixed(full, 'Hz')}"


def _memory(ceilings: Sequence[Ceiling], card: Gpu, facts: Mapping[str, Value | None]) -> Iterator[str]:
    if not any(each.measures == "memory" for each in ceilings):
        return
    bits, clock = facts.get("gpu_memory_bus_bits"), facts.get("gpu_memory_clock_hz")
    if bits and clock and (told := float(bits) / 8 * 2 * float(clock)) < _BELOW * card.memory_bandwidth:
        own = units.prefixed(card.memory_bandwidth, "B/s")
        yield f"its memory clock gives {units.prefixed(told, 'B/s')} of {own}"
    if facts.get("gpu_ecc") and card.bus_bits < _STACKED_BITS:
        yield "ECC is on, and this kind of memory keeps its bits among the data"


def _throttled(ceilings: Sequence[Ceiling]) -> Iterator[str]:
    most = max((each.throttled_share or 0.0 for each in ceilings), default=0.0)
    if most > _THROTTLED:
        yield f"power or heat held its clock down in {100 * most:.0f} % of the samples"
