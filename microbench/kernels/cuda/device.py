"""One GPU at work: its context, loaded code, queue gate and sensors; and a kernel staged on it, launched and stamped.

A sample is one launch with its iterations inside, between two events, with the queue held by a blocking kernel. Every
block stamps its cycles and nanoseconds before and after its loop, which gives the clock it ran at and the time in
which the loops ran; the events' time, which also holds what comes before and after, is for timers too coarse for that.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from microbench.errors import CannotRun, ContextLost
from microbench.hardware import cuda as probe
from microbench.hardware import extensions, nvml
from microbench.kernels.cuda import timing
from microbench.kernels.cuda.code import Code, Library
from microbench.kernels.cuda.rows import STAMP_WORDS, CudaRow
from microbench.records import Device, Finding, Sheet, Timing

if TYPE_CHECKING:
    from microbench import _cuda

ITERATIONS_WORD = 5  # of a block's stamps
MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
SHARED_BY_DEFAULT = 48 << 10
MOST_ITERATIONS = 2**31 - 1
CHECK_ITERATIONS = 3  # odd: after an even number an exchange of signs has cancelled
SENSOR_PERIOD_S = 0.02  # NVML answers in about a millisecond and refreshes no faster
# While a burst lasts only the reasons of a lowered clock are asked for, no more often than this, and once at its end.
REASONS_PERIOD_S = 0.005
GATE_TRIES = 3  # a launch behind a gate that timed out is repeated; a host held up for seconds so often is no host


class DeviceSession:
    """One GPU at work: context, timer, loaded code, queue gate, sensors. Made when the first kernel is prepared."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.name = f"cuda:{device.index}"
        self.cuda: Any = extensions.cuda()
        self.library = Library.here(device)
        self.step_ns: int | None = None
        # What all kernels of a kind share on this device, by name: `stream` keeps its memory here.
        self.shared: dict[str, Any] = {}
        self._images: dict[str, tuple[Code, _cuda.Module]] = {}
        self._last_look = 0.0
        self._reading = nvml.Reading()

    @cached_property
    def context(self) -> _cuda.Context:
        """The device's primary context, shared with every other library of this process."""
        made: _cuda.Context = self.cuda.Context(self.device.index)
        return made

    @cached_property
    def timer(self) -> _cuda.Timer:
        """The one stream that everything is timed on."""
        made: _cuda.Timer = self.cuda.Timer(self.context)
        return made

    @cached_property
    def sensors(self) -> nvml.Sensors:
        """Power, temperature and throttling of this GPU."""
        return nvml.Sensors(probe.raw(self.device.index)["uuid"])

    @cached_property
    def gate(self) -> timing.QueueGate:
        """The blocking kernel that holds the queue while launches are put into it."""
        return timing.QueueGate(self.cuda, self.context, self.timer, self.library, self.function)

    @contextlib.contextmanager
    def driving(self, subject: str) -> Iterator[None]:
        """Name the case in errors of the driver, and turn them into sentences of this project."""
        try:
            self.context.subject = subject
            yield
        except self.cuda.DriverError as error:
            if error.lost:
                remedy = "what was measured is kept; 'microbench run --resume FILE' goes on in a fresh process"
                raise ContextLost(f"{error}; {remedy}") from error
            raise CannotRun(str(error)) from error

    def load(self, family: str) -> tuple[Code, _cuda.Module]:
        """Load a family's machine code once."""
        if family not in self._images:
            code = self.library.code(family)
            self._images[family] = (code, self.context.load(code.image))
        return self._images[family]

    def function(self, row: CudaRow) -> _cuda.Function:
        """Return a row's kernel, with as much shared memory as it asks for."""
        found = self.load(row.family)[1].function(row.symbol)
        if row.shared_bytes > SHARED_BY_DEFAULT:
            found.set_attribute(MAX_DYNAMIC_SHARED, row.shared_bytes)
        return found

    def blocks(self, row: CudaRow, function: _cuda.Function, per_sm: int = 0) -> int:
        """Blocks that fill the device: so many a multiprocessor as asked for, the row's number, or all that fit."""
        sms = self.device.units_by_kind.get("sm")
        fit = function.occupancy(row.threads, row.shared_bytes)
        if not sms or fit < 1:
            block = f"{row.threads} threads and {row.shared_bytes} bytes of shared memory"
            raise CannotRun(f"no block of {row.name} ({block}) fits a multiprocessor of {self.name}")
        return sms * min(per_sm or row.blocks_per_sm or fit, fit)

    def look(self, now: float) -> nvml.Reading:
        """Read the sensors, at most every `SENSOR_PERIOD_S`."""
        if now - self._last_look >= SENSOR_PERIOD_S:
            self._last_look, self._reading = now, self.sensors.read()
        return self._reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """One launch as it came back: nanoseconds between its events, its blocks' stamps, whether the device throttled."""

    ns: float
    stamps: NDArray[np.uint64]
    throttled: bool = False

    def complete(self, iterations: int) -> bool:
        """Whether every block says that it did so many iterations."""
        return bool((self.stamps[:, ITERATIONS_WORD] == iterations).all())


@dataclass(slots=True)
class Stage:
    """A kernel on its device: function, grid, and the buffers that every layout has."""

    session: DeviceSession
    row: CudaRow
    function: _cuda.Function
    blocks: int
    stamps: _cuda.Buffer
    buffers: list[_cuda.Buffer]
    warm: bool = False
    waves: bool = False  # more blocks than fit at once, handed out as room becomes free

    @classmethod
    def set_up(cls, session: DeviceSession, row: CudaRow, blocks: int, function: _cuda.Function) -> Stage:
        """Allocate the stamps."""
        stamps = session.context.alloc(blocks * STAMP_WORDS * 8)
        return cls(session, row, function, blocks, stamps, [stamps])

    def alloc(self, size: int) -> _cuda.Buffer:
        """Device memory that `close` gives back."""
        buffer = self.session.context.alloc(size)
        self.buffers.append(buffer)
        return buffer

    def launch(self, params: bytes) -> timing.Seen:
        """Launch once and read the stamps."""
        return self.seen(self.fire(params))

    def fire(self, params: bytes) -> Fired:
        """Launch once, and read nothing of what it left but its stamps.

        The very first launch does not wait behind the queue gate: loading code lazily would wait for it for ever. Where
        the gate gave up before the host opened it, the host's own time lies between the events: that sample is
        discarded, and the launch repeated.

        Raises
        ------
        CannotRun
            If the gate times out again and again.
        """
        session = self.session
        launch = session.cuda.Launch(
            self.function, (self.blocks, 1, 1), (self.row.threads, 1, 1), self.row.shared_bytes, params
        )
        for _ in range(GATE_TRIES):
            gate = session.gate.closed() if self.warm else None
            ns = session.timer.launches(launch, 1, gate)
            self.warm = True
            if gate is None or not session.gate.timed_out():
                stamps = np.frombuffer(self.stamps.read(0, self.stamps.size), dtype=np.uint64)
                return Fired(ns=ns, stamps=stamps.reshape(-1, STAMP_WORDS))
        raise CannotRun(
            f"the gate before {self.row.name} gave up {GATE_TRIES} times in a row before the host opened it; close "
            "programs that keep the host busy"
        )

    def seen(self, fired: Fired) -> timing.Seen:
        """Time and clock of a launch."""
        found = timing.read(fired.stamps, fired.ns, self.session.step_ns, waves=self.waves)
        self.session.step_ns = found.step_ns
        return found

    def volley(self, fire: Callable[[], Fired], count: int, limit_s: float) -> list[Fired]:
        """Fire so many times back to back; whether the device throttled is asked for now and then, and at the end.

        A look tells of all launches since the one before it.
        """
        fired: list[Fired] = []
        told, looked = 0, time.monotonic()
        until = looked + limit_s
        while len(fired) < count and (now := time.monotonic()) <= until:
            if now - looked >= REASONS_PERIOD_S and len(fired) > told:
                told, looked = self._told(fired, told), now
            fired.append(fire())
        self._told(fired, told)
        return fired

    def _told(self, fired: list[Fired], since: int) -> int:
        if self.session.sensors.reasons():
            fired[since:] = [replace(each, throttled=True) for each in fired[since:]]
        return len(fired)

    def close(self) -> None:
        """Give every buffer back; again is allowed."""
        while self.buffers:
            self.buffers.pop().close()


def timing_of(
    session: DeviceSession, seen: timing.Seen, iterations: int, checked: bool | None, *, settled: bool = False
) -> Timing:
    """Join a launch's time and clock with what the sensors say.

    Only a kernel that has run long enough to settle has a second of energy of its own. A burst has no power: the card
    averages over a second and refreshes every tenth of one, which was another kernel's.
    """
    reading = session.look(time.monotonic())
    return Timing(
        ns=seen.ns,
        iterations=iterations,
        checked=checked,
        clock_hz=seen.clock_hz,
        throttled=bool(reading.throttled),
        power_w=reading.power_w if settled else None,
    )


class Repeatable(Protocol):
    """A prepared kernel whose launches can follow each other unseen."""

    stage: Stage

    def per_block(self, iterations: int) -> int:
        """Iterations of each block that make at least so many altogether."""

    def fire(self, per_block: int) -> Fired:
        """Launch."""

    def fire_marked(self, per_block: int) -> Fired:
        """Poison what will be looked at, and launch."""

    def right(self, per_block: int) -> bool:
        """Whether what the last marked launch left is what it must be, and always was."""


def burst(job: Repeatable, iterations: int, count: int, limit_s: float) -> list[Timing]:
    """Launches back to back, the last of which is looked at when all are over.

    Of each launch every block must have stamped that it did its iterations. What the last one leaves lies in memory
    that was poisoned before it, and is compared; a launch that was wrong condemns the burst.
    """
    stage = job.stage
    with stage.session.driving(stage.row.name):
        per_block = job.per_block(iterations)
        fired = stage.volley(lambda: job.fire(per_block), count - 1, limit_s)
        fired += stage.volley(lambda: job.fire_marked(per_block), 1, limit_s)
        right = job.right(per_block) and all(each.complete(per_block) for each in fired)
        return [
            Timing(
                ns=seen.ns,
                iterations=per_block * stage.blocks,
                checked=right,
                clock_hz=seen.clock_hz,
                throttled=each.throttled,
            )
            for each in fired
            for seen in (stage.seen(each),)
        ]


def wrong_result(session: DeviceSession, sheet: Sheet, wrong: str) -> Finding:
    """Say that a kernel computed something else than it must."""
    return Finding(
        code="wrong-result",
        severity="error",
        says=f"{sheet.name} on {session.name} is wrong: {wrong}",
        remedy=(
            "check the card's memory and power (nvidia-smi -q -d ECC,PERFORMANCE); without such a fault, report it "
            "with this file"
        ),
    )
