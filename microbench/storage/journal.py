"""The journal of a run: every sample is appended at once, so that a killed process loses one case at most."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from microbench.errors import CannotRun, UsageError
from microbench.records import Characterisation, Samples, Session
from microbench.storage.encoding import (
    SCHEMA,
    SessionLine,
    decode,
    encode,
    encode_samples,
    encode_session,
)
from microbench.storage.files import JOURNAL_SUFFIX
from microbench.storage.store import loads, read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microbench.records import Device, Environment, Plan, Sheet

_FROM_THERE_ON = "remove the lines from there on, or start anew without --resume"


class Journal:
    """An append-only file of what a run has measured so far; `read_journal` reads it back.

    Each line goes to the kernel in one write, so that a killed process loses nothing that was appended. (It is not
    forced to the disk line by line: that takes milliseconds, and only a power cut would notice.)
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def create(cls, path: str | Path, header: Characterisation) -> Journal:
        """Begin a journal; ``header`` holds device, plan, environment and sheets (`journal_header` makes one).

        Raises
        ------
        CannotRun
            If the file exists or cannot be created.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            journal = cls(path, os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o666))
        except OSError as error:
            raise CannotRun(
                f"the journal {path} cannot be created: {error.strerror}; choose another folder with --out"
            ) from None
        journal._write(encode(replace(header, samples=())))
        for samples in header.samples:
            journal.append(samples)
        return journal

    @classmethod
    def resume(cls, path: str | Path) -> tuple[Journal, Characterisation]:
        """Open an interrupted run's journal to append to it, and return it with what it holds.

        A half-written last line is cut off.

        Raises
        ------
        UsageError
            If it is no journal.
        CannotRun
            If it cannot be written to.
        """
        path = Path(path)
        held = read_journal(path)
        try:
            complete = read_file(path).rfind(b"\n") + 1
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.ftruncate(descriptor, complete)
        except OSError as error:
            raise CannotRun(f"the journal {path} cannot be continued: {error.strerror}") from None
        return cls(path, descriptor), held

    def append(self, samples: Samples) -> None:
        """Add the samples of one case in one round.

        Raises
        ------
        CannotRun
            If the disk is full or gone.
        """
        self._write(encode_samples(samples))

    def begin(self, session: Session) -> None:
        """Say that what follows is of another process; its samples are told by their times.

        Raises
        ------
        CannotRun
            If the disk is full or gone.
        """
        self._write(encode_session(session))

    def _write(self, line: bytes) -> None:
        data = line + b"\n"
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            raise CannotRun(
                f"the journal {self.path} cannot be written: {error.strerror}; what it holds so far is kept"
            ) from None

    def close(self) -> None:
        """Close the file; calling it twice is allowed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        """Close and remove it, once the characterisation is saved."""
        self.close()
        self.path.unlink(missing_ok=True)


def journal_header(device: Device, plan: Plan, environment: Environment, sheets: tuple[Sheet, ...]) -> Characterisation:
    """The first line of a journal: a characterisation without samples."""
    return Characterisation(schema=SCHEMA, device=device, environment=environment, plan=plan, sheets=sheets)


def read_journal(path: str | Path) -> Characterisation:
    """Read a journal as a characterisation of samples alone; a half-written last line is ignored.

    ``environment.sessions`` has all processes that wrote to it, the only one as well.

    Raises
    ------
    UsageError
        If it is no journal, a line other than the last is damaged, or one repeats an earlier one.
    """
    path = Path(path)
    if path.suffix == ".json":
        journal = path.with_suffix(JOURNAL_SUFFIX)
        remedy = (
            f"its journal is {journal}"
            if journal.exists()
            else "its run ended and left none; start anew without --resume"
        )
        raise UsageError(f"{path} is a result, and a run goes on from its journal: {remedy}")
    head, *lines = read_file(path).split(b"\n")
    if not lines:
        raise UsageError(f"{path} is no journal of a run that got as far as measuring: start anew without --resume")
    opened = loads(head, str(path))
    samples, begun = list(opened.samples), [] if opened.environment is None else [_first_session(opened.environment)]
    lines_of: dict[tuple[str, int, float], int] = {}
    for number, line in enumerate(lines[:-1], start=2):  # what follows the last line end was never finished
        try:
            if line.startswith(b'{"session"'):
                begun.append(decode(line, SessionLine).session)
                continue
            read = decode(line, Samples)
        except msgspec.MsgspecError as error:
            raise UsageError(f"line {number} of {path} is damaged ({error}): {_FROM_THERE_ON}") from None
        first = lines_of.setdefault((read.case, read.round, read.started_s), number)
        if first != number:
            raise UsageError(
                f"line {number} of {path} repeats line {first} (round {read.round} of {read.case[:80]}): remove one of "
                "them, or start anew without --resume"
            )
        samples.append(read)
    environment = opened.environment and replace(opened.environment, sessions=_sessions(begun, samples))
    return replace(opened, environment=environment, samples=tuple(samples))


def _first_session(environment: Environment) -> Session:
    return Session(started=environment.started, seconds=0.0, microbench=environment.microbench, facts=environment.facts)


def _sessions(begun: Sequence[Session], samples: Sequence[Samples]) -> tuple[Session, ...]:
    """Sessions with what the samples tell of them: how many each took, and how long, up to the last one's end."""
    found = []
    for number, session in enumerate(begun):
        until_s = begun[number + 1].from_s if number + 1 < len(begun) else float("inf")
        own = [each for each in samples if session.from_s <= each.started_s < until_s]
        lasted = ended_s(own) - session.from_s if own else 0.0
        found.append(replace(session, samples=len(own), seconds=round(max(0.0, lasted), 3)))
    return tuple(found)


def ended_s(samples: Sequence[Samples]) -> float:
    """When the last of these samples had ended, from the start of the run; 0 without any."""
    ends = (each.started_s + (sum(each.ns) + sum(each.reference_ns)) / 1e9 for each in samples)
    return round(max(ends, default=0.0), 4)
