"""What cores do together, from samples: scaling curves, clocks, core-to-core and node matrices, loaded latency."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from microbench.analysis.latencies import best_seconds, scaled
from microbench.analysis.roofs import roofs
from microbench.analysis.trust import long_enough
from microbench.hardware.placement import scaling
from microbench.hardware.procfs import cpu_list
from microbench.records import (
    Case,
    Ceiling,
    CoreToCore,
    CpuPair,
    Device,
    Estimate,
    LoadedPoint,
    Multicore,
    NodePair,
    Samples,
    ScalingCurve,
    ScalingPoint,
    Sheet,
    TeamClock,
)

# A team that reaches this share of the highest rate has as good as saturated what it shares.
SATURATED = 0.9
# Latencies of one kind of pair differ by some per cent to a third; the next kind is further away than this.
_GAP = 1.3


def multicore(
    samples: Sequence[Samples],
    cases: Mapping[str, Case],
    sheets: Mapping[str, Sheet],
    ceilings: Sequence[Ceiling],
    device: Device,
) -> Multicore | None:
    """Everything about cores together that a run measured; ``None`` without a topology.

    Parameters
    ----------
    samples, cases, sheets
        What was measured: seconds from the best round of each case, the third best bounding it.
    ceilings
        The run's ceilings, from which the scaling curves and the clocks are taken.
    device
        Its topology says which placements belong to the curve.
    """
    if device.topology is None:
        return None
    grouped: dict[str, list[Samples]] = defaultdict(list)
    for each in samples:
        if each.case in cases and cases[each.case].kernel in sheets:
            grouped[each.case].append(each)
    grouped, _ = long_enough(grouped)
    timed = [(cases[key], sheets[cases[key].kernel], best_seconds(rounds)) for key, rounds in grouped.items()]
    return Multicore(
        scaling=tuple(_scaling(roofs(ceilings, sheets.values()), device)),
        clocks=tuple(_clocks(ceilings)),
        core_to_core=_core_to_core(timed, device),
        nodes=tuple(_nodes(timed, device)),
        loaded=tuple(_loaded(timed)),
    )


def _scaling(ceilings: Sequence[Ceiling], device: Device) -> Iterator[ScalingCurve]:
    """Curves of the loops that were measured on more than one of the curve's placements."""
    places = {(each.word, each.threads) for each in scaling(device.topology)} if device.topology is not None else set()
    curves: dict[tuple[str, str | None], dict[int, float]] = defaultdict(dict)
    for ceiling in ceilings:
        on_it = (ceiling.placement, ceiling.threads) in places and ceiling.mode == "peak"
        if on_it and ceiling.backend == "native" and (ceiling.measures == "compute" or ceiling.level == "DRAM"):
            curves[ceiling.name, ceiling.level][ceiling.threads] = ceiling.rate.value
    whole = max((len(points) for points in curves.values()), default=0)
    for (name, level), points in curves.items():
        if len(points) == whole > 1 and (".f32." in name and (level is None or name.startswith("read."))):
            rates = [points[cores] for cores in sorted(points)]
            enough = next(cores for cores in sorted(points) if points[cores] >= SATURATED * max(rates))
            yield ScalingCurve(
                name=name,
                level=level,
                points=tuple(ScalingPoint(cores=cores, rate=points[cores]) for cores in sorted(points)),
                saturated_at=enough,
            )


def _clocks(ceilings: Sequence[Ceiling]) -> Iterator[TeamClock]:
    """The clock of one core beside that of all CPUs, for each variant of arithmetic that has both."""
    every = max((c.threads for c in ceilings if c.placement is None), default=1)
    seen: dict[str, dict[bool, float]] = defaultdict(dict)
    for c in ceilings:
        arithmetic = c.measures == "compute" and c.backend == "native" and c.placement is None
        if arithmetic and c.clock_hz and c.threads in (1, every):
            held = seen[c.variant]
            held[c.threads == every] = max(held.get(c.threads == every, 0.0), c.clock_hz)
    for variant, clocks in seen.items():
        if len(clocks) > 1:
            yield TeamClock(variant=variant, one_core_hz=clocks[False], all_cores_hz=clocks[True])


_Timed = Sequence[tuple[Case, Sheet, Estimate]]


def _core_to_core(timed: _Timed, device: Device) -> CoreToCore | None:
    pairs = []
    for case, sheet, seconds in timed:
        if sheet.takes("transfer") and case.placement is not None and case.on_named_cpus:
            first, second = cpu_list(case.placement)
            pairs.append(CpuPair(first=first, second=second, seconds=scaled(seconds, 0.5), case=case.key))
    if not pairs:
        return None
    topology = device.topology
    cores = {cpu.core if cpu.core is not None else cpu.number for cpu in topology.usable()} if topology else set()
    between = {(pair.first, pair.second) for pair in pairs} if topology is None else _between_cores(pairs, device)
    complete = len(between) == len(cores) * (len(cores) - 1) // 2
    ordered = sorted(pairs, key=lambda pair: (pair.first, pair.second))
    chosen = [pair for pair in ordered if (pair.first, pair.second) in between]
    return CoreToCore(pairs=tuple(ordered), complete=complete, clusters=clusters(chosen) if complete else ())


def _between_cores(pairs: Iterable[CpuPair], device: Device) -> set[tuple[int, int]]:
    """The pairs of CPUs of two cores; siblings are no cores apart."""
    core = {cpu.number: cpu.core for cpu in device.topology.cpus} if device.topology is not None else {}
    return {
        (pair.first, pair.second)
        for pair in pairs
        if core.get(pair.first) is None or core.get(pair.first) != core.get(pair.second)
    }


def clusters(pairs: Sequence[CpuPair]) -> tuple[tuple[int, ...], ...]:
    """CPUs near each other, told apart at the widest gap of all latencies; empty where there is no such gap.

    Examples
    --------
    >>> near, far = (Estimate(value=v, low=v, high=v) for v in (20e-9, 100e-9))
    >>> two = ((0, 1, near), (2, 3, near), (0, 2, far), (0, 3, far), (1, 2, far), (1, 3, far))
    >>> clusters([CpuPair(first=a, second=b, seconds=s) for a, b, s in two])
    ((0, 1), (2, 3))
    """
    values = sorted(pair.seconds.value for pair in pairs)
    gaps = [(high / low, math.sqrt(low * high)) for low, high in pairwise(values)]
    widest, limit = max(gaps, default=(1.0, 0.0))
    if widest < _GAP:
        return ()
    group = {cpu: cpu for pair in pairs for cpu in (pair.first, pair.second)}

    def root(cpu: int) -> int:
        while group[cpu] != cpu:
            cpu = group[cpu]
        return cpu

    for pair in pairs:
        if pair.seconds.value < limit:
            one, other = sorted((root(pair.first), root(pair.second)))
            group[other] = one
    found: dict[int, list[int]] = defaultdict(list)
    for cpu in sorted(group):
        found[root(cpu)].append(cpu)
    return tuple(tuple(members) for members in found.values())


def _nodes(timed: _Timed, device: Device) -> Iterator[NodePair]:
    home = {cpu.number: cpu.node for cpu in device.topology.cpus} if device.topology is not None else {}
    found: dict[tuple[int, int], dict[str, Estimate]] = defaultdict(dict)
    for case, sheet, seconds in timed:
        if "node" not in case.params or case.placement is None:
            continue
        here = home.get(cpu_list(case.placement)[0])
        if here is None:
            continue
        pair = found[here, int(case.params["node"])]
        if sheet.measures == "latency":
            pair["latency"] = scaled(seconds, 1 / max(1, sheet.loads))
        else:
            pair["bandwidth"] = _rate(seconds, case.threads * sheet.work.bytes)
    for (cpus, memory), pair in sorted(found.items()):
        yield NodePair(cpu_node=cpus, memory_node=memory, bandwidth=pair.get("bandwidth"), latency=pair.get("latency"))


def _rate(seconds: Estimate, work: float) -> Estimate:
    basis = "best round; low: third best round"
    value = work / seconds.value
    return Estimate(value=value, low=work / seconds.high, high=value, basis=basis)


def _loaded(timed: _Timed) -> Iterator[LoadedPoint]:
    latency: dict[int, Estimate] = {}
    rates: dict[int, float] = {}
    for case, sheet, seconds in timed:
        if not sheet.takes("loaded"):
            continue
        if sheet.measures == "latency":
            latency[case.threads - 1] = scaled(seconds, 1 / max(1, sheet.loads))
        else:
            rates[case.threads - 1] = (case.threads - 1) * sheet.work.bytes / seconds.value
    for streams in sorted(latency):
        yield LoadedPoint(streams=streams, latency=latency[streams], bandwidth=rates.get(streams))
