"""Burst, sustained and library rates beside nominal, advertised and published ones, one row a dtype and unit.

A row holds what can be compared: on a GPU plain cores and tensor cores are apart, and so are accumulators, memory
levels and accesses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

from microbench.analysis import verdicts
from microbench.analysis.roofs import roofs
from microbench.analysis.verdicts import unit_class
from microbench.hardware.tables.published import Published
from microbench.records import Ceiling, Characterisation, Device, units
from microbench.records.dtypes import DTYPES
from microbench.report import view

SAYS = {
    "cuda": (
        "Burst: a hand-written loop on exact operands. Sustained: random operands after power and heat settle. "
        "Library: the best matrix product a user can get, and its share of the burst. Nominal: computed at the clock "
        "seen. Advertised: printed by the maker. Published: the highest that others measured, of bursts where there "
        "are any; the share is ours over theirs, and below 100 % is good for a latency. Slow, normal and fast: where "
        "ours lies against the range of theirs, or, where nobody published any, of what the data sheet implies. Plain "
        "and tensor are the cores, in brackets the format of the sums."
    ),
    "cpu": (
        "Burst: a hand-written loop on exact operands. Library: the best matrix product a user can get, whatever unit "
        "it ran on, and its share of the burst; it stands beside the fastest unit of its dtype. Nominal: computed at "
        "the clock seen. In brackets: the format of the sums."
    ),
}
_HEADINGS = {
    "burst": "burst",
    "sustained": "sustained",
    "power": "power, sustained",
    "library": "library",
    "of_burst": "of burst",
    "nominal": "nominal",
    "advertised": "advertised",
    "highest": "published",
    "normal": "of published",
    "verdict": "for this card",
    "sources": "published by",
}
# Copies between host and device: the variant's name, level and access in the table of published figures, and the title.
_LINKS = {"h2d.pinned": ("host", "read", "host to device"), "d2h.pinned": ("host", "write", "device to host")}
# Copies between cards that carry bytes one way, as published ones do.
_ONE_WAY = ("peer.cuda_", "peer.from_")
# Costs of launches by their name: the name in the table of published figures, and the title.
_LAUNCHES = {"launch.period": ("plain", "launch to launch"), "launch.graph": ("graph", "launch to launch, graph")}


@dataclass(frozen=True, slots=True, kw_only=True)
class SideRow:
    """One dtype and unit, or one memory level and access, as text, ``–`` where a fact is unknown.

    ``ratio`` is ours over published, ``reached`` the library's rate over the burst.
    """

    title: str
    measures: str
    ratio: float | None = None
    reached: float | None = None
    burst: str = view.UNKNOWN
    sustained: str = view.UNKNOWN
    power: str = view.UNKNOWN
    library: str = view.UNKNOWN
    of_burst: str = view.UNKNOWN
    nominal: str = view.UNKNOWN
    advertised: str = view.UNKNOWN
    highest: str = view.UNKNOWN
    normal: str = view.UNKNOWN
    verdict: str = view.UNKNOWN
    sources: str = view.UNKNOWN


def title(rows: Sequence[SideRow], kind: str) -> str:
    """The title of the table: only with published figures can it say whether a card is normal."""
    if kind == "cpu":
        return "Hand-written loops beside the library"
    return (
        "Is this card normal?"
        if any(row.verdict != view.UNKNOWN for row in rows)
        else "Burst, sustained, library, nominal"
    )


def columns(rows: Sequence[SideRow], without: Iterable[str] = ()) -> dict[str, str]:
    """The headings by field, for the fields that are known in at least one row."""
    known = {field.name for field in fields(SideRow) if any(getattr(row, field.name) != view.UNKNOWN for row in rows)}
    return {name: heading for name, heading in _HEADINGS.items() if name in known and name not in without}


def side_rows(characterisation: Characterisation, figures: Sequence[Published] | None = None) -> tuple[SideRow, ...]:
    """One row a dtype, unit and accumulator, then memory, links and latencies; empty for a CPU without library rates.

    ``figures`` are what others measured on such a device; those known by its name if omitted.
    """
    device = characterisation.device
    others = known_figures(characterisation) if figures is None else tuple(figures)
    held = view.table_ceilings(characterisation)
    compute = [ceiling for ceiling in held if ceiling.measures == "compute"]
    if device.kind == "cpu":
        if not any(ceiling.mode != "peak" for ceiling in compute):
            return ()
        threads = view.headline_threads(characterisation)
        bounding = [ceiling for ceiling in roofs(compute, characterisation.sheets) if ceiling.threads == threads]
        return tuple(_compute_rows(bounding, others, device))
    return (
        *_compute_rows(compute, others, device),
        *_memory_rows([ceiling for ceiling in held if ceiling.measures == "memory"], others, device),
        *_link_rows([ceiling for ceiling in held if ceiling.measures == "link"], others, device),
        *_latency_rows(characterisation, others),
        *_launch_rows(characterisation, others),
    )


def known_figures(characterisation: Characterisation) -> tuple[Published, ...]:
    """What others measured on such a GPU; empty for a MIG slice, of which nothing is published."""
    return verdicts.known_figures(characterisation.device)


def _compute_rows(ceilings: Sequence[Ceiling], others: Sequence[Published], device: Device) -> Iterable[SideRow]:
    keys: dict[tuple[str, str | None, str | None], list[Ceiling]] = {}
    for ceiling in sorted(ceilings, key=lambda ceiling: (ceiling.unit is None, -ceiling.rate.value)):
        if ceiling.dtype:
            keys.setdefault(_row_key(ceiling, list(keys)), []).append(ceiling)
    for key in sorted(keys, key=lambda key: (tuple(DTYPES).index(key[0]), -keys[key][0].rate.value)):
        dtype, unit, accumulator = key
        # Half precision is the one format whose matrix units sum in itself or in a wider one.
        sums = accumulator or (dtype if (dtype, unit) == ("f16", "matrix") else None)
        title = " ".join(word for word in (dtype, unit_words(unit, device.kind)) if word) + (
            f" ({sums})" if sums else ""
        )
        alike = [figure for figure in others if figure.measures == "compute" and verdicts.same_unit(figure, key)]
        yield _row(title, keys[key], alike, device)


def _row_key(
    ceiling: Ceiling, keys: Sequence[tuple[str, str | None, str | None]]
) -> tuple[str, str | None, str | None]:
    """The row of a ceiling: its dtype, unit class and accumulator.

    A library does not say which unit it ran on: its rate stands in the row of the fastest unit of the same dtype, and
    if possible of the same accumulator.
    """
    own = (
        str(ceiling.dtype),
        unit_class(ceiling.unit),
        ceiling.accumulator if ceiling.accumulator != ceiling.dtype else None,
    )
    if ceiling.unit is not None:
        return own
    fitting = [key for key in keys if key[0] == own[0]]
    exact = [key for key in fitting if key[2] == own[2]]
    return (exact or fitting or [own])[0]


def unit_words(unit: str | None, kind: str) -> str:
    """What a kind of unit is called on a device of that kind.

    Examples
    --------
    >>> unit_words("scalar", "cuda"), unit_words("matrix", "cuda"), unit_words("scalar", "cpu")
    ('plain', 'tensor', 'vector')
    """
    words = {"cuda": {"plain": "plain", "matrix": "tensor"}, "cpu": {"plain": "vector", "matrix": "matrix"}}
    return words[kind].get(unit_class(unit) or "", "")


def _memory_rows(ceilings: Sequence[Ceiling], others: Sequence[Published], device: Device) -> Iterable[SideRow]:
    """Reads of every level, and the other accesses where there is something to compare them with."""
    for level in view.NEAR_TO_FAR:
        for access in view.ACCESSES:
            rows = [ceiling for ceiling in ceilings if (ceiling.level, ceiling.access) == (level, access)]
            alike = [
                figure
                for figure in others
                if figure.measures == "memory" and (figure.level, figure.access) == (level, access)
            ]
            if rows and (access == "read" or alike):
                yield _row(f"{level} {access}", sorted(rows, key=lambda row: -row.rate.value), alike, device)


def _link_rows(ceilings: Sequence[Ceiling], others: Sequence[Published], device: Device) -> Iterable[SideRow]:
    for ceiling in ceilings:
        variant = ceiling.variant or ""
        level, access, title = _LINKS.get(
            variant, ("peer", "copy", f"copy {variant}") if variant.startswith(_ONE_WAY) else ("", "", "")
        )
        alike = [
            figure
            for figure in others
            if figure.measures == "memory" and (figure.level, figure.access) == (level, access)
        ]
        if level:
            yield _row(title, [ceiling], alike, device)


def _latency_rows(characterisation: Characterisation, others: Sequence[Published]) -> Iterable[SideRow]:
    """Load-to-use latencies that somebody published; theirs are in cycles, here at the highest clock seen."""
    clock = max((ceiling.clock_hz for ceiling in characterisation.ceilings if ceiling.clock_hz), default=None)
    for level, cost in view.latencies(characterisation).items():
        theirs = [figure for figure in others if figure.measures == "latency_cycles" and figure.level == level]
        if theirs and clock:
            longest = max(figure.value for figure in theirs)
            yield SideRow(
                title=f"{level} latency",
                measures="latency",
                ratio=cost.seconds.value * clock / longest,
                burst=units.seconds(cost.seconds.value),
                highest=units.seconds(longest / clock),
                normal=_share(cost.seconds.value, longest / clock),
                verdict=_of_time(cost.seconds.value * clock, theirs, "latency"),
                sources="; ".join(
                    f"{figure.value:g} cycles, here at {view.clock_text(clock)} ({_source(figure)})"
                    for figure in theirs
                ),
            )


def _launch_rows(characterisation: Characterisation, others: Sequence[Published]) -> Iterable[SideRow]:
    """Times from one launch to the next that somebody published, launched one by one and in a graph."""
    for cost in characterisation.costs:
        mode, title = _LAUNCHES.get(cost.name, ("", ""))
        theirs = [figure for figure in others if figure.measures == "launch_s" and figure.access == mode]
        if theirs:
            longest = max(figure.value for figure in theirs)
            yield SideRow(
                title=title,
                measures="launch",
                ratio=cost.seconds.value / longest,
                burst=units.seconds(cost.seconds.value),
                highest=units.seconds(longest),
                normal=_share(cost.seconds.value, longest),
                verdict=_of_time(cost.seconds.value, theirs, "launch"),
                sources="; ".join(f"{units.seconds(figure.value)} ({_source(figure)})" for figure in theirs),
            )


def _of_time(value: float, theirs: Sequence[Published], what: str) -> str:
    """The verdict on a time, of which more is slow."""
    normal = verdicts.spanned([figure.value for figure in theirs], what)
    words = {"slow": "fast", "fast": "slow", "normal": "normal"}
    return words[normal.word(value)] if normal else view.UNKNOWN


def _verdict(rows: Sequence[Ceiling], mode: str, alike: Sequence[Published], device: Device) -> str:
    """The verdict on the fastest ceiling of a row: of the mode that is compared, else of a burst, else of products."""
    for of in dict.fromkeys((mode, "peak", "library")):
        best = max((row for row in rows if row.mode == of), key=lambda row: row.rate.value, default=None)
        normal = verdicts.expected(best, alike, device) if best and device.kind == "cuda" else None
        if best and normal:
            return normal.word(best.rate.value)
    return view.UNKNOWN


def _row(title: str, rows: Sequence[Ceiling], alike: Sequence[Published], device: Device) -> SideRow:
    """A row of ceilings, fastest first, and of published figures about the same thing."""
    first = rows[0]
    best = {
        mode: max((row.rate.value for row in rows if row.mode == mode), default=None)
        for mode in ("peak", "sustained", "library")
    }

    def known(value: Callable[[Ceiling], float | None]) -> float | None:
        return next((found for row in rows if row.mode == "peak" and (found := value(row)) is not None), None)

    def beside(value: float | None) -> str:
        """A number with the prefix of the row's first figure, which alone carries the unit."""
        return view.UNKNOWN if value is None else units.like(value, unit_of)

    compared = _compared(best, alike)
    ours = best[compared.mode] if compared else None
    unit_of = best["peak"] or first.rate.value
    return SideRow(
        title=title,
        measures=first.measures,
        ratio=ours / compared.value if compared and ours else None,
        reached=best["library"] / best["peak"] if best["library"] and best["peak"] else None,
        burst=view.rate_text(first, best["peak"]),
        sustained=beside(best["sustained"]) if best["peak"] else view.rate_text(first, best["sustained"]),
        power=_power(rows),
        library=beside(best["library"]) if best["peak"] else view.rate_text(first, best["library"]),
        of_burst=_share(best["library"], best["peak"]),
        nominal=beside(known(lambda row: row.nominal)),
        advertised=beside(known(lambda row: row.advertised)),
        highest=f"{beside(compared.value)}{' lib.' if compared.mode == 'library' else ''}"
        if compared
        else view.UNKNOWN,
        normal=_share(ours, compared.value) if compared else view.UNKNOWN,
        verdict=_verdict(rows, compared.mode if compared else "peak", alike, device),
        sources="; ".join(
            f"{view.rate_text(first, figure.value)} {_word(figure)} ({_source(figure)})" for figure in alike
        )
        or view.UNKNOWN,
    )


def _compared(best: dict[str, float | None], figures: Sequence[Published]) -> Published | None:
    """The published figure that ours is compared with.

    The highest burst if a burst was measured here, else the highest library rate if one was, else the highest figure.
    """
    by_mode = sorted(figures, key=lambda figure: (best[figure.mode] is not None, figure.mode == "peak", figure.value))
    return by_mode[-1] if by_mode else None


def _share(value: float | None, of: float | None) -> str:
    return view.UNKNOWN if value is None or not of else f"{100 * value / of:.0f} %"


def _word(figure: Published) -> str:
    return "library" if figure.mode == "library" else "burst"


def _source(figure: Published) -> str:
    return f"{figure.source}; {figure.note}" if figure.note else figure.source


def _power(rows: Sequence[Ceiling]) -> str:
    """The power that the sustained rate draws, and the energy of one operation at it."""
    row = max((row for row in rows if row.mode == "sustained"), key=lambda row: row.rate.value, default=None)
    if row is None or row.power_w is None:
        return view.UNKNOWN
    energy = (
        f", {units.digits(row.energy_per_op_j * 1e12, 3)} pJ/{view.rate_unit(row).removesuffix('/s')}"
        if row.energy_per_op_j
        else ""
    )
    return f"{row.power_w:.0f} W{energy}"
