"""The two ways to say no: the request is wrong, or it cannot be done here.

Each message is one sentence: what, why, what to do.
"""

from __future__ import annotations

from microbench.text import sentence as one_sentence


class MicrobenchError(Exception):
    """A sentence for the user; the command line prints it without a traceback."""

    exit_code = 1

    def __init__(self, sentence: str) -> None:
        # It may quote names from files and other programs' errors: one line, whatever they hold.
        super().__init__(one_sentence(sentence))


class UsageError(MicrobenchError):
    """The request itself is wrong: an unknown name, a unit that does not fit, a file that is no characterisation."""

    exit_code = 2


def expect(what: str, value: object, kinds: type | tuple[type, ...], wanted: str) -> None:
    """Check the kind of an argument; a truth value passes as one only.

    Parameters
    ----------
    what, wanted
        How the sentence names the argument, and what is to be given.

    Raises
    ------
    UsageError
        If it is of another kind.
    """
    known = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, known) or (isinstance(value, bool) and bool not in known):
        raise UsageError(f"{what} is of type {type(value).__name__}; give {wanted}")


class CannotRun(MicrobenchError):
    """The request is fine, but this machine or this moment cannot serve it."""

    exit_code = 3


class ContextLost(CannotRun):
    """The device answers no more in this process; what was measured is kept and ``--resume`` goes on in a fresh one."""
