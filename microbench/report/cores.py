"""Cores together in a few lines: the machine, rates by placement, scaling, clocks, matrices, loaded latency."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from microbench.records import Ceiling, Characterisation, CoreToCore, Multicore, Topology, units
from microbench.report.sweeps import plural

TITLE = "Cores together"
# More lines than these make a matrix unreadable on a terminal; the file has all.
_MOST_NODE_PAIRS = 8
_MOST_CLUSTERS = 8
_WORDS = {
    "core": "one core",
    "all": "all CPUs",
    "cores": "one thread a core",
    "siblings": "all siblings of one core",
    "socket": "one socket",
    "l3": "one L3",
    "performance_cores": "fast cores",
    "efficiency_core": "one slow core",
    "efficiency_cores": "slow cores",
}


def rows(characterisation: Characterisation) -> list[tuple[str, str]]:
    """What and its sentence; empty for a file without a topology (of a GPU, or written before schema 1.2)."""
    topology = characterisation.device.topology
    if topology is None or characterisation.multicore is None:
        return []
    return [
        ("machine", _machine(topology)),
        *_placements(characterisation, topology),
        *_together(characterisation.multicore),
    ]


def _machine(topology: Topology) -> str:
    usable = topology.usable()

    def count(values: Iterable[object], noun: str) -> str:
        known = {value for value in values if value is not None}
        return plural(len(known), noun) if known else f"unknown {noun}s"

    parts = [
        count((cpu.core for cpu in usable), "core"),
        plural(len(usable), "CPU"),
        count((cpu.l3 for cpu in usable), "L3"),
        count((cpu.socket for cpu in usable), "socket"),
        count((cpu.node for cpu in usable), "NUMA node"),
    ]
    if topology.offline:
        parts.append(f"{len(topology.offline)} switched off")
    return ", ".join(parts)


def _placements(characterisation: Characterisation, topology: Topology) -> Iterator[tuple[str, str]]:
    """The best arithmetic in f32 and the best reads of each placement, where there are more than two."""
    places = [place for place in topology.placements if place.name in _WORDS]
    if len(places) < 3:
        return
    for place in places:
        held = [
            ceiling
            for ceiling in characterisation.ceilings
            if (ceiling.placement, ceiling.threads, ceiling.mode) == (place.word, place.threads, "peak")
        ]
        parts = [
            *_best([c for c in held if c.measures == "compute" and c.dtype == "f32"], "f32 "),
            *_best([c for c in held if c.level == "L3" and c.access == "read"], "L3 read "),
            *_best([c for c in held if c.level == "DRAM" and c.access == "read"], "DRAM read "),
        ]
        if parts:
            yield f"{_WORDS[place.name]} ({plural(place.threads, 'thread')})", ", ".join(parts)


def _best(ceilings: Sequence[Ceiling], what: str) -> Iterator[str]:
    best = max(ceilings, key=lambda ceiling: ceiling.rate.value, default=None)
    if best is not None:
        share = f" ({best.rate.value / best.nominal:.0%} of nominal)" if best.nominal else ""
        unit = "FLOP/s" if best.measures == "compute" else "byte/s"
        yield f"{what}{units.rate(best.rate.value, unit)}{share}"


def _together(found: Multicore) -> Iterator[tuple[str, str]]:
    for curve in found.scaling:
        unit = "byte/s" if curve.level else "FLOP/s"
        steps = ", ".join(f"{point.cores}: {units.rate(point.rate, unit)}" for point in curve.points)
        enough = f"nine tenths of the highest with {plural(curve.saturated_at, 'core')}"
        yield f"scaling of {curve.name}", f"{steps}; {enough}"
    for clock in found.clocks:
        one, every = (units.prefixed(hertz, "Hz", 3) for hertz in (clock.one_core_hz, clock.all_cores_hz))
        yield f"clock of {clock.variant}", f"{one} on one core, {every} on all"
    if found.core_to_core is not None:
        yield "core to core", _core_to_core(found.core_to_core)
    for pair in found.nodes[:_MOST_NODE_PAIRS]:
        parts = [
            units.rate(pair.bandwidth.value, "byte/s") if pair.bandwidth else "",
            units.seconds(pair.latency.value) if pair.latency else "",
        ]
        yield f"node {pair.cpu_node}, memory of {pair.memory_node}", ", ".join(part for part in parts if part)
    if found.loaded:
        yield (
            "loaded latency",
            "; ".join(
                f"{plural(point.streams, 'stream')}{_moving(point.bandwidth)}: {units.seconds(point.latency.value)}"
                for point in found.loaded
            ),
        )


def _moving(bandwidth: float | None) -> str:
    return f" at {units.rate(bandwidth, 'byte/s')}" if bandwidth else ""


def _core_to_core(found: CoreToCore) -> str:
    values = [pair.seconds.value for pair in found.pairs]
    which = "all" if found.complete else "a sample of"
    if len(values) == 1:
        pair = found.pairs[0]
        return f"{units.seconds(values[0])} for a line from CPU {pair.first} to {pair.second}"
    text = (
        f"{units.seconds(min(values))} to {units.seconds(max(values))}, median {units.seconds(median(values))}, "
        f"{which} {plural(len(values), 'pair')}"
    )
    if found.clusters:
        groups = "; ".join(" ".join(map(str, members)) for members in found.clusters[:_MOST_CLUSTERS])
        text += f"; {plural(len(found.clusters), 'cluster')}: {groups}"
    return text
