"""In which order cases are left out where the time of a run is too short for all of them, and which that concerns.

`ORDER` is the whole rule, and docs/numbers/time.md says it in words. It looks at facts of cases and sheets only, so it
holds on machines that nobody has seen; how long a case takes is estimated first and then seen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from microbench.hardware.clock import lasts
from microbench.measure.working_sets import meant_for, widest
from microbench.records import Case, Device, Finding, Sheet, units
from microbench.records.roles import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A case beside the others of its plan.

    ``wide``: no kernel of its family and role has wider registers (arithmetic: none of its dtype does more in one
    instruction). ``level`` is where its working set fits by what the system advertises, ``first`` that it is the first
    of its kernel there, ``largest`` that none of its kernel is larger. ``all``: on as many threads as any case;
    ``between``: on neither one thread nor all, or on chosen CPUs; ``among``: neither the fewest nor the most streams
    side by side.
    """

    case: Case
    sheet: Sheet
    level: str
    wide: bool
    first: bool
    largest: bool
    all: bool
    between: bool
    among: bool

    @property
    def cold(self) -> bool:
        """Whether it is a stream through main memory."""
        return bool(self.case.params.get("cold"))

    @property
    def stream(self) -> bool:
        """Whether it moves bytes at a rate."""
        return self.sheet.measures == "memory"

    @property
    def small_pages(self) -> bool:
        """Whether its memory lies on 4 KiB pages."""
        return self.case.params.get("pages") == "4k"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One step of the order: which cases, what they are called in a finding, and why they go no later.

    ``headline``: they have a round before any other case is even prepared.
    """

    name: str
    why: str
    holds: Callable[[Facts], bool]
    essential: bool = False
    headline: bool = False


# What goes first stands first; a case belongs to the first rule that holds for it.
ORDER: tuple[Rule, ...] = (
    Rule(
        name="narrow kernels in main memory",
        why="memory is slower than any of their loops, so the wide one says it for all",
        holds=lambda f: f.stream and f.cold and not f.wide,
    ),
    Rule(
        name="few resident blocks on a GPU",
        why="all that fit are the fastest nearly everywhere",
        holds=lambda f: bool(f.case.params.get("blocks_per_sm")),
    ),
    Rule(
        name="other compilers on a GPU",
        why="compiling takes seconds, and the CUDA kernels measure the same ceilings",
        holds=lambda f: f.sheet.backend == "triton",
    ),
    Rule(
        name="4 KiB pages in main memory",
        why="page walks cost some per cent there, and huge pages are the faster row nearly everywhere",
        holds=lambda f: f.stream and f.cold and f.small_pages,
    ),
    Rule(
        name="software prefetch in main memory",
        why="it wins on few machines, by some per cent; in caches ceilings rest on it",
        holds=lambda f: f.stream and f.cold and bool(f.case.params.get("prefetch")),
    ),
    Rule(
        name="numbers of streams between the fewest and the most",
        why="one of the two ends is the best nearly everywhere",
        holds=lambda f: f.among and not lasts(f.case, f.sheet),
    ),
    Rule(
        name="4 KiB pages in caches",
        why="they tell of page walks, which no ceiling rests on",
        holds=lambda f: f.small_pages and f.sheet.measures in ("memory", "latency"),
    ),
    Rule(
        name="arithmetic intensities at one thread and at the second level",
        why="the roofline of all threads at the first level and in main memory remains",
        holds=lambda f: f.sheet.measures == "intensity" and (not f.all or f.level not in ("L1", "DRAM")),
    ),
    Rule(
        name="narrow vectors in caches",
        why="no ceiling of a level rests on them",
        holds=lambda f: f.stream and not f.wide,
    ),
    Rule(
        name="placements between one core and all CPUs",
        why="the two ends remain",
        holds=lambda f: f.between and f.sheet.backend != "torch",
    ),
    Rule(
        name="sustained rates",
        why="the best milliseconds of the same loops remain",
        holds=lambda f: lasts(f.case, f.sheet),
    ),
    Rule(
        name="further working sets of a level",
        why="each is a second try at the same row",
        holds=lambda f: f.stream and not f.first and not f.sheet.takes("sweep"),
    ),
    Rule(
        name="library kernels",
        why="starting the library alone takes seconds",
        holds=lambda f: f.sheet.backend == "torch",
    ),
    Rule(
        name="narrow arithmetic",
        why="no peak rests on it",
        holds=lambda f: f.sheet.measures == "compute" and not f.wide,
    ),
    Rule(name="costs", why="they bound no rate", holds=lambda f: f.sheet.measures in ("cost", "link")),
    Rule(
        name="arithmetic intensities",
        why="the roofline can be drawn from its ceilings",
        holds=lambda f: f.sheet.measures == "intensity",
    ),
    Rule(
        name="single lines of a GPU's last cache",
        why="they only tell its near part from its far one",
        holds=lambda f: "line" in f.case.params,
    ),
    Rule(
        name="a GPU's arithmetic under power and heat",
        why="they take seconds, but are what a job of minutes gets",
        holds=lambda f: f.case.mode == "sustained",
    ),
    Rule(name="other cases", why="nothing is known of them", holds=lambda f: not _essential(f)),
    Rule(
        name="points of the sweep over working sets",
        why="levels are found by them",
        holds=lambda f: f.sheet.takes("sweep") and not f.cold and f.sheet.measures == "memory" and not f.first,
        essential=True,
    ),
    Rule(
        name="latencies",
        why="levels are found by them",
        holds=lambda f: f.sheet.measures == "latency" and not _of_memory(f),
        essential=True,
    ),
    Rule(
        name="writes, copies and triads",
        why="the ceilings of each level",
        holds=lambda f: f.stream and f.sheet.access != "read",
        essential=True,
    ),
    Rule(
        name="wide arithmetic that bounds no roofline",
        why="what a dtype or a mix of instructions can do",
        holds=lambda f: f.sheet.measures == "compute" and not f.sheet.takes("roof"),
        essential=True,
    ),
    Rule(
        name="latencies of main memory",
        why="what a load costs that no cache answers",
        holds=lambda f: f.sheet.measures == "latency",
        essential=True,
        headline=True,
    ),
    Rule(name="reads of each level", why="its bandwidth", holds=lambda f: f.stream, essential=True, headline=True),
    Rule(
        name="wide arithmetic",
        why="the peaks of each dtype",
        holds=lambda f: f.sheet.measures == "compute",
        essential=True,
        headline=True,
    ),
)


def _of_memory(facts: Facts) -> bool:
    """Whether a chase tells what main memory takes: its lines are evicted first, or none of it is larger."""
    return facts.cold or facts.largest


def _essential(facts: Facts) -> bool:
    return any(rule.holds(facts) for rule in ORDER if rule.essential)


def facts_of(cases: Sequence[Case], sheets: Mapping[str, Sheet], device: Device) -> dict[str, Facts]:
    """The facts of each case of a plan, by key."""
    used = {case.kernel: sheets[case.kernel] for case in cases}
    registers, at_once = widest(used.values()), _most_at_once(used.values())
    streams: dict[tuple[object, ...], set[int]] = defaultdict(set)
    for case in cases:
        streams[case.kernel, case.threads, case.placement].add(_streams(case))
    threads = max((case.threads for case in cases), default=1)
    largest: dict[str, int] = defaultdict(int)
    for case in cases:
        largest[case.kernel] = max(largest[case.kernel], _size(case))
    met: dict[tuple[object, ...], object] = {}
    found = {}
    for case in cases:
        sheet, level, working_set = used[case.kernel], _level(case, device), case.params.get("working_set")
        place = (case.kernel, case.threads, case.placement)
        found[case.key] = Facts(
            case=case,
            sheet=sheet,
            level=level,
            wide=_is_wide(sheet, registers, at_once),
            first=met.setdefault((*place, level), working_set) == working_set,
            largest=_size(case) == largest[case.kernel],
            all=case.threads == threads and case.placement is None,
            between=case.threads not in (1, threads) or case.placement is not None,
            among=min(streams[place]) < _streams(case) < max(streams[place]),
        )
    return found


def _size(case: Case) -> int:
    return int(case.params.get("working_set", 0))


def _streams(case: Case) -> int:
    return int(case.params.get("streams", 1))


Arithmetic = tuple[str | None, str | None]


def _arithmetic(sheet: Sheet) -> Arithmetic:
    """What peaks are told apart by: the dtype, and on a GPU the unit, since people quote both of one dtype."""
    return sheet.dtype, sheet.unit if sheet.device_kind == "cuda" else None


def _most_at_once(sheets: Iterable[Sheet]) -> dict[Arithmetic, int]:
    """FLOP of one instruction of each dtype's widest arithmetic."""
    most: dict[Arithmetic, int] = defaultdict(int)
    for sheet in sheets:
        if sheet.measures == "compute" and sheet.backend not in ("torch", "triton"):
            most[_arithmetic(sheet)] = max(most[_arithmetic(sheet)], sheet.lanes * sheet.flop_per_lane)
    return most


def _is_wide(sheet: Sheet, registers: Mapping[tuple[str, Role], int], at_once: Mapping[Arithmetic, int]) -> bool:
    if sheet.measures == "compute":
        return sheet.lanes * sheet.flop_per_lane >= at_once.get(_arithmetic(sheet), 0)
    return not sheet.family or any(
        sheet.takes(role) and sheet.access_bytes == registers[sheet.family, role] for role in sheet.roles
    )


def _level(case: Case, device: Device) -> str:
    return "DRAM" if case.params.get("cold") else meant_for(_size(case), device)


class Priorities:
    """The order of one plan's cases: the rule of each by key, and where it stands."""

    def __init__(self, cases: Sequence[Case], sheets: Mapping[str, Sheet], device: Device) -> None:
        self.rule: dict[str, Rule] = {}
        self._rank: dict[str, tuple[int, float]] = {}
        members: dict[int, list[str]] = defaultdict(list)
        for key, facts in facts_of(cases, sheets, device).items():
            place = next(place for place, rule in enumerate(ORDER) if rule.holds(facts))
            members[place].append(key)
            self.rule[key] = ORDER[place]
        for place, keys in members.items():
            for index, key in enumerate(keys):
                self._rank[key] = (-place, _halving(index))

    def rank(self, case: Case) -> tuple[int, float]:
        """Where a case stands: the lower, the later it is left out; its rule before its place among those of it."""
        return self._rank[case.key]


def _halving(index: int) -> float:
    """Places of a list such that any number of the lowest lie evenly: its binary digits the other way round.

    A rule whose cases fit in part is thinned and not cut off, so that half of a sweep is still a sweep.

    Examples
    --------
    >>> [_halving(index) for index in range(4)]
    [0.0, 0.5, 0.25, 0.75]
    """
    place, step = 0.0, 0.5
    while index:
        index, digit = divmod(index, 2)
        place += step * digit
        step /= 2
    return place


def left_out_for_time(dropped: Sequence[Case], planned: int, rules: Mapping[str, Rule], limit_s: float) -> Finding:
    """The one finding about all cases that a time limit left out, counted by rule."""
    counts = Counter(rules[case.key].name for case in dropped)
    listed = ", ".join(f"{counts[rule.name]} of {rule.name}" for rule in ORDER if rule.name in counts)
    return Finding(
        code="left-out-for-time",
        severity="warning" if any(rules[case.key].essential for case in dropped) else "info",
        says=(
            f"{len(dropped)} of {planned} cases were left out, so that the run ends within {units.seconds(limit_s)}: "
            f"{listed}"
        ),
        remedy="microbench run --thorough measures all of them",
    )
