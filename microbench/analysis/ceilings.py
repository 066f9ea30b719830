"""From samples to ceilings and costs: the envelope and the median, kept apart, each with its interval and its doubts.

Peak: value is the best round, low the third best, high the smaller of nominal at the clock seen and the value plus one
timer step. Typical: the median over rounds of each round's median, with an order-statistic interval. A cost is the
opposite of a ceiling: the best round is its lowest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from microbench.analysis.latencies import cost_of, latencies, memory_latency, sides
from microbench.analysis.level_findings import level_findings
from microbench.analysis.levels import answered_by_a_cache, find_levels, level_of_case, sweep
from microbench.analysis.trust import clocks_unknown, long_enough
from microbench.hardware.clock import (
    Best,
    Round,
    converged,
    evaluate_round,
    highest_clocks,
    lasts,
    select_rounds,
    settled,
)
from microbench.hardware.nominal import advertised_rate, bus_rate
from microbench.hardware.placement import cores_of, nominal_of
from microbench.records import Case, Ceiling, Cost, Device, Estimate, Finding, LevelSeen, Plan, Samples, Sheet
from microbench.records.roles import RATED
from microbench.stats.intervals import AGREEING_ROUNDS, envelope, median_interval

# What two reads of the clock can be wrong by together, in nanoseconds.
TIMER_STEP_NS = 40
_Rates = Literal["compute", "memory", "link"]
# A round whose median is within this of the best was quiet.
_QUIET = {"compute": 0.02, "memory": 0.05}
# Rounds of samples that last may lie so far apart, as a share of their median.
_STEADY = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What the samples of one run amount to."""

    ceilings: tuple[Ceiling, ...]
    costs: tuple[Cost, ...]
    levels: tuple[LevelSeen, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    """One case over all its rounds."""

    case: Case
    sheet: Sheet
    rounds: tuple[Samples, ...]
    reference_clock: Sheet | None = None
    highest: Mapping[tuple[str, int], float] = field(default_factory=dict)

    def evaluated(self, device: Device) -> list[tuple[Round, Best]]:
        """Rate, clock and fastest sample of each round, taken alone."""
        return [evaluate_round(samples, self.case, device, self.sheet, self.reference_clock) for samples in self.rounds]

    def found(self, device: Device) -> list[tuple[Round, Best]]:
        """Best rate and fastest sample of each round that counts towards a peak, clocks compared between cases."""
        pairs = self.evaluated(device)
        rounds = settled([each for each, _ in pairs], self.case, self.sheet, self.highest)
        known = [
            (each, fastest if each.clock_hz == alone.clock_hz else replace(fastest, clock_hz=None))
            for each, (alone, fastest) in zip(rounds, pairs, strict=True)
        ]
        timed_clock = any(samples.reference_ns for samples in self.rounds)
        return [known[i] for i in select_rounds(rounds, self.case.threads, timed_clock)]

    def medians(self, work: float) -> list[float]:
        """Median rate of each round."""
        return [work * self.case.threads * r.iterations * 1e9 / float(np.median(r.ns)) for r in self.rounds]


def analyse(samples: Sequence[Samples], plan: Plan, sheets: Mapping[str, Sheet], device: Device) -> Analysis:
    """Ceilings, costs and memory levels from raw samples.

    Cases whose working set lies between two plateaus belong to no level and yield no ceiling; of several cases that
    differ only in working set, pages or streams the best one is the ceiling, and names itself in ``Ceiling.case``.
    """
    cases = {case.key: case for case in plan.cases}
    grouped: dict[str, list[Samples]] = defaultdict(list)
    for sample in samples:
        case = cases.get(sample.case)
        if case is not None and case.kernel in sheets and not case.on_named_cpus:  # those are entries of a matrix
            grouped[sample.case].append(sample)
    grouped, doubts = long_enough(grouped)
    known = [sample for group in grouped.values() for sample in group]
    series = [_series(cases[key], sheets, group) for key, group in grouped.items()]
    levels = [
        *find_levels(sweep(known, cases, sheets, "stream"), device, "stream", _memory_rate(series)),
        *find_levels(sweep(known, cases, sheets, "chase"), device, "chase", memory_latency(series)),
    ]
    alone = [(one.case, one.sheet, each) for one in series for each, _ in one.evaluated(device)]
    series = [replace(one, highest=highest_clocks(alone)) for one in series]
    highest: dict[tuple[str, int, str | None, str], Ceiling] = {}
    for one, measures, level in _rated(series, device, levels):
        ceiling = _ceiling(one, measures, level, device)
        identity = (ceiling.name, ceiling.threads, ceiling.placement, ceiling.mode)
        if identity not in highest or ceiling.rate.value > highest[identity].rate.value:
            highest[identity] = ceiling
    parts, one_group = sides(series, device)
    costs = [*(cost_of(one) for one in series if one.sheet.takes("cost")), *latencies(levels, series, device), *parts]
    return Analysis(
        ceilings=tuple(highest.values()),
        costs=tuple(costs),
        levels=tuple(levels),
        findings=(
            *doubts,
            *one_group,
            *clocks_unknown(highest.values(), sheets, device),
            *level_findings(levels, highest.values(), device, _placeless(series, device, levels)),
        ),
    )


def _series(case: Case, sheets: Mapping[str, Sheet], rounds: Sequence[Samples]) -> _Series:
    sheet = sheets[case.kernel]
    return _Series(
        case=case, sheet=sheet, rounds=tuple(rounds), reference_clock=sheets.get(sheet.reference_clock or "")
    )


def _memory_rate(series: Sequence[_Series]) -> float | None:
    """The best byte/s of one thread through main memory, of the kernel that sweeps: where its curve leads."""
    rates = (
        one.sheet.work.bytes * samples.iterations * 1e9 / min(samples.ns)
        for one in series
        if one.sheet.takes("sweep") and one.sheet.work.bytes and one.case.params.get("cold") and one.case.threads == 1
        for samples in one.rounds
        if one.sheet.measures == "memory"
    )
    return max(rates, default=None)


def _rated(
    series: Sequence[_Series], device: Device, levels: Sequence[LevelSeen]
) -> Iterator[tuple[_Series, _Rates, str | None]]:
    """Yield the cases that are ceilings, with what they measure and, where that is memory, its level."""
    for one in series:
        measures = one.sheet.measures
        if not one.sheet.takes(*RATED):
            continue
        if measures in ("compute", "link"):
            yield one, measures, None
        elif measures == "memory":
            level = one.sheet.fixed_level or level_of_case(one.case, levels, device)
            reached = one.sheet.takes("ceiling") or level == "DRAM"
            warm = level == "DRAM" and answered_by_a_cache(one.case, one.sheet)  # the cold cases are the ceiling
            if level is not None and reached and not warm:
                yield one, measures, level


def _placeless(series: Sequence[_Series], device: Device, levels: Sequence[LevelSeen]) -> int:
    """How many streams through sets of which nobody knows the level there are."""
    streams = [one for one in series if one.sheet.measures == "memory" and one.sheet.takes("ceiling")]
    return sum(not one.sheet.fixed_level and level_of_case(one.case, levels, device) is None for one in streams)


def _ceiling(one: _Series, measures: _Rates, level: str | None, device: Device) -> Ceiling:
    sheet, case = one.sheet, one.case
    work = sheet.work.flop if measures == "compute" else sheet.work.bytes
    found = one.found(device)
    per_round = [work * each.rate for each, _ in found]
    sustained = case.mode == "sustained"
    clock = _clock(one, found[int(np.argmax(per_round))][1])
    nominal = bus_rate(device, level)
    if clock and (measures == "compute" or level == "L1"):  # what the ports of a core bound
        nominal = nominal_of(sheet, case, device, clock)
    power, medians = _power(one.rounds), one.medians(work)
    rate = _typical(medians) if sustained else _peak(per_round, medians, one, nominal)
    return Ceiling(
        name=f"{sheet.name}.{level}" if measures == "memory" and not sheet.fixed_level else sheet.name,
        measures=measures,
        backend=sheet.backend,
        rate=rate,
        typical=_typical(medians),
        case=case.key,
        unit=sheet.unit,
        dtype=sheet.dtype,
        accumulator=sheet.accumulator,
        level=level,
        access=sheet.access,
        variant=sheet.variant,
        threads=case.threads,
        scope=case.scope,
        mode=case.mode,
        placement=case.placement,
        operands=sheet.operands,
        rounds=len(one.rounds),
        converged=_settled(one, found, medians),
        quiet_share=_quiet_share(medians, rate.value, measures),
        nominal=nominal,
        advertised=advertised_rate(device, sheet, level),
        clock_hz=clock,
        per_clock=_per_clock(rate.value, clock, case, device),
        power_w=power,
        energy_per_op_j=power / rate.value if power and sustained and measures == "compute" else None,
        energy_per_byte_j=power / rate.value if power and sustained and measures == "memory" else None,
        throttled_share=_throttled(one.rounds),
    )


def _settled(one: _Series, found: Sequence[tuple[Round, Best]], medians: Sequence[float]) -> bool:
    """Whether a peak is established; of what lasts, whether its rounds lie within a tenth of each other."""
    if not lasts(one.case, one.sheet):
        return converged([each for each, _ in found], one.sheet, one.case.threads)
    middle = float(np.median(medians))
    return len(medians) >= AGREEING_ROUNDS and max(medians) - min(medians) <= _STEADY * middle


def _clock(one: _Series, fastest: Best) -> float | None:
    """The middle clock of what lasts, throttled samples included; of a peak the clock of its fastest sample."""
    stamped = [float(np.median(each.clock_hz)) for each in one.rounds if each.clock_hz]
    return float(np.median(stamped)) if one.case.mode == "sustained" and stamped else fastest.clock_hz


def _quiet_share(medians: Sequence[float], value: float, measures: _Rates) -> float:
    quiet = _QUIET["compute" if measures == "compute" else "memory"]
    return round(sum(each >= value * (1 - quiet) for each in medians) / len(medians), 4)


def _per_clock(value: float, clock: float | None, case: Case, device: Device) -> float | None:
    """Work of one core, or of one multiprocessor, in one cycle."""
    units = cores_of(case, device) if device.kind == "cpu" else device.units_by_kind.get("sm")
    return value / clock / units if clock and units else None


def _power(rounds: Sequence[Samples]) -> float | None:
    medians = [float(np.median(r.power_w)) for r in rounds if r.power_w]
    return float(np.median(medians)) if medians else None


def _peak(per_round: Sequence[float], medians: Sequence[float], one: _Series, nominal: float | None) -> Estimate:
    value, low = envelope(per_round)
    few = len(per_round) < AGREEING_ROUNDS
    if few:  # one round cannot disagree with itself: what its middle sample says is the nearest to another opinion
        low = min(low, *medians)
    fastest_ns = min(min(r.ns) for r in one.rounds)
    step = value * TIMER_STEP_NS / fastest_ns
    high = max(value, min(value + step, nominal)) if nominal else value + step
    third = f"lowest median of {len(per_round)} rounds" if few else "third best round"
    return Estimate(
        value=value,
        low=low,
        high=high,
        basis=f"best round; low: {third}; high: {'nominal or ' if nominal else ''}one timer step",
    )


def _typical(medians: Sequence[float]) -> Estimate:
    value, low, high, confidence = median_interval(medians)
    return Estimate(
        value=value,
        low=low,
        high=high,
        confidence=round(confidence, 4) if 0 < confidence < 1 else None,
        basis="median over rounds",
    )


def _throttled(rounds: Sequence[Samples]) -> float | None:
    if not any(r.clock_hz for r in rounds):
        return None
    return sum(r.throttled for r in rounds) / sum(r.count for r in rounds)
