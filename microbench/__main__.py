"""`python -m microbench`, and what the installed command calls."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Load the command line and run it; a Ctrl-C while it loads is no fault either."""
    try:
        from microbench.cli.main import main as command
    except KeyboardInterrupt:
        sys.exit(130)  # as for any other interrupt
    command()


if __name__ == "__main__":
    main()
