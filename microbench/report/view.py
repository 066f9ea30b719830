"""The content of a report before its layout: rows and sentences that the terminal, Markdown and HTML share."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from microbench.analysis.roofs import roofs
from microbench.records import LEVELS, Ceiling, Characterisation, Cost, Estimate, Finding, Sheet, units
from microbench.records.dtypes import DTYPES
from microbench.report.sweeps import is_sweep_point, parse_case, plural

UNKNOWN = "–"
ACCESSES = ("read", "write", "copy", "triad")
# Memory levels from the core outwards; "shared" sits beside L1 on a GPU.
NEAR_TO_FAR = ("shared", "L1", "L2", "L3", "DRAM", "host", "peer")

FLAGS = {
    "C": "not converged: the best rounds disagree, or the rate per clock is below what the units can issue",
    "P": "unproven: the loop was not compared with its machine code, or its schedule does not allow the ceiling",
    "F": "proof failed: the machine code is not what the data sheet says",
    "V": "unverified: no kept characterisation shows this kernel on such hardware yet",
    "T": "throttled: the device lowered its clock in some samples",
    "!": "a finding names this ceiling",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One ceiling as text, ``–`` where a fact is unknown."""

    ceiling: Ceiling
    title: str
    rate: str
    interval: str
    share: str
    typical: str
    clock: str
    flags: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The ceilings of one table: of one kind (compute, memory, link) at one thread count."""

    title: str
    rows: tuple[Row, ...]


def rate_unit(ceiling: Ceiling) -> str:
    """``FLOP/s``, ``OP/s`` or ``byte/s``."""
    return (
        DTYPES[ceiling.dtype].rate_unit
        if ceiling.measures == "compute" and ceiling.dtype
        else "FLOP/s"
        if ceiling.measures == "compute"
        else "byte/s"
    )


def rate_text(ceiling: Ceiling, value: float | None) -> str:
    """A rate in the ceiling's unit, ``–`` if unknown."""
    return UNKNOWN if value is None else units.rate(value, rate_unit(ceiling))


def interval_text(estimate: Estimate) -> str:
    """Low and high with the prefix of the value, for example ``152.6 – 153.1``."""
    return f"{units.like(estimate.low, estimate.value)} – {units.like(estimate.high, estimate.value)}"


def share_text(value: float, of: float | None) -> str:
    """A share in per cent, ``–`` where the whole is unknown."""
    return UNKNOWN if of is None else f"{100 * value / of:.1f} %"


def clock_text(hertz: float | None) -> str:
    """A clock in GHz."""
    return UNKNOWN if hertz is None else units.prefixed(hertz, "Hz", 3)


def table_ceilings(characterisation: Characterisation) -> tuple[Ceiling, ...]:
    """The ceilings of the tables: of one core and of all CPUs, without the sweep's points, which a curve shows."""
    return tuple(
        ceiling
        for ceiling in characterisation.ceilings
        if ceiling.placement is None
        and (not is_sweep_point(ceiling.level, ceiling.case) or ceiling.measures != "memory")
    )


def groups(characterisation: Characterisation) -> tuple[Group, ...]:
    """All ceilings by measure and threads, in reading order."""
    found: dict[tuple[str, int], list[Ceiling]] = defaultdict(list)
    for ceiling in table_ceilings(characterisation):
        found[ceiling.measures, _threads(characterisation, ceiling)].append(ceiling)
    order = sorted(found, key=lambda key: (("compute", "memory", "link").index(key[0]), key[1]))
    return tuple(_group(characterisation, key, found[key]) for key in order)


def best_variants(group: Group) -> Group:
    """The group with one row for each level and access, burst and sustained: the fastest."""
    best: dict[tuple[str | None, str | None, bool], Row] = {}
    for row in group.rows:
        key = (row.ceiling.level, row.ceiling.access, row.ceiling.mode == "sustained")
        if key not in best or row.ceiling.rate.value > best[key].ceiling.rate.value:
            best[key] = row
    return (
        Group(title=group.title, rows=tuple(best.values()))
        if group.rows and group.rows[0].ceiling.measures == "memory"
        else group
    )


def legend(rows: Iterable[Row]) -> tuple[tuple[str, str], ...]:
    """The flags that occur, with their meaning."""
    used = {flag for row in rows for flag in row.flags}
    return tuple((flag, says) for flag, says in FLAGS.items() if flag in used)


def flags(ceiling: Ceiling, sheet: Sheet | None, named: frozenset[str]) -> str:
    """The letters that qualify a ceiling; ``named`` are the cases that findings name."""
    found = {
        "C": not ceiling.converged,
        "P": ceiling.proof.status == "unproven",
        "F": ceiling.proof.status == "failed",
        "V": sheet is not None and not sheet.verified,
        "T": bool(ceiling.throttled_share),
        "!": ceiling.case in named,
    }
    return "".join(letter for letter, holds in found.items() if holds)


def sheet_of(characterisation: Characterisation, ceiling: Ceiling) -> Sheet | None:
    """The data sheet of the kernel behind a ceiling, if it was stored."""
    case = parse_case(ceiling.case)
    return next((sheet for sheet in characterisation.sheets if case and sheet.name == case.kernel), None)


def ladder(characterisation: Characterisation) -> tuple[Cost, ...]:
    """Load-to-use latencies from near to far, then the other costs, cheapest first; without the points of sweeps."""
    # A first touch has a working set too, and is not a point of a sweep.
    costs = {sheet.name for sheet in characterisation.sheets if sheet.measures == "cost"}
    shown = [
        cost
        for cost in characterisation.costs
        if cost.seconds.value > 0
        and (not is_sweep_point(cost.level, cost.case) or (cost.case or "").partition("[")[0] in costs)
    ]
    return tuple(
        sorted(
            shown,
            key=lambda cost: (
                cost.level is None,
                NEAR_TO_FAR.index(cost.level) if cost.level else 0,
                cost.seconds.value,
            ),
        )
    )


def latencies(characterisation: Characterisation) -> dict[str, Cost]:
    """The load-to-use latency of each level, near to far; of an L2 in two partitions that between near and far."""
    found: dict[str, Cost] = {}
    for cost in ladder(characterisation):
        if cost.level and (cost.level not in found or cost.name == f"load_to_use.{cost.level}"):
            found[cost.level] = cost
    return found


def cost_interval(cost: Cost) -> str:
    """Low and high in the unit of the value, for example ``1.35 – 1.39``."""
    low, high = (units.like_seconds(end, cost.seconds.value) for end in (cost.seconds.low, cost.seconds.high))
    return f"{low} – {high}"


def cost_title(cost: Cost) -> str:
    """``L2 load to use`` for a level's latency, otherwise the cost's own name in words.

    Examples
    --------
    >>> cost_title(Cost(name="load_to_use.L2", level="L2", seconds=Estimate(value=5e-9, low=5e-9, high=5e-9)))
    'L2 load to use'
    >>> cost_title(Cost(name="load_to_use.L2.far", level="L2", seconds=Estimate(value=5e-9, low=5e-9, high=5e-9)))
    'L2 load to use far'
    """
    name, threads, _ = re.split(r"\.(\d+)_threads|$", cost.name, maxsplit=1) if cost.name else ("", None, "")
    words = [word for word in re.split(r"[\s._-]+", name.removeprefix("cost.")) if word and word != cost.level]
    title = " ".join([cost.level, *words] if cost.level else words) or UNKNOWN
    return f"{title}, {plural(int(threads), 'thread')}" if threads else title


def sorted_findings(characterisation: Characterisation) -> tuple[Finding, ...]:
    """Findings by severity, worst first; otherwise as they came."""
    return tuple(
        sorted(characterisation.findings, key=lambda finding: ("error", "warning", "info").index(finding.severity))
    )


def gathered_findings(characterisation: Characterisation, at_most: int = 2) -> tuple[tuple[Finding, int], ...]:
    """Findings with at most ``at_most`` of one code; the last of each code comes with the number left out."""
    totals = Counter(finding.code for finding in characterisation.findings)
    seen: Counter[str] = Counter()
    shown: list[tuple[Finding, int]] = []
    for finding in sorted_findings(characterisation):
        seen[finding.code] += 1
        if seen[finding.code] <= at_most:
            left = totals[finding.code] - at_most if seen[finding.code] == at_most else 0
            shown.append((finding, max(0, left)))
    return tuple(shown)


def headline_threads(characterisation: Characterisation) -> int | None:
    """The thread count that the summary and the roofline are about: the largest that was measured."""
    return max((_threads(characterisation, ceiling) for ceiling in table_ceilings(characterisation)), default=None)


def headline(characterisation: Characterisation, measures: str) -> tuple[Ceiling, ...]:
    """The headline ceilings: roofs and library rates at the headline thread count, of the whole device on a GPU."""
    threads = headline_threads(characterisation)
    chosen = (
        ceiling
        for ceiling in roofs(table_ceilings(characterisation), characterisation.sheets)
        if ceiling.measures == measures and ceiling.mode != "sustained"
    )
    return tuple(ceiling for ceiling in chosen if _threads(characterisation, ceiling) == threads)


def lasting(characterisation: Characterisation) -> tuple[Ceiling, ...]:
    """The memory ceilings at the headline thread count whose samples lasted."""
    threads = headline_threads(characterisation)
    return tuple(
        ceiling
        for ceiling in roofs(characterisation.ceilings, characterisation.sheets)
        if (ceiling.measures, ceiling.mode) == ("memory", "sustained")
        and _threads(characterisation, ceiling) == threads
    )


def best_by_dtype(ceilings: Sequence[Ceiling]) -> dict[str, Ceiling]:
    """The fastest instruction peak of each dtype, widest dtype first."""
    best: dict[str, Ceiling] = {}
    for ceiling in sorted(
        (ceiling for ceiling in ceilings if ceiling.dtype and ceiling.mode == "peak"),
        key=lambda ceiling: ceiling.rate.value,
    ):
        best[str(ceiling.dtype)] = ceiling
    return {name: best[name] for name in DTYPES if name in best}


def best_by_level(ceilings: Sequence[Ceiling], access: str = "read") -> dict[str, Ceiling]:
    """The fastest ceiling of each memory level with this access, near to far."""
    best: dict[str, Ceiling] = {}
    for ceiling in sorted(
        (ceiling for ceiling in ceilings if ceiling.level and ceiling.access == access),
        key=lambda ceiling: ceiling.rate.value,
    ):
        best[str(ceiling.level)] = ceiling
    return {level: best[level] for level in NEAR_TO_FAR if level in best}


def threads_text(characterisation: Characterisation, threads: int | None) -> str:
    """``2 threads``, or ``whole device`` for a GPU."""
    if characterisation.device.kind == "cuda":
        return "whole device"
    return plural(threads, "thread") if threads else "no thread count"


def _threads(characterisation: Characterisation, ceiling: Ceiling) -> int:
    """The thread count that groups ceilings; on a GPU the number of host threads means nothing, so it is 1."""
    return 1 if characterisation.device.kind == "cuda" else ceiling.threads


def _group(characterisation: Characterisation, key: tuple[str, int], ceilings: list[Ceiling]) -> Group:
    measures, threads = key
    named = frozenset(
        finding.case for finding in characterisation.findings if finding.case and finding.severity != "info"
    )
    titles = _titles(ceilings)
    rows = [
        Row(
            ceiling=ceiling,
            title=titles[index],
            rate=rate_text(ceiling, ceiling.rate.value),
            interval=interval_text(ceiling.rate),
            share=_share(ceiling),
            typical=UNKNOWN if ceiling.typical is None else units.like(ceiling.typical.value, ceiling.rate.value),
            clock=clock_text(ceiling.clock_hz),
            flags=flags(ceiling, sheet_of(characterisation, ceiling), named),
        )
        for index, ceiling in enumerate(ceilings)
    ]
    rows.sort(key=lambda row: _reading_order(row.ceiling))
    scope = "" if measures == "link" else f", {threads_text(characterisation, threads)}"
    return Group(title=f"{measures.capitalize()}{scope}", rows=tuple(rows))


def _share(ceiling: Ceiling) -> str:
    """The share of nominal; of a core that the port table lacks, what it does in a cycle."""
    by_ports = ceiling.backend == "native" and (ceiling.measures == "compute" or ceiling.level == "L1")
    if ceiling.nominal is None and by_ports and ceiling.per_clock:
        return per_cycle_text(ceiling)
    return share_text(ceiling.rate.value, ceiling.nominal)


def per_cycle_text(ceiling: Ceiling) -> str:
    """``32 FLOP a cycle``: what one core (CPU) or multiprocessor (GPU) did; empty where the clock is unknown."""
    unit = "byte" if ceiling.measures != "compute" else rate_unit(ceiling).removesuffix("/s")
    return f"{units.digits(ceiling.per_clock)} {unit} a cycle" if ceiling.per_clock else ""


def _reading_order(ceiling: Ceiling) -> tuple[int, int, int, float]:
    dtype = tuple(DTYPES).index(ceiling.dtype) if ceiling.measures == "compute" and ceiling.dtype else 0
    level = NEAR_TO_FAR.index(ceiling.level) if ceiling.level else len(LEVELS)
    access = ACCESSES.index(ceiling.access) if ceiling.access else len(ACCESSES)
    return (dtype, level, access, -ceiling.rate.value)


# What a core's loop of arithmetic does: only multiply-adds alone are what 100 % of nominal and the roofline are about.
_DOES = {"fma": "FMA", "fma_add": "FMA + ADD", "fma2_add": "2 FMA + ADD", "mul_add": "MUL + ADD"}


def _titles(ceilings: Sequence[Ceiling]) -> list[str]:
    """A short name for each ceiling, made longer only where two would share it."""
    titles = [_short(ceiling) for ceiling in ceilings]
    for longer in (_with_params, lambda ceiling: ceiling.case):
        counts = Counter(titles)
        titles = [
            longer(ceiling) if counts[title] > 1 else title for ceiling, title in zip(ceilings, titles, strict=True)
        ]
    return titles


def _short(ceiling: Ceiling) -> str:
    if ceiling.measures == "compute":
        does = _DOES.get(ceiling.kernel.partition(".")[0]) if ceiling.backend == "native" else None
        words = [ceiling.dtype, ceiling.unit, ceiling.variant, does]
        if ceiling.accumulator and ceiling.accumulator != ceiling.dtype:
            words.append(f"acc {ceiling.accumulator}")
    else:
        words = [ceiling.level, ceiling.access, ceiling.variant]
    if ceiling.mode != "peak":
        words.append(ceiling.mode)
    if ceiling.backend in ("triton", "torch"):
        words.append(ceiling.backend)
    return " ".join(dict.fromkeys(word for word in words if word)) or ceiling.name


def _with_params(ceiling: Ceiling) -> str:
    case = parse_case(ceiling.case)
    params = [f"{name}={value}" for name, value in sorted(case.params.items()) if name != "working_set"] if case else []
    return " ".join([_short(ceiling), *params])
