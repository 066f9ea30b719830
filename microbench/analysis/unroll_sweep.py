"""Whether the sweep over independent accesses a thread was wide enough: its best must not lie at its edge.

Bytes in flight are blocks a multiprocessor x threads x accesses a thread x bytes of one. Blocks are swept from one to
all that fit, which is everything there is; accesses a thread only as far as there are kernels, so that is the edge to
look at.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from microbench.records import Case, Finding, Samples, Sheet
from microbench.records.units import rate

# Ceilings of memory repeat within this; a step that gains less has reached the plateau.
GAIN = 0.02
LEAST_STEPS = 3
_UNROLLED = re.compile(r"u(\d+)")

Key = tuple[str, int]


def edges(samples: Sequence[Samples], cases: Mapping[str, Case], sheets: Mapping[str, Sheet]) -> list[Finding]:
    """Name each access and working set that is fastest, by more than `GAIN`, with the most accesses in flight.

    A kernel of another kind (bulk copies) that is as fast shows that the memory gives no more, and settles it.
    """
    swept: dict[Key, dict[int, tuple[float, str]]] = defaultdict(dict)
    others: dict[Key, float] = defaultdict(float)
    for case, reached in _rates(samples, cases, sheets):
        sheet = sheets[case.kernel]
        if (
            sheet.backend != "cuda"
            or sheet.measures != "memory"
            or not sheet.access
            or "working_set" not in case.params
        ):
            continue
        key = (sheet.access, int(case.params["working_set"]))
        unrolled = _UNROLLED.fullmatch(sheet.variant)
        if unrolled is None:
            others[key] = max(others[key], reached)
        elif reached > swept[key].get(int(unrolled[1]), (0.0, ""))[0]:
            swept[key][int(unrolled[1])] = (reached, case.key)
    return [finding for key, steps in sorted(swept.items()) if (finding := _edge(key, steps, others[key])) is not None]


def _rates(
    samples: Iterable[Samples], cases: Mapping[str, Case], sheets: Mapping[str, Sheet]
) -> Iterable[tuple[Case, float]]:
    for each in samples:
        case = cases.get(each.case)
        if case is not None and case.kernel in sheets:
            yield case, sheets[case.kernel].work.bytes * each.iterations * 1e9 / min(each.ns)


def _edge(key: Key, steps: Mapping[int, tuple[float, str]], other: float) -> Finding | None:
    access, working_set = key
    if len(steps) < LEAST_STEPS:
        return None
    last, before = sorted(steps, reverse=True)[:2]
    reached, case = steps[last]
    inner = max(value for unroll, (value, _) in steps.items() if unroll != last)
    if max(inner, other) >= reached * (1 - GAIN):
        return None
    says = (
        f"{access} over {working_set / 2**20:.3g} MiB is fastest at the edge of the sweep over accesses in flight: "
        f"{rate(reached, 'byte/s')} with {last} a thread, {rate(inner, 'byte/s')} with at most {before}; "
        "more may be faster still, so this ceiling is a lower bound"
    )
    return Finding(
        code="sweep-edge",
        severity="warning",
        says=says,
        remedy="report it with this file, so that a kernel with more accesses a thread is added",
        case=case,
    )
