"""The compiled CUDA host: the driver API found at run time, thin, no policy. Built from csrc/cuda."""

from collections.abc import Mapping

class NoDriver(RuntimeError):
    """No driver library here, or one without a function that the project needs."""

class DriverError(RuntimeError):
    """A driver call failed; the text names call, device and case."""

    call: str
    code: int
    lost: bool

def driver_version() -> int:
    """12080 for CUDA 12.8; 0 where there is no driver."""

def device_count() -> int:
    """Raises NoDriver or DriverError."""

def device_facts(ordinal: int, attributes: Mapping[str, int]) -> dict[str, object]:
    """name, uuid (16 bytes), memory_bytes, pci, and each attribute asked for (None where the driver will not say)."""

def build_info() -> dict[str, object]:
    """compiler, optimised, cubins (how many were built), nvcc (its version or ""), why_no_cubins ("" where they were built)."""

def exports() -> list[tuple[str, bool]]:
    """The exact exported name of every driver function used, and whether it is required."""
