"""What lies between the host and a GPU: launch costs, copies over the bus, copies between GPUs.

No kernel of ours does the work here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from microbench.errors import CannotRun
from microbench.kernels import Kernel
from microbench.kernels.cuda.device import DeviceSession, wrong_result
from microbench.kernels.cuda.row import packed
from microbench.kernels.cuda.rows import ROWS
from microbench.kernels.cuda.timing import MOST_HELD
from microbench.records import Device, Finding, Measures, Sheet, Timing, Value, Work

if TYPE_CHECKING:
    from microbench import _cuda

CHUNK = 4096  # bytes that one iteration of a copy carries each way
COPIED_BYTES = 64 << 20  # long enough that the set-up of a copy is below 1 % on every bus
CHECKED_BYTES = 1 << 20
GRAPH_NODES = 64

LAUNCHES = {
    "enqueue": "host time of one launch call",
    "period": "device time from one launch to the next, launched one by one",
    "held": "device time from one launch to the next, queued beforehand behind the queue gate",
    "graph": f"device time from one launch to the next in a graph of {GRAPH_NODES}",
    "round_trip": "host time from a launch to the end of the wait for it",
}
COPIES = {
    "h2d.pinned": "copy from page-locked host memory to the device",
    "d2h.pinned": "copy from the device to page-locked host memory",
    "both.pinned": "copies both ways at once, page-locked",
    "h2d.pageable": "copy from ordinary host memory to the device",
    "d2h.pageable": "copy from the device to ordinary host memory",
}


def kernels(session: DeviceSession) -> Iterator[Kernel]:
    """Yield launch costs, copies over the bus, and copies to every GPU that this one reaches."""
    empty = next(row for row in ROWS if row.name == "launch.empty")
    reason = session.library.reason(empty)
    for how, says in LAUNCHES.items():
        sheet = _sheet(f"launch.{how}", "cost", says, Work(), reason)
        yield _kernel(session, sheet, lambda _, how=how: LaunchJob(session, how))  # type: ignore[misc]
    for how, says in COPIES.items():
        both = 2 if how.startswith("both") else 1
        sheet = _sheet(f"copy.{how}", "link", says, Work(bytes_read=CHUNK, bytes_written=CHUNK * (both - 1)), None)
        yield _kernel(session, sheet, lambda params, how=how: CopyJob(session, how, _size(params)))  # type: ignore[misc]
    for peer in _peers(session):
        sheet = _sheet(
            f"copy.peer.cuda_{peer}", "link", f"copy from {session.name} to cuda:{peer}", Work(bytes_read=CHUNK), None
        )
        yield _kernel(session, sheet, lambda params, peer=peer: PeerJob(session, peer, _size(params)))  # type: ignore[misc]


def _peers(session: DeviceSession) -> list[int]:
    """The cards that this one reaches; one that cannot even be asked is not reached."""
    from microbench.hardware import cuda as probe

    index = session.device.index
    try:
        there = probe.count()
        return [peer for peer in range(there) if peer != index and session.cuda.can_access_peer(index, peer)]
    except (CannotRun, session.cuda.DriverError):
        return []


def _size(params: Mapping[str, Value]) -> int:
    return CHECKED_BYTES if "check" in params else int(params.get("size", COPIED_BYTES)) // CHUNK * CHUNK


def _sheet(name: str, measures: Measures, says: str, work: Work, reason: str | None) -> Sheet:
    return Sheet(
        name=name,
        measures=measures,
        backend="cuda",
        device_kind="cuda",
        says=says,
        roles=("ceiling",) if measures == "link" else ("cost",),
        access="copy" if measures == "link" else None,
        variant=name.partition(".")[2],
        work=work,
        params=("size",) if measures == "link" else (),
        source="microbench/kernels/cuda/links.py",
        verified=False,
        unavailable=reason,
    )


def _kernel(session: DeviceSession, sheet: Sheet, make: Callable[[Mapping[str, Value]], Any]) -> Kernel:
    def prepare(device: Device, params: Mapping[str, Value], threads: int, cpus: Sequence[int] | None = None) -> Any:
        del device, threads, cpus
        if sheet.unavailable:
            raise CannotRun(f"{sheet.name} cannot run on {session.name}: {sheet.unavailable}")
        with session.driving(sheet.name):
            return make(params)

    def check(device: Device) -> Finding | None:
        job = prepare(device, {"check": True}, 1)
        try:
            return (
                None
                if job.run(1).checked is not False
                else wrong_result(session, sheet, "the bytes that arrived are not those sent")
            )
        finally:
            job.close()

    return Kernel(sheet=sheet, prepare=prepare, check=check)


class LaunchJob:
    """A kernel that does nothing, launched in one of several ways; an iteration is a launch."""

    def __init__(self, session: DeviceSession, how: str) -> None:
        self.session, self.how = session, how
        row = next(row for row in ROWS if row.name == "launch.empty")
        params = packed("compute", out=0, **{"in": 0}, stamps=0, iterations=0)
        self._launch: _cuda.Launch = session.cuda.Launch(
            session.function(row), (1, 1, 1), (row.threads, 1, 1), 0, params
        )
        session.timer.launches(self._launch, 1)
        if how == "held" and session.gate.closed() is None:
            raise CannotRun(f"launch.held needs the queue gate, which is off: {session.gate.off}")

    def run(self, iterations: int) -> Timing:
        """Launch at least so many times."""
        with self.session.driving(f"launch.{self.how}"):
            ns, count = self._timed(max(1, min(iterations, 1 << 20)))
        return Timing(ns=max(1, round(ns)), iterations=count)

    def _timed(self, count: int) -> tuple[float, int]:
        timer = self.session.timer
        if self.how == "enqueue":
            return timer.enqueue(self._launch, count) * count, count
        if self.how == "period":
            return timer.launches(self._launch, count), count
        if self.how == "held":
            batches = -(-count // MOST_HELD)
            each = -(-count // batches)
            return sum(
                timer.launches(self._launch, each, self.session.gate.closed()) for _ in range(batches)
            ), each * batches
        if self.how == "graph":
            replays = -(-count // GRAPH_NODES)
            return timer.replay(self._launch, GRAPH_NODES, replays), GRAPH_NODES * replays
        return sum(timer.round_trip(self._launch) for _ in range(count)), count

    def close(self) -> None:
        """Nothing is held."""


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


class PeerJob:
    """A copy from this GPU's memory to another's."""

    def __init__(self, session: DeviceSession, peer: int, size: int) -> None:
        self.session, self.size = session, size
        self._other: _cuda.Context = session.cuda.Context(peer)
        session.context.enable_peer(self._other)
        self._sent = _pattern(size, 2)
        self._source = session.context.alloc(size)
        self._target: _cuda.Buffer | None = None
        try:
            self._source.write(self._sent)
            self._target = self._other.alloc(size)
            self._target.fill(0)
        except BaseException:
            self.close()
            raise
        kind = session.cuda.CopyKind.peer
        self._copy = session.cuda.Copy(
            kind, self._target.address, self._source.address, size, self._other, session.context
        )

    def run(self, iterations: int) -> Timing:
        """Copy at least so many chunks."""
        times = max(1, -(-iterations * CHUNK // self.size))
        assert self._target is not None
        with self.session.driving(f"copy to {self._other.name} of {self.size} bytes"):
            ns = self.session.timer.copies([self._copy], times)
            at = self.size - CHUNK
            found = np.frombuffer(self._target.read(at, CHUNK), dtype=np.uint8)
            self._target.write(b"\0" * CHUNK, at)
        return Timing(
            ns=max(1, round(ns)),
            iterations=times * self.size // CHUNK,
            checked=bool(np.array_equal(found, self._sent[at:])),
        )

    def close(self) -> None:
        """Give the memory back; again is allowed."""
        self._source.close()
        if self._target is not None:
            self._target.close()
