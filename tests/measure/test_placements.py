"""What is planned on which CPUs of recorded and invented machines, and what bounds it there."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import pytest
from fake_backend import fake_kernel
from fake_machines import MACHINES

from microbench.analysis.levels import level_of_case
from microbench.hardware.nominal import described
from microbench.hardware.placement import as_seen_by, cores_of, cpus_of, nominal_of, sharers
from microbench.kernels import Kernel, cpu
from microbench.measure import placements
from microbench.measure.matrices import MOST_NODE_PAIRS, MOST_PAIRS
from microbench.measure.plan import BUDGETS, Resources, Selection, make_plan
from microbench.records import Case, Device, Sheet, Work

GIB = 2**30
KIB = 2**10
FMA = Sheet(
    name="fma.f32.v256",
    measures="compute",
    backend="native",
    device_kind="cpu",
    says="",
    unit="vector",
    dtype="f32",
    lanes=8,
    ports="fma.v256",
    work=Work(flop=16),
)


@pytest.fixture(params=list(MACHINES))
def device(request: pytest.FixtureRequest) -> Device:
    return MACHINES[request.param].device()


def kernels() -> dict[str, Kernel]:
    """Every kernel of this build, as if the machine had all instruction sets."""
    made = fake_kernel("fake.f32")
    return {each.name: replace(made, sheet=replace(each, unavailable=None)) for each in cpu.sheets()}


def planned(device: Device, budget: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Case, ...]:
    assert device.topology is not None
    here = Resources(threads=len(device.topology.allowed), memory_bytes=512 * GIB)
    monkeypatch.setattr(Resources, "here", lambda: here)
    return make_plan(device, kernels(), Selection(), BUDGETS[budget]).cases


def sets(device: Device, name: str) -> dict[str, tuple[int, ...]]:
    assert device.topology is not None
    team = next(each for each in device.topology.placements if each.name == name)
    return placements.working_sets(team, device, 512 * GIB, len(device.topology.allowed)).levels


@pytest.mark.parametrize("budget", ["quick", "default"])
def test_a_plan_is_bounded_by_the_placements_and_not_by_the_cpus(
    device: Device, budget: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert device.topology is not None
    started = time.perf_counter()
    cases = planned(device, budget, monkeypatch)
    took = time.perf_counter() - started
    usual = [case for case in cases if case.placement is None]
    assert len(device.topology.placements) <= 20
    named = [case for case in cases if case.on_named_cpus]
    assert len(named) <= MOST_PAIRS[budget] + 2 * MOST_NODE_PAIRS[budget]
    count = Counter(case.placement for case in cases if not case.on_named_cpus)
    assert all(each <= 60 for word, each in count.items() if word not in (None, "scale"))
    steps = [each for each in device.topology.placements if each.name == "scale"]
    assert count["scale"] <= 6 * len(steps)
    assert len(usual) <= 1000
    assert took < 30, (
        "a plan of thousands of cases takes far below a second; this only catches one that grows with CPUs"
    )


def test_every_case_has_cpus_of_its_own(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.topology is not None
    for case in planned(device, "quick", monkeypatch):
        cpus = cpus_of(case, device)
        assert cpus is not None
        assert len(cpus) == len(set(cpus)) == case.threads
        assert set(cpus) <= set(device.topology.allowed)


def test_one_core_and_all_cpus_keep_their_keys(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.topology is not None
    every = len(device.topology.allowed)
    for case in planned(device, "default", monkeypatch):
        suffix = case.key.rpartition("@")[2].partition(":")[0]
        assert suffix == (str(case.threads) if case.placement is None else f"{case.threads}/{case.placement}")
        assert case.placement is not None or case.threads in (1, every)


def test_narrow_variants_stay_on_one_core_and_on_all_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = planned(MACHINES["two sockets of 64 cores, siblings at +128"].device(), "default", monkeypatch)
    cases = tuple(case for case in cases if not case.on_named_cpus)
    narrow = {case.placement for case in cases if ".v128" in case.kernel or "scalar" in case.kernel}
    widest = {case.placement for case in cases if case.kernel in ("fma.f32.v512", "read.f32.v512")}
    if any(".v512" in case.kernel for case in cases):
        assert narrow == {None}
        assert widest == {None, "cores", "siblings", "socket", "scale"}


# Cores' worth of work of each placement.
CORES = {
    "two sockets of 64 cores, siblings at +128": {
        ("core", 1): 1,
        ("all", 256): 128,
        ("cores", 128): 128,
        ("siblings", 2): 1,
        ("socket", 64): 64,
    },
    "Zen of eight L3, siblings at +64": {("all", 128): 64, ("cores", 64): 64, ("l3", 8): 8, ("siblings", 2): 1},
    "64 cores of one thread, one L3": {("core", 1): 1, ("all", 64): 64},
    "one CPU": {("core", 1): 1},
    "this one": {("core", 1): 1, ("all", 2): 2},
    "four nodes, a CPU switched off": {("all", 31): 31, ("socket", 8): 8},
    "a container on half of the siblings": {("core", 1): 1, ("all", 8): 8},
    # Two threads of three share a core, and the third waits for them.
    "adjacent siblings, one core whole and one half": {("all", 3): 1.5, ("cores", 2): 2, ("siblings", 2): 1},
    "no /sys, cpuid only": {("all", 16): 8, ("cores", 8): 8, ("l3", 4): 4},
}


@pytest.mark.parametrize("name", CORES)
def test_nominal_counts_cores_and_not_threads(name: str) -> None:
    told = replace(MACHINES[name].device(), arch="zen3")
    assert told.topology is not None
    for (word, threads), cores in CORES[name].items():
        place = next(each for each in told.topology.placements if (each.name, each.threads) == (word, threads))
        case = Case(kernel="fma.f32.v256", threads=threads, placement=place.word)
        assert cores_of(case, told) == cores
        assert nominal_of(FMA, case, told, 3e9) == pytest.approx(cores * 2 * 8 * 2 * 3e9)


def test_nominal_is_unknown_where_nobody_tells_which_cpus_share_a_core() -> None:
    told = replace(MACHINES["nothing is told"].device(), arch="zen3")
    assert nominal_of(FMA, Case(kernel="fma.f32.v256", threads=1), told, 3e9) is None
    assert nominal_of(FMA, Case(kernel="fma.f32.v256", threads=8), told, 3e9) is None


def test_the_slowest_kind_of_core_bounds_equal_shares_on_all() -> None:
    told = MACHINES["hybrid of 8 and 16"].device()
    assert told.topology is not None
    fast, slow = told.topology.cores
    cores = (replace(fast, arch="golden_cove"), replace(slow, arch="zen"))
    told = replace(told, topology=replace(told.topology, cores=cores))

    def nominal(word: str | None, threads: int) -> float | None:
        return nominal_of(FMA, Case(kernel="fma.f32.v256", threads=threads, placement=word), told, 1e9)

    one_fast, one_slow = nominal(None, 1), nominal("efficiency_core", 1)
    assert one_fast
    assert one_slow
    assert nominal("performance_cores", 8) == pytest.approx(8 * one_fast)
    assert nominal("efficiency_cores", 16) == pytest.approx(16 * one_slow)
    assert nominal("siblings", 2) == pytest.approx(one_fast)
    assert nominal("cores", 24) == pytest.approx(24 * min(one_fast, one_slow))
    assert nominal(None, 32) == pytest.approx(32 * min(one_fast / 2, one_slow))


def test_without_a_topology_every_thread_counts_as_a_core() -> None:
    plain = Device(id="1", kind="cpu", name="x", arch="zen3")
    assert nominal_of(FMA, Case(kernel="fma.f32.v256", threads=4), plain, 1e9) == pytest.approx(4 * 32e9)
    assert [sharers(Case(kernel="x", threads=4), plain, level) for level in ("L1", "L2", "L3")] == [1, 1, 4]


@pytest.mark.parametrize("name", MACHINES)
def test_what_threads_walk_through_fits_the_caches_that_they_share(name: str) -> None:
    told = MACHINES[name].device()
    assert told.topology is not None
    for team in told.topology.placements:
        own = as_seen_by(team, told)
        sweep = placements.working_sets(team, told, 512 * GIB, len(told.topology.allowed))
        for level, sizes in sweep.levels.items():
            capacity = own.level(level)
            if capacity is None:  # nobody tells how large it is, and the sweep looks for it
                assert all(size * team.threads <= sweep.largest for size in sizes)
                continue
            assert all(size <= (capacity.capacity_bytes or 0) for size in sizes)
            if level == "L3":
                before = own.level("L2")
                assert before is not None
                assert all(size + 4 * KIB > 2 * (before.capacity_bytes or 0) for size in sizes)


def test_siblings_halve_the_sets_of_a_cores_own_caches() -> None:
    told = MACHINES["Zen of eight L3, siblings at +64"].device()
    assert [size // KIB for size in sets(told, "core")["L1"]] == [24, 16]
    assert [size // KIB for size in sets(told, "siblings")["L1"]] == [12, 8]
    assert [size // KIB for size in sets(told, "cores")["L1"]] == [24, 16]
    assert [size // KIB for size in sets(told, "all")["L1"]] == [12, 8]


@pytest.mark.parametrize(
    ("name", "placement", "possible"),
    [
        ("Zen of eight L3, siblings at +64", "cores", True),
        ("Zen of eight L3, siblings at +64", "all", True),
        ("Zen of eight L3, siblings at +64", "l3", True),
        ("this one", "all", True),
        # 105 MiB among 64 cores of 2 MiB of L2 each: what does not fit L2 twice does not fit L3 either.
        ("two sockets of 64 cores, siblings at +128", "cores", False),
        ("two sockets of 64 cores, siblings at +128", "core", True),
        ("64 cores of one thread, one L3", "all", False),
    ],
)
def test_the_last_cache_has_a_row_of_all_cores_where_their_shares_exceed_twice_the_level_before(
    name: str, placement: str, possible: bool
) -> None:
    told = MACHINES[name].device()
    assert bool(sets(told, placement)["L3"]) is possible


@pytest.mark.parametrize("name", ["Zen of eight L3, siblings at +64", "this one", "hybrid of 8 and 16"])
def test_a_planned_set_belongs_to_the_level_that_it_was_planned_for(name: str) -> None:
    told = MACHINES[name].device()
    assert told.topology is not None
    for team in told.topology.placements:
        for level, sizes in sets(told, team.name).items() if team.name != "scale" else ():
            for size in sizes:
                case = Case(kernel="read.f32", params={"working_set": size}, threads=team.threads, placement=team.word)
                assert level_of_case(case, [], told) == level


def test_a_hybrid_is_described_kind_by_kind() -> None:
    told = MACHINES["hybrid of 8 and 16"].device()
    assert told.topology is not None
    fast, slow = told.topology.cores
    cores = (replace(fast, arch="golden_cove"), replace(slow, arch="zen"))
    told = replace(told, features=("avx2", "fma", "sse2"), topology=replace(told.topology, cores=cores))
    said = described(told)
    assert (said.facts["performance: cores"], said.facts["efficiency: cores"]) == ("8", "16")
    rates = {row.name: row.per_cycle for row in said.rows}
    assert rates["vector 256 bit f32, performance cores"] == 8 * 2 * 8 * 2
    assert rates["vector 256 bit f32, efficiency cores"] == 16 * 1 * 8 * 2
