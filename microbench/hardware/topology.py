"""Which CPUs share a core, a cache, a socket and a memory, as /sys tells it, and cpuid where that is silent.

Nothing is invented: what neither tells is ``None``, and a sentence in `Topology.doubts` says so. Where a hypervisor
lies to both, only a measurement shows it (`analysis.multicore` compares).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from microbench.hardware.placement import placements
from microbench.hardware.procfs import Machine, cpu_list
from microbench.records import Core, CoreKind, Cpu, MemoryLevel, MemoryNode, Topology
from microbench.records.topology import KINDS

# What each of these CPUs tells of itself by cpuid: rows of `_cpu.places`.
Identify = Callable[[Sequence[int]], Iterable[Mapping[str, Any]]]

SYS = "sys/devices/system"
_LEVELS = {1: "L1", 2: "L2", 3: "L3"}
_KIB = {"K": 2**10, "M": 2**20, "G": 2**30}
# Firmware favours some cores of one kind by a few per cent of clock; another kind of core is slower by more than this.
_FAVOURED = 0.9


def probe(machine: Machine, allowed: Sequence[int], identify: Identify, levels: Sequence[MemoryLevel] = ()) -> Topology:
    """Describe the CPUs that are switched on.

    Parameters
    ----------
    machine
        The pseudo files of the running system, or of a recorded one.
    allowed
        The CPUs that this process may use.
    identify
        What each CPU tells of itself; asked only about what the system leaves unknown.
    levels
        The caches of a core as cpuid tells them, where the system does not.
    """
    online = cpu_list(machine.text(f"{SYS}/cpu/online") or "") or sorted(allowed)
    shared = _shared(machine, online)
    nodes = tuple(_nodes(machine))
    at = {cpu: node.number for node in nodes for cpu in node.cpus}
    cpus = [
        replace(
            shared[number],
            socket=_natural(machine, f"{SYS}/cpu/cpu{number}/topology/physical_package_id"),
            node=at.get(number),
        )
        for number in online
    ]
    kinds = _kinds(machine, online)
    cpus = _with_cpuid([replace(cpu, kind=kinds.get(cpu.number)) for cpu in cpus], allowed, identify)
    told = Topology(
        cpus=tuple(cpus),
        nodes=nodes,
        allowed=tuple(sorted(allowed)),
        offline=tuple(sorted(set(_present(machine)) - set(online))),
    )
    told = replace(told, cores=tuple(_cores(machine, told.usable(), levels)))
    return replace(told, placements=placements(told), doubts=tuple(_doubts(told)))


def _present(machine: Machine) -> list[int]:
    return cpu_list(machine.text(f"{SYS}/cpu/present") or "")


def _natural(machine: Machine, path: str) -> int | None:
    """A file's number; ``None`` for -1 too, which is how the system says that it does not know."""
    number = machine.number(path)
    return number if number is not None and number >= 0 else None


def _shared(machine: Machine, online: Sequence[int]) -> dict[int, Cpu]:
    """What each CPU shares, told by the lowest of those that share it. Each list is read from one of its CPUs only."""
    found: dict[int, dict[str, int]] = {number: {} for number in online}

    def take(what: str, number: int, path: str) -> None:
        with_it = cpu_list(machine.text(path) or "")
        if number in with_it:
            for other in with_it:
                found.setdefault(other, {}).setdefault(what, min(with_it))

    for number in online:
        base, seen = f"{SYS}/cpu/cpu{number}", found[number]
        if "core" not in seen:
            take("core", number, f"{base}/topology/core_cpus_list")
        if "core" not in seen:  # Linux before 5.3
            take("core", number, f"{base}/topology/thread_siblings_list")
        if "cluster" not in seen:
            take("cluster", number, f"{base}/topology/cluster_cpus_list")
        if not {"l1", "l2", "l3"} <= seen.keys():
            for level, _, path in _caches(machine, number):
                take(_LEVELS[level].lower(), number, f"{path}/shared_cpu_list")
    return {
        number: Cpu(
            number=number,
            core=seen.get("core"),
            l1=seen.get("l1"),
            l2=seen.get("l2"),
            l3=seen.get("l3"),
            cluster=seen.get("cluster"),
        )
        for number, seen in found.items()
    }


def _caches(machine: Machine, number: int) -> Iterator[tuple[int, str, str]]:
    """Level, type and path of each data or unified cache of a CPU, up to the third level."""
    for index in range(16):
        path = f"{SYS}/cpu/cpu{number}/cache/index{index}"
        level, kind = machine.number(f"{path}/level"), machine.text(f"{path}/type")
        if level is None and kind is None and index:
            return
        if level in _LEVELS and kind != "Instruction":
            yield level, kind or "", path


def _nodes(machine: Machine) -> Iterator[MemoryNode]:
    usable = cpu_list(machine.entry("proc/self/status", "Mems_allowed_list") or "")
    for number in cpu_list(machine.text(f"{SYS}/node/online") or ""):
        path = f"{SYS}/node/node{number}"
        total = re.search(r"MemTotal:\s*(\d{1,15}) kB", machine.text(f"{path}/meminfo") or "")
        yield MemoryNode(
            number=number,
            cpus=tuple(cpu_list(machine.text(f"{path}/cpulist") or "")),
            memory_bytes=int(total[1]) * 1024 if total else None,
            distances=tuple(int(word) for word in (machine.text(f"{path}/distance") or "").split() if word.isdigit()),
            usable=not usable or number in usable,
        )


def _kinds(machine: Machine, online: Sequence[int]) -> dict[int, CoreKind]:
    """The kind of each CPU, where there is more than one kind: by the performance counters' lists, else by capacity."""
    performance = cpu_list(machine.text("sys/devices/cpu_core/cpus") or "")
    efficiency = [
        *cpu_list(machine.text("sys/devices/cpu_atom/cpus") or ""),
        *cpu_list(machine.text("sys/devices/cpu_lowpower/cpus") or ""),
    ]
    if performance and efficiency:
        fast, slow = KINDS
        return dict.fromkeys(performance, fast) | dict.fromkeys(efficiency, slow)
    capacities = {number: _natural(machine, f"{SYS}/cpu/cpu{number}/cpu_capacity") for number in online[:1]}
    if capacities.get(online[0]) is None:
        return {}
    capacities |= {number: _natural(machine, f"{SYS}/cpu/cpu{number}/cpu_capacity") for number in online[1:]}
    return by_capacity({number: value for number, value in capacities.items() if value})


def by_capacity(capacities: Mapping[int, int]) -> dict[int, CoreKind]:
    """Tell the kinds of core apart at the widest gap of the system's relative capacities; empty where all are alike.

    Examples
    --------
    >>> by_capacity({0: 400, 1: 1024, 2: 950})
    {0: 'efficiency', 1: 'performance', 2: 'performance'}
    >>> by_capacity({0: 1024, 1: 980})
    {}
    """
    steps = sorted(set(capacities.values()))
    gaps = [(low / high, high) for low, high in pairwise(steps)]
    if not gaps or min(gaps)[0] > _FAVOURED:
        return {}
    least = min(gaps)[1]
    return {number: "performance" if value >= least else "efficiency" for number, value in capacities.items()}


def _with_cpuid(cpus: Sequence[Cpu], allowed: Sequence[int], identify: Identify) -> list[Cpu]:
    """Fill in by cpuid what the system does not tell of CPUs that we may use."""
    usable = set(allowed)
    some = [cpu.number for cpu in cpus if cpu.number in usable]
    lacking = {cpu.number for cpu in cpus if cpu.number in usable and None in (cpu.core, cpu.l1, cpu.socket)}
    told_kinds = any(cpu.kind for cpu in cpus)
    if not lacking and not (some and not told_kinds and any(row["kind"] for row in identify(some[:1]))):
        return list(cpus)
    rows = {int(row["cpu"]): row for row in identify(some)}
    groups: dict[tuple[str, int], int] = {}
    for number in sorted(rows):
        for what in ("core", "package", "l1", "l2", "l3"):
            if (bits := rows[number][f"{what}_bits"]) is not None:
                groups.setdefault((what, rows[number]["id"] >> bits), number)
    return [_filled(cpu, rows[cpu.number], groups) if cpu.number in rows else cpu for cpu in cpus]


def _filled(cpu: Cpu, row: Mapping[str, Any], groups: Mapping[tuple[str, int], int]) -> Cpu:
    def group(what: str) -> int | None:
        bits = row[f"{what}_bits"]
        return None if bits is None else groups[what, row["id"] >> bits]

    socket = None if row["package_bits"] is None else row["id"] >> row["package_bits"]
    silent = cpu.l1 is None
    return replace(
        cpu,
        core=group("core") if cpu.core is None else cpu.core,
        l1=group("l1") if silent else cpu.l1,
        l2=group("l2") if silent else cpu.l2,
        l3=group("l3") if silent else cpu.l3,
        socket=socket if cpu.socket is None else cpu.socket,
        kind=row["kind"] if cpu.kind is None else cpu.kind,
    )


def _cores(machine: Machine, cpus: Sequence[Cpu], levels: Sequence[MemoryLevel]) -> Iterator[Core]:
    """The caches and clocks of each kind of core, from the first CPU of it."""
    for kind in sorted({cpu.kind for cpu in cpus}, key=lambda kind: (kind is None, kind != "performance")):
        first = next(cpu for cpu in cpus if cpu.kind == kind)
        yield Core(
            kind=kind,
            levels=tuple(cache_levels(machine, first.number)) or _counted(levels, first, cpus),
            base_clock_hz=clock_hz(machine, first.number, "base_frequency"),
            boost_clock_hz=clock_hz(machine, first.number, "cpuinfo_max_freq"),
        )


def _counted(levels: Sequence[MemoryLevel], first: Cpu, cpus: Sequence[Cpu]) -> tuple[MemoryLevel, ...]:
    """Levels of cpuid, with the CPUs counted that share each: cpuid tells how many there is room for."""
    domain = {"L1": "l1", "L2": "l2", "L3": "l3"}
    return tuple(
        replace(level, shared_by=_members(domain[level.name], first, cpus) or level.shared_by)
        for level in levels
        if level.name in domain
    )


def _members(what: str, first: Cpu, cpus: Sequence[Cpu]) -> int:
    group = getattr(first, what)
    return 0 if group is None else sum(getattr(cpu, what) == group for cpu in cpus)


def cache_levels(machine: Machine, number: int) -> Iterator[MemoryLevel]:
    """The data and unified caches of one CPU as the system tells them."""
    for level, _, path in sorted(_caches(machine, number)):
        size = machine.text(f"{path}/size") or ""
        match = re.fullmatch(r"(\d{1,12})([KMG])", size)
        yield MemoryLevel(
            name=_LEVELS[level],
            capacity_bytes=int(match[1]) * _KIB[match[2]] or None if match else None,
            line_bytes=machine.number(f"{path}/coherency_line_size") or None,
            ways=machine.number(f"{path}/ways_of_associativity") or None,
            shared_by=len(cpu_list(machine.text(f"{path}/shared_cpu_list") or "")) or None,
        )


def clock_hz(machine: Machine, number: int, name: str) -> float | None:
    """A clock of one CPU that the system's driver tells."""
    kilohertz = machine.number(f"{SYS}/cpu/cpu{number}/cpufreq/{name}")
    return kilohertz * 1e3 if kilohertz else None


def _doubts(told: Topology) -> Iterator[str]:
    usable = told.usable()
    if any(cpu.core is None for cpu in usable):
        yield "neither the system nor cpuid tells which CPUs share a core"
    elif any(cpu.l3 is None and cpu.l2 is None for cpu in usable):
        yield "neither the system nor cpuid tells which CPUs share a cache"
    taken = {cpu.core for cpu in usable if cpu.core is not None}
    others = [cpu.number for cpu in told.cpus if cpu.core in taken and cpu.number not in set(told.allowed)]
    if others:
        yield (
            f"{len(others)} CPUs that this process may not use are siblings of cores that it may, first CPU "
            f"{others[0]}: whoever runs there takes a part of these cores"
        )
    if told.offline:
        yield f"{len(told.offline)} CPUs are switched off, first CPU {told.offline[0]}"
