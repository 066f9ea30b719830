"""What analysis makes of samples: ceilings with their proof, costs, the memory levels seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from microbench.records.dtypes import DTYPES
from microbench.records.values import (
    LEVELS,
    Access,
    Backend,
    Estimate,
    Mode,
    Operands,
    ProofStatus,
    Scope,
    Unit,
    all_within,
    one_of,
    refuse,
    within,
)

# The cost that calling an operator through a module of PyTorch adds.
MODULE_COST = "module.eager"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Whether the loop that ran is the loop the sheet describes.

    ``expected`` and ``found`` count instructions per iteration by class (math, loads, stores). ``schedule`` says how
    far the order of the instructions and their registers let the unit run (GPUs; ``None`` where it was not examined):
    a peak whose counts are right and whose schedule does not allow its ceiling is unproven, with the reason.
    """

    status: ProofStatus
    source: str | None = None
    hash: str | None = None
    tool: str | None = None
    expected: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    reason: str | None = None
    schedule: str | None = None

    def __post_init__(self) -> None:
        one_of(self, "status", ("proven", "unproven", "failed"))
        all_within(self, "count", "expected", zero=True)
        all_within(self, "count", "found", zero=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """A rate that the device was seen to reach (FLOP/s, OP/s or byte/s), with everything that qualifies it.

    ``rate`` is the envelope, ``typical`` the median over rounds. ``nominal`` is units x width x FLOP per cycle at the
    clock seen, ``advertised`` what is printed. ``per_clock`` is per core (CPU) or per SM (CUDA). ``quiet_share`` is the
    share of rounds whose median came close to the envelope. ``placement`` is that of the case: ``None`` is one core or
    all CPUs.
    """

    name: str
    measures: Literal["compute", "memory", "link"]
    backend: Backend
    rate: Estimate
    case: str
    unit: Unit | None = None
    dtype: str | None = None
    accumulator: str | None = None
    level: str | None = None
    access: Access | None = None
    variant: str = ""
    threads: int = 1
    scope: Scope = "core"
    mode: Mode = "peak"
    operands: Operands | None = None
    typical: Estimate | None = None
    rounds: int = 1
    converged: bool = False
    quiet_share: float | None = None
    nominal: float | None = None
    advertised: float | None = None
    clock_hz: float | None = None
    per_clock: float | None = None
    power_w: float | None = None
    energy_per_op_j: float | None = None
    energy_per_byte_j: float | None = None
    throttled_share: float | None = None
    placement: str | None = None
    proof: Proof = field(default_factory=lambda: Proof(status="unproven", reason="not examined"))

    def __post_init__(self) -> None:
        one_of(self, "measures", ("compute", "memory", "link"))
        one_of(self, "dtype", DTYPES)
        one_of(self, "accumulator", DTYPES)
        one_of(self, "level", LEVELS)
        one_of(self, "access", ("read", "write", "copy", "triad"))
        one_of(self, "scope", ("core", "device"))
        one_of(self, "mode", ("peak", "sustained", "library"))
        refuse(self.rate.value <= 0, f"ceiling {self.name} is {self.rate.value}; a rate is positive")
        within(self.rate, "rate", "value")
        within(self.rate, "rate", "low", "high", zero=True)
        if self.typical is not None:
            within(self.typical, "rate", "value", "low", "high", zero=True)
        within(self, "rate", "nominal", "advertised")
        within(self, "hertz", "clock_hz")
        within(self, "factor", "per_clock")
        within(self, "watts", "power_w")
        within(self, "joules", "energy_per_op_j", "energy_per_byte_j")
        within(self, "units", "threads", "rounds")
        within(self, "share", "quiet_share", "throttled_share")

    @property
    def kernel(self) -> str:
        """The kernel that was measured: the first part of the case's key."""
        return self.case.partition("[")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A time that work pays regardless of rates: load-to-use latency per level, launch, barrier, first touch."""

    name: str
    seconds: Estimate
    level: str | None = None
    case: str | None = None

    def __post_init__(self) -> None:
        one_of(self, "level", LEVELS)
        within(self.seconds, "cost", "value", "low", "high", zero=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSeen:
    """A plateau of the working-set sweep: what a stream or a chase sees of one memory level.

    ``low_bytes`` to ``high_bytes`` is the range of working sets on the plateau; ``value`` its height (byte/s for a
    stream, seconds per load for a chase). ``capacity_bytes`` is where the curve passes the geometric middle between
    this plateau and the next; ``None`` for the last one, and in files older than schema 1.2. ``reuse_s`` is the longest
    time between two uses of one line that still hit this level.
    """

    name: str
    seen_by: Literal["stream", "chase"]
    low_bytes: int
    high_bytes: int
    value: float
    reuse_s: float | None = None
    advertised_bytes: int | None = None
    capacity_bytes: int | None = None

    def __post_init__(self) -> None:
        one_of(self, "name", LEVELS)
        one_of(self, "seen_by", ("stream", "chase"))
        within(self, "bytes", "low_bytes", "high_bytes", "advertised_bytes", "capacity_bytes")
        within(self, "rate" if self.seen_by == "stream" else "cost", "value")
        within(self, "seconds", "reuse_s")
        refuse(self.low_bytes > self.high_bytes, f"level {self.name} ends at {self.high_bytes} B, before it begins")

    @property
    def seen_to_bytes(self) -> int:
        """The largest working set that the level still holds: its capacity, or the end of its plateau without one."""
        return self.capacity_bytes or self.high_bytes
