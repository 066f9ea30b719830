"""The sustained loops of the roofline beside a C program that shares nothing with them but the idea."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "ridge.py"


@pytest.mark.timed
@pytest.mark.hardware
@pytest.mark.skipif(not shutil.which(os.environ.get("CC", "cc")), reason="no C compiler for tests/peers/ridge.c")
def test_intensities_around_the_ridge_agree_with_an_independent_loop_within_a_tenth(tmp_path: Path) -> None:
    out = tmp_path / "ridge.csv"
    command = [sys.executable, str(BENCHMARK), "--threads", "1", "--rounds", "5", "--mib", "128", "--csv", str(out)]
    path = os.pathsep.join(filter(None, (str(BENCHMARK.parent), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    # Interference hits one of the two samples of a round now and then: the pairs' interval must hold agreement.
    apart = [row for row in rows if not (float(row["low"]) <= 1.1 and float(row["high"]) >= 0.9)]
    assert not apart
