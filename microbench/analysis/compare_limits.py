"""Limits that a comparison is held to: which losses are too much, and which could not be told from noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from microbench.analysis.compare_noise import COMMON, COMMON_WIDTH, GROUPS
from microbench.analysis.compared import Change, Comparison, Group
from microbench.errors import UsageError
from microbench.records import Estimate, Finding

# A limit is undecided where a loss of so many times it could hide in the interval.
_HIDDEN = 3
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


def least_limit(group: str, runs: tuple[int, int]) -> float:
    """The smallest loss of a kind that two sides of so many runs can tell from noise, however quiet they are.

    Examples
    --------
    >>> round(least_limit("compute", (1, 1)), 4), round(least_limit("compute", (4, 4)), 4)
    (0.0139, 0.007)
    """
    return 1 - math.exp(-COMMON_WIDTH * COMMON[group] * math.sqrt((1 / runs[0] + 1 / runs[1]) / 2))


def refuse_too_fine(limits: Mapping[str, float], runs: tuple[int, int]) -> None:
    """Refuse limits below what runs of one device differ by.

    Raises
    ------
    UsageError
        If a limit is; the sentence tells the least that can be held.
    """
    for group, limit in limits.items():
        least = least_limit(group, runs)
        if limit < least:
            many = "runs" if max(runs) > 1 else "single runs"
            raise UsageError(
                f"--fail-if {group}:{100 * limit:.3g}% is below the spread of {many} of one device "
                f"({100 * least:.2g} %), so it would fail by chance; raise it, or compare folders of `run --repeat N`"
            )


def exceeded(comparison: Comparison, limits: Mapping[str, float]) -> tuple[Finding, ...]:
    """What is surely slower, and by more than its limit; and what the new side has not measured at all.

    ``limits`` are fractions by kind: ``{"compute": 0.03}`` fails where a compute row, or the median of a group of them,
    lost more than 3 %, or a compute row is missing.
    """
    found = [*_slower(comparison, limits), *_slower_groups(comparison, limits), *_missing(comparison, limits)]
    for kind in sorted(limits.keys() - {change.group for change in comparison.changes}):
        says = f"--fail-if {kind}: neither file has such rows in common"
        found.append(Finding(code="limit-unused", severity="error", says=says, remedy=_RERUN))
    return tuple(found)


def unresolved(comparison: Comparison, limits: Mapping[str, float]) -> tuple[Finding, ...]:
    """The headline rows of the kinds limited of which nobody knows whether they lost too much.

    That is those without a verdict, and those whose interval could hide several times the limit.
    """
    return tuple(
        Finding(
            code="unresolved",
            severity="warning",
            says=f"{each.name} cannot be held to a limit of {limits[_kind(each)]:.3g}: {_why(each)}",
            remedy=_RERUN,
        )
        for each in (*comparison.undecided(), *_hiding(comparison, limits))
        if _kind(each) in limits
    )


def _hiding(comparison: Comparison, limits: Mapping[str, float]) -> list[Change | Group]:
    """What has a verdict, and an interval that could hide several times its limit; of main memory its best group."""

    def hides(each: Change | Group) -> bool:
        limit = limits.get(_kind(each), 1.0)
        return each.ratio is not None and each.ratio.low < 1 - _HIDDEN * limit

    groups = [group for group in comparison.groups if group.headline and group.verdict != "unresolved"]
    rows = [change for change in comparison.changes if change.headline and not (groups and change.group == "memory")]
    best = max(groups, key=lambda group: group.ratio.low, default=None)
    judged: list[Change | Group] = [each for each in rows if each.verdict in ("same", "faster")]
    judged += [best] if best is not None and best.verdict in ("same", "faster") else []
    return [each for each in judged if hides(each) and not each.why.startswith("the same measurement")]


def _kind(each: Change | Group) -> str:
    return each.group if isinstance(each, Change) else each.kind


def exit_code(comparison: Comparison, limits: Mapping[str, float]) -> int:
    """0 fine or no limits, 1 where a limit is exceeded or a row is missing, 4 where a headline row is unresolved."""
    if not limits:
        return 0
    return 1 if exceeded(comparison, limits) else 4 if unresolved(comparison, limits) else 0


def _slower(comparison: Comparison, limits: Mapping[str, float]) -> Iterator[Finding]:
    for change in comparison.changes:
        if change.ratio is None or change.group not in limits or change.verdict != "slower":
            continue
        if change.ratio.value < 1 - limits[change.group]:
            says = f"{change.name}: {_lost(change.ratio)}, limit {limits[change.group]:.3g}"
            yield Finding(code="slower", severity="error", says=says, remedy=_RERUN)


def _slower_groups(comparison: Comparison, limits: Mapping[str, float]) -> Iterator[Finding]:
    for group in comparison.groups:
        limit = limits.get(group.kind)
        if limit is not None and group.verdict == "slower" and group.ratio.value < 1 - limit:
            says = f"median of {group.rows} rows of {group.name}: {_lost(group.ratio)}, limit {limit:.3g}"
            yield Finding(code="slower-overall", severity="error", says=says, remedy=_RERUN)


def _missing(comparison: Comparison, limits: Mapping[str, float]) -> Iterator[Finding]:
    for kind in limits:
        lost = [change for change in comparison.changes if change.group == kind and change.verdict == "missing"]
        if lost:
            more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
            says = f"{len(lost)} {kind} rows are missing in the new file: {', '.join(c.name for c in lost[:3])}{more}"
            yield Finding(code="missing", severity="error", says=says, remedy=_RERUN)


def _why(change: Change | Group) -> str:
    if change.ratio is None:
        return change.why
    between = f"between {100 * (change.ratio.low - 1):+.1f} and {100 * (change.ratio.high - 1):+.1f} %"
    return f"{between}; {change.why}" if change.why else between


def _lost(ratio: Estimate) -> str:
    return (
        f"{100 * (1 - ratio.value):.1f} % slower (between {100 * (1 - ratio.high):.1f} and "
        f"{100 * (1 - ratio.low):.1f} %)"
    )
