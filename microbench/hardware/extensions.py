"""The two compiled modules: imported when something asks for them, with a sentence where they were not built."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from microbench.errors import CannotRun, UsageError

# The modules that tell interpreters apart, in one version of Python and another.
_INTERPRETERS = ("_interpreters", "_xxsubinterpreters")


def _in_main_interpreter() -> None:
    """Refuse a sub-interpreter, in which loading such a module may wait for itself for ever."""
    for name in _INTERPRETERS:
        try:
            known = import_module(name)
        except ImportError:
            continue
        if known.get_current() != known.get_main():
            raise CannotRun("the compiled kernels run in no sub-interpreter; measure in the main one, or in a process")
        return


def cpu() -> ModuleType:
    """Return the compiled CPU kernels, ``_cpu``.

    Raises
    ------
    CannotRun
        If it was not built, was built for another Python or CPU, or this is a sub-interpreter.
    UsageError
        If ``MICROBENCH_ISA`` names no instruction set.
    """
    _in_main_interpreter()
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
        If the package runs from a checkout that was not installed, or this is a sub-interpreter.
    """
    _in_main_interpreter()
    try:
        from microbench import _cuda
    except ImportError as error:
        raise CannotRun(f"the CUDA half is not built here ({error}): pip install .") from error
    return _cuda
