"""Many devices of one kind: what is usual for each row, where one of them lies, and which lie outside.

Every device counts once, by the middle of its runs. The usual spread is robust (median absolute deviation), so that a
few bad devices do not hide each other; an outlier lies further from the median than chance leaves one of so many.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from microbench.analysis.compare import label
from microbench.analysis.compare_noise import COMMON, LEAST, width
from microbench.analysis.compare_rows import Key, Row, Side, estimate_of, group_of, headline, rows_of
from microbench.records import Characterisation, Cost

_GAUSS = 1.4826
# A population of fewer devices has no usual spread.
LEAST_DEVICES = 4
Word = Literal["slow", "normal", "fast", "too few devices"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One device at one row: its value, its place among all (0 slowest, 1 fastest), and the verdict."""

    device: str
    name: str
    value: float
    place: float
    ratio: float
    word: Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One row over a population: median, the range that is usual, and every member."""

    kind: str
    row: str
    group: str
    headline: bool
    middle: float
    low: float
    high: float
    members: tuple[Member, ...]

    @property
    def outliers(self) -> tuple[Member, ...]:
        """The members outside of what is usual, the slowest first."""
        outside = (member for member in self.members if member.word in ("slow", "fast"))
        return tuple(sorted(outside, key=lambda member: member.place))


def kind_of(run: Characterisation) -> str:
    """What devices must have in common to be of one population: their model, known by name where no id of it is."""
    return run.device.sku or run.device.name


def population(runs: Iterable[tuple[str, Characterisation]]) -> tuple[Standing, ...]:
    """Every row of every kind of device.

    Parameters
    ----------
    runs
        Characterisations by the name that a member is to be called by.
    """
    kinds: dict[str, dict[str, list[tuple[str, Characterisation]]]] = defaultdict(lambda: defaultdict(list))
    for name, run in runs:
        kinds[kind_of(run)][run.device.id].append((name, run))
    return tuple(standing for devices in kinds.values() for standing in _standings(devices))


def _standings(devices: Mapping[str, Sequence[tuple[str, Characterisation]]]) -> list[Standing]:
    seen: dict[Key, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    newest = {device: held[-1][1] for device, held in devices.items()}
    names = {device: held[-1][0] for device, held in devices.items()}
    for device, held in devices.items():
        for _, run in held:
            for key, row in rows_of(run).items():
                seen[key][device].append(row)
    first = next(iter(newest.values()))
    heads = headline(Side.of(first).rows)
    made = [_standing(first.device.name, found, names, head=key in heads) for key, found in seen.items()]
    return sorted(made, key=lambda standing: not standing.headline)


def _standing(kind: str, found: Mapping[str, Sequence[Row]], names: Mapping[str, str], *, head: bool) -> Standing:
    row = next(iter(found.values()))[-1]
    group = group_of(row)
    logs = {device: median(_log_speed(each) for each in rows) for device, rows in found.items()}
    middle = median(logs.values())
    spread = _GAUSS * median(abs(value - middle) for value in logs.values())
    usual = width(max(spread, math.hypot(COMMON[group], LEAST[group])), len(logs))
    ranked = sorted(logs.values())
    members = tuple(
        Member(
            device=device,
            name=names[device],
            value=_value(row, value),
            place=(bisect_left(ranked, value) + bisect_right(ranked, value) - 1) / 2 / max(len(ranked) - 1, 1),
            ratio=math.exp(value - middle),
            word=_word(value - middle, usual, len(logs)),
        )
        for device, value in logs.items()
    )
    ends = (_value(row, middle - usual), _value(row, middle + usual))
    return Standing(
        kind=kind,
        row=label(row),
        group=group,
        headline=head,
        middle=_value(row, middle),
        low=min(ends),
        high=max(ends),
        members=members,
    )


def _word(off: float, usual: float, devices: int) -> Word:
    if devices < LEAST_DEVICES:
        return "too few devices"
    return "slow" if off < -usual else "fast" if off > usual else "normal"


def _log_speed(row: Row) -> float:
    value = math.log(estimate_of(row).value)
    return -value if isinstance(row, Cost) else value


def _value(row: Row, log_speed: float) -> float:
    return math.exp(-log_speed if isinstance(row, Cost) else log_speed)
