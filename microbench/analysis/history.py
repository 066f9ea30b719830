"""A device over time: one series for each row, the moments at which its level changed, and which files to keep.

A change is no single bad run: the series is cut into stretches of constant level by an optimal partition
(`stats.intervals.segments`) of ln(rate), with a penalty from the series' own noise, and a cut counts where the levels
differ by more than their middles scatter and than what hits two runs of one device alike.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median

from microbench.analysis.compare import label
from microbench.analysis.compare_noise import COMMON, COMMON_WIDTH, LEAST
from microbench.analysis.compare_rows import Key, Row, Side, estimate_of, group_of, headline, rows_of
from microbench.records import Characterisation, Cost
from microbench.stats.intervals import segments

_GAUSS = 1.4826
# A cut must save this many variances of the noise, times ln of the number of points (a little above BIC's one).
_PENALTY = 3.0
_SURE = 3.0
_SHORTEST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One row of one run: when, how much, and whether a new level begins here (``step`` is new over old, else 1)."""

    started: str
    name: str
    label: str
    value: float
    low: float
    high: float
    converged: bool
    step: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One row of one device over its runs, in the order of time."""

    device: str
    row: str
    group: str
    headline: bool
    points: tuple[Point, ...]

    @property
    def changes(self) -> tuple[Point, ...]:
        """The points at which a new level begins."""
        return tuple(point for point in self.points if point.step != 1.0)


def history(runs: Iterable[tuple[str, Characterisation]]) -> tuple[Series, ...]:
    """The series of every row of every device.

    Parameters
    ----------
    runs
        Files by name; those without a time (fitted ones) are left out.

    Returns
    -------
    tuple of Series
        Devices in the order of their first run, headline rows first.
    """
    devices: dict[str, list[tuple[str, Characterisation]]] = defaultdict(list)
    timed = [(name, run) for name, run in runs if run.environment is not None]
    for name, run in sorted(timed, key=lambda each: _moment(each[1])):
        devices[run.device.id].append((name, run))
    found: list[Series] = []
    for device, held in devices.items():
        heads = headline(Side.of(held[-1][1]).rows)
        rows: dict[Key, list[tuple[str, Characterisation, Row]]] = defaultdict(list)
        for name, run in held:
            for key, row in rows_of(run).items():
                rows[key].append((name, run, row))
        made = [_series(device, each, head=key in heads) for key, each in rows.items()]
        found += sorted(made, key=lambda series: not series.headline)
    return tuple(found)


def _series(device: str, found: Sequence[tuple[str, Characterisation, Row]], *, head: bool) -> Series:
    last = found[-1][2]
    group = group_of(last)
    steps = level_steps([math.log(estimate_of(row).value) for _, _, row in found], group)
    return Series(
        device=device,
        row=label(last),
        group=group,
        headline=head,
        points=tuple(
            Point(
                started=run.environment.started if run.environment else "",
                name=name,
                label=run.environment.label if run.environment else "",
                value=estimate_of(row).value,
                low=estimate_of(row).low,
                high=estimate_of(row).high,
                converged=isinstance(row, Cost) or row.converged,
                step=steps.get(number, 1.0),
            )
            for number, (name, run, row) in enumerate(found)
        ),
    )


def level_steps(logs: Sequence[float], group: str) -> dict[int, float]:
    """Where the level of a series of ln(value) changes, and by what factor.

    Examples
    --------
    >>> found = level_steps([0.0, 0.001, -0.001, 0.0, -0.2, -0.201, -0.199], "compute")
    >>> {at: round(step, 2) for at, step in found.items()}
    {4: 0.82}
    """
    if len(logs) < 2 * _SHORTEST:
        return {}
    smooth = [median(logs[max(0, min(at - 1, len(logs) - 3)) :][:3]) for at in range(len(logs))]  # no single bad run
    moves = [abs(later - earlier) for earlier, later in pairwise(logs)]
    noise = max(_GAUSS * median(moves) / math.sqrt(2), LEAST[group])
    stretches = segments(smooth, penalty=_PENALTY * noise**2 * math.log(len(logs)), shortest=_SHORTEST)
    steps: dict[int, float] = {}
    for (start, middle), (_, end) in pairwise(stretches):
        before, after = logs[start:middle], logs[middle:end]
        apart = median(after) - median(before)
        least = _SURE * noise * math.sqrt(1 / len(before) + 1 / len(after)) + COMMON_WIDTH * COMMON[group]
        if abs(apart) > least:
            steps[middle] = math.exp(apart)
    return steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which files of a device to keep: the last so many, those of the last so many days; ``None``: no such rule."""

    last: int | None = None
    days: float | None = None


def superfluous(
    runs: Sequence[tuple[str, Characterisation]], series: Sequence[Series], rule: Rule, now: datetime
) -> tuple[str, ...]:
    """The files that a rule gives up, never the first of a device nor one at which a headline row changed."""
    keep = {point.name for each in series if each.headline for point in each.changes}
    devices: dict[str, list[tuple[str, Characterisation]]] = defaultdict(list)
    timed = [(name, run) for name, run in runs if run.environment is not None]
    for name, run in sorted(timed, key=lambda each: _moment(each[1])):
        devices[run.device.id].append((name, run))
    given_up: list[str] = []
    for held in devices.values():
        recent = {name for name, _ in held[-rule.last :]} if rule.last else set()
        if rule.days is not None:
            recent |= {name for name, run in held if now - _moment(run) <= timedelta(days=rule.days)}
        given_up += [name for name, _ in held[1:] if name not in recent and name not in keep]
    return tuple(given_up)


def _moment(run: Characterisation) -> datetime:
    try:
        read = datetime.fromisoformat(run.environment.started if run.environment else "")
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)


def history_rows(series: Sequence[Series], devices: Mapping[str, str]) -> list[dict[str, str | float | bool | None]]:
    """One row for each series: device, row, runs, first, last and their ratio, the last change and its moment."""
    return [
        {
            "device": devices.get(each.device, each.device)[:40],
            "id": each.device[:8],
            "row": each.row,
            "runs": len(each.points),
            "first": each.points[0].value,
            "last": each.points[-1].value,
            "last_over_first": each.points[-1].value / each.points[0].value,
            "changes": len(each.changes),
            "changed": "; ".join(f"{point.started[:16]} {100 * (point.step - 1):+.1f} %" for point in each.changes)
            or None,
        }
        for each in series
    ]
