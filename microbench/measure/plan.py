"""What to measure: from a device and its kernels to a list of cases and a budget.

The working sets come from the levels the system advertises, but nothing believes them: the sweep covers every size from
8 KiB to well past the last level, and `levels` decides afterwards which plateau a case lay on.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import psutil

from microbench.errors import CannotRun, UsageError
from microbench.kernels import Kernel
from microbench.measure import matrices, placements, plan_cuda, sustained
from microbench.measure.fitting import least_rounds
from microbench.measure.working_sets import Streams, WorkingSets, known, widest
from microbench.records import LEVELS, Budget, Case, Device, Finding, Placement, Plan, Sheet, Value
from microbench.records.dtypes import dtype as parse_dtype
from microbench.records.roles import RATED

# The limit is that of the whole command; `budget` deals it out.
BUDGETS = {
    "quick": Budget(name="quick", time_limit_s=30.0, min_rounds=3, sample_s=0.7e-3, samples=5),
    "default": Budget(name="default", time_limit_s=150.0, min_rounds=6, sample_s=1e-3, samples=8),
    "thorough": Budget(name="thorough", time_limit_s=900.0, min_rounds=12, sample_s=1e-3, samples=12),
}

# A default run on a GPU starts a library and looks for its best shapes, which takes tens of seconds before anything is
# measured.
GPU_LIMITS_S = {"default": 240.0}
# A cost of pages is that of so many, which outnumber what any translation buffer holds and are soon given back.
COST_BYTES = 2**12 * mmap.PAGESIZE
_AT_A_LEVEL = ("memory", "latency", "intensity")


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
class Resources:
    """What the machine leaves us: threads to use and memory to fill."""

    threads: int
    memory_bytes: int

    @classmethod
    def here(cls) -> Resources:
        """The CPUs this process may use, and what memory is free (of the control group's limit, where there is one)."""
        return cls(
            threads=len(os.sched_getaffinity(0)), memory_bytes=min(psutil.virtual_memory().available, _cgroup_memory())
        )


def _cgroup_memory() -> int:
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            return int(Path(name).read_text(encoding="ascii"))
    return 1 << 62


def make_plan(
    device: Device, kernels: Mapping[str, Kernel], selection: Selection, budget: Budget, seed: int = 0
) -> Plan:
    """Choose the cases for a device.

    Raises
    ------
    UsageError
        If the selection leaves nothing; the sentence names what could have been asked for.
    CannotRun
        If all that the selection names cannot run here; the sentence says why.
    """
    sheets = [kernel.sheet for kernel in kernels.values() if _wanted(kernel.sheet, kernels, selection, budget)]
    if device.kind == "cuda":
        sheets = _quoted(sheets, selection, budget)
    cases: dict[str, Case] = {}
    resources = Resources.here()
    for case, level in _candidates(device, sheets, resources, budget, seed):
        if selection.admits(case, kernels[case.kernel].sheet, level):
            cases.setdefault(case.key, case)
    if not cases:
        lacks = lacking(kernels, selection)
        if lacks:
            raise CannotRun(f"{lacks[0].name} cannot run here: {lacks[0].unavailable}")
        asked = ", ".join((*selection.only, *selection.dtypes, *selection.levels)) or "the device"
        raise UsageError(
            f"nothing to measure: no available kernel matches {asked}; 'microbench list kernels' shows names, dtypes "
            "and reasons"
        )
    return Plan(cases=tuple(cases.values()), budget=budget, seed=seed)


def _wanted(sheet: Sheet, kernels: Mapping[str, Kernel], selection: Selection, budget: Budget) -> bool:
    """Whether a kernel can run here and tells what no other one does.

    One that others stand for (`Sheet.unless`) is measured where none of them can run, by --thorough, and where it is
    asked for by name; so is, in a quick run, arithmetic that bounds no roofline.
    """
    if sheet.unavailable is not None:
        return False
    if budget.name == "thorough" or any(fnmatchcase(sheet.name, glob) for glob in selection.only):
        return True
    if budget.name == "quick" and sheet.measures == "compute" and not sheet.takes("roof"):
        return False
    return not any(name in kernels and kernels[name].sheet.unavailable is None for name in sheet.unless)


def _quoted(sheets: Sequence[Sheet], selection: Selection, budget: Budget) -> list[Sheet]:
    """Of a GPU's kernels those that this budget measures, and whatever is asked for by name."""
    return [
        sheet
        for sheet in sheets
        if any(fnmatchcase(sheet.name, glob) for glob in selection.only)
        or plan_cuda.left_to_thorough(sheet, sheets, budget.name) is None
    ]


def left_to_thorough(
    device: Device, kernels: Mapping[str, Kernel], selection: Selection, budget: Budget
) -> Finding | None:
    """The one finding about what of a GPU only a thorough run measures; none where something is asked for by name."""
    if device.kind != "cuda" or selection.only:
        return None
    sheets = [kernel.sheet for kernel in kernels.values() if kernel.sheet.unavailable is None]
    groups = [plan_cuda.left_to_thorough(sheet, sheets, budget.name) for sheet in sheets]
    return plan_cuda.held_back([group for group in groups if group], groups.count(None))


def lacking(kernels: Mapping[str, Kernel], selection: Selection) -> list[Sheet]:
    """The kernels that a selection names and this machine cannot run; each sheet has the reason."""
    level = selection.levels[0] if selection.levels else None
    sheets = [kernel.sheet for kernel in kernels.values() if kernel.sheet.unavailable]
    # Arithmetic has no level: `--only 'fma*' --level L1` asks for nothing, whatever this machine lacks.
    return [
        sheet
        for sheet in sheets
        if selection.admits(Case(kernel=sheet.name), sheet, level if sheet.measures in _AT_A_LEVEL else None)
    ]


def _candidates(
    device: Device, sheets: Sequence[Sheet], resources: Resources, budget: Budget, seed: int
) -> Iterable[tuple[Case, str | None]]:
    if budget.name == "quick":
        # Starting a library alone takes a quick run's tenth.
        sheets = [sheet for sheet in sheets if sheet.backend != "torch"]
    if device.kind == "cuda":
        yield from plan_cuda.candidates(device, sheets, budget.name)
        return
    teams = placements.teams(device, resources.threads)
    for sheet in sheets:
        if sheet.takes("cost") and "pages" in sheet.params:
            for pages in ("4k", "huge"):
                yield placements.case(sheet, teams[0], pages=pages, working_set=COST_BYTES), None
        elif sheet.takes("cost") or (sheet.takes("ceiling") and sheet.measures == "compute"):
            for team in teams:
                yield placements.case(sheet, team), None
    yield from _memory(device, sheets, resources, budget)
    yield from placements.candidates(device, sheets, resources.memory_bytes, quick=budget.name == "quick")
    yield from matrices.candidates(device, sheets, resources.memory_bytes, budget.name, seed)
    yield from sustained.candidates(device, sheets, resources.threads, resources.memory_bytes, budget.name)


def _memory(
    device: Device, sheets: Sequence[Sheet], resources: Resources, budget: Budget
) -> Iterable[tuple[Case, str | None]]:
    teams = placements.teams(device, resources.threads)
    sets = WorkingSets.of(device, resources.memory_bytes, resources.threads)
    streams = Streams(widest=widest(sheets), quick=budget.name == "quick")
    for team in teams:
        own = placements.working_sets(team, device, resources.memory_bytes, resources.threads)
        for sheet in sheets:
            if sheet.measures == "memory" and sheet.takes(*RATED):
                for level, params in _ceilings(sheet, own, streams, resources.threads):
                    yield placements.case(sheet, team, **params), level
            if streams.wide(sheet, "intensity") and (not streams.quick or team is teams[-1]):
                yield from _intensities(sheet, own, team, quick=streams.quick)
    for sheet in sheets:
        if sheet.takes("latency"):
            for params in streams.memory_chases(sheet, sets):
                yield placements.case(sheet, teams[0], **params), "DRAM"
        if sheet.takes("latency") and not sheet.takes("sweep"):
            for level, sizes in sets.levels.items():
                yield placements.case(sheet, teams[0], **known(sheet, working_set=sizes[0], pages="huge")), level
    for sheet, params, level in streams.sweep(sheets, sets):
        yield placements.case(sheet, teams[0], **params), level


def _ceilings(
    sheet: Sheet, sets: WorkingSets, streams: Streams, threads: int
) -> Iterable[tuple[str, dict[str, Value]]]:
    if sheet.backend == "torch":
        yield "DRAM", {"working_set": 2 * sets.cold * threads}  # a tensor and its copy, whatever the threads
    elif streams.wide(sheet, *RATED) or not streams.quick:
        yield from streams.params(sheet, sets)


def _intensities(sheet: Sheet, sets: WorkingSets, team: Placement, *, quick: bool) -> Iterable[tuple[Case, str | None]]:
    """The roofline's shape: at the nearest level, at the second, and in main memory."""
    where: dict[str, dict[str, Value]] = {
        name: {"working_set": sets.levels[name][0]} for name in ("L1", "L2") if name in sets.levels
    }
    where["DRAM"] = {"working_set": sets.cold, "cold": 1}
    for level, params in where.items():
        if not quick or level != "L2":
            yield placements.case(sheet, team, **known(sheet, pages="huge", **params)), level


def limited(budget: Budget, time_limit_s: float | None, kind: str = "cpu") -> Budget:
    """The budget of a kind of device with the user's own time limit in place of its own.

    A shorter one is spent on fewer rounds first.
    """
    if kind == "cuda":
        budget = replace(budget, time_limit_s=GPU_LIMITS_S.get(budget.name, budget.time_limit_s))
    if time_limit_s is None:
        return budget
    rounds = least_rounds(budget.min_rounds) if time_limit_s < budget.time_limit_s else budget.min_rounds
    return replace(budget, time_limit_s=time_limit_s, min_rounds=rounds)
