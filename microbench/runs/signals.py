"""Signals around a run: those that end it, such as Ctrl-C, and the one by which a suspended process goes on.

The ending ones end measuring at once, and wait while results are being saved.
"""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# Ctrl-C, what a service manager sends, what a closing terminal sends.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# The signal by which a process goes on may come to one that was not stopped.
_SHORTEST_STOP_S = 0.05


def listen() -> None:
    """Let every ending signal do what Ctrl-C does.

    A signal that the parent process ignores (nohup, a background job) stays ignored.
    """
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def ignore() -> None:
    """Let nothing disturb the last moments of the process: all is written, and its exit code is known."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


class Interrupted(KeyboardInterrupt):
    """An interrupt whose text is the sentence for the user: what was saved, and how to resume."""


class Held:
    """Signals that are held back: ``arrived`` says whether one did; a second one is let through at once."""

    def __init__(self) -> None:
        self.arrived = False
        self._let_through = False

    @contextlib.contextmanager
    def let_through(self) -> Iterator[None]:
        """Let signals interrupt this stretch, also one that arrived before it."""
        self._let_through = True
        try:
            if self.arrived:
                raise KeyboardInterrupt
            yield
        finally:
            self._let_through = False

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """Take a signal: the handler that `held` installs."""
        again, self.arrived = self.arrived, True
        if self._let_through or again:
            raise KeyboardInterrupt


class Stops:
    """For how long the whole process was suspended (Ctrl-Z, SIGSTOP), as the signal tells by which it goes on.

    The last `pulse` bounds a stop: what is neither processor time nor longer ago than that was spent suspended.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._pulse_s = self._worked_s = 0.0
        self.pulse()

    def pulse(self) -> None:
        """The process is running now."""
        self._pulse_s, self._worked_s = time.monotonic(), time.process_time()

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """Take the signal: the handler that `stops` installs."""
        stopped = time.monotonic() - self._pulse_s - (time.process_time() - self._worked_s)
        self.seconds += stopped if stopped > _SHORTEST_STOP_S else 0.0
        self.pulse()


@contextlib.contextmanager
def stops() -> Iterator[Stops]:
    """Watch for stops of the process; elsewhere than in the main thread, or where others do, none is seen."""
    watch, mine = Stops(), False
    try:
        if signal.getsignal(signal.SIGCONT) is signal.SIG_DFL:
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(signal.SIGCONT, watch.handle)
                mine = True
        yield watch
    finally:
        if mine:
            signal.signal(signal.SIGCONT, signal.SIG_DFL)


@contextlib.contextmanager
def held() -> Iterator[Held]:
    """Hold ending signals back, except inside ``with held.let_through()``.

    Only those are held that would raise `KeyboardInterrupt`, and only in the main thread: others are not ours.
    """
    signals = Held()
    mine: list[signal.Signals] = []
    try:
        for number in ENDING:
            if signal.getsignal(number) is signal.default_int_handler:
                with contextlib.suppress(ValueError):  # not the main thread
                    signal.signal(number, signals.handle)
                    mine.append(number)
        yield signals
    finally:
        for number in mine:
            signal.signal(number, signal.default_int_handler)
