"""FLOP and bytes of every kernel by target, counted by the PTX machine: what the fake driver takes its rates from.

``python -m ptx.counts sm_90a ..`` (in ``tests/``) prints them as JSON; ``tests/data/ptx_counts.json`` keeps them for
machines without nvcc, and ``python .ci/golden.py counts`` writes it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from places import DATA
from ptx import cases

from microbench.kernels.cuda.rows import TARGETS, rows_for

KEPT = DATA / "ptx_counts.json"


def counted(target: str) -> dict[str, dict[str, int]]:
    """Work of one block in one iteration, by symbol; nothing for kernels without a loop."""
    found = {}
    for row in rows_for(target):
        if row.limiter != "none":
            work = cases.per_iteration(row, target, cases.case_of(row))
            found[row.symbol] = {name: work[name] for name in ("flop", "read", "written")}
    return found


def kept(target: str) -> dict[str, dict[str, int]]:
    """The counts that were written down."""
    found: dict[str, dict[str, int]] = json.loads(KEPT.read_text())[target]
    return found


def text(targets: Sequence[str] = TARGETS) -> str:
    """The counts of several targets as they are kept."""
    return json.dumps({target: counted(target) for target in targets}, indent=0, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text(sys.argv[1:] or TARGETS))
