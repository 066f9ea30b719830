"""What the cases of a GPU take, as far as it is known beforehand: a visit, and what must be prepared for it.

A sample lasts as long as it is asked to. The rest is the host's: launches and their stamps, operands worked out,
results compared, and what libraries and compilers take to start. These are figures of a slow host; `fitting` scales
them by what such work really takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from microbench.records import Budget, Case, Sheet

# A visit beside its samples: a warm-up, a comparison; and what a launch costs the host, whatever it computes.
_AROUND_S, _LAUNCH_S = 3e-3, 2e-4
# A case under power and heat runs until two windows of half a second agree, and its launches are long.
_STEADY_S, _LONG_LAUNCH_S = 1.5, 25e-3
# A chase reads what a cache holds before it is timed; a library's product may be as long as a burst.
_WARMED_S, _LIBRARY_VISIT_S = 2e-3, 0.15
# Operands of the tensor cores are worked out on the host; memory is filled on the device.
_OPERANDS_S, _PREPARED_S = 0.1, 5e-3
_FILL_RATE = 1e10
# The first kernel of a library starts it; each looks for its best shape. A compiler takes seconds a kernel.
_LIBRARY_S, _SEARCH_S, _COMPILED_S = 8.0, 1.5, 3.0


def visit_s(case: Case, sheet: Sheet, budget: Budget) -> float:
    """Seconds of one round of a case."""
    if case.mode == "sustained":
        return _STEADY_S + budget.samples * _LONG_LAUNCH_S
    if sheet.backend == "torch":
        return _LIBRARY_VISIT_S
    warmed = _WARMED_S if sheet.measures == "latency" else 0.0
    return _AROUND_S + warmed + budget.sample_s + budget.samples * (budget.sample_s + _LAUNCH_S)


def preparations(cases: Iterable[Case], sheets: Mapping[str, Sheet]) -> dict[str, float]:
    """Seconds of preparing each case by key; the first of a library starts it."""
    found: dict[str, float] = {}
    started = False
    for case in cases:
        sheet = sheets[case.kernel]
        if sheet.backend == "torch":
            found[case.key] = _SEARCH_S + (0.0 if started else _LIBRARY_S)
            started = True
        elif sheet.backend == "triton":
            found[case.key] = _COMPILED_S
        else:
            operands = _OPERANDS_S if sheet.unit == "matrix" else 0.0
            found[case.key] = _PREPARED_S + operands + int(case.params.get("working_set", 0)) / _FILL_RATE
    return found
