"""For which compute targets a build compiles: MICROBENCH_CUDA_TARGETS, as CMake takes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT
from ptx import toolchain

from microbench.kernels.cuda.rows import FAMILIES

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(not all(map(shutil.which, ("cmake", "ninja"))), reason="no cmake and ninja here"),
]


def configured(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    pybind11 = pytest.importorskip("pybind11", reason="pybind11 is not installed here: an isolated build had its own")
    command = ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}"]
    command += [f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.parametrize("cuda", ["AUTO", "ON"])
def test_a_target_that_no_kernel_has_is_refused_with_those_that_there_are(tmp_path: Path, cuda: str) -> None:
    if cuda == "ON" and toolchain.nvcc() is None:
        pytest.skip("no nvcc 13 here")
    done = configured(tmp_path, f"-DMICROBENCH_CUDA={cuda}", "-DMICROBENCH_CUDA_TARGETS=sm_90a,sm_91")
    said = " ".join(done.stderr.split())
    assert done.returncode != 0
    assert "MICROBENCH_CUDA_TARGETS names 'sm_91', which is no target of the kernels; it can be sm_75, sm_80" in said


@pytest.mark.skipif(toolchain.nvcc() is None, reason="no nvcc 13 on the PATH")
@pytest.mark.parametrize(("asked", "wanted"), [("sm_90a", {"sm_90a"}), ("sm_80;sm_120f", {"sm_80", "sm_120f"})])
def test_the_targets_that_are_asked_for_are_built_and_no_others(tmp_path: Path, asked: str, wanted: set[str]) -> None:
    done = configured(tmp_path, f"-DMICROBENCH_CUDA_TARGETS={asked}")
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(
        ["ninja", "-C", tmp_path, "-t", "targets", "all"], capture_output=True, text=True, check=True
    ).stdout
    built = {Path(line.partition(":")[0]).name for line in listed.splitlines() if ".cubin:" in line}
    assert built == {
        f"{family}.{target}.cubin" for family, targets in FAMILIES.items() for target in targets if target in wanted
    }
