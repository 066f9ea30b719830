"""Scaling, matrices and loaded latency from invented samples of invented machines, and what contradicts the system."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import pytest
from fake_machines import MACHINES

from microbench.analysis.multicore import clusters, multicore
from microbench.analysis.multicore_findings import multicore_findings
from microbench.hardware.placement import scaling
from microbench.hardware.procfs import cpu_list
from microbench.measure import placements
from microbench.measure.matrices import MOST_PAIRS, candidates, pairs
from microbench.records import (
    Case,
    Ceiling,
    Cost,
    CpuPair,
    Device,
    Estimate,
    LoadedPoint,
    Multicore,
    Samples,
    Sheet,
    Topology,
    Work,
)

ZEN = "Zen of eight L3, siblings at +64"
LINE = Sheet(name="core_to_core", measures="cost", backend="native", device_kind="cpu", says="", roles=("transfer",))
CHASE = Sheet(
    name="chase",
    measures="latency",
    backend="native",
    device_kind="cpu",
    says="",
    loads=32,
    params=("working_set", "pages"),
)
READ = Sheet(
    name="read.f32.v256",
    measures="memory",
    backend="native",
    device_kind="cpu",
    says="",
    dtype="f32",
    access="read",
    family="read",
    access_bytes=32,
    work=Work(bytes_read=1024),
    params=("working_set", "pages", "streams", "cold"),
)
LOADED = (
    replace(CHASE, name="loaded.latency", roles=("loaded",)),
    replace(READ, name="loaded.bandwidth", roles=("loaded",), family=""),
)


def exact(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def sampled(case: Case, seconds: float) -> list[Samples]:
    """Three rounds of one case; seconds of one iteration, the first round disturbed."""
    return [
        Samples(case=case.key, round=i, started_s=i, iterations=1000, ns=(round(seconds * 1e12 * slow),), count=1)
        for i, slow in enumerate((1.5, 1.0, 1.0))
    ]


def seen(
    device: Device, sheets: tuple[Sheet, ...], seconds: Callable[[Case], float], budget: str = "thorough"
) -> Multicore:
    cases = {case.key: case for case, _ in candidates(device, sheets, 1 << 40, budget, 0)}
    samples = [sample for case in cases.values() for sample in sampled(case, seconds(case))]
    found = multicore(samples, cases, {sheet.name: sheet for sheet in sheets}, [], device)
    assert found is not None
    return found


def told(device: Device) -> Topology:
    assert device.topology is not None
    return device.topology


def transfers(device: Device, near: float, far: float, together: Callable[[int], object]) -> Multicore:
    """Core-to-core latencies of a machine whose CPUs are near where ``together`` gives them one value."""

    def seconds(case: Case) -> float:
        first, second = (int(word) for word in str(case.placement).split(","))
        return 2 * (near if together(first) == together(second) else far)

    return seen(device, (LINE,), seconds)


def codes(found: Multicore, device: Device) -> set[str]:
    memory = Cost(name="load_to_use.DRAM", level="DRAM", seconds=exact(100e-9))
    return {finding.code for finding in multicore_findings(found, [memory], device)} - {"topology", "no-l3-row"}


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("budget", list(MOST_PAIRS))
def test_pairs_are_all_or_a_sample_of_bounded_size(name: str, budget: str) -> None:
    topology = MACHINES[name].topology()
    chosen = pairs(topology, MOST_PAIRS[budget], 0)
    assert len(chosen) == len(set(chosen)) <= MOST_PAIRS[budget]
    assert all(first < second for first, second in chosen)
    assert {cpu for pair in chosen for cpu in pair} <= set(topology.allowed)
    cores = {cpu.core for cpu in topology.usable()}
    if None not in cores and len(cores) * (len(cores) - 1) // 2 < MOST_PAIRS[budget]:
        core = {cpu.number: cpu.core for cpu in topology.usable()}
        between = {frozenset((core[first], core[second])) for first, second in chosen} - {
            frozenset((one,)) for one in cores
        }
        assert between == {frozenset(two) for two in combinations(cores, 2)}


def test_a_sample_of_pairs_has_siblings_every_cache_and_one_cache_whole() -> None:
    topology = MACHINES[ZEN].topology()
    chosen = pairs(topology, 96, 0)
    assert chosen[0] == (0, 64)
    firsts = range(0, 64, 8)
    assert set(chosen) >= {*combinations(firsts, 2), *combinations(range(8), 2)}


def test_half_of_there_and_back_is_the_latency_and_the_best_round_counts() -> None:
    device = MACHINES["this one"].device()
    found = transfers(device, 20e-9, 200e-9, lambda cpu: 0).core_to_core
    assert found is not None
    assert found.complete
    assert [(pair.first, pair.second, pair.seconds.value) for pair in found.pairs] == [(0, 1, pytest.approx(20e-9))]
    assert found.pairs[0].seconds.high == pytest.approx(30e-9)
    assert found.clusters == ()


def test_a_line_that_takes_longer_than_main_memory_contradicts_a_shared_cache() -> None:
    device = MACHINES["this one"].device()
    assert codes(transfers(device, 200e-9, 200e-9, lambda cpu: 0), device) == {"l3-not-shared"}
    assert codes(transfers(device, 40e-9, 40e-9, lambda cpu: 0), device) == set()
    idle = LoadedPoint(streams=0, latency=exact(35e-9))
    assert codes(replace(transfers(device, 40e-9, 40e-9, lambda cpu: 0), loaded=(idle,)), device) == {"l3-not-shared"}


def test_cores_that_are_near_across_caches_are_told_too() -> None:
    device = MACHINES["no /sys, cpuid only"].device()
    assert codes(transfers(device, 25e-9, 80e-9, lambda cpu: cpu % 8 // 4), device) == set()
    assert codes(transfers(device, 25e-9, 25e-9, lambda cpu: 0), device) == {"l3-shared"}


def test_clusters_are_told_apart_at_the_widest_gap() -> None:
    device = MACHINES["no /sys, cpuid only"].device()
    found = transfers(device, 25e-9, 80e-9, lambda cpu: cpu % 8 // 4)
    assert found.core_to_core is not None
    assert found.core_to_core.complete
    assert found.core_to_core.clusters == ((0, 1, 2, 3), (4, 5, 6, 7))


def test_clusters_that_are_no_cache_of_the_systems_are_a_finding() -> None:
    device = MACHINES["64 cores of one thread, one L3"].device()
    device = replace(device, topology=replace(told(device), allowed=tuple(range(8))))
    assert codes(transfers(device, 25e-9, 60e-9, lambda cpu: cpu // 4), device) == {"clusters"}


def test_without_a_gap_there_is_no_cluster() -> None:
    even = [CpuPair(first=a, second=b, seconds=exact(50e-9 + 1e-9 * b)) for a, b in combinations(range(6), 2)]
    assert clusters(even) == ()
    assert clusters([]) == ()


def test_a_machine_of_one_node_has_no_node_matrix_and_one_of_four_has_sixteen_entries() -> None:
    assert seen(MACHINES[ZEN].device(), (CHASE, READ), lambda _case: 1e-6).nodes == ()
    device = MACHINES["four nodes, a CPU switched off"].device()

    def seconds(case: Case) -> float:
        home = cpu_list(str(case.placement))[0] // 8
        return (1 if case.params["node"] == home else 2) * (32 * 90e-9 if case.kernel == "chase" else 1e-7)

    found = seen(device, (CHASE, READ), seconds)
    assert len(found.nodes) == 16
    local, remote = found.nodes[0], found.nodes[1]
    assert (local.cpu_node, local.memory_node, remote.memory_node) == (0, 0, 1)
    assert local.latency is not None
    assert remote.latency is not None
    assert local.bandwidth is not None
    assert (local.latency.value, remote.latency.value) == (pytest.approx(90e-9), pytest.approx(180e-9))
    assert local.bandwidth.value == pytest.approx(8 * 1024 / 1e-7)
    second = next(pair for pair in found.nodes if (pair.cpu_node, pair.memory_node) == (1, 1))
    assert second.bandwidth is not None
    assert second.bandwidth.value == pytest.approx(7 * 1024 / 1e-7)  # one of its CPUs is switched off


def test_loaded_latency_is_a_curve_over_the_streams_beside_the_chase() -> None:
    device = MACHINES[ZEN].device()
    found = seen(
        device,
        LOADED,
        lambda case: 32 * 1e-9 * (100 + case.threads) if case.kernel == "loaded.latency" else 1e-7,
    ).loaded
    assert [point.streams for point in found] == [0, 1, 3, 7, 15, 31, 63]
    assert [point.latency.value for point in found] == sorted(point.latency.value for point in found)
    assert found[0].bandwidth is None
    assert found[3].bandwidth == pytest.approx(7 * 1024 / 1e-7)


def test_a_scaling_curve_saturates_where_nine_tenths_of_the_highest_rate_are_reached() -> None:
    device = MACHINES[ZEN].device()
    ceilings = [
        Ceiling(
            name="read.f32.v256.DRAM",
            measures="memory",
            backend="native",
            level="DRAM",
            access="read",
            rate=exact(min(20e9 * team.threads, 150e9 + team.threads)),
            case=placements.case(READ, team).key,
            threads=team.threads,
            placement=team.word,
        )
        for team in scaling(told(device))
    ]
    found = multicore([], {}, {}, ceilings, device)
    assert found is not None
    (curve,) = found.scaling
    assert [point.cores for point in curve.points] == [1, 2, 4, 8, 16, 32, 64]
    assert curve.saturated_at == 8


def test_one_core_and_all_cores_have_their_clocks_beside_each_other() -> None:
    device = MACHINES["this one"].device()
    both = [
        Ceiling(
            name="fma.f32.v256",
            measures="compute",
            backend="native",
            variant="v256",
            rate=exact(1e9),
            case=f"fma.f32.v256[]@{threads}",
            threads=threads,
            clock_hz=hertz,
        )
        for threads, hertz in ((1, 3.6e9), (2, 3.2e9))
    ]
    found = multicore([], {}, {}, both, device)
    assert found is not None
    assert [(each.variant, each.one_core_hz, each.all_cores_hz) for each in found.clocks] == [("v256", 3.6e9, 3.2e9)]


def test_a_last_cache_that_all_cores_cannot_be_measured_in_is_told() -> None:
    device = MACHINES["two sockets of 64 cores, siblings at +128"].device()
    assert "no-l3-row" in {finding.code for finding in multicore_findings(None, [], device)}
    assert "no-l3-row" not in {finding.code for finding in multicore_findings(None, [], MACHINES[ZEN].device())}


def test_a_device_without_a_topology_has_nothing_of_all_this() -> None:
    plain = Device(id="1", kind="cpu", name="x", arch="zen3")
    assert multicore([], {}, {}, [], plain) is None
    assert multicore_findings(None, [], plain) == []
    assert list(candidates(plain, (LINE, CHASE), 1 << 40, "default", 0)) == []
