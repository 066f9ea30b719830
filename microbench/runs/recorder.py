"""Keeps each sample of a run, writes it to the journal and shows it; and how a run resumes from its journal."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from microbench.errors import CannotRun, UsageError
from microbench.hardware.torch_import import import_torch
from microbench.kernels import Kernel
from microbench.measure.budget import Deadline
from microbench.records import Case, Characterisation, Finding, Plan, Samples, Sheet, units
from microbench.records.dtypes import DTYPES
from microbench.report.progress import Progress, Step
from microbench.runs import signals
from microbench.storage.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


class Recorder:
    """Keeps samples in memory and in the journal; a journal that cannot be written costs a finding, not the run.

    ``times`` are the seconds of the run's parts. ``deadline`` is that of the whole run; the samples of a run that is
    resumed come by `take_over`. ``pulse`` is called wherever the run goes on.
    """

    def __init__(
        self, journal: Journal | None, progress: Progress, sheets: Mapping[str, Sheet], deadline: Deadline
    ) -> None:
        self.samples: list[Samples] = []
        self.findings: list[Finding] = []
        self.times: dict[str, float] = {}
        self.pulse: Callable[[], None] = lambda: None
        self.journal = journal
        self._journal_lost = False
        self.progress = progress
        self._deadline = deadline
        self._sheets = sheets

    def take_over(self, samples: Sequence[Samples]) -> None:
        """Keep what an interrupted run has measured; its journal has it already."""
        self.samples.extend(samples)

    def sampled(self, samples: Samples) -> None:
        """Keep the samples of one case in one round."""
        self.pulse()
        self.samples.append(samples)
        if self.journal is None or self._journal_lost:
            return
        try:
            self.journal.append(samples)
        except CannotRun as error:
            self._journal_lost = True
            remedy = "free space there; this run went on in memory"
            self.findings.append(Finding(code="journal-lost", severity="warning", says=str(error), remedy=remedy))

    def progressed(self, case: Case, round_index: int, best: float) -> None:
        """Show how far the run is; ``best`` is the case's highest rate so far, in iterations a second."""
        self.show(case.key, round_index + 1, _rate_text(self._sheets[case.kernel], best))

    def show(self, what: str, number: int, best: str = "") -> None:
        """Show what is measured in which round, and how far the whole run is."""
        self.pulse()
        self.progress.update(
            Step(
                case=what,
                round=number,
                fraction=min(1.0, self._deadline.elapsed() / self._deadline.limit_s),
                remaining_s=max(0.0, self._deadline.left()),
                best=best,
            )
        )


def _rate_text(sheet: Sheet, iterations_per_s: float) -> str:
    """Iterations a second as the kernel's own quantity: FLOP/s, byte/s, or the time of a load or a call."""
    if sheet.measures == "latency":
        return units.seconds(1 / (iterations_per_s * max(1, sheet.loads)))
    if sheet.measures in ("memory", "link") and sheet.work.bytes:
        return units.rate(iterations_per_s * sheet.work.bytes, "byte/s")
    if sheet.work.flop and sheet.dtype:
        return units.rate(iterations_per_s * sheet.work.flop, DTYPES[sheet.dtype].rate_unit)
    return units.seconds(1 / iterations_per_s)


def resume_hint(journal: Path) -> str:
    """The command that resumes an interrupted run, as half a sentence."""
    return f"go on with: microbench run --resume {shlex.quote(str(journal))}"


def interrupted_before_saving(recorder: Recorder) -> str:
    """The sentence for a run that a second signal ended before its file was written."""
    if recorder.journal is None or not recorder.samples:
        return "interrupted, nothing was saved"
    return f"interrupted before the result was saved; {resume_hint(recorder.journal.path)}"


def nothing_measured(journal: Journal | None, findings: Sequence[Finding], interrupted: bool) -> None:
    """Refuse to store a file without a sample; the sentence gives the first reason, the likely cause of the others."""
    if journal is not None:
        journal.discard()
    if interrupted:
        raise signals.Interrupted("interrupted before anything was measured")
    reasons = [finding.says for finding in findings if finding.code in ("not-checked", "not-measured")]
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    raise CannotRun(f"nothing could be measured: {reasons[0] if reasons else 'no case was ready in time'}{more}")


def plan_of(journal: Characterisation, name: str, kernels: Mapping[str, Kernel]) -> Plan:
    """The plan of a journal, if these kernels can still carry it out.

    Raises
    ------
    UsageError
        If there is no plan, a kernel is not here now, or samples are of another plan; ``name`` stands for the journal
        in the sentence.
    """
    plan = journal.plan
    if plan is None or not plan.cases:
        raise UsageError(f"{name} holds no plan, so there is nothing to go on with: start anew without --resume")
    missing = next(
        (case.kernel for case in plan.cases if case.kernel not in kernels or kernels[case.kernel].sheet.unavailable),
        None,
    )
    if missing is not None:
        says = f"the plan of {name} has {missing}, which cannot run here now"
        raise UsageError(
            f"{says}: resume with the same version, MICROBENCH_ISA and extras, or start anew without --resume"
        )
    keys = {case.key for case in plan.cases}
    unplanned = next((samples.case for samples in journal.samples if samples.case not in keys), None)
    if unplanned is not None:
        raise UsageError(
            f"{name} has samples of {unplanned[:80]}, which its plan does not have: start anew without --resume"
        )
    return plan


def without_broken(plan: Plan, kernels: Mapping[str, Kernel]) -> tuple[Plan, tuple[Finding, ...]]:
    """The plan without PyTorch's and Triton's kernels where PyTorch is installed but cannot be imported.

    One finding names the reason for all of them.

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
