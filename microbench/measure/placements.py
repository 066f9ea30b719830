"""What is measured on which CPUs: everything on one core and on all CPUs, the best loops on what lies between.

Every placement of a machine gets the widest variant of each arithmetic and of each stream; narrower ones say nothing
new there. The scaling curve has one arithmetic and one stream from main memory. So the number of cases grows with the
number of placements, which is bounded, and not with that of CPUs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from microbench.hardware.placement import as_seen_by
from microbench.measure.working_sets import Streams, WorkingSets, known, widest
from microbench.records import Case, Device, Mode, Part, Placement, Scope, Sheet, Value
from microbench.records.roles import RATED


def teams(device: Device, threads: int) -> tuple[Placement, ...]:
    """One core and all CPUs, the two that everything is measured on; one team where that is the same."""
    topology = device.topology
    named = {each.name: each for each in topology.placements} if topology is not None else {}
    core = named.get("core") or _plain("core", 1)
    return (core,) if threads == 1 else (core, named.get("all") or _plain("all", threads))


def _plain(name: str, threads: int) -> Placement:
    """Threads of which nobody knows where they run: taken to be one a core behind one last cache."""
    sharers = {"L1": 1, "L2": 1, "L3": threads}
    return Placement(name=name, cpus=tuple(range(threads)), parts=(Part(threads=threads, sharers=sharers),))


def case(sheet: Sheet, team: Placement, **params: Value) -> Case:
    """One kernel on a placement."""
    scope: Scope = "device" if team.name == "all" and team.threads > 1 else "core"
    mode: Mode = "library" if sheet.backend == "torch" else "peak"
    return Case(kernel=sheet.name, params=params, threads=team.threads, scope=scope, mode=mode, placement=team.word)


def working_sets(team: Placement, device: Device, memory_bytes: int, threads: int) -> WorkingSets:
    """Bytes per thread of a placement: shares of the caches that its threads share.

    A level has no working set where a thread's share of it is less than twice what the thread has of the level before:
    a walk through that would partly be answered there.
    """
    whole = WorkingSets.of(device, memory_bytes, threads)
    return replace(whole, levels=WorkingSets.of(as_seen_by(team, device), memory_bytes, team.threads).levels)


def candidates(
    device: Device, sheets: Sequence[Sheet], memory_bytes: int, *, quick: bool
) -> Iterable[tuple[Case, str | None]]:
    """The cases of every placement but one core and all CPUs, and of the scaling curve."""
    topology = device.topology
    if topology is None:
        return
    native = [sheet for sheet in sheets if sheet.backend == "native"]
    best = list(_widest(native))
    streams = Streams(widest=widest(native), quick=True)
    curve = [*curve_sheets(native, "compute"), *curve_sheets(native, "memory")]
    for team in topology.placements:
        chosen = curve if team.name == "scale" else best
        sets = working_sets(team, device, memory_bytes, len(topology.allowed))
        for sheet in chosen if team.word is not None else ():
            if sheet.measures == "compute":
                yield case(sheet, team), None
            elif not quick or sheet.access == "read":
                yield from _streams(sheet, team, sets, streams)


def _widest(sheets: Sequence[Sheet]) -> Iterator[Sheet]:
    """Of arithmetic that is a roof the most lanes for each pair of dtypes, of streams the widest of each family."""
    lanes: dict[tuple[str, str | None, str | None], int] = {}
    for sheet in sheets:
        if sheet.measures == "compute" and sheet.takes("roof"):
            lanes[_arithmetic(sheet)] = max(lanes.get(_arithmetic(sheet), 0), sheet.lanes)
    streams = Streams(widest=widest(sheets), quick=True)
    for sheet in sheets:
        if not sheet.takes(*RATED):
            continue
        if sheet.measures == "compute":
            chosen = sheet.takes("roof") and sheet.lanes == lanes[_arithmetic(sheet)]
        else:
            chosen = sheet.measures == "memory" and bool(sheet.family) and streams.wide(sheet, *RATED)
        if chosen:
            yield sheet


def _arithmetic(sheet: Sheet) -> tuple[str, str | None, str | None]:
    return sheet.name.partition(".")[0], sheet.dtype, sheet.accumulator


def curve_sheets(sheets: Sequence[Sheet], measures: str) -> list[Sheet]:
    """What the scaling curve is of: the widest arithmetic in f32, or the widest read."""
    return [
        sheet
        for sheet in _widest(sheets)
        if sheet.measures == measures
        and sheet.dtype == "f32"
        and sheet.takes("roof")
        and sheet.access in (None, "read")
    ]


def _streams(sheet: Sheet, team: Placement, sets: WorkingSets, streams: Streams) -> Iterator[tuple[Case, str]]:
    """One set for each level; in main memory with one page at a time and with several."""
    if team.name != "scale" and sheet.takes("ceiling"):
        for level, sizes in sets.levels.items():
            if sizes:
                yield case(sheet, team, **known(sheet, working_set=sizes[0], pages="huge", streams=1)), level
    seen = set()
    for level, params in streams.params(sheet, sets):
        if level == "DRAM" and (side_by_side := params.get("streams")) not in seen:
            seen.add(side_by_side)
            yield case(sheet, team, **params), level
