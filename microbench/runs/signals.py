"""Signals that end a run, Ctrl-C above all: where they are heard at once, and where they wait until what was measured is safe."""

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
    """Let every ending signal do what Ctrl-C does; one that the parent ignores (nohup, a background job) stays ignored."""
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def ignore() -> None:
    """Let nothing disturb the last moments of the process: all is written, and its exit code is known."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


class Interrupted(KeyboardInterrupt):
    """An interrupt that knows what is left of the work; its text is the sentence for the user."""


class Held:
    """Signals that wait. ``came`` tells whether one did; a second one is not kept waiting."""

    def __init__(self) -> None:
        self.came = False
        self._heard = False

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Let signals through for a while, also the one that waits."""
        self._heard = True
        try:
            if self.came:
                raise KeyboardInterrupt
            yield
        finally:
            self._heard = False

    def arrive(self, _number: int, _frame: FrameType | None) -> None:
        """Take a signal: the handler."""
        again, self.came = self.came, True
        if self._heard or again:
            raise KeyboardInterrupt


@contextlib.contextmanager
def held() -> Iterator[Held]:
    """Hold ending signals back, but for the stretches inside ``with held.heard()``.

    Only those are held that would raise `KeyboardInterrupt`, and only in the main thread: others are not ours.
    """
    signals = Held()
    mine: list[signal.Signals] = []
    try:
        for number in ENDING:
            if signal.getsignal(number) is signal.default_int_handler:
                with contextlib.suppress(ValueError):  # not the main thread
                    signal.signal(number, signals.arrive)
                    mine.append(number)
        yield signals
    finally:
        for number in mine:
            signal.signal(number, signal.default_int_handler)
