"""What the two sides of a comparison are, beside their rows: devices, conditions, and how much of it is in doubt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from microbench.analysis.compare_rows import Side
from microbench.analysis.compared import Change
from microbench.records import Device, Finding

_NAMED = 3
_FACTS = 5
# Facts that tell how a run went and not how a machine is set up: they differ always.
_OF_THE_RUN = {
    "load",
    "memory_available",
    "swap_used",
    "run_s",
    "steal_s",
    "steal_share",
    "other_processes_s",
    "other_processes_share",
    "involuntary_switches",
}


def findings(before: Side, after: Side, changes: Sequence[Change]) -> Iterator[Finding]:
    """Everything that bears on a whole comparison, the weightiest first."""
    yield from _devices(before.newest.device, after.newest.device)
    yield from _missing(changes)
    yield from _disturbed(before, after)
    yield from _doubted(changes)
    yield from _conditions(before, after)


def _devices(old: Device, new: Device) -> Iterator[Finding]:
    if old.id != new.id:
        kind = "another device of the same name" if old.name == new.name else "another device"
        says = f"{new.name} ({new.id[:8]}) is {kind} than {old.name} ({old.id[:8]})"
        remedy = "ratios are between devices, not over time"
        yield Finding(code="different-device", severity="warning", says=says, remedy=remedy)
    counts = [(old.units_by_kind.get(kind), new.units_by_kind.get(kind), kind) for kind in ("thread", "core", "sm")]
    for mine, theirs, kind in counts:
        if mine and theirs and mine != theirs:
            word = {"thread": "CPUs", "core": "cores", "sm": "multiprocessors"}[kind]
            says = f"the old side could use {mine} {word} and the new one {theirs}; rows of the whole device show it"
            remedy = "see who took them: taskset, the container's cpuset, cores that are offline"
            yield Finding(code="different-units", severity="warning", says=says, remedy=remedy)
            return


def _missing(changes: Sequence[Change]) -> Iterator[Finding]:
    lost = [change for change in changes if change.verdict == "missing"]
    if lost:
        says = f"the new side has not measured {len(lost)} of {len(changes)} rows: {_first(lost)}"
        remedy = "measure with the same --only, --dtype, --level and budget, and see the findings of the new run"
        yield Finding(code="missing-rows", severity="warning", says=says, remedy=remedy)


def _disturbed(before: Side, after: Side) -> Iterator[Finding]:
    for name, side in (("old", before), ("new", after)):
        if side.disturbed > 0:
            says = (
                f"others took {side.disturbed:.0%} of the CPUs' time in the {name} run; it may be slower by that, but "
                "for peaks that reach their ports"
            )
            remedy = "stop what else runs there and measure again"
            yield Finding(code="disturbed", severity="warning", says=says, remedy=remedy)


def _doubted(changes: Sequence[Change]) -> Iterator[Finding]:
    loose = [change for change in changes if not change.converged and change.verdict != "missing"]
    if loose:
        says = f"{len(loose)} of {len(changes)} rows had not settled in one of the files: {_first(loose)}"
        remedy = "measure again with --thorough, or with --repeat 3 on both sides"
        yield Finding(code="unsettled-rows", severity="warning", says=says, remedy=remedy)
    reasons = Counter(change.why for change in changes if change.verdict == "unresolved")
    if reasons:
        said = "; ".join(f"{count} {why}" for why, count in reasons.most_common(_NAMED))
        says = f"{sum(reasons.values())} of {len(changes)} rows are unresolved: {said}"
        remedy = "a quieter machine, --thorough or --repeat 3 narrow the intervals"
        yield Finding(code="unresolved-rows", severity="info", says=says, remedy=remedy)


def _conditions(before: Side, after: Side) -> Iterator[Finding]:
    mine, theirs = before.newest.environment, after.newest.environment
    if mine is None or theirs is None:
        return
    if mine.microbench != theirs.microbench:
        says = f"the files come from microbench {mine.microbench} and {theirs.microbench}"
        remedy = "measure both with one version"
        yield Finding(code="different-version", severity="warning", says=says, remedy=remedy)
    common = [name for name in mine.facts if name in theirs.facts and name not in _OF_THE_RUN]
    differing = [name for name in common if mine.facts[name] != theirs.facts[name]]
    if differing:
        shown = "; ".join(f"{name}: {mine.facts[name]} -> {theirs.facts[name]}" for name in differing[:_FACTS])
        yield Finding(code="different-environment", severity="info", says=f"the environment changed: {shown}")


def _first(changes: Sequence[Change]) -> str:
    names = [change.name for change in changes]
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
