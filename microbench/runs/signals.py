"""Signals that end a run, such as Ctrl-C: they end measuring at once, and wait while results are being saved."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# Ctrl-C, what a service manager sends, what a closing terminal sends.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
