"""What a resumed run joins: the processes that its samples are of, and what changed from one to the next."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from microbench.hardware.environment import PASSING
from microbench.records import Device, Environment, Finding, Session, Sheet, Value
from microbench.report.summary import moment
from microbench.storage.journal import ended_s

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from microbench.records import Characterisation, Samples

# Fields of a sheet that say nothing of what ran.
_ABOUT_THIS_MACHINE = ("verified", "unavailable", "says")
_REMEDY = "start anew without --resume for samples of one set of conditions"
_SHOWN, _SESSIONS = 4, 2


def session_of(environment: Environment, held: Characterisation) -> Session:
    """The session that goes on from what a journal holds, under the conditions of now."""
    return Session(
        started=environment.started,
        seconds=0.0,
        microbench=environment.microbench,
        from_s=ended_s(held.samples),
        facts=environment.facts,
    )


def with_sessions(environment: Environment, held: Characterisation, samples: Sequence[Samples]) -> Environment:
    """The conditions of a resumed run with those of all its sessions; its own is the last."""
    now = session_of(environment, held)
    lasted = max(0.0, ended_s(samples) - now.from_s)
    now = replace(now, samples=len(samples) - len(held.samples), seconds=round(lasted, 3))
    return replace(environment, sessions=(*_earlier(held), now))


def _earlier(held: Characterisation) -> tuple[Session, ...]:
    return held.environment.sessions if held.environment is not None else ()


def joined(
    held: Characterisation, environment: Environment, device: Device, sheets: Mapping[str, Sheet]
) -> list[Finding]:
    """Say which sessions a run joins, and what changed between them: version, loops, device, facts.

    Parameters
    ----------
    held
        What the journal holds.
    environment, device, sheets
        Conditions, device and loops of the process that goes on.
    """
    earlier = _earlier(held)
    parts = [f"{each.samples} bursts of {moment(each.started)} ({each.microbench})" for each in earlier]
    more = f" and {len(parts) - _SESSIONS} earlier sessions" if len(parts) > _SESSIONS else ""
    says = f"this run joins {', '.join(parts[-_SESSIONS:]) or 'bursts of unknown origin'}{more} and goes on since "
    says += f"{moment(environment.started)} ({environment.microbench})"
    found = [Finding(code="joined", severity="info", says=says, remedy=_REMEDY)]
    changed = [*_versions(earlier, environment), *_loops(held.sheets, sheets), *_device(held.device, device)]
    changed += [text for each in earlier for text in _facts(each.facts, environment.facts)]
    changed = list(dict.fromkeys(changed))
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        says = f"the samples of this run are of different conditions: {'; '.join(changed[:_SHOWN])}{more}"
        found.append(Finding(code="sessions-differ", severity="warning", says=says, remedy=_REMEDY))
    return found


def _versions(earlier: Sequence[Session], environment: Environment) -> Iterator[str]:
    for each in earlier:
        if each.microbench != environment.microbench:
            yield f"microbench {each.microbench} -> {environment.microbench}"


def _loops(before: Sequence[Sheet], now: Mapping[str, Sheet]) -> Iterator[str]:
    """Kernels of one name whose loops are not those of then."""
    different = [sheet.name for sheet in before if sheet.name in now and _facts_of(sheet) != _facts_of(now[sheet.name])]
    if different:
        more = f" and {len(different) - 1} more" if len(different) > 1 else ""
        yield f"the loop of {different[0]}{more}"


def _facts_of(sheet: Sheet) -> tuple[object, ...]:
    return tuple(getattr(sheet, field.name) for field in fields(Sheet) if field.name not in _ABOUT_THIS_MACHINE)


def _device(before: Device, now: Device) -> Iterator[str]:
    for field in fields(Device):
        if getattr(before, field.name) != getattr(now, field.name) and field.name != "topology":
            yield f"the device's {field.name.replace('_', ' ')}"
    if before.topology is not None and now.topology is not None and before.topology.allowed != now.topology.allowed:
        yield f"CPUs that may be used ({len(before.topology.allowed)} -> {len(now.topology.allowed)})"


def _facts(before: Mapping[str, Value | None], now: Mapping[str, Value | None]) -> Iterator[str]:
    for name, value in before.items():
        if name in now and name not in PASSING and value != now[name]:
            yield f"{name.replace('_', ' ')} {_told(value)} -> {_told(now[name])}"


def _told(value: Value | None) -> str:
    return "unknown" if value is None else str(value)[:60]
