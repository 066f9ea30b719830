"""Characterisations as sides of a comparison: what is one measurement, pooled over repeated runs, with its doubts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, median, stdev
from typing import Any

from scipy.special import stdtrit

from microbench.analysis.compare_noise import own, pinned, rounds_settled
from microbench.analysis.findings import DISTURBANCES
from microbench.errors import UsageError
from microbench.hardware.interference import OTHERS_SHARE, STEAL_SHARE
from microbench.records import Ceiling, Characterisation, Cost, Estimate, Samples
from microbench.stats.intervals import AGREEING_ROUNDS

Row = Ceiling | Cost
Key = tuple[Any, ...]

# Others come in episodes of about so many rounds; less likely than this they were there in all rounds by chance.
_EPISODE_ROUNDS = 2
_IN_ALL = 0.05
_TELLS_SIBLINGS = (1, 3)
# From this share of the CPUs' time on, others may have taken anything from any loop.
HEAVY = 0.5
# What the plausibility check says of a row that is lower than its neighbours allow.
_TOO_LOW = ("far-below-nominal", "threads-slower", "levels-out-of-order", "vector-ratio")
# Clocks of one instruction set further below its highest are misread, or throttled: no wander.
_WANDERS = 0.1
# Between runs a clock moves about half as far again as within one.
_BETWEEN_RUNS = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """One measurement on one side, over all runs of the side.

    ``log_speed`` is ln of the middle rate, or of one over the middle time of a cost. ``sd`` is what the middle may be
    off by. ``settled`` is whether its rounds agree, ``alone`` whether its best rounds were surely not held up by
    others, ``blocked`` says why no verdict may rest on it.
    """

    row: Row
    log_speed: float
    sd: float
    settled: bool
    alone: bool
    clock_hz: float | None
    blocked: str | None

    @property
    def value(self) -> float:
        """The middle rate, or the middle time of a cost."""
        return math.exp(-self.log_speed if isinstance(self.row, Cost) else self.log_speed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One or several runs of one device, in the order of time; ``quiet`` is how many of them count.

    Those from which others took much of the CPUs' time do not, where there are others.
    """

    runs: tuple[Characterisation, ...]
    quiet: int
    rows: Mapping[Key, Pooled]
    disturbed: float
    wander: float

    @classmethod
    def of(cls, runs: Characterisation | Sequence[Characterisation]) -> Side:
        """Pool runs; a row counts that is in more than half of them.

        Raises
        ------
        UsageError
            If there is none, or they are of several devices.
        """
        held = (runs,) if isinstance(runs, Characterisation) else tuple(runs)
        if not held:
            raise UsageError("there is nothing to compare: give at least one characterisation a side")
        other = next((run for run in held if run.device.id != held[0].device.id), None)
        if other is not None:
            raise UsageError(
                f"runs of {held[0].device.name} ({held[0].device.id[:8]}) and {other.device.name} "
                f"({other.device.id[:8]}) cannot be pooled: they are different devices; compare them one by one"
            )
        shares = [disturbed_share(run) for run in held]
        quiet = [run for run, share in zip(held, shares, strict=True) if share < HEAVY] or list(held)
        found: dict[Key, list[tuple[Characterisation, Row]]] = defaultdict(list)
        for run in quiet:
            for key, row in rows_of(run).items():
                found[key].append((run, row))
        rows = {key: _pool(each) for key, each in found.items() if 2 * len(each) > len(quiet)}
        disturbed = median(share for share in shares if share < HEAVY) if len(quiet) < len(held) else median(shares)
        return cls(runs=held, quiet=len(quiet), rows=rows, disturbed=disturbed, wander=clock_wander(quiet))

    @property
    def newest(self) -> Characterisation:
        """The last run, which stands for the side in words."""
        return self.runs[-1]

    def measured(self, row: Row) -> bool:
        """Whether the case of a row was timed in one of the runs, whatever came of it."""
        return any(samples.case == row.case for run in self.runs for samples in run.samples)

    def left_out_for_time(self) -> bool:
        """Whether one of the runs says that cases were left out because its time was up."""
        return any(finding.code == "left-out-for-time" for run in self.runs for finding in run.findings)


def identity(row: Row) -> Key:
    """What makes two rows the same measurement: everything but the numbers.

    A row of the whole device is that of all its CPUs, however many there are.
    """
    if isinstance(row, Cost):
        return ("cost", row.name, row.level)
    kernel = (row.name, row.backend, row.unit, row.dtype, row.accumulator, row.level, row.access, row.variant)
    threads = row.threads if row.scope == "core" else None
    return (row.measures, *kernel, row.operands, threads, row.placement, row.scope, row.mode)


def rows_of(run: Characterisation) -> dict[Key, Row]:
    """The rows of one run by identity; of two the first counts."""
    rows: dict[Key, Row] = {}
    every: list[Row] = [*run.ceilings, *run.costs]
    for row in every:
        if not (isinstance(row, Cost) and row.seconds.value <= 0):
            rows.setdefault(identity(row), row)
    return rows


def group_of(row: Row) -> str:
    """The kind that a limit names."""
    return "cost" if isinstance(row, Cost) else row.measures


def estimate_of(row: Row) -> Estimate:
    """The rate of a ceiling, the time of a cost."""
    return row.seconds if isinstance(row, Cost) else row.rate


def follows_the_clock(row: Row) -> bool:
    """Whether a rate is one of the core, which its clock scales."""
    return isinstance(row, Ceiling) and (row.measures == "compute" or row.level in ("L1", "L2"))


def disturbed_share(run: Characterisation) -> float:
    """The share of the CPUs' time that others took during a run, where a finding says that it is worth a word.

    Where that is told and not how much, it may have been all. A GPU's kernels do not run on the CPUs.
    """
    told = {finding.code for finding in run.findings if finding.severity != "info"}
    if run.device.kind != "cpu" or not told & {*DISTURBANCES, "load"}:
        return 0.0
    facts = run.environment.facts if run.environment is not None else {}
    steal, others = (facts.get(name) for name in ("steal_share", "other_processes_share"))
    if others is None:
        return 1.0
    counted = ((steal, STEAL_SHARE), (others, OTHERS_SHARE))
    return min(1.0, sum(float(share) for share, least in counted if share is not None and float(share) > least))


def clock_wander(runs: Sequence[Characterisation]) -> float:
    """How far clocks of one instruction set and scope lie apart in these runs, as ln; with what runs add to that."""
    seen: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in runs:
        for row in run.ceilings:
            if row.clock_hz and row.measures == "compute" and row.mode == "peak":
                seen[row.variant.partition("_")[0], row.scope].append(row.clock_hz)
    apart = 0.0
    for clocks in seen.values():
        kept = [clock for clock in clocks if clock >= max(clocks) * (1 - _WANDERS)]
        apart = max(apart, math.log(max(kept) / min(kept)))
    return _BETWEEN_RUNS * apart


def _pool(found: Sequence[tuple[Characterisation, Row]]) -> Pooled:
    """The middle of one row over runs, with the larger of what each run and what their differences say of its noise."""
    rows = [row for _, row in found]
    logs = [_log_speed(row) for row in rows]
    doubts = [reason for run, row in found if (reason := _doubt(run, row)) is not None]
    sd = median(own(row) for row in rows)
    if len(rows) > 2:
        sd = max(sd, _few(len(rows)) * stdev(logs)) / math.sqrt(len(rows))
    clocks = [row.clock_hz for row in rows if isinstance(row, Ceiling) and row.clock_hz]
    alone = [pinned(row) or _alone(run, row) for run, row in found]
    settled = [_settled(row, own_machine) for row, own_machine in zip(rows, alone, strict=True)]
    return Pooled(
        row=rows[-1],
        log_speed=median(logs),
        sd=sd,
        settled=2 * sum(settled) > len(rows),
        alone=2 * sum(alone) > len(alone),
        clock_hz=median(clocks) if len(clocks) == len(rows) else None,
        blocked=doubts[0] if 2 * len(doubts) > len(rows) else None,
    )


def _few(runs: int) -> float:
    """By how much a standard deviation of so few values is to be enlarged: Student's quantile over the normal one."""
    return float(stdtrit(runs - 1, 0.975)) / NormalDist().inv_cdf(0.975)


def _settled(row: Row, alone: bool) -> bool:
    """Whether the rounds of a row agree; arithmetic below its ports that may have shared its core does not count."""
    if isinstance(row, Cost) or row.converged or row.rate.confidence is not None:
        return True
    return row.typical is not None and rounds_settled(row) and (alone or row.measures != "compute")


def _alone(run: Characterisation, row: Row) -> bool:
    """Whether others cannot have held up the best rounds of a row.

    Of what cores do by themselves, where its rounds agree and the three best had fewer interruptions than samples, so
    that one sample of each had none, while another thread of the same core did nothing. Of anything, where its rounds
    are too many for others to have been there in all of them, busy as they were; they come in episodes of two rounds or
    so.
    """
    busy = min(1.0, disturbed_share(run) * (run.device.units_by_kind.get("thread") or 1))
    if not busy:
        return True
    rounds = [samples for samples in run.samples if samples.case == row.case]
    if isinstance(row, Ceiling) and _of_its_core(run, row) and rounds_settled(row):
        best = sorted(rounds, key=lambda samples: min(samples.ns) / samples.iterations)[:AGREEING_ROUNDS]
        if len(best) == AGREEING_ROUNDS and all(_uninterrupted(run, each) for each in best):
            return True
    return float(busy ** (len(rounds) / _EPISODE_ROUNDS)) < _IN_ALL


def _of_its_core(run: Characterisation, row: Ceiling) -> bool:
    """Whether a loop uses nothing that others share: arithmetic, and one thread's walks through caches of its own."""
    level = run.device.level(row.level or "")
    own = level is not None and level.shared_by in (None, 1) and row.level in ("L1", "L2")
    return row.measures == "compute" or (own and row.threads == 1)


def _uninterrupted(run: Characterisation, burst: Samples) -> bool:
    """Whether one sample of a burst surely had its core alone. Files older than 1.3 do not tell of siblings."""
    told = tuple(map(int, run.schema.split("."))) >= _TELLS_SIBLINGS
    smt = run.environment.facts.get("smt") if run.environment is not None else None
    idle_siblings = smt is False or (told and not burst.sibling_s)
    return idle_siblings and burst.switches < burst.count and not burst.steal_s and not burst.moved


def _log_speed(row: Row) -> float:
    value = math.log(estimate_of(row).value)
    return -value if isinstance(row, Cost) else value


def _doubt(run: Characterisation, row: Row) -> str | None:
    """Why a run doubts a row itself: no ground for a verdict.

    That a row is too low for its neighbours is what a real loss looks like, too. Where its rounds agree, and others
    cannot have held them up, the row stands: it was measured again before the finding was made.
    """
    if isinstance(row, Cost) or row.case is None:
        return None
    for finding in run.findings:
        if finding.case == row.case and finding.severity != "info":
            stands = finding.code in _TOO_LOW and rounds_settled(row) and _alone(run, row)
            if not stands:
                return f"{finding.code} in its own run"
    return None


def headline(rows: Mapping[Key, Pooled]) -> frozenset[Key]:
    """What is quoted first of a side, the rows that decide.

    Of the whole device (of one core where that is all): the fastest instruction peak of each dtype (without any, the
    fastest product of a library), each kind of link, the latency of main memory and launches; the fastest read from
    main memory, of the whole device and of one core. Where a kind has none of these, its fastest row.
    """
    chosen: dict[Key, Key] = {}
    scope = _widest(rows.values())
    for key, pooled in rows.items():
        for place in _places(pooled.row, scope):
            if place not in chosen or pooled.log_speed > rows[chosen[place]].log_speed:
                chosen[place] = key
    peaks = any(place[0] == "peak" for place in chosen)
    kept = {place: key for place, key in chosen.items() if not (place[0] == "library" and peaks)}
    named = {group_of(rows[key].row) for place, key in kept.items() if place[0] != "any"}
    return frozenset(key for place, key in kept.items() if place[0] != "any" or place[1] not in named)


def _widest(rows: Iterable[Pooled]) -> str:
    return "device" if any(isinstance(p.row, Ceiling) and p.row.scope == "device" for p in rows) else "core"


def _places(row: Row, scope: str) -> Iterator[Key]:
    """The places among the headline rows that a row could take."""
    yield ("any", group_of(row))
    if isinstance(row, Cost):
        if row.level == "DRAM" or row.name.startswith("launch"):
            yield ("cost", row.name.partition(".")[0], row.level)
    elif row.placement is None and row.mode != "sustained":
        if row.level == "DRAM" and row.access == "read" and row.measures == "memory":
            yield ("memory", "DRAM", row.scope)
        elif row.scope == scope and row.measures == "compute":
            yield (row.mode, row.dtype)
        elif row.scope == scope and row.measures == "link":
            yield ("link", row.variant, row.access)
