"""Kernels of the compiled CPU module: its sheets as records, its jobs as prepared kernels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from microbench.errors import CannotRun, UsageError
from microbench.hardware import extensions
from microbench.hardware.placement import cpus_of
from microbench.kernels import Kernel, Pairs, Prepared
from microbench.records import Case, Device, Finding, Sheet, Timing, Value, Work

# Enough iterations for every accumulator to turn its sign at least once, and still far below a millisecond.
CHECK_ITERATIONS = 5000


def sheets() -> list[Sheet]:
    """Return the data sheet of every CPU kernel of this build, unavailable ones included.

    Raises
    ------
    CannotRun
        If the compiled module is missing.
    UsageError
        If ``MICROBENCH_ISA`` names no instruction set.
    """
    return [sheet_of(row) for row in extensions.cpu().kernels()]


def kernels(_device: Device) -> Iterator[Kernel]:
    """Every CPU kernel of this build."""
    for sheet in sheets():
        yield Kernel(sheet=sheet, prepare=_Native(sheet), check=_Native(sheet).check)


def sheet_of(row: Mapping[str, Any]) -> Sheet:
    """The record of a sheet as the compiled module tells it."""
    if not row["roles"]:
        raise ValueError(
            f"kernel {row['name']} ({row['source']}) declares no roles; csrc/kernel.hpp says which there are"
        )
    return Sheet(**{**row, "work": Work(**row["work"])})


class _Native:
    """How one kernel of the compiled module is prepared and checked."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet

    def __call__(
        self, device: Device, params: Mapping[str, Value], threads: int, cpus: Sequence[int] | None = None
    ) -> _Job:
        """Pin so many threads, one on each of the CPUs, and let each fill its own operands.

        Without ``cpus`` they are those of the device's placement of so many threads, or the first of this process.

        Raises
        ------
        UsageError
            If a parameter is unknown or out of range, or there are not as many CPUs as threads.
        CannotRun
            If the kernel needs what this machine lacks.
        """
        if self._sheet.unavailable is not None:
            raise CannotRun(
                f"{self._sheet.name} {self._sheet.unavailable}; 'microbench list kernels --device {device.kind}' "
                "shows what can run here"
            )
        native = extensions.cpu()
        allowed = native.topology()["cpus"]
        if not 1 <= threads <= len(allowed):
            raise UsageError(
                f"{threads} threads asked for, but this process may use {len(allowed)} CPUs; ask for 1 to "
                f"{len(allowed)}"
            )
        cpus = cpus or cpus_of(Case(kernel=self._sheet.name, threads=threads), device) or allowed[:threads]
        if len(cpus) != threads or not set(cpus) <= set(allowed):
            raise UsageError(
                f"{threads} threads were to run on CPUs {', '.join(map(str, cpus))}, and this process may use "
                f"{', '.join(map(str, allowed))}; measure anew where the CPUs are as they are now"
            )
        try:
            return _Job(native.prepare(self._sheet.name, list(cpus), dict(params)))
        except ValueError as error:
            raise UsageError(f"{self._sheet.name}: {error}") from error
        except (RuntimeError, MemoryError) as error:
            raise CannotRun(f"{self._sheet.name} cannot run here: {error or 'out of memory'}") from error

    def check(self, device: Device) -> Finding | None:
        """Run a small launch and compare its result; ``None`` where it is right or the kernel leaves none."""
        # What a result depends on is not the size of pages, and any system has small ones.
        job = self(device, {"pages": "4k"} if "pages" in self._sheet.params else {}, 1)
        try:
            timing = job.run(CHECK_ITERATIONS)
        finally:
            job.close()
        if timing.checked is not False:
            return None
        return Finding(
            code="wrong-result",
            severity="error",
            says=(
                f"{self._sheet.name} left a wrong result after {timing.iterations} iterations, so its rates mean "
                "nothing"
            ),
            remedy="check the memory and cooling of this machine, then rebuild with pip install --force-reinstall .",
        )


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """Turn what the compiled module throws into errors of this project."""
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError(str(error)) from error
    except RuntimeError as error:
        raise CannotRun(str(error)) from error


class _Job:
    """One kernel on its pinned threads."""

    def __init__(self, job: Any) -> None:
        self.job = job

    def run(self, iterations: int) -> Timing:
        """Time at least so many iterations on every thread, from the first start to the last end.

        Raises
        ------
        CannotRun
            If the job was closed.
        UsageError
            If no iteration is asked for.
        """
        with _in_words():
            ns, done, checked, switches, moved, away_ns = self.job.run(iterations)
        return Timing(ns=ns, iterations=done, checked=checked, switches=switches, moved=moved, away_ns=away_ns)

    def pairs(
        self, iterations: int, reference_clock: Prepared | None, reference_iterations: int, count: int, limit_s: float
    ) -> Pairs:
        """Time ``count`` samples that alternate with the reference clock's; the threads stay awake in between.

        At least two pairs are taken, and none begins when ``limit_s`` seconds have passed; only then is Ctrl-C heard.

        Raises
        ------
        CannotRun
            If either job was closed.
        UsageError
            If no iteration or no sample is asked for, or the reference clock is no native kernel on the same CPUs.
        """
        if reference_clock is not None and not isinstance(reference_clock, _Job):
            raise UsageError("a reference clock of a native kernel must be a native kernel too")
        with _in_words():
            ns, reference_ns, done, reference_done, checked, switches, moved, away_ns = self.job.pairs(
                iterations,
                reference_clock.job if reference_clock is not None else None,
                reference_iterations,
                count,
                limit_s,
            )
        return Pairs(
            ns=ns,
            iterations=done,
            reference_ns=reference_ns,
            reference_iterations=reference_done,
            checked=checked,
            switches=switches,
            moved=moved,
            away_ns=away_ns,
        )

    def close(self) -> None:
        """End the threads and free their memory; what another thread measures meanwhile ends first."""
        self.job.close()
