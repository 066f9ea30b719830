"""What a run says of memory levels that are not what the system tells: not seen, or not looked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from microbench.records import Ceiling, Device, Finding, LevelSeen

_CACHES = ("L1", "L2", "L3")


def level_findings(
    levels: Sequence[LevelSeen], ceilings: Iterable[Ceiling], device: Device, placeless: int = 0
) -> Iterator[Finding]:
    """Tell what was taken from the system because nobody looked, what it advertises that nobody saw, and what it hides.

    ``placeless`` counts the streams through sets that belong to no level.
    """
    if device.kind != "cpu":
        return
    rated = sorted({str(each.level) for each in ceilings if each.measures == "memory" and each.level in _CACHES})
    told = {level.name for level in device.levels if level.capacity_bytes}
    curve = any(level.seen_by == "stream" for level in levels)
    if not curve and told & set(rated):
        says = (
            f"rates of {', '.join(name for name in rated if name in told)} are of sets that the system's sizes put "
            "there: no sweep over working sets showed what these levels hold"
        )
        remedy = "microbench run, whole and in a quiet moment or with --thorough, finds the levels"
        yield Finding(code="levels-as-advertised", severity="info", says=says, remedy=remedy)
    if untold := [name for name in rated if name not in told]:
        says = (
            f"the system does not tell the size of {', '.join(untold)}: sets an octave apart were measured, and a "
            f"{'stream' if curve else 'chase'} over working sets says which of them lie there"
        )
        remedy = "none needed; where sizes are told, sets are chosen that lie well inside of them"
        yield Finding(code="levels-untold", severity="info", says=says, remedy=remedy)
    if placeless and not levels and not told & set(_CACHES):
        says = (
            f"{placeless} cases of memory belong to no level: the system tells no cache sizes, and no sweep over "
            "working sets showed them"
        )
        remedy = "microbench run, whole, or with --only 'read.*' beside what was asked for, finds the levels"
        yield Finding(code="levels-unknown", severity="warning", says=says, remedy=remedy)
    if curve and not told & set(_CACHES) and not any(level.seen_by == "stream" for level in _caches(levels)):
        chased = ", ".join(level.name for level in _caches(levels))
        says = (
            "the system tells no cache sizes, and streams run at one rate in small sets and in main memory, so that no "
            f"rate belongs to a cache; a chase shows {chased or 'none either'}"
        )
        remedy = "none needed where the loop sets that rate and not the memory, as under an emulator"
        yield Finding(code="levels-flat", severity="info", says=says, remedy=remedy)
    yield from _unseen(levels, device)


def _caches(levels: Sequence[LevelSeen]) -> list[LevelSeen]:
    return [level for level in levels if level.name in _CACHES]


def _unseen(levels: Sequence[LevelSeen], device: Device) -> Iterator[Finding]:
    """Yield the advertised caches that no whole curve shows."""
    curves = [[level for level in levels if level.seen_by == by] for by in ("stream", "chase")]
    whole = [curve for curve in curves if any(level.name == "DRAM" for level in curve)]
    seen = {level.name for curve in curves for level in curve}
    for level in device.levels:
        size = level.capacity_bytes
        passed = size and any(min(each.low_bytes for each in curve) < size for curve in whole)
        if size and passed and level.name in _CACHES and level.name not in seen:
            says = (
                f"{level.name} is advertised as {size / 2**20:.4g} MiB, but neither bandwidth nor latency shows it: "
                "sets beyond the level before it take what main memory takes"
            )
            remedy = "plan without it; a guest may be told of a cache that it does not get, or neighbours fill it"
            yield Finding(code="level-unseen", severity="info", says=says, remedy=remedy)
