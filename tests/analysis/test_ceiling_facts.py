"""What a ceiling says of itself beside its rate, and what a chase says of latency."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fake_backend import KIB, fake_device

from microbench.analysis.ceilings import Analysis, analyse
from microbench.records import Budget, Case, Ceiling, Cost, Device, MemoryLevel, Plan, Samples, Sheet, Work

# Two multiply-adds and two loads of 256 bits a cycle.
CPU = fake_device(arch="zen3")
GPU = fake_device(kind="cuda", arch="sm_90a", name="NVIDIA H100 80GB HBM3", units_by_kind={"sm": 132})
MIB = 1024 * KIB
CLOCK = Sheet(name="clock.v256", measures="clock", backend="native", device_kind="cpu", says="", cycles=3)
FMA = Sheet(
    name="fma.f32.v256",
    measures="compute",
    backend="native",
    device_kind="cpu",
    says="",
    dtype="f32",
    unit="vector",
    ports="fma.v256",
    lanes=8,
    math=20,
    work=Work(flop=320),  # ten cycles
    reference_clock=CLOCK.name,
)
READ = Sheet(
    name="read.f32.v256",
    measures="memory",
    backend="native",
    device_kind="cpu",
    says="",
    dtype="f32",
    access="read",
    ports="load.v256",
    loads=20,
    work=Work(bytes_read=640),  # ten cycles
    reference_clock=CLOCK.name,
)
STREAM = Sheet(
    name="read.i32.u4",
    measures="memory",
    backend="cuda",
    device_kind="cuda",
    says="",
    access="read",
    variant="u4",
    work=Work(bytes_read=640),
)


def rounds(case: Case, *per_round: int, clock_ghz: float | None = None, **facts: Any) -> list[Samples]:
    """Two samples of 1000 iterations a round, that take so many nanoseconds."""
    reference = {"reference_ns": (round(3e4 / clock_ghz),) * 2, "reference_iterations": 10_000} if clock_ghz else {}
    made: dict[str, Any] = {"iterations": 1000, "count": 2, **reference, **facts}
    return [Samples(case=case.key, round=i, started_s=float(i), ns=(ns, ns), **made) for i, ns in enumerate(per_round)]


def analysed(samples: list[Samples], *cases: Case, device: Device = CPU, sheets: tuple[Sheet, ...] = ()) -> Analysis:
    known = {sheet.name: sheet for sheet in (FMA, READ, STREAM, CLOCK, *sheets)}
    return analyse(samples, Plan(cases=cases, budget=Budget()), known, device)


def ceiling(case: Case, *per_round: int, device: Device = CPU, sheets: tuple[Sheet, ...] = (), **facts: Any) -> Ceiling:
    (found,) = analysed(rounds(case, *per_round, **facts), case, device=device, sheets=sheets).ceilings
    return found


def test_the_typical_rate_of_several_threads_is_that_of_all_together() -> None:
    found = ceiling(Case(kernel=FMA.name, threads=2), 4000, 5000, 8000)
    assert found.typical is not None
    assert found.typical.value == pytest.approx(2 * 320 * 1000 / 5e-6)
    assert found.rate.value == pytest.approx(2 * 320 * 1000 / 4e-6)


def test_of_the_cases_of_one_kernel_the_fastest_is_the_ceiling_in_whatever_order_they_come() -> None:
    near, far = (Case(kernel=READ.name, params={"working_set": size}) for size in (8 * KIB, 16 * KIB))
    for first, second in ((near, far), (far, near)):
        (found,) = analysed([*rounds(first, 1000), *rounds(second, 2000)], near, far).ceilings
        assert found.case == first.key
        (found,) = analysed([*rounds(first, 2000), *rounds(second, 1000)], near, far).ceilings
        assert found.case == second.key


def test_samples_of_a_kernel_without_a_sheet_are_left_out() -> None:
    case = Case(kernel="gone.f32")
    assert analysed(rounds(case, 1000), case).ceilings == ()


@pytest.mark.parametrize(
    ("case", "nominal"),
    [
        (Case(kernel=FMA.name), 32 * 3e9),
        (Case(kernel=FMA.name, threads=2), 64 * 3e9),
        (Case(kernel=READ.name, params={"working_set": 16 * KIB}), 64 * 3e9),
        (Case(kernel=READ.name, params={"working_set": 512 * KIB}), None),
    ],
)
def test_arithmetic_and_the_first_level_have_a_nominal_rate_at_the_clock_seen(
    case: Case, nominal: float | None
) -> None:
    found = ceiling(case, 4000, 4000, 4000, clock_ghz=3.0)
    assert found.nominal == (nominal and pytest.approx(nominal))
    assert found.clock_hz == pytest.approx(3e9)
    assert found.per_clock == pytest.approx(found.rate.value / 3e9 / case.threads)


def test_without_a_clock_there_is_no_nominal_rate() -> None:
    found = ceiling(Case(kernel=FMA.name), 4000)
    assert (found.nominal, found.clock_hz, found.per_clock, found.throttled_share) == (None, None, None, None)


@pytest.mark.parametrize(
    ("took", "high"),
    [
        (3350, 32 * 3e9),  # within one timer step of the ports
        (3330, 320 * 1000 / 3.33e-6),  # above them: no interval ends below its own value
        (5000, 320 * 1000 / 5e-6 * (1 + 40 / 5000)),
    ],
)
def test_a_peak_is_at_most_nominal_or_one_step_of_the_timer_higher(took: int, high: float) -> None:
    rate = ceiling(Case(kernel=FMA.name), took, took, took, clock_ghz=3.0).rate
    assert rate.high == pytest.approx(high)
    assert str(rate.basis).endswith("high: nominal or one timer step")


def test_main_memory_of_a_gpu_is_bounded_by_its_bus() -> None:
    found = ceiling(Case(kernel=STREAM.name, params={"working_set": 1024 * MIB}), 4000, device=GPU)
    assert (found.level, found.name) == ("DRAM", "read.i32.u4.DRAM")
    assert found.nominal == found.advertised == pytest.approx(3.352e12, rel=1e-3)


def test_a_memory_of_the_multiprocessor_is_its_own_level_whatever_the_working_set() -> None:
    shared = replace(STREAM, name="read.i32.shared", variant="shared")
    found = ceiling(Case(kernel=shared.name, params={"working_set": 1024 * MIB}), 4000, device=GPU, sheets=(shared,))
    assert (found.level, found.name) == ("shared", "read.i32.shared")


def test_a_ceiling_of_a_gpu_counts_work_per_cycle_of_one_multiprocessor() -> None:
    product = replace(
        FMA, name="fma.f32", backend="cuda", device_kind="cuda", unit="scalar", ports=None, reference_clock=None
    )
    stamped = {"clock_hz": (1.5e9, 1.5e9)}
    found = ceiling(Case(kernel=product.name), 4000, device=GPU, sheets=(product,), **stamped)
    assert found.per_clock == pytest.approx(320 * 1000 / 4e-6 / 1.5e9 / 132)
    unknown = replace(GPU, units_by_kind={})
    assert ceiling(Case(kernel=product.name), 4000, device=unknown, sheets=(product,), **stamped).per_clock is None


def test_energy_is_told_of_sustained_arithmetic_whose_power_was_seen() -> None:
    lasting, burst = (Case(kernel=FMA.name, mode=mode) for mode in ("sustained", "peak"))  # type: ignore[arg-type]
    power = {"power_w": (300.0, 500.0), "clock_hz": (2e9, 2e9), "throttled": 1}
    found = ceiling(lasting, 4000, 4000, **power)
    assert (found.power_w, found.throttled_share) == (400.0, 0.5)
    assert found.energy_per_op_j == pytest.approx(400 / (320 * 1000 / 4e-6))
    assert ceiling(burst, 4000, **power).energy_per_op_j is None
    assert ceiling(lasting, 4000).energy_per_op_j is None
    read = Case(kernel=READ.name, params={"working_set": 256 * MIB}, mode="sustained")
    moved = ceiling(read, 4000, **power)
    assert (moved.energy_per_op_j, found.energy_per_byte_j) == (None, None)
    assert moved.energy_per_byte_j == pytest.approx(400 / (640 * 1000 / 4e-6))
    assert ceiling(read, 4000).energy_per_byte_j is None


def test_what_is_walked_for_long_is_main_memory_whatever_the_sweep_shows() -> None:
    case = Case(kernel=READ.name, params={"working_set": 256 * MIB}, mode="sustained")
    found = ceiling(case, 4000)
    assert (found.level, found.mode) == ("DRAM", "sustained")


def test_a_sustained_rate_without_stamps_has_the_clock_of_its_fastest_round() -> None:
    case = Case(kernel=FMA.name, mode="sustained")
    assert ceiling(case, 4000, 4000, clock_ghz=3.0).clock_hz == pytest.approx(3e9)


@pytest.mark.parametrize(("count", "confidence"), [(1, None), (2, 0.5), (3, 0.75), (8, 0.9297)])
def test_the_typical_rate_says_the_confidence_that_so_many_rounds_give(count: int, confidence: float | None) -> None:
    found = ceiling(Case(kernel=FMA.name), *(4000 + 10 * i for i in range(count)))
    assert found.typical is not None
    assert found.typical.confidence == confidence


def test_a_quiet_share_is_rounded_to_four_digits() -> None:
    assert ceiling(Case(kernel=FMA.name), 4000, 5000, 5000).quiet_share == 0.3333


def chased(
    seconds: dict[int, float], device: Device = CPU, pages: dict[int, str] | None = None, loads: int = 4
) -> list[Cost]:
    """Load-to-use latencies of sets by size."""
    chase = Sheet(name="chase", measures="latency", backend="native", device_kind="cpu", says="", loads=loads)
    cases = {
        size: Case(kernel=chase.name, params={"working_set": size, "pages": (pages or {}).get(size, "huge")})
        for size in seconds
    }
    samples = [
        sample
        for size, case in cases.items()
        for sample in rounds(case, *(round(seconds[size] * loads * 1e12 * f) for f in (1, 1.25)))
    ]
    return list(analysed(samples, *cases.values(), device=device, sheets=(chase,)).costs)


SIZES = [2**power for power in range(12, 28)]


def test_a_latency_is_that_of_one_load_and_of_the_case_nearest_to_its_plateau() -> None:
    costs = {
        cost.name: cost
        for cost in chased({size: 1e-9 if size <= 32 * KIB else 4e-9 if size <= MIB else 80e-9 for size in SIZES})
    }
    assert list(costs) == ["load_to_use.L1", "load_to_use.L2", "load_to_use.DRAM"]
    second = costs["load_to_use.L2"]
    assert (second.level, second.seconds.value, second.seconds.high) == ("L2", pytest.approx(4e-9), pytest.approx(5e-9))


def lines(latencies_ns: list[float], sets: dict[int, float] | None = None, capacity: int = 50 * MIB) -> Analysis:
    """Chases of single lines of a GPU's second level, and of sets with one warp."""
    chase = Sheet(
        name="chase.line", measures="latency", backend="cuda", device_kind="cuda", says="", loads=1, params=("line",)
    )
    cases = [Case(kernel=chase.name, params={"line": i}) for i in range(len(latencies_ns))]
    others = [Case(kernel=chase.name, params={"working_set": size}) for size in sets or {}]
    took = [*latencies_ns, *(sets or {}).values()]
    samples = [
        each for case, ns in zip([*cases, *others], took, strict=True) for each in rounds(case, round(ns * 1000))
    ]
    device = replace(GPU, levels=(MemoryLevel(name="L2", capacity_bytes=capacity),))
    return analysed(samples, *cases, *others, device=device, sheets=(chase,))


def test_two_groups_of_lines_are_the_near_and_the_far_part_of_the_second_level() -> None:
    found = lines([200, 201, 202, 203, 204, 300, 301, 302, 303, 304])
    assert found.findings == ()
    near, far = found.costs
    assert (near.name, near.level, near.case) == ("load_to_use.L2.near", "L2", "chase.line[line=2]@1")
    assert (near.seconds.low, near.seconds.value, near.seconds.high) == pytest.approx((200e-9, 202e-9, 204e-9))
    assert str(near.seconds.basis).startswith("median of 5 of 10 lines")
    assert (far.name, far.seconds.value) == ("load_to_use.L2.far", pytest.approx(302e-9))


ALIKE = [200.0 + i for i in range(10)]


def test_lines_that_answer_alike_and_sets_that_take_no_longer_are_one_cache() -> None:
    (finding,) = lines(ALIKE, {10 * MIB: 200, 40 * MIB: 205}).findings
    assert finding.code == "one-l2"
    assert "10 lines answer in 200 to 209 ns" in finding.says
    assert "sets beyond half of it take no longer" in finding.says


@pytest.mark.parametrize(
    "sets", [{}, {10 * MIB: 200.0}, {10 * MIB: 200.0, 25 * MIB: 300.0}, {10 * MIB: 200.0, 50 * MIB: 300.0}]
)
def test_without_a_set_beyond_half_of_the_cache_that_is_said(sets: dict[int, float]) -> None:
    found = lines(ALIKE, sets)
    assert [finding.code for finding in found.findings] == ["one-l2"]
    assert "no set beyond half of it was chased" in found.findings[0].says


def test_lines_that_answer_alike_and_sets_that_take_longer_are_a_cache_that_keeps_copies() -> None:
    found = lines(ALIKE, {10 * MIB: 200, 30 * MIB: 240, 40 * MIB: 260})
    (finding,) = found.findings
    assert finding.code == "l2-copies"
    assert "half of its 50 MiB take 200 ns a load too, but sets beyond half up to 260 ns" in finding.says
    near, beyond = (cost for cost in found.costs if cost.name.startswith("load_to_use.L2."))
    assert (near.name, near.seconds.value) == ("load_to_use.L2.near", pytest.approx(205e-9))
    assert (near.seconds.low, near.seconds.high) == (pytest.approx(200e-9), pytest.approx(209e-9))
    assert (beyond.name, beyond.seconds.value) == ("load_to_use.L2.beyond_half", pytest.approx(260e-9))


def test_a_cache_of_unknown_size_is_not_said_to_keep_copies() -> None:
    chase = lines(ALIKE, {10 * MIB: 200, 40 * MIB: 260}, capacity=1)
    assert [finding.code for finding in chase.findings] == ["one-l2"]
