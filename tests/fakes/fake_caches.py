"""Invented memory hierarchies, for tests only: what a chase and a stream would take over each working set.

A model of caches, not of curves: each cache holds a share of a cyclic walk by its own replacement, and time is the sum
over levels of the share that each answers. It knows nothing of plateaus or crossings.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

KIB, MIB, GIB = 2**10, 2**20, 2**30
ROUNDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Bytes held, seconds of a load, byte/s of a stream, and which lines it drops.

    ``oldest``: strictly the oldest, so that a cyclic walk through more finds nothing. ``random``: any. ``crowded``: the
    oldest of a set, in physical pages that a guest got at random, so that some sets overflow before the cache is full.
    ``beside`` the nearer caches: what those hold is not held here too.
    """

    size: int
    load_s: float
    rate: float
    drops: Literal["oldest", "random", "crowded"] = "oldest"
    beside: bool = False
    ways: int = 8

    def holds(self, size: float, nearer: float) -> float:
        """Share of a walk through ``size`` bytes that finds its line here or nearer."""
        room = self.size + (nearer if self.beside else 0)
        if self.drops == "crowded":
            return _crowded(size, room, self.ways)
        if size <= room:
            return 1.0
        return _random(size / room) if self.drops == "random" else 0.0

    def reach(self, nearer: float) -> float:
        return self.size + (nearer if self.beside else 0)


def _random(over: float) -> float:
    """A line outlives each miss between two of its uses with 1 - 1/lines: h = exp(-over (1 - h)), h below 1."""
    share = 0.0
    for _ in range(200):
        share = math.exp(-over * (1 - share))
    return share


def _crowded(size: float, room: float, ways: int, page: int = 4096) -> float:
    """Pages fall on colours at random; a colour with more pages than ways keeps none of them in a cyclic walk."""
    colours = max(1, round(room / ways / page))
    pages = max(1, round(size / page))
    if colours == 1:
        return float(pages <= ways)
    # Of the other pages, at most ways - 1 share this page's colour.
    chance, term, total = 1 / colours, (1 - 1 / colours) ** (pages - 1), 0.0
    for others in range(min(ways, pages)):
        total += term
        term *= (pages - 1 - others) / (others + 1) * chance / (1 - chance)
    return min(1.0, total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Caches near to far, main memory, and what address translation costs beyond each reach (bytes, seconds)."""

    caches: tuple[Cache, ...]
    memory_s: float
    memory_rate: float
    walks: tuple[tuple[int, float], ...] = ()

    def shares(self, size: float) -> list[float]:
        """Which share of a walk each cache answers, and memory last."""
        held, nearer, found = 0.0, 0.0, []
        for cache in self.caches:
            here = max(held, cache.holds(size, nearer))
            found.append(here - held)
            held, nearer = here, cache.reach(nearer)
        return [*found, 1 - held]

    def capacities(self) -> list[float]:
        """The largest set that each cache holds together with the nearer ones that it does not repeat."""
        found: list[float] = []
        for cache in self.caches:
            found.append(cache.reach(found[-1] if found else 0.0))
        return found

    def middles(self, *, rate: bool) -> list[float]:
        """Where a walk takes the geometric mean of what two neighbouring memories take: the capacity that it sees."""
        times = [1 / c.rate if rate else c.load_s for c in self.caches] + [
            1 / self.memory_rate if rate else self.memory_s
        ]
        found = []
        for near, far, size in zip(times, times[1:], self.capacities(), strict=False):
            sizes = [size * 1.005**step for step in range(-300, 300)]
            middle = math.sqrt(near * far)
            found.append(
                next(
                    each for each in sizes if (1 / self.rate(each) if rate else self.load_s(each, local=True)) >= middle
                )
            )
        return found

    def heights(self, *, rate: bool) -> list[float]:
        """What each cache does in the middle of its range, page walks included."""
        if rate:
            return [cache.rate for cache in self.caches]
        ends = [1, *self.capacities()]
        walks = [
            sum(cost * max(0.0, 1 - reach / math.sqrt(near * end)) for reach, cost in self.walks)
            for near, end in zip(ends, ends[1:], strict=False)
        ]
        return [cache.load_s + walk for cache, walk in zip(self.caches, walks, strict=True)]

    def load_s(self, size: float, *, local: bool = False) -> float:
        """Seconds of one load of a random chase; ``local`` visits page after page and walks no tables."""
        times = [*(cache.load_s for cache in self.caches), self.memory_s]
        walking = sum(cost * max(0.0, 1 - reach / size) for reach, cost in self.walks)
        return sum(share * time for share, time in zip(self.shares(size), times, strict=True)) + (not local) * walking

    def rate(self, size: float) -> float:
        """Byte/s of a stream."""
        rates = [*(cache.rate for cache in self.caches), self.memory_rate]
        return 1 / sum(share / rate for share, rate in zip(self.shares(size), rates, strict=True))

    def varied(self, chance: random.Random) -> Machine:
        """A machine of the same kind: sizes within half an octave, times and rates a seventh, other page walks."""

        def by(octaves: float) -> float:
            return float(2 ** chance.uniform(-octaves, octaves))

        scale, reach, cost = by(0.4), by(1.5), by(1)
        caches = (
            replace(
                each,
                size=max(4 * KIB, round(each.size * scale * by(0.2) / (4 * KIB)) * 4 * KIB),
                load_s=each.load_s * by(0.2),
                rate=each.rate * by(0.2),
            )
            for each in self.caches
        )
        return replace(
            self,
            caches=tuple(caches),
            memory_s=self.memory_s * by(0.2),
            memory_rate=self.memory_rate * by(0.2),
            walks=tuple((round(size * reach), seconds * cost) for size, seconds in self.walks),
        )

    def least_step(self, *, rate: bool) -> float:
        """The least factor in time between two neighbouring memories."""
        times = [1 / each.rate if rate else each.load_s for each in self.caches]
        times.append(1 / self.memory_rate if rate else self.memory_s)
        return min(far / near for near, far in pairwise(times))

    def squeezed(self, size: int) -> Machine:
        """The machine whose last cache is left with so many bytes by its neighbours."""
        return replace(self, caches=(*self.caches[:-1], replace(self.caches[-1], size=size)))


def measured(times: Sequence[float], seed: int, slow_share: float = 0.25, jitter: float = 0.004) -> list[float]:
    """The best of some rounds, each with every point once in shuffled order, and slow for one stretch of its time."""
    chance = random.Random(seed)
    best = [math.inf] * len(times)
    for _ in range(ROUNDS):
        order = list(range(len(times)))
        chance.shuffle(order)
        begin = chance.random() * (1 - slow_share)
        factor = 1.1 + 3 * chance.random()
        for place, i in enumerate(order):
            slow = factor if begin <= place / len(order) < begin + slow_share else 1.0
            best[i] = min(best[i], times[i] * slow * (1 + abs(chance.gauss(0, jitter))))
    return best


def _cache(size: int, ns: float, gbs: float, **more: object) -> Cache:
    return Cache(size=size, load_s=ns * 1e-9, rate=gbs * 1e9, **more)  # type: ignore[arg-type]


def _machine(*caches: Cache, ns: float, gbs: float, walks: tuple[tuple[int, float], ...] = ()) -> Machine:
    return Machine(
        caches=caches,
        memory_s=ns * 1e-9,
        memory_rate=gbs * 1e9,
        walks=tuple((reach, cost * 1e-9) for reach, cost in walks),
    )


_ZEN = (_cache(32 * KIB, 1.2, 207), _cache(512 * KIB, 3.7, 104, drops="crowded"))
_L3 = _cache(32 * MIB, 14, 78, drops="random", beside=True, ways=16)
_HUGE = ((128 * MIB, 2.0), (4 * GIB, 20.0))
_SMALL = ((256 * KIB, 2.0), (8 * MIB, 20.0))

# Each machine with the cache sizes that it advertises.
MACHINES: dict[str, tuple[Machine, tuple[int, ...]]] = {
    "one level, embedded": (_machine(_cache(16 * KIB, 2.5, 8, drops="random", ways=4), ns=120, gbs=1.5), (16 * KIB,)),
    "two levels, embedded": (
        _machine(
            _cache(32 * KIB, 2.2, 12, drops="random", ways=4),
            _cache(512 * KIB, 11, 6, drops="random", ways=16),
            ns=140,
            gbs=2.5,
        ),
        (32 * KIB, 512 * KIB),
    ),
    "three levels, inclusive": (
        _machine(
            _cache(32 * KIB, 1.1, 230),
            _cache(256 * KIB, 3.4, 110, ways=4),
            _cache(8 * MIB, 11, 45, ways=16),
            ns=70,
            gbs=22,
            walks=_HUGE,
        ),
        (32 * KIB, 256 * KIB, 8 * MIB),
    ),
    "exclusive L3": (_machine(*_ZEN, _L3, ns=82, gbs=26, walks=_HUGE), (32 * KIB, 512 * KIB, 32 * MIB)),
    "exclusive L3 of two L2": (
        _machine(
            _cache(32 * KIB, 1.3, 180),
            _cache(MIB, 4.6, 75, ways=16),
            _cache(2 * MIB, 20, 22, drops="random", beside=True, ways=11),
            ns=95,
            gbs=11,
        ),
        (32 * KIB, MIB, 2 * MIB),
    ),
    "3D cache": (
        _machine(*_ZEN, replace(_L3, size=96 * MIB, load_s=15e-9), ns=80, gbs=30, walks=_HUGE),
        (32 * KIB, 512 * KIB, 96 * MIB),
    ),
    "big shared L3": (
        _machine(
            _cache(48 * KIB, 1.35, 460),
            _cache(2 * MIB, 4.5, 174, ways=16),
            _cache(480 * MIB, 70, 31, drops="random", ways=20),
            ns=125,
            gbs=16,
            walks=((256 * MIB, 2.0), (4 * GIB, 20.0)),
        ),
        (48 * KIB, 2 * MIB, 480 * MIB),
    ),
    "neighbours": (
        _machine(*_ZEN, _L3, ns=82, gbs=26, walks=_HUGE).squeezed(6 * MIB),
        (32 * KIB, 512 * KIB, 32 * MIB),
    ),
    "small pages under a guest": (
        _machine(*_ZEN, _L3, ns=82, gbs=26, walks=_SMALL).squeezed(6 * MIB),
        (32 * KIB, 512 * KIB, 32 * MIB),
    ),
    "page walks beyond the last level": (
        _machine(_cache(32 * KIB, 1.1, 200), _cache(MIB, 4.0, 90), ns=75, gbs=18, walks=((16 * MIB, 50.0),)),
        (32 * KIB, MIB),
    ),
    "big L2 and nothing behind": (
        _machine(_cache(128 * KIB, 0.95, 190), _cache(12 * MIB, 5.5, 120, drops="random", ways=12), ns=100, gbs=58),
        (128 * KIB, 12 * MIB),
    ),
    "an L3 that a guest is not told of": (
        _machine(*_ZEN, _L3, ns=82, gbs=26, walks=_HUGE),
        (32 * KIB, 512 * KIB),
    ),
    "an L3 that is not there": (_machine(*_ZEN, ns=82, gbs=26, walks=_HUGE), (32 * KIB, 512 * KIB, 32 * MIB)),
    "nothing advertised": (_machine(*_ZEN, _L3, ns=82, gbs=26, walks=_HUGE), ()),
}
