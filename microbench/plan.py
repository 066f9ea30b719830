"""What to measure: from a device and its kernels to a list of cases and a budget.

The working sets come from the levels the system advertises, but nothing believes them: the sweep covers every size from 8 KiB to
well past the last level, and `levels` decides afterwards which plateau a case lay on.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import psutil

from microbench.dtypes import dtype as parse_dtype
from microbench.errors import UsageError
from microbench.kernels import Kernel
from microbench.records import LEVELS, Budget, Case, Device, Mode, Plan, Scope, Sheet, Value

KIB, MIB, GIB = 2**10, 2**20, 2**30

# A default run must end within 150 s on two cores, a quick one within 30 s; start, proof and report take the difference.
BUDGETS = {
    "quick": Budget(name="quick", time_limit_s=24.0, min_rounds=3, sample_s=0.7e-3, samples=5),
    "default": Budget(name="default", time_limit_s=75.0, min_rounds=6, sample_s=1e-3, samples=8),
    "thorough": Budget(name="thorough", time_limit_s=600.0, min_rounds=12, sample_s=1e-3, samples=12),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the user asked to see only. Empty means everything."""

    only: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.dtypes:
            try:
                parse_dtype(name)
            except ValueError as error:
                raise UsageError(str(error)) from error
        for name in self.levels:
            if name not in LEVELS:
                raise UsageError(f"unknown memory level {name!r}; known: {', '.join(LEVELS)}")

    def admits(self, case: Case, sheet: Sheet, level: str | None) -> bool:
        """Whether a case survives --only, --dtype and --level."""
        if self.only and not any(fnmatchcase(sheet.name, glob) or fnmatchcase(case.key, glob) for glob in self.only):
            return False
        if self.dtypes and sheet.dtype not in {parse_dtype(name).name for name in self.dtypes}:
            return False
        return not self.levels or (level is not None and level in self.levels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the machine leaves us: threads to use and memory to fill."""

    threads: int
    memory_bytes: int

    @classmethod
    def here(cls) -> Room:
        """The CPUs this process may use, and what memory is free (of the control group's limit, where there is one)."""
        return cls(threads=len(os.sched_getaffinity(0)), memory_bytes=min(psutil.virtual_memory().available, _cgroup_memory()))


def _cgroup_memory() -> int:
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            return int(Path(name).read_text(encoding="ascii"))
    return 1 << 62


def make_plan(device: Device, kernels: Mapping[str, Kernel], selection: Selection, budget: Budget, seed: int = 0) -> Plan:
    """Choose the cases for a device.

    Raises
    ------
    UsageError
        If the selection leaves nothing; the sentence names what could have been asked for.
    """
    sheets = [kernel.sheet for kernel in kernels.values() if kernel.sheet.unavailable is None]
    cases: dict[str, Case] = {}
    room = Room.here()
    for case, level in _candidates(device, sheets, room, budget):
        if selection.admits(case, kernels[case.kernel].sheet, level):
            cases.setdefault(case.key, case)
    if not cases:
        asked = ", ".join((*selection.only, *selection.dtypes, *selection.levels)) or "the device"
        raise UsageError(
            f"nothing to measure: no available kernel matches {asked}; 'microbench list kernels' shows names, dtypes and reasons"
        )
    return Plan(cases=tuple(cases.values()), budget=budget, seed=seed)


def _candidates(device: Device, sheets: Sequence[Sheet], room: Room, budget: Budget) -> Iterable[tuple[Case, str | None]]:
    teams = sorted({1, room.threads}) if device.kind == "cpu" else [1]
    if budget.name == "quick":
        # Starting a library alone takes a quick run's tenth.
        sheets = [sheet for sheet in sheets if sheet.backend != "torch"]
    for sheet in sheets:
        if sheet.measures in ("compute", "cost") and not sheet.name.startswith("first_touch"):
            for threads in teams:
                yield _case(sheet, threads, teams), None
    if device.kind == "cpu":
        yield from _memory(device, sheets, room, budget)


def _case(sheet: Sheet, threads: int, teams: Sequence[int], **params: Value) -> Case:
    scope: Scope = "device" if threads == teams[-1] and threads > 1 else "core"
    mode: Mode = "library" if sheet.backend == "torch" else "peak"
    return Case(kernel=sheet.name, params=params, threads=threads, scope=scope, mode=mode)


def largest_set(device: Device, room: Room) -> int:
    """The largest working set of one thread in bytes: past twice the last level where memory allows, at least 256 MiB."""
    last = max((level.capacity_bytes or 0 for level in device.levels if level.name != "DRAM"), default=0)
    wanted = max(256 * MIB, 2 * last)
    # A triad needs it once per thread, the sweep, the chase and both page kinds again: an eighth of free memory for each.
    affordable = max(16 * MIB, room.memory_bytes // (8 * room.threads))
    return 1 << int(math.log2(min(wanted, affordable)))


def sweep_sizes(largest: int, per_octave: int) -> list[int]:
    """Working sets from 8 KiB to ``largest``, so many per octave, rounded to 4 KiB (1 KiB below 64 KiB)."""
    steps = round(per_octave * math.log2(largest / (8 * KIB)))
    sizes: dict[int, None] = {}
    for i in range(steps + 1):
        exact = 8 * KIB * 2 ** (i / per_octave)
        grain = KIB if exact < 64 * KIB else 4 * KIB
        sizes[round(exact / grain) * grain] = None
    return list(sizes)


def _level_sets(device: Device, largest: int) -> dict[str, tuple[int, ...]]:
    """Working sets per thread at which each level's ceilings are sought."""
    sets: dict[str, tuple[int, ...]] = {}
    l1, l2, l3 = (getattr(device.level(name), "capacity_bytes", None) for name in ("L1", "L2", "L3"))
    if l1:
        # Half the cache leaves room for the stack; three quarters loses least to the loop's restarts.
        sets["L1"] = (_grain(l1 // 2), _grain(l1 * 3 // 4))
    if l2:
        sets["L2"] = (_grain(l2 * 3 // 8), _grain(l2 * 3 // 4))
    if l3:
        # A shared last level behaves smaller than it is: small multiples of the level before it.
        below = l2 or l1 or MIB
        sets["L3"] = tuple(_grain(size) for size in (below * 2, below * 3, below * 6) if size < l3)
    sets["DRAM"] = (largest,)
    return sets


def _grain(size: int) -> int:
    return max(4 * KIB, size // (4 * KIB) * 4 * KIB)


def _memory(device: Device, sheets: Sequence[Sheet], room: Room, budget: Budget) -> Iterable[tuple[Case, str | None]]:
    teams = sorted({1, room.threads})
    largest = largest_set(device, room)
    sets = _level_sets(device, largest)
    streams = [sheet for sheet in sheets if sheet.measures == "memory"]
    widest = _widest(streams)
    quick = budget.name == "quick"
    for sheet in streams:
        if quick and not _is_wide(sheet, widest):
            continue
        for level, sizes in sets.items():
            if sheet.backend == "torch" and level != "DRAM":
                continue  # A call of the library costs more than a pass over a cache.
            for case in _stream_cases(sheet, level, sizes, teams, quick):
                yield case, level
    yield from _sweeps(sheets, widest, largest, teams, quick)
    for sheet in sheets:
        if sheet.measures == "intensity" and _is_wide(sheet, widest):
            yield from _intensities(sheet, sets, teams, quick)
        if sheet.name.startswith("first_touch"):
            for pages in ("4k", "huge"):
                yield _case(sheet, 1, teams, pages=pages, working_set=16 * MIB), None


def _widest(streams: Sequence[Sheet]) -> int:
    return max((sheet.access_bytes for sheet in streams), default=0)


def _is_wide(sheet: Sheet, widest: int) -> bool:
    return sheet.access_bytes == widest


def _stream_cases(sheet: Sheet, level: str, sizes: Sequence[int], teams: Sequence[int], quick: bool) -> Iterable[Case]:
    beyond_cache = level == "DRAM"
    if sheet.variant.endswith("_nt") and not beyond_cache:
        return  # Non-temporal stores bypass the caches: a rate "of L1" would be one of DRAM.
    stream_counts: tuple[int, ...] = (1, 4, 8) if beyond_cache and "streams" in sheet.params else (1,)
    page_kinds = ("huge", "4k") if level in ("L2", "DRAM") and not quick else ("huge",)
    if beyond_cache and quick:
        stream_counts, page_kinds = ((1, 8), ("huge", "4k") if sheet.variant.endswith("_nt") else ("huge",))
    for threads in teams:
        for working_set in sizes:
            for pages in page_kinds:
                for streams in stream_counts:
                    params: dict[str, Value] = {"working_set": working_set, "pages": pages}
                    if "streams" in sheet.params:
                        params["streams"] = streams
                    yield _case(sheet, threads, teams, **params)


def _sweeps(sheets: Sequence[Sheet], widest: int, largest: int, teams: Sequence[int], quick: bool) -> Iterable[tuple[Case, str | None]]:
    for sheet in sheets:
        if sheet.measures == "memory" and sheet.access == "read" and _is_wide(sheet, widest):
            for working_set in sweep_sizes(largest, 2 if quick else 3):
                params: dict[str, Value] = {"working_set": working_set, "pages": "huge"}
                if "streams" in sheet.params:
                    params["streams"] = 1
                yield _case(sheet, 1, teams, **params), "sweep"
        if sheet.measures == "latency":
            for pages in ("huge",) if quick else ("huge", "4k"):
                for working_set in sweep_sizes(largest, 1 if quick or pages == "4k" else 2):
                    yield _case(sheet, 1, teams, working_set=working_set, pages=pages), "sweep"


def _intensities(sheet: Sheet, sets: Mapping[str, Sequence[int]], teams: Sequence[int], quick: bool) -> Iterable[tuple[Case, str | None]]:
    for level in ("L1", "L2", "DRAM") if not quick else ("L1", "DRAM"):
        for working_set in sets.get(level, ())[-1:]:
            for threads in teams[-1:] if quick else teams:
                yield _case(sheet, threads, teams, working_set=working_set, pages="huge"), level


def limited(budget: Budget, time_limit_s: float | None) -> Budget:
    """The budget with the user's own time limit in place of its own."""
    return budget if time_limit_s is None else replace(budget, time_limit_s=time_limit_s)
