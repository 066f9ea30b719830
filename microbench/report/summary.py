"""The characterisation in five lines, and its memory levels as rows: what a person reads first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from microbench.records import Ceiling, Characterisation, LevelSeen, units
from microbench.records.dtypes import DTYPES
from microbench.report import side, view
from microbench.report.sweeps import plural

# Levels whose end no working set reaches.
_FAR = ("DRAM", "host", "peer")
# Letters of a finding that the last line quotes.
_LONGEST = 90
_DOUBT = "?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the summary: what it is about, and what it says."""

    about: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelRow:
    """What a stream and a chase see of one level, beside what the system advertises."""

    name: str
    advertised: str
    stream: str
    chase: str
    bandwidth: str
    latency: str
    reuse: str


def lines(characterisation: Characterisation) -> tuple[Line, ...]:
    """Device, compute, bandwidth, latency, trust: always five lines, whatever is missing."""
    return (
        Line(about="Device", says=_device(characterisation)),
        Line(about="Compute", says=_compute(characterisation)),
        Line(about="Bandwidth", says=_bandwidth(characterisation)),
        Line(about="Latency", says=_latency(characterisation)),
        Line(about="Trust", says=_trust(characterisation)),
    )


def title(characterisation: Characterisation) -> str:
    """The device in a few words."""
    device = characterisation.device
    return device.name if device.arch in device.name else f"{device.name} ({device.arch})"


def when(characterisation: Characterisation) -> str:
    """When and for how long it was measured; a file from ``fit`` says so."""
    environment = characterisation.environment
    if environment is None:
        return "fitted to rows, not measured here"
    seconds = environment.times.get("prepared") if characterisation.device.kind == "cuda" else None
    prepared = "" if seconds is None else f" (prepared in {units.seconds(seconds, 3)})"
    sessions = f" in {len(environment.sessions)} sessions, the last" if environment.sessions else ""
    return (
        f"measured{sessions} {moment(environment.started)} in {units.seconds(environment.seconds, 3)}{prepared} by "
        f"microbench {environment.microbench}"
    )


def moment(started: str) -> str:
    """A moment as ``2026-11-21 23:14 UTC``; a text that is not ISO 8601 stays as it is.

    Examples
    --------
    >>> moment("2026-11-21T23:14:27+00:00"), moment("yesterday")
    ('2026-11-21 23:14 UTC', 'yesterday')
    """
    try:
        read = datetime.fromisoformat(started)
        return f"{read:%Y-%m-%d %H:%M}" if read.tzinfo is None else f"{read.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError):
        return started


def level_rows(characterisation: Characterisation) -> tuple[LevelRow, ...]:
    """One row for each level that was found or advertised, near to far."""
    found = characterisation.fits.levels
    names = {level.name for level in found} | {level.name for level in characterisation.device.levels}
    return tuple(_level_row(characterisation, name) for name in view.NEAR_TO_FAR if name in names)


def _level_row(characterisation: Characterisation, name: str) -> LevelRow:
    stream = _seen(characterisation, name, "stream")
    chase = _seen(characterisation, name, "chase")
    level = characterisation.device.level(name)
    advertised = (
        level.capacity_bytes
        if level
        else next((seen.advertised_bytes for seen in (stream, chase) if seen and seen.advertised_bytes), None)
    )
    reuse = next((seen.reuse_s for seen in (chase, stream) if seen and seen.reuse_s and name not in _FAR), None)
    return LevelRow(
        name=name,
        advertised=units.size(advertised) if advertised else view.UNKNOWN,
        stream=_range(stream),
        chase=_range(chase),
        bandwidth=units.rate(stream.value, "byte/s", 3) if stream else view.UNKNOWN,
        latency=units.seconds(chase.value, 3) if chase else view.UNKNOWN,
        reuse=units.seconds(reuse, 2) if reuse else view.UNKNOWN,
    )


def _seen(characterisation: Characterisation, name: str, by: str) -> LevelSeen | None:
    return next((level for level in characterisation.fits.levels if level.name == name and level.seen_by == by), None)


def _range(level: LevelSeen | None) -> str:
    if level is None:
        return view.UNKNOWN
    if level.name in _FAR:
        return f"from {units.size(level.low_bytes, 3)}"
    return f"to {units.size(level.seen_to_bytes, 3)}"


def _device(characterisation: Characterisation) -> str:
    return "; ".join(
        part for part in (_named(characterisation), _clocks(characterisation), when(characterisation)) if part
    )


def _named(characterisation: Characterisation) -> str:
    """The device with what it has of units and memory."""
    device = characterisation.device
    names = {"sm": "SM", "core": "core", "thread": "thread"}
    counts = {kind: device.units_by_kind[kind] for kind in names if device.units_by_kind.get(kind)}
    if counts.get("thread") == counts.get("core"):
        counts.pop("thread", None)
    has = [plural(count, names[kind]) for kind, count in counts.items()]
    has += [units.size(device.memory_bytes, 3)] if device.memory_bytes else []
    return ", ".join([title(characterisation), *has])


def _clocks(characterisation: Characterisation) -> str:
    """The clocks seen under compute loops: rates follow them."""
    seen = [ceiling.clock_hz for ceiling in view.headline(characterisation, "compute") if ceiling.clock_hz]
    if not seen:
        return ""
    low, high = view.clock_text(min(seen)), view.clock_text(max(seen))
    return f"clock seen {low}" if low == high else f"clock seen {units.like(min(seen), max(seen), 3)} to {high}"


def _reached(characterisation: Characterisation) -> str:
    """The share of the instruction peaks that the library's matrix products reach."""
    shares = [100 * row.reached for row in side.side_rows(characterisation) if row.reached]
    return f"; matrix products of the library reach {_span(shares)} %" if shares else ""


def _of_published(characterisation: Characterisation, measures: str) -> str:
    """Our rates as a share of the highest published for such a device."""
    ratios = [100 * row.ratio for row in side.side_rows(characterisation) if row.measures == measures and row.ratio]
    return f"; {_span(ratios)} % of the highest published" if ratios else ""


def _compute(characterisation: Characterisation) -> str:
    ceilings = view.headline(characterisation, "compute")
    best = view.best_by_dtype(ceilings)
    if not best:
        return _libraries(characterisation, ceilings) or "not measured"
    parts = [f"{name} {view.rate_text(ceiling, ceiling.rate.value)}{_doubt(ceiling)}" for name, ceiling in best.items()]
    shares = [100 * ceiling.rate.value / ceiling.nominal for ceiling in best.values() if ceiling.nominal]
    share = f"; {_span(shares)} % of nominal at the clock seen" if shares else ""
    return (
        _on_threads(characterisation, parts)
        + share
        + _reached(characterisation)
        + _of_published(characterisation, "compute")
    )


def _libraries(characterisation: Characterisation, ceilings: tuple[Ceiling, ...]) -> str:
    """The library's rates, where no instruction peak was measured."""
    best: dict[str, Ceiling] = {}
    for ceiling in sorted(ceilings, key=lambda ceiling: ceiling.rate.value):
        best[ceiling.dtype or ""] = ceiling
    parts = [
        f"{name} {view.rate_text(best[name], best[name].rate.value)}{_doubt(best[name])}"
        for name in DTYPES
        if name in best
    ]
    return f"library {_on_threads(characterisation, parts)}; no instruction peak was measured" if parts else ""


def _span(numbers: list[float]) -> str:
    low, high = f"{min(numbers):.0f}", f"{max(numbers):.0f}"
    return low if low == high else f"{low} to {high}"


def _bandwidth(characterisation: Characterisation) -> str:
    ceilings = view.headline(characterisation, "memory")
    best = view.best_by_level(ceilings)
    far = view.best_by_level(ceilings, "triad").get("DRAM")
    lasts = {level: row.rate.value for level, row in view.best_by_level(view.lasting(characterisation)).items()}
    parts = [
        f"{level} {units.rate(ceiling.rate.value, 'byte/s', 3)}{_doubt(ceiling)}"
        + (f" ({units.like(lasts[level], ceiling.rate.value, 3)} sustained)" if level in lasts else "")
        for level, ceiling in best.items()
    ]
    if not parts:
        return "not measured"
    triad = f"; DRAM triad {units.rate(far.rate.value, 'byte/s', 3)}{_doubt(far)}" if far else ""
    published = _of_published(characterisation, "memory")
    return f"read {_on_threads(characterisation, parts)}{triad}{published}{_ridge(characterisation)}"


def _latency(characterisation: Characterisation) -> str:
    best = {level: cost.seconds.value for level, cost in view.latencies(characterisation).items()}
    if not best:
        return "not measured"
    parts = [
        f"{level} {units.seconds(value)}{_without_walks(characterisation, level)}" for level, value in best.items()
    ]
    return _join(parts) + _smaller_cache(characterisation)


def _without_walks(characterisation: Characterisation, level: str) -> str:
    """What a load takes that stays in one window of pages, where that was measured."""
    local = next((c for c in characterisation.costs if c.name == f"load_to_use.{level}.local"), None)
    return f" ({units.seconds(local.seconds.value)} without page walks)" if local else ""


def _smaller_cache(characterisation: Characterisation) -> str:
    """A cache of which much less is seen than is advertised; of several the one farthest from the core."""
    for row in reversed(level_rows(characterisation)):
        found = [level for level in characterisation.fits.levels if level.name == row.name and level.name not in _FAR]
        least = min(found, key=lambda level: level.seen_to_bytes, default=None)
        if least and least.advertised_bytes and least.seen_to_bytes < 0.6 * least.advertised_bytes:
            advertised, seen = units.size(least.advertised_bytes), units.size(least.seen_to_bytes, 3)
            return f"; of {advertised} {least.name} advertised, a {least.seen_by} sees {seen}"
    return ""


def _trust(characterisation: Characterisation) -> str:
    shown = [row for group in view.groups(characterisation) for row in group.rows]
    if not shown:
        return "no ceiling was measured"
    converged = sum(row.ceiling.converged for row in shown)
    proven = sum(row.ceiling.proof.status == "proven" for row in shown)
    counts = Counter(finding.severity for finding in characterisation.findings)
    severities = (
        ", ".join(plural(counts[severity], severity) for severity in ("error", "warning") if counts[severity])
        or "no warnings"
    )
    failed = sum(row.ceiling.proof.status == "failed" for row in shown)
    against = f"{proven} proven against machine code" + (f", {failed} failed that proof" if failed else "")
    ceilings = plural(len(shown), "ceiling")
    return f"{converged} of {ceilings} converged, {against}; {severities}{_worst(characterisation)}"


def _worst(characterisation: Characterisation) -> str:
    """The first finding of the highest severity, shortened where it is long."""
    first = next(
        (finding.says for finding in view.sorted_findings(characterisation) if finding.severity != "info"), ""
    ).rstrip(".")
    if not first:
        return ""
    return f": {first}" if len(first) <= _LONGEST else f": {first[:_LONGEST].rsplit(' ', 1)[0]} …"


def _ridge(characterisation: Characterisation) -> str:
    compute = view.best_by_dtype(view.headline(characterisation, "compute"))
    memory = view.best_by_level(view.headline(characterisation, "memory"))
    peak, dram = compute.get("f32"), memory.get("DRAM")
    if peak is None or dram is None:
        return ""
    return f"; f32 is compute-bound above {units.digits(peak.rate.value / dram.rate.value, 3)} FLOP/byte of DRAM reads"


def _on_threads(characterisation: Characterisation, parts: Iterable[str]) -> str:
    text = _join(parts)
    return f"{text} on {_where(characterisation)}{' (?: not settled)' if _DOUBT in text else ''}"


def _doubt(ceiling: Ceiling) -> str:
    """A mark on a rate that has not converged; the line says what it means."""
    return "" if ceiling.converged else _DOUBT


def _where(characterisation: Characterisation) -> str:
    threads = view.threads_text(characterisation, view.headline_threads(characterisation))
    return f"the {threads}" if characterisation.device.kind == "cuda" else threads


def _join(parts: Iterable[str]) -> str:
    return ", ".join(parts)
