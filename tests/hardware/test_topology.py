"""The topology of recorded and invented machines: what they share, which teams they allow, what is left unknown."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from fake_machines import MACHINES, FakeCpu, FakeMachine

from microbench.hardware import extensions, topology
from microbench.hardware.placement import scaling
from microbench.hardware.procfs import Machine, cpu_list, cpu_text
from microbench.records import Topology


@pytest.fixture(params=[name for name, machine in MACHINES.items() if machine.has_sys])
def described(request: pytest.FixtureRequest) -> tuple[FakeMachine, Topology]:
    machine = MACHINES[request.param]
    return machine, machine.topology()


def teams(name: str) -> dict[tuple[str, int], str]:
    """Placements of a machine without those of the scaling curve: name and threads, and their CPUs."""
    told = MACHINES[name].topology()
    return {(each.name, each.threads): cpu_text(each.cpus) for each in told.placements if each.name != "scale"}


def test_the_cpus_are_those_that_are_switched_on(described: tuple[FakeMachine, Topology]) -> None:
    machine, told = described
    assert [cpu.number for cpu in told.cpus] == sorted(cpu.number for cpu in machine.cpus if cpu.online)
    assert list(told.offline) == [cpu.number for cpu in machine.cpus if not cpu.online]
    assert [cpu.number for cpu in told.usable()] == machine.usable


@pytest.mark.parametrize("what", ["core", "l3", "socket", "node"])
def test_cpus_share_what_the_machine_says(what: str, described: tuple[FakeMachine, Topology]) -> None:
    machine, told = described
    online = {cpu.number: cpu for cpu in machine.cpus if cpu.online}

    def key(cpu: FakeCpu) -> object:
        return (cpu.socket, cpu.core) if what == "core" else getattr(cpu, what)

    seen = {getattr(cpu, what): set[object]() for cpu in told.cpus}
    for cpu in told.cpus:
        seen[getattr(cpu, what)].add(key(online[cpu.number]))
    assert all(len(keys) == 1 for keys in seen.values())
    assert len(seen) == len({key(cpu) for cpu in online.values()})


def test_cpuid_tells_the_same_where_there_is_no_sys() -> None:
    machine = MACHINES["no /sys, cpuid only"]
    told = machine.topology()
    assert Counter(cpu.core for cpu in told.cpus) == dict.fromkeys(range(8), 2)
    assert Counter(cpu.l3 for cpu in told.cpus) == {0: 8, 4: 8}
    assert not told.doubts


def test_what_nobody_tells_is_unknown_and_said() -> None:
    told = MACHINES["nothing is told"].topology()
    assert {(cpu.core, cpu.l1, cpu.l3, cpu.socket, cpu.node, cpu.kind) for cpu in told.cpus} == {(None,) * 6}
    assert "which CPUs share a core" in told.doubts[0]
    assert [(each.name, each.threads, each.cores) for each in told.placements] == [("core", 1, None), ("all", 8, None)]


def test_two_sockets_with_siblings_have_every_placement() -> None:
    assert teams("two sockets of 64 cores, siblings at +128") == {
        ("core", 1): "0",
        ("all", 256): "0-255",
        ("cores", 128): "0-127",
        ("siblings", 2): "0,128",
        ("socket", 64): "0-63",
    }


def test_eight_l3_domains_are_one_socket_and_one_of_them_a_placement() -> None:
    assert teams("Zen of eight L3, siblings at +64") == {
        ("core", 1): "0",
        ("all", 128): "0-127",
        ("cores", 64): "0-63",
        ("siblings", 2): "0,64",
        ("l3", 8): "0-7",
    }


def test_each_kind_of_a_hybrid_has_its_own_core_and_cores() -> None:
    assert teams("hybrid of 8 and 16") == {
        ("core", 1): "0",
        ("all", 32): "0-31",
        ("cores", 24): "0,2,4,6,8,10,12,14,16-31",
        ("performance_cores", 8): "0,2,4,6,8,10,12,14",
        ("efficiency_core", 1): "16",
        ("efficiency_cores", 16): "16-31",
        ("siblings", 2): "0-1",
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("one CPU", {("core", 1): "0"}),
        ("this one", {("core", 1): "0", ("all", 2): "0-1"}),
        ("64 cores of one thread, one L3", {("core", 1): "0", ("all", 64): "0-63"}),
        ("a container on half of the siblings", {("core", 1): "0", ("all", 8): "0,2,4,6,8,10,12,14"}),
        (
            "adjacent siblings, one core whole and one half",
            {("core", 1): "0", ("all", 3): "0-2", ("cores", 2): "0,2", ("siblings", 2): "0-1"},
        ),
        (
            "big and little by capacity",
            {
                ("core", 1): "4",
                ("all", 8): "0-7",
                ("performance_cores", 4): "4-7",
                ("efficiency_core", 1): "0",
                ("efficiency_cores", 4): "0-3",
            },
        ),
        (
            "four nodes, a CPU switched off",
            {("core", 1): "0", ("all", 31): "0-12,14-31", ("socket", 8): "0-7"},
        ),
    ],
)
def test_equal_placements_are_one(name: str, expected: dict[tuple[str, int], str]) -> None:
    assert teams(name) == expected


def test_no_placement_has_a_cpu_that_is_not_ours_or_one_twice(described: tuple[FakeMachine, Topology]) -> None:
    machine, told = described
    sets = [frozenset(each.cpus) for each in told.placements]
    assert len(set(sets)) == len(sets)
    assert len({(each.word, each.threads) for each in told.placements}) == len(sets)
    for each in told.placements:
        assert len(set(each.cpus)) == len(each.cpus)
        assert set(each.cpus) <= set(machine.usable)


def test_the_scaling_curve_takes_one_thread_a_core_and_ends_with_all_cores(
    described: tuple[FakeMachine, Topology],
) -> None:
    _, told = described
    curve = scaling(told)
    assert curve[0].threads == 1
    assert all(part.per_core == 1 for each in curve for part in each.parts)
    assert all(set(few.cpus) < set(more.cpus) for few, more in zip(curve, curve[1:], strict=False))
    fast = {cpu.core for cpu in told.usable() if cpu.kind == told.usable()[0].kind or cpu.kind == "performance"}
    assert curve[-1].threads == len(
        {cpu.core for cpu in told.usable() if cpu.core in fast and cpu.kind != "efficiency"}
    )
    wanted = {2**i for i in range(20) if 2**i <= curve[-1].threads}
    assert wanted <= {each.threads for each in curve}


def test_threads_spread_over_the_caches_of_a_socket_before_the_next_socket() -> None:
    told = MACHINES["more than 1024 CPUs, a node of memory alone"].topology()
    cpus = {cpu.number: cpu for cpu in told.cpus}
    eight = told.placement("scale", 8)
    assert eight is not None
    assert len({cpus[number].l3 for number in eight.cpus}) == 8
    assert {cpus[number].socket for number in eight.cpus} == {0}


def test_an_offline_cpu_and_shared_cores_are_told() -> None:
    assert MACHINES["four nodes, a CPU switched off"].topology().doubts == ("1 CPUs are switched off, first CPU 13",)
    doubts = MACHINES["a container on half of the siblings"].topology().doubts
    assert len(doubts) == 1
    assert doubts[0].startswith("8 CPUs that this process may not use are siblings of cores that it may, first CPU 1:")


def test_memory_without_cpus_is_a_node() -> None:
    told = MACHINES["more than 1024 CPUs, a node of memory alone"].topology()
    assert [node.number for node in told.nodes if not node.cpus] == [16]
    assert len(told.nodes) == 17


def test_each_kind_of_core_has_its_own_caches() -> None:
    told = MACHINES["hybrid of 8 and 16"].topology()
    second = {core.kind: {level.name: level for level in core.levels}["L2"] for core in told.cores}
    assert [core.kind for core in told.cores] == ["performance", "efficiency"]
    assert (second["performance"].capacity_bytes, second["performance"].shared_by) == (2 * 2**20, 2)
    assert (second["efficiency"].capacity_bytes, second["efficiency"].shared_by) == (4 * 2**20, 4)


def test_cores_that_turbo_favours_are_of_one_kind() -> None:
    assert topology.by_capacity({0: 1024, 1: 1000, 2: 950}) == {}
    assert topology.by_capacity({0: 512, 1: 512}) == {}
    assert set(topology.by_capacity({0: 512, 1: 1024}).values()) == {"efficiency", "performance"}


def test_lists_of_the_system_that_leave_out_the_cpu_itself_are_not_believed(tmp_path: Path) -> None:
    folder = tmp_path / "sys/devices/system/cpu/cpu0/topology"
    folder.mkdir(parents=True)
    (folder / "core_cpus_list").write_text("4-5\n", encoding="ascii")
    (folder / "physical_package_id").write_text("-1\n", encoding="ascii")
    told = topology.probe(Machine(tmp_path), [0], lambda _cpus: [])
    assert (told.cpus[0].core, told.cpus[0].socket) == (None, None)


def test_this_machine_tells_its_own_cpus() -> None:
    native = extensions.cpu()
    allowed = native.topology()["cpus"]
    told = topology.probe(Machine(), allowed, native.places)
    assert list(told.allowed) == allowed
    assert {cpu.number for cpu in told.usable()} == set(allowed)
    assert {row["cpu"] for row in native.places(allowed)} <= set(allowed)
    every = told.placement(None, len(allowed))
    assert every is not None
    assert sorted(every.cpus) == allowed


def test_spelling_and_reading_lists_of_cpus_are_inverse() -> None:
    numbers = [0, 1, 2, 7, 9, 10, 2047]
    assert cpu_list(cpu_text(numbers)) == numbers
