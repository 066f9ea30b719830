"""What disturbed bursts of samples, and what that did to which cases: moved threads, stops, quotas, busy siblings.

A peak is the best of many bursts, so that a disturbance which spares some of a case's bursts costs nothing but time. It
is the cases without an undisturbed burst whose figures are the disturbance's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from microbench.records import Finding, Samples, Value

# A thread that others preempt comes back within so long, each time; what lasts longer stopped the whole process.
_LONGEST_TURN_S = 0.5
# A sibling's share of the time of a case's bursts, and the seconds, above which housekeeping does not explain it.
_SIBLING_SHARE, _SIBLING_S = 0.2, 0.03
# Best rates that differ by less are equal: that is what rounds of one case differ by anyway.
_ALIKE = 0.03
# Characters of a case's key in a sentence.
_CASE = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A way to be disturbed: which bursts were, and what is said of it."""

    code: str
    hit: Callable[[Samples], bool]
    cause: str
    remedy: str


def disturbed(samples: Sequence[Samples], facts: Mapping[str, Value | None] | None = None) -> list[Finding]:
    """A finding for each way in which bursts were disturbed; ``facts`` are the conditions of the run."""
    facts = facts or {}
    by_case: dict[str, list[Samples]] = {}
    for each in samples:
        by_case.setdefault(each.case, []).append(each)
    found = [_finding(kind, by_case) for kind in _kinds(by_case, facts)]
    found += [] if any(each and each.code == "suspended" for each in found) else _stopped_elsewhere(facts)
    return [each for each in found if each is not None]


def _kinds(by_case: Mapping[str, Sequence[Samples]], facts: Mapping[str, Value | None]) -> Iterator[_Kind]:
    change = f" ({str(facts['cpus_changed'])[:24]})" if facts.get("cpus_changed") else ""
    yield _Kind(
        code="affinity-changed",
        hit=lambda each: each.moved > 0,
        cause=f"the affinity of this process changed{change}, threads left their CPUs",
        remedy="run again without taskset or cpuset reaching into it",
    )
    stopped = float(facts.get("suspended_s") or 0)
    yield _Kind(
        code="suspended",
        hit=lambda each: _suspended(each, known=stopped > 0),
        cause=f"the process was suspended{f' for {stopped:.1f} s' if stopped else ''} (Ctrl-Z, SIGSTOP, frozen)",
        remedy="run again and let it run",
    )
    stops, held = int(facts.get("quota_stops") or 0), float(facts.get("quota_s") or 0)
    yield _Kind(
        code="quota-reached",
        hit=lambda each: each.quota_s > 0,
        cause=f"a quota of CPU time held the process{f' {stops} times, {held:.1f} s in all' if stops else ''}",
        remedy="raise the limit of the container or control group, or give it whole CPUs without a limit",
    )
    busy = {case for case, bursts in by_case.items() if _sibling_busy(bursts)}
    yield _Kind(
        code="sibling-busy",
        hit=lambda each: each.case in busy and each.sibling_s > 0,
        cause="another program ran on the hardware threads beside ours",
        remedy="stop what else runs ('top' shows it), and measure again",
    )


def _suspended(each: Samples, *, known: bool) -> bool:
    """Whether threads stood still for longer than preemption, a quota or the host explain.

    Where it is known that the process was stopped at some time, that explains it sooner than preemption does.
    """
    unexplained = each.away_s - (each.steal_s or 0.0)
    return each.quota_s == 0 and unexplained > _LONGEST_TURN_S * (1 if known else max(1, each.switches))


def _sibling_busy(bursts: Sequence[Samples]) -> bool:
    worked = sum(each.sibling_s for each in bursts)
    lasted = sum(sum(each.ns) + sum(each.reference_ns) for each in bursts) / 1e9
    return worked >= _SIBLING_S and worked > _SIBLING_SHARE * lasted


def _best(bursts: Sequence[Samples]) -> float:
    """Iterations a second of the best sample."""
    return max(each.iterations * 1e9 / min(each.ns) for each in bursts)


def _finding(kind: _Kind, by_case: Mapping[str, Sequence[Samples]]) -> Finding | None:
    hit = {case: [each for each in bursts if kind.hit(each)] for case, bursts in by_case.items()}
    hit = {case: bursts for case, bursts in hit.items() if bursts}
    if not hit:
        return None
    spared = {case: [each for each in by_case[case] if not kind.hit(each)] for case in hit}
    ratios = [_best(hit[case]) / _best(bursts) for case, bursts in spared.items() if bursts]
    lost = [case for case, bursts in spared.items() if not bursts]
    count, whole = sum(map(len, hit.values())), sum(map(len, by_case.values()))
    where = f"{count} of {whole} bursts, of {len(hit)} case{'s' if len(hit) > 1 else ''}"
    harmless = not lost and median(ratios) > 1 - _ALIKE
    return Finding(
        code=kind.code,
        severity="info" if harmless else "warning",
        says=f"{kind.cause}: {where}, {_effect(ratios, lost, next(iter(hit)))}",
        remedy=kind.remedy,
    )


def _effect(ratios: Sequence[float], lost: Sequence[str], first: str) -> str:
    """What it did to the cases, in half a sentence."""
    parts = []
    if ratios:
        share = median(ratios)
        rate = "as fast as elsewhere" if abs(share - 1) <= _ALIKE else f"at {100 * share:.0f} % of the rate elsewhere"
        parts.append(rate if lost else f"first {first[:_CASE]}, {rate}")
    if lost:
        parts.append(f"{len(lost)} {'have' if len(lost) > 1 else 'has'} no other, so wrong figures: {lost[0][:_CASE]}")
    return "; ".join(parts)


def _stopped_elsewhere(facts: Mapping[str, Value | None]) -> list[Finding]:
    """A stop that fell between bursts: it cost time and no figure."""
    seconds = float(facts.get("suspended_s") or 0)
    if not seconds:
        return []
    says = f"the process was suspended for {seconds:.1f} s, between bursts of samples: no figure is of that time"
    return [Finding(code="suspended", severity="info", says=says, remedy="what it lost is time for more rounds")]
