"""One run from end to end: probe, plan, measure, distil, let the gate doubt and measure again, prove, fit, store.

What has been measured is in the journal before the next case starts, so an interrupt, a kill or a crash costs one case
at most.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from microbench import __version__
from microbench.analysis.ceilings import analyse
from microbench.analysis.findings import left_out, run_findings
from microbench.analysis.plausibility import Doubt, doubts
from microbench.analysis.roofline import fit_rooflines, legacy_paths
from microbench.analysis.unroll_sweep import edges
from microbench.errors import CannotRun, MicrobenchError, UsageError
from microbench.hardware import probe
from microbench.hardware.environment import environment_facts
from microbench.hardware.interference import Disturbance
from microbench.kernels import Kernel, registry
from microbench.measure.loop import Loop
from microbench.measure.plan import BUDGETS, Selection, lacking, limited, make_plan
from microbench.proof import prove
from microbench.records import Characterisation, Device, Environment, Finding, Fits, Plan, Samples, Sheet, Value
from microbench.report.progress import Progress, Quiet, telling
from microbench.runs import signals
from microbench.runs.recorder import Recorder, go_on, plan_of, without_broken
from microbench.storage import store

log = logging.getLogger(__name__)

# The share of the time limit after which the gate looks; the rest is for what it doubts.
_GATE_AT = 0.85
_GATE_LOOKS = 3
_GATE_ROUNDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for."""

    device: str = "auto"
    budget: str = "default"
    selection: Selection = field(default_factory=Selection)
    time_limit_s: float | None = None
    seed: int = 0
    resume: Path | None = None
    out: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run leaves: the characterisation, where it was saved, and, if it was cut short, the journal to go on from."""

    characterisation: Characterisation
    path: Path | None = None
    interrupted: bool = False
    journal: Path | None = None


def plan_for(request: Request) -> tuple[Device, dict[str, Kernel], Plan]:
    """Probe and plan without measuring: what --dry-run prints."""
    device = probe(request.device)
    kernels = registry(device)
    budget = limited(BUDGETS[request.budget], request.time_limit_s)
    return device, kernels, make_plan(device, kernels, request.selection, budget, request.seed)


def carry_out(request: Request, progress: Progress | None = None) -> Outcome:
    """Carry out a request.

    Raises
    ------
    UsageError, CannotRun
        Before anything is measured. Afterwards what was measured is kept: an interrupt yields ``Outcome.interrupted``.
    """
    if request.out is not None:
        store.check_writable(request.out)
    held: Characterisation | None = None
    if request.resume is not None:
        held = store.read_journal(request.resume)
        request = replace(request, device=_same_device(held, request))
    device, kernels, plan = plan_for(request)
    if held is not None:
        plan = plan_of(held, str(request.resume), kernels)
    plan, left = without_broken(plan, kernels)
    with store.only_run(device):
        return _run(request, _Run(device=device, kernels=kernels, plan=plan, held=held, left=left), progress or Quiet())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    device: Device
    kernels: dict[str, Kernel]
    plan: Plan
    held: Characterisation | None
    left: tuple[Finding, ...] = ()

    def sheets(self) -> dict[str, Sheet]:
        """The sheets of the plan's kernels and of their clock reference clocks."""
        wanted = {case.kernel for case in self.plan.cases}
        wanted |= {
            reference_clock
            for name in wanted
            if name in self.kernels and (reference_clock := self.kernels[name].sheet.reference_clock) in self.kernels
        }
        return {name: self.kernels[name].sheet for name in sorted(wanted) if name in self.kernels}

    def whole(self, request: Request) -> bool:
        """Tell whether nothing narrower or shorter than a budget was asked for, now or when the journal was begun."""
        if self.held is None:
            return request.selection == Selection() and request.time_limit_s is None
        budget = BUDGETS[self.plan.budget.name]
        full = make_plan(self.device, self.kernels, Selection(), budget)
        return self.plan.budget == budget and len(self.plan.cases) == len(full.cases)

    def planned(self) -> tuple[Sheet, ...]:
        """The sheets of the plan's kernels alone."""
        wanted = {case.kernel for case in self.plan.cases}
        return tuple(self.kernels[name].sheet for name in sorted(wanted) if name in self.kernels)


def _same_device(held: Characterisation, request: Request) -> str:
    spec = "cpu" if held.device.kind == "cpu" else f"cuda:{held.device.index}"
    here = probe(spec)
    if here.id != held.device.id:
        raise UsageError(
            f"{request.resume} was measured on {held.device.name}, another device than {spec} here; resume it there, "
            "or start anew"
        )
    return spec


def _run(request: Request, this: _Run, progress: Progress) -> Outcome:
    """Measure, distil, store. Signals are heard while measuring, which ends it; the seconds that make a file of it are not cut short."""
    with signals.held() as held:
        disturbance = Disturbance()
        environment = Environment(started=_now(), seconds=0.0, microbench=__version__, facts=_facts(this.device))
        recorder = Recorder(
            _journal(request, this, environment), progress, this.sheets(), this.plan.budget.time_limit_s
        )
        recorder.hold(this.held.samples if this.held else ())
        clock = time.monotonic()
        try:
            findings, interrupted = _measured(request, this, recorder, held)
            environment = replace(
                environment,
                seconds=round(time.monotonic() - clock, 3),
                facts={**environment.facts, **disturbance.facts()},
            )
            characterisation = _assemble(this, environment, recorder.samples, [*findings, *disturbance.findings()])
            if not (interrupted or held.came):
                characterisation = _with_operators(request, this, characterisation, held, progress)
            return _save(request, characterisation, recorder.journal, interrupted or held.came)
        except signals.Interrupted:
            raise
        except KeyboardInterrupt:  # the second signal
            raise signals.Interrupted(_left(recorder)) from None


def _measured(request: Request, this: _Run, recorder: Recorder, held: signals.Held) -> tuple[list[Finding], bool]:
    """Check and measure; what is to be said of it, and whether it was interrupted."""
    loop = Loop(this.device, this.kernels, this.plan, recorder)
    loop.resume(recorder.samples)
    interrupted = False
    doubted: list[Doubt] = []
    recorder.progress.start(len(this.plan.cases), this.plan.budget.time_limit_s)
    try:
        with held.heard():
            if this.device.kind == "cuda":
                recorder.findings += left_out(lacking(this.kernels, request.selection), this.planned())
            recorder.findings += _check(this)
            doubted = _measure(loop, this, recorder)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        recorder.progress.done()
        loop.close()
    findings = [*this.left, *recorder.findings, *loop.findings, *(doubt.finding for doubt in doubted)]
    if not recorder.samples:
        _nothing_measured(recorder.journal, findings, interrupted)
    return findings, interrupted


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _left(recorder: Recorder) -> str:
    """What a run that was stopped at once leaves."""
    if recorder.journal is None or not recorder.samples:
        return "interrupted, nothing was saved"
    return f"interrupted before the result was saved; {go_on(recorder.journal.path)}"


def _nothing_measured(journal: store.Journal | None, findings: Sequence[Finding], interrupted: bool) -> None:
    """Refuse to store a file without a single sample; the first reason, which may have caused the others, speaks for them."""
    if journal is not None:
        journal.discard()
    if interrupted:
        raise signals.Interrupted("interrupted before anything was measured")
    reasons = [finding.says for finding in findings if finding.code in ("not-checked", "not-measured")]
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    raise CannotRun(f"nothing could be measured: {reasons[0] if reasons else 'no case was ready in time'}{more}")


def _with_operators(
    request: Request, this: _Run, made: Characterisation, held: signals.Held, progress: Progress
) -> Characterisation:
    """Calibrate operators where a library was measured: not where the user asked for something narrower or shorter."""
    libraries = any(
        kernel.sheet.backend == "torch" and kernel.sheet.unavailable is None for kernel in this.kernels.values()
    )
    if not libraries or not this.whole(request):
        return made
    from microbench.runs.calibrate import BUDGETS as CALIBRATION
    from microbench.runs.calibrate import calibrate

    budget = this.plan.budget.name
    if budget not in CALIBRATION:  # a quick run has no time for operators
        return made
    try:
        with held.heard(), telling(progress, CALIBRATION[budget][0]) as told:
            found = calibrate(this.device, made.ceilings, budget, request.seed + 1, told)
    except KeyboardInterrupt:
        held.came = True
        return made
    except MicrobenchError as error:
        finding = Finding(code="no-operators", severity="warning", says=f"operators were not calibrated: {error}")
        return replace(made, findings=(*made.findings, finding))
    fits = replace(made.fits, operators=found.fits, timings=found.timings, reuse=found.reuse, models=found.models)
    return replace(made, fits=fits, costs=(*made.costs, *found.costs), findings=(*made.findings, *found.findings))


def _facts(device: Device) -> dict[str, Value | None]:
    """The host's conditions, and the GPU's own where one is measured."""
    if device.kind == "cpu":
        return environment_facts()
    from microbench.hardware import cuda

    return environment_facts() | {f"gpu_{name}": value for name, value in cuda.facts(device.index).items()}


def _journal(request: Request, this: _Run, environment: Environment) -> store.Journal | None:
    if request.resume is not None:
        return store.Journal.resume(request.resume)[0]
    if request.out is None:
        return None
    path = request.out / f"{store.stem(this.device, environment.started)}{store.JOURNAL_SUFFIX}"
    return store.Journal.create(
        path, store.journal_header(this.device, this.plan, environment, tuple(this.sheets().values()))
    )


def _check(this: _Run) -> list[Finding]:
    """Correctness before timing, for every kernel of the plan."""
    found = []
    for name in sorted({case.kernel for case in this.plan.cases}):
        kernel = this.kernels.get(name)
        try:
            finding = kernel.check(this.device) if kernel is not None else None
        except MicrobenchError as error:
            says = f"{name} could not be checked before it is timed: {error}"
            finding = Finding(code="not-checked", severity="warning", says=says, remedy="microbench doctor")
        if finding is not None:
            found.append(finding)
    return found


def _measure(loop: Loop, this: _Run, recorder: Recorder) -> list[Doubt]:
    """Measure, then let the gate send implausible cases back until the time is up; return what still looks wrong."""
    limit, sheets = this.plan.budget.time_limit_s, this.sheets()
    loop.run(this.plan.cases, limit * _GATE_AT, this.plan.budget.min_rounds)
    cases = {case.key: case for case in this.plan.cases}
    doubted: list[Doubt] = []
    for look in range(_GATE_LOOKS):
        doubted = doubts(
            analyse(recorder.samples, this.plan, sheets, this.device).ceilings, this.device, sheets.values()
        )
        again = [cases[key] for key in dict.fromkeys(key for doubt in doubted for key in doubt.cases)]
        if not again or look == _GATE_LOOKS - 1:
            break
        loop.run(again, limit * (_GATE_AT + (1 - _GATE_AT) * (look + 1) / (_GATE_LOOKS - 1)), loop.round + _GATE_ROUNDS)
    return doubted


def _assemble(
    this: _Run, environment: Environment, samples: Sequence[Samples], findings: Sequence[Finding]
) -> Characterisation:
    sheets = this.sheets()
    analysis = analyse(samples, this.plan, sheets, this.device)
    cases = {case.key: case for case in this.plan.cases}
    proofs = prove(tuple(sheets.values()), this.device)
    ceilings = tuple(
        replace(ceiling, proof=proofs[cases[ceiling.case].kernel]) if cases[ceiling.case].kernel in proofs else ceiling
        for ceiling in analysis.ceilings
    )
    rooflines = fit_rooflines(samples, cases, sheets, analysis.levels, this.device)
    return Characterisation(
        schema=store.SCHEMA,
        device=this.device,
        environment=environment,
        plan=this.plan,
        sheets=tuple(sheets.values()),
        samples=tuple(samples),
        ceilings=ceilings,
        costs=analysis.costs,
        fits=Fits(levels=analysis.levels, rooflines=tuple(rooflines)),
        findings=(
            *findings,
            *run_findings(replace(analysis, ceilings=ceilings), samples, this.planned()),
            *edges(samples, cases, sheets),
            *legacy_paths(rooflines, ceilings),
        ),
    )


def _interrupted(journal: store.Journal | None) -> Finding:
    remedy = f"microbench run --resume {journal.path.name}" if journal is not None else "run again"
    return Finding(
        code="interrupted",
        severity="warning",
        says="the run was interrupted; what was measured until then is here",
        remedy=remedy,
    )


def _save(
    request: Request, characterisation: Characterisation, journal: store.Journal | None, interrupted: bool
) -> Outcome:
    if interrupted:
        characterisation = replace(characterisation, findings=(*characterisation.findings, _interrupted(journal)))
    out = request.out if request.out is not None else (request.resume.parent.parent if request.resume else None)
    if out is None:
        return Outcome(characterisation=characterisation, interrupted=interrupted)
    try:
        path = store.save(characterisation, out)
    except MicrobenchError as error:
        elsewhere = Path(tempfile.gettempdir()) / "microbench-results"
        log.warning("%s; saving to %s instead", error, elsewhere)
        path = store.save(characterisation, elsewhere)
    if journal is not None:
        journal.close() if interrupted else journal.discard()
    kept = journal.path if journal is not None and interrupted else None
    return Outcome(characterisation=characterisation, path=path, interrupted=interrupted, journal=kept)


def run(  # noqa: PLR0913 - the command line's options under the same names
    device: str = "auto",
    *,
    quick: bool = False,
    thorough: bool = False,
    only: str | Sequence[str] = (),
    dtype: str | Sequence[str] = (),
    level: str | Sequence[str] = (),
    time_limit: float | None = None,
    seed: int = 0,
    out: str | Path | None = None,
) -> Characterisation:
    """Measure a device and return its characterisation.

    Parameters
    ----------
    device
        ``auto``, ``cpu`` or ``cuda:N``.
    quick, thorough
        The budget: within 30 s, or within 15 minutes; neither is the default run.
    only, dtype, level
        Kernel or case globs, dtypes, memory levels; one or several; empty means all.
    time_limit
        Seconds to measure for, in place of the budget's.
    seed
        Decides the order of cases inside a round.
    out
        Folder to save to; nothing is saved by default.

    Raises
    ------
    UsageError
        If a choice is unknown or impossible.
    CannotRun
        If the device is not here.

    Examples
    --------
    >>> c = run("cpu", quick=True, only="fma.f32.*")  # doctest: +SKIP
    """
    if quick and thorough:
        raise UsageError("quick and thorough exclude each other; give one of them")
    if time_limit is not None and (isinstance(time_limit, str) or not 0 < time_limit < float("inf")):
        raise UsageError(f"time_limit is {time_limit!r}; give a positive number of seconds")
    request = Request(
        device=device,
        budget="quick" if quick else "thorough" if thorough else "default",
        selection=Selection(only=_several(only), dtypes=_several(dtype), levels=_several(level)),
        time_limit_s=time_limit,
        seed=seed,
        out=Path(out) if out is not None else None,
    )
    return carry_out(request).characterisation


def _several(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
