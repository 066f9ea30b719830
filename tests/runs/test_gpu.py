"""On a real GPU, by ``pytest -m gpu``: every kernel's value, and relations of measured numbers that hold on any card.

Nothing here knows a card's figures. What has never run on hardware is proven by its first run there.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

import microbench
from microbench import hardware
from microbench.analysis import plausibility
from microbench.errors import CannotRun
from microbench.kernels import Kernel, registry
from microbench.records import Ceiling, Characterisation, Device
from microbench.runs import check

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def device() -> Device:
    try:
        return hardware.probe("cuda:0")
    except CannotRun as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def kernels(device: Device) -> Mapping[str, Kernel]:
    return registry(device)


@pytest.fixture(scope="module")
def measured(device: Device) -> Characterisation:
    return microbench.run(f"cuda:{device.index}", quick=True)


def best(held: Characterisation, **wanted: object) -> Ceiling:
    found = [
        ceiling for ceiling in held.ceilings if all(getattr(ceiling, name) == value for name, value in wanted.items())
    ]
    if not found:
        pytest.skip(f"no ceiling with {wanted} on {held.device.name}")
    return max(found, key=lambda ceiling: ceiling.rate.value)


def test_every_kernel_leaves_the_values_that_its_operands_give(device: Device) -> None:
    # Each in a process that may hang or die: one fault hides no other, and none spoils the tests below.
    outcomes = check.check(device, check.Wanted())
    assert [f"{one.status}: {one.item or one.group}: {one.says}" for one in check.faults(outcomes)] == []
    assert sum(one.status == check.RIGHT for one in outcomes) > 20


def test_every_case_was_measured_and_every_timed_result_was_right(measured: Characterisation) -> None:
    assert [
        finding.says for finding in measured.findings if finding.code in ("not-measured", "not-checked", "wrong-result")
    ] == []
    assert {sample.checked for sample in measured.samples} <= {True, None}


def test_the_gate_finds_nothing_implausible(measured: Characterisation, device: Device) -> None:
    assert [doubt.finding.says for doubt in plausibility.doubts(measured.ceilings, device)] == []


def test_memory_is_faster_the_nearer_it_is(measured: Characterisation) -> None:
    rates = [
        best(measured, measures="memory", access="read", level=level).rate.value for level in ("DRAM", "L2", "shared")
    ]
    assert rates == sorted(rates)


def test_latency_grows_with_distance(measured: Characterisation) -> None:
    costs = {cost.name: cost.seconds.value for cost in measured.costs}
    assert costs["load_to_use.L1"] < costs["load_to_use.L2"] < costs["load_to_use.DRAM"]


def test_a_far_half_of_l2_is_slower_than_the_near_one_and_nearer_than_memory(measured: Characterisation) -> None:
    costs = {cost.name: cost.seconds.value for cost in measured.costs}
    if "load_to_use.L2.far" not in costs:
        pytest.skip(next(finding.says for finding in measured.findings if finding.code in ("one-l2", "l2-copies")))
    assert (
        costs["load_to_use.L1"] < costs["load_to_use.L2.near"] < costs["load_to_use.L2.far"] < costs["load_to_use.DRAM"]
    )


def test_queued_launches_come_closer_together_than_single_ones(measured: Characterisation) -> None:
    costs = {cost.name: cost.seconds.value for cost in measured.costs}
    assert costs["launch.held"] <= costs["launch.period"] * 1.05
    assert costs["launch.period"] < costs["launch.round_trip"]


def test_compute_per_clock_stays_within_what_the_architecture_issues(measured: Characterisation) -> None:
    above = [
        (c.name, c.rate.value / c.nominal) for c in measured.ceilings if c.nominal and c.rate.value > 1.01 * c.nominal
    ]
    assert above == []


def test_twice_the_iterations_take_twice_the_time(device: Device, kernels: Mapping[str, Kernel]) -> None:
    prepared = kernels["fma.f32"].prepare(device, {}, 1)
    try:
        first = prepared.run(1)
        base = max(first.iterations, round(first.iterations * 2e6 / first.ns))
        once, twice = (
            min((prepared.run(base * times) for _ in range(5)), key=lambda t: t.ns / t.iterations) for times in (1, 2)
        )
    finally:
        prepared.close()
    assert twice.ns / twice.iterations == pytest.approx(once.ns / once.iterations, rel=0.03)


def test_the_clock_that_the_blocks_stamp_is_a_clock_of_this_card(measured: Characterisation, device: Device) -> None:
    clocks = [ceiling.clock_hz for ceiling in measured.ceilings if ceiling.clock_hz and ceiling.measures == "compute"]
    assert clocks
    assert max(clocks) <= 1.1 * (device.boost_clock_hz or max(clocks))
    assert min(clocks) > 0.2e9
