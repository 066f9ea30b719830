"""Whether one characterisation is slower than another, beyond the noise between runs.

Two runs of one device differ: the clock settles elsewhere, a neighbour is busier, pages lie otherwise. Part of that
hits all rows of a kind alike and cannot be seen from two files, so it is allowed for (`COMMON`); the part that hits
rows one by one is estimated from the rows themselves, robustly, so that a few real changes do not count as noise. Many
rows are looked at together, so each interval is wide enough that all of them hold at once (Šidák). A device compared
with itself must rarely be slower.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, median
from typing import Any, Literal

from microbench.errors import UsageError
from microbench.records import Ceiling, Characterisation, Cost, Estimate, Finding
from microbench.stats.intervals import AGREEING_ROUNDS

Verdict = Literal["slower", "faster", "same"]

GROUPS = ("compute", "memory", "link", "cost")
# Standard deviation of what hits all rows of a kind alike between two runs of one device: the tolerance at which rounds
# of one run are said to agree (1 % compute, 3 % memory), shared by two files. Costs hang on the scheduler and vary
# more.
COMMON = {"compute": 0.007, "memory": 0.02, "link": 0.02, "cost": 0.05}
# Never believe that rows repeat better than this, however quiet the two files look.
LEAST = {"compute": 0.003, "memory": 0.01, "link": 0.01, "cost": 0.03}
CONFIDENCE = 0.95
_COMMON_WIDTH = 2.0
# A robust spread of fewer rows than this says nothing.
_ENOUGH_ROWS = 8
_GAUSS = 1.4826  # median absolute deviation of a normal variable to its standard deviation


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One row in both files. ``ratio`` is new speed over old speed: below 1 is slower, for costs too."""

    name: str
    group: str
    old: float
    new: float
    ratio: Estimate
    verdict: Verdict
    converged: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All rows of a kind together: the median ratio, how far rows scatter, and the verdict on the kind."""

    name: str
    rows: int
    ratio: Estimate
    scatter: float
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two characterisations side by side."""

    old: str
    new: str
    same_device: bool
    changes: tuple[Change, ...]
    groups: tuple[Group, ...]
    added: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def identity(row: Ceiling | Cost) -> tuple[Any, ...]:
    """What makes two rows the same measurement: everything but the numbers."""
    if isinstance(row, Cost):
        return ("cost", row.name, row.level)
    kernel = (
        row.name,
        row.backend,
        row.unit,
        row.dtype,
        row.accumulator,
        row.level,
        row.access,
        row.variant,
        row.operands,
    )
    return (row.measures, *kernel, row.threads, row.placement, row.scope, row.mode)


def spread(estimate: Estimate) -> float:
    """Standard deviation of ln(value) that an estimate itself admits.

    A peak's low is its third best round: for a one-sided tail the gap from the best to the third best is 1.5 times the
    scale of the tail (the expected gaps between the first order statistics are 1 and 1/2 of it). A confidence interval
    is read as one.
    """
    value = max(estimate.value, 1e-300)
    if estimate.confidence is not None:
        width = math.log(max(estimate.high, 1e-300) / max(estimate.low, 1e-300)) / 2
        return abs(width) / NormalDist().inv_cdf((1 + estimate.confidence) / 2)
    return abs(math.log(max(estimate.low, 1e-300) / value)) / 1.5 if estimate.low < estimate.value else 0.0


def scatter(log_ratios: Sequence[float], group: str) -> float:
    """Row-by-row noise between two files: robust spread about the group's median, at least `LEAST` of the group."""
    if len(log_ratios) < _ENOUGH_ROWS:
        return LEAST[group] * math.sqrt(2)
    centre = median(log_ratios)
    return max(_GAUSS * median(abs(value - centre) for value in log_ratios), LEAST[group] * math.sqrt(2))


def interval(log_ratio: float, sd: float, group: str, rows: int) -> Estimate:
    """Interval of a ratio that holds for all rows at once: Šidák over the rows, plus the common part once."""
    each = CONFIDENCE ** (1 / max(rows, 1))
    width = NormalDist().inv_cdf((1 + each) / 2) * sd + _COMMON_WIDTH * COMMON[group]
    return Estimate(
        value=math.exp(log_ratio),
        low=math.exp(log_ratio - width),
        high=math.exp(log_ratio + width),
        confidence=CONFIDENCE,
    )


def verdict(ratio: Estimate) -> Verdict:
    """Slower or faster only where the whole interval says so."""
    return "slower" if ratio.high < 1 else "faster" if ratio.low > 1 else "same"


def compare(old: Characterisation, new: Characterisation) -> Comparison:
    """Compare two characterisations row by row: rows in both, rows in one only, a summary per kind, and findings.

    Parameters
    ----------
    old, new
        The reference and what is held against it; of one device at two times, or of two devices.

    Raises
    ------
    UsageError
        If the two have no row in common.
    """
    before, after = _rows(old), _rows(new)
    shared = [key for key in before if key in after]
    if not shared:
        raise UsageError(
            f"the two files have no ceiling or cost in common ({len(before)} and {len(after)} rows); "
            "compare files of the same kind of device, measured with the same --only, --dtype and --level"
        )
    logs = {key: _log_ratio(before[key], after[key]) for key in shared}
    by_group = {group: [key for key in shared if _group(before[key]) == group] for group in GROUPS}
    noise = {group: scatter([logs[key] for key in keys], group) for group, keys in by_group.items() if keys}
    flagged = _doubted(old) | _doubted(new)
    changes = [
        _change(before[key], after[key], noise[_group(before[key])], len(shared), flagged=flagged) for key in shared
    ]
    groups = [_summary(group, [logs[key] for key in keys], noise[group]) for group, keys in by_group.items() if keys]
    return Comparison(
        old=_title(old),
        new=_title(new),
        same_device=old.device.id == new.device.id,
        changes=tuple(sorted(changes, key=lambda change: change.ratio.value)),
        groups=tuple(groups),
        added=tuple(_label(after[key]) for key in after if key not in before),
        missing=tuple(_label(before[key]) for key in before if key not in after),
        findings=tuple(_findings(old, new, changes)),
    )


def _doubted(run: Characterisation) -> set[str]:
    """The cases that a run itself doubts (two threads slower than one, say), which are no ground for a verdict."""
    return {finding.case for finding in run.findings if finding.case and finding.severity != "info"}


def exceeded(comparison: Comparison, limits: Mapping[str, float]) -> tuple[Finding, ...]:
    """What is slower by more than its limit, surely slower at all, and not merely unsettled.

    ``limits`` are fractions by kind: ``{"compute": 0.03}`` fails where a compute row, or the median of them, lost more
    than 3 %.
    """
    found = [
        Finding(
            code="slower",
            severity="error",
            says=f"{change.name}: {_lost(change.ratio)}, limit {limits[change.group]:.3g}",
            remedy=_RERUN,
        )
        for change in comparison.changes
        if change.group in limits and change.verdict == "slower" and change.ratio.value < 1 - limits[change.group]
    ]
    found += [
        Finding(
            code="slower-overall",
            severity="error",
            says=f"median of {group.rows} {group.name} rows: {_lost(group.ratio)}, limit {limits[group.name]:.3g}",
            remedy=_RERUN,
        )
        for group in comparison.groups
        if group.name in limits and group.verdict == "slower" and group.ratio.value < 1 - limits[group.name]
    ]
    unknown = sorted(limits.keys() - {group.name for group in comparison.groups})
    found += [
        Finding(
            code="limit-unused",
            severity="error",
            says=f"--fail-if {name}: neither file has such rows in common",
            remedy=_RERUN,
        )
        for name in unknown
    ]
    return tuple(found)


_RERUN = "measure again with `microbench run --repeat 3` and look at `microbench doctor` before blaming the device"


def parse_limits(texts: Iterable[str]) -> dict[str, float]:
    """Read ``compute:3%`` into ``{"compute": 0.03}``.

    Raises
    ------
    UsageError
        If the kind is unknown, given twice, or the limit is no share between 0 and 100 %.

    Examples
    --------
    >>> parse_limits(["compute:3%", "memory:0.05"])
    {'compute': 0.03, 'memory': 0.05}
    """
    limits: dict[str, float] = {}
    for text in texts:
        group, colon, amount = text.partition(":")
        if group not in GROUPS or not colon:
            raise UsageError(
                f"--fail-if {text!r} is not KIND:PERCENT with a kind of {', '.join(GROUPS)}; write for example "
                "compute:3%"
            )
        if group in limits:
            raise UsageError(f"--fail-if names {group} twice; give one limit for each kind")
        try:
            value = float(amount.removesuffix("%")) / (100 if amount.endswith("%") else 1)
        except ValueError:
            value = math.nan
        if not 0 <= value < 1:
            raise UsageError(f"--fail-if {text!r} has no limit between 0% and 100%; write for example {group}:3%")
        limits[group] = value
    return limits


def _rows(c: Characterisation) -> dict[tuple[Any, ...], Ceiling | Cost]:
    rows: dict[tuple[Any, ...], Ceiling | Cost] = {}
    every: list[Ceiling | Cost] = [*c.ceilings, *c.costs]
    for row in every:
        if not (isinstance(row, Cost) and row.seconds.value <= 0):
            rows.setdefault(identity(row), row)
    return rows


def _group(row: Ceiling | Cost) -> str:
    return "cost" if isinstance(row, Cost) else row.measures


def _estimate(row: Ceiling | Cost) -> Estimate:
    return row.seconds if isinstance(row, Cost) else row.rate


def _log_ratio(old: Ceiling | Cost, new: Ceiling | Cost) -> float:
    value = math.log(_estimate(new).value / _estimate(old).value)
    return -value if isinstance(old, Cost) else value


def _spread(row: Ceiling | Cost) -> float:
    if (
        isinstance(row, Cost) and row.seconds.confidence is None
    ):  # a cost's best is its lowest: the third best lies above
        return math.log(row.seconds.high / row.seconds.value) / 1.5
    return spread(_estimate(row))


def _change(old: Ceiling | Cost, new: Ceiling | Cost, noise: float, rows: int, *, flagged: set[str]) -> Change:
    group = _group(old)
    doubts = [None if isinstance(row, Ceiling) and row.case in flagged else _doubt(row) for row in (old, new)]
    sd = max(noise, math.hypot(_spread(old), _spread(new), *(doubt for doubt in doubts if doubt is not None)))
    ratio = interval(_log_ratio(old, new), sd, group, rows)
    converged = doubts == [0.0, 0.0]
    # An unsettled row of too few rounds may be slower, but nobody knows.
    says = "same" if None in doubts else verdict(ratio)
    old_value, new_value = _estimate(old).value, _estimate(new).value
    return Change(
        name=_label(old), group=group, old=old_value, new=new_value, ratio=ratio, verdict=says, converged=converged
    )


def _doubt(row: Ceiling | Cost) -> float | None:
    """How far a peak may lie off, as ln: the gap to its own typical rate; 0 where it converged, ``None`` if unknown."""
    if isinstance(row, Cost) or row.converged:
        return 0.0
    if row.rounds < AGREEING_ROUNDS:
        return None
    return abs(math.log(row.rate.value / row.typical.value)) if row.typical and row.typical.value > 0 else None


def _summary(group: str, logs: Sequence[float], noise: float) -> Group:
    ratio = interval(median(logs), noise * math.sqrt(math.pi / 2 / len(logs)), group, 1)
    return Group(name=group, rows=len(logs), ratio=ratio, scatter=noise, verdict=verdict(ratio))


def _label(row: Ceiling | Cost) -> str:
    if isinstance(row, Cost):
        return f"{row.name} {row.level}" if row.level and row.level not in row.name.split(".") else row.name
    mode = "" if row.mode == "peak" else f" {row.mode}"
    return f"{row.name} x{row.threads}{mode}"


def _title(c: Characterisation) -> str:
    return f"{c.device.name}{f', {c.environment.started}' if c.environment else ', fitted'}"


def _lost(ratio: Estimate) -> str:
    return (
        f"{100 * (1 - ratio.value):.1f} % slower (between {100 * (1 - ratio.high):.1f} and "
        f"{100 * (1 - ratio.low):.1f} %)"
    )


def _findings(old: Characterisation, new: Characterisation, changes: Sequence[Change]) -> Iterable[Finding]:
    if old.device.id != new.device.id:
        kind = "another device of the same name" if old.device.name == new.device.name else "another device"
        says = f"{new.device.name} ({new.device.id[:8]}) is {kind} than {old.device.name} ({old.device.id[:8]})"
        yield Finding(
            code="different-device", severity="warning", says=says, remedy="ratios are between devices, not over time"
        )
    unsettled = [change.name for change in changes if not change.converged]
    if unsettled:
        some = ", ".join(unsettled[:3])
        says = (
            f"{len(unsettled)} of {len(changes)} rows had not settled in one of the files, so their intervals are "
            f"wider: {some}"
        )
        yield Finding(code="unsettled-rows", severity="warning", says=says, remedy="measure again with --thorough")
    if old.environment and new.environment:
        mine, theirs = old.environment, new.environment
        if mine.microbench != theirs.microbench:
            says = f"the files come from microbench {mine.microbench} and {theirs.microbench}"
            yield Finding(
                code="different-version", severity="warning", says=says, remedy="measure both with one version"
            )
        differing = [name for name in mine.facts if name in theirs.facts and mine.facts[name] != theirs.facts[name]]
        if differing:
            shown = "; ".join(f"{name}: {mine.facts[name]} -> {theirs.facts[name]}" for name in differing[:5])
            yield Finding(code="different-environment", severity="info", says=f"the environment changed: {shown}")
