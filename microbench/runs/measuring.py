"""The measuring of a run: a GPU's cases are prepared first, and what seems implausible is measured again."""

from __future__ import annotations

from functools import partial

from microbench.analysis.ceilings import analyse
from microbench.analysis.plausibility import Doubt, doubts
from microbench.measure.loop import Loop
from microbench.runs.job import Job
from microbench.runs.recorder import Recorder

# The share of the time for kernels after which results are checked for plausibility; the rest is for cases in doubt
# first, which are measured again for so many rounds after each check but the last, and then for all.
_CHECK_AT = 0.9
_CHECKS = 3
# Of the seconds for the kernels of a GPU, what preparing them may take.
_PREPARING = 0.5
_ROUNDS_AGAIN = 2


def prepared(loop: Loop, job: Job, recorder: Recorder) -> Job:
    """Prepare a GPU's cases in a share of the seconds for kernels; return the job as far as that went.

    Starting libraries and loading code is no part of measuring: it is bounded by itself and told apart.
    """
    planned = job.plan.cases
    seconds = job.schedule.kernels_end_s() - job.schedule.deadline.elapsed()
    ready = {case.key for case in loop.prepare(planned, _PREPARING * seconds, seconds, job.plan.budget.min_rounds)}
    recorder.times["prepared"] = loop.prepared_s
    told = {finding.case for finding in loop.findings}
    return job.without([case for case in planned if case.key not in ready and case.key not in told])


def measure(loop: Loop, job: Job, recorder: Recorder) -> list[Doubt]:
    """Measure, then measure implausible cases again, and all until the time is up; return what still looks wrong."""
    sheets = job.sheets()
    began_s = job.schedule.deadline.elapsed()

    def until_s(share: float) -> float:
        return share * max(0.0, job.schedule.kernels_end_s() - began_s)

    loop.run(job.plan.cases, lambda: until_s(_CHECK_AT), job.plan.budget.min_rounds)
    cases = {case.key: case for case in job.plan.cases}

    def doubted() -> list[Doubt]:
        return doubts(analyse(recorder.samples, job.plan, sheets, job.device).ceilings, job.device, sheets.values())

    for number in range(1, _CHECKS):
        again = [cases[key] for key in dict.fromkeys(key for doubt in doubted() for key in doubt.cases)]
        if not again:
            break
        share = _CHECK_AT + (1 - _CHECK_AT) * number / (_CHECKS - 1)
        loop.run(again, partial(until_s, share), loop.round + _ROUNDS_AGAIN)
    loop.run(job.plan.cases, lambda: until_s(1.0), job.plan.budget.min_rounds)
    return doubted()
