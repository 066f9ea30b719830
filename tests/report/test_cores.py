"""The table of cores together: what it says of invented machines, and that older files have none."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

from fake_characterisation import characterisation
from fake_machines import MACHINES
from rich.console import Console

from microbench.records import (
    Ceiling,
    Characterisation,
    CoreToCore,
    CpuPair,
    Estimate,
    LoadedPoint,
    Multicore,
    NodePair,
    ScalingCurve,
    ScalingPoint,
    TeamClock,
)
from microbench.report import cores, html, markdown, terminal
from microbench.storage import store


def exact(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


PAIRS = tuple(
    CpuPair(first=a, second=b, seconds=exact(25e-9 if a // 4 == b // 4 else 80e-9))
    for a, b in combinations(range(8), 2)
)
FOUND = Multicore(
    scaling=(
        ScalingCurve(
            name="read.f32.v256.DRAM",
            level="DRAM",
            points=(ScalingPoint(cores=1, rate=20e9), ScalingPoint(cores=2, rate=36e9)),
            saturated_at=2,
        ),
    ),
    clocks=(TeamClock(variant="v256", one_core_hz=3.6e9, all_cores_hz=3.2e9),),
    core_to_core=CoreToCore(pairs=PAIRS, complete=True, clusters=((0, 1, 2, 3), (4, 5, 6, 7))),
    nodes=(NodePair(cpu_node=0, memory_node=1, bandwidth=exact(90e9), latency=exact(130e-9)),),
    loaded=(
        LoadedPoint(streams=0, latency=exact(90e-9)),
        LoadedPoint(streams=1, latency=exact(110e-9), bandwidth=2e10),
    ),
)


def made(machine: str, **changes: object) -> Characterisation:
    held = characterisation()
    device = replace(held.device, topology=MACHINES[machine].topology())
    return replace(held, device=device, multicore=FOUND, **changes)  # type: ignore[arg-type]


def test_every_part_has_a_line() -> None:
    said = dict(cores.rows(made("no /sys, cpuid only")))
    assert said["machine"] == "8 cores, 16 CPUs, 2 L3s, 1 socket, unknown NUMA nodes"
    assert "nine tenths of the highest with 2 cores" in said["scaling of read.f32.v256.DRAM"]
    assert said["clock of v256"] == "3.60 GHz on one core, 3.20 GHz on all"
    assert "all 28 pairs; 2 clusters: 0 1 2 3; 4 5 6 7" in said["core to core"]
    assert said["node 0, memory of 1"] == "90.00 GB/s, 130 ns"
    assert said["loaded latency"] == "0 streams: 90.0 ns; 1 stream at 20.00 GB/s: 110 ns"


def test_a_placement_has_its_best_rates() -> None:
    ceiling = Ceiling(
        name="fma.f32.v256",
        measures="compute",
        backend="native",
        dtype="f32",
        rate=exact(4e12),
        nominal=5e12,
        case="fma.f32.v256[]@64/cores",
        threads=64,
        placement="cores",
    )
    said = dict(cores.rows(made("Zen of eight L3, siblings at +64", ceilings=(ceiling,))))
    assert said["one thread a core (64 threads)"] == "f32 4.000 TFLOP/s (80% of nominal)"


def test_a_file_without_a_topology_has_no_table() -> None:
    assert cores.rows(characterisation()) == []
    assert cores.TITLE not in markdown.render(characterisation())


def test_every_report_shows_the_table_and_the_file_keeps_it() -> None:
    told = made("this one")
    again = store.loads(store.dumps(told))
    assert (again.multicore, again.device.topology) == (told.multicore, told.device.topology)
    out = Console(record=True, width=120)
    terminal.show_cores(again, out)
    for text in (out.export_text(), markdown.render(again), html.render(again)):
        assert "core to core" in text
        assert "loaded latency" in text
