"""Items of work in processes under watch: what hangs or dies ends one item, and the next goes on in a new process.

A process does the items of a group one after another and tells each start and end on a `Channel`. `watch` runs several
groups side by side and says of every item how it ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

_POLL_S = 0.1
_TAIL_BYTES = 1500
# What the watcher itself says of an item; other words are those of the process that did it.
HUNG, DIED, NOT_STARTED, NOT_REACHED = "hang", "died", "no start", "not reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one item ended.

    Parameters
    ----------
    item
        Its name; empty where a process ended before its first item, or after its last one.
    group
        The group that it was done in.
    status
        ``hang``, ``died``, ``no start``, ``not reached``, or a word of the process that did it.
    says
        Why, in a sentence; ``None`` where there is nothing to say.
    seconds
        From its start to its end.
    tail
        The end of what the process wrote on standard error, where it hung or died.
    facts
        What else the process told of it.
    """

    item: str
    group: str
    status: str
    says: str | None = None
    seconds: float = 0.0
    tail: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Items that one process does; its command is started again with ``--skip`` and the names of those that ended."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds for one item, for a process until its first word, for its end after the last one, and for everything."""

    item_s: float = 60.0
    start_s: float = 180.0
    end_s: float = 20.0
    whole_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """How far all groups are: items that ended and that are known, what is being done, the last outcome."""

    ended: int
    known: int
    doing: tuple[str, ...]
    last: Outcome | None = None


class Channel:
    """The line of a process to its watcher: its stdout, which is standard error for everything else from then on."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._file = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        os.dup2(2, 1)

    def ready(self, items: Sequence[str]) -> None:
        """Tell which items will be done, in their order."""
        self._tell(ready=list(items))

    def start(self, item: str) -> None:
        """Tell that an item begins."""
        self._tell(start=item)

    def done(self, item: str, status: str, says: str | None, **facts: Any) -> None:
        """Tell how an item ended."""
        self._tell(done=item, status=status, says=says, facts=facts)

    def _tell(self, **row: Any) -> None:
        self._file.write(json.dumps(row, default=str) + "\n")


class _Watched:
    """A group under watch, through all the processes that it takes."""

    def __init__(self, group: Group, limits: Limits, hear: Callable[[Outcome], None]) -> None:
        self.group, self.limits, self.hear = group, limits, hear
        self.items: list[str] | None = None
        self.ended: list[str] = []
        self.current: str | None = None
        self._progress = 0
        self._start()

    def _start(self) -> None:
        command = [*self.group.command, "--skip", ",".join(self.ended)]
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - `_close` closes it
        self.child = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # all that it starts ends with it, and Ctrl-C is the watcher's
        )
        assert self.child.stdout is not None
        self.output = self.child.stdout
        os.set_blocking(self.output.fileno(), False)
        self._held, self._progress, self._spoken = b"", 0, False
        self.current, self._since = None, time.monotonic()

    def step(self) -> bool:
        """Read what was told; whether the group is through."""
        closed = self._read()
        if closed:
            return self._process_ended(None)
        waited = time.monotonic() - self._since
        if waited > (self.limits.item_s if self._spoken else self.limits.start_s):
            return self._process_ended(f"no answer within {waited:.0f} s")
        return False

    def _read(self) -> bool:
        """Take the lines that are there; whether the process closed its line."""
        while True:
            try:
                piece = os.read(self.output.fileno(), 1 << 16)
            except BlockingIOError:
                return False
            if not piece:
                return True
            self._spoken, self._since = True, time.monotonic()
            *lines, self._held = (self._held + piece).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError):  # a tool that the process runs under wrote it
                    self._heard(json.loads(line))

    def _heard(self, row: Any) -> None:
        if not isinstance(row, dict):
            return
        if "ready" in row:
            self.items = self.items or list(row["ready"])
        elif "start" in row:
            self.current = str(row["start"])
            self._began = time.monotonic()
        elif "done" in row:
            seconds = time.monotonic() - self._began if self.current == row["done"] else 0.0
            self.current = None
            self._end(str(row["done"]), str(row["status"]), row.get("says"), seconds, row.get("facts") or {})

    def _end(self, item: str, status: str, says: str | None, seconds: float, facts: dict[str, Any]) -> None:
        self.ended.append(item)
        self._progress += 1
        self._tell(item, status, says, seconds=seconds, facts=facts)

    def _tell(self, item: str, status: str, says: str | None, **more: Any) -> None:
        self.hear(Outcome(item=item, group=self.group.name, status=status, says=says, **more))

    def _process_ended(self, why: str | None) -> bool:
        """Tell how a process ended; start the next one behind it, or say that the group is through."""
        code = self._wait(kill=why is not None)
        tail = self._close()
        self._died(code, why, tail)
        left = self.left()
        if not left:
            return True
        if self._progress:
            self._start()
            return False
        self.leave(f"its process ended twice with nothing done ({_words(code)})" if self.ended else _words(code))
        return True

    def _died(self, code: int | None, why: str | None, tail: str) -> None:
        """Tell of the item that a process was at when it ended, or of the process where it was at none."""
        if self.current is not None:
            item, self.current = self.current, None
            seconds = time.monotonic() - self._began
            self.ended.append(item)
            self._progress += 1
            status, says = (HUNG, why) if why else (DIED, _words(code))
            self._tell(item, status, says, seconds=seconds, tail=tail)
        elif self.items is None:
            says = why or f"{_words(code)}: {(tail.strip().splitlines() or ['it said nothing'])[-1]}"
            self._tell("", NOT_STARTED, says, tail=tail)
        elif not self.left() and code:
            self._tell("", DIED, f"after its last item: {why or _words(code)}", tail=tail)

    def left(self) -> list[str]:
        """Items that have not ended."""
        done = set(self.ended)
        return [item for item in self.items or () if item not in done]

    def leave(self, why: str) -> None:
        """Give the group up, telling every item that was not reached."""
        for item in self.left():
            self._tell(item, NOT_REACHED, why)

    def _wait(self, *, kill: bool) -> int | None:
        """The exit code; ``None`` where nothing ends the process (a driver can hold one for ever)."""
        for number in (None, signal.SIGTERM, signal.SIGKILL)[kill:]:
            if number is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.child.wait(timeout=3.0 if number is signal.SIGTERM else self.limits.end_s)
        return None

    def _close(self) -> str:
        """The end of what the process wrote on standard error."""
        self.output.close()
        if self._errors.closed:
            return ""
        with self._errors as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            return file.read().decode(errors="replace")

    def stop(self, why: str) -> None:
        """End the process where it is."""
        self._wait(kill=True)
        tail = self._close()
        if self.current is not None:
            self.ended.append(self.current)
            self._tell(self.current, NOT_REACHED, f"{why} while it ran", tail=tail)
        self.leave(why)


def _words(code: int | None) -> str:
    """How a process ended, in words.

    Examples
    --------
    >>> _words(-11), _words(7), _words(None)
    ('killed by SIGSEGV', 'exit code 7', 'its process cannot be ended')
    """
    if code is None:
        return "its process cannot be ended"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def watch(
    groups: Sequence[Group], jobs: int, limits: Limits, hear: Callable[[Stand], None] = lambda _: None
) -> list[Outcome]:
    """Do the items of all groups, so many groups at a time.

    Parameters
    ----------
    groups
        What is done, the first ones first.
    jobs
        Processes at a time.
    limits
        Seconds. An item beyond its limit hangs; what is left at the end of all is not reached.
    hear
        Called at every outcome, and ten times a second in between.

    Returns
    -------
    list of Outcome
        One for every item, in the order in which they ended. No process is left behind, whatever is raised.
    """
    found: list[Outcome] = []
    waiting, running, through = list(groups), list[_Watched](), list[_Watched]()
    ends = time.monotonic() + limits.whole_s if limits.whole_s is not None else float("inf")

    def stand(last: Outcome | None = None) -> Stand:
        known = sum(len(each.items or ()) for each in (*running, *through))
        doing = tuple(each.current for each in running if each.current)
        return Stand(ended=len(found), known=max(known, len(found)), doing=doing, last=last)

    def heard(outcome: Outcome) -> None:
        found.append(outcome)
        hear(stand(outcome))

    why = "it was interrupted"
    try:
        while (waiting or running) and time.monotonic() < ends:
            while waiting and len(running) < jobs:
                running.append(_Watched(waiting.pop(0), limits, heard))
            _until_one_speaks(running)
            for each in tuple(running):
                if each.step():
                    running.remove(each)
                    through.append(each)
            hear(stand())
        why = "the time was up"
    finally:
        for each in running:
            each.stop(why)
        for group in waiting:
            heard(Outcome(item="", group=group.name, status=NOT_REACHED, says=f"{why} before it began"))
    return found


def _until_one_speaks(running: Sequence[_Watched]) -> None:
    with selectors.DefaultSelector() as selector:
        for each in running:
            selector.register(each.output, selectors.EVENT_READ)
        selector.select(timeout=_POLL_S)
