"""What is measured and what comes back: the device, its kernels' sheets, the plan, raw timings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from microbench.records.dtypes import DTYPES
from microbench.records.roles import Role, misfit, undeclared
from microbench.records.topology import PLACEMENT, MemoryLevel, Topology
from microbench.records.values import (
    BACKENDS,
    MEASURES,
    NAME,
    Access,
    Backend,
    Measures,
    Mode,
    Operands,
    Scope,
    Unit,
    Value,
    Work,
    all_within,
    one_of,
    refuse,
    within,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A thing that computes. ``id`` is a salted hash of one device, ``sku`` one of its model; no serial is stored.

    Neither host name nor UUID is stored either. In files of schema 1.2 and older ``id`` was that of the model and the
    number of CPUs (of one device on a GPU), and there was no ``sku``.

    ``arch`` is the microarchitecture (``cascadelake``) or compute target (``sm_90a``). ``features`` are the words that
    ``Sheet.needs`` asks for: cpuid flags, or the compute targets whose code this device runs. ``topology`` is known of
    CPUs, in files of schema 1.2 and later.
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
    topology: Topology | None = None
    sku: str | None = None

    def __post_init__(self) -> None:
        one_of(self, "kind", ("cpu", "cuda"))
        within(self, "hertz", "base_clock_hz", "boost_clock_hz")
        within(self, "bytes", "memory_bytes")
        within(self, "watts", "power_limit_w")
        within(self, "units", "index", zero=True)
        all_within(self, "units", "units_by_kind")

    def level(self, name: str) -> MemoryLevel | None:
        """The advertised level of that name, or ``None``."""
        return next((level for level in self.levels if level.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The data sheet of one kernel: facts only, stored with the run.

    ``measures`` is the quantity, ``roles`` what it is measured for (`records.roles`). ``family`` is shared by kernels
    that differ in register width alone, of which the widest that can run here stands for all; ``unless`` are kernels
    that leave this one nothing to tell where one of them can run. ``work`` is per iteration and thread (CUDA: per
    iteration and thread block). ``math``, ``beside``, ``loads`` and ``stores`` count the instructions of one iteration
    of the loop, which the proof compares with the disassembly: ``math`` are multiply-adds, ``beside`` has ``add`` and
    ``mul`` (one FLOP a lane) and ``widen`` (what a sequence needs and what does no work of its own). ``lanes`` x
    ``flop_per_lane`` is the FLOP of one math instruction. ``ports`` names the row of the architecture's port table that
    bounds the loop, ``frequency_license`` the instructions that the core may slow down for (cases are measured in
    blocks of one license), ``reference_clock`` the kernel that tells the clock. ``cycles`` is the length of one
    iteration's dependent chain in core cycles, given by clock kernels only. ``needs`` are device features;
    ``unavailable`` says why this machine cannot run it.
    """

    name: str
    measures: Measures
    backend: Backend
    device_kind: Literal["cpu", "cuda"]
    says: str
    roles: tuple[Role, ...] = ()
    unit: Unit | None = None
    dtype: str | None = None
    accumulator: str | None = None
    access: Access | None = None
    variant: str = ""
    family: str = ""
    unless: tuple[str, ...] = ()
    frequency_license: str | None = None
    ports: str | None = None
    lanes: int = 1
    flop_per_lane: int = 2
    chains: int = 1
    math: int = 0
    beside: dict[str, int] = field(default_factory=dict)
    loads: int = 0
    stores: int = 0
    access_bytes: int = 0
    cycles: float = 0.0
    work: Work = field(default_factory=Work)
    params: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    reference_clock: str | None = None
    operands: Operands | None = None
    source: str = ""
    symbol: str | None = None
    verified: bool = True
    unavailable: str | None = None

    def __post_init__(self) -> None:
        refuse(not NAME.fullmatch(self.name), f"kernel name {self.name!r} is not what.dtype[.accumulator][.variant]")
        one_of(self, "measures", MEASURES)
        one_of(self, "backend", BACKENDS)
        one_of(self, "unit", ("scalar", "vector", "matrix"))
        one_of(self, "dtype", DTYPES)
        one_of(self, "accumulator", DTYPES)
        one_of(self, "access", ("read", "write", "copy", "triad"))
        one_of(self, "operands", ("exact", "random"))
        if not self.roles:
            object.__setattr__(self, "roles", undeclared(self.measures, self.access))
        wrong = misfit(self.roles, self.measures)
        refuse(wrong is not None, f"kernel {self.name}: {wrong}")
        within(self, "units", "lanes", "chains")
        within(self, "count", "math", "loads", "stores", "access_bytes", "cycles", "flop_per_lane", zero=True)
        all_within(self, "count", "beside", zero=True)

    @property
    def fixed_level(self) -> str | None:
        """The level that a GPU kernel reaches whatever its working set: the multiprocessor's own memories."""
        return {"shared": "shared", "l1": "L1"}.get(self.variant) if self.device_kind == "cuda" else None

    def takes(self, *roles: Role) -> bool:
        """Whether the kernel takes one of these roles."""
        return any(role in self.roles for role in roles)


# What a case's parameters may be: words, and numbers of which these are whole.
_PARAM = re.compile(r"[a-z][a-z0-9_]*")
_WORD = re.compile(r"[A-Za-z0-9_.,:+-]{0,100}")
_WHOLE = frozenset(
    {"working_set", "window", "size", "streams", "group", "prefetch", "cold", "node", "blocks_per_sm", "line"}
    | {"m", "n", "k"}
)
# A warm-up or a sample that lasts longer is no burst, and a run must be able to end.
LONGEST_SAMPLE_S = 100.0


def _check_param(name: str, value: Value) -> None:
    refuse(not _PARAM.fullmatch(name), f"Case.params has {name!r}, which is no lower-case word")
    if isinstance(value, str):
        refuse(not _WORD.fullmatch(value), f"Case.params.{name} is {value[:60]!r}, which is no word")
    if name in _WHOLE:
        refuse(isinstance(value, (str, float, bool)), f"Case.params.{name} is {value!r}; a whole number is needed")
    if not isinstance(value, str):
        refuse(not 0 <= value <= 2**60, f"Case.params.{name} is {value!r}; it lies between 0 and 2^60")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kernel at one set of parameters, on so many threads. ``key`` never changes meaning once released.

    ``placement`` says on which CPUs: a word of ``Topology.placements``, or the CPUs themselves in the system's spelling
    (``0-3,8``). Without one it is one core or all CPUs, whichever the number of threads is.
    """

    kernel: str
    params: dict[str, Value] = field(default_factory=dict)
    threads: int = 1
    scope: Scope = "core"
    mode: Mode = "peak"
    placement: str | None = None

    def __post_init__(self) -> None:
        within(self, "units", "threads")
        for name, value in self.params.items():
            _check_param(name, value)
        refuse(
            self.placement is not None and not PLACEMENT.fullmatch(self.placement),
            f"placement {self.placement!r} is neither a lower-case word nor a list of CPUs like 0-3,8",
        )
        one_of(self, "scope", ("core", "device"))
        one_of(self, "mode", ("peak", "sustained", "library"))

    @property
    def on_named_cpus(self) -> bool:
        """Whether the placement names CPUs: an entry of a matrix, and no ceiling of the device."""
        return self.placement is not None and self.placement[0].isdigit()

    @property
    def key(self) -> str:
        """For example ``read.f32.avx512[pages=huge;working_set=24576]@1``, or ``fma.f32.v256[]@64/cores``."""
        inner = ";".join(f"{name}={self.params[name]}" for name in sorted(self.params))
        suffix = "" if self.mode == "peak" else f":{self.mode}"
        where = "" if self.placement is None else f"/{self.placement}"
        return f"{self.kernel}[{inner}]@{self.threads}{where}{suffix}"


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
        one_of(self, "name", ("quick", "default", "thorough"))
        within(self, "seconds", "time_limit_s", "sample_s")
        within(self, "seconds", "warmup_s", zero=True)
        within(self, "units", "min_rounds", "max_rounds", "samples")
        refuse(
            max(self.sample_s, self.warmup_s) > LONGEST_SAMPLE_S,
            f"a sample of {self.sample_s:g} s after {self.warmup_s:g} s of warm-up; at most {LONGEST_SAMPLE_S:g} s",
        )
        refuse(self.min_rounds > self.max_rounds, f"min_rounds {self.min_rounds} is above max_rounds {self.max_rounds}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be measured, in which order rule and for how long."""

    cases: tuple[Case, ...]
    budget: Budget
    seed: int = 0

    def __post_init__(self) -> None:
        refuse(not -(2**63) <= self.seed < 2**64, "Plan.seed is no number of 64 bits")
        keys = [case.key for case in self.cases]
        refuse(len(keys) != len(set(keys)), "a plan names a case twice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What one call of a prepared kernel returns.

    ``ns`` runs from the first start to the last end over all threads. ``checked`` is whether the result of this very
    launch equalled the expected value; ``None`` where the kernel leaves none. ``clock_hz`` is set by devices that stamp
    cycles inside the kernel. ``switches`` counts involuntary context switches, ``throttled`` whether the device said
    that it throttled. ``moved`` counts threads found on another CPU than they were pinned to, ``away_ns`` is the
    longest that one of them did not run.
    """

    ns: int
    iterations: int
    checked: bool | None = None
    clock_hz: float | None = None
    switches: int = 0
    throttled: bool = False
    power_w: float | None = None
    moved: int = 0
    away_ns: int = 0

    def __post_init__(self) -> None:
        within(self, "count", "ns", "iterations")
        within(self, "hertz", "clock_hz")
        within(self, "watts", "power_w")
        within(self, "units", "moved", zero=True)
        within(self, "count", "switches", "away_ns", zero=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The raw timings of one case in one round (stored thinned, see ``thinning``; ``count`` is how many were taken).

    Of those ``throttled`` were taken while the device said that it held its clock down. A peak leaves these out of
    ``ns`` and of what goes with it, unless it has no others.

    ``reference_ns`` alternates with the first of ``ns`` sample by sample where the kernel has a reference clock.
    ``clock_hz`` has one entry a sample where the device stamps cycles. ``started_s`` counts from the start of the run.
    ``steal_s`` is what the host took from the CPUs of this process while the samples were taken, in steps of the
    kernel's tick (``None``: unknown). ``stop`` says why no more were taken: the budget's number was reached, or samples
    this long had used up their time. ``target_ns`` is what a sample, and one of the reference clock, was to last at
    least (``None``: unknown); nothing is distilled from a burst with one shorter than half of it.

    What else disturbed the burst (0 in files older than schema 1.3): ``moved`` threads were found on another CPU than
    they were pinned to; a thread did not run for ``away_s``, of which the quota of a control group held it for
    ``quota_s``; CPUs that share a core with the threads', and are not among them, worked for ``sibling_s``.
    """

    case: str
    round: int
    started_s: float
    iterations: int
    ns: tuple[int, ...]
    count: int
    reference_ns: tuple[int, ...] = ()
    reference_iterations: int = 0
    clock_hz: tuple[float, ...] = ()
    power_w: tuple[float, ...] = ()
    throttled: int = 0
    switches: int = 0
    steal_s: float | None = None
    checked: bool | None = None
    stop: Literal["count", "time"] = "count"
    target_ns: int | None = None
    moved: int = 0
    away_s: float = 0.0
    quota_s: float = 0.0
    sibling_s: float = 0.0

    def __post_init__(self) -> None:
        within(self, "count", "iterations", "count", "target_ns")
        within(self, "count", "switches", "throttled", "reference_iterations", zero=True)
        within(self, "units", "round", zero=True)
        within(self, "seconds", "started_s", "steal_s", zero=True)
        within(self, "units", "moved", zero=True)
        within(self, "seconds", "away_s", "quota_s", "sibling_s", zero=True)
        refuse(not self.ns or min(self.ns) <= 0, f"samples of {self.case} hold a duration that is not positive")
        refuse(
            bool(self.reference_ns) and min(self.reference_ns) <= 0,
            f"samples of the reference clock of {self.case} hold a duration that is not positive",
        )
        all_within(self, "count", "ns")
        all_within(self, "count", "reference_ns")
        all_within(self, "hertz", "clock_hz")
        all_within(self, "watts", "power_w")
        kept = len(self.ns)
        refuse(kept > self.count, f"{kept} samples of {self.case} are kept of {self.count} that were taken")
        refuse(self.throttled > self.count, f"{self.throttled} of {self.count} samples of {self.case} were throttled")
