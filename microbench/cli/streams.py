"""Standard output and standard error that pass on no character and no command which came from a file."""

from __future__ import annotations

import os
import re
import sys
from typing import Any, TextIO, cast

from microbench.text import inert, visible_lines

# Colours, and on a terminal also what moves the cursor: the sequences that are written on purpose.
_COLOUR = re.compile("(\x1b\\[[0-9;]*m)")
_TERMINAL = re.compile("(\x1b\\[[0-9;?]*[A-Za-z]|\r)")


class Guarded:
    """A text stream whose reader, a terminal or the log of a job, obeys nothing that was quoted from elsewhere.

    Text is foreign here unless `write_commands` writes it. Everything else is the stream's own.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._ours = _TERMINAL if stream.isatty() else _COLOUR

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write with foreign control characters and commands spelled out."""
        parts = self._ours.split(text)
        parts[::2] = map(visible_lines, parts[::2])
        self._stream.write(inert("".join(parts)))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several pieces of text."""
        for line in lines:
            self.write(line)

    def write_commands(self, text: str) -> int:
        """Write text of ours that gives commands to a job, with what it quotes made `microbench.text.visible`."""
        return self._stream.write(text)


def write_commands(text: str) -> None:
    """Write commands for a job to standard output."""
    getattr(sys.stdout, "write_commands", sys.stdout.write)(text)


def open_streams() -> None:
    """Make sure that there is something to print to, that no character of a table can fail, and none is obeyed."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if isinstance(stream, Guarded):
            continue
        if stream is None:  # started with the stream closed
            null = os.open(os.devnull, os.O_WRONLY)
            if null != descriptor:
                os.dup2(null, descriptor)
            stream = os.fdopen(descriptor, "w")
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
        setattr(sys, name, cast("TextIO", Guarded(stream)))
