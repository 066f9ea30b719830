"""What a comparison amounts to: rows, groups of rows and one word for the whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from microbench.analysis.compare_noise import Verdict
from microbench.records import Estimate, Finding, Row
from microbench.records.framed import Framed
from microbench.text import visible


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One row of the old side beside the new one.

    ``ratio`` is new speed over old speed: below 1 is slower, for costs too; it and ``new`` are ``None`` where the new
    side lacks the row. ``why`` says what decided or kept a verdict from being given. ``headline`` rows are those that
    are quoted first. ``stratum`` names the `Group` that it belongs to.
    """

    name: str
    group: str
    stratum: str
    old: float
    new: float | None
    ratio: Estimate | None
    verdict: Verdict
    why: str = ""
    headline: bool = False
    converged: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All rows of one kind, level and scope together: the median ratio, how far rows scatter, and the verdict.

    Groups of main memory are ``headline``: its rows scatter more than those of cores, and are known better together.
    """

    name: str
    kind: str
    rows: int
    ratio: Estimate
    scatter: float
    verdict: Verdict
    why: str = ""
    headline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Framed):
    """Two sides of one or several characterisations each."""

    old: str
    new: str
    same_device: bool
    changes: tuple[Change, ...]
    groups: tuple[Group, ...]
    added: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    runs: tuple[int, int] = (1, 1)

    def undecided(self) -> tuple[Change | Group, ...]:
        """What of the headline is unresolved: rows; of main memory its groups, where all of them are."""
        groups = [group for group in self.groups if group.headline]
        rows = [change for change in self.changes if change.headline and change.verdict == "unresolved"]
        if not groups:
            return tuple(rows)
        open_ = groups if all(group.verdict == "unresolved" for group in groups) else []
        return (*(change for change in rows if change.group != "memory"), *open_)

    def __repr__(self) -> str:
        """The one word, and how many rows got which."""
        counts = Counter(change.verdict for change in self.changes)
        told = ", ".join(f"{count} {word}" for word, count in counts.most_common())
        return visible(f"<Comparison, {self.new} against {self.old}: {self.verdict} ({told})>")

    def frame_rows(self) -> list[Row]:
        """One row for each measurement of the old side: missing first, then slowest first, in SI."""
        return [
            {
                "name": change.name,
                "measures": change.group,
                "group": change.stratum,
                "old": change.old,
                "new": change.new,
                "ratio": change.ratio.value if change.ratio else None,
                "low": change.ratio.low if change.ratio else None,
                "high": change.ratio.high if change.ratio else None,
                "verdict": change.verdict,
                "why": change.why or None,
                "headline": change.headline,
                "settled": change.converged,
            }
            for change in self.changes
        ]

    @property
    def missing(self) -> tuple[str, ...]:
        """The rows that the new side has not measured."""
        return tuple(change.name for change in self.changes if change.verdict == "missing")

    @property
    def verdict(self) -> Verdict:
        """One word for the whole.

        The first of these that holds: missing (a headline row), slower (any row or group), unresolved (a headline row,
        or every group of main memory), faster (a headline row or a group), same.
        """
        heads = {change.verdict for change in self.changes if change.headline}
        every = {change.verdict for change in self.changes} | {group.verdict for group in self.groups}
        if "missing" in heads or "slower" in every:
            return "missing" if "missing" in heads else "slower"
        if self.undecided():
            return "unresolved"
        return "faster" if "faster" in heads | {group.verdict for group in self.groups} else "same"
