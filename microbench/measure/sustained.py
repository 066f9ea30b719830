"""What lasts: main memory, its roofline and arithmetic at a tenth of a second a sample, beside the best millisecond.

A burst of a millisecond may fall between two neighbours of a shared host, or before the power limit; a job of minutes
gets what a tenth of a second gets. Lines are not evicted first, which would take longer than the sample: the set is
walked in circles, and is so large that no cache holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from microbench.measure import placements
from microbench.measure.working_sets import MIB, known
from microbench.records import Case, Device, Finding, Placement, Sheet, Value, units
from microbench.records.roles import RATED

# One sample a round: a second one beside it would fall into the same episode of interference. As many rounds, spread
# over the run, as a median needs.
ROUNDS = 3
# A walk in circles through a set this many times a cache finds an eighth of it there at most, whatever the cache
# replaces.
_OUTGROWS = 8
_LEAST_OUTGROWS = 4
# Virtual machines hide parts of their caches: no set is smaller than what outgrows the caches of most, as long as
# memory is free.
_USUAL_BYTES = 256 * MIB
_LEAST_BYTES = 64 * MIB
# Read, write, copy, triad and intensities have arrays of their own, some five sets in all, beside those of the sweeps.
_SHARE_OF_MEMORY = 16
_GRAIN = 2 * MIB
# Multiply-adds a load: two on the slope of any machine, those around the ridges of laptops and of servers, one on the
# roof.
_MULTIPLY_ADDS = (2, 4, 8, 16, 64)
_HEADLINE = "f32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """The set of one team: bytes of each thread, and what they must outgrow together; no set where memory is short."""

    threads: int
    cache_bytes: int
    each: int | None

    @classmethod
    def of(cls, device: Device, threads: int, memory_bytes: int) -> Circle:
        """Choose the set for so many threads and the memory that is free.

        Every thread may sit on a last cache of its own domain, so those of all domains that the team needs add up.
        """
        last = max(
            (level for level in device.levels if level.name != "DRAM"),
            key=lambda level: level.capacity_bytes or 0,
            default=None,
        )
        domains = -(-threads // ((last.shared_by if last else None) or threads))
        cache = domains * ((last.capacity_bytes if last else None) or 0)
        total = min(max(_USUAL_BYTES, _OUTGROWS * cache), memory_bytes // _SHARE_OF_MEMORY)
        enough = total >= max(_LEAST_BYTES, _LEAST_OUTGROWS * cache)
        each = total // threads // _GRAIN * _GRAIN if enough else 0
        return cls(threads=threads, cache_bytes=cache, each=each or None)


def candidates(
    device: Device, sheets: Sequence[Sheet], threads: int, memory_bytes: int, budget: str
) -> Iterable[tuple[Case, str | None]]:
    """Every sustained case of a CPU, with the level that it is meant for.

    Parameters
    ----------
    device, sheets
        What is measured, and the kernels that can run here.
    threads, memory_bytes
        The CPUs that may be used, and the memory that is free.
    budget
        A quick run reads and copies with all threads. A default one has all of them, and of one thread reads and
        copies; the rest is a thorough run's, since filling arrays takes longer than sampling them.
    """
    native = [sheet for sheet in sheets if sheet.backend == "native"]
    teams = placements.teams(device, threads)
    everything = teams[-1]
    for team in teams[-1:] if budget == "quick" else teams:
        circle = Circle.of(device, team.threads, memory_bytes)
        if circle.each is not None:
            walked: dict[str, Value] = {"working_set": circle.each, "pages": "huge"}
            short = budget == "quick" or (budget == "default" and team is not everything)
            for sheet, params in _streams(native, team.threads, short=short):
                yield _case(sheet, team, known(sheet, **walked, **params)), "DRAM"
            if budget == "thorough" or (budget == "default" and team is everything):
                for sheet in _mixed(native):
                    # Compiled code leaves prefetching to the hardware, and this roofline is about such code.
                    yield _case(sheet, team, known(sheet, **walked) | {"prefetch": 0}), "DRAM"
    if budget != "quick":
        yield from ((_case(sheet, everything, {}), None) for sheet in _arithmetic(native))


def left_out(device: Device, threads: int, memory_bytes: int) -> Finding | None:
    """Why main memory is not measured for long: the set would not outgrow the last cache, or there is no memory."""
    circle = Circle.of(device, threads, memory_bytes)
    if device.kind != "cpu" or circle.each is not None:
        return None
    needed = _SHARE_OF_MEMORY * max(_LEAST_BYTES, _LEAST_OUTGROWS * circle.cache_bytes)
    says = (
        f"sustained rates of main memory were not measured: sets that outgrow {units.size(circle.cache_bytes)} of last "
        f"cache {_LEAST_OUTGROWS} times need {units.size(needed)} of free memory, and {units.size(memory_bytes)} are "
        "free; smaller ones would measure the cache"
    )
    return Finding(code="no-sustained", severity="info", says=says, remedy="free memory, or allow fewer CPUs (taskset)")


def _case(sheet: Sheet, team: Placement, params: dict[str, Value]) -> Case:
    return replace(placements.case(sheet, team, **params), mode="sustained")


def _streams(sheets: Sequence[Sheet], team: int, *, short: bool) -> Iterator[tuple[Sheet, dict[str, Value]]]:
    """Streams of the widest registers.

    All cores together saturate memory, where a store past the caches saves fetching the line. What one core gains or
    loses by it, and by pages side by side, is the chip's business, so both are cases there.
    """
    streams = [s for s in sheets if s.measures == "memory" and s.takes(*RATED) and s.family and s.unit == "vector"]
    width = max((sheet.access_bytes for sheet in streams), default=0)
    widest = [sheet for sheet in streams if sheet.access_bytes == width]
    past = {sheet.access for sheet in widest if _past_caches(sheet)}
    for sheet in widest:
        if short and sheet.access not in ("read", "copy"):
            continue
        if team > 1 and sheet.access in past and not _past_caches(sheet):
            continue
        yield sheet, {"streams": 1, "prefetch": 0}
        if sheet.access == "read" and team == 1:
            yield sheet, {"streams": 4, "prefetch": 0}


def _past_caches(sheet: Sheet) -> bool:
    return not sheet.takes("ceiling")


def _mixed(sheets: Sequence[Sheet]) -> list[Sheet]:
    """The loops of the intensity sweep around its ridge."""
    mixed = [s for s in sheets if s.takes("intensity") and s.dtype == _HEADLINE and "prefetch" in s.params]
    width = max((sheet.access_bytes for sheet in mixed), default=0)
    return [sheet for sheet in mixed if sheet.access_bytes == width and sheet.math // sheet.loads in _MULTIPLY_ADDS]


def _arithmetic(sheets: Sequence[Sheet]) -> Iterator[Sheet]:
    """The multiply-add with the widest registers of either float format; without one, whatever vectors do best."""
    for dtype in ("f32", "f64"):
        rows = [
            s for s in sheets if s.measures == "compute" and s.takes("roof") and (s.unit, s.dtype) == ("vector", dtype)
        ]
        if rows:
            yield max(rows, key=lambda sheet: (sheet.name.startswith("fma."), sheet.lanes * sheet.flop_per_lane))
