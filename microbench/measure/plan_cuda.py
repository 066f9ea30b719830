"""What to measure on a GPU: which kernels, over which working sets, with how many resident blocks.

A quick and a default run measure what a card is quoted by: the peak of each number format on each unit by the chip's
own path, main memory, last cache, shared memory and L1, latencies with one sweep over the levels, launches, links, and
by default what libraries reach and the headline format under power and heat. A thorough run has all there is.

Rates are of the whole device. Main memory is sought with a set of several last caches, the last cache below half its
size (large chips split it in two), and a sweep shows where the one ends and the other begins.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from microbench.records import Case, Device, Finding, Mode, Sheet, Value
from microbench.records.roles import RATED

MIB = 1 << 20
# Fewer than three leave hits of the last cache in a stream through DRAM, and nothing else empties it between launches.
LAST_CACHES = 4
UNKNOWN_CACHE = 64 * MIB
SHARE_OF_MEMORY = 8  # three arrays of a triad, two chases, and room for whoever else uses the card
LEAST_SET = MIB
HEADLINE = "bf16"  # the one format whose rate under power and heat every run measures
# Resident blocks a multiprocessor: from all that fit (0) down to one, so that neither end of this sweep can hide a
# better one; by default all that fit and few.
OCCUPANCIES = {"quick": (0,), "default": (0, 2), "thorough": (0, 8, 4, 2, 1)}
PER_OCTAVE = {"quick": 1, "default": 2, "thorough": 4}
# Points of the last octave, which is main memory: three make a plateau.
PLATEAU = 2
# Streams by how many accesses a thread has in flight; three numbers show whether their sweep was wide enough.
STREAMS = {"quick": ("u4", "u8", "bulk"), "default": ("u2", "u4", "u8", "bulk")}
# Shares of the last cache: beyond half of it, where one that keeps copies in both of its parts has room for them no
# more.
BEYOND_HALF = (5 / 8, 3 / 4, 7 / 8)
LINES = {
    "quick": 24,
    "default": 32,
    "thorough": 64,
}  # single lines of the last cache, to see whether it has a near and a far part


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """Working sets in bytes.

    That of main memory is several last caches, so that a pass throws out what the one before left.
    """

    dram: int
    l2: tuple[int, ...]
    beyond_l1: int
    beyond_half: tuple[int, ...] = ()

    @classmethod
    def of(cls, device: Device) -> Sets:
        """Choose sizes from what the device advertises of itself."""
        caches = {name: level.capacity_bytes for name in ("L1", "L2") if (level := device.level(name)) is not None}
        l2, l1 = caches.get("L2") or UNKNOWN_CACHE, caches.get("L1") or LEAST_SET // 2
        affordable = max(LEAST_SET, (device.memory_bytes or 1 << 62) // SHARE_OF_MEMORY)
        dram = min(max(LAST_CACHES * l2, LEAST_SET), affordable)
        halves = tuple(size for share in BEYOND_HALF if (size := round(share * l2 / 1024) * 1024) <= affordable)
        return cls(
            dram=dram, l2=(l2 * 3 // 8, l2 // 4), beyond_l1=2 * l1, beyond_half=halves if caches.get("L2") else ()
        )


def sweep(low: int, high: int, per_octave: int) -> list[int]:
    """Sizes from one to the other, so many an octave, in whole KiB.

    Examples
    --------
    >>> sweep(4096, 16384, 1)
    [4096, 8192, 16384]
    """
    steps = max(1, round(per_octave * math.log2(high / low)))
    sizes = (low * (high / low) ** (step / steps) for step in range(steps + 1))
    return list(dict.fromkeys(round(size / 1024) * 1024 for size in sizes))


def swept(low: int, dram: int, per_octave: int) -> list[int]:
    """The sizes of a sweep that ends in main memory: as many there as make a plateau, however few an octave.

    Examples
    --------
    >>> [size >> 20 for size in swept(1 << 20, 16 << 20, 1)]
    [1, 2, 4, 8, 11, 16]
    """
    last = {size for size in sweep(dram // 2, dram, PLATEAU) if size > low}
    return sorted({*sweep(low, dram, per_octave), *last})


def candidates(device: Device, sheets: Sequence[Sheet], budget: str) -> Iterable[tuple[Case, str | None]]:
    """Every case worth measuring, with the level it is meant for (``sweep`` for the points of one)."""
    sets = Sets.of(device)
    headline = _headline(sheets)
    for sheet in sheets:
        if sheet.backend == "torch":
            params = {"working_set": 2 * sets.dram} if "working_set" in sheet.params else {}
            yield _case(sheet, "library", params), "DRAM" if params else None
        elif sheet.measures == "compute" and sheet.takes("ceiling"):
            if sheet.operands != "random":
                yield _case(sheet, "peak", {}), None
            elif budget == "thorough" or (sheet.name == headline and budget != "quick"):
                yield _case(sheet, "sustained", {}), None
        elif sheet.measures in ("cost", "link") or not sheet.params:
            yield _case(sheet, "peak", {}), _fixed(sheet)
        else:
            yield from _by_level(sheet, sets, budget)


def left_to_thorough(sheet: Sheet, sheets: Sequence[Sheet], budget: str) -> str | None:
    """Why a kernel that can run here is measured by a thorough run only, as the name of its group; ``None``: it is not.

    Parameters
    ----------
    sheet
        The kernel.
    sheets
        All that can run here.
    budget
        The budget's name.
    """
    if budget == "thorough" or sheet.device_kind != "cuda":
        return None
    compiled = any(each.backend == "cuda" and each.measures == "compute" for each in sheets)
    if sheet.backend == "triton" and compiled:
        return "of another compiler (Triton), seconds each to compile"
    if sheet.backend == "torch" and budget == "quick":
        return "of PyTorch, which takes seconds to start"
    if sheet.backend != "cuda":
        return None
    if "legacy" in sheet.variant.split("."):
        return "of the legacy path of this chip"
    if sheet.measures == "intensity" and not _quoted_mix(sheet, budget):
        return "of arithmetic between loads in other formats"
    if sheet.measures == "memory" and "working_set" in sheet.params and sheet.variant not in STREAMS[budget]:
        return "of streams with other numbers of accesses in flight"
    if sheet.operands == "random" and (budget == "quick" or sheet.name != _headline(sheets)):
        return "of other formats under power and heat"
    return None


def _quoted_mix(sheet: Sheet, budget: str) -> bool:
    """The roofline's corner in FP32, and by default on the tensor cores where they have no newer path."""
    return sheet.dtype == "f32" or (budget == "default" and sheet.unit == "matrix")


def held_back(groups: Sequence[str], measured: int) -> Finding | None:
    """The one finding about kernels that are left to a thorough run.

    Parameters
    ----------
    groups
        What `left_to_thorough` said of each of them.
    measured
        How many kernels the plan has.
    """
    if not groups:
        return None
    counted = ", ".join(f"{count} {group}" for group, count in Counter(groups).items())
    says = f"{measured} kernels are measured, those whose rates are quoted; {len(groups)} more can run here: {counted}"
    return Finding(
        code="left-to-thorough",
        severity="info",
        says=says,
        remedy="microbench run --thorough, or name them by --only",
    )


def _fixed(sheet: Sheet) -> str | None:
    return sheet.fixed_level if sheet.measures == "memory" else None


def _headline(sheets: Sequence[Sheet]) -> str | None:
    """The kernel of the chip's own matrix path: later families feed the cores better, and come later in the table."""
    matrix = [
        sheet
        for sheet in sheets
        if sheet.unit == "matrix" and sheet.operands == "random" and "legacy" not in sheet.variant
    ]
    named = [sheet.name for sheet in matrix if sheet.dtype == HEADLINE] or [sheet.name for sheet in matrix]
    return named[-1] if named else None


def _by_level(sheet: Sheet, sets: Sets, budget: str) -> Iterable[tuple[Case, str | None]]:
    if sheet.takes("latency"):
        yield from _chases(sheet, sets, budget)
    if sheet.takes("intensity"):
        everywhere = (("DRAM", sets.dram), ("L2", sets.l2[0]))
        for level, size in everywhere if budget == "thorough" else everywhere[:1]:
            yield _case(sheet, "peak", {"working_set": size}), level
    if sheet.takes(*RATED):
        for blocks in OCCUPANCIES[budget]:
            yield _case(sheet, "peak", {"working_set": sets.dram, "blocks_per_sm": blocks}), "DRAM"
    if sheet.takes("ceiling"):
        for size in sets.l2 if budget == "thorough" else sets.l2[:1]:
            yield _case(sheet, "peak", {"working_set": size, "blocks_per_sm": 0}), "L2"
    if sheet.takes("sweep") and sheet.measures == "memory":
        for size in swept(sets.beyond_l1, sets.dram, PER_OCTAVE[budget]):
            yield _case(sheet, "peak", {"working_set": size, "blocks_per_sm": 0}), "sweep"


def _chases(sheet: Sheet, sets: Sets, budget: str) -> Iterable[tuple[Case, str | None]]:
    """A chase over all working sets, and of single lines of the last cache."""
    low = 16 << 10 if sheet.variant == "ca" else sets.beyond_l1
    if sheet.takes("sweep"):
        for size in swept(low, sets.dram, PER_OCTAVE[budget]):
            yield _case(sheet, "peak", {"working_set": size}), "sweep"
    if "line" in sheet.params:
        for size in sets.beyond_half:
            yield _case(sheet, "peak", {"working_set": size}), "sweep"
        for line in range(LINES[budget]):
            yield Case(kernel=sheet.name, params={"line": line}, threads=1, scope="device", mode="peak"), "L2"


def _case(sheet: Sheet, mode: Mode, params: Mapping[str, Value]) -> Case:
    chosen = {name: value for name, value in params.items() if name in sheet.params}
    return Case(kernel=sheet.name, params=chosen, threads=1, scope="device", mode=mode)
