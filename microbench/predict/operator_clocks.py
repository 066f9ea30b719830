"""Timing operators in rounds on a GPU, each by several clocks; on a processor as `operator_timing` does.

A visit times an operator on the device alone (queued behind other work), and the host's issuing of it. Where the host
may be the slower of the two it is also timed as eager code calls it and as a graph replays it: of a long kernel both
would show the same seconds again. Last it is timed after its operands were driven out of the caches.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from microbench.errors import CannotRun
from microbench.operators import gpu_clock
from microbench.predict import operator_timing
from microbench.predict.operator_timing import (
    KEPT_SHARE,
    SAMPLE_S,
    SAMPLES,
    WHOLE_S,
    Call,
    Effort,
    Floats,
    OnProgress,
    ProgressReporter,
    Rounds,
)
from microbench.records import Finding

if TYPE_CHECKING:
    from microbench.operators import Op
    from microbench.operators.gpu_clock import GpuClock

CLOCKS = ("eager", "graph", "issue", "cold")
# A kernel so many times as long as the host's issuing of it hides the host, and its launch is nothing beside it.
HIDES = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """How to make an operator's call on a GPU, under which settings it runs, and the clock that times it."""

    prepare: Callable[[Op], Call]
    settings: Callable[[str], AbstractContextManager[None]]
    clock: GpuClock


def measure(
    operators: Sequence[Op],
    place: str,
    effort: Effort,
    whole: Mapping[str, Call] | None = None,
    on_progress: OnProgress | None = None,
) -> Rounds:
    """Time operators on a device; parameters and errors are those of `operator_timing.measure`."""
    if place == "cpu":
        return operator_timing.measure(operators, place, effort, whole, on_progress)
    return measure_on_gpu(operators, library_of(place), effort, whole, on_progress)


def library_of(place: str) -> Library:
    """PyTorch on a GPU."""
    from microbench.hardware.torch_import import import_torch
    from microbench.operators import torch_calls

    torch = import_torch()
    return Library(
        prepare=lambda operator: torch_calls.call_of(operator, place),
        settings=lambda dtype: torch_calls.precision(torch, dtype),
        clock=gpu_clock.GpuClock(torch, place, torch_calls.cold_bytes(torch, place)),
    )


@dataclass(slots=True)
class _Visited:
    """What is known of an operator from its earlier visits; ``times`` is negative if it cannot run."""

    op: Op
    times: int = 0
    call: Call | None = None
    graph: bool = True


@dataclass(slots=True)
class _Sweep:
    """A measurement under way."""

    library: Library
    reporter: ProgressReporter
    state: list[_Visited]
    findings: list[Finding] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)


def measure_on_gpu(
    operators: Sequence[Op],
    library: Library,
    effort: Effort,
    whole: Mapping[str, Call] | None = None,
    on_progress: OnProgress | None = None,
) -> Rounds:
    """Time operators by all clocks until the time is up.

    Raises
    ------
    CannotRun
        If none of the operators can run.
    """
    sweep = _Sweep(
        library=library,
        reporter=ProgressReporter(on_progress=on_progress, effort=effort, alone=1.0),
        state=[_Visited(op=operator) for operator in operators],
    )
    columns: dict[str, list[Floats]] = {name: [] for name in ("kernel", *CLOCKS)}
    models: dict[str, float] = {}
    order = list(range(len(operators)))
    shuffler = random.Random(effort.seed or 0)  # noqa: S311 - an order, no secret
    library.clock.settle()
    collecting = gc.isenabled()
    gc.disable()
    try:
        while not columns["kernel"] or _again(len(columns["kernel"]), sweep.reporter):
            if effort.seed is not None:
                shuffler.shuffle(order)
            for name, column in _round(sweep, order).items():
                columns[name].append(column)
            for name, took in _models(whole or {}, sweep).items():
                models[name] = min(models.get(name, took), took)
            sweep.reporter.rounds += 1
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    stacked = {name: np.stack(found, axis=1) for name, found in columns.items()}
    seconds = stacked.pop("kernel")
    findings = (*sweep.findings, *_refusals(sweep))
    if not np.isfinite(seconds).any():
        raise CannotRun(f"no operator could run: {findings[0].says if findings else 'none was asked for'}")
    return Rounds(operators=tuple(operators), seconds=seconds, findings=findings, whole=models, clocks=stacked)


def _again(rounds: int, reporter: ProgressReporter) -> bool:
    if reporter.over():
        return False
    return rounds < reporter.effort.least or reporter.elapsed() < reporter.effort.limit_s


def _round(sweep: _Sweep, order: Sequence[int]) -> dict[str, Floats]:
    columns = {name: np.full(len(order), np.nan) for name in ("kernel", *CLOCKS)}
    held = sum(visit.op.work.bytes for visit in sweep.state if visit.call is not None)
    free = sweep.library.clock.free_bytes() + held
    for position, place in enumerate(order):
        visit = sweep.state[place]
        if visit.times < 0:
            continue
        if sweep.reporter.over() and position:
            break
        sweep.reporter.next(str(visit.op), position / len(order))
        try:
            with sweep.library.settings(visit.op.dtype), sweep.library.clock.guard():
                call = visit.call or sweep.library.prepare(visit.op)
                seconds = _timed(visit, call, sweep)
        except (CannotRun, RuntimeError) as error:
            visit.times, visit.call = -1, None
            says = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
            if str(visit.op) not in says:
                says = f"{visit.op} was not measured: {says}"
            sweep.findings.append(Finding(code="operator-not-measured", severity="warning", says=says))
            continue
        for name, value in seconds.items():
            columns[name][place] = value
        if visit.call is None and held + visit.op.work.bytes < KEPT_SHARE * free:
            visit.call, held = call, held + visit.op.work.bytes
    return columns


def _timed(visit: _Visited, call: Call, sweep: _Sweep) -> dict[str, float]:
    """Seconds of one visit by clock."""
    clock = sweep.library.clock
    if visit.times == 0:
        once = clock.held(call, 1)
        visit.times = max(1, int(SAMPLE_S / max(once.device_s, 1e-7)))
    # What lasts as long as a sample needs one in each round: the device's own time scatters little.
    samples = SAMPLES if visit.times > 1 else 1
    held = [clock.held(call, visit.times) for _ in range(samples)]
    found = {"kernel": min(each.device_s for each in held), "issue": min(each.issue_s for each in held)}
    if found["kernel"] < HIDES * found["issue"]:
        slower = max(found["kernel"], found["issue"])
        times = max(1, int(SAMPLE_S / slower))
        found["eager"] = min(clock.eager(call, times) for _ in range(samples))
        if visit.graph:
            found |= _replayed(visit, call, found["kernel"], sweep)
    found["cold"] = clock.cold(call, samples)
    return found


def _replayed(visit: _Visited, call: Call, device_s: float, sweep: _Sweep) -> dict[str, float]:
    """Seconds of a call in a graph; nothing, and no second try, where it cannot be captured."""
    clock, count = sweep.library.clock, gpu_clock.nodes(device_s, SAMPLE_S)
    try:
        graph = clock.capture(call, count)
    except CannotRun as error:
        visit.graph = False
        sweep.refused[str(error)] = sweep.refused.get(str(error), 0) + 1
        return {}
    replays = max(1, int(SAMPLE_S / (count * device_s)))
    return {"graph": min(clock.replay(graph, replays) for _ in range(SAMPLES)) / count}


def _models(whole: Mapping[str, Call], sweep: _Sweep) -> dict[str, float]:
    """Seconds of whole models in this round, called as eager code calls them."""
    clock, found = sweep.library.clock, {}
    for name, call in whole.items():
        if sweep.reporter.over():
            break
        with suppress(CannotRun, RuntimeError), sweep.library.settings("f32"), clock.guard():
            clock.eager(call, 1)
            times = max(1, min(50, int(WHOLE_S / clock.eager(call, 1))))
            found[name] = min(clock.eager(call, times) for _ in range(SAMPLES))
    return found


def _refusals(sweep: _Sweep) -> list[Finding]:
    """Operators that no graph takes, by reason."""
    return [
        Finding(
            code="not-in-a-graph",
            severity="info",
            says=f"{count} operators have no time in a graph: {says}; theirs is taken for that of other operators",
        )
        for says, count in sweep.refused.items()
    ]
