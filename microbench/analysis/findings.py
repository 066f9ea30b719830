"""What the numbers of a run say about the run: wrong results, ceilings not converged, levels below their size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from microbench.analysis.ceilings import Analysis
from microbench.analysis.disturbed import disturbed
from microbench.analysis.verdicts import slow_findings
from microbench.records import Ceiling, Device, Finding, Samples, Severity, Sheet, Value

# Findings about what else ran during a run.
DISTURBANCES = ("steal", "other-processes")
# Readings of one turbo step agree within a few tenths of a per cent; a step is 2.5 % and more.
_CLOCK_DRIFT = 0.015


def run_findings(
    analysis: Analysis,
    samples: Sequence[Samples],
    planned: Sequence[Sheet],
    device: Device | None = None,
    facts: Mapping[str, Value | None] | None = None,
) -> list[Finding]:
    """Everything that the user should know about the numbers before trusting them, the worst first.

    ``device`` and ``facts`` (the conditions of the run) tell whether a known card is slow, and what would explain it.
    """
    gpu = any(sheet.device_kind == "cuda" for sheet in planned)
    found = [
        *_wrong(samples, gpu=gpu),
        *_throttled(samples),
        *disturbed(samples, facts),
        *_loose(analysis.ceilings),
        *analysis.findings,
        *_levels(analysis, gpu=gpu),
        *_clocks(analysis),
        *_unproven(analysis.ceilings),
        *(slow_findings(analysis.ceilings, device, facts) if device is not None else ()),
        *_unverified(planned),
    ]
    rank = {"error": 0, "warning": 1, "info": 2}
    return sorted(found, key=lambda finding: rank[finding.severity])


def left_out(lacks: Sequence[Sheet], planned: Sequence[Sheet]) -> list[Finding]:
    """What a run leaves out although something to install would bring it, once a reason.

    Parameters
    ----------
    lacks
        The kernels that were asked for and cannot run here.
    planned
        Those that are measured: while arithmetic is among them, what is missing beside it is only told.
    """
    names: dict[str, list[str]] = {}
    for sheet in lacks:
        if sheet.unavailable and "install" in sheet.unavailable:
            names.setdefault(sheet.unavailable, []).append(sheet.name)
    severity: Severity = "info" if any(sheet.measures == "compute" for sheet in planned) else "warning"
    remedy = "'microbench list kernels' shows all of them"
    return [
        Finding(code="left-out", severity=severity, says=f"left out: {_first(held)}: {reason}", remedy=remedy)
        for reason, held in names.items()
    ]


def _first(names: Sequence[str]) -> str:
    """The first three names, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _wrong(samples: Sequence[Samples], *, gpu: bool) -> Iterator[Finding]:
    wrong = sorted({sample.case for sample in samples if sample.checked is False})
    if wrong:
        says = (
            f"{len(wrong)} cases computed a wrong result in a timed launch, first {wrong[0]}; their rates mean nothing"
        )
        card = (
            "check the card's memory and power (nvidia-smi -q -d ECC,PERFORMANCE); without such a fault, report it "
            "with this file"
        )
        remedy = card if gpu else "microbench doctor; report the processor and the compiler"
        yield Finding(code="wrong-result", severity="error", says=says, remedy=remedy)


def _throttled(samples: Sequence[Samples]) -> Iterator[Finding]:
    throttled = [each for each in samples if each.throttled]
    if throttled:
        lost, whole = sum(each.throttled for each in throttled), sum(each.count for each in samples)
        cases = len({each.case for each in throttled})
        says = (
            f"{lost} of {whole} samples, of {cases} {'cases' if cases > 1 else 'case'}, were taken while the device "
            "held its clock down for power or heat; peaks were read from the others where there were any"
        )
        remedy = "look for a power limit or for hot air (nvidia-smi -q -d PERFORMANCE,POWER,TEMPERATURE)"
        yield Finding(code="throttled", severity="info", says=says, remedy=remedy)


def _loose(ceilings: Sequence[Ceiling]) -> Iterator[Finding]:
    """The ceilings whose rounds did not establish them: those of units in one finding, those of memory in another."""
    for measures, what in (("compute", "compute"), ("memory", "memory")):
        loose = [ceiling for ceiling in ceilings if ceiling.measures == measures and _unsettled(ceiling)]
        if not loose:
            continue
        gpu = any(ceiling.backend in ("cuda", "triton") for ceiling in loose)
        names = [ceiling.name if gpu else _with_threads(ceiling) for ceiling in loose]
        several = "ceilings" if len(loose) > 1 else "ceiling"
        says = f"{len(loose)} {what} {several} did not converge: {_first(names)}; {_why_loose(measures, gpu=gpu)}"
        yield Finding(
            code="not-converged" if measures == "compute" else "memory-not-converged",
            severity="warning",
            says=says,
            remedy="run again with --thorough or in a quieter moment",
        )


def _unsettled(ceiling: Ceiling) -> bool:
    """Whether a peak was not established; what lasts on a CPU is a median, whose interval says all."""
    lasting = ceiling.mode == "sustained" and ceiling.backend == "native"
    return not ceiling.converged and not lasting


def _with_threads(ceiling: Ceiling) -> str:
    return f"{ceiling.name} ({ceiling.threads} thread{'s' if ceiling.threads > 1 else ''})"


def _why_loose(measures: str, *, gpu: bool) -> str:
    if gpu:
        return "something else may use the GPU, or its clock may move"
    if measures == "compute":
        return "the core may be shared with a neighbour"
    return "their three best rounds lie further apart than 3 %, as where others use the same cache or memory"


def with_what_held(findings: Sequence[Finding], ceilings: Sequence[Ceiling]) -> list[Finding]:
    """The findings, with what a disturbance left intact said beside it, as far as the rounds show it.

    A ceiling holds that converged: its best rounds agree and, where ports bound it, reach them.
    """
    ours = [ceiling for ceiling in ceilings if ceiling.backend != "torch"]
    held = sum(ceiling.converged for ceiling in ours)
    if not ours:
        return list(findings)
    return [
        replace(each, says=f"{each.says}; {held} of {len(ours)} ceilings converged all the same")
        if each.code in DISTURBANCES
        else each
        for each in findings
    ]


def _levels(analysis: Analysis, *, gpu: bool) -> Iterator[Finding]:
    """Where the last cache behaves smaller than advertised: neighbours share it, or a GPU fills it with copies."""
    why = "a divided L2 fills up with copies, one in each part" if gpu else "neighbours share it"
    last = max((level.advertised_bytes or 0 for level in analysis.levels), default=0)
    for level in analysis.levels:
        if level.advertised_bytes == last and level.seen_to_bytes * 2 <= last:
            reuse = f" ({level.reuse_s * 1e3:.2g} ms between two uses of a line)" if level.reuse_s else ""
            says = (
                f"{level.name} is advertised as {level.advertised_bytes / 2**20:.4g} MiB, but a {level.seen_by} sees "
                "it only up to "
                f"{level.seen_to_bytes / 2**20:.3g} MiB{reuse}"
            )
            yield Finding(code="level-smaller", severity="info", says=says, remedy=f"{why}; plan with the size seen")


def _clocks(analysis: Analysis) -> Iterator[Finding]:
    """Where turbo moved the clock between ceilings of one variant, so that their rates are not comparable."""
    clocks: dict[str, list[float]] = {}
    for ceiling in analysis.ceilings:
        if ceiling.measures == "compute" and ceiling.clock_hz and ceiling.backend == "native":
            clocks.setdefault(ceiling.variant, []).append(ceiling.clock_hz)
    moved: dict[tuple[str, str], list[str]] = {}
    for variant, seen in clocks.items():
        if max(seen) > min(seen) * (1 + _CLOCK_DRIFT):
            moved.setdefault((f"{min(seen) / 1e9:.2f}", f"{max(seen) / 1e9:.2f}"), []).append(variant)
    if moved:
        spans = "; ".join(
            f"of {', '.join(variants)} between {low} and {high} GHz" for (low, high), variants in sorted(moved.items())
        )
        says = f"the clock moved: {spans}; rates follow it, rates per clock do not"
        remedy = "compare rates per clock between runs, or measure with turbo switched off"
        yield Finding(code="clock-drift", severity="info", says=says, remedy=remedy)


def _unproven(ceilings: Sequence[Ceiling]) -> Iterator[Finding]:
    for ceiling in ceilings:
        proof = ceiling.proof
        if proof.status == "failed":
            says = (
                f"the machine code of {ceiling.name} is not what its sheet says: {proof.expected} expected, "
                f"{proof.found} found"
            )
            remedy = "rebuild with the compiler named in the README"
            yield Finding(code="proof-failed", severity="error", says=says, remedy=remedy, case=ceiling.case)


def _unverified(planned: Sequence[Sheet]) -> Iterator[Finding]:
    names = sorted(sheet.name for sheet in planned if not sheet.verified)
    if names:
        says = f"never verified on hardware before this run: {_first(names)}"
        remedy = "keep this characterisation under results/ if it looks right"
        yield Finding(code="unverified", severity="info", says=says, remedy=remedy)
