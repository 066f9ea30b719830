"""What the blocks stamped, the blocking kernel that holds the queue, and running until clock and power are steady."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microbench.kernels.cuda.row import packed
from microbench.kernels.cuda.rows import ROWS

if TYPE_CHECKING:
    from microbench import _cuda
    from microbench.kernels.cuda.code import Library
    from microbench.kernels.cuda.row import CudaRow

LEAST_STEPS = 100  # of the device's nanosecond timer, for the clock to be read from a span to 1 %
CLOCKS_AGREE = 0.01  # two multiprocessors of one chip share a clock; a larger difference is a stamp gone wrong
MOST_HELD = 512  # launches that a closed gate may hold: the host would wait for the gate at a full queue
GATE_TIMEOUT_NS = 2_000_000_000
TIMED_OUT = 2  # what the gate leaves behind `out` then
_BLOCKING = ("CUDA_LAUNCH_BLOCKING",)
_PROFILERS = (
    "CUDA_INJECTION64_PATH",
    "CUDA_INJECTION32_PATH",
    "NVTX_INJECTION64_PATH",
    "NV_COMPUTE_PROFILER_PERFWORKS_DIR",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One launch: its time in ns, the clock its blocks saw, the step of the nanosecond timer (``None``: unknown)."""

    ns: int
    clock_hz: float | None
    step_ns: int | None


def timer_step(stamps: NDArray[np.uint64]) -> int | None:
    """Find the step of the nanosecond timer: the greatest common divisor of the differences between stamps.

    Parameters
    ----------
    stamps
        Any number of readings, in ns.
    """
    values = np.unique(stamps)
    if values.size < 3:
        return None
    step = int(np.gcd.reduce(np.diff(values)))
    return step or None


def read(stamps: NDArray[np.uint64], event_ns: float, step_ns: int | None, *, waves: bool = False) -> Seen:
    """Turn the blocks' stamps and the events' time into one launch.

    Parameters
    ----------
    stamps
        One row a block: ns and cycles at the start, ns and cycles at the end, multiprocessor, iterations.
    event_ns
        Time between the two events.
    step_ns
        The timer's step as far as it is known.
    waves
        Whether the blocks were more than fit at once, all with the same work: then the time counts in which every
        multiprocessor was busy, as `steady` finds it.

    Returns
    -------
    The span from the first block's start to the last block's end and a step of the timer, which may have cut it short.
    The events' time also holds what comes before the loops and after them, such as megabytes of results; it counts
    where the timer's step is unknown or too coarse for the span, and never beyond that: a longer span is the time.
    The clock is the median over blocks, from different multiprocessors where there are several, and ``None`` where two
    of those disagree or the timer is too coarse for the span.
    """
    found = timer_step(stamps[:, (0, 2)])
    step = min(filter(None, (found, step_ns)), default=None)
    span = int(stamps[:, 2].max()) - int(stamps[:, 0].min())
    ns = max(1, round(event_ns), span)
    if step is not None and span >= LEAST_STEPS * step:
        ns = min(ns, span + step)
        if waves:
            ns = min(ns, steady(stamps, step) or ns)
    return Seen(ns=ns, clock_hz=clock(stamps, step), step_ns=step)


def steady(stamps: NDArray[np.uint64], step_ns: int) -> int | None:
    """Nanoseconds that the launch would take if every multiprocessor were busy to its end.

    Multiprocessors do not get on equally fast: those of a larger cluster share its way to L2 with more neighbours, and
    with equal work for each the others wait at the end. Where blocks are handed out as room becomes free, the blocks
    that run while all are busy tell the rate of the whole device; of a block that runs partly then, its share counts.
    ``None`` where that time is less than half of the launch, or blocks are too short for the timer.

    Parameters
    ----------
    stamps
        As for `read`.
    step_ns
        The timer's step.
    """
    starts, ends = (stamps[:, column].astype(np.int64) for column in (0, 2))
    own = ends - starts
    sms = [stamps[:, 4] == sm for sm in np.unique(stamps[:, 4])]
    begin, end = max(int(starts[each].min()) for each in sms), min(int(ends[each].max()) for each in sms)
    if own.min() < LEAST_STEPS * step_ns or 2 * (end - begin) < int(ends.max() - starts.min()):
        return None
    done = np.clip(np.minimum(ends, end) - np.maximum(starts, begin), 0, None) / own
    return round(len(stamps) * (end - begin) / float(done.sum()))


def clock(stamps: NDArray[np.uint64], step_ns: int | None) -> float | None:
    """Cycles per second of the multiprocessors; ``None`` where the stamps cannot tell."""
    elapsed = stamps[:, 2].astype(np.int64) - stamps[:, 0].astype(np.int64)
    cycles = stamps[:, 3].astype(np.int64) - stamps[:, 1].astype(np.int64)
    if step_ns is None or np.median(elapsed) < LEAST_STEPS * step_ns or cycles.min() <= 0 or elapsed.min() <= 0:
        return None
    by_sm = _medians(cycles / elapsed * 1e9, stamps[:, 4])
    middle = float(np.median(by_sm))
    outer = np.quantile(by_sm, (0.1, 0.9))
    if outer[1] - outer[0] > 2 * CLOCKS_AGREE * middle:
        return None
    return middle


def _medians(values: NDArray[np.float64], groups: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The median of each group: of more than a hundred multiprocessors after every launch, so all at once."""
    order = np.lexsort((values, groups))
    ranked = values[order]
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order[:1]] + np.uint64(1)))
    counts = np.diff(starts, append=len(values))
    medians: NDArray[np.float64] = (ranked[starts + (counts - 1) // 2] + ranked[starts + counts // 2]) / 2
    return medians


class QueueGate:
    """A blocking kernel at the head of the queue, or why launches go without it.

    It waits for a word of host memory, so that the queue is full before its first launch starts. It is off under
    CUDA_LAUNCH_BLOCKING and under profilers, where every launch waits and so would wait for the gate for ever.
    """

    def __init__(
        self,
        cuda: Any,
        context: _cuda.Context,
        timer: _cuda.Timer,
        library: Library,
        function: Callable[[CudaRow], _cuda.Function],
    ) -> None:
        self.off: str | None = self._why_not(library)
        self._gate: _cuda.Gate | None = None
        self._said: memoryview | None = None
        self._kept: tuple[Any, ...] = ()
        if self.off is None:
            self._make(cuda, context, timer, function)

    def _why_not(self, library: Library) -> str | None:
        if os.environ.get(_BLOCKING[0], "0") not in ("", "0"):
            return "CUDA_LAUNCH_BLOCKING is set"
        if any(os.environ.get(name) for name in _PROFILERS):
            return "a profiler is attached"
        row = next((row for row in ROWS if row.layout == "gate"), None)
        if row is None or library.reason(row):
            return "there is no gate kernel for this device"
        return None

    def _make(
        self, cuda: Any, context: _cuda.Context, timer: _cuda.Timer, function: Callable[[CudaRow], _cuda.Function]
    ) -> None:
        row = next(row for row in ROWS if row.layout == "gate")
        # What the gate says of itself lies in host memory too, so that no copy is needed to hear it.
        flag, said = context.pinned(64), context.pinned(64)
        stamps = context.alloc(64)
        where = {"out": said.device_address, "flag": flag.device_address, "stamps": stamps.address}
        params = packed("gate", timeout_ns=GATE_TIMEOUT_NS, **where)
        launch = cuda.Launch(function(row), (1, 1, 1), (row.threads, 1, 1), row.shared_bytes, params)
        # Once with the gate open, so that its own code is loaded before it ever holds anything.
        memoryview(flag)[0:4] = b"\1\0\0\0"
        timer.launches(launch, 1)
        self._gate = cuda.Gate(launch, flag)
        self._said = memoryview(said)
        self._kept = (flag, said, stamps)

    def closed(self) -> _cuda.Gate | None:
        """The gate, to be closed for one experiment; ``None`` where it is off."""
        return self._gate

    def timed_out(self) -> bool:
        """Whether the gate opened by itself in the last experiment: launches that it should have held had begun."""
        return self._said is not None and int.from_bytes(self._said[:4], sys.byteorder) == TIMED_OUT


@dataclass(slots=True)
class SteadyStateWarmup:
    """Runs a kernel until clock and power stopped moving, and again after the device had time to cool.

    Under a power cap they oscillate for about 3 s after a cold start. Two windows last as long as the energy counter's,
    so that the power told at their end is of this kernel alone.
    """

    window_s: float = 0.5
    longest_s: float = 6.0
    idle_s: float = 0.25
    clock_within: float = 0.01
    power_within: float = 0.03
    now: Callable[[], float] = time.monotonic
    _last: float = float("-inf")

    def until_steady(
        self, launch: Callable[[], Seen], power: Callable[[], float | None], begin: Callable[[], None]
    ) -> None:
        """Launch until two windows agree, or the time is up.

        ``begin`` is called before the first launch, for power to be counted anew.
        """
        started = self.now()
        if started - self._last < self.idle_s:
            self._last = started
            return
        begin()
        started = self.now()
        before: tuple[float | None, float | None] | None = None
        while self.now() - started < self.longest_s:
            until, seen = self.now() + self.window_s, launch()
            while self.now() < until:
                seen = launch()
            current = (seen.clock_hz, power())
            if (
                before is not None
                and _near(before[0], current[0], self.clock_within)
                and _near(before[1], current[1], self.power_within)
            ):
                break
            before = current
        self._last = self.now()


def _near(old: float | None, new: float | None, within: float) -> bool:
    """Whether two readings agree; a sensor that is not there cannot disagree."""
    if old is None or new is None:
        return True
    return abs(new - old) <= within * max(old, new)
