"""One run from end to end: probe, plan, prove, measure, analyse, measure implausible cases again, fit, store.

What has been measured is in the journal before the next case starts, so an interrupt, a kill or a crash costs one case
at most.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path

from microbench import __version__
from microbench.analysis.ceilings import analyse
from microbench.analysis.findings import left_out, run_findings, with_what_held
from microbench.analysis.multicore import multicore
from microbench.analysis.multicore_findings import multicore_findings
from microbench.analysis.plausibility import Doubt
from microbench.analysis.roofline import fit_rooflines, legacy_paths
from microbench.analysis.unroll_sweep import edges
from microbench.errors import MicrobenchError, UsageError, expect
from microbench.hardware import energy, probe
from microbench.hardware.environment import environment_facts
from microbench.hardware.interference import Disturbance
from microbench.kernels import Kernel, pages, registry
from microbench.measure.budget import Deadline, Pace, Schedule
from microbench.measure.loop import Loop
from microbench.measure.plan import BUDGETS, Selection, lacking, left_to_thorough, limited
from microbench.proof import prove
from microbench.records import Case, Characterisation, Device, Environment, Finding, Fits, Plan, Samples, Value, units
from microbench.report.progress import Progress, Quiet
from microbench.runs import signals
from microbench.runs.job import Job, check, plan_in_time, without_library, without_sustained
from microbench.runs.measuring import measure, prepared
from microbench.runs.recorder import Recorder, interrupted_before_saving, nothing_measured, plan_of, without_broken
from microbench.runs.resumed import joined, session_of, with_sessions
from microbench.runs.saving import Outcome, Request, saved
from microbench.storage import store
from microbench.storage.journal import Journal, ended_s, journal_header, read_journal


def plan_for(request: Request) -> tuple[Device, dict[str, Kernel], Plan, tuple[Case, ...]]:
    """Probe the device and plan the run without measuring, as --dry-run prints it; last what does not fit its time."""
    device = probe(request.device)
    kernels = registry(device)
    budget = limited(BUDGETS[request.budget], request.time_limit_s, device.kind)
    return device, kernels, *plan_in_time(device, kernels, request.selection, budget, request.seed)


def carry_out(request: Request, progress: Progress | None = None) -> Outcome:
    """Carry out a request.

    Raises
    ------
    UsageError, CannotRun
        Before anything is measured. Afterwards what was measured is kept: an interrupt yields ``Outcome.interrupted``.
    """
    started, worked_s = (time.monotonic(), time.thread_time()) if request.started is None else (request.started, 0.0)
    if request.out is not None:
        store.check_writable(request.out)
    journal: Characterisation | None = None
    if request.resume is not None:
        journal = read_journal(request.resume)
        request = replace(request, device=_same_device(journal, request))
    device, kernels, plan, no_time = plan_for(request)
    if journal is not None:
        plan, no_time = plan_of(journal, str(request.resume), kernels), ()
    deadline = Deadline(limit_s=plan.budget.time_limit_s, started=started)
    pace = Pace(time.thread_time() - worked_s, deadline.limit_s)
    named = bool(request.selection.only)  # what the user asks for by name is not too slow to start
    plan, library = (plan, ()) if named else without_library(plan, kernels, pace.start_s())
    plan, findings = without_broken(plan, kernels)
    job = Job(
        device=device,
        kernels=kernels,
        plan=plan,
        resumed=journal,
        schedule=Schedule(deadline=deadline, pace=pace, page=request.page),
        findings=(*findings, *without_sustained(plan, device)),
        no_time=(*no_time, *library),
    )
    with store.only_run(device):
        return _run(request, job, progress or Quiet())


def _same_device(journal: Characterisation, request: Request) -> str:
    spec = "cpu" if journal.device.kind == "cpu" else f"cuda:{journal.device.index}"
    here = probe(spec)
    if here.id != journal.device.id:
        raise UsageError(
            f"{request.resume} was measured on {journal.device.name}, another device than {spec} here; resume it "
            "there, or start anew"
        )
    return spec


def _run(request: Request, job: Job, progress: Progress) -> Outcome:
    """Measure, analyse and store.

    A signal that arrives while measuring ends the measuring; one that arrives in the seconds of analysis and storing
    waits until the file is written.
    """
    job = job.begun(request.selection)
    with signals.held() as pending, signals.stops() as stops:
        disturbance, started = Disturbance(), datetime.now(UTC).isoformat(timespec="seconds")
        environment = _environment(request, job, started)
        recorder = Recorder(_journal(request, job, environment), progress, job.sheets(), job.schedule.deadline)
        recorder.pulse = stops.pulse
        if job.resumed is not None:
            recorder.take_over(job.resumed.samples)
            recorder.findings += joined(job.resumed, environment, job.device, job.sheets())
        progress.start(len(job.plan.cases), job.schedule.deadline.limit_s)
        try:
            job, findings, interrupted = _check_and_measure(request, job, recorder, pending)
            times = {name: round(seconds, 3) for name, seconds in recorder.times.items()}
            facts = {**environment.facts, **disturbance.facts(), "suspended_s": round(stops.seconds, 3)}
            environment = replace(environment, facts=facts, times=times)
            if job.resumed is not None:
                environment = with_sessions(environment, job.resumed, recorder.samples)
            made = _assemble(job, environment, recorder.samples, [*findings, *disturbance.findings()])
            if job.schedule.operators and not (interrupted or pending.arrived):
                made = _with_operators(request, job, made, pending, recorder)
            progress.done()
            return saved(request, job, made, recorder.journal, interrupted or pending.arrived)
        except signals.Interrupted:
            raise
        except KeyboardInterrupt:  # the second signal
            raise signals.Interrupted(interrupted_before_saving(recorder)) from None
        finally:
            progress.done()


def _check_and_measure(
    request: Request, job: Job, recorder: Recorder, pending: signals.Held
) -> tuple[Job, list[Finding], bool]:
    """Check the kernels and measure; return the job as far as time went, findings, and whether it was interrupted."""
    interrupted, deadline = False, job.schedule.deadline
    doubted: list[Doubt] = []
    loop: Loop | None = None
    try:
        with pending.let_through():
            if job.device.kind == "cuda":
                recorder.findings += left_out(lacking(job.kernels, request.selection), job.planned())
                unquoted = left_to_thorough(job.device, job.kernels, request.selection, job.plan.budget)
                recorder.findings += [unquoted] if unquoted is not None else []
            if job.schedule.proves_first():
                job = _proven(job).begun(request.selection)
            began_s = deadline.elapsed()
            found, unchecked = check(job, job.schedule.shares().kernels_s)
            recorder.times["checked"] = deadline.elapsed() - began_s
            recorder.findings += found
            job = job.without([case for case in job.plan.cases if case.kernel in unchecked])
            loop = Loop(job.device, job.kernels, job.plan, recorder)
            loop.resume(recorder.samples, ended_s(recorder.samples))
            if job.device.kind == "cuda":
                job = prepared(loop, job, recorder).begun(request.selection)
            began_s = deadline.elapsed()
            doubted = measure(loop, job, recorder)
            if job.device.kind == "cpu":
                recorder.findings += pages.findings()  # while the working sets are still there
            recorder.times["measured"] = deadline.elapsed() - began_s
            job = job.without(loop.unmeasured())
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if loop is not None:
            loop.close()
    failed = loop.findings if loop is not None else []
    findings = [*job.findings, *recorder.findings, *failed, *(doubt.finding for doubt in doubted)]
    if not recorder.samples:
        recorder.progress.done()
        nothing_measured(recorder.journal, findings, interrupted)
    return job, [*findings, *job.left_out_for_time()], interrupted


def _proven(job: Job) -> Job:
    """The job with the proofs of its loops."""
    with job.schedule.proving():
        proofs = prove(tuple(job.sheets().values()), job.device)
    return replace(job, proofs=proofs, schedule=replace(job.schedule, proven=True))


def _with_operators(
    request: Request, job: Job, made: Characterisation, pending: signals.Held, recorder: Recorder
) -> Characterisation:
    """Calibrate operators too, in the time that is left but for what follows them."""
    from microbench.runs.calibrate import calibrate, fits_of, sweep_of

    try:
        with pending.let_through():
            rows = sweep_of(job.plan.budget.name, request.seed + 1, made)
            found = calibrate(
                made,
                rows,
                job.schedule.for_operators_s(),
                on_progress=lambda what, number, _share, _left_s: recorder.show(what, number),
            )
    except KeyboardInterrupt:
        pending.arrived = True
        return made
    except MicrobenchError as error:
        finding = Finding(code="no-operators", severity="warning", says=f"operators were not calibrated: {error}")
        return replace(made, findings=(*made.findings, finding))
    fits = replace(fits_of(found), levels=made.fits.levels, rooflines=made.fits.rooflines)
    return replace(made, fits=fits, costs=(*made.costs, *found.costs), findings=(*made.findings, *found.findings))


def _environment(request: Request, job: Job, started: str) -> Environment:
    """The conditions at the start; a run that is resumed keeps its words."""
    held = job.resumed.environment if job.resumed is not None else None
    words = (held.label, held.repeat) if held is not None else (request.label, request.repeat)
    return Environment(
        started=started,
        seconds=0.0,
        microbench=__version__,
        facts=_facts(job.device),
        label=words[0],
        repeat=words[1],
    )


def _facts(device: Device) -> dict[str, Value | None]:
    """The host's conditions, and the GPU's own where one is measured."""
    if device.kind == "cpu":
        return environment_facts() | energy.facts()
    from microbench.hardware import cuda

    return environment_facts() | {f"gpu_{name}": value for name, value in cuda.facts(device.index).items()}


def _journal(request: Request, job: Job, environment: Environment) -> Journal | None:
    if request.resume is not None:
        journal, held = Journal.resume(request.resume)
        journal.begin(session_of(environment, held))
        return journal
    if request.out is None:
        return None
    path = request.out / f"{store.stem(job.device, environment.started)}{store.JOURNAL_SUFFIX}"
    return Journal.create(path, journal_header(job.device, job.plan, environment, tuple(job.sheets().values())))


def _assemble(
    job: Job, environment: Environment, samples: Sequence[Samples], findings: Sequence[Finding]
) -> Characterisation:
    """Turn samples into a characterisation: ceilings with proofs, costs, levels, rooflines and findings."""
    sheets = job.sheets()
    analysis = analyse(samples, job.plan, sheets, job.device)
    cases = {case.key: case for case in job.plan.cases}
    if job.proofs is None and job.schedule.proof_fits():
        job = _proven(job)
    proofs = job.proofs or {}
    ceilings = tuple(
        replace(ceiling, proof=proofs[cases[ceiling.case].kernel]) if cases[ceiling.case].kernel in proofs else ceiling
        for ceiling in analysis.ceilings
    )
    rooflines = fit_rooflines(samples, cases, sheets, analysis.levels, job.device)
    together = multicore(samples, cases, sheets, ceilings, job.device) if job.device.kind == "cpu" else None
    return Characterisation(
        schema=store.SCHEMA,
        device=job.device,
        environment=environment,
        plan=job.plan,
        sheets=tuple(sheets.values()),
        samples=tuple(samples),
        ceilings=ceilings,
        costs=analysis.costs,
        fits=Fits(levels=analysis.levels, rooflines=tuple(rooflines)),
        multicore=together,
        findings=(
            *with_what_held(findings, ceilings),
            *run_findings(replace(analysis, ceilings=ceilings), samples, job.planned(), job.device, environment.facts),
            *edges(samples, cases, sheets),
            *legacy_paths(rooflines, ceilings),
            *multicore_findings(together, analysis.costs, job.device),
        ),
    )


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
    label: str = "",
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
        Seconds for the whole run, in place of the budget's.
    seed
        Decides the order of cases inside a round.
    out
        Folder to save to; nothing is saved by default.
    label
        Your own word for the run, kept with it.

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
    for name, flag in (("quick", quick), ("thorough", thorough)):
        expect(name, flag, bool, "True or False")
    expect("seed", seed, int, "a whole number, at least 0")
    expect("label", label, str, "a word of your own")
    expect("out", out, (str, PathLike, type(None)), "the path of a folder")
    expect("time_limit", time_limit, (int, float, type(None)), "a positive number of seconds")
    if time_limit is not None and not 0 < time_limit <= units.LONGEST_S:
        raise UsageError(f"time_limit is {time_limit!r}; give a positive number of seconds")
    if seed < 0:
        raise UsageError(f"seed is {seed}; give a whole number, at least 0")
    request = Request(
        device=device,
        budget="quick" if quick else "thorough" if thorough else "default",
        selection=Selection(only=_words("only", only), dtypes=_words("dtype", dtype), levels=_words("level", level)),
        time_limit_s=time_limit,
        seed=seed,
        out=Path(out) if out is not None else None,
        label=label,
    )
    return carry_out(request).characterisation


def _words(what: str, value: str | Iterable[str]) -> tuple[str, ...]:
    expect(what, value, Iterable, "a word, or several in a list")
    words = (value,) if isinstance(value, str) else tuple(value)
    for word in words:
        expect(f"one of {what}", word, str, "words")
    return words
