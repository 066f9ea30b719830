"""Machines that lack something, and what a user is still told or given there."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import SMALL, environment, one_sentence, process
from places import DATA

GOOD = DATA / "fake-cpu.json"


def test_an_instruction_set_that_there_is_not_is_refused(tmp_path: Path) -> None:
    code, _, err = process(tmp_path, "run", "--dry-run", MICROBENCH_ISA="nonsense")
    assert code == 2
    one_sentence(err)


def test_an_old_locale_prints_all_the_same(tmp_path: Path) -> None:
    code, out, err = process(tmp_path, "report", GOOD, PYTHONIOENCODING="ascii", LC_ALL="C", COLUMNS="20", TERM="dumb")
    assert (code, err) == (0, "")
    assert out


@pytest.mark.parametrize(
    "says", ["OSError('libcudart.so.13: cannot open shared object file')", "RuntimeError('another ABI')"]
)
def test_a_broken_torch_costs_its_kernels_and_not_the_run(tmp_path: Path, says: str) -> None:
    (tmp_path / "broken" / "torch").mkdir(parents=True)
    (tmp_path / "broken" / "torch" / "__init__.py").write_text(f"raise {says}")
    path = os.pathsep.join([str(tmp_path / "broken"), *sys.path])
    out = tmp_path / "out"
    code, _, err = process(
        tmp_path,
        "run",
        "--only",
        "gemm.f32*",
        "--only",
        "fma.f64.scalar",
        "--time-limit",
        "20s",
        "--out",
        out,
        PYTHONPATH=path,
    )
    assert code == 0, err
    made = json.loads(next(out.rglob("*.json")).read_text())
    assert {ceiling["name"] for ceiling in made["ceilings"]} == {"fma.f64.scalar"}
    assert [finding["code"] for finding in made["findings"]].count("library-broken") == 1
    for arguments in (("run", "--only", "gemm.f32*", "--out", out), ("validate", "--time-limit", "1s")):
        code, _, err = process(tmp_path, *arguments, PYTHONPATH=path)
        assert code == 3
        one_sentence(err)
    if importlib.util.find_spec("torch") is not None:
        _, out, _ = process(tmp_path, "doctor", "--json", "-", PYTHONPATH=path)
        told = {row["check"]: row for row in json.loads(out)}
        assert "cannot be imported" in told["torch"]["says"]


def test_one_core_is_enough(tmp_path: Path) -> None:
    if shutil.which("taskset") is None:
        pytest.skip("taskset is not installed")
    core = str(min(os.sched_getaffinity(0)))
    command = ["taskset", "-c", core, sys.executable, "-m", "microbench", *SMALL, "--out", str(tmp_path / "out")]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_without_proc_nothing_runs_and_the_remedy_is_told(tmp_path: Path) -> None:
    hidden = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*hidden, "mount -t tmpfs none /proc"], capture_output=True, check=False).returncode
    ):
        pytest.skip("a private mount of /proc is not allowed here")
    command = f"mount -t tmpfs none /proc && exec {sys.executable} -m microbench run --dry-run --only fma.f64.scalar"
    done = subprocess.run(
        [*hidden, command], env=environment(tmp_path), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 3
    one_sentence(done.stderr)
    assert "mount /proc" in done.stderr


def test_without_sys_the_processor_is_still_described(tmp_path: Path) -> None:
    hidden = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*hidden, "mount -t tmpfs none /sys"], capture_output=True, check=False).returncode
    ):
        pytest.skip("a private mount of /sys is not allowed here")
    command = f"mount -t tmpfs none /sys && exec {sys.executable} -m microbench run --dry-run --only fma.f64.scalar"
    done = subprocess.run(
        [*hidden, command], env=environment(tmp_path), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
