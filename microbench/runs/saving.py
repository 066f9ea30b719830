"""What a run is asked for and what it leaves: its file, wherever there is room, and the journal of one cut short."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from microbench.errors import MicrobenchError
from microbench.measure.plan import Selection
from microbench.records import Characterisation, Finding, units
from microbench.runs.job import Job
from microbench.storage import store
from microbench.storage.journal import Journal

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for.

    ``time_limit_s`` is that of the whole run, which began at ``started`` by the monotonic clock (``None``: when it is
    carried out). ``page`` tells that page and picture will be drawn of its result. ``label`` is the user's word for the
    run, ``repeat`` what runs of one ``--repeat`` have in common.
    """

    device: str = "auto"
    budget: str = "default"
    selection: Selection = field(default_factory=Selection)
    time_limit_s: float | None = None
    seed: int = 0
    resume: Path | None = None
    out: Path | None = None
    page: bool = False
    started: float | None = None
    label: str = ""
    repeat: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run leaves: the characterisation, its file, and, if it was interrupted, the journal to resume from.

    ``page`` is whether there is time to draw page and picture.
    """

    characterisation: Characterisation
    path: Path | None = None
    page: bool = True
    interrupted: bool = False
    journal: Path | None = None


def _interrupted(journal: Journal | None) -> Finding:
    remedy = f"microbench run --resume {journal.path.name}" if journal is not None else "run again"
    says = "the run was interrupted; what was measured until then is here"
    return Finding(code="interrupted", severity="warning", says=says, remedy=remedy)


def saved(
    request: Request, job: Job, characterisation: Characterisation, journal: Journal | None, interrupted: bool
) -> Outcome:
    """Write the file, into the temporary folder where ``out`` fails, and remove the journal of a run that ended."""
    findings = [_interrupted(journal)] if interrupted else []
    deadline = job.schedule.deadline
    page = interrupted or job.schedule.page_fits()
    if request.page and not page:
        says = f"page and picture were not drawn: no time was left of {units.seconds(deadline.limit_s)}"
        remedy = "microbench report FILE --html PAGE --png PICTURE"
        findings.append(Finding(code="no-page", severity="info", says=says, remedy=remedy))
    assert characterisation.environment is not None
    characterisation = replace(
        characterisation,
        environment=replace(characterisation.environment, seconds=round(deadline.elapsed(), 3)),
        findings=(*characterisation.findings, *findings),
    )
    out = request.out if request.out is not None else (request.resume.parent.parent if request.resume else None)
    if out is None:
        return Outcome(characterisation=characterisation, interrupted=interrupted, page=page)
    fresh = journal is not None and request.resume is None
    name = journal.path.name.removesuffix(store.JOURNAL_SUFFIX) if journal is not None and fresh else None
    try:
        path = store.save(characterisation, out, name)
    except MicrobenchError as error:
        elsewhere = Path(tempfile.gettempdir()) / "microbench-results"
        log.warning("%s; saving to %s instead", error, elsewhere)
        path = store.save(characterisation, elsewhere)
    if journal is not None:
        journal.close() if interrupted else journal.discard()
    kept = journal.path if journal is not None and interrupted else None
    return Outcome(characterisation=characterisation, path=path, interrupted=interrupted, journal=kept, page=page)
