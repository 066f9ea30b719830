"""Calibration of operators on this device: a designed sweep, timed in rounds, fitted with the ceilings as a prior."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import numpy as np
import psutil

from microbench.errors import CannotRun
from microbench.measure.budget import Deadline
from microbench.operators import Op, table_of
from microbench.predict import cold_cache
from microbench.predict.figures import DeviceFigures, figures_of
from microbench.predict.fit_clocks import fit_clocks
from microbench.predict.fit_table import fit_table
from microbench.predict.model import predict_model
from microbench.predict.operator_clocks import measure
from microbench.predict.operator_timing import (
    Effort,
    Floats,
    OnProgress,
    Rounds,
    lowest,
    middle,
)
from microbench.predict.shape_sampling import Reach, design, reach_of
from microbench.predict.thinning import row_seconds, thin
from microbench.records import (
    Characterisation,
    Cost,
    Finding,
    Fits,
    ModelError,
    OperatorFit,
    OperatorTiming,
    Severity,
)
from microbench.runs.host_costs import host_costs, keep_memory
from microbench.runs.whole_models import (
    CAPTURING_SHARE,
    captured_models,
    model_calls,
    module_cost,
    place_of,
    use_all_threads,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from microbench.operators.capture import Graph
    from microbench.predict.model import ModelTime
    from microbench.records import Device

# Share of the full sweep per budget; a quick run calibrates nothing.
SHARES = {"default": 0.5, "thorough": 1.0}
# The seed of the shapes that calibrate; the fresh shapes of `validate` come from other seeds.
SEED = 1
_LEAST_ROUNDS = 3
# Rows that tell beforehand how long the others take, and the share of the time that they may use.
_PILOT_ROWS, _PILOT_SHARE = 32, 0.1
# What fitting takes in times of capturing the models, which is timed: both are an interpreter's work on little data. It
# gets no more than a share; the smallest families are left unfitted where that does not suffice.
_FITTING, _FITTING_SHARE = 11.0, 0.5
# Rounds go on to this share of the time for them, in which a last one that was begun can end.
_ROUNDS_END = 0.8
# The share of the time for the cost of a module.
_CHAIN_SHARE = 0.05
# And for what a processor pays beside operators.
_HOST_SHARE = 0.1
# Two halves of the rounds that differ by more than this do not tell one shape from the next.
_REPEATS = 0.08
# A GPU's default run takes no longer over it, whatever it has.
_MOST_ON_GPU_S = 90.0
_Launch = Literal["eager", "graph", "kernel", "issue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """What calibration found: operator fits, the timings behind them, costs, errors on whole models, findings."""

    fits: tuple[OperatorFit, ...] = ()
    timings: tuple[OperatorTiming, ...] = ()
    reuse: dict[str, float] = field(default_factory=dict)
    errors: tuple[ModelError, ...] = ()
    costs: tuple[Cost, ...] = ()
    host: dict[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    rounds: Rounds | None = None


def measured_figures(made: Characterisation) -> DeviceFigures:
    """Measured ceilings as the prior of operator fits; the cores are those that this process may use."""
    cpus = float(len(os.sched_getaffinity(0))) if made.device.kind == "cpu" else None
    return figures_of(made, cpus)


def calibrate(
    made: Characterisation,
    rows: Sequence[Op],
    limit_s: float,
    on_progress: OnProgress | None = None,
) -> Calibrated:
    """Measure a sweep of operators and fit every family, all of it within a time.

    Rows that do not fit three rounds are left out evenly (`thinning`), and nothing begins when the time is up.

    Parameters
    ----------
    made
        What was measured of the device.
    rows
        The sweep, as `sweep_of` draws it.
    limit_s
        Seconds for all of it.
    on_progress
        Called between operators.

    Returns
    -------
    Calibrated
        Empty, with a finding, where torch is missing.

    Raises
    ------
    CannotRun
        Where the time would be over before rows could be measured.
    """
    if find_spec("torch") is None:
        return Calibrated(findings=(_no_torch(),))
    device = made.device
    if device.kind == "cuda" and made.plan is not None and made.plan.budget.name == "default":
        limit_s = min(limit_s, _MOST_ON_GPU_S)
    deadline = Deadline(limit_s=limit_s)
    use_all_threads(device)
    captured = captured_models(deadline)
    fitting_s = min(_FITTING * deadline.elapsed(), _FITTING_SHARE * limit_s)
    if deadline.elapsed() > CAPTURING_SHARE * limit_s:
        raise CannotRun(f"{limit_s:.0f} s do not suffice to measure and fit them; --time-limit gives a run more")
    figures = measured_figures(made)
    calls = model_calls(device, lambda: deadline.elapsed() > CAPTURING_SHARE * limit_s)
    chain_s = _CHAIN_SHARE * (deadline.left() - fitting_s)
    host = host_of(device, _HOST_SHARE * (deadline.left() - fitting_s))
    kept = keep_memory() if host else False
    chosen = _chosen(rows, figures, place_of(device), deadline.left() - fitting_s - chain_s)
    end_s = deadline.left() - fitting_s - chain_s
    effort = Effort(limit_s=_ROUNDS_END * end_s, least=_LEAST_ROUNDS, seed=SEED, end_s=end_s)
    rounds = measure(chosen, place_of(device), effort, calls, on_progress)
    costs = module_cost(place_of(device), chain_s)
    found = replace(fitted(rounds, figures, _Late(deadline), timed_host(host, kept=kept)), costs=costs)
    errors = model_errors(made, found, captured) if deadline.left() > 0 else ()
    return replace(found, errors=errors, host=host, findings=(*found.findings, *_told(rounds, len(rows))))


class _Late:
    """Whether another fit would end late, if it took as long as the one before; the largest comes first."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._left_s: float | None = None

    def __call__(self) -> bool:
        left_s = self._deadline.left()
        took_s = 0.0 if self._left_s is None else self._left_s - left_s
        self._left_s = left_s
        return left_s < took_s


def sweep_of(budget: str, seed: int, made: Characterisation) -> list[Op]:
    """The rows that calibrate a device in a budget, by its measured ceilings."""
    return design(seed, SHARES[budget], reach(made))


def reach(made: Characterisation) -> Reach:
    """From where to where a device's sweep goes."""
    launches = {cost.name: cost.seconds.value for cost in made.costs}
    return reach_of(measured_figures(made), made.device.memory_bytes, launches.get("launch.period"))


def _no_torch() -> Finding:
    says = "operators were not calibrated: torch is not installed; predictions use the plain roofline"
    remedy = "pip install 'microbench-roofline[torch]'"
    return Finding(code="no-operators", severity="info", says=says, remedy=remedy)


def _chosen(rows: Sequence[Op], figures: DeviceFigures, place: str, seconds: float) -> list[Op]:
    """Rows that can be measured in the least number of rounds: estimated by the roofline, scaled by what a few took.

    Those few are measured twice: what a library does at the first call of a shape, it does not do again.
    """
    once, least = row_seconds(rows, figures, 1), row_seconds(rows, figures, _LEAST_ROUNDS)
    few = np.argsort(once)[:: max(1, len(rows) // _PILOT_ROWS)]
    pilot = [rows[index] for index in few]
    clock = Deadline(limit_s=seconds)
    scale = []
    for _ in range(2):
        started = clock.elapsed()
        # The quickest come first, and where the time does not do for all the slowest are not begun.
        done = measure(pilot, place, Effort(limit_s=0.0, least=1, seed=None, end_s=_PILOT_SHARE * seconds))
        timed = np.isfinite(done.seconds).any(axis=1)
        scale.append((clock.elapsed() - started) / once[few][timed].sum())
    kept = thin(rows, scale[0] * once + scale[1] * (least - once), clock.left())
    if not kept:
        raise CannotRun(f"{seconds:.0f} s do not suffice for three rounds of any; --time-limit gives a run more")
    return [rows[index] for index in kept]


def model_errors(made: Characterisation, found: Calibrated, captured: Mapping[str, Graph]) -> tuple[ModelError, ...]:
    """How far off whole models are that were timed in the same rounds; a model's interval is made of them."""
    if found.rounds is None:
        return ()
    calibration = replace(made, costs=found.costs, fits=replace(fits_of(found), model_errors=()))
    times = {name: predict_model(graph, calibration) for name, graph in captured.items()}
    return tuple(
        error_of(name, measured, times[name]) for name, measured in found.rounds.whole.items() if name in captured
    )


def error_of(name: str, measured: float, time: ModelTime) -> ModelError:
    """One model's error, with what makes models alike."""
    return ModelError(
        name=name,
        error=math.log(measured / time.latency.value),
        spread=time.spread,
        train=time.kind.train,
        dtype=time.kind.dtype,
        launch_share=time.kind.launch_share,
    )


def host_of(device: Device, limit_s: float) -> dict[str, float]:
    """What a processor pays beside operators; nothing of a GPU."""
    if device.kind != "cpu":
        return {}
    return host_costs(psutil.virtual_memory().available, limit_s)


def timed_host(host: Mapping[str, float], *, kept: bool) -> dict[str, float]:
    """What operators paid beside their work where they were timed: nothing for memory where all of it was kept."""
    return {name: value for name, value in host.items() if not kept or name != "fetch_s_per_byte"}


def fits_of(found: Calibrated) -> Fits:
    """What a model is predicted from."""
    return Fits(
        operators=found.fits, timings=found.timings, reuse=found.reuse, model_errors=found.errors, host=found.host
    )


def fitted(
    rounds: Rounds,
    nominal: DeviceFigures,
    late: Callable[[], bool] = lambda: False,
    host: Mapping[str, float] | None = None,
) -> Calibrated:
    """Fit measured rounds: hot operators to the lower envelope, cold ones to what they took between other operators.

    ``late`` is asked before each fit whether it should not be begun any more; ``host`` is what every operator that is
    called alone pays beside its work.
    """
    columns: tuple[tuple[Literal["hot", "cold"], Floats], ...] = (("hot", rounds.envelope), ("cold", rounds.cold))
    rows = [
        (replace(made, cache=cache), float(seconds))
        for cache, column in columns
        for made, seconds in zip(rounds.operators, column, strict=True)
        if np.isfinite(seconds)
    ]
    if rounds.clocks:
        fits, findings = fit_clocks(rounds.operators, by_clock(rounds), nominal, late)
    else:
        table = table_of([made for made, _ in rows], [seconds for _, seconds in rows])
        fits, findings = fit_table(table, nominal, late, host)
    # Findings about rows of a table: this run's rows have no numbers that its reader could look up.
    kept = [finding for finding in findings if finding.code not in ("distrusted-rows", "contradictory-rows")]
    distrusted = sum(len(fit.distrusted) for fit in fits)
    if distrusted:
        says = f"{distrusted} of {len(rows)} operator timings disagree with their neighbours and count for little"
        kept.append(
            Finding(
                code="distrusted-timings",
                severity="info",
                says=says,
                remedy="'microbench validate' tells how well the fits predict",
            )
        )
    return Calibrated(
        fits=fits,
        timings=timings(rounds),
        reuse=reuse_of(rounds),
        host=dict(host or {}),
        findings=(*rounds.findings, *kept),
        rounds=rounds,
    )


def by_clock(rounds: Rounds) -> dict[str, Floats]:
    """What stands for an operator by each clock of a GPU: the envelope of rounds, of cold and host times the median."""
    over = {name: middle if name in ("cold", "issue") else lowest for name in rounds.clocks}
    found = {name: over[name](seconds) for name, seconds in rounds.clocks.items()}
    finite = {name: np.where(np.isfinite(column), column, np.nan) for name, column in found.items()}
    return finite | {"kernel": np.where(np.isfinite(rounds.envelope), rounds.envelope, np.nan)}


def reuse_of(rounds: Rounds) -> dict[str, float]:
    """How an operator's time grows from hot to cold with the bytes touched in between (`Fits.reuse`).

    Empty where no operator was timed between others.
    """
    if not rounds.interleaved:
        return {}
    half, power = cold_cache.halfway(
        {reuse: middle(seconds) - rounds.envelope for reuse, seconds in rounds.interleaved.items()}
    )
    return {"half_bytes": half, "power": power, "cold_bytes": cold_cache.COLD}


def timings(rounds: Rounds) -> tuple[OperatorTiming, ...]:
    """Measured rounds as rows of the file, to four digits: hot the lower envelope of rounds, cold their median."""
    columns: list[tuple[_Launch, Literal["hot", "cold"], Floats, Floats]] = []
    if rounds.clocks:
        stands = by_clock(rounds)
        named: tuple[_Launch, ...] = ("eager", "graph", "issue")
        columns += [("kernel", "hot", stands["kernel"], rounds.seconds)]
        columns += [(name, "hot", stands[name], rounds.clocks[name]) for name in named]
        columns += [("kernel", "cold", stands["cold"], rounds.clocks["cold"])]
    else:
        columns.append(("eager", "hot", rounds.envelope, rounds.seconds))
    if rounds.interleaved:
        columns.append(("eager", "cold", rounds.cold, rounds.interleaved[cold_cache.COLD]))
    return tuple(
        OperatorTiming(
            op=made.name,
            dtype=made.dtype,
            params=_params_text(made),
            seconds=float(f"{seconds:.4g}"),
            rounds=int(count),
            cache=cache,
            launch=launch,
            direction=made.direction,
        )
        for launch, cache, column, each in columns
        for made, seconds, count in zip(rounds.operators, column, np.isfinite(each).sum(axis=1), strict=True)
        if count
    )


def _params_text(made: Op) -> str:
    """Sizes as the operator CSV has them, without those that equal their default."""
    usual = {key: made.params[value] if isinstance(value, str) else value for key, value in made.row.defaults.items()}
    return ";".join(f"{key}={value}" for key, value in made.params.items() if value != usual.get(key))


def repeat_error(rounds: Rounds) -> float:
    """Mean relative difference of two independent measurements of the same rows: even rounds and odd ones."""
    even, odd = rounds.halves()
    both = np.isfinite(even) & np.isfinite(odd)
    return float(np.mean(np.abs(even[both] / odd[both] - 1))) if both.any() else float("nan")


def _told(rounds: Rounds, planned: int) -> list[Finding]:
    """How well two halves of the rounds agree, and how many rows there was no time for."""
    error = repeat_error(rounds)
    timed = int(np.isfinite(rounds.seconds).any(axis=1).sum())
    how = "on the device alone, eager, in a graph and with cold caches" if rounds.clocks else "hot cache, eager"
    says = f"{timed} operators were timed in {rounds.seconds.shape[1]} rounds, {how}"
    if np.isfinite(error):
        says += f"; two halves of the rounds differ by {100 * error:.1f} % in the mean."
    # A single round has no second half to differ from.
    severity: Severity = "info" if error < _REPEATS else "warning"
    found = [Finding(code="operators-calibrated", severity=severity, says=says)]
    if timed < planned:
        says = (
            f"{planned - timed} of {planned} operator rows were left out, evenly over the times of each operator, "
            f"so that {_LEAST_ROUNDS} rounds of the others fit the time"
        )
        found.append(
            Finding(
                code="operators-thinned", severity="info", says=says, remedy="microbench run --thorough measures them"
            )
        )
    return found
