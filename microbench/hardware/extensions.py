"""The two compiled modules: imported when something asks for them, with a sentence where they were not built."""

from __future__ import annotations

from types import ModuleType

from microbench.errors import CannotRun, UsageError


def cpu() -> ModuleType:
    """Return the compiled CPU kernels, ``_cpu``.

    Raises
    ------
    CannotRun
        If it was not built, or was built for another Python or CPU.
    UsageError
        If ``MICROBENCH_ISA`` names no instruction set.
    """
    try:
        from microbench import _cpu
    except ImportError as error:
        raise CannotRun(f"the CPU kernels are not built here: pip install . ({error})") from error
    try:
        _cpu.features()
    except ValueError as error:
        raise UsageError(str(error)) from error
    return _cpu


def cuda() -> ModuleType:
    """Return the compiled CUDA host, ``_cuda``; it needs neither a driver nor a GPU.

    Raises
    ------
    CannotRun
        If the package runs from a checkout that was not installed.
    """
    try:
        from microbench import _cuda
    except ImportError as error:
        raise CannotRun(f"the CUDA half is not built here ({error}): pip install .") from error
    return _cuda
