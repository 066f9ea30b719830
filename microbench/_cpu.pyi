"""The compiled CPU module: thin, no policy. Built from csrc/cpu."""

from collections.abc import Mapping, Sequence
from typing import final

def kernels() -> list[dict[str, object]]:
    """Every registered kernel as keyword arguments of `records.Sheet`, `work` as a mapping.

    cpuid and MICROBENCH_ISA set `unavailable`.
    """

def features() -> dict[str, object]:
    """vendor, brand, family, model, stepping, flags (list of words), isa_cap, tsc_hz (None if unknown)."""

def topology() -> dict[str, object]:
    """cpus (those this process may use), caches by cpuid or sysfs.

    A cache has level, type, capacity_bytes, line_bytes, ways, shared_by.
    """

def places(cpus: Sequence[int]) -> list[dict[str, object]]:
    """What cpuid tells each of these CPUs of its place; empty on architectures without it.

    cpu, id, core_bits, package_bits, l1_bits, l2_bits, l3_bits (CPUs with equal `id >> bits` share that; None where not
    told), kind (performance, efficiency, or None where all cores are alike).
    """

def build_info() -> dict[str, object]:
    """compiler, version, optimised, sanitisers, architecture."""

def memory() -> list[dict[str, object]]:
    """Every working set of open jobs: role, cpu, pages (as asked for), bytes, huge_bytes (on 2 MiB pages, as got)."""

@final
class Job:
    """A kernel prepared on a team of pinned threads; `run` releases the GIL."""

    def run(self, iterations: int) -> tuple[int, int, bool | None, int, int, int]:
        """ns from first start to last end, iterations done, result right, and what disturbed it.

        That is involuntary switches, threads found on another CPU than they were pinned to, and the longest that a
        thread did not run (ns).
        """

    def pairs(
        self, iterations: int, reference_clock: Job | None, reference_iterations: int, count: int, limit_s: float
    ) -> tuple[tuple[int, ...], tuple[int, ...], int, int, bool | None, int, int, int]:
        """Samples that alternate with the reference clock's, the threads awake throughout.

        ns, the reference clock's ns, iterations done by either, whether every result was right, and what disturbed
        them, as `run` tells it. Two pairs at least; no more once the limit has passed. Releases the GIL.
        """

    def close(self) -> None:
        """Any thread may; what another one measures meanwhile ends first, and frees it then."""

def prepare(kernel: str, cpus: Sequence[int], params: Mapping[str, int | float | str | bool]) -> Job:
    """Raises ValueError for an unknown kernel or parameter, RuntimeError for one that cannot run here, MemoryError."""
