"""What is fitted and applied: rooflines, operator calibrations, predictions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from microbench.records.analysed import LevelSeen
from microbench.records.dtypes import DTYPES
from microbench.records.values import (
    LEVELS,
    Estimate,
    Mode,
    Unit,
    Work,
    all_within,
    one_of,
    possible,
    refuse,
    within,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoofPoint:
    """One measured point of the intensity sweep."""

    intensity: float
    rate: float
    level: str
    fitted: float

    def __post_init__(self) -> None:
        one_of(self, "level", LEVELS)
        within(self, "intensity", "intensity")
        within(self, "rate", "rate", "fitted")


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineFit:
    """The empirical roofline of one dtype: ``rate = min(peak, bandwidth x intensity)`` fitted on the intensity sweep.

    ``bandwidth`` and ``ridge`` are keyed by level (byte/s, FLOP/byte). ``sharpness`` is the exponent of the smooth
    minimum ``(peak^-p + (bandwidth x intensity)^-p)^(-1/p)``; infinite overlap is a large p. ``residuals`` are
    ln(measured / fitted). ``variant`` names the instructions that the sweep went through; where that is not the way to
    the chip's peak, ``legacy`` is true. ``mode`` is ``peak`` where the points are best rounds of bursts, ``sustained``
    where they are medians of samples that lasted.
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
    variant: str = ""
    legacy: bool = False
    mode: Mode = "peak"

    def __post_init__(self) -> None:
        one_of(self, "dtype", DTYPES)
        one_of(self, "mode", ("peak", "sustained"))
        within(self, "rate", "peak")
        within(self, "units", "threads")
        for name in {*self.bandwidth, *self.ridge}:
            refuse(name not in LEVELS, f"RooflineFit has a level {name[:40]!r}; known: {', '.join(LEVELS)}")
        all_within(self, "rate", "bandwidth")
        all_within(self, "intensity", "ridge")
        within(self, "factor", "sharpness")
        within(self, "log", "rms_log_residual", "worst_log_residual")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFit:
    """The fit of one operator family and dtype.

    ``cost_s`` is the fixed cost per launch mode (eager, graph, kernel), ``terms`` the physical parameters by name and
    ``form`` the formula that they belong to. ``points`` are the calibration rows that the local correction
    interpolates: scaled coordinates, then the weight of the row (ln); ``scale`` makes coordinates, ``codes`` names the
    operators that have an axis, ``correction`` has amplitude, noise and distance between operators. ``residuals`` are
    the cross-validated ln(measured / predicted) over the spread expected at their place, ``quantile`` the multiple of
    that spread which covers ``confidence`` (``None``: too few rows), ``quantiles`` the same for operators with rows
    enough of their own. ``issue_s`` is what the host takes to issue one call of an operator of ``codes`` (or of the
    family's only one): the median of its rows, then what nine in ten lie between; where it is known, an eager call
    takes the longer of it and the kernel. ``figures`` are those of the device that the fit was made beside (FLOP/s,
    byte/s, bytes, seconds, by the names of terms; ``measured`` is 1 where they were seen and not printed): with them a
    fit moves to another device. ``place`` is where its device lies among others, the last coordinates of a correction
    that several devices share. ``sources`` names the devices whose rows are behind it, where it is not its own alone.
    ``elsewhere`` is the spread (ln) of its errors on devices whose rows it had not seen, with ceilings ``measured`` and
    ``printed``.
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
    quantiles: dict[str, float] = field(default_factory=dict)
    confidence: float = 0.9
    cache: Literal["hot", "cold"] = "hot"
    distrusted: tuple[int, ...] = ()
    issue_s: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    place: tuple[float, ...] = ()
    sources: tuple[str, ...] = ()
    elsewhere: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one_of(self, "dtype", DTYPES)
        one_of(self, "form", ("tiled", "smooth", "stream"))
        one_of(self, "cache", ("hot", "cold"))
        within(self, "units", "rows")
        all_within(self, "cost", "cost_s")
        all_within(self, "factor", "terms")
        all_within(self, "spread", "scale")
        all_within(self, "spread", "correction")
        all_within(self, "log", "residuals")
        all_within(self, "units", "distrusted", zero=True)
        within(self, "spread", "quantile")
        all_within(self, "spread", "quantiles")
        refuse(not 1e-6 < self.confidence < 1, f"OperatorFit.confidence is {self.confidence}; it lies between 0 and 1")
        self._check_points()
        for code, times in self.issue_s.items():
            for seconds in times:
                possible(seconds, "cost", f"OperatorFit.issue_s of {code[:40]!r}")
            middle, low, high = times
            refuse(not low <= middle <= high, f"OperatorFit.issue_s of {code[:40]!r} is not in order: {times}")

    def _check_points(self) -> None:
        """Refuse a local correction that cannot be evaluated: ragged rows, or its parameters missing."""
        if not self.points:
            return
        widths = {len(point) for point in self.points}
        wanted = len(self.scale) + (len(self.codes) if len(self.codes) > 1 else 0) + 1
        refuse(
            widths != {wanted},
            f"the points of {self.family} {self.dtype} have {sorted(widths)[:4]} numbers each; {wanted} are needed",
        )
        missing = {"amplitude", "noise", "apart"} - self.correction.keys()
        refuse(bool(missing), f"the fit of {self.family} {self.dtype} has points and no {', '.join(sorted(missing))}")
        for point in self.points:
            for value in point:
                refuse(
                    not (value == 0 or 1e-40 < abs(value) < 1e9), f"a point of {self.family} {self.dtype} has {value}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTiming:
    """One timed operator: a row of the operator CSV.

    ``params`` is written as in the CSV (``m=8;n=8;k=8``). ``seconds`` is the envelope of ``rounds`` where the cache was
    hot, their median where it was cold. ``launch`` is how it was called (eager, graph), ``kernel`` for the device's own
    time, or ``issue`` for what the host takes to issue a call. ``direction`` is the pass.
    """

    op: str
    dtype: str
    params: str
    seconds: float
    rounds: int
    cache: Literal["hot", "cold"] = "hot"
    launch: Literal["eager", "graph", "kernel", "issue"] = "eager"
    direction: Literal["forward", "backward"] = "forward"

    def __post_init__(self) -> None:
        one_of(self, "dtype", DTYPES)
        one_of(self, "launch", ("eager", "graph", "kernel", "issue"))
        within(self, "seconds", "seconds")
        one_of(self, "direction", ("forward", "backward"))
        within(self, "units", "rounds")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelError:
    """How far off the prediction of a whole model was: ``error`` is ln(measured / predicted), ``spread`` was expected.

    ``train`` says that it was a step of training, ``dtype`` what format does most of its work in, ``launch_share`` is
    the part of its time that is no work.
    """

    name: str
    error: float
    spread: float
    train: bool = False
    dtype: str = "f32"
    launch_share: float = 0.0

    def __post_init__(self) -> None:
        one_of(self, "dtype", DTYPES)
        within(self, "log", "error")
        within(self, "factor", "spread")
        within(self, "share", "launch_share", zero=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """Everything fitted: memory levels, rooflines, operator families, and the timings that the families were fitted to.

    ``reuse`` describes how a hot operator's time becomes a cold one's with the bytes that other operators touch between
    two calls: at ``half_bytes`` half of the difference is paid, ``power`` is the steepness there, and ``cold_bytes``
    were touched where cold operators were timed. ``models`` has ln(measured / predicted) of whole models that were
    timed in the same rounds, ``model_errors`` the same with what makes models alike.

    ``host`` is what a processor pays beside operators: ``mapped_bytes`` from which on a block of memory is mapped anew
    at each call and ``kept_bytes`` of a heap's free end that stay (neither, where all stays), ``fetch_s_per_byte`` of
    memory that comes anew; seconds of a view, of a small operator called from Python (``alone_s``) and inside another
    one (``nested_s``), of the start of a backward pass, and of an optimiser's step for a small parameter.
    """

    levels: tuple[LevelSeen, ...] = ()
    rooflines: tuple[RooflineFit, ...] = ()
    operators: tuple[OperatorFit, ...] = ()
    timings: tuple[OperatorTiming, ...] = ()
    reuse: dict[str, float] = field(default_factory=dict)
    models: dict[str, float] = field(default_factory=dict)
    model_errors: tuple[ModelError, ...] = ()
    host: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = {"half_bytes", "power", "cold_bytes"} - self.reuse.keys()
        refuse(bool(self.reuse) and bool(missing), f"Fits.reuse has no {', '.join(sorted(missing))}")
        all_within(self, "factor", "reuse")
        all_within(self, "log", "models")
        all_within(self, "factor", "host", zero=True)


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
