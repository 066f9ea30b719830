"""The processor that this process runs on, as cpuid and the system describe it.

Both are hints: virtual machines misreport caches and clocks. Every source may be missing (a container without /sys, a
virtual machine without counters); what is not known is ``None``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from microbench.errors import CannotRun, UsageError
from microbench.hardware import extensions
from microbench.hardware.chips import microarchitecture
from microbench.records import Device, MemoryLevel

# The hash distinguishes devices without naming them: the salt keeps it from being looked up in a table of machines.
_SALT = b"microbench device 1"
_SYS = Path("/sys/devices/system/cpu")
_LEVELS = {1: "L1", 2: "L2", 3: "L3"}
_KIB = {"K": 2**10, "M": 2**20, "G": 2**30}


def probe(sys: Path = _SYS) -> Device:
    """Describe the processor.

    Parameters
    ----------
    sys
        Where the system describes its processors; tests pass a recorded tree.

    Raises
    ------
    CannotRun
        If this is not Linux on x86-64 or aarch64, or the native module was not built.
    """
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise CannotRun(
            f"microbench measures Linux on x86-64 or aarch64, and this is {platform.system()} on {platform.machine()}"
        )
    module = extensions.cpu()
    try:
        features = module.features()
    except ValueError as error:  # MICROBENCH_ISA names an instruction set that there is not
        raise UsageError(f"{error}; unset it or name one of these") from None
    return describe(features, module.topology(), sys)


def describe(features: Mapping[str, Any], topology: Mapping[str, Any], sys: Path = _SYS) -> Device:
    """Merge what cpuid (``features``), the native module's cache table (``topology``) and the system say."""
    allowed = sorted(os.sched_getaffinity(0))
    name = str(features.get("brand") or "").strip() or f"{platform.machine()} processor"
    flags = tuple(str(flag) for flag in features.get("flags") or ())
    levels = tuple(_levels(topology.get("caches") or (), sys, allowed[0]))
    identity = (
        features.get("vendor"),
        name,
        features.get("family"),
        features.get("model"),
        features.get("stepping"),
        len(allowed),
    )
    return Device(
        id=hashlib.blake2b(repr(identity).encode(), key=_SALT, digest_size=8).hexdigest(),
        kind="cpu",
        name=name,
        arch=microarchitecture(features, allowed[0], sys),
        units_by_kind={"core": _cores(sys, allowed), "thread": len(allowed)},
        base_clock_hz=_clock_hz(sys, allowed[0], "base_frequency"),
        boost_clock_hz=_clock_hz(sys, allowed[0], "cpuinfo_max_freq"),
        memory_bytes=psutil.virtual_memory().total,
        levels=levels,
        features=flags,
    )


def _levels(caches: Any, sys: Path, cpu: int) -> Iterator[MemoryLevel]:
    found = {int(row["level"]): row for row in caches if row.get("type") != "instruction"} or dict(
        _sysfs_caches(sys, cpu)
    )
    for number in sorted(found):
        row = found[number]
        if number in _LEVELS:
            yield MemoryLevel(
                name=_LEVELS[number],
                capacity_bytes=row.get("capacity_bytes") or None,
                line_bytes=row.get("line_bytes") or None,
                ways=row.get("ways") or None,
                shared_by=row.get("shared_by") or None,
            )
    yield MemoryLevel(name="DRAM", capacity_bytes=psutil.virtual_memory().total)


def _sysfs_caches(sys: Path, cpu: int) -> Iterator[tuple[int, dict[str, int | None]]]:
    for index in sorted((sys / f"cpu{cpu}" / "cache").glob("index*")):
        if _text(index / "type") == "Instruction" or not (level := _number(index / "level")):
            continue
        size = _text(index / "size")
        capacity = int(size[:-1]) * _KIB[size[-1]] if size and size[-1] in _KIB and size[:-1].isdigit() else None
        shared = _cpus(_text(index / "shared_cpu_list"))
        row = {"line_bytes": _number(index / "coherency_line_size"), "ways": _number(index / "ways_of_associativity")}
        yield level, {"capacity_bytes": capacity, "shared_by": len(shared) or None, **row}


def _cores(sys: Path, allowed: list[int]) -> int:
    """Physical cores among the CPUs we may use, by the system's list of siblings (a virtual machine may have none)."""
    siblings = {
        tuple(_cpus(_text(sys / f"cpu{cpu}" / "topology" / "thread_siblings_list"))) or (cpu,) for cpu in allowed
    }
    return len(siblings)


def _clock_hz(sys: Path, cpu: int, name: str) -> float | None:
    kilohertz = _number(sys / f"cpu{cpu}" / "cpufreq" / name)
    return kilohertz * 1e3 if kilohertz else None


def _cpus(text: str | None) -> list[int]:
    found: list[int] = []
    for part in (text or "").split(","):
        with contextlib.suppress(ValueError):
            first, _, last = part.strip().partition("-")
            found += range(int(first), int(last or first) + 1)
    return found


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and text.isdigit() else None
