"""What happens to each sample of a run: kept, written to the journal, shown; and how a run goes on from its journal."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from microbench.errors import CannotRun, UsageError
from microbench.hardware.torch_import import import_torch
from microbench.kernels import Kernel
from microbench.records import Case, Characterisation, Finding, Plan, Samples, Sheet, units
from microbench.records.dtypes import DTYPES
from microbench.report.progress import Progress, Step
from microbench.storage import store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Recorder:
    """Keeps samples in memory and in the journal; a journal that cannot be written costs a finding, not the run.

    ``limit_s`` is how long this run may measure; the samples of one that is resumed come by `hold`.
    """

    def __init__(
        self, journal: store.Journal | None, progress: Progress, sheets: Mapping[str, Sheet], limit_s: float
    ) -> None:
        self.samples: list[Samples] = []
        self.findings: list[Finding] = []
        self.journal = journal
        self._lost = False
        self.progress = progress
        self._limit_s = limit_s
        self._sheets = sheets
        self._started = time.monotonic()

    def hold(self, samples: Sequence[Samples]) -> None:
        """Take over what an interrupted run has measured, and has in its journal."""
        self.samples.extend(samples)

    def sampled(self, samples: Samples) -> None:
        """Keep the samples of one case in one round."""
        self.samples.append(samples)
        if self.journal is None or self._lost:
            return
        try:
            self.journal.append(samples)
        except CannotRun as error:
            self._lost = True
            remedy = "free space there; this run went on in memory"
            self.findings.append(Finding(code="journal-lost", severity="warning", says=str(error), remedy=remedy))

    def progressed(self, case: Case, round_index: int, best: float) -> None:
        """Show where the run is."""
        elapsed = time.monotonic() - self._started
        self.progress.update(
            Step(
                case=case.key,
                round=round_index + 1,
                fraction=min(1.0, elapsed / self._limit_s),
                remaining_s=max(0.0, self._limit_s - elapsed),
                best=_best(self._sheets[case.kernel], best),
            )
        )


def _best(sheet: Sheet, iterations_per_s: float) -> str:
    """The best so far in words: a rate, or a time for what is a cost."""
    if sheet.measures == "latency":
        return units.seconds(1 / (iterations_per_s * max(1, sheet.loads)))
    if sheet.measures in ("memory", "link") and sheet.work.bytes:
        return units.rate(iterations_per_s * sheet.work.bytes, "byte/s")
    if sheet.work.flop and sheet.dtype:
        return units.rate(iterations_per_s * sheet.work.flop, DTYPES[sheet.dtype].rate_unit)
    return units.seconds(1 / iterations_per_s)


def go_on(journal: Path) -> str:
    """How to go on with an interrupted run."""
    return f"go on with: microbench run --resume {shlex.quote(str(journal))}"


def plan_of(held: Characterisation, name: str, kernels: Mapping[str, Kernel]) -> Plan:
    """The plan of a journal, if these kernels can still carry it out; ``name`` stands for the journal in the sentence if not.

    Raises
    ------
    UsageError
        If there is no plan, a kernel is not here now, or samples are of another plan.
    """
    plan = held.plan
    if plan is None or not plan.cases:
        raise UsageError(f"{name} holds no plan, so there is nothing to go on with: start anew without --resume")
    lacks = next(
        (case.kernel for case in plan.cases if case.kernel not in kernels or kernels[case.kernel].sheet.unavailable),
        None,
    )
    if lacks is not None:
        says = f"the plan of {name} has {lacks}, which cannot run here now"
        raise UsageError(
            f"{says}: resume with the same version, MICROBENCH_ISA and extras, or start anew without --resume"
        )
    keys = {case.key for case in plan.cases}
    alien = next((samples.case for samples in held.samples if samples.case not in keys), None)
    if alien is not None:
        raise UsageError(
            f"{name} has samples of {alien[:80]}, which its plan does not have: start anew without --resume"
        )
    return plan


def without_broken(plan: Plan, kernels: Mapping[str, Kernel]) -> tuple[Plan, tuple[Finding, ...]]:
    """A plan without the kernels of a library that is installed but cannot be imported, and one finding for all of them.

    Raises
    ------
    CannotRun
        If nothing is left.
    """
    library = {case.kernel for case in plan.cases if kernels[case.kernel].sheet.backend in ("torch", "triton")}
    if not library:
        return plan, ()
    try:
        import_torch()
    except CannotRun as error:
        cases = tuple(case for case in plan.cases if case.kernel not in library)
        if not cases:
            raise
        says = f"{len(library)} kernels of PyTorch were left out: {error}"
        return replace(plan, cases=cases), (
            Finding(code="library-broken", severity="warning", says=says, remedy="microbench doctor"),
        )
    return plan, ()
