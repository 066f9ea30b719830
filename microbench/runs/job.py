"""What one run works on: the device, its kernels, the plan, and what an interrupted run left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from microbench.errors import MicrobenchError
from microbench.kernels import Kernel
from microbench.measure import sustained
from microbench.measure.budget import Schedule, kernels_s, library_fits
from microbench.measure.fitting import cut
from microbench.measure.plan import BUDGETS, Resources, Selection, make_plan
from microbench.measure.priorities import Priorities, left_out_for_time
from microbench.records import Budget, Case, Characterisation, Device, Finding, Plan, Proof, Sheet

# Of the time for kernels, what checking their results may take.
_CHECKING = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run before it starts.

    ``resumed`` is what the journal of an interrupted run holds. ``findings`` say which kernels of the plan were left
    out, and why; ``no_time`` are the cases that were left out because they do not fit the time. ``schedule`` tells when
    what must end. ``proofs`` are those of the loops by kernel, ``None`` before they are examined.
    """

    device: Device
    kernels: dict[str, Kernel]
    plan: Plan
    resumed: Characterisation | None
    schedule: Schedule
    findings: tuple[Finding, ...] = ()
    no_time: tuple[Case, ...] = field(default=())
    proofs: Mapping[str, Proof] | None = None

    def sheets(self) -> dict[str, Sheet]:
        """The sheets of the plan's kernels and of their reference clocks."""
        wanted = {case.kernel for case in self.plan.cases}
        wanted |= {
            reference_clock
            for name in wanted
            if name in self.kernels and (reference_clock := self.kernels[name].sheet.reference_clock) in self.kernels
        }
        return {name: self.kernels[name].sheet for name in sorted(wanted) if name in self.kernels}

    def planned(self) -> tuple[Sheet, ...]:
        """The sheets of the plan's kernels alone."""
        wanted = {case.kernel for case in self.plan.cases}
        return tuple(self.kernels[name].sheet for name in sorted(wanted) if name in self.kernels)

    def is_full_budget(self, selection: Selection) -> bool:
        """Whether the run covers a whole budget: nothing narrower or shorter, now or when its journal was begun."""
        budget = BUDGETS[self.plan.budget.name]
        if self.plan.budget.time_limit_s < budget.time_limit_s:
            return False
        if self.resumed is None:
            return selection == Selection()
        full, _ = plan_in_time(self.device, self.kernels, Selection(), self.plan.budget)
        return len(self.plan.cases) == len(full.cases)

    def times_operators(self, selection: Selection) -> bool:
        """Whether operators follow the kernels: PyTorch is usable, and the run is a whole one and no quick one."""
        libraries = any(
            kernel.sheet.backend == "torch" and kernel.sheet.unavailable is None for kernel in self.kernels.values()
        )
        fits = library_fits(self.plan.budget.time_limit_s, self.schedule.pace.start_s())
        return libraries and fits and self.plan.budget.name != "quick" and self.is_full_budget(selection)

    def begun(self, selection: Selection) -> Job:
        """The job at the moment at which its measuring begins."""
        native = any(sheet.backend == "native" for sheet in self.planned())
        operators = self.times_operators(selection)
        return replace(
            self, schedule=self.schedule.begun(len(self.plan.cases), disassembles=native, operators=operators)
        )

    def without(self, cases: Sequence[Case]) -> Job:
        """The job without cases that there was no time for."""
        keys = {case.key for case in cases}
        late = tuple(case for case in self.plan.cases if case.key in keys)
        kept = tuple(case for case in self.plan.cases if case.key not in keys)
        return replace(self, plan=replace(self.plan, cases=kept), no_time=(*self.no_time, *late)) if late else self

    def left_out_for_time(self) -> list[Finding]:
        """The one finding about all cases that there was no time for; none where there was time for all."""
        if not self.no_time:
            return []
        every = (*self.plan.cases, *self.no_time)
        sheets = {case.kernel: self.kernels[case.kernel].sheet for case in every}
        rules = Priorities(every, sheets, self.device).rule
        return [left_out_for_time(self.no_time, len(every), rules, self.plan.budget.time_limit_s)]


def plan_in_time(
    device: Device, kernels: Mapping[str, Kernel], selection: Selection, budget: Budget, seed: int = 0
) -> tuple[Plan, tuple[Case, ...]]:
    """The plan of a selection as far as it fits the budget's time, and the cases that do not."""
    plan = make_plan(device, kernels, selection, budget, seed)
    whole = selection == Selection() and budget.time_limit_s >= BUDGETS[budget.name].time_limit_s
    sheets = {name: kernel.sheet for name, kernel in kernels.items()}
    return cut(plan, sheets, device, kernels_s(budget, operators=whole and budget.name != "quick"))


def without_library(plan: Plan, kernels: Mapping[str, Kernel], start_s: float) -> tuple[Plan, tuple[Case, ...]]:
    """The plan without PyTorch's kernels where starting it would take too much of the time, and those kernels' cases.

    A plan of nothing else keeps them.
    """
    library = tuple(case for case in plan.cases if kernels[case.kernel].sheet.backend == "torch")
    if not library or len(library) == len(plan.cases) or library_fits(plan.budget.time_limit_s, start_s):
        return plan, ()
    return replace(plan, cases=tuple(case for case in plan.cases if case not in library)), library


def without_sustained(plan: Plan, device: Device) -> tuple[Finding, ...]:
    """Why a plan that measures main memory has only bursts of it, where memory is too short for anything longer."""
    if not any(case.params.get("cold") for case in plan.cases):
        return ()
    free = Resources.here()
    finding = sustained.left_out(device, free.threads, free.memory_bytes)
    return () if finding is None else (finding,)


def check(job: Job, seconds: float) -> tuple[list[Finding], frozenset[str]]:
    """Check the results of the plan's kernels before they are timed, the most important first.

    Returns
    -------
    findings, unchecked
        What was wrong, and the names of kernels that a share of the seconds for measuring did not suffice to check.
    """
    deadline = job.schedule.deadline
    until = deadline.elapsed() + _CHECKING * seconds
    order = Priorities(job.plan.cases, job.sheets(), job.device)
    names = dict.fromkeys(case.kernel for case in sorted(job.plan.cases, key=order.rank))
    found: list[Finding] = []
    for place, name in enumerate(names):
        if place and deadline.elapsed() > until:
            return found, frozenset(list(names)[place:])
        try:
            finding = job.kernels[name].check(job.device)
        except MicrobenchError as error:
            says = f"{name} could not be checked before it is timed: {error}"
            finding = Finding(code="not-checked", severity="warning", says=says, remedy="microbench doctor")
        if finding is not None:
            found.append(finding)
    return found, frozenset()
