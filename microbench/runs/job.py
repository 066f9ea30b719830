"""What one run works on: the device, its kernels, the plan, and what an interrupted run left."""

from __future__ import annotations

from dataclasses import dataclass

from microbench.kernels import Kernel
from microbench.measure.plan import BUDGETS, Selection, make_plan
from microbench.records import Characterisation, Device, Finding, Plan, Sheet


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run before it starts.

    ``resumed`` is what the journal of an interrupted run holds. ``findings`` say which kernels of the plan were left
    out, and why.
    """

    device: Device
    kernels: dict[str, Kernel]
    plan: Plan
    resumed: Characterisation | None
    findings: tuple[Finding, ...] = ()

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

    def is_full_budget(self, selection: Selection, time_limit_s: float | None) -> bool:
        """Whether the run covers a whole budget: nothing narrower or shorter, now or when its journal was begun."""
        if self.resumed is None:
            return selection == Selection() and time_limit_s is None
        budget = BUDGETS[self.plan.budget.name]
        full = make_plan(self.device, self.kernels, Selection(), budget)
        return self.plan.budget == budget and len(self.plan.cases) == len(full.cases)
