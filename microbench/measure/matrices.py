"""Which pairs of cores and of NUMA nodes are measured, and how main memory is kept busy while its latency is.

Of n cores there are n (n - 1) / 2 pairs: all are measured where they are few, else a sample, in this order: the
siblings of one core, all pairs of one core from each last cache, all pairs within the first of these, then others as
the seed has it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from microbench.hardware.placement import scaling
from microbench.hardware.procfs import cpu_text
from microbench.measure import placements
from microbench.measure.working_sets import WorkingSets, known
from microbench.records import Case, Cpu, Device, Sheet, Topology

# A pair takes some 10 ms of each round, so these are within a tenth of a budget.
MOST_PAIRS = {"quick": 24, "default": 96, "thorough": 600}
MOST_NODE_PAIRS = {"quick": 4, "default": 16, "thorough": 64}
# Other cores stream through their share of the last cache meanwhile; a set of several caches is out of it for certain.
_LAST_CACHES = 4


def candidates(
    device: Device, sheets: Sequence[Sheet], memory_bytes: int, budget: str, seed: int
) -> Iterable[tuple[Case, str | None]]:
    """The cases of the matrices and of the loaded latency; a case's level is what it says to --level."""
    topology = device.topology
    if topology is None or not topology.placements:
        return
    for sheet in sheets:
        if sheet.takes("transfer"):
            yield from ((_pair(sheet, pair), None) for pair in pairs(topology, MOST_PAIRS[budget], seed))
    threads = len(topology.allowed)
    sets = WorkingSets.of(device, memory_bytes, threads)
    last = device.level("L3") or device.level("L2")
    far = min(sets.largest, max(sets.cold, _LAST_CACHES * ((last.capacity_bytes if last else None) or 0)))
    for sheet in sheets:
        if sheet.takes("loaded"):
            for team in scaling(topology):
                if team.threads > 1 or sheet.measures == "latency":
                    yield placements.case(sheet, team, working_set=far, pages="huge"), "DRAM"
    yield from ((case, "DRAM") for case in _nodes(topology, sheets, sets, far, MOST_NODE_PAIRS[budget]))


def _pair(sheet: Sheet, pair: tuple[int, int]) -> Case:
    return Case(kernel=sheet.name, threads=2, placement=f"{pair[0]},{pair[1]}")


def pairs(topology: Topology, most: int, seed: int) -> list[tuple[int, int]]:
    """At most so many pairs of CPUs: all of the cores' first CPUs and one of siblings, or a sample.

    Examples
    --------
    >>> cpus = tuple(Cpu(number=i, core=i) for i in range(3))
    >>> pairs(Topology(cpus=cpus, allowed=(0, 1, 2)), 10, 0)
    [(0, 1), (0, 2), (1, 2)]
    """
    firsts: dict[int, Cpu] = {}
    siblings: list[tuple[int, int]] = []
    for cpu in topology.usable():
        first = firsts.setdefault(cpu.number if cpu.core is None else cpu.core, cpu)
        if first is not cpu and not siblings:
            siblings.append((first.number, cpu.number))
    cores = list(firsts.values())
    domains: dict[int | None, list[int]] = {}
    for cpu in cores:
        domains.setdefault(cpu.l3, []).append(cpu.number)
    ordered = [
        *siblings,
        *combinations([members[0] for members in domains.values()], 2),
        *combinations(next(iter(domains.values()), []), 2),
    ]
    if len(cores) * (len(cores) - 1) // 2 + len(siblings) <= most:
        ordered += combinations([cpu.number for cpu in cores], 2)
    else:
        chosen = random.Random(seed)  # noqa: S311 - which pairs are measured is no secret
        numbers = [cpu.number for cpu in cores]
        ordered += ((min(two), max(two)) for two in (chosen.sample(numbers, 2) for _ in range(4 * most)))
    return list(dict.fromkeys((min(two), max(two)) for two in ordered))[:most]


def _nodes(topology: Topology, sheets: Sequence[Sheet], sets: WorkingSets, far: int, most: int) -> Iterator[Case]:
    """A chase on one core and a stream on all cores of a node through the memory of each node, nearest pairs first."""
    memories = [node for node in topology.nodes if node.usable and node.memory_bytes]
    allowed = set(topology.allowed)
    teams: dict[int, list[int]] = {}
    seen = set()
    for cpu in topology.usable():
        if cpu.node is not None and cpu.core not in seen:
            seen.add(cpu.core)
            teams.setdefault(cpu.node, []).append(cpu.number)
    chases = [sheet for sheet in sheets if sheet.takes("latency", "sweep") and sheet.measures == "latency"]
    reads = list(placements.curve_sheets(sheets, "memory"))
    if len(memories) < 2 or not allowed:
        return
    both = [(home, node.number) for home in teams for node in memories]
    for home, memory in sorted(both, key=lambda two: two[0] != two[1])[:most]:
        cpus = teams[home]
        for sheet in chases:
            chase = Case(kernel=sheet.name, params=known(sheet, working_set=far, pages="huge"), placement=str(cpus[0]))
            yield replace(chase, params={**chase.params, "node": memory})
        for sheet in reads:
            params = known(sheet, working_set=sets.cold, pages="huge", streams=1, cold=1)
            yield Case(
                kernel=sheet.name, params={**params, "node": memory}, threads=len(cpus), placement=cpu_text(cpus)
            )
