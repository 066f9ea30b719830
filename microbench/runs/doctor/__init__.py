"""What could spoil a measurement here, or keep one from running; each finding has a remedy, and nothing is changed.

A check is a function under `check` in a file of this folder, and is found there by itself. It yields a finding also
where all is well (severity info), so that the report of a good machine is a list of facts rather than silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from microbench.errors import CannotRun, MicrobenchError, UsageError
from microbench.hardware import probe
from microbench.hardware.procfs import Machine
from microbench.records import Finding, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is examined: a device by its spelling, a machine, and the folder where results would go."""

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


def finding(code: str, severity: Severity, says: str, remedy: str = "") -> Finding:
    """What a check yields: ``info`` where all is well, ``error`` where nothing can be measured until it is mended."""
    return Finding(code=code, severity=severity, says=says, remedy=remedy)


def checks() -> list[tuple[str, Check]]:
    """All checks of this folder's files with the kind of device they concern, file by file in order of their names."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return CHECKS


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
    for concerns, function in checks():
        if concerns not in ("any", kind) and device != "auto":
            continue
        try:
            found.extend(function(context))
        except (MicrobenchError, OSError, ValueError) as error:
            name = function.__name__.replace("_", "-")
            says = f"the check {name} itself failed: {error}"
            found.append(finding(name, "warning", says, "report it with the output of microbench doctor"))
    return found
