"""The command line in a process of its own, for tests of what goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# The smallest real measurement: one scalar loop, for a moment.
SMALL = ("run", "--only", "fma.f64.scalar", "--time-limit", "15s")

# When a process is given up: no assertion, so long enough for a machine with much other work.
PATIENCE_S = 600

Said = tuple[int, str, str]


def environment(tmp_path: Path, **extra: str) -> dict[str, str]:
    """An environment with a place of its own for locks, so that no other run on this machine gets in the way."""
    places = {"TMPDIR": str(tmp_path), "MICROBENCH_LOCKS": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    return {**os.environ, **places, **extra}


def process(tmp_path: Path, *arguments: object, **extra: str) -> Said:
    command = [sys.executable, "-m", "microbench", *map(str, arguments)]
    done = subprocess.run(
        command, env=environment(tmp_path, **extra), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    return done.returncode, done.stdout, done.stderr


def one_sentence(err: str) -> None:
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert len(lines[0]) < 700
