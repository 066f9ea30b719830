"""The compiled CUDA host: the driver API found at run time, thin, no policy. Built from csrc/cuda."""

from collections.abc import Mapping, Sequence
from typing import final

from typing_extensions import Buffer as ReadableBuffer

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
    """compiler, optimised, cubins (how many), nvcc (its version or ""), why_no_cubins ("" where they were built)."""

def exports() -> list[tuple[str, bool]]:
    """The exact exported name of every driver function used, and whether it is required."""

def can_access_peer(ordinal: int, peer: int) -> bool: ...

@final
class Buffer:
    """Device memory."""

    address: int
    size: int
    def write(self, data: ReadableBuffer, offset: int = 0) -> None: ...
    def read(self, offset: int, size: int) -> bytes: ...
    def fill(self, word: int) -> None: ...
    def close(self) -> None: ...

@final
class Pinned:
    """Page-locked host memory that the device sees too; a writable buffer of bytes."""

    address: int
    device_address: int
    size: int
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def close(self) -> None: ...

@final
class Module:
    """Machine code loaded on a device."""

    def function(self, name: str) -> Function: ...
    def close(self) -> None: ...

@final
class Function:
    name: str
    def attribute(self, which: int) -> int: ...
    def set_attribute(self, which: int, value: int) -> None: ...
    def occupancy(self, threads: int, shared_bytes: int = 0) -> int: ...

@final
class Launch:
    """One launch with its parameters packed as the kernel lays them out."""

    def __init__(
        self,
        function: Function,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared_bytes: int,
        params: bytes,
    ) -> None: ...

@final
class Gate:
    """A kernel that holds the queue until the host opens it through `flag`."""

    def __init__(self, launch: Launch, flag: Pinned) -> None: ...

@final
class Context:
    """The device's primary context: shared, retained, never reset."""

    name: str
    subject: str
    lost: bool
    def __init__(self, ordinal: int) -> None: ...
    def memory_info(self) -> tuple[int, int]: ...
    def synchronize(self) -> None: ...
    def load(self, image: bytes) -> Module: ...
    def alloc(self, size: int) -> Buffer: ...
    def pinned(self, size: int) -> Pinned: ...
    def enable_peer(self, peer: Context) -> None: ...

class CopyKind:
    to_device: CopyKind
    to_host: CopyKind
    on_device: CopyKind
    peer: CopyKind

@final
class Copy:
    def __init__(
        self,
        kind: CopyKind,
        to: int,
        source: int,
        size: int,
        to_context: Context | None = None,
        from_context: Context | None = None,
    ) -> None: ...

@final
class Timer:
    """Times are in nanoseconds; every call waits and releases the interpreter lock."""

    def __init__(self, context: Context) -> None: ...
    def launches(self, launch: Launch, count: int = 1, gate: Gate | None = None) -> float: ...
    def replay(self, launch: Launch, nodes: int, replays: int) -> float: ...
    def copies(self, together: Sequence[Copy], times: int) -> float: ...
    def enqueue(self, launch: Launch, count: int) -> float: ...
    def round_trip(self, launch: Launch, nodes: int = 0) -> float: ...
    def host_copy(self, copy: Copy) -> float: ...
