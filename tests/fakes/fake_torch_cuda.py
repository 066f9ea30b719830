"""A FAKE of the part of torch.cuda that times operators, on a virtual clock: streams, events, graphs, two devices.

Nothing is computed. A host issues calls and its clock runs by what issuing takes; each device runs what is queued, one
after another, and remembers what its cache holds. Rules of the real thing that are easily broken are kept: an event
belongs to the device that is current when it is recorded, a capture needs a stream of its own, and a backward pass goes
to the stream of its forward pass.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fake_operator_law import FakeLaw

from microbench.operators import Op

# From the host's launch to the kernel's start, from kernel to kernel on a stream and in a graph, and what recording an
# event, replaying a graph and writing a buffer cost the host.
_LATENCY_S, GAP_S, GRAPH_GAP_S = 3.5e-6, 0.9e-6, 0.4e-6
_EVENT_S, _REPLAY_S, _WRITE_S, _NODE_S = 1.2e-6, 9e-6, 3.5e-6, 6e-6
# What a library does once for a shape, and what an allocation of fresh memory takes for a byte.
_FIRST_S, _FILL_RATE = 4e-3, 8e11


@dataclass
class FakeHost:
    """The host's clock, and which device and stream are current."""

    now: float = 100.0
    current: int = 0
    streams: dict[int, FakeStream | None] = field(default_factory=dict)
    capturing: FakeGraph | None = None
    random: random.Random = field(default_factory=lambda: random.Random(3))

    def __call__(self) -> float:
        self.now += 5e-8
        return self.now


@dataclass(eq=False)
class FakeDevice:
    """What a device has queued and what its cache holds; ``trouble`` is the share of calls that something disturbs."""

    host: FakeHost
    law: FakeLaw
    index: int = 0
    noise: float = 0.012
    trouble: float = 0.01
    free_at: float = 0.0
    touched: float = 0.0
    last: dict[Any, float] = field(default_factory=dict)
    launched: int = 0

    def run(
        self, key: Any, size: float, seconds: Callable[[float], float], gap: float, *, queued: bool = False
    ) -> None:
        """Queue a kernel that touches so many bytes."""
        since = self.touched - self.last.get(key, -1e18)
        held = since + size
        hot = min(1.0, max(0.0, (1.6 * self.law.l2_bytes - held) / (0.8 * self.law.l2_bytes)))
        self.touched += size
        self.last[key] = self.touched
        took = seconds(hot) * self.host.random.lognormvariate(0.0, self.noise)
        if self.host.random.random() < self.trouble:
            took *= 1 + self.host.random.random()
        start = self.free_at if queued else max(self.free_at + gap, self.host.now + _LATENCY_S)
        self.free_at = start + took + (gap if queued else 0.0)
        self.launched += 1


@dataclass(eq=False)
class FakeStream:
    """A stream; there is one queue for each device."""

    device: FakeDevice

    def synchronize(self) -> None:
        self.device.host.now = max(self.device.host.now, self.device.free_at)


class FakeEvent:
    """An event on whatever device was current when it was recorded."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.at, self.device = cuda, 0.0, -1

    def record(self) -> None:
        host = self.cuda.host
        if host.capturing is not None:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        host.now += _EVENT_S
        device = self.cuda.devices[host.current]
        self.device, self.at = host.current, max(device.free_at, host.now)

    def query(self) -> bool:
        return self.at <= self.cuda.host.now

    def synchronize(self) -> None:
        self.cuda.host.now = max(self.cuda.host.now, self.at)

    def elapsed_time(self, stop: FakeEvent) -> float:
        if self.device != stop.device:
            raise RuntimeError("both events must be recorded on one device")
        return max(0.0, stop.at - self.at) * 1e3


class FakeGraph:
    """Captured kernels."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.kernels: list[tuple[FakeDevice, Any, float, Callable[[float], float]]] = []

    def capture_begin(self) -> None:
        if self.cuda.host.streams.get(self.cuda.host.current) is None:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream.")
        self.cuda.host.capturing = self

    def capture_end(self) -> None:
        self.cuda.host.capturing = None
        self.cuda.host.now += _NODE_S * len(self.kernels)

    def replay(self) -> None:
        self.cuda.host.now += _REPLAY_S
        for place, (device, key, size, seconds) in enumerate(self.kernels):
            device.run(key, size, seconds, GRAPH_GAP_S, queued=place > 0)


class FakeBuffer:
    """Memory that is written to keep a device busy."""

    def __init__(self, device: FakeDevice, size: float) -> None:
        self.device, self.size = device, size

    def zero_(self) -> None:
        self.device.host.now += _WRITE_S
        self.device.run(self, self.size, lambda _: self.size / self.device.law.bandwidth, GAP_S)


@dataclass(eq=False)
class FakeCuda:
    """torch.cuda, as far as it is used."""

    host: FakeHost
    devices: tuple[FakeDevice, ...]

    def Stream(self, device: int) -> FakeStream:  # noqa: N802 - torch's name
        return FakeStream(self.devices[device])

    def Event(self, *, enable_timing: bool) -> FakeEvent:  # noqa: N802 - torch's name
        assert enable_timing
        return FakeEvent(self)

    def CUDAGraph(self) -> FakeGraph:  # noqa: N802 - torch's name
        return FakeGraph(self)

    @contextmanager
    def device(self, index: int) -> Iterator[None]:
        before, self.host.current = self.host.current, index
        try:
            yield
        finally:
            self.host.current = before

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        index = stream.device.index
        before = self.host.streams.get(index)
        with self.device(index):
            self.host.streams[index] = stream
            try:
                yield
            finally:
                self.host.streams[index] = before

    def synchronize(self, index: int) -> None:
        self.host.now = max(self.host.now, self.devices[index].free_at)

    def mem_get_info(self, index: int) -> tuple[int, int]:
        total = self.devices[index].law.memory_bytes
        return round(0.97 * total), total


class FakeTorch:
    """torch, as far as `GpuClock` uses it."""

    int32 = "int32"

    def __init__(self, law: FakeLaw | None = None, count: int = 1) -> None:
        self.host = FakeHost()
        law = law or FakeLaw()
        devices = tuple(FakeDevice(host=self.host, law=law, index=index) for index in range(count))
        self.cuda = FakeCuda(host=self.host, devices=devices)

    def device(self, place: str) -> int:
        return int(place.removeprefix("cuda:"))

    def empty(self, count: int, *, dtype: str, device: int) -> FakeBuffer:
        assert dtype == self.int32
        return FakeBuffer(self.cuda.devices[device], 4.0 * count)

    def call_of(self, made: Op, index: int = 0, *, waits: bool = False, captures: bool = True) -> Callable[[], None]:
        """A call of an operator; one that ``waits`` synchronises, and some cannot be captured."""
        host, device = self.host, self.cuda.devices[index]
        host.now += _FIRST_S + made.work.bytes / _FILL_RATE
        issue_s, size, key = device.law.issue_seconds(made), float(made.work.bytes), object()
        forward_on = host.streams.get(index) if made.direction == "backward" else None

        def call() -> None:
            if host.capturing is not None:
                if not captures or (made.direction == "backward" and forward_on is not host.streams.get(index)):
                    raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
                host.now += issue_s
                host.capturing.kernels.append((device, key, size, lambda hot: device.law.seconds(made, hot)))
                return
            host.now += issue_s * host.random.lognormvariate(0.0, 0.04)
            device.run(key, size, lambda hot: device.law.seconds(made, hot), GAP_S)
            if waits:
                host.now = max(host.now, device.free_at)

        return call
