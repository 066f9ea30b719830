"""`python -m microbench`."""

from __future__ import annotations

from microbench.cli import main

if __name__ == "__main__":
    main()
