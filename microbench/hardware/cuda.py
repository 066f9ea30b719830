"""NVIDIA GPUs: whether one can be used here, what it is, and what it says about itself.

Facts come from the driver (by ordinal) and from NVML (by UUID, because NVML counts devices that the driver is told to
hide).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from microbench.errors import CannotRun, UsageError
from microbench.hardware import extensions, identity
from microbench.records import Device, MemoryLevel, Value

FLOOR = 12000  # CUDA 12.0, driver 525: the oldest whose cubins and graph calls this project uses
FLOOR_DRIVER = 525
CPU_INSTEAD = "or measure the processor with 'microbench run --device cpu'"

# Codes of cuInit that have a known cure.
_NO_DEVICE, _STUB, _NOT_READY, _MISMATCH = 100, 34, 802, 803
_CURES = {
    _STUB: (
        "the library path leads to the toolkit's stub instead of the driver's own libcuda.so.1; take lib64/stubs out "
        "of LD_LIBRARY_PATH"
    ),
    _NOT_READY: "the system is not ready; on NVSwitch machines start the fabric manager, then try again",
    _MISMATCH: (
        "the driver's libraries and its kernel module differ in version; reboot, or start the container on a matching "
        "host"
    ),
}

# CUdevice_attribute by the name used here.
ATTRIBUTES = {
    "warp_size": 10,
    "clock_khz": 13,
    "multiprocessors": 16,
    "kernel_timeout": 17,
    "integrated": 18,
    "compute_mode": 20,
    "ecc": 32,
    "memory_clock_khz": 36,
    "bus_bits": 37,
    "l2_bytes": 38,
    "threads_per_multiprocessor": 39,
    "major": 75,
    "minor": 76,
    "shared_per_multiprocessor": 81,
    "registers_per_multiprocessor": 82,
    "shared_per_block_optin": 97,
    "blocks_per_multiprocessor": 106,
}
_EDGES = 2  # data moves on both edges of the memory clock that the driver tells, whatever the kind of memory
_YES_OR_NO = {"kernel_timeout", "integrated", "ecc", "compute_mode", "minor"}  # where 0 is an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What one compute capability has in a multiprocessor, which the driver does not tell.

    Parameters
    ----------
    capability
        Major and minor version.
    name
        The vendor's name of the architecture.
    lanes
        FP32 lanes ("CUDA cores").
    tensor_cores
        Matrix units.
    l1_bytes
        The memory that L1 and shared memory divide among them.
    specific
        Suffixes of the targets with features of this chip (``a``) or its family (``f``).
    """

    capability: tuple[int, int]
    name: str
    lanes: int
    tensor_cores: int
    l1_bytes: int
    specific: str = ""


# Source: the CUDA programming guide's table of compute capabilities and the vendor's architecture papers.
GENERATIONS = {
    row.capability: row
    for row in (
        Generation(capability=(7, 5), name="Turing", lanes=64, tensor_cores=8, l1_bytes=96 << 10),
        Generation(capability=(8, 0), name="Ampere", lanes=64, tensor_cores=4, l1_bytes=192 << 10),
        Generation(capability=(8, 6), name="Ampere", lanes=128, tensor_cores=4, l1_bytes=128 << 10),
        Generation(capability=(8, 7), name="Ampere", lanes=128, tensor_cores=4, l1_bytes=192 << 10),
        Generation(capability=(8, 9), name="Ada", lanes=128, tensor_cores=4, l1_bytes=128 << 10),
        Generation(capability=(9, 0), name="Hopper", lanes=128, tensor_cores=4, l1_bytes=256 << 10, specific="a"),
        Generation(capability=(10, 0), name="Blackwell", lanes=128, tensor_cores=4, l1_bytes=256 << 10, specific="af"),
        Generation(capability=(10, 3), name="Blackwell", lanes=128, tensor_cores=4, l1_bytes=256 << 10, specific="af"),
        Generation(capability=(11, 0), name="Blackwell", lanes=128, tensor_cores=4, l1_bytes=256 << 10, specific="af"),
        Generation(capability=(12, 0), name="Blackwell", lanes=128, tensor_cores=4, l1_bytes=128 << 10, specific="af"),
        Generation(capability=(12, 1), name="Blackwell", lanes=128, tensor_cores=4, l1_bytes=128 << 10, specific="af"),
    )
}


def _written(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _hidden() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"


def count() -> int:
    """Return how many GPUs this process can use.

    Raises
    ------
    CannotRun
        If there is no driver, it is too old, or it sees no GPU; each with its own sentence.
    """
    cuda = extensions.cuda()
    version = cuda.driver_version()
    if 0 < version < FLOOR:
        raise CannotRun(
            f"the NVIDIA driver here stops at CUDA {_written(version)}, and CUDA {_written(FLOOR)} (driver "
            f"{FLOOR_DRIVER}) is needed; "
            f"update the driver, {CPU_INSTEAD}"
        )
    try:
        found = int(cuda.device_count())
    except cuda.NoDriver as error:
        raise CannotRun(
            f"no GPU can be used here: {error}; install the NVIDIA driver {FLOOR_DRIVER} or newer "
            f"(in a container: start it with --gpus all), {CPU_INSTEAD}"
        ) from error
    except cuda.DriverError as error:
        if error.code == _NO_DEVICE:
            found = 0
        else:
            cure = _CURES.get(error.code, "see the kernel's log (dmesg) and 'nvidia-smi'")
            raise CannotRun(f"no GPU can be used here: {error}; {cure}, {CPU_INSTEAD}") from error
    if found == 0:
        advice = "unset CUDA_VISIBLE_DEVICES or name a GPU in it" if _hidden() else "check that 'nvidia-smi' lists one"
        raise CannotRun(
            f"the NVIDIA driver (CUDA {_written(version)}) is here but sees no GPU{_hidden()}; {advice}, {CPU_INSTEAD}"
        )
    return found


def targets(major: int, minor: int) -> tuple[str, ...]:
    """List the targets whose machine code runs on a compute capability, the most specific first.

    Examples
    --------
    >>> targets(9, 0), targets(8, 9)
    (('sm_90a', 'sm_90'), ('sm_89', 'sm_87', 'sm_86', 'sm_80'))
    """
    row = GENERATIONS.get((major, minor))
    found = [f"sm_{major}{minor}{suffix}" for suffix in (row.specific if row else "")]
    older = sorted((known for known in GENERATIONS if known[0] == major and known[1] < minor), reverse=True)
    found += [f"sm_{a}{b}f" for a, b in older if "f" in GENERATIONS[a, b].specific]
    found += [f"sm_{major}{minor}", *(f"sm_{a}{b}" for a, b in older)]
    return tuple(found)


def imagined(arch: str) -> Device:
    """Return a device of a compute target that need not be here, so that its kernels can be listed.

    Raises
    ------
    UsageError
        If the target is not spelt like ``sm_90a`` or its capability is unknown.

    Examples
    --------
    >>> imagined("sm_90a").features
    ('sm_90a', 'sm_90')
    """
    digits = arch.removeprefix("sm_").rstrip("af")
    capability = (
        (int(digits[:-1]), int(digits[-1])) if arch.startswith("sm_") and digits.isdigit() and len(digits) > 1 else None
    )
    if capability not in GENERATIONS:
        known = ", ".join(targets(*each)[0] for each in GENERATIONS)
        raise UsageError(f"unknown CUDA target {arch!r}; known: {known}")
    code = targets(*capability)
    return Device(id="0" * 16, kind="cuda", name=f"an {GENERATIONS[capability].name} GPU", arch=code[0], features=code)


def raw(index: int) -> dict[str, Any]:
    """Return what the driver says about a GPU; an attribute that reads 0 where 0 is no answer becomes ``None``.

    Raises
    ------
    CannotRun
        If there is no such GPU, or asking fails.
    """
    cuda = extensions.cuda()
    there = count()
    if index >= there:
        names = ", ".join(f"cuda:{number}" for number in range(there))
        raise CannotRun(
            f"there is no cuda:{index}{_hidden()}: this machine shows {names}; 'microbench list devices' describes them"
        )
    try:
        found: dict[str, Any] = cuda.device_facts(index, ATTRIBUTES)
    except cuda.DriverError as error:
        raise CannotRun(f"{error}; see the kernel's log (dmesg) and 'nvidia-smi', {CPU_INSTEAD}") from error
    return {key: None if value == 0 and key not in _YES_OR_NO else value for key, value in found.items()}


def probe(index: int = 0) -> Device:
    """Describe ``cuda:index``.

    Clocks are in hertz, capacities in bytes (L1 and shared per multiprocessor, L2 and DRAM per device).

    Raises
    ------
    CannotRun
        If it cannot be used; the sentence says why and what to do.
    """
    from microbench.hardware import nvml

    found = raw(index)
    sensors = nvml.facts(found["uuid"])
    return describe(index, found, sensors)


def describe(index: int, found: dict[str, Any], sensors: dict[str, Value | None]) -> Device:
    """Turn the driver's and NVML's answers into a record."""
    major, minor = found["major"], found["minor"] or 0
    if major is None:
        raise CannotRun(
            f"cuda:{index} does not tell its compute capability, so no machine code can be chosen for it; {CPU_INSTEAD}"
        )
    row = GENERATIONS.get((major, minor))
    multiprocessors = found["multiprocessors"]
    units = {"sm": multiprocessors} if multiprocessors else {}
    if row and multiprocessors:
        units |= {"cuda_core": multiprocessors * row.lanes, "tensor_core": multiprocessors * row.tensor_cores}
    clock = found["clock_khz"] * 1e3 if found["clock_khz"] else sensors.get("max_clock_hz")
    code = targets(major, minor)
    levels = (
        MemoryLevel(name="L1", capacity_bytes=row.l1_bytes if row else None, line_bytes=128, shared_by=1),
        MemoryLevel(name="shared", capacity_bytes=found["shared_per_multiprocessor"], shared_by=1),
        MemoryLevel(name="L2", capacity_bytes=found["l2_bytes"], line_bytes=128, shared_by=multiprocessors),
        MemoryLevel(
            name="DRAM",
            capacity_bytes=found["memory_bytes"],
            shared_by=multiprocessors,
            bus_rate=_bus_rate(found, sensors),
        ),
    )
    limit = sensors.get("power_limit_w")
    sku = identity.sku_id((found["name"], major, minor, multiprocessors, sensors.get("mig_instance")))
    return Device(
        id=identity.node_id(sku, found["uuid"]),
        sku=sku,
        kind="cuda",
        name=found["name"],
        arch=code[0],
        index=index,
        units_by_kind=units,
        boost_clock_hz=float(clock) if clock else None,
        memory_bytes=found["memory_bytes"],
        power_limit_w=float(limit) if limit else None,
        levels=levels,
        features=code,
    )


def _bus_rate(found: dict[str, Any], sensors: dict[str, Value | None]) -> float | None:
    """Byte/s of the memory bus; ``None`` where width or clock is unknown, and for a MIG slice of unknown share."""
    clock = found["memory_clock_khz"] * 1e3 if found["memory_clock_khz"] else sensors.get("max_memory_clock_hz")
    if not found["bus_bits"] or not clock or sensors.get("mig_instance"):
        return None
    return float(found["bus_bits"]) / 8 * _EDGES * float(clock)


def facts(index: int = 0) -> dict[str, Value | None]:
    """Return the conditions that numbers of a GPU are measured under: driver, ECC, MIG, bus, PCIe, clocks, limits.

    Keys carry their unit; ``None`` is unknown. No serial number, UUID or bus address is among them.
    """
    from microbench.hardware import nvml

    found = raw(index)
    row = GENERATIONS.get((found["major"], found["minor"] or 0))
    own: dict[str, Value | None] = {
        "cuda_driver": _written(extensions.cuda().driver_version()),
        "architecture": row.name if row else None,
        "compute_capability": f"{found['major']}.{found['minor'] or 0}",
        "ecc": None if found["ecc"] is None else bool(found["ecc"]),
        "integrated": None if found["integrated"] is None else bool(found["integrated"]),
        "kernel_timeout": None if found["kernel_timeout"] is None else bool(found["kernel_timeout"]),
        "memory_bus_bits": found["bus_bits"],
        "memory_clock_hz": found["memory_clock_khz"] * 1e3 if found["memory_clock_khz"] else None,
        "cuda_visible_devices_set": "CUDA_VISIBLE_DEVICES" in os.environ,
    }
    return own | nvml.facts(found["uuid"])
