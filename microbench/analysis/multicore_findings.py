"""Where the machine is not what it says: caches that are shared in name only, rows that no working set can have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from statistics import median

from microbench.hardware.placement import as_seen_by
from microbench.records import Cost, CpuPair, Device, Finding, Multicore, units


def multicore_findings(found: Multicore | None, costs: Iterable[Cost], device: Device) -> list[Finding]:
    """Contradictions between the topology that the system tells and what was measured, and what it leaves unknown."""
    if device.topology is None:
        return []
    doubts = (
        Finding(code="topology", severity="info", says=says, remedy="microbench doctor")
        for says in device.topology.doubts
    )
    return [*doubts, *_no_row(device), *(_caches(found, list(costs), device) if found is not None else ())]


def _no_row(device: Device) -> Iterator[Finding]:
    """Placements whose threads have no working set that only the last cache holds."""
    assert device.topology is not None
    lacking = []
    for team in device.topology.placements:
        own = as_seen_by(team, device)
        before, last = own.level("L2"), own.level("L3")
        shares = (before.capacity_bytes if before else None, last.capacity_bytes if last else None)
        if team.name in ("all", "cores") and shares[0] and shares[1] and shares[1] <= 2 * shares[0]:
            lacking.append((team, shares[0], shares[1]))
    for team, second, third in lacking[:1]:
        says = (
            f"no row of L3 with {team.threads} threads: a thread's share of it is {third / 2**20:.3g} MiB, and what is "
            f"to miss its share of L2 needs twice {second / 2**20:.3g} MiB"
        )
        yield Finding(code="no-l3-row", severity="info", says=says, remedy="plan with L2 and DRAM for all threads")


def _caches(found: Multicore, costs: list[Cost], device: Device) -> Iterator[Finding]:
    """Pairs of CPUs that share a last cache by name and are further apart than main memory; and the other way round."""
    far = [cost.seconds.value for cost in costs if cost.level == "DRAM" and cost.name.startswith("load_to_use")]
    far += [point.latency.value for point in found.loaded if point.streams == 0]
    memory = min(far, default=None)
    if found.core_to_core is None or device.topology is None:
        return
    cpus = {cpu.number: cpu for cpu in device.topology.cpus}

    def shared(pair: CpuPair) -> bool:
        one, other = cpus[pair.first], cpus[pair.second]
        return one.l3 is not None and one.l3 == other.l3

    pairs = [pair for pair in found.core_to_core.pairs if pair.first in cpus and pair.second in cpus]
    slow = [pair for pair in pairs if shared(pair) and memory is not None and pair.seconds.low > memory]
    if slow and memory is not None:
        worst = max(slow, key=lambda pair: pair.seconds.value)
        says = (
            f"CPUs {worst.first} and {worst.second} share an L3 by what the system says, but a line takes "
            f"{units.seconds(worst.seconds.value)} from one to the other, longer than from main memory "
            f"({units.seconds(memory)})"
        )
        remedy = "take them for cores of different caches; a hypervisor may place its CPUs anywhere"
        yield Finding(code="l3-not-shared", severity="warning", says=says, remedy=remedy)
    inside = [pair.seconds.value for pair in pairs if shared(pair) and cpus[pair.first].core != cpus[pair.second].core]
    limit = median(inside) if inside else 0.0
    near = [pair for pair in pairs if not shared(pair) and _of_two_caches(pair, device) and pair.seconds.value <= limit]
    if near and not slow:
        first = min(near, key=lambda pair: pair.seconds.value)
        says = (
            f"CPUs {first.first} and {first.second} have different last caches by what the system says, but a line "
            f"takes {units.seconds(first.seconds.value)} from one to the other, as within one cache"
        )
        remedy = "take them for cores of one cache, or see whether the two caches are on one die"
        yield Finding(code="l3-shared", severity="info", says=says, remedy=remedy)
    flat = set(chain.from_iterable(found.core_to_core.clusters))
    if flat:
        yield from _clusters(found, device)


def _of_two_caches(pair: CpuPair, device: Device) -> bool:
    assert device.topology is not None
    domains = {cpu.number: cpu.l3 for cpu in device.topology.cpus}
    return domains.get(pair.first) is not None and domains.get(pair.second) is not None


def _clusters(found: Multicore, device: Device) -> Iterator[Finding]:
    """Clusters of the core-to-core latencies that are no cache of the system's."""
    assert found.core_to_core is not None
    assert device.topology is not None
    domain = {cpu.number: cpu.l3 for cpu in device.topology.cpus}
    seen = {frozenset(members) for members in found.core_to_core.clusters}
    members: dict[int | None, set[int]] = {}
    for number in chain.from_iterable(seen):
        members.setdefault(domain.get(number), set()).add(number)
    if seen != {frozenset(each) for each in members.values()}:
        groups = "; ".join(", ".join(map(str, sorted(each))) for each in sorted(seen, key=min)[:8])
        says = (
            f"core-to-core latencies show {len(seen)} clusters, and the system tells {len(members)} last caches: "
            f"{groups}"
        )
        remedy = "keep threads that share data within a cluster"
        yield Finding(code="clusters", severity="info", says=says, remedy=remedy)
