"""Operators end in their time on a virtual clock, however slow they are, their first calls are, or the machine is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fake_characterisation import characterisation
from virtual_machine import VirtualCall, VirtualClock, VirtualOperators, stolen, virtual_time

from microbench.errors import CannotRun
from microbench.operators import Op, op
from microbench.predict import operator_timing
from microbench.predict.operator_timing import Effort, LimitedClock, OutOfTimeError, Rounds, measure
from microbench.predict.shape_sampling import design
from microbench.predict.thinning import thin
from microbench.runs import calibrate as calibration
from microbench.runs import whole_models
from microbench.runs.calibrate import Calibrated, calibrate

SWEEP = design(1, 0.5)
# What a library takes for a call, and for a multiply-add and a byte of its work: an ordinary processor of two cores.
CALL_S, FLOP_S, BYTE_S = 1e-4, 1e-11, 1e-10


def usual(operator: Op) -> float:
    return CALL_S + max(FLOP_S * operator.work.flop, BYTE_S * operator.work.bytes)


SECONDS = {str(each): usual(each) for each in SWEEP}
LONGEST_S = max(SECONDS.values())


def library(patch: pytest.MonkeyPatch, clock: VirtualClock, seconds: Callable[[Op], float], first_s: float) -> None:
    operators = VirtualOperators(clock=clock, seconds=seconds, first_s=first_s)
    patch.setattr(operator_timing, "_library", operators.library)


def timed(clock: VirtualClock, operators: list[Op], effort: Effort, **more: Any) -> tuple[Rounds, float]:
    """Measure on a virtual clock; what came of it, and how long it took."""
    began = clock.now
    with virtual_time(clock):
        rounds = measure(operators, "cpu", effort, **more)
    return rounds, clock.now - began


def test_three_rounds_of_a_whole_sweep_do_not_win_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    few = SWEEP[::8]
    clock = VirtualClock(slow=40)
    library(monkeypatch, clock, lambda operator: SECONDS[str(operator)], 0.0)
    without, long = timed(clock, few, Effort(limit_s=2.0, least=3))
    assert long > 10.0  # here three rounds do take longer
    assert np.isfinite(without.seconds).all()
    clock = VirtualClock(slow=40)
    library(monkeypatch, clock, lambda operator: SECONDS[str(operator)], 0.0)
    rounds, took = timed(clock, few, Effort(limit_s=1.6, least=3, end_s=2.0))
    assert took <= 2.0 + 40 * LONGEST_S
    assert np.isfinite(rounds.seconds).any()


@pytest.mark.parametrize(("slow", "first_s"), [(1.0, 0.0), (1.0, 5e-3), (10.0, 5e-3), (100.0, 0.0), (300.0, 0.0)])
@pytest.mark.parametrize("given", [None, stolen()])
def test_measuring_ends_one_call_after_its_end_at_the_latest(
    slow: float, first_s: float, given: Callable[[float], float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, operators = VirtualClock(slow=slow, given=given), SWEEP[::16]
    library(monkeypatch, clock, lambda operator: SECONDS[str(operator)], first_s)
    models = {"model": VirtualOperators(clock, usual).prepare(SWEEP[0])}
    end_s = 3.0
    rounds, took = timed(clock, operators, Effort(limit_s=0.8 * end_s, least=3, end_s=end_s), whole=models)
    longest = max(SECONDS[str(operator)] for operator in operators) + first_s
    assert took <= end_s + (1 if given is None else 6) * slow * longest
    assert np.isfinite(rounds.seconds).any()


def test_a_clock_refuses_what_would_end_late_by_what_it_took_before() -> None:
    clock = VirtualClock()
    ends = clock.now + 10.0
    operators = VirtualOperators(clock, lambda _op: 2.0)
    limited, call = LimitedClock(operators.timer, lambda: ends - clock.now), operators.prepare(SWEEP[0])
    assert limited(call, 1) == pytest.approx(2.0)
    with pytest.raises(OutOfTimeError):
        limited(call, 4)
    assert limited(call, 3) == pytest.approx(2.0)
    with pytest.raises(OutOfTimeError):
        limited(call, 2)


def test_a_model_that_is_far_too_slow_is_left_out_and_the_others_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()
    library(monkeypatch, clock, usual, 0.0)
    slow = VirtualOperators(clock, lambda _op: 4.0).prepare(SWEEP[0])
    quick = VirtualOperators(clock, lambda _op: 0.01).prepare(SWEEP[0])
    rounds, took = timed(
        clock, SWEEP[:20], Effort(limit_s=4.0, least=2, end_s=5.0), whole={"quick": quick, "slow": slow}
    )
    assert set(rounds.whole) == {"quick"}
    assert took <= 5.0 + 4.0


def test_rows_without_time_leave_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()
    library(monkeypatch, clock, usual, 0.0)
    with pytest.raises(CannotRun, match="there was no time for any"):
        timed(clock, SWEEP[:5], Effort(limit_s=0.0, end_s=-1.0))


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Calibrated, float, int]]:
    """Calibrate on a virtual machine: what came of it, how long it took, and how many fits there were."""

    def run(
        clock: VirtualClock,
        seconds: Callable[[Op], float],
        limit_s: float,
        first_s: float = 0.0,
        capture_s: float = 0.4,
    ) -> tuple[Calibrated, float, int]:
        fits = []

        def captured(_deadline: object) -> dict[str, Any]:
            clock.take(capture_s)
            return {}

        def fit_table(
            _table: object, _figures: object, late: Callable[[], bool], _host: object
        ) -> tuple[tuple[()], tuple[()]]:
            while len(fits) < 30 and not late():
                clock.take(0.2 * capture_s)
                fits.append(clock.now)
            return (), ()

        library(monkeypatch, clock, seconds, first_s)
        model = VirtualOperators(clock, lambda _op: 5e-3, first_s).prepare(SWEEP[0])
        monkeypatch.setattr(calibration, "captured_models", captured)
        monkeypatch.setattr(calibration, "model_calls", lambda *_: {"model": model})
        monkeypatch.setattr(calibration, "module_cost", lambda _place, left_s: clock.take(min(0.1, left_s)) or ())
        monkeypatch.setattr(calibration, "fit_table", fit_table)
        monkeypatch.setattr(calibration, "use_all_threads", lambda _device: None)
        monkeypatch.setattr(calibration, "host_of", lambda *_: {})
        began = clock.now
        with virtual_time(clock):
            found = calibrate(characterisation(), SWEEP, limit_s)
        return found, clock.now - began, len(fits)

    return run


@pytest.mark.parametrize(
    ("slow", "first_s", "given"),
    [
        (1.0, 0.0, None),
        (10.0, 0.0, None),
        (300.0, 0.0, None),
        (1.0, 0.1, None),
        (1.0, 0.0, stolen()),
        (10.0, 0.02, stolen()),
        (1.0, 0.0, lambda now: 1.0 if now < 10.0 else 0.1),
    ],
    ids=["usual", "slow", "very slow", "slow first calls", "stolen", "all of that", "load comes when rows are chosen"],
)
def test_calibration_ends_within_its_share_of_the_run(
    slow: float, first_s: float, given: Callable[[float], float] | None, sweep: Any
) -> None:
    clock = VirtualClock(given=given)
    found, took, fits = sweep(clock, lambda operator: slow * SECONDS[str(operator)], 20.0, first_s)
    assert took <= 20.0
    assert fits
    assert found.timings
    told = {finding.code: finding.says for finding in found.findings}
    rows = len({(row.op, row.dtype, row.direction, row.params) for row in found.timings})
    assert ("operators-thinned" in told) == (rows < len(SWEEP))
    if rows < len(SWEEP):
        assert told["operators-thinned"].startswith(f"{len(SWEEP) - rows} of {len(SWEEP)} operator rows were left out")


def test_one_dtype_that_is_emulated_costs_its_rows_and_not_the_limit(sweep: Any) -> None:
    names = ("softmax", "add", "matmul")
    clock = VirtualClock()
    found, took, _ = sweep(clock, lambda each: (300 if each.name in names else 1) * SECONDS[str(each)], 20.0)
    assert took <= 20.0
    assert {row.op for row in found.timings} - set(names)


def test_a_machine_that_would_only_capture_says_so(sweep: Any) -> None:
    clock = VirtualClock()
    with pytest.raises(CannotRun, match="do not suffice"):
        sweep(clock, usual, 20.0, capture_s=8.0)
    assert clock.now - clock.first < 10.0


def test_the_cost_of_a_module_ends_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from microbench.operators import reference_models, torch_calls

    clock = VirtualClock()
    once = {"chain": 1e-3, "alone": 1e-6}
    monkeypatch.setattr(reference_models, "module_chain", lambda *_: VirtualCall(clock, once["chain"]))
    monkeypatch.setattr(torch_calls, "call_of", lambda *_: VirtualCall(clock, once["alone"]))
    monkeypatch.setattr(torch_calls, "timer", lambda _place: VirtualOperators(clock, usual).timer)
    with virtual_time(clock):
        (whole,) = whole_models.module_cost("cpu", 2.0)
        (short,) = whole_models.module_cost("cpu", 0.1)
        once["chain"], began = 1.0, clock.now
        assert whole_models.module_cost("cpu", 3.0) == ()
        assert clock.now - began <= 3.0
    assert whole.seconds.value == short.seconds.value == pytest.approx(1e-3 / whole_models.CHAIN - 1e-6, rel=1e-3)
    rounds = [int(cost.seconds.basis.split()[0]) for cost in (whole, short)]
    assert rounds[0] > rounds[1] > 0


def test_the_least_design_fits_too_because_the_longest_rows_go() -> None:
    rows = [op("add", size=1000 * step) for step in range(1, 41)]
    seconds = np.arange(1.0, 41.0)
    few = thin(rows, seconds, 60.0)
    assert seconds[few].sum() <= 60.0
    assert few
    assert max(few) < 39
    assert math.isclose(seconds[thin(rows, seconds, 1e9)].sum(), seconds.sum())
