from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fake_backend import FakeRun, episodes, fake_device, fake_kernel

from microbench.hardware.clock import quiet_window
from microbench.kernels import Kernel, Pairs
from microbench.measure.calibration import calibrate
from microbench.measure.loop import Loop
from microbench.records import Budget, Case, Plan, Samples, Timing


class Notes:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.samples: list[Samples] = []

    def sampled(self, samples: Samples) -> None:
        self.samples.append(samples)

    def progressed(self, case: Case, round_index: int, best: float) -> None:
        pass


BUDGET = Budget(name="quick", time_limit_s=5.0, min_rounds=3, max_rounds=6, sample_s=1e-3, samples=4, warmup_s=0.0)


def measured(*kernels: object, deadline_s: float = 5.0, seed: int = 0) -> tuple[Loop, Notes]:
    table = {kernel.sheet.name: kernel for kernel in kernels}  # type: ignore[attr-defined]
    cases = tuple(Case(kernel=name) for name in table if not name.startswith("clock"))
    notes = Notes()
    loop = Loop(fake_device(), table, Plan(cases=cases, budget=BUDGET, seed=seed), notes)  # type: ignore[arg-type]
    loop.run(cases, deadline_s, BUDGET.min_rounds)
    loop.close()
    return loop, notes


def test_calibration_reaches_the_sample_length_within_a_factor_of_two() -> None:
    for seconds in (1e-9, 3.7e-7, 2e-5, 0.5):
        iterations = calibrate(FakeRun(lambda _call, s=seconds: s).run, 1e-3)  # type: ignore[misc]
        assert iterations == 1 or 1e-3 <= iterations * seconds < 2e-3


def test_a_hiccup_does_not_pass_for_a_long_loop() -> None:
    iterations = calibrate(FakeRun(lambda call: 5e-3 if call == 0 else 1e-6).run, 1e-3)
    assert 900 <= iterations < 2000


@pytest.mark.parametrize("held_up", [1, 2, 3])
def test_first_calls_that_are_held_up_leave_the_sample_as_long_as_asked(held_up: int) -> None:
    run = FakeRun(lambda call: 5e-3 if call < held_up else 1e-6)
    assert calibrate(run.run, 1e-3) * 1e-6 >= 0.75e-3


def test_calibration_takes_the_count_of_a_kernel_that_does_no_more_at_once() -> None:
    iterations = calibrate(lambda n: Timing(ns=100 * min(n, 64), iterations=min(n, 64)), 1e-3)
    assert iterations > 64


def test_calibration_survives_a_kernel_that_rounds_up() -> None:
    iterations = calibrate(
        lambda n: Timing(ns=max(1, -(-n // 1024) * 1024 * 10), iterations=-(-n // 1024) * 1024), 1e-3
    )
    assert 1e5 <= iterations < 2e5


def test_narrow_frequency_licenses_are_visited_before_wide_ones_in_every_round() -> None:
    wide = fake_kernel("fma.f32.v512", frequency_license="512")
    narrow = fake_kernel("fma.f32.v128", frequency_license="128")
    middle = fake_kernel("fma.f32.v256", frequency_license="256")
    _, notes = measured(wide, middle, narrow)
    order = [sample.case.split("[")[0][-4:] for sample in notes.samples]
    assert order[:6] == ["v128", "v256", "v512"] * 2


def test_the_seed_decides_the_order_inside_a_block() -> None:
    kernels = [fake_kernel(f"fma.f32.k{i}") for i in range(8)]
    orders = {seed: [s.case for s in measured(*kernels, seed=seed)[1].samples[:8]] for seed in (0, 0, 1)}
    assert orders[0] == [s.case for s in measured(*kernels, seed=0)[1].samples[:8]]
    assert orders[0] != orders[1]


def test_rounds_that_agree_below_the_ports_do_not_converge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "microbench.hardware.placement.nominal_rate", lambda *_args, clock_hz, threads: clock_hz * threads * 1000.0
    )
    # 1000 FLOP in 2 cycles of the reference clock's clock, where the ports allow 1000 a cycle: half of nominal.
    clock = fake_kernel("clock.v128", lambda _call: 1e-9, measures="clock", cycles=1)
    loop, notes = measured(fake_kernel("fma.f32.v128", lambda _call: 2e-9, reference_clock="clock.v128"), clock)
    assert len(notes.samples) == BUDGET.max_rounds
    assert not loop.findings


def test_rounds_at_the_ports_converge_and_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "microbench.hardware.placement.nominal_rate", lambda *_args, clock_hz, threads: clock_hz * threads * 1000.0
    )
    clock = fake_kernel("clock.v128", lambda _call: 1e-9, measures="clock", cycles=1)
    _, notes = measured(fake_kernel("fma.f32.v128", lambda _call: 1e-9, reference_clock="clock.v128"), clock)
    assert len(notes.samples) == BUDGET.min_rounds
    assert all(len(sample.reference_ns) == len(sample.ns) for sample in notes.samples)


def test_a_kernel_that_fails_while_measured_is_a_finding_and_the_others_go_on() -> None:
    def dies(call: int) -> float:
        if call > 12:
            raise RuntimeError("context lost")
        return 1e-6

    loop, notes = measured(fake_kernel("fma.f32.dies", dies), fake_kernel("fma.f32.lives"))
    assert [finding.code for finding in loop.findings] == ["not-measured"]
    assert "context lost" in loop.findings[0].says
    assert sum("lives" in sample.case for sample in notes.samples) >= BUDGET.min_rounds


def test_a_wrong_result_in_one_sample_marks_the_burst() -> None:
    runs: list[FakeRun] = []
    kernel = fake_kernel("fma.f32.wrong", runs=runs)
    prepare = kernel.prepare

    def sometimes_wrong(device: object, params: object, threads: int, cpus: object = None) -> FakeRun:
        made = prepare(device, params, threads)  # type: ignore[arg-type]
        made.checked = False  # type: ignore[attr-defined]
        return made  # type: ignore[return-value]

    object.__setattr__(kernel, "prepare", sometimes_wrong)
    _, notes = measured(kernel)
    assert all(sample.checked is False for sample in notes.samples)


def test_a_burst_holds_what_the_host_stole_while_it_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    # Laps alternate: up to a burst, then over it. Only the second kind belongs to the samples.
    laps = itertools.cycle([7.0, 0.01, 8.0, 0.02])
    monkeypatch.setattr("microbench.hardware.interference.Steal.lap", lambda _self: next(laps))
    _, notes = measured(fake_kernel("fma.f32.v128"))
    assert [sample.steal_s for sample in notes.samples[:4]] == [0.01, 0.02, 0.01, 0.02]


def test_a_burst_says_whether_its_number_or_its_time_ended_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _, notes = measured(fake_kernel("fma.f32.v128"))
    assert {(sample.count, sample.stop) for sample in notes.samples} == {(BUDGET.samples, "count")}
    monkeypatch.setattr("microbench.measure.bursts._BURST_LIMIT_S", -1.0)
    _, notes = measured(fake_kernel("fma.f32.v128"))
    assert {(sample.count, sample.stop) for sample in notes.samples} == {(2, "time")}


def test_everything_prepared_is_closed() -> None:
    runs: list[FakeRun] = []
    measured(fake_kernel("fma.f32.a", runs=runs), fake_kernel("fma.f32.b", runs=runs))
    assert [run.closed for run in runs] == [1, 1]


def test_interference_in_half_of_the_samples_leaves_the_envelope_alone() -> None:
    _, notes = measured(fake_kernel("fma.f32.noisy", episodes(1e-6, 3e-6, 8)))
    best = min(min(sample.ns) / sample.iterations for sample in notes.samples)
    assert best == pytest.approx(1000.0)


def test_a_resumed_loop_counts_the_rounds_it_was_given() -> None:
    kernel = fake_kernel("fma.f32.a")
    case = Case(kernel="fma.f32.a")
    held = [Samples(case=case.key, round=r, started_s=float(r), iterations=10, ns=(10_000,), count=1) for r in range(2)]
    notes = Notes()
    loop = Loop(fake_device(), {"fma.f32.a": kernel}, Plan(cases=(case,), budget=BUDGET), notes)
    loop.resume(held, 2.0)
    loop.run((case,), 0.0, 3)
    assert [sample.round for sample in notes.samples] == []
    assert loop.round >= 2


def test_a_burst_without_a_quiet_window_is_taken_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Pairs] = []
    script = FakeRun.pairs

    def loud_then_quiet(self: FakeRun, *asked: Any) -> Pairs:
        took = script(self, *asked)
        if len(taken) % 2 == 0:
            took = replace(took, ns=tuple(ns * (100 + 2 * i) // 100 for i, ns in enumerate(took.ns)))
        taken.append(took)
        return took

    monkeypatch.setattr(FakeRun, "pairs", loud_then_quiet)
    clock = fake_kernel("clock.v128", lambda _call: 1e-9, measures="clock", cycles=1)
    _, notes = measured(fake_kernel("fma.f32.v128", lambda _call: 1e-9, reference_clock="clock.v128"), clock)
    assert len(taken) == 2 * len(notes.samples)
    assert all(quiet_window(each) is not None for each in notes.samples)


def test_past_the_deadline_the_most_important_case_gets_a_round_and_the_others_are_told() -> None:
    narrow, wide = (fake_kernel(f"fma.f32.v{bits}", lanes=bits // 32) for bits in (128, 256))
    cases = tuple(Case(kernel=kernel.sheet.name) for kernel in (narrow, wide))
    notes = Notes()
    table = {kernel.sheet.name: kernel for kernel in (narrow, wide)}
    loop = Loop(fake_device(), table, Plan(cases=cases, budget=BUDGET), notes)
    loop.run(cases, 0.0, BUDGET.min_rounds)
    assert [sample.case for sample in notes.samples] == ["fma.f32.v256[]@1"]
    assert loop.unmeasured() == cases[:1]


def paired(mine: Callable[[int], float], other: Callable[[int], float]) -> tuple[Kernel, Kernel]:
    """A loop and its reference clock; the scripts give seconds per iteration by call."""
    clock = fake_kernel("clock.v128", other, measures="clock", cycles=1)
    return fake_kernel("fma.f32.v128", mine, reference_clock="clock.v128"), clock


@pytest.mark.parametrize("held_up", [1, 2, 3, 5, 8, 13, 21, 34])
@pytest.mark.parametrize("which", ["loop", "reference clock"])
def test_no_sample_and_no_reference_clock_that_is_handed_out_is_shorter_than_half_its_target(
    held_up: int, which: str
) -> None:
    def disturbed(call: int) -> float:
        return 5e-3 if call < held_up else 1e-9

    def quiet(_call: int) -> float:
        return 1e-9

    _, notes = measured(*(paired(disturbed, quiet) if which == "loop" else paired(quiet, disturbed)))
    assert len(notes.samples) >= BUDGET.min_rounds
    for each in notes.samples:
        assert each.target_ns == 50_000
        assert min(each.ns) >= each.target_ns // 2
        assert not each.reference_ns or min(each.reference_ns) >= each.target_ns // 2


@pytest.mark.parametrize("seed", range(12))
def test_at_any_load_what_is_handed_out_is_long_enough(seed: int) -> None:
    draw = random.Random(seed)

    def loaded(_call: int) -> float:
        return 1e-9 * (draw.uniform(1e3, 1e7) if draw.random() < 0.6 else 1.0)

    _, notes = measured(*paired(loaded, loaded), fake_kernel("fma.f32.alone", loaded))
    assert all(each.target_ns and min(each.ns) >= each.target_ns // 2 for each in notes.samples)
    assert all(min(each.reference_ns, default=10**9) >= (each.target_ns or 0) // 2 for each in notes.samples)


def test_a_reference_clock_that_stays_too_short_is_left_out_and_the_loop_is_kept() -> None:
    calls = itertools.count()

    def drifts(_call: int) -> float:  # each call is a tenth as long as the one before it promised
        return 10.0 ** -(next(calls) % 7)

    _, notes = measured(*paired(lambda _call: 1e-9, drifts))
    assert notes.samples
    assert all(each.reference_ns == () or min(each.reference_ns) >= 25_000 for each in notes.samples)


def test_a_loop_that_stays_too_short_is_given_up_with_a_sentence() -> None:
    # Long while it is calibrated, a thousandth as long in every burst.
    made = fake_kernel("fma.f32.odd")

    class Shrinking(FakeRun):
        def pairs(self, *asked: Any) -> Pairs:
            took = FakeRun.pairs(self, *asked)
            return replace(took, ns=tuple(max(1, ns // 1000) for ns in took.ns))

    odd = replace(made, prepare=lambda *_given: Shrinking(lambda _call: 1e-6))
    loop, notes = measured(odd, fake_kernel("fma.f32.even"))
    assert {sample.case for sample in notes.samples} == {"fma.f32.even[]@1"}
    assert [finding.code for finding in loop.findings] == ["not-measured"]
    assert "shorter than half" in loop.findings[0].says


def test_a_kernel_that_does_no_more_at_once_is_measured_with_the_samples_it_can_give() -> None:
    class Capped(FakeRun):
        def run(self, iterations: int) -> Timing:
            return FakeRun.run(self, min(iterations, 64))

        def pairs(self, iterations: int, *asked: Any) -> Pairs:
            return FakeRun.pairs(self, min(iterations, 64), *asked)

    capped = replace(fake_kernel("launch.plain"), prepare=lambda *_given: Capped(lambda _call: 1e-7))
    loop, notes = measured(capped)
    assert len(notes.samples) >= BUDGET.min_rounds
    assert all(each.target_ns is None and min(each.ns) == 6400 for each in notes.samples)
    assert not loop.findings


def test_a_case_that_cannot_be_prepared_is_tried_once_and_told_once() -> None:
    tries = []

    def refused(*_arguments: object) -> FakeRun:
        tries.append(1)
        raise RuntimeError("no machine code")

    bad, good = fake_kernel("fma.f32.bad"), fake_kernel("fma.f32.good")
    object.__setattr__(bad, "prepare", refused)
    loop, notes = measured(bad, good)
    assert len(tries) == 1
    assert [finding.says for finding in loop.findings] == ["fma.f32.bad[]@1 was not measured: no machine code"]
    assert {samples.case for samples in notes.samples} == {"fma.f32.good[]@1"}
