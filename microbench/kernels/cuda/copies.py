"""Copies between host, device and other devices: by the copy engines, by multiprocessors; what arrives is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from microbench.kernels.cuda.device import DeviceSession, Stage
from microbench.kernels.cuda.reference import ELEMENT_BYTES
from microbench.kernels.cuda.row import packed
from microbench.kernels.cuda.rows import ROWS
from microbench.records import Timing

if TYPE_CHECKING:
    from microbench import _cuda

CHUNK = 4096  # bytes that one iteration of a copy carries each way
CHECKED_BYTES = 1 << 20
SM_ROW = "copy.i32.u4"


@dataclass(slots=True)
class _Ends:
    """Source and target of one copy, with what must arrive."""

    device: _cuda.Buffer
    host: Any
    address: int


def _pattern(size: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, size=size, dtype=np.uint8)


class CopyJob:
    """A copy between host and device; what arrived is looked at after every run."""

    def __init__(self, session: DeviceSession, how: str, size: int) -> None:
        self.session, self.how, self.size = session, how, size
        self._ends: list[_Ends] = []
        self._sent = _pattern(size, 1)
        try:
            for direction in ("h2d", "d2h") if how.startswith("both") else (how[:3],):
                self._ends.append(self._make(direction))
        except BaseException:
            self.close()
            raise
        cuda, kinds = session.cuda, session.cuda.CopyKind
        self._copies = []
        for direction, ends in zip(self._directions(), self._ends, strict=True):
            there, here = ends.device.address, ends.address
            made = (kinds.to_device, there, here) if direction == "h2d" else (kinds.to_host, here, there)
            self._copies.append(cuda.Copy(*made, size))

    def _directions(self) -> tuple[str, ...]:
        return ("h2d", "d2h") if self.how.startswith("both") else (self.how[:3],)

    def _make(self, direction: str) -> _Ends:
        context = self.session.context
        device = context.alloc(self.size)
        ends = _Ends(device, None, 0)
        self._ends.append(ends)
        if self.how.endswith("pinned"):
            pinned = context.pinned(self.size)
            ends.host, ends.address = pinned, pinned.address
        else:
            ends.host = np.empty(self.size, dtype=np.uint8)
            ends.address = ends.host.ctypes.data
        self._ends.pop()
        if direction == "h2d":
            np.frombuffer(ends.host, dtype=np.uint8)[:] = self._sent
            device.fill(0)
        else:
            device.write(self._sent)
            np.frombuffer(ends.host, dtype=np.uint8)[:] = 0
        return ends

    def run(self, iterations: int) -> Timing:
        """Copy at least so many chunks."""
        times = max(1, -(-iterations * CHUNK // self.size))
        with self.session.driving(f"copy.{self.how} of {self.size} bytes"):
            if self.how.endswith("pinned"):
                ns = self.session.timer.copies(self._copies, times)
            else:
                ns = sum(self.session.timer.host_copy(self._copies[0]) for _ in range(times))
            checked = all(map(self._arrived, self._directions(), self._ends))
        return Timing(ns=max(1, round(ns)), iterations=times * self.size // CHUNK, checked=checked)

    def _arrived(self, direction: str, ends: _Ends) -> bool:
        """Compare the last page, which is poisoned again for the next run."""
        at = self.size - CHUNK
        if direction == "h2d":
            found = np.frombuffer(ends.device.read(at, CHUNK), dtype=np.uint8)
            ends.device.write(b"\0" * CHUNK, at)
            return bool(np.array_equal(found, self._sent[at:]))
        page = np.frombuffer(ends.host, dtype=np.uint8)[at:]
        right = bool(np.array_equal(page, self._sent[at:]))
        page[:] = 0
        return right

    def close(self) -> None:
        """Give the memory back; again is allowed."""
        while self._ends:
            ends = self._ends.pop()
            ends.device.close()
            if hasattr(ends.host, "close"):
                ends.host.close()


class SmCopyJob:
    """A copy over the bus by a kernel on every multiprocessor; a launch goes over the whole buffer so many times."""

    def __init__(self, session: DeviceSession, how: str, size: int) -> None:
        self.session, self.how = session, how
        row = next(row for row in ROWS if row.name == SM_ROW)
        function = session.function(row)
        self._stage = Stage.set_up(session, row, session.blocks(row, function), function)
        self._host: Any = None
        try:
            each = self._stage.blocks * row.tile * ELEMENT_BYTES  # bytes of one iteration of all blocks
            last = session.device.level("L2")
            if size > CHECKED_BYTES and last and last.capacity_bytes:
                size = max(size, 2 * last.capacity_bytes)  # no cache may stand in for the bus
            self._turns = max(1, size // each)
            self.size = self._turns * each
            self._sent = _pattern(self.size, 3)
            self._host = session.context.pinned(self.size)
            self._device = self._stage.alloc(self.size)
            self._page = np.frombuffer(self._host, dtype=np.uint8)
            if how == "h2d.sm":
                self._page[:] = self._sent
                self._device.fill(0)
            else:
                self._device.write(self._sent)
                self._page[:] = 0
        except BaseException:
            self.close()
            raise

    def run(self, iterations: int) -> Timing:
        """Copy at least so many chunks."""
        times = max(1, -(-iterations * CHUNK // self.size))
        ends = (self._host.device_address, self._device.address)
        source, target = ends if self.how == "h2d.sm" else ends[::-1]
        with self.session.driving(f"copy.{self.how} of {self.size} bytes"):
            seen = self._stage.launch(
                packed(
                    "stream",
                    **{"in": source, "in2": source, "out": target, "stamps": self._stage.stamps.address},
                    count=self.size // ELEMENT_BYTES,
                    first=0,
                    step=self._stage.blocks * self._stage.row.tile % (self.size // ELEMENT_BYTES),
                    iterations=self._turns * times,
                )
            )
            at = self.size - CHUNK
            checked = self._arrived(at)
        ns = max(1, round(seen.ns))
        return Timing(ns=ns, iterations=times * self.size // CHUNK, checked=checked, clock_hz=seen.clock_hz)

    def _arrived(self, at: int) -> bool:
        """Compare the last page, which is poisoned again for the next run."""
        if self.how == "h2d.sm":
            found = np.frombuffer(self._device.read(at, CHUNK), dtype=np.uint8)
            self._device.write(b"\0" * CHUNK, at)
            return bool(np.array_equal(found, self._sent[at:]))
        right = bool(np.array_equal(self._page[at:], self._sent[at:]))
        self._page[at:] = 0
        return right

    def close(self) -> None:
        """Give the memory back; again is allowed."""
        self._stage.close()
        if self._host is not None:
            self._page = np.empty(0, dtype=np.uint8)
            self._host.close()
            self._host = None


class DeviceCopyJob:
    """A copy within this GPU's memory, or between it and another's one way or both; ``way`` is one of `PEER_WAYS`."""

    def __init__(self, session: DeviceSession, peer: int | None, way: str, size: int) -> None:
        self.session, self.size = session, size
        self._other: _cuda.Context = session.context if peer is None else session.cuda.Context(peer)
        if peer is not None:
            session.context.enable_peer(self._other)
        self._sent = _pattern(size, 2)
        self._buffers: list[_cuda.Buffer] = []
        self._targets: list[_cuda.Buffer] = []
        self._copies: list[_cuda.Copy] = []
        here, there = session.context, self._other
        pairs = {"": ((here, there),), "from_": ((there, here),), "both_": ((here, there), (there, here))}[way]
        try:
            for source, target in pairs:
                self._add(source, target)
        except BaseException:
            self.close()
            raise

    def _add(self, source: _cuda.Context, target: _cuda.Context) -> None:
        """One direction: its two ends, filled and poisoned."""
        held = source.alloc(self.size)
        self._buffers.append(held)
        held.write(self._sent)
        filled = target.alloc(self.size)
        self._buffers.append(filled)
        filled.fill(0)
        self._targets.append(filled)
        cuda, ends = self.session.cuda, (filled.address, held.address, self.size)
        if source is target:
            self._copies.append(cuda.Copy(cuda.CopyKind.on_device, *ends))
        else:
            self._copies.append(cuda.Copy(cuda.CopyKind.peer, *ends, target, source))

    def run(self, iterations: int) -> Timing:
        """Copy at least so many chunks each way."""
        times = max(1, -(-iterations * CHUNK // self.size))
        with self.session.driving(f"copy between {self.session.name} and {self._other.name} of {self.size} bytes"):
            ns = self.session.timer.copies(self._copies, times)
            arrived = [self._arrived(target) for target in self._targets]
        return Timing(ns=max(1, round(ns)), iterations=times * self.size // CHUNK, checked=all(arrived))

    def _arrived(self, target: _cuda.Buffer) -> bool:
        """Compare the last page, which is poisoned again for the next run."""
        at = self.size - CHUNK
        found = np.frombuffer(target.read(at, CHUNK), dtype=np.uint8)
        target.write(b"\0" * CHUNK, at)
        return bool(np.array_equal(found, self._sent[at:]))

    def close(self) -> None:
        """Give the memory back; again is allowed."""
        while self._buffers:
            self._buffers.pop().close()
