from __future__ import annotations

import pytest
from fake_backend import fake_device

from microbench.hardware.clock import (
    WINDOW,
    Round,
    best,
    bound,
    comparable,
    converged,
    highest_clocks,
    select_rounds,
    settled,
)
from microbench.records import Case, Samples, Sheet

COMPANION = Sheet(name="clock.v512", measures="clock", backend="native", device_kind="cpu", says="", cycles=3)


def burst(ns: tuple[int, ...], reference_ghz: tuple[float, ...]) -> Samples:
    reference_ns = tuple(round(3e6 / ghz) for ghz in reference_ghz)
    return Samples(
        case="a",
        round=0,
        started_s=0.0,
        iterations=100,
        ns=ns,
        count=len(ns),
        reference_ns=reference_ns,
        reference_iterations=10**6,
    )


def test_two_fast_samples_among_two_reference_clocks_that_agree_are_believed() -> None:
    found = best(burst((990, 900, 901, 990), (3.0, 3.0, 2.4, 3.0)), COMPANION)
    assert (found.ns, found.clock_hz) == (900, pytest.approx(3.0e9))


def test_a_lone_fast_sample_is_not_believed() -> None:
    found = best(burst((990, 990, 900, 990), (3.0, 3.0, 3.0, 3.0)), COMPANION)
    assert (found.ns, found.clock_hz) == (900, None)


def test_reference_clocks_that_were_all_disturbed_but_one_do_not_tell_the_clock() -> None:
    found = best(burst((900, 900, 900, 900), (2.7, 2.9, 3.0, 2.5)), COMPANION)
    assert (found.ns, found.clock_hz) == (900, None)


def test_a_step_of_turbo_is_told_from_the_window_behind_it() -> None:
    steps = burst((990,) * WINDOW + (900,) * WINDOW, (3.0,) * WINDOW + (3.3,) * WINDOW)
    assert (best(steps, COMPANION).ns, best(steps, COMPANION).clock_hz) == (900, pytest.approx(3.3e9))


@pytest.mark.parametrize("late", [1, 2, 3])
def test_wherever_turbo_steps_in_a_burst_the_clock_fits_the_sample(late: int) -> None:
    steps = burst((990,) * (WINDOW - late) + (900,) * late, (3.0,) * (WINDOW - late) + (3.3,) * late)
    found = best(steps, COMPANION)
    assert found.clock_hz is None or found.ns * found.clock_hz == pytest.approx(900 * 3.3e9, rel=1e-4)


def test_work_in_the_second_level_follows_the_clock_and_main_memory_does_not() -> None:
    sheet = Sheet(
        name="read.f32.v512",
        measures="memory",
        backend="native",
        device_kind="cpu",
        says="",
        reference_clock="clock.v512",
    )
    sizes = {"ports": 16 * 1024, "clock": 512 * 1024, None: 256 * 2**20}
    cases = {kind: Case(kernel=sheet.name, params={"working_set": size}) for kind, size in sizes.items()}
    assert {kind: bound(sheet, case, fake_device()) for kind, case in cases.items()} == {kind: kind for kind in sizes}


def test_rounds_agree_on_what_bounds_them() -> None:
    assert comparable([Round(rate=3.0, share=1.01), Round(rate=2.0, share=0.5)]) == [1.0, 0.5]
    assert comparable([Round(rate=3.0, clock_hz=2.0), Round(rate=2.0)]) == [1.5]
    assert comparable([Round(rate=3.0), Round(rate=2.0)]) == [3.0, 2.0]


def rounds(*shares: float | None) -> list[Round]:
    return [Round(rate=1.0, share=share) for share in shares]


def test_rounds_of_unknown_clock_count_only_where_there_is_no_other() -> None:
    assert select_rounds(rounds(None, 1.0, None), 1, timed_clock=True) == [1]
    assert select_rounds(rounds(None, None), 1, timed_clock=True) == [0, 1]
    assert select_rounds(rounds(None, None), 1, timed_clock=False) == [0, 1]


def test_a_few_rounds_above_nominal_had_disturbed_reference_clocks() -> None:
    assert select_rounds(rounds(1.04, 0.99, 1.0), 1, timed_clock=True) == [1, 2]


def test_most_rounds_above_nominal_are_kept_for_the_gate_to_see() -> None:
    assert select_rounds(rounds(1.04, 1.05, 1.0), 1, timed_clock=True) == [0, 1, 2]


def test_cycles_stamped_by_the_device_come_first() -> None:
    stamped = Samples(case="a", round=0, started_s=0.0, iterations=100, ns=(2, 1), count=2, clock_hz=(1e9, 1.1e9))
    assert best(stamped, None).clock_hz == 1.1e9


def test_without_a_reference_clock_the_clock_is_unknown_and_the_fastest_sample_is_taken() -> None:
    found = best(burst((2, 1), (3.0, 3.0)), None)
    assert (found.ns, found.clock_hz) == (1, None)


@pytest.mark.parametrize(
    ("measures", "backend", "spread", "enough"),
    [
        ("compute", "native", 0.009, True),
        ("compute", "native", 0.02, False),
        ("compute", "torch", 0.02, True),  # turbo moves a library's rate, and nothing tells its clock
        ("compute", "torch", 0.04, False),
        ("memory", "native", 0.02, True),
        ("memory", "native", 0.04, False),
        ("latency", "native", 0.05, True),
        ("latency", "native", 0.07, False),
    ],
)
def test_three_rounds_must_agree_as_closely_as_their_kind_repeats(
    measures: str, backend: str, spread: float, enough: bool
) -> None:
    kernel = Sheet(name="a.f32", measures=measures, backend=backend, device_kind="cpu", says="")  # type: ignore[arg-type]
    found = [Round(rate=100.0), Round(rate=100.0 * (1 - spread)), Round(rate=100.0), Round(rate=50.0)]
    assert converged(found, kernel) is enough


def test_rounds_that_agree_below_the_ports_have_not_converged() -> None:
    kernel = Sheet(name="fma.f32", measures="compute", backend="native", device_kind="cpu", says="")
    assert not converged([Round(rate=1.0, share=0.98)] * 3, kernel)
    assert converged([Round(rate=1.0, share=0.99)] * 3, kernel)


@pytest.mark.parametrize(
    ("variant", "backend", "share", "holds"),
    [
        ("m64n256k16.ss", "cuda", 0.97, True),
        ("m64n256k16.ss", "cuda", 0.94, False),
        ("m16n8k16.legacy", "cuda", 0.62, True),
        ("triton", "triton", 0.7, True),
        ("v512", "native", 0.97, False),
    ],
)
def test_rounds_of_a_gpu_that_agree_hold_where_the_units_are_reached_or_need_not_be(
    variant: str, backend: str, share: float, holds: bool
) -> None:
    kind = "cpu" if backend == "native" else "cuda"
    sheet = Sheet(name="a", measures="compute", backend=backend, device_kind=kind, says="", variant=variant)  # type: ignore[arg-type]
    assert converged([Round(rate=1e12, share=share)] * 3, sheet) is holds


NARROW = Sheet(
    name="fma.f32.v128",
    measures="compute",
    backend="native",
    device_kind="cpu",
    says="",
    frequency_license="128",
    reference_clock="clock.v128",
)
CASE = Case(kernel=NARROW.name, threads=2)


def test_the_clock_of_a_license_is_the_highest_that_any_of_its_cases_told_with_as_many_threads() -> None:
    wide = Sheet(name="fma.f32.v512", measures="compute", backend="native", device_kind="cpu", says="")
    told = [
        (CASE, NARROW, Round(rate=1.0, clock_hz=3.1e9)),
        (CASE, NARROW, Round(rate=1.0, clock_hz=3.2e9)),
        (CASE, NARROW, Round(rate=1.0)),
        (Case(kernel=NARROW.name), NARROW, Round(rate=1.0, clock_hz=3.9e9)),
        (CASE, wide, Round(rate=1.0, clock_hz=2.5e9)),
    ]
    assert highest_clocks(told) == {("128", 2): 3.2e9, ("128", 1): 3.9e9}


@pytest.mark.parametrize(
    ("share", "clock_hz", "believed"),
    [
        (0.99, 3.2e9, True),
        (1.005, 3.2e9, True),
        (1.44, 2.25e9, False),  # 1.01 of nominal at 3.2 GHz: the clock is wrong, not the rate
        (1.44, 3.2e9, True),  # above nominal at the highest clock too: left for the plausibility check
        (0.6, 1.6e9, True),  # a loop that was slowed alike
        (None, 3.1e9, True),
        (None, 0.4e9, False),
    ],
)
def test_a_clock_that_other_cases_of_the_license_contradict_is_unknown(
    share: float | None, clock_hz: float, believed: bool
) -> None:
    seen = Round(rate=1.0, clock_hz=clock_hz, share=share)
    (found,) = settled([seen], CASE, NARROW, {("128", 2): 3.2e9})
    assert found == (seen if believed else Round(rate=1.0))
    assert settled([seen], CASE, NARROW, {}) == [seen]


@pytest.mark.parametrize(("share", "threads", "holds"), [(1.004, 1, True), (1.006, 1, False), (1.02, 2, False)])
def test_rounds_above_nominal_have_not_converged_however_well_they_agree(
    share: float, threads: int, holds: bool
) -> None:
    assert converged([Round(rate=1.0, clock_hz=3e9, share=share)] * 3, NARROW, threads) is holds
