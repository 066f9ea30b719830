"""Whether one characterisation is slower than another, beyond the noise between runs, or nobody knows.

Five verdicts: slower, faster and same where the whole interval of a ratio says so, unresolved where it does not or
where what was measured is itself in doubt, missing where the new side has not measured what the old one has. A device
compared with itself must rarely be slower, and must not be the same where that is not known.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from microbench.analysis.compare_findings import findings
from microbench.analysis.compare_noise import (
    COMMON,
    COMMON_WIDTH,
    LEAST,
    SHARED,
    Verdict,
    beyond_the_clock,
    interval,
    scatter,
    verdict,
    width,
)
from microbench.analysis.compare_rows import (
    HEAVY,
    Key,
    Pooled,
    Row,
    Side,
    follows_the_clock,
    group_of,
    headline,
)
from microbench.analysis.compared import Change, Comparison, Group
from microbench.errors import UsageError, expect
from microbench.records import Characterisation, Cost

Runs = Characterisation | Sequence[Characterisation]
_Stratum = tuple[str, str, str, str]  # kind, level, scope and mode: rows that scatter alike


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """One row on both sides: ln of the ratio of speeds, what of it the clock does not explain, and its noise."""

    key: Key
    old: Pooled
    new: Pooled
    log_ratio: float
    beyond: float
    sd: float

    @property
    def group(self) -> str:
        return group_of(self.old.row)

    @property
    def doubt(self) -> str | None:
        """Why no verdict may rest on the row."""
        for side, pooled in (("old", self.old), ("new", self.new)):
            if pooled.blocked is not None:
                return f"{side}: {pooled.blocked}"
        loose = [side for side, pooled in (("old", self.old), ("new", self.new)) if not pooled.settled]
        return f"did not settle in the {' and the '.join(loose)} run" if loose else None


def compare(old: Runs, new: Runs) -> Comparison:
    """Compare two sides row by row: rows in both, rows in one only, a summary per kind and level, and findings.

    Parameters
    ----------
    old, new
        The reference and what is held against it, each one characterisation or several of one device, as ``run
        --repeat`` leaves them, which are pooled; of one device at two times, or of two devices.

    Raises
    ------
    UsageError
        If the two have no row in common.
    """
    for side in (old, new):
        wanted = "characterisations, as microbench.load(PATH) reads them"
        expect("one of the two", side, (Characterisation, Sequence), wanted)
        for each in [side] if isinstance(side, Characterisation) else side:
            expect("one of the two", each, Characterisation, wanted)
    before, after = Side.of(old), Side.of(new)
    shared = [key for key in before.rows if key in after.rows]
    if not shared:
        raise UsageError(
            f"the two files have no ceiling or cost in common ({len(before.rows)} and {len(after.rows)} rows); "
            "compare files of the same kind of device, measured with the same --only, --dtype and --level"
        )
    heads = headline(before.rows)
    wander = max(before.wander, after.wander)
    strata: dict[_Stratum, list[_Pair]] = defaultdict(list)
    for key in shared:
        pair = _pair(key, before.rows[key], after.rows[key], wander)
        strata[stratum_of(pair.old.row)].append(pair)
    heads = _best_known(heads, [pair for pairs in strata.values() for pair in pairs])
    counts = (len(heads), len(shared))
    changes, groups = [], []
    for stratum, pairs in strata.items():
        noise = scatter([pair.beyond for pair in pairs], stratum[0]) * _fewer(before, after)
        changes += [
            _change(pair, noise, counts[pair.key not in heads], _Held(before, after), head=pair.key in heads)
            for pair in pairs
        ]
        groups.append(_summary(stratum, pairs, noise, len(strata), _Held(before, after)))
    lost = [_lost(before.rows[key], after, head=key in heads) for key in before.rows if key not in after.rows]
    changes = [*lost, *sorted(changes, key=lambda change: change.ratio.value if change.ratio else 0.0)]
    return Comparison(
        old=_title(before),
        new=_title(after),
        same_device=before.newest.device.id == after.newest.device.id,
        changes=tuple(changes),
        groups=tuple(groups),
        added=tuple(label(after.rows[key].row) for key in after.rows if key not in before.rows),
        findings=tuple(findings(before, after, changes)),
        runs=(before.quiet, after.quiet),
    )


def _fewer(before: Side, after: Side) -> float:
    """What pooling leaves of the noise between two runs."""
    return math.sqrt((1 / before.quiet + 1 / after.quiet) / 2)


def _pair(key: Key, old: Pooled, new: Pooled, wander: float) -> _Pair:
    log_ratio = new.log_speed - old.log_speed
    beyond = log_ratio
    if follows_the_clock(old.row) and old.clock_hz and new.clock_hz:
        beyond = beyond_the_clock(log_ratio, math.log(new.clock_hz / old.clock_hz), wander)
    return _Pair(key=key, old=old, new=new, log_ratio=log_ratio, beyond=beyond, sd=math.hypot(old.sd, new.sd))


def _best_known(heads: frozenset[Key], pairs: Sequence[_Pair]) -> frozenset[Key]:
    """The headline, with one row of main memory: the whole device's or one core's, whichever is known better."""
    memory = [pair for pair in pairs if pair.key in heads and pair.group == "memory"]
    if len(memory) < 2:
        return heads
    best = min(memory, key=lambda pair: (pair.doubt is not None, pair.sd))
    return heads - {pair.key for pair in memory if pair is not best}


@dataclass(frozen=True, slots=True)
class _Held:
    """What others took from each side."""

    before: Side
    after: Side

    def half_width(self, sd: float, group: str, rows: int) -> float:
        """Half of an interval for so many at once, with what hits all rows of a kind alike."""
        return width(sd, rows) + COMMON_WIDTH * COMMON[group] * _fewer(self.before, self.after)

    def judge(
        self, ratio: float, beyond: float, half: float, group: str, alone: tuple[bool, bool]
    ) -> tuple[Verdict, str]:
        """The verdict on a ratio, and in words what decided it or kept it from being given.

        What others took of the CPUs' time may be taken from the slower side's loops, unless these had it alone.
        """
        said = verdict(interval(beyond, half), group)
        raw = verdict(interval(ratio, half), group)
        against = ratio > 0 if said == "slower" else ratio < 0  # the clock rose and the rate did too, say
        if (said in ("slower", "faster") and against) or (said == "unresolved" and raw == "same"):
            said = raw
        if said not in ("slower", "faster"):
            return said, "the clock explains the difference" if said == "same" and raw != "same" else ""
        slow, name = (self.after, "new") if said == "slower" else (self.before, "old")
        if alone[said == "slower"]:
            return said, ""
        if slow.disturbed >= HEAVY:
            return "unresolved", f"others took {slow.disturbed:.0%} of the CPUs' time in the {name} run"
        if abs(beyond) - half < -math.log1p(-slow.disturbed):
            return "unresolved", f"no more than others may have taken in the {name} run"
        return said, ""


def _change(pair: _Pair, noise: float, rows: int, held: _Held, *, head: bool) -> Change:
    half = held.half_width(max(noise, pair.sd), pair.group, rows)
    said, why = held.judge(pair.log_ratio, pair.beyond, half, pair.group, (pair.old.alone, pair.new.alone))
    if pair.old.row == pair.new.row:
        said, why = "same", "the same measurement"
    elif pair.doubt is not None:
        said, why = "unresolved", pair.doubt
    elif said == "unresolved" and not why:
        why = "within noise"
    row = pair.old.row
    return Change(
        name=label(row),
        group=pair.group,
        stratum=_named(stratum_of(row)),
        old=pair.old.value,
        new=pair.new.value,
        ratio=interval(pair.log_ratio, half, pair.beyond),
        verdict=said,
        why=why,
        headline=head,
        converged=pair.old.settled and pair.new.settled,
    )


def _summary(stratum: _Stratum, pairs: Sequence[_Pair], noise: float, groups: int, held: _Held) -> Group:
    """The median of a kind at a level. Rows of a run share a part of its episodes, which no number of rows averages."""
    kind = stratum[0]
    usable = [pair for pair in pairs if pair.doubt is None]
    counted = usable or pairs
    of_median = noise * math.sqrt(math.pi / 2 / len(counted))
    sd = max(math.hypot(of_median, SHARED * median(pair.sd for pair in counted)), LEAST[kind])
    half = held.half_width(sd, kind, groups)
    ratio, beyond = (median(values) for values in zip(*((p.log_ratio, p.beyond) for p in counted), strict=True))
    alone = (2 * sum(p.old.alone for p in counted) > len(counted), 2 * sum(p.new.alone for p in counted) > len(counted))
    said, why = held.judge(ratio, beyond, half, kind, alone)
    if all(pair.old.row == pair.new.row for pair in pairs):
        said, why = "same", "the same measurements"
    elif 2 * len(usable) < len(pairs):
        said, why = "unresolved", "most of its rows are in doubt"
    return Group(
        name=_named(stratum),
        kind=kind,
        rows=len(pairs),
        ratio=interval(ratio, half, beyond),
        scatter=noise,
        verdict=said,
        why=why,
        headline=stratum[1] == "DRAM" and stratum[3] == "peak",
    )


def _lost(pooled: Pooled, after: Side, *, head: bool) -> Change:
    """A row that the new side lacks: missing, or unresolved where it was timed, or left out for want of time."""
    row = pooled.row
    said: Verdict = "missing"
    why = "not measured"
    if after.measured(row):
        said, why = "unresolved", "timed, but no number came of it"
    elif not head and after.left_out_for_time():
        said, why = "unresolved", "left out for want of time"
    return Change(
        name=label(row),
        group=group_of(row),
        stratum=_named(stratum_of(row)),
        old=pooled.value,
        new=None,
        ratio=None,
        verdict=said,
        why=why,
        headline=head,
        converged=pooled.settled,
    )


def stratum_of(row: Row) -> _Stratum:
    """The rows that are looked at together: of one kind, level, scope and mode."""
    if isinstance(row, Cost):
        return ("cost", "", "", "")
    return (row.measures, row.level or "", row.scope, row.mode)


def _named(stratum: _Stratum) -> str:
    kind, level, scope, mode = stratum
    words = [level if kind == "memory" and level else kind, "" if mode == "peak" else mode]
    return " ".join(word for word in words if word) + (", whole device" if scope == "device" else "")


def label(row: Row) -> str:
    """What a row is called."""
    if isinstance(row, Cost):
        return f"{row.name} {row.level}" if row.level and row.level not in row.name.split(".") else row.name
    mode = "" if row.mode == "peak" else f" {row.mode}"
    where = f" on {row.placement}" if row.placement else ""
    return f"{row.name} x{row.threads}{where}{mode}"


def _title(side: Side) -> str:
    run = side.newest
    return f"{run.device.name}{f', {run.environment.started}' if run.environment else ', fitted'}"
