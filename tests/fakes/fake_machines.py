"""FAKE machines, for tests only: processors as trees of /sys, with what cpuid would tell of them.

Most are invented after the published layout of a kind of machine; `THIS` is what a virtual machine really told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from microbench.hardware import topology
from microbench.hardware.procfs import Machine, cpu_text
from microbench.records import Device, MemoryLevel, Topology

KIB, MIB, GIB = 2**10, 2**20, 2**30
SYS = "sys/devices/system"


class FakeFiles(Machine):
    """Pseudo files in memory: 2048 CPUs have fifty thousand of them."""

    def __init__(self, files: Mapping[str, str]) -> None:
        object.__setattr__(self, "root", Path("/nowhere"))
        object.__setattr__(self, "files", files)

    def text(self, path: str) -> str | None:
        files: Mapping[str, str] = object.__getattribute__(self, "files")
        return files.get(path) or None


@dataclass(frozen=True, kw_only=True)
class FakeCpu:
    """One CPU: its neighbours by any number that they share, and the bytes of its caches."""

    number: int
    core: int
    socket: int = 0
    node: int = 0
    l2: int | None = None  # None: a core's own
    l3: int | None = 0  # None: no such cache
    sizes: tuple[int, int, int] = (32 * KIB, MIB, 32 * MIB)
    capacity: int | None = None
    pmu: str | None = None
    online: bool = True


@dataclass(frozen=True, kw_only=True)
class FakeMachine:
    """CPUs, which of them a process may use, and how much of it the system tells."""

    name: str
    cpus: tuple[FakeCpu, ...]
    arch: str = "zen3"
    allowed: frozenset[int] | None = None
    memory_only_nodes: tuple[int, ...] = ()
    has_sys: bool = True
    has_cpuid: bool = True

    @property
    def usable(self) -> list[int]:
        online = [cpu.number for cpu in self.cpus if cpu.online]
        return [number for number in online if self.allowed is None or number in self.allowed]

    def pseudo_files(self) -> Machine:
        """The machine's /sys and /proc, in memory."""
        return FakeFiles(self.files() if self.has_sys else {})

    def files(self) -> dict[str, str]:
        online = [cpu for cpu in self.cpus if cpu.online]
        numbers = [cpu.number for cpu in online]
        offline = [cpu.number for cpu in self.cpus if not cpu.online]
        found = {
            f"{SYS}/cpu/online": cpu_text(numbers),
            f"{SYS}/cpu/offline": cpu_text(offline),
            f"{SYS}/cpu/present": cpu_text([cpu.number for cpu in self.cpus]),
            f"{SYS}/cpu/possible": cpu_text([cpu.number for cpu in self.cpus]),
        }
        for kind in ("cpu_core", "cpu_atom"):
            if members := [cpu.number for cpu in online if cpu.pmu == kind]:
                found[f"sys/devices/{kind}/cpus"] = cpu_text(members)
        shared = {
            what: _groups(online, key)
            for what, key in {
                "core": lambda each: (each.socket, each.core),
                "l2": lambda each: each.l2,
                "l3": lambda each: each.l3,
            }.items()
        }
        for cpu in online:
            found |= self._cpu(cpu, {what: lists[cpu.number] for what, lists in shared.items()})
        nodes = sorted({cpu.node for cpu in online} | set(self.memory_only_nodes))
        found[f"{SYS}/node/online"] = cpu_text(nodes)
        for node in nodes:
            found[f"{SYS}/node/node{node}/cpulist"] = cpu_text([cpu.number for cpu in online if cpu.node == node])
            found[f"{SYS}/node/node{node}/distance"] = " ".join("10" if node == other else "21" for other in nodes)
            found[f"{SYS}/node/node{node}/meminfo"] = f"Node {node} MemTotal:       {64 * MIB} kB"
        return found

    def _cpu(self, cpu: FakeCpu, shared: Mapping[str, str]) -> dict[str, str]:
        base, siblings = f"{SYS}/cpu/cpu{cpu.number}", shared["core"]
        found = {
            f"{base}/topology/physical_package_id": str(cpu.socket),
            f"{base}/topology/core_id": str(cpu.core),
            f"{base}/topology/core_cpus_list": siblings,
            f"{base}/topology/thread_siblings_list": siblings,
        }
        if cpu.capacity is not None:
            found[f"{base}/cpu_capacity"] = str(cpu.capacity)
        caches = [("1", "Data", cpu.sizes[0], siblings), ("1", "Instruction", 32 * KIB, siblings)]
        caches.append(("2", "Unified", cpu.sizes[1], siblings if cpu.l2 is None else shared["l2"]))
        if cpu.l3 is not None:
            caches.append(("3", "Unified", cpu.sizes[2], shared["l3"]))
        for index, (level, kind, size, cpus) in enumerate(caches):
            path = f"{base}/cache/index{index}"
            found |= {
                f"{path}/level": level,
                f"{path}/type": kind,
                f"{path}/size": f"{size // KIB}K",
                f"{path}/shared_cpu_list": cpus,
                f"{path}/coherency_line_size": "64",
            }
        return found

    def identify(self, cpus: Sequence[int]) -> list[Mapping[str, Any]]:
        """What cpuid tells of each CPU: the id counts threads, cores and sockets in fields of bits."""
        if not self.has_cpuid:
            return []
        return [self._row(cpu) for cpu in self.cpus if cpu.number in cpus]

    def _row(self, cpu: FakeCpu) -> dict[str, Any]:
        siblings = sorted(each.number for each in self.cpus if (each.socket, each.core) == (cpu.socket, cpu.core))
        domain = sorted({each.core for each in self.cpus if (each.socket, each.l3) == (cpu.socket, cpu.l3)})
        domains = sorted({str(each.l3) for each in self.cpus if each.socket == cpu.socket})
        in_domain = max(1, (len(domain) - 1).bit_length())
        package = 1 + in_domain + max(0, (len(domains) - 1).bit_length())
        place = cpu.socket << package | domains.index(str(cpu.l3)) << 1 + in_domain | domain.index(cpu.core) << 1
        kind = {"cpu_core": "performance", "cpu_atom": "efficiency"}.get(cpu.pmu or "")
        facts = {"core_bits": 1, "l1_bits": 1, "l2_bits": 1, "package_bits": package}
        l3 = None if cpu.l3 is None else 1 + in_domain
        return {"cpu": cpu.number, "id": place | siblings.index(cpu.number), "l3_bits": l3, "kind": kind, **facts}

    def topology(self) -> Topology:
        return _probed(self.name)

    def device(self) -> Device:
        told = self.topology()
        levels = told.cores[0].levels if told.cores else ()
        return Device(
            id="fake",
            kind="cpu",
            name=f"FAKE {self.name}",
            arch=self.arch,
            levels=(*levels, MemoryLevel(name="DRAM")),
            topology=told,
        )


def _groups(cpus: Sequence[FakeCpu], key: Callable[[FakeCpu], Any]) -> dict[int, str]:
    """The list of those that share something, for each CPU."""
    groups: dict[Any, list[int]] = {}
    for cpu in cpus:
        groups.setdefault(key(cpu), []).append(cpu.number)
    lists = {shared: cpu_text(numbers) for shared, numbers in groups.items()}
    return {cpu.number: lists[key(cpu)] for cpu in cpus}


def _smt(cores: int, each: Callable[[int], FakeCpu], threads: int = 2) -> tuple[FakeCpu, ...]:
    """Cores 0.., then their siblings: how Linux numbers most machines."""
    return tuple(replace(each(i % cores), number=i) for i in range(cores * threads))


def _adjacent(cores: int, each: Callable[[int], FakeCpu]) -> tuple[FakeCpu, ...]:
    """Siblings next to each other: how many clouds number theirs."""
    return tuple(replace(each(i // 2), number=i) for i in range(2 * cores))


XEON = (48 * KIB, 2 * MIB, 105 * MIB)
ZEN = (32 * KIB, 512 * KIB, 32 * MIB)


def _hybrid(i: int) -> FakeCpu:
    if i < 16:  # eight cores with siblings
        return FakeCpu(number=i, core=i // 2, pmu="cpu_core", sizes=(48 * KIB, 2 * MIB, 36 * MIB))
    return FakeCpu(
        number=i, core=8 + i - 16, l2=100 + (i - 16) // 4, pmu="cpu_atom", sizes=(32 * KIB, 4 * MIB, 36 * MIB)
    )


MACHINES = {
    machine.name: machine
    for machine in (
        FakeMachine(
            name="two sockets of 64 cores, siblings at +128",
            arch="sapphirerapids",
            cpus=_smt(128, lambda i: FakeCpu(number=i, core=i, socket=i // 64, node=i // 64, l3=i // 64, sizes=XEON)),
        ),
        FakeMachine(
            name="Zen of eight L3, siblings at +64",
            cpus=_smt(64, lambda i: FakeCpu(number=i, core=i, l3=i // 8, sizes=ZEN)),
        ),
        FakeMachine(name="hybrid of 8 and 16", arch="alderlake", cpus=tuple(_hybrid(i) for i in range(32))),
        FakeMachine(
            name="64 cores of one thread, one L3",
            arch="neoverse_v1",
            has_cpuid=False,
            cpus=tuple(FakeCpu(number=i, core=i, sizes=(64 * KIB, MIB, 32 * MIB)) for i in range(64)),
        ),
        FakeMachine(name="one CPU", cpus=(FakeCpu(number=0, core=0),)),
        FakeMachine(name="this one", cpus=tuple(FakeCpu(number=i, core=i, sizes=ZEN) for i in range(2))),
        FakeMachine(
            name="four nodes, a CPU switched off",
            arch="cascadelake",
            cpus=tuple(
                FakeCpu(
                    number=i,
                    core=i,
                    socket=i // 8,
                    node=i // 8,
                    l3=i // 8,
                    online=i != 13,
                    sizes=(32 * KIB, MIB, 11 * MIB),
                )
                for i in range(32)
            ),
        ),
        FakeMachine(
            name="a container on half of the siblings",
            allowed=frozenset(range(0, 16, 2)),
            cpus=_adjacent(8, lambda i: FakeCpu(number=i, core=i, sizes=ZEN)),
        ),
        FakeMachine(
            name="adjacent siblings, one core whole and one half",
            allowed=frozenset((0, 1, 2)),
            cpus=_adjacent(4, lambda i: FakeCpu(number=i, core=i, sizes=ZEN)),
        ),
        FakeMachine(
            name="big and little by capacity",
            arch="neoverse_v2",
            has_cpuid=False,
            cpus=tuple(
                FakeCpu(
                    number=i,
                    core=i,
                    capacity=430 if i < 4 else 970 if i < 7 else 1024,
                    l3=0,
                    sizes=(64 * KIB, 512 * KIB, 8 * MIB) if i >= 4 else (32 * KIB, 128 * KIB, 8 * MIB),
                )
                for i in range(8)
            ),
        ),
        FakeMachine(
            name="no /sys, cpuid only",
            has_sys=False,
            cpus=_smt(8, lambda i: FakeCpu(number=i, core=i, l3=i // 4, sizes=ZEN)),
        ),
        FakeMachine(
            name="nothing is told", has_sys=False, has_cpuid=False, cpus=_smt(4, lambda i: FakeCpu(number=i, core=i))
        ),
        FakeMachine(
            name="more than 1024 CPUs, a node of memory alone",
            memory_only_nodes=(16,),
            cpus=_smt(
                1024,
                lambda i: FakeCpu(number=i, core=i, socket=i // 64, node=i // 64, l3=i // 8, sizes=ZEN),
            ),
        ),
    )
}
THIS = MACHINES["this one"]


@cache
def _probed(name: str) -> Topology:
    """Each machine is probed once a process."""
    machine = MACHINES[name]
    return topology.probe(machine.pseudo_files(), machine.usable, machine.identify)
