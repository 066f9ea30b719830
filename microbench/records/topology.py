"""The machine as it is: which CPUs share a core, a cache, a socket and a memory, and the teams of them that work."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from microbench.records.values import LEVELS, all_within, one_of, refuse, within

CoreKind = Literal["performance", "efficiency"]
KINDS: tuple[CoreKind, CoreKind] = ("performance", "efficiency")
# A placement by name, or the very CPUs in the system's own spelling.
PLACEMENT = re.compile(r"[a-z][a-z0-9_]*|\d+(-\d+)?(,\d+(-\d+)?)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLevel:
    """One level of the memory hierarchy as the system advertises it (a hint: virtual machines lie).

    ``shared_by`` is how many CPUs share one of it. ``bus_rate`` is what its bus can move in byte/s, width x transfers a
    second, where the driver tells both.
    """

    name: str
    capacity_bytes: int | None = None
    line_bytes: int | None = None
    ways: int | None = None
    shared_by: int | None = None
    bus_rate: float | None = None

    def __post_init__(self) -> None:
        one_of(self, "name", LEVELS)
        within(self, "bytes", "capacity_bytes", "line_bytes")
        within(self, "units", "ways", "shared_by")
        within(self, "rate", "bus_rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """One CPU that is switched on, by the system's number, and what it shares with others.

    CPUs of equal ``core`` are siblings of one core; likewise ``l1``, ``l2`` and ``l3``, ``cluster``, ``socket`` and
    ``node`` (the nearest memory). Core, caches and cluster are told by the lowest number of their CPUs. ``None`` is
    unknown, or not there.
    """

    number: int
    core: int | None = None
    l1: int | None = None
    l2: int | None = None
    l3: int | None = None
    cluster: int | None = None
    socket: int | None = None
    node: int | None = None
    kind: CoreKind | None = None

    def __post_init__(self) -> None:
        within(self, "units", "number", "core", "l1", "l2", "l3", "cluster", "socket", "node", zero=True)
        one_of(self, "kind", KINDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNode:
    """One NUMA node: its CPUs, its memory, and the firmware's relative distances to all nodes (10 is its own)."""

    number: int
    cpus: tuple[int, ...] = ()
    memory_bytes: int | None = None
    distances: tuple[int, ...] = ()
    usable: bool = True

    def __post_init__(self) -> None:
        within(self, "units", "number", zero=True)
        within(self, "bytes", "memory_bytes", zero=True)
        all_within(self, "units", "cpus", zero=True)
        all_within(self, "units", "distances", zero=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What the cores of one kind have of their own: caches and clocks. ``kind`` is ``None`` where all are alike."""

    kind: CoreKind | None = None
    arch: str | None = None
    levels: tuple[MemoryLevel, ...] = ()
    base_clock_hz: float | None = None
    boost_clock_hz: float | None = None

    def __post_init__(self) -> None:
        one_of(self, "kind", KINDS)
        within(self, "hertz", "base_clock_hz", "boost_clock_hz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The threads of a placement on cores of one kind.

    ``cores`` counts these cores, ``per_core`` the most threads on one of them (``None``: unknown). ``sharers`` has for
    each cache level the most threads of the whole placement that share one cache with a thread of this part.
    """

    threads: int
    kind: CoreKind | None = None
    cores: int | None = None
    per_core: int | None = None
    sharers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        within(self, "units", "threads", "cores", "per_core")
        all_within(self, "units", "sharers")
        one_of(self, "kind", KINDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A team of threads, one on each of ``cpus``, by the name that cases are planned with; one part a kind of core."""

    name: str
    cpus: tuple[int, ...]
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        refuse(not PLACEMENT.fullmatch(self.name), f"placement name {self.name!r} is not lower-case words joined by _")
        refuse(not self.cpus or not self.parts, f"placement {self.name} has no CPU")
        all_within(self, "units", "cpus", zero=True)

    @property
    def threads(self) -> int:
        """One a CPU."""
        return len(self.cpus)

    @property
    def word(self) -> str | None:
        """What a case's key says of it: nothing for one core and for all CPUs, which are told by their threads."""
        return None if self.name in ("core", "all") else self.name

    @property
    def cores(self) -> int | None:
        """Cores that take part; ``None`` where that is unknown."""
        return None if any(part.cores is None for part in self.parts) else sum(part.cores or 0 for part in self.parts)

    @property
    def whole_cores(self) -> float | None:
        """The cores' worth of work that the team can do while all threads have equal shares; ``None`` is unknown.

        It is the number of threads over those on the fullest core.

        Examples
        --------
        >>> Placement(name="all", cpus=(0, 1, 2, 3), parts=(Part(threads=4, cores=2, per_core=2),)).whole_cores
        2.0
        """
        fullest = [part.per_core for part in self.parts]
        return None if None in fullest else self.threads / max(each or 1 for each in fullest)

    def sharers(self, level: str) -> int:
        """The most threads that share one cache of a level; all of them where that is not known of a level."""
        return max(part.sharers.get(level, self.threads) for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The CPUs of a machine, what they share, and the placements that they allow.

    ``allowed`` are the CPUs that this process may use, ``offline`` those that are switched off. ``doubts`` are
    sentences about what the sources leave unknown or tell differently.
    """

    cpus: tuple[Cpu, ...] = ()
    nodes: tuple[MemoryNode, ...] = ()
    cores: tuple[Core, ...] = ()
    allowed: tuple[int, ...] = ()
    offline: tuple[int, ...] = ()
    placements: tuple[Placement, ...] = ()
    doubts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        all_within(self, "units", "allowed", zero=True)
        all_within(self, "units", "offline", zero=True)

    def placement(self, word: str | None, threads: int) -> Placement | None:
        """The placement of a case: by its word (``None`` for one core or all CPUs) and its number of threads."""
        return next((each for each in self.placements if each.word == word and each.threads == threads), None)

    def usable(self) -> tuple[Cpu, ...]:
        """The CPUs that this process may use."""
        allowed = set(self.allowed)
        return tuple(cpu for cpu in self.cpus if cpu.number in allowed)

    def core(self, kind: CoreKind | None) -> Core | None:
        """The facts of one kind of core; of the first, where the kind is unknown."""
        return next((core for core in self.cores if core.kind == kind), self.cores[0] if self.cores else None)
