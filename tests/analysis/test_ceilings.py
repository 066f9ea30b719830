from __future__ import annotations

from dataclasses import replace

import pytest
from fake_backend import KIB, fake_device

from microbench.analysis import ceilings as module
from microbench.analysis.ceilings import TIMER_STEP_NS, analyse
from microbench.hardware import placement
from microbench.records import Budget, Case, Plan, Samples, Sheet, Work

BUDGET = Budget()


@pytest.fixture(autouse=True)
def _thousand_flop_a_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        placement,
        "nominal_rate",
        lambda sheet, device, clock_hz, threads: 1000.0 * clock_hz * threads if sheet.measures == "compute" else None,
    )


def sheet(name: str, **facts: object) -> Sheet:
    return Sheet(
        **{
            "name": name,
            "measures": "compute",
            "backend": "native",
            "device_kind": "cpu",
            "says": "",
            "dtype": "f32",
            **facts,
        }
    )  # type: ignore[arg-type]


FMA = sheet("fma.f32.v128", work=Work(flop=1000), reference_clock="clock.v128")
CLOCK = sheet("clock.v128", measures="clock", cycles=3)
READ = sheet("read.f32.v128", measures="memory", access="read", work=Work(bytes_read=1024))


def rounds(
    case: Case, *per_round: tuple[int, ...], reference_clock: tuple[int, ...] = (), iterations: int = 1000
) -> list[Samples]:
    return [
        Samples(
            case=case.key,
            round=i,
            started_s=float(i),
            iterations=iterations,
            ns=ns,
            count=len(ns),
            reference_ns=reference_clock,
            reference_iterations=1000,
        )
        for i, ns in enumerate(per_round)
    ]


def analysis(samples: list[Samples], *cases: Case) -> module.Analysis:
    sheets = {each.name: each for each in (FMA, CLOCK, READ)}
    return analyse(samples, Plan(cases=cases, budget=BUDGET), sheets, fake_device())


def test_value_is_the_best_round_and_low_the_third_best() -> None:
    case = Case(kernel=FMA.name, threads=2)
    made = analysis(rounds(case, (1000, 1100), (1010, 1500), (1005, 1200), (2000, 2100)), case).ceilings[0]
    flop = 1000 * 1000 * 2 * 1e9
    assert made.rate.value == pytest.approx(flop / 1000)
    assert made.rate.low == pytest.approx(flop / 1010)
    assert made.rate.high == pytest.approx(flop / 1000 * (1 + TIMER_STEP_NS / 1000))
    assert made.rounds == 4
    assert made.threads == 2


def test_typical_is_the_median_of_medians() -> None:
    case = Case(kernel=FMA.name)
    made = analysis(rounds(case, (1000, 1000, 1000), (1250, 1250, 9000), (2000, 2000, 2000)), case).ceilings[0]
    assert made.typical is not None
    assert made.typical.value == pytest.approx(1e6 * 1e9 / 1250)


def test_a_sustained_rate_is_what_lasts_and_a_peak_the_fastest_moment() -> None:
    facts = {"kernel": "fma.f32.v128", "threads": 1}
    took = [(1_000_000, 1_250_000, 1_250_000, 1_250_000)] * 5  # the first sample of each round before the clock fell
    clocks = {"clock_hz": (2e9, 1.6e9, 1.6e9, 1.6e9), "throttled": 3, "power_w": (700.0,)}
    found = {}
    for mode in ("peak", "sustained"):
        case = Case(mode=mode, **facts)  # type: ignore[arg-type]
        (found[mode],) = analysis([replace(each, **clocks) for each in rounds(case, *took)], case).ceilings
    assert found["peak"].rate.value == pytest.approx(1e9)
    assert found["sustained"].rate.value == found["sustained"].typical.value == pytest.approx(0.8e9)  # type: ignore[union-attr]
    assert (found["peak"].clock_hz, found["sustained"].clock_hz) == (2e9, 1.6e9)
    assert found["sustained"].energy_per_op_j == pytest.approx(700 / 0.8e9)


def test_clock_comes_from_the_reference_clock_and_bounds_the_interval() -> None:
    case = Case(kernel=FMA.name)
    # 3000 cycles in 1000 ns are 3 GHz; the ports allow 1000 FLOP a cycle, so a million FLOP takes 333 ns.
    made = analysis(rounds(case, (340, 340), (340, 340), (340, 340), reference_clock=(1000, 1000)), case).ceilings[0]
    assert made.clock_hz == pytest.approx(3e9)
    assert made.nominal == pytest.approx(3e12)
    assert made.per_clock == pytest.approx(1e15 / 340 / 3e9)
    assert made.rate.high <= made.nominal
    assert not made.converged  # 98.0 % of the ports' count, below the 98.5 % that convergence asks for


def test_agreement_at_the_ports_converges() -> None:
    case = Case(kernel=FMA.name)
    assert (
        analysis(rounds(case, (334, 334), (335, 335), (336, 336), reference_clock=(1000, 1000)), case)
        .ceilings[0]
        .converged
    )


def test_quiet_share_counts_rounds_whose_median_is_near_the_best() -> None:
    case = Case(kernel=FMA.name)
    assert analysis(rounds(case, (1000, 1010, 4000), (1000, 1500, 1600)), case).ceilings[0].quiet_share == 0.5


def test_the_best_of_the_cases_of_one_level_is_its_ceiling() -> None:
    near, far = (Case(kernel=READ.name, params={"working_set": size}) for size in (8 * KIB, 16 * KIB))
    made = analysis([*rounds(near, (2000,)), *rounds(far, (1000,))], near, far).ceilings
    assert [(c.name, c.level, c.case) for c in made] == [("read.f32.v128.L1", "L1", far.key)]
    assert made[0].rate.value == pytest.approx(1024 * 1000 * 1e9 / 1000)


def test_a_working_set_between_two_levels_is_no_ceiling() -> None:
    between = Case(kernel=READ.name, params={"working_set": 48 * 1024 * KIB})
    assert analysis(rounds(between, (1000,)), between).ceilings == ()


def test_samples_of_unknown_cases_are_left_out() -> None:
    case = Case(kernel=FMA.name)
    assert analysis(rounds(Case(kernel="fma.f64.v128"), (1000,)), case).ceilings == ()


def test_a_second_kernel_of_latencies_has_rows_of_its_own_and_leaves_load_to_use_alone() -> None:
    chase = sheet("chase", measures="latency", dtype=None, loads=10)
    hop = sheet("hop", measures="latency", dtype=None, loads=10, roles=("latency",))
    sizes = [8 * KIB * 2**i for i in range(14)]
    cases = [Case(kernel="chase", params={"working_set": size, "pages": "huge"}) for size in sizes]
    took = [
        13 if size <= 32 * KIB else 45 if size <= 1024 * KIB else 250 if size <= 8192 * KIB else 1000 for size in sizes
    ]
    samples = [each for case, ns in zip(cases, took, strict=True) for each in rounds(case, (ns * 1000,))]
    other = Case(kernel="hop", params={"working_set": 16 * KIB, "pages": "huge"})
    sheets = {"chase": chase, "hop": hop}

    def costs(*beside: Case) -> dict[str, float]:
        plan = Plan(cases=(*cases, *beside), budget=BUDGET)
        taken = [*samples, *(each for case in beside for each in rounds(case, (7000,)))]
        return {cost.name: cost.seconds.value for cost in analyse(taken, plan, sheets, fake_device()).costs}

    alone, both = costs(), costs(other)
    assert alone["load_to_use.L1"] == pytest.approx(1.3e-9)
    assert both == {**alone, "hop.L1": pytest.approx(0.7e-9)}


def test_a_kernel_without_a_ceilings_role_has_no_ceiling_and_one_of_main_memory_none_of_a_cache() -> None:
    near, far = (
        Case(kernel="walk", params=params)
        for params in ({"working_set": 16 * KIB}, {"working_set": 16 * KIB, "cold": 1})
    )
    samples = [*rounds(near, (1000,)), *rounds(far, (4000,))]
    found = {}
    for roles in (("sweep",), ("ceiling",), ("dram_ceiling",)):
        walk = sheet("walk", measures="memory", access="read", work=Work(bytes_read=1024), roles=roles)
        made = analyse(samples, Plan(cases=(near, far), budget=BUDGET), {"walk": walk}, fake_device())
        found[roles[0]] = [ceiling.level for ceiling in made.ceilings]
    assert found == {"sweep": [], "ceiling": ["L1", "DRAM"], "dram_ceiling": ["DRAM"]}
