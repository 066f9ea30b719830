"""What a run says of memory levels that are not what the system tells: not seen, or not looked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from microbench.records import Ceiling, Device, Finding, LevelSeen

_CACHES = ("L1", "L2", "L3")


def level_findings(levels: Sequence[LevelSeen], ceilings: Iterable[Ceiling], device: Device) -> Iterator[Finding]:
    """Tell what was taken from the system because nobody looked, and what it advertises that nobody saw."""
    if device.kind != "cpu":
        return
    rated = sorted({each.level for each in ceilings if each.measures == "memory" and each.level in _CACHES})
    if rated and not any(level.seen_by == "stream" for level in levels):
        says = (
            f"rates of {', '.join(str(level) for level in rated)} are of sets that the system's sizes put there: no "
            "sweep over working sets showed what these levels hold"
        )
        remedy = "microbench run, whole and in a quiet moment or with --thorough, finds the levels"
        yield Finding(code="levels-as-advertised", severity="info", says=says, remedy=remedy)
    yield from _unseen(levels, device)


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
