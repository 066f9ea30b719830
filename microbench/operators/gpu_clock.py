"""What one call of an operator takes on a GPU, by three clocks and by the host's own: eager, kernel, graph, issue.

*Eager* is what a program sees that calls one operator after another: the longer of the host's time to issue a call and
the device's to run it. *Kernel* is the device's time alone: the calls are queued behind writes of a large buffer that
keep the device busy until the host is done, and events stand around them; what lies between two kernels is part of it.
*Graph* is a replay of captured calls. *Issue* is the host's time for a call while the device is busy anyway.

Everything runs on the clock's own device and on a stream of its own: an event belongs to the device that is current
when it is made, and a backward pass goes to the stream of its forward pass, which a capture must be on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from microbench.errors import CannotRun

Call = Callable[[], object]

# Calls that are queued at once: a queue takes about a thousand launches, and a call is several.
MOST_QUEUED = 96
# A held sample is tried again so often, with fewer calls and longer writes, where the device ran out of work.
_TRIES = 4
# The host may take so many times as long as it did before until the device is let run dry.
_MARGIN = 1.7
# Kernels of a graph at least, so that a graph's own launch is little beside them, and at most.
_NODES = (16, 64)
# Calls before a capture or a sample: the first of them bring data back into the caches.
_WARMING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Seconds of one call on the device and of issuing it on the host."""

    device_s: float
    issue_s: float


class GpuClock:
    """Times calls on one GPU through torch's events and graphs.

    Parameters
    ----------
    torch
        The module.
    place
        Torch's name of the device, ``cuda:N``.
    cold_bytes
        Size of the buffer whose writes leave nothing else in the caches.
    now
        The host's clock in seconds.
    """

    def __init__(self, torch: Any, place: str, cold_bytes: int, now: Callable[[], float] = time.perf_counter) -> None:
        self.torch, self.device, self.now = torch, torch.device(place), now
        with torch.cuda.device(self.device):
            self.stream = torch.cuda.Stream(self.device)
        with self.guard():
            self.buffer = torch.empty(cold_bytes // 4, dtype=torch.int32, device=self.device)
            self.write_s = self._write_seconds()
        self._issue_s = 1e-5

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Make the clock's device and stream current, for preparing as for timing."""
        with self.torch.cuda.device(self.device), self.torch.cuda.stream(self.stream):
            yield

    def eager(self, call: Call, times: int) -> float:
        """Seconds of a call, of so many one after another that the host issues while the device runs them."""
        with self.guard():
            start, stop = self._events()
            start.record()
            for _ in range(times):
                call()
            stop.record()
            return _seconds(start, stop) / times

    def held(self, call: Call, times: int) -> Held:
        """Seconds of a call on the device and on the host, apart.

        Raises
        ------
        CannotRun
            If the device ran out of work before the host was done, even with one call: the call itself waits for the
            device.
        """
        times = min(times, MOST_QUEUED)
        with self.guard():
            for attempt in range(_TRIES):
                self._hold(_MARGIN * 2**attempt * (times + _WARMING) * self._issue_s)
                for _ in range(_WARMING):
                    call()
                start, stop = self._events()
                start.record()
                began = self.now()
                for _ in range(times):
                    call()
                issue_s = (self.now() - began) / times
                stop.record()
                dry = bool(start.query())
                device_s = _seconds(start, stop) / times
                self._issue_s = issue_s
                if not dry:
                    return Held(device_s=device_s, issue_s=issue_s)
                times = max(1, times // 4)
        raise CannotRun("its calls wait for the device, so that they cannot be queued")

    def capture(self, call: Call, times: int) -> Any:
        """So many calls as a graph.

        Raises
        ------
        CannotRun
            If torch or the driver refuse to capture them.
        """
        graph = self.torch.cuda.CUDAGraph()
        with self.guard():
            for _ in range(_WARMING):
                call()
            self.stream.synchronize()
            # Not `torch.cuda.graph`: before each capture that gives all cached memory back to the driver.
            try:
                graph.capture_begin()
                try:
                    for _ in range(times):
                        call()
                finally:
                    graph.capture_end()
            except RuntimeError as error:
                with suppress(RuntimeError):
                    self.torch.cuda.synchronize(self.device)
                raise CannotRun(f"it cannot be captured into a graph: {_first_line(error)}") from None
        return graph

    def replay(self, graph: Any, replays: int) -> float:
        """Seconds of one replay, of so many queued one after another."""
        with self.guard():
            self._hold(_MARGIN * (replays + 1) * self._issue_s)
            graph.replay()
            start, stop = self._events()
            start.record()
            for _ in range(replays):
                graph.replay()
            stop.record()
            return _seconds(start, stop) / replays

    def cold(self, call: Call, turns: int) -> float:
        """Seconds of a call on the device after writes that left nothing of it in a cache: median of so many turns."""
        with self.guard():
            pairs = []
            for _ in range(turns):
                self._hold(_MARGIN * self._issue_s)
                start, stop = self._events()
                start.record()
                call()
                stop.record()
                pairs.append((start, stop))
            return sorted(_seconds(*pair) for pair in pairs)[turns // 2]

    def settle(self) -> None:
        """Wait for whatever other streams have made: this clock's stream does not wait for theirs."""
        self.torch.cuda.synchronize(self.device)

    def free_bytes(self) -> int:
        """Bytes of the device that nobody has taken."""
        return int(self.torch.cuda.mem_get_info(self.device)[0])

    def _events(self) -> tuple[Any, Any]:
        start, stop = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        return start, stop

    def _hold(self, seconds: float) -> None:
        """Keep the device busy for so long, and leave no operand in its caches."""
        for _ in range(max(1, math.ceil(seconds / self.write_s))):
            self.buffer.zero_()

    def _write_seconds(self) -> float:
        start, stop = self._events()
        self.buffer.zero_()
        start.record()
        for _ in range(4):
            self.buffer.zero_()
        stop.record()
        return max(_seconds(start, stop) / 4, 1e-6)


def nodes(device_s: float, sample_s: float) -> int:
    """Calls of a graph that fill a sample, within what a graph should have."""
    return max(_NODES[0], min(_NODES[1], round(sample_s / max(device_s, 1e-7))))


def _seconds(start: Any, stop: Any) -> float:
    stop.synchronize()
    return float(start.elapsed_time(stop)) * 1e-3


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
