"""The processor that this process runs on, as cpuid and the system describe it.

Both are hints: virtual machines misreport caches and clocks. Every source may be missing (a container without /sys, a
virtual machine without counters); what is not known is ``None``.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import psutil

from microbench.errors import CannotRun, UsageError
from microbench.hardware import extensions, identity, topology
from microbench.hardware.chips import arch_of, microarchitecture, revealed, signature_of
from microbench.hardware.procfs import Machine
from microbench.records import Device, MemoryLevel, Topology

_LEVELS = {1: "L1", 2: "L2", 3: "L3"}


def probe(machine: Machine | None = None) -> Device:
    """Describe the processor.

    Parameters
    ----------
    machine
        The system's pseudo files; tests pass a recorded tree.

    Raises
    ------
    CannotRun
        If this is not Linux on x86-64 or aarch64, or the native module was not built.
    """
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise CannotRun(
            f"microbench measures Linux on x86-64 or aarch64, and this is {platform.system()} on {platform.machine()}"
        )
    module = extensions.cpu()
    try:
        features = module.features()
    except ValueError as error:  # MICROBENCH_ISA names an instruction set that there is not
        raise UsageError(f"{error}; unset it or name one of these") from None
    return describe(features, module.topology(), machine or Machine(), identify=module.places)


def describe(
    features: Mapping[str, Any],
    table: Mapping[str, Any],
    machine: Machine,
    identify: topology.Identify = lambda _cpus: (),
) -> Device:
    """Merge what cpuid (``features``, ``identify``), the native module's table of caches and the system say."""
    allowed = sorted(os.sched_getaffinity(0))
    name = str(features.get("brand") or "").strip() or f"{platform.machine()} processor"
    flags = tuple(str(flag) for flag in features.get("flags") or ())
    told = topology.probe(machine, allowed, identify, tuple(_levels(table.get("caches") or ())))
    told = _with_arch(told, features, machine)
    first = told.placements[0].cpus[0] if told.placements else allowed[0]
    model = ("vendor", "family", "model", "stepping")
    sku = identity.sku_id((name, *(features.get(fact) for fact in model)))
    return Device(
        id=identity.node_id(sku, machine=machine),
        sku=sku,
        kind="cpu",
        name=name,
        arch=microarchitecture(features, first, machine.root / topology.SYS / "cpu", machine.root / "proc/cpuinfo"),
        units_by_kind={"core": _cores(told), "thread": len(allowed)},
        base_clock_hz=told.cores[0].base_clock_hz if told.cores else None,
        boost_clock_hz=told.cores[0].boost_clock_hz if told.cores else None,
        memory_bytes=psutil.virtual_memory().total,
        levels=_all_levels(table.get("caches") or (), told),
        features=flags,
        topology=told,
    )


def _with_arch(told: Topology, features: Mapping[str, Any], machine: Machine) -> Topology:
    """The topology with the microarchitecture of each kind of core, where there are several."""
    if len(told.cores) < 2:
        return told
    sys, cpuinfo = machine.root / topology.SYS / "cpu", machine.root / "proc/cpuinfo"
    flags = tuple(str(flag) for flag in features.get("flags") or ())
    cores = []
    for core in told.cores:
        first = next(cpu.number for cpu in told.usable() if cpu.kind == core.kind)
        signature = signature_of(features, first, sys, cpuinfo)
        if signature is not None:
            arch = arch_of(signature, "efficient") if core.kind == "efficiency" else arch_of(signature)
            core = replace(core, arch=revealed(arch, flags))  # noqa: PLW2901 - the same core, with one fact more
        cores.append(core)
    return replace(told, cores=tuple(cores))


def _all_levels(caches: Sequence[Mapping[str, Any]], told: Topology) -> tuple[MemoryLevel, ...]:
    """The levels of the fastest kind of core, and main memory.

    cpuid's facts come first, but it counts the CPUs that there is room for, the system those that share a cache; and
    where cores differ it tells of the one that was asked.
    """
    system = {level.name: level for level in told.cores[0].levels} if told.cores else {}
    cpuid = {level.name: level for level in _levels(caches)} if len(told.cores) <= 1 or not system else {}
    shared = {name: replace(level, shared_by=system[name].shared_by) for name, level in cpuid.items() if name in system}
    found = system | cpuid | shared
    dram = MemoryLevel(name="DRAM", capacity_bytes=psutil.virtual_memory().total)
    return (*(found[name] for name in _LEVELS.values() if name in found), dram)


def _levels(caches: Sequence[Mapping[str, Any]]) -> Iterator[MemoryLevel]:
    for row in sorted((row for row in caches if row.get("type") != "instruction"), key=lambda row: int(row["level"])):
        if int(row["level"]) in _LEVELS:
            yield MemoryLevel(
                name=_LEVELS[int(row["level"])],
                capacity_bytes=row.get("capacity_bytes") or None,
                line_bytes=row.get("line_bytes") or None,
                ways=row.get("ways") or None,
                shared_by=row.get("shared_by") or None,
            )


def _cores(told: Topology) -> int:
    """Physical cores among the CPUs we may use; a CPU counts as one where that is unknown."""
    return len({("cpu", cpu.number) if cpu.core is None else ("core", cpu.core) for cpu in told.usable()})
