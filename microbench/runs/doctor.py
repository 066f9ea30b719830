"""What could spoil a measurement here, or keep one from running: one small check per thing, each with a remedy. Nothing is changed.

A check says what is fine too (severity info), so that a report of a good machine is a list of facts rather than
silence.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from microbench.errors import CannotRun, MicrobenchError, UsageError
from microbench.hardware import extensions, nominal, probe
from microbench.hardware.environment import FACTS, environment_facts
from microbench.hardware.interference import STEAL_SHARE, Steal
from microbench.hardware.procfs import Machine, allowed
from microbench.records import Finding, Severity, Value, units
from microbench.storage.files import check_writable

OURS = "microbench-roofline"
OTHER = "microbench"
# Long enough for a few ticks of the kernel's counter of stolen time.
NEWEST_DRIVER = 13000  # stands for the one that is not there: what would a new installation take?
_STEAL_LOOK_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is examined: a device spelling, a machine, and where results would go."""

    device: str = "auto"
    machine: Machine
    out: Path = Path("results")


Check = Callable[[Context], Iterable[Finding]]
CHECKS: list[tuple[str, Check]] = []


def check(kind: str = "any") -> Callable[[Check], Check]:
    """Register a check for ``cpu``, ``cuda`` or ``any`` device."""

    def register(function: Check) -> Check:
        CHECKS.append((kind, function))
        return function

    return register


def _say(code: str, severity: Severity, says: str, remedy: str = "") -> Finding:
    return Finding(code=code, severity=severity, says=says, remedy=remedy)


def examine(device: str = "auto", machine: Machine | None = None, out: Path = Path("results")) -> list[Finding]:
    """Run every check that concerns a device.

    Raises
    ------
    UsageError
        If the device's spelling is none of auto, cpu and cuda:N.
    """
    context = Context(device=device, machine=machine or Machine(), out=out)
    try:
        kind = "cpu" if device == "cpu" else probe(device).kind
    except UsageError:
        raise
    except CannotRun:
        kind = "cuda" if device.startswith("cuda") else "cpu"
    found: list[Finding] = []
    for concerns, function in CHECKS:
        if concerns not in ("any", kind) and device != "auto":
            continue
        try:
            found.extend(function(context))
        except (MicrobenchError, OSError, ValueError) as error:
            name = function.__name__.replace("_", "-")
            found.append(
                _say(
                    name,
                    "warning",
                    f"the check {name} itself failed: {error}",
                    "report it with the output of microbench doctor",
                )
            )
    return found


# --- installation
# ------------------------------------------------------------------------------------------------------------------


@check()
def import_name(_: Context) -> Iterator[Finding]:
    """The index has another project that installs the same import name and the same command."""
    other = _version(OTHER)
    if other is not None:
        says = f"another distribution, {OTHER} {other}, is installed here and owns the same import name and command"
        yield _say("import-name", "error", says, f"pip uninstall {OTHER} {OURS} && pip install {OURS}")
        return
    ours = _version(OURS)
    if ours is None:
        says = f"{OURS} is not installed in this environment: the code runs from a folder"
        yield _say("import-name", "warning", says, "pip install .")
        return
    yield _say("import-name", "info", f"{OURS} {ours} owns the name 'microbench' alone")


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
        yield _say("packages", "error", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    else:
        yield _say("packages", "info", "every package that it depends on is installed")


@check("cpu")
def native_module(_: Context) -> Iterator[Finding]:
    """Whether the compiled CPU kernels are there, and fit to measure."""
    try:
        from microbench import _cpu
    except ImportError as error:
        yield _say("native-module", "error", f"the CPU kernels are not built here ({error})", "pip install .")
        return
    build = _cpu.build_info()
    named = f"{build.get('compiler')} {build.get('version')}"
    if not build.get("optimised"):
        yield _say(
            "native-module",
            "error",
            f"the CPU kernels were built by {named} without optimisation",
            "pip install --force-reinstall .",
        )
    elif build.get("sanitisers"):
        says = f"the CPU kernels were built by {named} with sanitisers ({build['sanitisers']})"
        yield _say("native-module", "error", says, "pip install --force-reinstall .")
    else:
        yield _say("native-module", "info", f"CPU kernels built by {named}, optimised")


@check()
def torch_and_triton(_: Context) -> Iterator[Finding]:
    """Whether the optional libraries are there, in versions that belong together."""
    torch, triton = _version("torch"), _version("triton")
    if torch is None:
        says = "torch is not installed: no library ceilings, no capture of models"
        yield _say("torch", "info", says, f"pip install '{OURS}[torch]'")
        return
    broken = _broken("torch")
    if broken is not None:
        says = (
            f"torch {torch} is installed but cannot be imported ({broken}): no library ceilings, no capture of models"
        )
        yield _say("torch", "warning", says, f"pip install --force-reinstall '{OURS}[torch]'")
        return
    pinned = [match[1] for row in _requirements("torch") if (match := re.match(r"triton\s*\(?==\s*([0-9][\w.]*)", row))]
    if triton is None:
        says = f"torch {torch}, but triton is not installed: no Triton kernels"
        yield _say("triton", "info", says, f"pip install triton{f'=={pinned[0]}' if pinned else ''}")
    elif pinned and triton.partition("+")[0] != pinned[0]:
        says = f"torch {torch} is built for triton {pinned[0]}, and triton {triton} is installed"
        yield _say("triton", "warning", says, f"pip install triton=={pinned[0]}")
    else:
        yield _say("torch", "info", f"torch {torch} and triton {triton}")


@check("cpu")
def proof_tool(_: Context) -> Iterator[Finding]:
    """Whether the loops can be disassembled."""
    tool = shutil.which("objdump")
    if tool is None:
        says = "no objdump: ceilings will say that their machine code is unproven"
        yield _say("objdump", "info", says, "apt install binutils (or your system's package of that name)")
    else:
        yield _say(
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
    """Why a module cannot be imported, tried in a process of its own; ``None`` where it can, or where nobody knows."""
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


# --- machine
# ----------------------------------------------------------------------------------------------------------------------


@check("cpu")
def instruction_sets(_: Context) -> Iterator[Finding]:
    """What the processor offers, and whether somebody capped it."""
    try:
        features = extensions.cpu().features()
    except CannotRun:
        return
    cap = features.get("isa_cap")
    if cap:
        says = f"MICROBENCH_ISA={cap} keeps wider instruction sets from being measured"
        yield _say("instruction-sets", "warning", says, "unset MICROBENCH_ISA")
    notable = [flag for flag in features["flags"] if re.match(r"avx|amx|fma|asimd|sve|bf16|i8mm", flag)]
    yield _say("instruction-sets", "info", f"instruction sets: {', '.join(notable) or 'none beyond the base'}")


@check("cpu")
def port_table(_: Context) -> Iterator[Finding]:
    """Whether nominal rates are known for this processor."""
    device = probe("cpu")
    row = nominal.ports_of(device)
    if row is None:
        says = f"{device.arch} is not in the port table: ceilings stand without a share of nominal"
        yield _say(
            "port-table",
            "warning",
            says,
            "report the processor's name and microarchitecture, so that a row can be added",
        )
    else:
        seen = "" if row.arch == device.arch else f" (it calls itself {device.arch})"
        note = f"; {row.note}" if row.varies and row.note else ""
        yield _say("port-table", "info", f"nominal rates by the port table's row {row.arch}{seen}{note}")


@check("cpu")
def environment(context: Context) -> Iterator[Finding]:
    """Every fact of the environment that can be good or bad for measuring."""
    facts = environment_facts(context.machine)
    for row in FACTS:
        value = facts[row.name]
        if row.judge is None or row.name in ("optimised", "sanitisers"):  # the native module has a check of its own
            continue
        bad = row.judge(value, context.machine) if value is not None else None
        name = row.name.replace("_", "-")
        unknown = "not told by this system" if row.name != "cpu_quota" else "none"
        fine = unknown if value is None else _readable(value, row.unit)
        yield bad or _say(name, "info", f"{row.name.replace('_', ' ')}: {fine}")


def _readable(value: Value, unit: str) -> str:
    if unit == "byte" and isinstance(value, (int, float)):
        return units.size(float(value))
    return f"{value:g} {unit}".strip() if isinstance(value, float) else f"{value} {unit}".strip()


@check("cpu")
def stolen_time(context: Context) -> Iterator[Finding]:
    """A short look at how much the host takes away."""
    steal = Steal(context.machine)
    time.sleep(_STEAL_LOOK_S)
    stolen = steal.lap()
    if stolen is None:
        yield _say("steal", "info", "stolen time: not told by this system")
        return
    share = stolen / (_STEAL_LOOK_S * max(1, len(allowed(context.machine))))
    if share > STEAL_SHARE:
        says = f"the host took {share:.0%} of the processor time in the last {_STEAL_LOOK_S:g} s"
        yield _say("steal", "warning", says, "measure at another time, or on a dedicated host")
    else:
        yield _say("steal", "info", f"stolen time: {share:.0%} in the last {_STEAL_LOOK_S:g} s")


@check()
def output_folder(context: Context) -> Iterator[Finding]:
    """Whether results could be written; a folder that is missing is not created here."""
    folder = context.out
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        check_writable(folder)
    except CannotRun as error:
        yield _say("output-folder", "error", str(error), "microbench run --out DIR")
    else:
        yield _say("output-folder", "info", f"results can be written to {context.out}")


# --- GPU
# ----------------------------------------------------------------------------------------------------------------------


@check("cuda")
def gpu(context: Context) -> Iterator[Finding]:
    """Whether a GPU can be used, and how to get there."""
    wanted = context.device if context.device.startswith("cuda") else "cuda:0"
    try:
        device = probe(wanted)
    except CannotRun as error:
        severity: Severity = "error" if context.device.startswith("cuda") else "info"
        says, _, remedy = str(error).partition("; ")
        yield _say("gpu", severity, says, *filter(None, (remedy,)))
        return
    yield _say("gpu", "info", f"{wanted} is {device.name} ({device.arch})")
    try:
        nominal.named(device.name)
    except UsageError as error:
        yield _say(
            "gpu-table",
            "warning",
            f"{error}; nominal rates are those of the fastest {device.arch}",
            "report its name, so that a row can be added",
        )


@check("cuda")
def gpu_code(_: Context) -> Iterator[Finding]:
    """Where machine code for GPUs would come from: shipped cubins, NVRTC, Triton, or nvcc for a rebuild."""
    from microbench.kernels.cuda import code, nvrtc
    from microbench.kernels.cuda.rows import TARGETS

    driver = extensions.cuda().driver_version() or NEWEST_DRIVER
    cubins = sorted(path.name for path in code.installed().glob("*.cubin")) if code.installed().is_dir() else []
    usable = nvrtc.usable(driver)
    if cubins:
        there = {name.split(".")[-2] for name in cubins}
        targets = [target for target in TARGETS if target in there]
        built = extensions.cuda().build_info()["nvcc"]
        yield _say("cubins", "info", f"{len(cubins)} cubins of nvcc {built} are installed, for {', '.join(targets)}")
    else:
        why = extensions.cuda().build_info()["why_no_cubins"] or "none were installed"
        left = (
            f"NVRTC {usable.major} compiles the CUDA kernels at run time"
            if usable
            else "Triton's kernels are what is left of the GPU's"
        )
        how = (
            "rebuild with 'pip install .': nvcc is here"
            if shutil.which("nvcc")
            else "rebuild with MICROBENCH_CUDA_WHEELS=1"
        )
        yield _say(
            "cubins", "info", f"no cubins ({why}): {left}", how if usable else f"{nvrtc.install(driver)}, or {how}"
        )
    if usable:
        yield _say("nvrtc", "info", f"NVRTC {usable.major} is here for what no cubin fits")
    else:
        found = ", ".join(str(library.major) for library in nvrtc.libraries())
        here = (
            f"NVRTC {found} is too new for this driver (CUDA {driver // 1000}.{driver % 1000 // 10})"
            if found
            else "no NVRTC is here"
        )
        yield _say("nvrtc", "info", f"{here} for what no cubin fits", nvrtc.install(driver))
    if importlib.util.find_spec("pynvml") is None:
        yield _say(
            "nvml",
            "warning",
            "nvidia-ml-py is not installed: no power, temperature or throttling",
            "pip install nvidia-ml-py",
        )
