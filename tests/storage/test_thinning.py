from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from fake_backend import fake_device
from hypothesis import given
from hypothesis import strategies as st

from microbench.analysis.ceilings import Analysis, analyse
from microbench.hardware.clock import WINDOW, best
from microbench.records import Budget, Case, Characterisation, Plan, Samples, Sheet, Work
from microbench.storage import store
from microbench.storage.thinning import EXACT, fewer_samples


def sheet(name: str, measures: str, **facts: object) -> Sheet:
    return Sheet(**{"name": name, "measures": measures, "backend": "native", "device_kind": "cpu", "says": "", **facts})  # type: ignore[arg-type]


CLOCK = sheet("clock.v128", "clock", cycles=3)
SHEETS = (
    sheet("fma.f32.v128", "compute", dtype="f32", work=Work(flop=1000), reference_clock=CLOCK.name),
    sheet(
        "read.f32.v128", "memory", access="read", dtype="f32", work=Work(bytes_read=1024), reference_clock=CLOCK.name
    ),
    sheet("fma.f32", "compute", backend="cuda", device_kind="cuda", dtype="f32", work=Work(flop=1000)),
    sheet("cost.barrier", "cost"),
    CLOCK,
)
CASES = (
    Case(kernel="fma.f32.v128"),
    *(
        Case(kernel="read.f32.v128", params={"working_set": 2**power, "streams": 1, "pages": "huge"})
        for power in range(13, 29)
    ),
    Case(kernel="fma.f32"),
    Case(kernel="fma.f32", mode="sustained", scope="device"),
    Case(kernel="cost.barrier"),
)
# How much slower than the first level a working set is streamed, up to each size.
LEVELS = ((32 * 2**10, 1.0), (2**20, 3.0), (2**24, 8.0), (2**28, 20.0))


def noisy(seed: int, case: Case, index: int) -> Samples:
    """A burst with spikes, a step of turbo, and reference clocks that are disturbed on their own."""
    rng = random.Random(f"{seed} {index} {case.key}")
    taken = rng.choice((1, 2, 9, 32, 32, 32, 200, 350))
    step = rng.randrange(taken)
    turbo = [rng.choice((1.0, 1.03, 1.06)) if i >= step else 1.0 for i in range(taken)]
    level = next(slower for size, slower in LEVELS if int(case.params.get("working_set", 0)) <= size)
    ns, reference_ns = (
        tuple(int(scale * f * (1 + rng.expovariate(rng.choice((1000, 100, 20))))) for f in turbo)
        for scale in (50_000 * level, 51_000)
    )
    own_clock = case.kernel == "fma.f32"
    paired = case.kernel in ("fma.f32.v128", "read.f32.v128") and rng.random() < 0.9
    return Samples(
        case=case.key,
        round=index,
        started_s=float(index),
        iterations=1000,
        ns=ns,
        count=taken,
        reference_ns=reference_ns if paired else (),
        reference_iterations=50_000 if paired else 0,
        clock_hz=tuple(1e9 * f * (1 + rng.random() / 100) for f in turbo) if own_clock else (),
        power_w=tuple(300 + rng.random() for _ in range(taken)) if own_clock else (),
    )


def measured(seed: int, rounds: int = 7) -> Characterisation:
    samples = tuple(noisy(seed, case, index) for index in range(rounds) for case in CASES)
    plan = Plan(cases=CASES, budget=Budget())
    return Characterisation(
        schema=store.SCHEMA, device=fake_device(), environment=None, plan=plan, sheets=SHEETS, samples=samples
    )


def analysis(of: Characterisation) -> Analysis:
    assert of.plan is not None
    return analyse(of.samples, of.plan, {sheet.name: sheet for sheet in of.sheets}, of.device)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=120), st.integers(1, 90), st.randoms(use_true_random=False))
def test_thinning_keeps_the_fastest_the_count_and_the_limit(ns: list[int], limit: int, rng: random.Random) -> None:
    reference_ns = tuple(rng.randint(1, 40) for _ in ns[: rng.randint(0, len(ns))])
    row = Samples(case="a", round=0, started_s=0, iterations=1, ns=tuple(ns), count=len(ns), reference_ns=reference_ns)
    kept = fewer_samples(row, limit)
    assert len(kept.reference_ns) <= len(kept.ns) <= limit
    assert min(kept.ns) == min(ns)
    assert kept.count == len(ns)
    assert not [value for value in kept.ns if kept.ns.count(value) > ns.count(value)]


@given(
    st.lists(st.integers(1000, 1040), min_size=1, max_size=120),
    st.integers(EXACT, 90),
    st.randoms(use_true_random=False),
)
def test_from_twelve_timings_on_the_clock_the_best_and_the_median_stay(
    ns: list[int], limit: int, rng: random.Random
) -> None:
    reference_ns = tuple(rng.randint(1000, 1040) for _ in ns[: rng.randint(0, len(ns))])
    row = Samples(
        case="a",
        round=0,
        started_s=0,
        iterations=1,
        ns=tuple(ns),
        count=len(ns),
        reference_ns=reference_ns,
        reference_iterations=7,
    )
    kept = fewer_samples(row, limit)
    assert best(kept, CLOCK) == best(row, CLOCK)
    assert np.median(kept.ns) == np.median(row.ns)
    assert bool(kept.reference_ns) == bool(row.reference_ns)


def test_a_quiet_window_far_from_the_fastest_timing_still_tells_the_clock() -> None:
    ns = [1100 + i for i in range(3 * WINDOW)]
    ns[2], ns[WINDOW + 3], ns[WINDOW + 5] = 900, 1000, 1001
    reference_clock = [2000 + 10 * i for i in range(3 * WINDOW)]
    reference_clock[40], reference_clock[WINDOW + 4], reference_clock[WINDOW + 6] = 1500, 1800, 1801
    row = Samples(
        case="a",
        round=0,
        started_s=0.0,
        iterations=1,
        ns=tuple(ns),
        count=len(ns),
        reference_ns=tuple(reference_clock),
        reference_iterations=1000,
    )
    found = best(fewer_samples(row, EXACT), CLOCK)
    assert (found.ns, found.clock_hz) == (1000, pytest.approx(3 * 1000 * 1e9 / 1800))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limit", [EXACT, 25, 200])
def test_thinned_samples_give_the_same_ceilings_costs_and_levels(seed: int, limit: int) -> None:
    whole = measured(seed)
    made = analysis(whole)
    assert {ceiling.name for ceiling in made.ceilings} >= {"fma.f32.v128", "fma.f32", "read.f32.v128.L1"}
    again = replace(whole, samples=tuple(fewer_samples(each, limit) for each in whole.samples))
    assert sum(len(each.ns) for each in again.samples) < sum(len(each.ns) for each in whole.samples)
    assert analysis(again) == made


def test_a_file_that_had_to_be_thinned_gives_the_same_ceilings_again() -> None:
    whole = measured(seed=1, rounds=150)
    stored = store.loads(store.dumps(whole))
    assert [finding.code for finding in stored.findings] == ["samples-thinned"]
    assert analysis(stored) == analysis(whole)


def test_even_spacing_would_not_do() -> None:
    whole = measured(seed=1)
    evenly = tuple(replace(each, ns=each.ns[::3], reference_ns=each.reference_ns[::3]) for each in whole.samples)
    assert analysis(replace(whole, samples=evenly)).ceilings != analysis(whole).ceilings
