"""Which working sets to visit: around every advertised level, in main memory, and a sweep over all sizes between."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from microbench.records import Device, Sheet, Value
from microbench.records.roles import RATED, Role

KIB, MIB = 2**10, 2**20
CACHES = ("L1", "L2", "L3")
# What the loops walk and sets are multiples of, whatever pages the system has.
_PAGE = 4 * KIB

# Main memory is measured cold (each line evicted before it is touched), so its set need only outgrow the page-walk
# caches: so many pages are several times what any of them holds.
_COLD_PAGES = 2**14
# Loads that stay in so many pages for a while find them in the first translation buffer of any core, which has 32
# entries or more.
_WINDOW_PAGES = 32
# A sweep goes so far at least: beyond a last cache that a guest is not told of, and to where random loads pay for page
# walks. No size of any chip: a fallback for what nobody tells.
_UNTOLD_BYTES = 256 * MIB
# A set is the last cache's no more from twice its size, and nothing of it is left in four times, whatever is replaced.
_OUTGROWN, _LEFT_BEHIND = 2, 4
_INSIDE, _BEYOND = 3, 2
# A sweep begins here, or at a quarter of a smaller first cache.
_START = 2 * _PAGE
# A level whose size nobody tells is looked for in so many octaves, behind those of the levels before it.
_OCTAVES = 4
_LEAST_BYTES = 16 * MIB
# Copies and triads of all threads, sweeps and chases in both page kinds of one: all of them prepared at once. The two
# sets that outgrow the last cache are worth a larger share.
_SHARE_OF_MEMORY, _LARGEST_SHARE = 12, 6
# Bytes ahead for software prefetch; 0 leaves it to the hardware. None wins everywhere, so each is a case: two lines are
# what stores to a near cache gain most by (Zen 3), sixteen what copies do on others, a last cache takes up to twice as
# many.
_LINE = 64
_NEAR, _FAR, _FARTHER = 2 * _LINE, 16 * _LINE, 32 * _LINE
_PREFETCH = (0, _FAR)
# Registers that are loaded before they are stored in level 1; 0 leaves it to the kernel. Neither wins everywhere.
_GROUPS = (0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingSets:
    """Bytes per thread: of each level's ceilings, of a cold pass through main memory, and of the sweep's end.

    ``caches`` are the advertised capacities in ascending order; ``window`` confines loads to pages at hand. A level of
    which nobody tells the size has a set an octave: which of them it holds is known when the sweep has shown it.
    """

    levels: dict[str, tuple[int, ...]]
    cold: int
    largest: int
    caches: tuple[tuple[str, int], ...] = ()
    window: int = _WINDOW_PAGES * mmap.PAGESIZE

    @classmethod
    def of(cls, device: Device, memory_bytes: int, threads: int) -> WorkingSets:
        """Choose sizes for a device and the memory that is free."""
        caches = sorted(
            (
                (level.name, level.capacity_bytes)
                for level in device.levels
                if level.name != "DRAM" and level.capacity_bytes
            ),
            key=lambda each: each[1],
        )
        last = caches[-1][1] if caches else 0
        affordable = max(_LEAST_BYTES, memory_bytes // _SHARE_OF_MEMORY)
        outgrown = min(_OUTGROWN * last, max(_LEAST_BYTES, memory_bytes // _LARGEST_SHARE))
        largest = _grain(max(min(max(_UNTOLD_BYTES, _OUTGROWN * last), affordable), outgrown))
        cold = min(_COLD_PAGES * mmap.PAGESIZE, _UNTOLD_BYTES, max(_LEAST_BYTES, affordable // threads))
        levels = _around_levels(device, largest // threads)
        return cls(levels=levels, cold=_power(cold), largest=largest, caches=tuple(caches))

    @property
    def outgrows(self) -> bool:
        """Whether the sweep's end leaves the last advertised cache behind."""
        return not self.caches or self.largest >= _LEFT_BEHIND * self.caches[-1][1]

    def sweep(self, per_octave: int) -> dict[int, str | None]:
        """Sizes of a sweep and the advertised level that each is strictly inside of: three at least, two beyond all.

        Where a last level is told, one size an octave beyond twice of it tells as much.
        """
        told = next((size for name, size in self.caches if name == "L3"), None)
        dense = min(self.largest, _OUTGROWN * told) if told else self.largest
        sizes = {*sweep_sizes(dense, per_octave, self._start()), self.largest}
        sizes |= {dense << octave for octave in range(64) if dense << octave < self.largest}
        near = 0
        for _, size in self.caches:
            sizes |= set(_filled(sizes, near or self._start() // 2, min(size, self.largest), _INSIDE))
            near = size
        if near < self.largest:
            sizes |= set(_filled(sizes, near, self.largest + 1, _BEYOND))
        return {size: self._inside(size) for size in sorted(sizes) if size <= self.largest}

    def _start(self) -> int:
        """A quarter of the first cache: a few points lie on its plateau."""
        return min(_START, max(_PAGE, self.caches[0][1] // 4)) if self.caches else _START

    def _inside(self, size: int) -> str | None:
        near = 0
        for name, capacity in self.caches:
            if near < size < capacity:
                return name
            near = capacity
        return "DRAM" if near and size >= _OUTGROWN * near else None


def _power(size: int) -> int:
    """The largest power of two up to a size."""
    return 1 << (size.bit_length() - 1)


def _filled(sizes: Iterable[int], low: int, high: int, count: int) -> Iterator[int]:
    """Sizes to add, evenly on a logarithmic axis, until so many lie strictly between two."""
    if sum(low < size < high for size in sizes) < count:
        for step in range(1, count + 1):
            size = low * (high / low) ** (step / (count + 1))
            yield round(size / KIB) * KIB


def _around_levels(device: Device, most: int) -> dict[str, tuple[int, ...]]:
    """The sets of each level; of one that is not told none that is larger than ``most``, as far as a sweep can show."""
    untold = _untold(device)
    affordable = {name: tuple(size for size in sizes if size <= most) for name, sizes in untold.items()}
    sets = {name: sizes for name, sizes in affordable.items() if sizes}
    l1, l2, l3 = (_told(device, name) for name in CACHES)
    if l1:
        # Half the cache leaves room for the stack; three quarters loses least to the loop's restarts.
        sets["L1"] = (_grain(l1 * 3 // 4), _grain(l1 // 2))
    if l2:
        # Addresses of a guest's pages are another system's choice: a set beyond half the cache may crowd some of its
        # sets.
        sets["L2"] = tuple(dict.fromkeys((_grain(max(l2 * 3 // 16, 2 * (l1 or 0))), _grain(l2 * 3 // 8))))
    if l3:
        # A shared last level behaves smaller than it is: small multiples of the level before it.
        below = l2 or max(untold.get("L2", ()), default=0) or l1 or MIB
        sets["L3"] = tuple(_grain(size) for size in (below * 2, below * 3, below * 6) if size < l3)
    return {name: sets[name] for name in CACHES if name in sets}


def _told(device: Device, name: str) -> int | None:
    level = device.level(name)
    return level.capacity_bytes if level is not None else None


def _untold(device: Device) -> dict[str, tuple[int, ...]]:
    """Sets of the caches that nobody tells the size of, an octave apart, the smallest first.

    They lie in turn behind a sweep's beginning, and between the sizes of the levels that are told.
    """
    found: dict[str, tuple[int, ...]] = {}
    near = 0
    for place, name in enumerate(CACHES if device.kind == "cpu" else ()):
        if told := _told(device, name):
            near = told
            continue
        far = next((size for each in CACHES[place:] if (size := _told(device, each))), None)
        first = max(_START << _OCTAVES * place, 2 * near)
        found[name] = tuple(size for size in (first << octave for octave in range(_OCTAVES)) if not far or size < far)
        near = max(near, *found[name], 0)
    return found


def meant_for(size: int, device: Device) -> str:
    """The level that a set of so many bytes is planned for: the first that holds it, or is looked for up to there."""
    ends = {level.name: level.capacity_bytes or 0 for level in device.levels}
    ends |= {name: sizes[-1] for name, sizes in _untold(device).items() if sizes}
    return min((end, name) for name, end in (*ends.items(), ("DRAM", math.inf)) if size <= end)[1]


def _grain(size: int) -> int:
    return max(_PAGE, size // _PAGE * _PAGE)


def sweep_sizes(largest: int, per_octave: int, smallest: int = _START) -> list[int]:
    """Working sets up to ``largest``, so many per octave, rounded to whole pages (to 1 KiB below 16 of them)."""
    steps = round(per_octave * math.log2(largest / smallest))
    sizes: dict[int, None] = {}
    for i in range(steps + 1):
        exact = smallest * 2 ** (i / per_octave)
        grain = KIB if exact < 16 * _PAGE else _PAGE
        sizes[round(exact / grain) * grain] = None
    return list(sizes)


def widest(sheets: Iterable[Sheet]) -> dict[tuple[str, Role], int]:
    """Bytes of the widest register of each family and role, among kernels that can run here."""
    found: dict[tuple[str, Role], int] = {}
    for sheet in sheets:
        for role in sheet.roles if sheet.family else ():
            found[sheet.family, role] = max(found.get((sheet.family, role), 0), sheet.access_bytes)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """How thoroughly one budget visits the streaming kernels."""

    widest: Mapping[tuple[str, Role], int]
    quick: bool

    def wide(self, sheet: Sheet, *roles: Role) -> bool:
        """Whether a kernel takes one of the roles, and no kernel of its family takes it with wider registers."""
        return any(
            not sheet.family or sheet.access_bytes == self.widest[sheet.family, role]
            for role in roles
            if sheet.takes(role)
        )

    def params(self, sheet: Sheet, sets: WorkingSets) -> Iterable[tuple[str, dict[str, Value]]]:
        """Level and parameters of every ceiling of one streaming kernel."""
        wide = self.wide(sheet, *RATED)
        if sheet.beside and not sheet.unless:
            # It does apart what another loop of its width fuses, and behind level 1 both wait for memory alike.
            for working_set in sets.levels.get("L1", ()) if wide else ():
                yield "L1", known(sheet, working_set=working_set, pages="huge", streams=1, group=_GROUPS[-1])
            return
        if sheet.takes("ceiling"):
            yield from self._in_caches(sheet, sets, wide=wide)
        yield from self._in_memory(sheet, sets, wide=wide)

    def _in_caches(self, sheet: Sheet, sets: WorkingSets, *, wide: bool) -> Iterable[tuple[str, dict[str, Value]]]:
        for level, sizes in sets.levels.items():
            for working_set in sizes if wide else sizes[:1]:
                first = working_set == sizes[0]
                for pages in ("huge", "4k") if wide and not self.quick and level == "L2" else ("huge",):
                    where: dict[str, Value] = {"working_set": working_set, "pages": pages, "streams": 1}
                    for ahead in self._ahead(sheet, level, pages, first=first) if wide else (0,):
                        yield level, known(sheet, **where, prefetch=ahead)
                    for group in _GROUPS if level == "L1" and wide else ():
                        yield level, known(sheet, **where, group=group)

    def _ahead(self, sheet: Sheet, level: str, pages: str, *, first: bool) -> tuple[int, ...]:
        """How far ahead one of the widest loops asks for lines in a cache."""
        if level == "L2" and sheet.access != "read":
            if pages == "4k":
                return (_NEAR, _FAR) if first else ()
            return (0, _NEAR, _FAR) if first or not self.quick else (0,)
        return (0, _FAR, _FARTHER) if level == "L3" and first and not self.quick else (0,)

    def _in_memory(self, sheet: Sheet, sets: WorkingSets, *, wide: bool) -> Iterable[tuple[str, dict[str, Value]]]:
        thorough = wide and not self.quick
        for pages in ("huge", "4k") if thorough or (wide and sheet.access == "write") else ("huge",):
            for streams in _side_by_side(sheet, thorough=thorough):
                for ahead in _PREFETCH if streams == 1 and thorough else (0,):
                    yield (
                        "DRAM",
                        known(sheet, working_set=sets.cold, pages=pages, streams=streams, prefetch=ahead, cold=1),
                    )

    def sweep(self, sheets: Iterable[Sheet], sets: WorkingSets) -> Iterable[tuple[Sheet, dict[str, Value], str]]:
        """Every point of the sweep by a stream and of the sweep by a chase, with the level it is inside of."""
        if self.quick:  # beyond, filling takes longer than all else; where the curve leads is known from cold sets
            sets = replace(sets, largest=min(sets.largest, _UNTOLD_BYTES))
        for sheet in sheets:
            if not self.wide(sheet, "sweep"):
                continue
            if sheet.measures == "latency":
                for pages in ("huge",) if self.quick else ("huge", "4k"):
                    for working_set, level in sets.sweep(1 if pages == "4k" else 2).items():
                        yield sheet, known(sheet, working_set=working_set, pages=pages), level or "sweep"
            else:
                for working_set, level in sets.sweep(2 if self.quick else 3).items():
                    # Main memory has cold sets, where no cache answers a part.
                    inside = level if level and level != "DRAM" else "sweep"
                    yield sheet, known(sheet, working_set=working_set, pages="huge", streams=1), inside

    def memory_chases(self, sheet: Sheet, sets: WorkingSets) -> Iterable[dict[str, Value]]:
        """Loads from main memory inside a window of pages, and from everywhere where no sweep leaves the caches."""
        if "window" in sheet.params and sheet.takes("sweep"):
            yield known(sheet, working_set=sets.cold, pages="huge", window=sets.window, cold=1)
            if not sets.outgrows:
                yield known(sheet, working_set=max(sets.cold, min(sets.largest, _UNTOLD_BYTES)), pages="huge", cold=1)


def _side_by_side(sheet: Sheet, *, thorough: bool) -> tuple[int, ...]:
    """How many pages a stream through main memory walks at a time."""
    if "streams" not in sheet.params or sheet.unit == "scalar":
        return (1,)
    return (1, 4, 8) if thorough else (1, 8)


def known(sheet: Sheet, **params: Value) -> dict[str, Value]:
    """Those of the parameters that a kernel takes; switched off (``prefetch``, ``cold``, ``group`` 0) goes unsaid."""
    return {
        name: value
        for name, value in params.items()
        if name in sheet.params and not (name in ("prefetch", "cold", "group") and not value)
    }
