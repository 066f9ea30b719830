"""Whether every kernel of a device computes what it must, each in a process that may hang or die alone.

``python -m microbench.runs.check`` is such a process: it checks the kernels of one part, and tells each start and end.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from microbench.errors import CannotRun, ContextLost, MicrobenchError, UsageError
from microbench.records import Device, Row, Sheet
from microbench.runs import isolation
from microbench.runs.isolation import Limits, Outcome, Stand

if TYPE_CHECKING:
    from microbench.kernels import Kernel

RIGHT, WRONG, REFUSED, ERROR, LOST, UNAVAILABLE = "right", "wrong", "refused", "error", "lost", "unavailable"
FINE = (RIGHT, UNAVAILABLE)
# Parts of a backend that may be done side by side: torch's library is loaded once, and Triton compiles on the host.
_MOST_PARTS = {"torch": 1, "triton": 3}
_MOST_JOBS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is checked: kernels by name (patterns; empty means all) and backends (empty means all), ``jobs`` at a time.

    ``under`` is a command that every process is started by, such as a memory checker.
    """

    only: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    jobs: int | None = None
    limits: Limits = field(default_factory=Limits)
    under: tuple[str, ...] = ()


def check(device: Device, wanted: Wanted, hear: Callable[[Stand], None] = lambda _: None) -> list[Outcome]:
    """Check every kernel of a device in processes of their own.

    Parameters
    ----------
    device
        As it was probed; the processes probe it again.
    wanted
        Which kernels, and how long they may take.
    hear
        Called as `isolation.watch` does.

    Returns
    -------
    list of Outcome
        ``right``, ``wrong`` (another value than the operands give), ``refused`` (a sentence says why it cannot run),
        ``error`` (anything else that was raised), ``lost`` (the device answered no more), ``unavailable`` (the sheet
        says why), and the watcher's ``hang``, ``died``, ``no start``, ``not reached``.

    Raises
    ------
    UsageError
        If no kernel matches, or a backend is unknown.
    """
    from microbench.kernels import backends

    known = backends(device)
    unknown = [name for name in wanted.backends if name not in known]
    if unknown:
        raise UsageError(f"no backend {unknown[0]!r} on {spec(device)}; known: {', '.join(known)}")
    jobs = wanted.jobs or (1 if device.kind == "cpu" else min(_MOST_JOBS, len(os.sched_getaffinity(0))))
    groups = []
    for backend in wanted.backends or known:
        parts = min(jobs, _MOST_PARTS.get(backend, jobs))
        groups += [_group(device, wanted, f"{backend}:{part}/{parts}") for part in range(parts)]
    found = isolation.watch(groups, jobs, wanted.limits, hear)
    if not found:
        asked = ", ".join((*wanted.only, *wanted.backends)) or "the device"
        raise UsageError(f"no kernel matches {asked}; 'microbench list kernels' shows names")
    return found


def spec(device: Device) -> str:
    """What a device is called on the command line."""
    return "cpu" if device.kind == "cpu" else f"cuda:{device.index}"


def _group(device: Device, wanted: Wanted, part: str) -> isolation.Group:
    command = [*wanted.under, sys.executable, "-m", "microbench.runs.check", "--device", spec(device), "--part", part]
    for glob in wanted.only:
        command += ["--only", glob]
    return isolation.Group(name=part.partition(":")[0], command=tuple(command))


def family(sheet: Sheet) -> str:
    """What a kernel belongs to, for a person: its source file, or its backend where that is all there is.

    Examples
    --------
    >>> family(Sheet(name="a", measures="cost", backend="cuda", device_kind="cuda", says="", source="b/stream.cu"))
    'stream'
    """
    return sheet.backend if sheet.backend in ("torch", "triton") or not sheet.source else Path(sheet.source).stem


def counted(outcomes: Sequence[Outcome]) -> str:
    """How many kernels ended how, in a line.

    Examples
    --------
    >>> counted([Outcome(item=name, group="cuda", status=how) for name, how in (("a", "hang"), ("b", "right"))])
    '1 right, 1 hang'
    """
    order = (RIGHT, WRONG, isolation.HUNG, isolation.DIED, LOST, REFUSED, ERROR)
    counts = Counter(outcome.status for outcome in outcomes)
    words = [*(word for word in order if word in counts), *(word for word in counts if word not in order)]
    return ", ".join(f"{counts[word]} {word}" for word in words)


def rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """Outcomes as rows, for a table or a file."""
    return [
        {
            "kernel": outcome.item or None,
            "family": outcome.facts.get("family", outcome.group),
            "backend": outcome.group,
            "status": outcome.status,
            "says": outcome.says,
            "seconds": round(outcome.seconds, 3),
            "stderr": outcome.tail or None,
        }
        for outcome in outcomes
    ]


def faults(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Outcomes that are neither right nor known beforehand to be impossible here."""
    return [outcome for outcome in outcomes if outcome.status not in FINE]


def demand_some(outcomes: Sequence[Outcome]) -> None:
    """Refuse to call a device right of which nothing could be checked.

    Raises
    ------
    CannotRun
        If every kernel is unavailable here, was refused, or its process could not start.
    """
    if all(outcome.status in (UNAVAILABLE, REFUSED, isolation.NOT_STARTED) for outcome in outcomes):
        first = min(outcomes, key=lambda outcome: outcome.status == UNAVAILABLE)
        raise CannotRun(f"no kernel can be checked here: {first.item or first.group}: {first.says}")


def outcome_of(kernel: Kernel, device: Device) -> tuple[str, str | None]:
    """Check one kernel here and now: how it ended, and what there is to say."""
    if kernel.sheet.unavailable:
        return UNAVAILABLE, kernel.sheet.unavailable
    try:
        finding = kernel.check(device)
    except ContextLost as error:
        return LOST, str(error)
    except MicrobenchError as error:
        # A library tells of a lost context in its own words.
        return (LOST if "CUDA error" in str(error) else REFUSED), str(error)
    except Exception as error:  # noqa: BLE001 - whatever a kernel raises is what this looks for
        return (LOST if "CUDA error" in str(error) else ERROR), f"{type(error).__name__}: {error}"
    return (RIGHT, None) if finding is None else (WRONG, finding.says)


def _chosen(device: Device, part: str, only: Sequence[str]) -> list[Kernel]:
    """The kernels of ``backend:part/parts``, a stretch of the backend's that match."""
    from microbench.kernels import backends

    backend, _, share = part.partition(":")
    number, parts = map(int, share.split("/"))
    kernels = backends(device)[backend](device)
    found = [each for each in kernels if not only or any(fnmatchcase(each.sheet.name, glob) for glob in only)]
    return found[number * len(found) // parts : (number + 1) * len(found) // parts]


def _work(options: argparse.Namespace) -> int:
    """Check the kernels of one part; end behind the one that lost the device."""
    from microbench.hardware import probe

    channel = isolation.Channel()
    device = probe(options.device)
    skip = set(options.skip.split(","))
    chosen = [kernel for kernel in _chosen(device, options.part, options.only) if kernel.sheet.name not in skip]
    channel.ready([kernel.sheet.name for kernel in chosen])
    for kernel in chosen:
        channel.start(kernel.sheet.name)
        status, says = outcome_of(kernel, device)
        channel.done(kernel.sheet.name, status, says, family=family(kernel.sheet))
        if status == LOST:
            return CannotRun.exit_code
    return 0


def _main() -> int:
    faulthandler.enable()
    parser = argparse.ArgumentParser(prog="microbench.runs.check")
    for name in ("--device", "--part"):
        parser.add_argument(name, required=True)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--skip", default="")
    try:
        return _work(parser.parse_args())
    except MicrobenchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(_main())
