"""`python -m microbench`, and what the installed command calls."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

INTERRUPTED = 130


def shared_name(packages: Path) -> str | None:
    """What to say where the index's other `microbench` lies in the same folder of packages; ``None``: it does not."""
    others = sorted(packages.glob("microbench-[0-9]*.dist-info"))
    if not others:
        return None
    version = others[0].name.removesuffix(".dist-info").partition("-")[2]
    remedy = "pip uninstall microbench microbench-roofline && pip install microbench-roofline"
    return (
        f"another distribution, microbench {version}, is installed here and owns the same import name and command: "
        f"files of the two are mixed; {remedy}"
    )


def main() -> NoReturn:
    """Load the command line and run it; a Ctrl-C while it loads is no fault either."""
    # What the interpreter has spent so far is processor time; a time limit counts from the start of the process.
    started = time.monotonic() - time.process_time()
    warning = shared_name(Path(__file__).resolve().parents[1])
    if warning is not None:
        print(f"microbench: {warning}", file=sys.stderr)  # noqa: T201 - nothing is loaded yet that could say it
    try:
        from microbench.cli.main import main as command
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)  # as for any other interrupt
    except ImportError:
        if warning is None:
            raise
        sys.exit(3)  # its files took the place of ours; what to do about it has been said
    try:
        command(started)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            # Where the interrupt came inside exec(), as in the import of a dataclass, CPython kills itself by SIGINT at
            # its end, whatever code is returned. All is saved and said by now: leave with the code that was promised.
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(INTERRUPTED)
        raise


if __name__ == "__main__":
    main()
