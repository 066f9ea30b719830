"""Which working sets to visit: around every advertised level, in main memory, and a sweep over all sizes between."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from microbench.records import Device, Sheet, Value
from microbench.records.roles import RATED, Role

KIB, MIB = 2**10, 2**20

# Main memory is measured cold (each line evicted before it is touched), so its set need only outgrow the page-walk
# caches.
COLD_BYTES = 64 * MIB
_SWEEP_BYTES = 256 * MIB
# Following one pointer after another through more than this takes longer than it tells.
_CHASE_BYTES = {True: 128 * MIB, False: 512 * MIB}
_LEAST_BYTES = 16 * MIB
# Copies and triads, sweeps and chases in both page kinds, each thread: all of them prepared at once.
_SHARE_OF_MEMORY = 12
# Bytes ahead for software prefetch; 0 leaves it to the hardware. Neither wins everywhere, so both are cases.
_PREFETCH = (0, 1024)
# Registers that are loaded before they are stored in level 1; 0 leaves it to the kernel. Neither wins everywhere.
_GROUPS = (0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingSets:
    """Bytes per thread: of each level's ceilings, of a cold pass through main memory, and of the sweep's end."""

    levels: dict[str, tuple[int, ...]]
    cold: int
    largest: int

    @classmethod
    def of(cls, device: Device, memory_bytes: int, threads: int) -> WorkingSets:
        """Choose sizes for a device and the memory that is free."""
        affordable = max(_LEAST_BYTES, memory_bytes // (_SHARE_OF_MEMORY * threads))
        last = max((level.capacity_bytes or 0 for level in device.levels if level.name != "DRAM"), default=0)
        largest = 1 << int(math.log2(min(max(_SWEEP_BYTES, 2 * last), affordable)))
        return cls(levels=_around_levels(device), cold=min(COLD_BYTES, largest), largest=largest)


def _around_levels(device: Device) -> dict[str, tuple[int, ...]]:
    sets: dict[str, tuple[int, ...]] = {}
    l1, l2, l3 = (getattr(device.level(name), "capacity_bytes", None) for name in ("L1", "L2", "L3"))
    if l1:
        # Half the cache leaves room for the stack; three quarters loses least to the loop's restarts.
        sets["L1"] = (_grain(l1 * 3 // 4), _grain(l1 // 2))
    if l2:
        # Addresses of a guest's pages are another system's choice: a set beyond half the cache may crowd some of its
        # sets.
        sets["L2"] = tuple(dict.fromkeys((_grain(max(l2 * 3 // 16, 2 * (l1 or 0))), _grain(l2 * 3 // 8))))
    if l3:
        # A shared last level behaves smaller than it is: small multiples of the level before it.
        below = l2 or l1 or MIB
        sets["L3"] = tuple(_grain(size) for size in (below * 2, below * 3, below * 6) if size < l3)
    return sets


def _grain(size: int) -> int:
    return max(4 * KIB, size // (4 * KIB) * 4 * KIB)


def sweep_sizes(largest: int, per_octave: int) -> list[int]:
    """Working sets from 8 KiB to ``largest``, so many per octave, rounded to 4 KiB (1 KiB below 64 KiB)."""
    steps = round(per_octave * math.log2(largest / (8 * KIB)))
    sizes: dict[int, None] = {}
    for i in range(steps + 1):
        exact = 8 * KIB * 2 ** (i / per_octave)
        grain = KIB if exact < 64 * KIB else 4 * KIB
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
        if sheet.takes("ceiling"):
            yield from self._in_caches(sheet, sets, wide=wide)
        yield from self._in_memory(sheet, sets, wide=wide)

    def _in_caches(self, sheet: Sheet, sets: WorkingSets, *, wide: bool) -> Iterable[tuple[str, dict[str, Value]]]:
        for level, sizes in sets.levels.items():
            for working_set in sizes if wide else sizes[:1]:
                for pages in ("huge", "4k") if wide and not self.quick and level == "L2" else ("huge",):
                    where: dict[str, Value] = {"working_set": working_set, "pages": pages, "streams": 1}
                    for ahead in _PREFETCH if level == "L2" and wide and sheet.access != "read" else (0,):
                        yield level, known(sheet, **where, prefetch=ahead)
                    for group in _GROUPS if level == "L1" and wide else ():
                        yield level, known(sheet, **where, group=group)

    def _in_memory(self, sheet: Sheet, sets: WorkingSets, *, wide: bool) -> Iterable[tuple[str, dict[str, Value]]]:
        thorough = wide and not self.quick
        for pages in ("huge", "4k") if thorough or (wide and sheet.access == "write") else ("huge",):
            for streams in _side_by_side(sheet, thorough=thorough):
                for ahead in _PREFETCH if streams == 1 and thorough else (0,):
                    yield (
                        "DRAM",
                        known(sheet, working_set=sets.cold, pages=pages, streams=streams, prefetch=ahead, cold=1),
                    )

    def sweep(self, sheets: Iterable[Sheet], largest: int) -> Iterable[tuple[Sheet, dict[str, Value]]]:
        """Every point of the sweep by a stream and of the sweep by a chase."""
        for sheet in sheets:
            if not self.wide(sheet, "sweep"):
                continue
            if sheet.measures == "latency":
                for pages in ("huge",) if self.quick else ("huge", "4k"):
                    for working_set in sweep_sizes(min(largest, _CHASE_BYTES[self.quick]), 1 if pages == "4k" else 2):
                        yield sheet, known(sheet, working_set=working_set, pages=pages)
            else:
                last, per_octave = (min(largest, _SWEEP_BYTES), 2) if self.quick else (largest, 3)
                for working_set in sweep_sizes(last, per_octave):
                    yield sheet, known(sheet, working_set=working_set, pages="huge", streams=1)


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
