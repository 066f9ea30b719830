"""What is installed: the package itself, its dependencies, the compiled kernels, the optional libraries and tools."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

from microbench.records import Finding
from microbench.runs.doctor import Context, check, finding

OURS = "microbench-roofline"
OTHER = "microbench"


@check()
def import_name(_: Context) -> Iterator[Finding]:
    """Whether the import name is ours alone: the index has another project with the same name and command."""
    other = _version(OTHER)
    if other is not None:
        says = f"another distribution, {OTHER} {other}, is installed here and owns the same import name and command"
        yield finding("import-name", "error", says, f"pip uninstall {OTHER} {OURS} && pip install {OURS}")
        return
    ours = _version(OURS)
    if ours is None:
        says = f"{OURS} is not installed in this environment: the code runs from a folder"
        yield finding("import-name", "warning", says, "pip install .")
        return
    yield finding("import-name", "info", f"{OURS} {ours} owns the name 'microbench' alone")


@check()
def packages(_: Context) -> Iterator[Finding]:
    """Whether what the package depends on is installed."""
    missing = []
    for requirement in _requirements(OURS):
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        if _version(name) is None:
            missing.append(name)
    if missing:
        yield finding("packages", "error", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    else:
        yield finding("packages", "info", "every package that it depends on is installed")


@check("cpu")
def native_module(_: Context) -> Iterator[Finding]:
    """Whether the compiled CPU kernels are there, and fit to measure."""
    try:
        from microbench import _cpu
    except ImportError as error:
        yield finding("native-module", "error", f"the CPU kernels are not built here ({error})", "pip install .")
        return
    build = _cpu.build_info()
    named = f"{build.get('compiler')} {build.get('version')}"
    if not build.get("optimised"):
        yield finding(
            "native-module",
            "error",
            f"the CPU kernels were built by {named} without optimisation",
            "pip install --force-reinstall .",
        )
    elif build.get("sanitisers"):
        says = f"the CPU kernels were built by {named} with sanitisers ({build['sanitisers']})"
        yield finding("native-module", "error", says, "pip install --force-reinstall .")
    else:
        yield finding("native-module", "info", f"CPU kernels built by {named}, optimised")


@check()
def torch_and_triton(_: Context) -> Iterator[Finding]:
    """Whether the optional libraries are there, in versions that belong together."""
    torch, triton = _version("torch"), _version("triton")
    if torch is None:
        says = "torch is not installed: no library ceilings, no capture of models"
        yield finding("torch", "info", says, f"pip install '{OURS}[torch]'")
        return
    broken = _broken("torch")
    if broken is not None:
        says = (
            f"torch {torch} is installed but cannot be imported ({broken}): no library ceilings, no capture of models"
        )
        yield finding("torch", "warning", says, f"pip install --force-reinstall '{OURS}[torch]'")
        return
    pinned = [match[1] for row in _requirements("torch") if (match := re.match(r"triton\s*\(?==\s*([0-9][\w.]*)", row))]
    if triton is None:
        says = f"torch {torch}, but triton is not installed: no Triton kernels"
        yield finding("triton", "info", says, f"pip install triton{f'=={pinned[0]}' if pinned else ''}")
    elif pinned and triton.partition("+")[0] != pinned[0]:
        says = f"torch {torch} is built for triton {pinned[0]}, and triton {triton} is installed"
        yield finding("triton", "warning", says, f"pip install triton=={pinned[0]}")
    else:
        yield finding("torch", "info", f"torch {torch} and triton {triton}")


@check("cpu")
def proof_tool(_: Context) -> Iterator[Finding]:
    """Whether the loops can be disassembled."""
    tool = shutil.which("objdump")
    if tool is None:
        says = "no objdump: ceilings will say that their machine code is unproven"
        yield finding("objdump", "info", says, "apt install binutils (or your system's package of that name)")
    else:
        yield finding(
            "objdump",
            "info",
            f"{_first_line(tool, '--version')}: every loop is disassembled and compared with its sheet",
        )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _broken(name: str) -> str | None:
    """Why a module cannot be imported, tried in a process of its own; ``None`` where it can, or the trial failed."""
    command = [sys.executable, "-P", "-c", f"import {name}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=60)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    last = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
    return last[0][:200] if done.returncode else None


def _requirements(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return command[0].rpartition("/")[2]
    return (done.stdout or done.stderr).strip().partition("\n")[0] or command[0].rpartition("/")[2]
