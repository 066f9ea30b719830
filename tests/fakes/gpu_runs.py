"""Whole `microbench run` commands on invented GPUs, and what came out of them."""

from __future__ import annotations

from typing import Any

from fake_gpu import FakeMachine

from microbench.records import Characterisation
from microbench.storage import store

ONLY = ("fma.f32", "fma.f64", "read.i32.u4", "read.i32.shared", "chase.i32.ca", "launch.*")
# The command line where PyTorch is not installed, with the NVRTC that the machine has or without any.
COMMAND = """
import sys
import no_torch
from microbench import __main__
from microbench.kernels.cuda import nvrtc
if not {nvrtc}:
    nvrtc.libraries = lambda: []
sys.argv[0] = "microbench"
__main__.main()
"""


def microbench(*arguments: str, nvrtc: bool = True) -> tuple[str, ...]:
    """Arguments of Python for a command of microbench."""
    return ("-c", COMMAND.format(nvrtc=nvrtc), *arguments)


def chosen(names: tuple[str, ...]) -> tuple[str, ...]:
    """Command-line arguments for kernels by name."""
    return tuple(word for name in names for word in ("--only", name))


def run(
    machine: FakeMachine, *arguments: str, device: str = "cuda:0", nvrtc: bool = True, seconds: int = 16, **more: str
) -> tuple[int, str, Characterisation | None]:
    """Run quickly; exit code, everything that was said, what was stored. A traceback is always a failure."""
    out = machine.folder / "out"
    command = (
        "run",
        "--device",
        device,
        "--quick",
        "--time-limit",
        f"{seconds}s",
        "--out",
        str(out),
        *(arguments or chosen(ONLY)),
    )
    done = machine.run(*microbench(*command, nvrtc=nvrtc), **more)
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said[-3000:]
    files = sorted(out.glob("*/*.json"))
    return done.returncode, said, store.load(files[-1]) if files else None


def ceilings(held: Characterisation | None) -> dict[str, Any]:
    """Ceilings by name."""
    assert held is not None
    return {ceiling.name: ceiling for ceiling in held.ceilings}


def codes(held: Characterisation | None) -> set[str]:
    """Codes of the findings."""
    assert held is not None
    return {finding.code for finding in held.findings}
