"""One registry of kernels, whatever they are written in: C++, CUDA C++, Triton, or a vendor library behind torch.

A `Kernel` is a sheet of facts and two functions. `measure` never asks which kind it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from microbench.records import Device, Finding, Sheet, Timing, Value


class Prepared(Protocol):
    """A kernel with its memory allocated and its code loaded, ready to be timed."""

    def run(self, iterations: int) -> Timing:
        """Time at least so many iterations of the sheet's loop; ``Timing.iterations`` says how many ran.

        A memory kernel goes on where the last call stopped and wraps at the end of its working set, so that a sample
        need not be a whole pass.
        """

    def close(self) -> None:
        """Free what `prepare` took. Calling it twice is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """A burst of samples, each followed by one of a reference clock: nanoseconds and iterations of either.

    ``checked`` is false where any launch left a wrong result, ``switches`` counts involuntary context switches over the
    whole burst; ``moved`` and ``away_ns`` are those of `Timing`.
    """

    ns: tuple[int, ...]
    iterations: int
    reference_ns: tuple[int, ...] = ()
    reference_iterations: int = 0
    checked: bool | None = None
    switches: int = 0
    moved: int = 0
    away_ns: int = 0


@runtime_checkable
class Pairing(Prepared, Protocol):
    """A prepared kernel whose threads stay awake over a burst, so that its samples may be a few microseconds short."""

    def pairs(
        self, iterations: int, reference_clock: Prepared | None, reference_iterations: int, count: int, limit_s: float
    ) -> Pairs:
        """Take so many samples, each followed by one of the reference clock on the same threads.

        Two at least, and none begins after the limit.
        """
        ...


@runtime_checkable
class Bursting(Prepared, Protocol):
    """A prepared kernel that launches back to back, and compares results when the burst is over."""

    def burst(self, iterations: int, count: int, limit_s: float) -> list[Timing]:
        """Take so many samples, one at least, and none that begins after the limit."""
        ...


@runtime_checkable
class Warming(Prepared, Protocol):
    """A prepared kernel that brings its working set to where its case wants it faster than by running over it."""

    def warm(self) -> None:
        """Do it; nothing of this is timed."""
        ...


class Prepare(Protocol):
    """Allocate, fill and compile everything that must not be timed."""

    def __call__(
        self, device: Device, params: Mapping[str, Value], threads: int, cpus: Sequence[int] | None = None
    ) -> Prepared:
        """Make a kernel ready to be timed on so many threads, one on each of ``cpus`` where a CPU's kernel has them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A sheet plus the functions that carry it out.

    ``check`` compares with a plain reference at a small size and returns a finding where the result is wrong, ``None``
    where it is right. It is called once before a kernel is timed.
    """

    sheet: Sheet
    prepare: Prepare
    check: Callable[[Device], Finding | None]


def registry(device: Device) -> dict[str, Kernel]:
    """All kernels for a device by name, unavailable ones included (``sheet.unavailable`` has the reason)."""
    found: dict[str, Kernel] = {}
    for kernel in _collect(device):
        if kernel.sheet.name in found:
            raise ValueError(f"two kernels are named {kernel.sheet.name}")
        found[kernel.sheet.name] = kernel
    return found


def _collect(device: Device) -> Iterable[Kernel]:
    for kernels in backends(device).values():
        yield from kernels(device)


def backends(device: Device) -> dict[str, Callable[[Device], Iterable[Kernel]]]:
    """The backends of a kind of device by name, each with what lists its kernels; one loads nothing for another."""
    if device.kind == "cpu":
        return {"native": _native, "torch": _library}
    return {"cuda": _cuda, "triton": _triton, "torch": _library}


def _native(device: Device) -> Iterable[Kernel]:
    from microbench.kernels import cpu

    return cpu.kernels(device)


def _cuda(device: Device) -> Iterable[Kernel]:
    from microbench.kernels.cuda import registry as cuda

    return cuda.kernels(device)


def _triton(device: Device) -> Iterable[Kernel]:
    from microbench.kernels.triton import registry as triton

    return triton.kernels(device)


def _library(device: Device) -> Iterable[Kernel]:
    from microbench.kernels import library

    return library.kernels(device)
