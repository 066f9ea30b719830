"""How the command line ends: whatever stops a command becomes one sentence on stderr and an exit code."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import rich_click as click
from click.exceptions import Exit

from microbench.errors import CannotRun, MicrobenchError
from microbench.runs import signals
from microbench.text import one_line

INTERRUPTED = 130

# Errors of writing to stdout or stderr carry no file name, and one of these numbers.
_OUTPUT_ERRORS = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT, errno.EFBIG)


def run_command(command: Callable[[], Any]) -> int:
    """Run a command; print the sentence of what stopped it, if anything did, and return the exit code."""
    try:
        code = command()
    except MicrobenchError as error:
        _print_sentence(str(error))
        code = error.exit_code
    except Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort) as stop:
        interrupt = stop.__context__ if isinstance(stop, click.Abort) else stop  # click turns the one into the other
        _print_sentence(str(interrupt or "") or "interrupted")
        code = INTERRUPTED
    except BrokenPipeError:
        code = _pipe_closed(0)
    except SystemExit as stop:
        if not isinstance(stop.__context__, BrokenPipeError):  # rich exits by itself when its reader has gone
            raise
        code = _pipe_closed(0)
    except (OSError, MemoryError, ImportError) as error:
        code = _system_refused(error)
    return code if isinstance(code, int) else 0


def flush_output(code: int) -> int:
    """Flush stdout and let no signal disturb the exit any more; return the exit code, another if stdout fails."""
    try:
        sys.stdout.flush()
        signals.ignore()
    except BrokenPipeError:
        return _pipe_closed(code)
    except OSError as error:
        return _output_failed(error)
    except KeyboardInterrupt:  # the reader is slow, and there is no need to wait for it
        return _pipe_closed(INTERRUPTED)
    return code


def _system_refused(error: OSError | MemoryError | ImportError) -> int:
    """Print what the machine denied: no fault of this program, so a traceback stands in the log of --verbose only."""
    logging.getLogger(__name__).info("", exc_info=error)
    if isinstance(error, MemoryError):
        says = (
            "there is not enough memory (a limit of this process, or of the machine); free some, raise the limit, or "
            "ask for less"
        )
    elif isinstance(error, ImportError):
        says = _import_failed(error)
    elif error.errno in _OUTPUT_ERRORS and not error.filename:
        return _output_failed(error)
    else:
        where = f"{error.filename}: " if error.filename else ""
        remedy = "'microbench doctor' tells what is wrong with this machine"
        if str(error.filename).startswith("/proc"):
            remedy = "mount /proc (a container or chroot may lack it), nothing can be measured without it"
        says = f"the system refused: {where}{error.strerror or error}; {remedy}"
    _print_sentence(says)
    return CannotRun.exit_code


def _import_failed(error: ImportError) -> str:
    if "failed to map" in str(error) or "cannot allocate" in str(error).lower():
        library = error.path or "a library"
        return f"there is not enough memory to load {library} ({error}); raise the limit of this process (ulimit -v)"
    return (
        f"a package that this needs cannot be imported: {error}; install it again, 'microbench doctor' says which are "
        "here"
    )


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _pipe_closed(code: int) -> int:
    """The reader of stdout closed it, as ``head`` does: that is no error, and the code stays."""
    _discard_output()
    return code


def _output_failed(error: OSError) -> int:
    _discard_output()
    _print_sentence(f"the output cannot be written: {error.strerror}; send it elsewhere or make room")
    return CannotRun.exit_code


def _print_sentence(sentence: str) -> None:
    with contextlib.suppress(OSError):  # a terminal that was closed
        click.echo(f"microbench: {one_line(sentence)}", err=True)
