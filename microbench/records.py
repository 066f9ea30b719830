"""Every record of the project: plain, frozen values that refuse what cannot be.

Stored in SI: seconds, bytes, FLOP, hertz, watts. ``None`` means unknown. ``store`` turns them into JSON; nothing else does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from microbench.dtypes import DTYPES

Measures = Literal["compute", "memory", "link", "latency", "intensity", "clock", "cost", "operator"]
Unit = Literal["scalar", "vector", "matrix"]
Access = Literal["read", "write", "copy", "triad"]
Backend = Literal["native", "cuda", "triton", "torch"]
Scope = Literal["core", "device"]
Mode = Literal["peak", "sustained", "library"]
Operands = Literal["exact", "random"]
Severity = Literal["info", "warning", "error"]
ProofStatus = Literal["proven", "unproven", "failed"]
Value = int | float | str | bool

LEVELS = ("L1", "L2", "L3", "DRAM", "shared", "host", "peer")
MEASURES = ("compute", "memory", "link", "latency", "intensity", "clock", "cost", "operator")
BACKENDS = ("native", "cuda", "triton", "torch")
_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")


def _refuse(condition: bool, message: str) -> None:
    if condition:
        raise ValueError(message)


def _finite(record: object, *names: str, positive: bool = False) -> None:
    for name in names:
        value = getattr(record, name)
        if value is None:
            continue
        _refuse(not math.isfinite(value), f"{type(record).__name__}.{name} is {value}; a number must be finite")
        _refuse(
            value < 0 or (positive and value == 0),
            f"{type(record).__name__}.{name} is {value}; it must be {'positive' if positive else 'at least 0'}",
        )


def _one_of(record: object, name: str, allowed: tuple[str, ...] | Mapping[str, Any]) -> None:
    value = getattr(record, name)
    _refuse(value is not None and value not in allowed, f"{type(record).__name__}.{name} is {value!r}; known: {', '.join(allowed)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A distilled number with its interval.

    ``basis`` says how low and high came about where they are no confidence interval ("third best round .. nominal");
    ``confidence`` is the coverage asked for where they are one.
    """

    value: float
    low: float
    high: float
    basis: str | None = None
    confidence: float | None = None

    def __post_init__(self) -> None:
        _finite(self, "value", "low", "high")
        _refuse(not self.low <= self.value <= self.high, f"an estimate needs low <= value <= high, not {self.low} {self.value} {self.high}")
        _refuse(self.confidence is not None and not 0 < self.confidence < 1, f"confidence is {self.confidence}; it lies between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What an operator or one iteration of a kernel does, counted from shapes alone.

    ``flop`` counts an FMA as 2 (integer operations likewise). Bytes are those asked for, write-allocate not included.
    """

    flop: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    parameters: int = 0

    def __post_init__(self) -> None:
        _finite(self, "flop", "bytes_read", "bytes_written", "parameters")

    @property
    def bytes(self) -> int:
        """Bytes read plus bytes written."""
        return self.bytes_read + self.bytes_written

    @property
    def intensity(self) -> float | None:
        """Arithmetic intensity in FLOP/byte; ``None`` without traffic."""
        return self.flop / self.bytes if self.bytes else None

    def __add__(self, other: Work) -> Work:
        return Work(
            flop=self.flop + other.flop,
            bytes_read=self.bytes_read + other.bytes_read,
            bytes_written=self.bytes_written + other.bytes_written,
            parameters=self.parameters + other.parameters,
        )

    def __mul__(self, times: int) -> Work:
        return Work(
            flop=self.flop * times,
            bytes_read=self.bytes_read * times,
            bytes_written=self.bytes_written * times,
            parameters=self.parameters * times,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLevel:
    """One level of the memory hierarchy as the system advertises it (a hint: virtual machines lie)."""

    name: str
    capacity_bytes: int | None = None
    line_bytes: int | None = None
    ways: int | None = None
    shared_by: int | None = None

    def __post_init__(self) -> None:
        _one_of(self, "name", LEVELS)
        _finite(self, "capacity_bytes", "line_bytes", "ways", "shared_by", positive=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A thing that computes. ``id`` is a salted hash; no host name, serial or UUID is stored.

    ``arch`` is the microarchitecture (``cascadelake``) or compute target (``sm_90a``). ``features`` are the words that
    ``Sheet.needs`` asks for: cpuid flags, or the compute targets whose code this device runs.
    """

    id: str
    kind: Literal["cpu", "cuda"]
    name: str
    arch: str
    index: int = 0
    units_by_kind: dict[str, int] = field(default_factory=dict)
    base_clock_hz: float | None = None
    boost_clock_hz: float | None = None
    memory_bytes: int | None = None
    power_limit_w: float | None = None
    levels: tuple[MemoryLevel, ...] = ()
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _one_of(self, "kind", ("cpu", "cuda"))
        _finite(self, "base_clock_hz", "boost_clock_hz", "memory_bytes", "power_limit_w", positive=True)

    def level(self, name: str) -> MemoryLevel | None:
        """The advertised level of that name, or ``None``."""
        return next((level for level in self.levels if level.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The data sheet of one kernel: facts only, stored with the run.

    ``work`` is per iteration and thread (CUDA: per iteration and thread block). ``math``, ``loads`` and ``stores`` count the
    instructions of one iteration of the loop, which the proof compares with the disassembly. ``lanes`` x ``flop_per_lane`` is
    the FLOP of one math instruction. ``ports`` names the row of the architecture's port table that bounds the loop, ``licence``
    the clock licence it runs under (cases are measured in blocks of one licence), ``companion`` the kernel that tells the
    clock. ``cycles`` is the length of one iteration's dependent chain in core cycles, given by clock kernels only.
    ``needs`` are device features; ``unavailable`` says why this machine cannot run it.
    """

    name: str
    measures: Measures
    backend: Backend
    device_kind: Literal["cpu", "cuda"]
    says: str
    unit: Unit | None = None
    dtype: str | None = None
    accumulator: str | None = None
    access: Access | None = None
    variant: str = ""
    licence: str | None = None
    ports: str | None = None
    lanes: int = 1
    flop_per_lane: int = 2
    chains: int = 1
    math: int = 0
    loads: int = 0
    stores: int = 0
    access_bytes: int = 0
    cycles: float = 0.0
    work: Work = field(default_factory=Work)
    params: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    companion: str | None = None
    operands: Operands | None = None
    source: str = ""
    symbol: str | None = None
    verified: bool = True
    unavailable: str | None = None

    def __post_init__(self) -> None:
        _refuse(not _NAME.fullmatch(self.name), f"kernel name {self.name!r} is not what.dtype[.accumulator][.variant]")
        _one_of(self, "measures", MEASURES)
        _one_of(self, "backend", BACKENDS)
        _one_of(self, "unit", ("scalar", "vector", "matrix"))
        _one_of(self, "dtype", DTYPES)
        _one_of(self, "accumulator", DTYPES)
        _one_of(self, "access", ("read", "write", "copy", "triad"))
        _one_of(self, "operands", ("exact", "random"))
        _finite(self, "lanes", "chains", positive=True)
        _finite(self, "math", "loads", "stores", "access_bytes", "cycles", "flop_per_lane")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kernel at one set of parameters, on so many threads. ``key`` never changes meaning once released."""

    kernel: str
    params: dict[str, Value] = field(default_factory=dict)
    threads: int = 1
    scope: Scope = "core"
    mode: Mode = "peak"

    def __post_init__(self) -> None:
        _finite(self, "threads", positive=True)
        _one_of(self, "scope", ("core", "device"))
        _one_of(self, "mode", ("peak", "sustained", "library"))

    @property
    def key(self) -> str:
        """For example ``read.f32.avx512[pages=huge;working_set=24576]@1``."""
        inner = ";".join(f"{name}={self.params[name]}" for name in sorted(self.params))
        suffix = "" if self.mode == "peak" else f":{self.mode}"
        return f"{self.kernel}[{inner}]@{self.threads}{suffix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How long to measure: every limit that the stopping rule knows."""

    name: Literal["quick", "default", "thorough"] = "default"
    time_limit_s: float = 150.0
    min_rounds: int = 4
    max_rounds: int = 60
    sample_s: float = 1e-3
    samples: int = 12
    warmup_s: float = 5e-3

    def __post_init__(self) -> None:
        _finite(self, "time_limit_s", "min_rounds", "max_rounds", "sample_s", "samples", positive=True)
        _finite(self, "warmup_s")
        _refuse(self.min_rounds > self.max_rounds, f"min_rounds {self.min_rounds} is above max_rounds {self.max_rounds}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be measured, in which order rule and for how long."""

    cases: tuple[Case, ...]
    budget: Budget
    seed: int = 0

    def __post_init__(self) -> None:
        keys = [case.key for case in self.cases]
        _refuse(len(keys) != len(set(keys)), "a plan names a case twice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What one call of a prepared kernel returns.

    ``ns`` runs from the first start to the last end over all threads. ``checked`` is whether the result of this very launch equalled the
    expected value; ``None`` where the kernel leaves none. ``clock_hz`` is set by devices that stamp cycles inside the kernel.
    ``switches`` counts involuntary context switches, ``throttled`` whether the device said that it throttled.
    """

    ns: int
    iterations: int
    checked: bool | None = None
    clock_hz: float | None = None
    switches: int = 0
    throttled: bool = False
    power_w: float | None = None

    def __post_init__(self) -> None:
        _finite(self, "ns", "iterations", positive=True)
        _finite(self, "clock_hz", "power_w", positive=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The raw timings of one case in one round (evenly thinned to 200; ``count`` is how many were taken).

    ``companion_ns`` alternates with ``ns`` sample by sample where the kernel has a companion. ``clock_hz`` has one entry a
    sample where the device stamps cycles. ``started_s`` counts from the start of the run.
    """

    case: str
    round: int
    started_s: float
    iterations: int
    ns: tuple[int, ...]
    count: int
    companion_ns: tuple[int, ...] = ()
    companion_iterations: int = 0
    clock_hz: tuple[float, ...] = ()
    power_w: tuple[float, ...] = ()
    throttled: int = 0
    switches: int = 0
    steal_s: float = 0.0
    checked: bool | None = None
    stop: Literal["noise", "stable", "time", "count"] = "count"

    def __post_init__(self) -> None:
        _finite(self, "iterations", "count", positive=True)
        _finite(self, "started_s", "round", "switches", "throttled", "companion_iterations", "steal_s")
        _refuse(not self.ns or min(self.ns) <= 0, f"samples of {self.case} hold a duration that is not positive")
        _refuse(
            bool(self.companion_ns) and min(self.companion_ns) <= 0,
            f"companion samples of {self.case} hold a duration that is not positive",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Whether the loop that ran is the loop the sheet describes.

    ``expected`` and ``found`` count instructions per iteration by class (math, loads, stores).
    """

    status: ProofStatus
    source: str | None = None
    hash: str | None = None
    tool: str | None = None
    expected: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    reason: str | None = None

    def __post_init__(self) -> None:
        _one_of(self, "status", ("proven", "unproven", "failed"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """A rate that the device was seen to reach (FLOP/s, OP/s or byte/s), with everything that qualifies it.

    ``rate`` is the envelope, ``typical`` the median over rounds. ``nominal`` is units x width x FLOP per cycle at the clock
    seen, ``advertised`` what is printed. ``per_clock`` is per core (CPU) or per SM (CUDA).
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
    throttled_share: float | None = None
    proof: Proof = field(default_factory=lambda: Proof(status="unproven", reason="not examined"))

    def __post_init__(self) -> None:
        _one_of(self, "measures", ("compute", "memory", "link"))
        _one_of(self, "dtype", DTYPES)
        _one_of(self, "accumulator", DTYPES)
        _one_of(self, "level", LEVELS)
        _one_of(self, "access", ("read", "write", "copy", "triad"))
        _one_of(self, "scope", ("core", "device"))
        _one_of(self, "mode", ("peak", "sustained", "library"))
        _finite(self, "nominal", "advertised", "clock_hz", "per_clock", "power_w", "energy_per_op_j", "threads", "rounds", positive=True)
        _refuse(self.rate.value <= 0, f"ceiling {self.name} is {self.rate.value}; a rate is positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A time that work pays regardless of rates: load-to-use latency per level, launch, barrier, first touch."""

    name: str
    seconds: Estimate
    level: str | None = None
    case: str | None = None

    def __post_init__(self) -> None:
        _one_of(self, "level", LEVELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSeen:
    """A plateau of the working-set sweep: what a stream or a chase sees of one memory level.

    ``low_bytes`` to ``high_bytes`` is the range of working sets on the plateau; ``value`` its height (byte/s for a stream,
    seconds per load for a chase). ``reuse_s`` is the longest time between two uses of one line that still hit this level.
    """

    name: str
    seen_by: Literal["stream", "chase"]
    low_bytes: int
    high_bytes: int
    value: float
    reuse_s: float | None = None
    advertised_bytes: int | None = None

    def __post_init__(self) -> None:
        _one_of(self, "name", LEVELS)
        _finite(self, "low_bytes", "high_bytes", "value", "reuse_s", "advertised_bytes", positive=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoofPoint:
    """One measured point of the intensity sweep."""

    intensity: float
    rate: float
    level: str
    fitted: float

    def __post_init__(self) -> None:
        _one_of(self, "level", LEVELS)
        _finite(self, "intensity", "rate", "fitted", positive=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineFit:
    """The empirical roofline of one dtype: ``rate = min(peak, bandwidth x intensity)`` fitted on the intensity sweep.

    ``bandwidth`` and ``ridge`` are keyed by level (byte/s, FLOP/byte). ``sharpness`` is the exponent of the smooth minimum
    ``(peak^-p + (bandwidth x intensity)^-p)^(-1/p)``; infinite overlap is a large p. ``residuals`` are ln(measured / fitted).
    """

    dtype: str
    unit: Unit | None
    threads: int
    peak: float
    bandwidth: dict[str, float]
    ridge: dict[str, float]
    points: tuple[RoofPoint, ...] = ()
    sharpness: float | None = None
    rms_log_residual: float | None = None
    worst_log_residual: float | None = None

    def __post_init__(self) -> None:
        _one_of(self, "dtype", DTYPES)
        _finite(self, "peak", "threads", positive=True)
        for name, values in (("bandwidth", self.bandwidth), ("ridge", self.ridge)):
            _refuse(any(not 0 < value < math.inf for value in values.values()), f"RooflineFit.{name} holds {values}; all must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFit:
    """What calibration learnt about one operator family and dtype.

    ``cost_s`` is the fixed cost per launch mode (eager, graph, kernel), ``terms`` the physical parameters by name and ``form`` the
    formula that they belong to. ``points`` are the calibration rows that the local correction interpolates: scaled coordinates,
    then the weight of the row (ln); ``scale`` makes coordinates, ``codes`` names the operators that have an axis, ``correction`` has
    amplitude, noise and distance between operators. ``residuals`` are the cross-validated ln(measured / predicted) over the
    spread expected at their place, ``quantile`` the multiple of that spread which covers ``confidence`` (``None``: too few rows).
    """

    family: str
    dtype: str
    rows: int
    form: str = "stream"
    cost_s: dict[str, float] = field(default_factory=dict)
    terms: dict[str, float] = field(default_factory=dict)
    codes: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    correction: dict[str, float] = field(default_factory=dict)
    points: tuple[tuple[float, ...], ...] = ()
    residuals: tuple[float, ...] = ()
    quantile: float | None = None
    confidence: float = 0.9
    cache: Literal["hot", "cold"] = "hot"
    distrusted: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _one_of(self, "dtype", DTYPES)
        _one_of(self, "form", ("tiled", "smooth", "stream"))
        _finite(self, "rows", positive=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """Everything fitted: levels found, rooflines, operator families."""

    levels: tuple[LevelSeen, ...] = ()
    rooflines: tuple[RooflineFit, ...] = ()
    operators: tuple[OperatorFit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """How long an operator will take, what limits it, and the terms that were added up (seconds by name)."""

    op: str
    seconds: Estimate
    limiter: str
    work: Work
    family: str
    terms: dict[str, float] = field(default_factory=dict)
    level: str | None = None
    bound: Literal["compute", "memory", "cost"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A doubt, a warning or a doctor's word: what was seen, and what to do about it. Nothing is changed for the user."""

    code: str
    severity: Severity
    says: str
    remedy: str = ""
    case: str | None = None

    def __post_init__(self) -> None:
        _one_of(self, "severity", ("info", "warning", "error"))
        _refuse(not _NAME.fullmatch(self.code.replace("-", "_")), f"finding code {self.code!r} is not lower-case words joined by '-'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the numbers were measured under: one entry a fact, e.g. ``kernel``, ``transparent_hugepage``, ``compiler``."""

    started: str
    seconds: float
    microbench: str
    facts: dict[str, Value | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Characterisation:
    """One device, measured: the file that everything downstream reads. ``device`` lacks measured facts in a file from ``fit``."""

    schema: str
    device: Device
    environment: Environment | None
    plan: Plan | None
    sheets: tuple[Sheet, ...] = ()
    samples: tuple[Samples, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()
    costs: tuple[Cost, ...] = ()
    fits: Fits = field(default_factory=Fits)
    findings: tuple[Finding, ...] = ()

    # Records know nothing of higher floors; these two are here because users look for them on the record.

    @property
    def roofline(self) -> Any:
        """The empirical `microbench.roofline.Roofline` of all threads."""
        return import_module("microbench.roofline").Roofline.of(self)

    def ceilings_frame(self) -> Any:
        """The ceilings as a pandas DataFrame in long form, SI units in the column names."""
        rows = import_module("microbench.frames").ceiling_rows(self.ceilings)
        return import_module("pandas").DataFrame(list(rows))
