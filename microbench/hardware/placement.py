"""Which CPUs the threads of a case run on, what they share there, and what bounds them together.

The placements of a machine are made once, by `placements`, and stored with the device, so that a file says what its
keys mean: one core, all siblings of one core, the cores of one L3, of one socket, all cores with a thread each, all
CPUs; and, for the scaling curve, powers of two of cores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, zip_longest

from microbench.hardware.nominal import nominal_rate
from microbench.hardware.procfs import cpu_list
from microbench.records import Case, CoreKind, Cpu, Device, Part, Placement, Sheet, Topology

_PRIVATE = ("L1", "L2")
_DOMAIN = {"L1": "l1", "L2": "l2", "L3": "l3"}


def placements(topology: Topology) -> tuple[Placement, ...]:
    """Every placement of a machine whose CPUs no earlier one has; one core and all CPUs are always there."""
    usable = topology.usable()
    if not usable:
        return ()
    found: dict[frozenset[int], Placement] = {}
    for name, cpus in _named(usable):
        if cpus:
            found.setdefault(frozenset(cpu.number for cpu in cpus), _placement(name, cpus))
    return tuple(found.values())


def _named(usable: Sequence[Cpu]) -> Iterator[tuple[str, Sequence[Cpu]]]:
    """Names and CPUs, the first of equal ones to stay."""
    order = _spread(usable)
    first = {cpu.number for cpu in order}
    yield "core", order[:1]
    yield "all", [*order, *(cpu for cpu in usable if cpu.number not in first)]
    if any(cpu.core is None for cpu in usable):
        return
    fast = [cpu for cpu in order if cpu.kind == order[0].kind]
    slow = [cpu for cpu in order if cpu.kind != order[0].kind]
    yield "cores", order
    if slow:
        yield "performance_cores", fast
        yield "efficiency_core", slow[:1]
        yield "efficiency_cores", slow
    yield "siblings", _siblings(order, usable)
    yield "socket", _largest(order, "socket")
    yield "l3", _largest(fast, "l3")
    count = 2
    while count < len(fast):
        yield "scale", fast[:count]
        count *= 2


def _spread(usable: Sequence[Cpu]) -> list[Cpu]:
    """One CPU a core: fast cores first, socket after socket, in each socket the L3 domains in turn."""
    firsts = list({(cpu.number if cpu.core is None else cpu.core): cpu for cpu in reversed(usable)}.values())[::-1]
    by_socket: dict[tuple[bool, int | None], dict[int | None, list[Cpu]]] = {}
    for cpu in firsts:
        by_socket.setdefault((cpu.kind == "efficiency", cpu.socket), {}).setdefault(cpu.l3, []).append(cpu)
    ordered = sorted(by_socket.items(), key=lambda pair: pair[0][0])
    rows = chain.from_iterable(zip_longest(*domains.values()) for _, domains in ordered)
    return [cpu for row in rows for cpu in row if cpu is not None]


def _siblings(order: Sequence[Cpu], usable: Sequence[Cpu]) -> list[Cpu]:
    """All CPUs of the first core that has most of them."""
    counts = Counter(cpu.core for cpu in usable)
    chosen = max((cpu.core for cpu in order), key=lambda core: counts[core])
    return [cpu for cpu in usable if cpu.core == chosen]


def _largest(order: Sequence[Cpu], what: str) -> list[Cpu]:
    """The CPUs of the first cache or socket that has most of them; none where the machine tells none."""
    groups: dict[int, list[Cpu]] = {}
    for cpu in order:
        if (group := getattr(cpu, what)) is not None:
            groups.setdefault(group, []).append(cpu)
    return max(groups.values(), key=len, default=[])


def _placement(name: str, cpus: Sequence[Cpu]) -> Placement:
    kinds: dict[CoreKind | None, list[Cpu]] = {}
    for cpu in cpus:
        kinds.setdefault(cpu.kind, []).append(cpu)
    shared = {level: Counter(_group(cpu, what) for cpu in cpus) for level, what in _DOMAIN.items()}
    parts = []
    for kind, held in kinds.items():
        cores = Counter(cpu.core for cpu in held)
        known = None not in cores
        parts.append(
            Part(
                threads=len(held),
                kind=kind,
                cores=len(cores) if known else None,
                per_core=max(cores.values()) if known else None,
                sharers={
                    level: max(shared[level][_group(cpu, what)] for cpu in held) for level, what in _DOMAIN.items()
                },
            )
        )
    return Placement(name=name, cpus=tuple(cpu.number for cpu in cpus), parts=tuple(parts))


def _group(cpu: Cpu, what: str) -> tuple[str, int | None]:
    """What a CPU shares at a cache level: the cache, else its core's own where it is private, else all have one."""
    if (group := getattr(cpu, what)) is not None:
        return what, group
    if what == "l3":
        return what, None
    return ("core", cpu.core) if cpu.core is not None else ("cpu", cpu.number)


def placement_of(case: Case, device: Device) -> Placement | None:
    """The placement of a case; ``None`` where the device's topology is unknown or has none like it."""
    topology = device.topology
    if topology is None:
        return None
    if case.placement is not None and case.on_named_cpus:
        numbers = set(cpu_list(case.placement))
        return _placement(case.placement, [cpu for cpu in topology.cpus if cpu.number in numbers])
    return topology.placement(case.placement, case.threads)


def cpus_of(case: Case, device: Device) -> tuple[int, ...] | None:
    """The CPUs that a case's threads are pinned to, in their order; ``None`` leaves them to the kernel."""
    if case.placement is not None and case.on_named_cpus:
        return tuple(cpu_list(case.placement))
    found = placement_of(case, device)
    return found.cpus if found is not None else None


def sharers(case: Case, device: Device, level: str) -> int:
    """The most threads of a case that share one cache of a level.

    Without a topology each thread is taken to have a core, and all to share what is behind the second level.
    """
    found = placement_of(case, device) if device.kind == "cpu" else None
    if found is not None:
        return found.sharers(level)
    return 1 if level in _PRIVATE else case.threads


def cores_of(case: Case, device: Device) -> float | None:
    """The cores' worth of work that a case's threads can do; one a thread without a topology."""
    found = placement_of(case, device) if device.kind == "cpu" else None
    return found.whole_cores if found is not None else float(case.threads)


def nominal_of(sheet: Sheet, case: Case, device: Device, clock_hz: float) -> float | None:
    """FLOP/s, OP/s or byte/s that the ports of a case's cores allow at a clock, all threads having equal shares.

    On cores of several kinds the slowest kind decides: the others wait for it.
    """
    found = placement_of(case, device) if device.kind == "cpu" else None
    if found is None:
        return nominal_rate(sheet, device, clock_hz=clock_hz, threads=case.threads)
    rates = []
    for part in found.parts:
        if part.per_core is None:
            return None
        each = nominal_rate(sheet, _of_kind(device, part.kind), clock_hz=clock_hz, threads=1)
        if each is None:
            return None
        rates.append(each * found.threads / part.per_core)
    return min(rates)


def _of_kind(device: Device, kind: CoreKind | None) -> Device:
    """The device as if all its cores were of one kind."""
    core = device.topology.core(kind) if device.topology is not None and kind is not None else None
    if core is None:
        return device
    names = {level.name for level in core.levels}
    others = (level for level in device.levels if level.name not in names)
    return replace(device, arch=core.arch or device.arch, levels=(*core.levels, *others) if names else device.levels)


def as_seen_by(placement: Placement, device: Device) -> Device:
    """The device with the caches that one thread of a placement has to itself: its share where threads share one."""
    least: dict[str, int] = {}
    for part in placement.parts:
        for level in _of_kind(device, part.kind).levels:
            if level.capacity_bytes and level.name in _DOMAIN:
                share = level.capacity_bytes // part.sharers.get(level.name, placement.threads)
                least[level.name] = min(share, least.get(level.name, share))
    lead = _of_kind(device, placement.parts[0].kind)
    levels = tuple(replace(level, capacity_bytes=least.get(level.name, level.capacity_bytes)) for level in lead.levels)
    return replace(lead, levels=levels)


def scaling(topology: Topology) -> list[Placement]:
    """The placements of the scaling curve: one thread a core, on more and more cores of the fastest kind."""
    by_name = {each.name: each for each in topology.placements}
    names = (name for name in ("performance_cores", "cores", "all", "core") if name in by_name)
    whole = by_name.get(next(names, ""))
    if whole is None or any(part.per_core != 1 for part in whole.parts):
        return []
    steps = (each for each in topology.placements if set(each.cpus) == set(whole.cpus[: each.threads]))
    found = {each.threads: each for each in steps}
    return [found[count] for count in sorted(found)]
