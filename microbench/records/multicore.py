"""What cores do together: how rates and clocks change with their number, and what one sees of another."""

from __future__ import annotations

from dataclasses import dataclass

from microbench.records.values import LEVELS, Estimate, one_of, within


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPoint:
    """A rate (FLOP/s or byte/s) of one thread each on so many cores."""

    cores: int
    rate: float

    def __post_init__(self) -> None:
        within(self, "units", "cores")
        within(self, "rate", "rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingCurve:
    """The rate of one loop on more and more cores, the threads spread over the caches of a socket.

    ``saturated_at`` is the fewest cores that reach nine tenths of the highest rate of the curve.
    """

    name: str
    points: tuple[ScalingPoint, ...]
    saturated_at: int
    level: str | None = None

    def __post_init__(self) -> None:
        one_of(self, "level", LEVELS)
        within(self, "units", "saturated_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamClock:
    """The highest core clock seen while one core ran arithmetic of a variant (a register width), and while all did."""

    variant: str
    one_core_hz: float
    all_cores_hz: float

    def __post_init__(self) -> None:
        within(self, "hertz", "one_core_hz", "all_cores_hz")


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuPair:
    """Seconds that a cache line takes from one CPU to another: half of the way there and back."""

    first: int
    second: int
    seconds: Estimate
    case: str | None = None

    def __post_init__(self) -> None:
        within(self, "units", "first", "second", zero=True)
        within(self.seconds, "cost", "value", "low", "high", zero=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreToCore:
    """The core-to-core latencies: of all pairs of cores, or of a sample of them.

    ``clusters`` are the CPUs that are near each other, told apart at the widest gap of the latencies; empty where there
    is no gap, or the pairs are a sample.
    """

    pairs: tuple[CpuPair, ...]
    complete: bool
    clusters: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePair:
    """What CPUs of one NUMA node see of another node's memory: bandwidth of all their cores, latency of one."""

    cpu_node: int
    memory_node: int
    bandwidth: Estimate | None = None
    latency: Estimate | None = None

    def __post_init__(self) -> None:
        within(self, "units", "cpu_node", "memory_node", zero=True)
        for estimate, quantity in ((self.bandwidth, "rate"), (self.latency, "cost")):
            if estimate is not None:
                within(estimate, quantity, "value", "low", "high", zero=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPoint:
    """Load-to-use latency of main memory while so many other cores read it, and the byte/s that they get together."""

    streams: int
    latency: Estimate
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        within(self, "units", "streams", zero=True)
        within(self, "rate", "bandwidth")
        within(self.latency, "cost", "value", "low", "high", zero=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Multicore:
    """All that is known of cores together; what was not measured is empty or ``None``."""

    scaling: tuple[ScalingCurve, ...] = ()
    clocks: tuple[TeamClock, ...] = ()
    core_to_core: CoreToCore | None = None
    nodes: tuple[NodePair, ...] = ()
    loaded: tuple[LoadedPoint, ...] = ()
