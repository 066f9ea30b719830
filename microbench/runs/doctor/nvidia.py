"""NVIDIA GPUs: whether one can be used, and where machine code for it would come from."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator

from microbench.errors import CannotRun, UsageError
from microbench.hardware import extensions, nominal, probe
from microbench.records import Finding, Severity
from microbench.runs.doctor import Context, check, finding

# Stands for the driver where there is none: what would a new installation accept?
NEWEST_DRIVER = 13000


@check("cuda")
def gpu(context: Context) -> Iterator[Finding]:
    """Whether a GPU can be used, and how to get there."""
    wanted = context.device if context.device.startswith("cuda") else "cuda:0"
    try:
        device = probe(wanted)
    except CannotRun as error:
        severity: Severity = "error" if context.device.startswith("cuda") else "info"
        says, _, remedy = str(error).partition("; ")
        yield finding("gpu", severity, says, *filter(None, (remedy,)))
        return
    yield finding("gpu", "info", f"{wanted} is {device.name} ({device.arch})")
    try:
        nominal.named(device.name)
    except UsageError as error:
        yield finding(
            "gpu-table",
            "warning",
            f"{error}; nominal rates are those of the fastest {device.arch}",
            "report its name, so that a row can be added",
        )


@check("cuda")
def gpu_code(_: Context) -> Iterator[Finding]:
    """Where machine code for GPUs would come from: shipped cubins, NVRTC, Triton, or nvcc for a rebuild."""
    from microbench.kernels.cuda import code, nvrtc

    if (word := code.forced()) is not None:
        left_out = {"nvrtc": "the package's machine code", "cubin": "NVRTC"}[word]
        yield finding("cuda-code", "warning", f"{code.FORCE}={word} leaves {left_out} out", f"unset {code.FORCE}")
    driver = extensions.cuda().driver_version() or NEWEST_DRIVER
    usable = nvrtc.usable(driver)
    yield _cubins(driver, usable.major if usable else None)
    if usable:
        yield finding("nvrtc", "info", f"NVRTC {usable.major} is here for what no cubin fits")
        return
    found = ", ".join(str(library.major) for library in nvrtc.libraries())
    here = (
        f"NVRTC {found} is too new for this driver (CUDA {driver // 1000}.{driver % 1000 // 10})"
        if found
        else "no NVRTC is here"
    )
    yield finding("nvrtc", "info", f"{here} for what no cubin fits", nvrtc.install(driver))


def _cubins(driver: int, nvrtc_major: int | None) -> Finding:
    """The cubins that are installed, or what stands in for them and how to get them."""
    from microbench.kernels.cuda import code, nvrtc
    from microbench.kernels.cuda.rows import TARGETS

    cubins = sorted(path.name for path in code.installed().glob("*.cubin")) if code.installed().is_dir() else []
    build = extensions.cuda().build_info()
    if cubins:
        there = {name.split(".")[-2] for name in cubins}
        targets = ", ".join(target for target in TARGETS if target in there)
        return finding("cubins", "info", f"{len(cubins)} cubins of nvcc {build['nvcc']} are installed, for {targets}")
    instead = (
        f"NVRTC {nvrtc_major} compiles the CUDA kernels at run time"
        if nvrtc_major
        else "Triton's kernels are what is left of the GPU's"
    )
    rebuild = (
        "rebuild with 'pip install .': nvcc is here"
        if shutil.which("nvcc")
        else "rebuild with MICROBENCH_CUDA_WHEELS=1"
    )
    says = f"no cubins ({build['why_no_cubins'] or 'none were installed'}): {instead}"
    return finding("cubins", "info", says, rebuild if nvrtc_major else f"{nvrtc.install(driver)}, or {rebuild}")


@check("cuda")
def nvml(_: Context) -> Iterator[Finding]:
    """Whether the binding is there that reads a GPU's sensors."""
    if importlib.util.find_spec("pynvml") is None:
        yield finding(
            "nvml",
            "warning",
            "nvidia-ml-py is not installed: no power, temperature or throttling",
            "pip install nvidia-ml-py",
        )
