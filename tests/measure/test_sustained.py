"""What is measured for long: which cases, over which sets, how often and how long a sample."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from fake_backend import FakeRun, fake_device, fake_kernel

from microbench.hardware.clock import SUSTAINED_SAMPLE_S
from microbench.measure import sustained
from microbench.measure.loop import Loop
from microbench.measure.sustained import Circle, candidates, left_out
from microbench.records import Budget, Case, Device, MemoryLevel, Plan, Samples, Sheet, Work

KIB, MIB, GIB = 2**10, 2**20, 2**30
STREAM = ("working_set", "pages", "streams", "prefetch", "cold")


def machine(l3: int | None, shared_by: int | None, l2: int = MIB) -> Device:
    levels = [
        MemoryLevel(name="L1", capacity_bytes=32 * KIB, shared_by=1),
        MemoryLevel(name="L2", capacity_bytes=l2, shared_by=1),
        *([MemoryLevel(name="L3", capacity_bytes=l3, shared_by=shared_by)] if l3 else []),
        MemoryLevel(name="DRAM"),
    ]
    return fake_device(levels=tuple(levels))


# Last cache of one domain, CPUs that share it, threads, free memory.
MACHINES = {
    "one vCPU": (machine(32 * MIB, 1), 1, 2 * GIB),
    "laptop": (machine(12 * MIB, 8), 8, 6 * GIB),
    "eight complexes": (machine(32 * MIB, 16), 128, 256 * GIB),
    "two sockets": (machine(54 * MIB, 128), 256, 512 * GIB),
    "stacked cache": (machine(96 * MIB, 16), 16, 64 * GIB),
    "no third level": (machine(None, None, l2=2 * MIB), 64, 128 * GIB),
    "levels untold": (fake_device(levels=(MemoryLevel(name="DRAM"),)), 4, 8 * GIB),
}


@pytest.mark.parametrize("name", MACHINES)
def test_a_set_outgrows_all_last_caches_of_its_team_several_times_and_leaves_most_memory(name: str) -> None:
    device, threads, memory = MACHINES[name]
    for team in {1, threads}:
        circle = Circle.of(device, team, memory)
        assert circle.each is not None
        assert circle.each * team >= 4 * circle.cache_bytes
        assert circle.each * team >= 64 * MIB
        assert 5 * circle.each * team < memory / 2


def test_caches_of_domains_add_up_for_a_team_and_not_for_one_thread() -> None:
    device, threads, memory = MACHINES["eight complexes"]
    assert Circle.of(device, 1, memory).cache_bytes == 32 * MIB
    assert Circle.of(device, threads, memory).cache_bytes == 8 * 32 * MIB


def test_where_memory_is_short_nothing_is_measured_rather_than_a_cache_and_a_finding_says_so() -> None:
    device = machine(96 * MIB, 16)
    assert Circle.of(device, 16, 4 * GIB).each is None
    assert not [case for case, level in candidates(device, sheets(), 16, 4 * GIB, "default") if level == "DRAM"]
    finding = left_out(device, 16, 4 * GIB)
    assert finding is not None
    assert "96 MiB" in finding.says
    assert left_out(device, 16, 64 * GIB) is None


def sheets() -> list[Sheet]:
    made = [fake_kernel(f"fma.f32.{width}", unit="vector", lanes=lanes) for width, lanes in (("v128", 4), ("v256", 8))]
    for width, bytes_ in (("v128", 16), ("v256", 32)):
        for access in ("read", "write", "copy", "triad"):
            facts = {
                "measures": "memory",
                "unit": "vector",
                "access": access,
                "family": access,
                "access_bytes": bytes_,
                "params": STREAM,
                "work": Work(bytes_read=1024),
            }
            made.append(fake_kernel(f"{access}.f32.{width}", roles=("ceiling", "roof"), **facts))
            if access != "read":
                made.append(fake_kernel(f"{access}.f32.{width}_nt", roles=("dram_ceiling", "roof"), **facts))
        for fmas in (1, 2, 4, 8, 16, 32, 64):
            mixed = {"measures": "intensity", "access_bytes": bytes_, "loads": 4, "math": 4 * fmas, "params": STREAM}
            made.append(fake_kernel(f"intensity.f32.{width}.x{fmas}", **mixed))
    return [kernel.sheet for kernel in made]


def planned(budget: str, threads: int = 2) -> list[Case]:
    return [case for case, _ in candidates(machine(32 * MIB, 2), sheets(), threads, 32 * GIB, budget)]


def kernels(cases: Iterable[Case], threads: int) -> set[str]:
    return {case.kernel for case in cases if case.threads == threads}


@pytest.mark.parametrize("budget", ["quick", "default", "thorough"])
def test_every_case_is_sustained_and_none_evicts_first(budget: str) -> None:
    cases = planned(budget)
    assert cases
    assert all(case.mode == "sustained" and "cold" not in case.params for case in cases)
    assert len({case.key for case in cases}) == len(cases)


def test_a_quick_run_reads_and_copies_with_all_threads_only() -> None:
    assert kernels(planned("quick"), 2) == {"read.f32.v256", "copy.f32.v256_nt"}
    assert not kernels(planned("quick"), 1)


def test_all_threads_store_past_the_caches_and_one_core_both_ways() -> None:
    cases = planned("thorough")
    streams = {name for name in kernels(cases, 2) if name.split(".")[0] in ("write", "copy", "triad")}
    assert streams == {"write.f32.v256_nt", "copy.f32.v256_nt", "triad.f32.v256_nt"}
    assert {"write.f32.v256", "write.f32.v256_nt"} <= kernels(cases, 1)


def test_intensities_lie_on_both_sides_of_any_ridge_and_leave_prefetching_to_the_hardware() -> None:
    mixed = [case for case in planned("default") if case.kernel.startswith("intensity")]
    assert [case.kernel.rpartition(".x")[2] for case in mixed] == ["2", "4", "8", "16", "64"]
    assert all(case.params["prefetch"] == 0 and case.threads == 2 for case in mixed)


def test_arithmetic_lasts_on_the_widest_multiply_add_of_all_threads() -> None:
    assert {case.key for case in planned("default") if case.kernel.startswith("fma")} == {"fma.f32.v256[]@2:sustained"}


class Notes:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.samples: list[Samples] = []

    def sampled(self, samples: Samples) -> None:
        self.samples.append(samples)

    def progressed(self, case: Case, round_index: int, best: float) -> None:
        pass


@pytest.mark.parametrize("min_rounds", [3, 6, 12])
def test_a_sustained_case_has_one_long_sample_in_few_rounds_spread_over_those_of_the_others(min_rounds: int) -> None:
    runs: list[FakeRun] = []
    kernel = fake_kernel("fma.f32", lambda _call: 1e-6, runs)
    short, long = Case(kernel="fma.f32"), Case(kernel="fma.f32", mode="sustained")
    budget = Budget(time_limit_s=5.0, min_rounds=min_rounds, max_rounds=30, sample_s=1e-3, samples=4, warmup_s=0.0)
    notes = Notes()
    loop = Loop(fake_device(), {"fma.f32": kernel}, Plan(cases=(short, long), budget=budget), notes)
    loop.run((short, long), 1e9, min_rounds)
    loop.close()
    lasting = [samples for samples in notes.samples if samples.case == long.key]
    assert [samples.count for samples in lasting] == [1] * sustained.ROUNDS
    assert all(min(samples.ns) >= 0.9e9 * SUSTAINED_SAMPLE_S for samples in lasting)
    assert min_rounds / 2 <= lasting[-1].round < min_rounds
    burst = [samples for samples in notes.samples if samples.case == short.key]
    assert len(burst) >= min_rounds
    assert all(max(samples.ns) < 1e7 for samples in burst)


def test_a_plan_of_sustained_cases_alone_ends_before_its_time() -> None:
    kernel = fake_kernel("fma.f32", lambda _call: 1e-6)
    case = Case(kernel="fma.f32", mode="sustained")
    budget = Budget(time_limit_s=100.0, min_rounds=6, max_rounds=60)
    notes = Notes()
    loop = Loop(fake_device(), {"fma.f32": kernel}, Plan(cases=(case,), budget=budget), notes)
    loop.run((case,), 1e9, budget.min_rounds)
    loop.close()
    assert len(notes.samples) == sustained.ROUNDS
    assert loop.round < budget.max_rounds
