"""Builds of the kernels' sources for tests, kept by the hash of source, flags and compiler."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import once
from places import SOURCES

import microbench
from microbench.kernels.cuda import nvrtc

KERNELS = SOURCES / "cuda" / "kernels"
FLAGS = ("-O3", "-std=c++17", "-Werror", "all-warnings", "-Xptxas", "-warn-spills,-warn-lmem-usage,-Werror")
# How ptxas announces that it serialised wgmma, or made room for accumulators that are touched between products; -Werror
# lets both pass.
ADVICE = re.compile(r"Potential Performance Loss|warpgroup\.\w+ is injected")


@cache
def nvcc() -> str | None:
    """The version line of the nvcc on the PATH, ``None`` without one or below 13."""
    if shutil.which("nvcc") is None:
        return None
    said = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=False).stdout
    return said if "release 13" in said else None


def compiled(
    source: str, target: str, form: str = "cubin", flags: tuple[str, ...] = FLAGS, *, advice: bool = True
) -> Path:
    """The cubin (or PTX) of a source for a target; fails with what the compiler said, on its advice if that counts."""

    def compile_to(out: Path) -> None:
        text = out.with_name("kernel.cu")
        text.write_text(source)
        command = ["nvcc", f"-{form}", f"-arch={target}", *flags, "-o", str(out), str(text)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        if done.returncode or (advice and ADVICE.search(said)):
            raise AssertionError(f"nvcc for {target}: {said}")

    return once.made(f"{once.key(source, target, form, *flags, nvcc() or '', advice)}.{form}", compile_to)


def source(family: str) -> str:
    """The text of a family's source, with what it includes."""
    return nvrtc.whole_text(KERNELS / f"{family}.cu")


def shipped(family: str, target: str) -> Path | None:
    """The installed cubin, ``None`` where the package was built without nvcc."""
    for folder in microbench.__path__:
        found = Path(folder) / "cuda" / f"{family}.{target}.cubin"
        if found.exists():
            return found
    return None
