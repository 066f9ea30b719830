"""Working-set sweeps: the curves of streams and chases, read out of ceilings, costs and samples.

A curve is one kernel at one thread count with all parameters but the working set fixed. Its points are ceilings or
costs where there are any, else the best round of the raw samples.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from microbench.records import Case, Characterisation, Sheet, Value

_KEY = re.compile(
    r"(?P<kernel>[^\[\]@]+)\[(?P<params>.*)\]@(?P<threads>\d+)(?:/(?P<placement>[\w,-]+))?(?::(?P<mode>sustained|library))?"
)

# Fewer points than this are the cases of a few levels, not a sweep.
LEAST_POINTS = 5
# Nor are fewer points than this share of the longest curve's.
_LEAST_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One working-set curve: ``points`` are (bytes, byte/s) for a stream, (bytes, seconds per load) for a chase."""

    kernel: str
    threads: int
    params: dict[str, Value]
    points: tuple[tuple[int, float], ...]


def names(curves: Sequence[Curve], *, gpu: bool = False) -> tuple[str, tuple[str, ...]]:
    """The facts that all curves share, for the axis, and for each curve the others, for its label.

    Threads are those of the host, which mean nothing for what a GPU does.

    Examples
    --------
    >>> curve = Curve(kernel="chase", threads=1, params={"pages": "huge"}, points=())
    >>> names([curve])
    ('chase, 1 thread, huge pages', ('',))
    """
    facts = [dict(_facts(curve, gpu=gpu)) for curve in curves]
    shared = {key for key in facts[0] if len({fact.get(key) for fact in facts}) == 1} if facts else set()
    common = ", ".join(word for key, word in facts[0].items() if key in shared) if facts else ""
    return common, tuple(", ".join(word for key, word in fact.items() if key not in shared) for fact in facts)


def _facts(curve: Curve, *, gpu: bool) -> Iterable[tuple[str, str]]:
    yield "kernel", curve.kernel
    if not gpu:
        yield "threads", plural(curve.threads, "thread")
    for name, value in sorted(curve.params.items()):
        if name == "blocks_per_sm":
            yield name, f"{plural(int(value), 'block')} an SM" if value else "as many blocks as fit"
            continue
        yield name, plural(value, name.removesuffix("s")) if isinstance(value, int) else f"{value} {name}"


def plural(count: int, noun: str) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def parse_case(key: str | None) -> Case | None:
    """Read a case key back; ``None`` where the text is none.

    Examples
    --------
    >>> parse_case("read.f32.avx512[pages=huge;working_set=24576]@2").threads
    2
    """
    match = _KEY.fullmatch(key or "")
    if match is None or int(match["threads"]) < 1:
        return None
    pairs = (pair.partition("=") for pair in match["params"].split(";") if "=" in pair)
    mode: Any = match["mode"] or "peak"
    try:
        params: dict[str, Value] = {name: int(value) if value.isdecimal() else value for name, _, value in pairs}
        threads, placement = int(match["threads"]), match["placement"]
        return Case(kernel=match["kernel"], params=params, threads=threads, mode=mode, placement=placement)
    except ValueError:  # it looks like a key, and no case can have it
        return None


def working_set(key: str | None) -> int | None:
    """The working set in bytes that a case key names, or ``None``."""
    case = parse_case(key)
    size = case.params.get("working_set") if case else None
    return size if isinstance(size, int) and size > 0 else None


def is_sweep_point(level: str | None, key: str | None) -> bool:
    """Whether a ceiling or cost is a point of a curve only: it has a working set that was assigned to no level."""
    return level is None and working_set(key) is not None


def streams(characterisation: Characterisation) -> tuple[Curve, ...]:
    """Curves of read bandwidth over the working set (byte/s), the fastest kernel of each thread count first."""
    sheets = {sheet.name: sheet for sheet in characterisation.sheets}
    rates = {
        ceiling.case: ceiling.rate.value
        for ceiling in characterisation.ceilings
        if ceiling.measures == "memory" and ceiling.access in (None, "read") and ceiling.mode != "sustained"
    }
    for key, (kernel, threads) in _sampled(characterisation, sheets, "memory").items():
        if kernel.takes("sweep") and key not in rates and kernel.work.bytes:
            rates[key] = threads * kernel.work.bytes / _best_ns(characterisation, key) * 1e9
    curves = _curves(
        {key: rate for key, rate in rates.items() if (case := parse_case(key)) and _reads(case.kernel, sheets)}
    )
    return tuple(sorted(curves, key=lambda curve: (-curve.threads, -max(value for _, value in curve.points))))


def chases(characterisation: Characterisation) -> tuple[Curve, ...]:
    """Curves of load-to-use latency over the working set (seconds), the longest and then the lowest first."""
    sheets = {sheet.name: sheet for sheet in characterisation.sheets}
    seconds = {
        cost.case: cost.seconds.value
        for cost in characterisation.costs
        if cost.case and working_set(cost.case) and cost.seconds.value > 0
    }
    for key, (kernel, _) in _sampled(characterisation, sheets, "latency").items():
        if key not in seconds:
            seconds[key] = _best_ns(characterisation, key) * 1e-9 / max(kernel.loads, 1)
    return tuple(
        sorted(_curves(seconds), key=lambda curve: (-len(curve.points), sum(value for _, value in curve.points)))
    )


def _reads(kernel: str, sheets: dict[str, Sheet]) -> bool:
    sheet = sheets.get(kernel)
    return sheet.takes("sweep") if sheet else kernel.startswith("read")


def _sampled(
    characterisation: Characterisation, sheets: dict[str, Sheet], measures: str
) -> dict[str, tuple[Sheet, int]]:
    """The sampled cases of a kind that have a working set, with their sheet and thread count."""
    found: dict[str, tuple[Sheet, int]] = {}
    for samples in characterisation.samples:
        case = parse_case(samples.case)
        sheet = sheets.get(case.kernel) if case else None
        bursts = case is not None and case.mode == "peak" and not case.placement
        if case and sheet and sheet.measures == measures and bursts and working_set(samples.case):
            found[samples.case] = (sheet, case.threads)
    return found


def _best_ns(characterisation: Characterisation, key: str) -> float:
    """Nanoseconds per iteration in the best sample of the best round: noise only slows."""
    return min(min(samples.ns) / samples.iterations for samples in characterisation.samples if samples.case == key)


def _curves(values: dict[str, float]) -> list[Curve]:
    grouped: dict[tuple[str, int, tuple[tuple[str, Value], ...]], dict[int, float]] = defaultdict(dict)
    for key, value in values.items():
        case, size = parse_case(key), working_set(key)
        if case and size:
            fixed = tuple(sorted((name, param) for name, param in case.params.items() if name != "working_set"))
            grouped[case.kernel, case.threads, fixed][size] = value
    least = max([LEAST_POINTS, *(_LEAST_SHARE * len(points) for points in grouped.values())])
    return [
        Curve(kernel=kernel, threads=threads, params=dict(fixed), points=tuple(sorted(points.items())))
        for (kernel, threads, fixed), points in grouped.items()
        if len(points) >= least
    ]
