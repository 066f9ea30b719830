"""What lies between the host and a GPU: launch costs, copies over the bus, copies between GPUs.

No kernel of ours does the work here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from microbench.errors import CannotRun
from microbench.kernels import Kernel
from microbench.kernels.cuda.copies import CHECKED_BYTES, CHUNK, SM_ROW, CopyJob, DeviceCopyJob, SmCopyJob
from microbench.kernels.cuda.device import GATE_TRIES, DeviceSession, wrong_result
from microbench.kernels.cuda.row import packed
from microbench.kernels.cuda.rows import ROWS
from microbench.kernels.cuda.timing import MOST_HELD
from microbench.records import Device, Finding, Measures, Sheet, Timing, Value, Work

if TYPE_CHECKING:
    from microbench import _cuda

_BOTH = Work(bytes_read=CHUNK, bytes_written=CHUNK)
COPIED_BYTES = 64 << 20  # long enough that the set-up of a copy is below 1 % on every bus
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
# By whom: the entries above by the copy engines, these by a kernel of ours that reads or writes the host's pages.
SM_COPIES = {
    "h2d.sm": "copy from page-locked host memory to the device, by its multiprocessors",
    "d2h.sm": "copy from the device to page-locked host memory, by its multiprocessors",
}
# Directions between two cards: the prefix of the peer's name, and what is said.
PEER_WAYS = {"": "from {0} to {1}", "from_": "from {1} to {0}", "both_": "between {0} and {1}, both ways at once"}


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
    sheet = _sheet("copy.d2d", "link", "copy within the device's memory, by the driver", _BOTH, None)
    yield _kernel(session, sheet, lambda params: DeviceCopyJob(session, None, "", _size(params)))
    copies = next(row for row in ROWS if row.name == SM_ROW)
    for how, says in SM_COPIES.items():
        sheet = _sheet(f"copy.{how}", "link", says, Work(bytes_read=CHUNK), session.library.reason(copies))
        yield _kernel(session, sheet, lambda params, how=how: SmCopyJob(session, how, _size(params)))  # type: ignore[misc]
    for peer in _peers(session):
        for way, says in PEER_WAYS.items():
            both = 2 if way == "both_" else 1
            sheet = _sheet(
                f"copy.peer.{way}cuda_{peer}",
                "link",
                f"copy {says.format(session.name, f'cuda:{peer}')}",
                Work(bytes_read=CHUNK, bytes_written=CHUNK * (both - 1)),
                None,
            )
            # A link has the same two ends either way: the way back is measured where it is asked for.
            sheet = replace(sheet, unless=(f"copy.peer.cuda_{peer}",) if way == "from_" else ())
            yield _kernel(
                session,
                sheet,
                lambda params, peer=peer, way=way: DeviceCopyJob(session, peer, way, _size(params)),  # type: ignore[misc]
            )


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
            return sum(self._held(each) for _ in range(batches)), each * batches
        if self.how == "graph":
            replays = -(-count // GRAPH_NODES)
            return timer.replay(self._launch, GRAPH_NODES, replays), GRAPH_NODES * replays
        return sum(timer.round_trip(self._launch) for _ in range(count)), count

    def _held(self, count: int) -> float:
        """Launches behind the gate; again where it gave up before all of them were queued."""
        gate = self.session.gate
        for _ in range(GATE_TRIES):
            ns = self.session.timer.launches(self._launch, count, gate.closed())
            if not gate.timed_out():
                return ns
        raise CannotRun(f"the queue gate gave up {GATE_TRIES} times in a row before {count} launches were queued")

    def close(self) -> None:
        """Nothing is held."""
