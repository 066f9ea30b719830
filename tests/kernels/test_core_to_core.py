"""Kernels whose threads have different parts: a line that goes to and fro, a chase beside streams, memory of a node."""

from __future__ import annotations

import pytest

from microbench.errors import CannotRun, UsageError
from microbench.hardware import extensions
from microbench.kernels import cpu
from microbench.records import Device

CPU = Device(id="0", kind="cpu", name="this one", arch="generic")
KERNELS = {kernel.sheet.name: kernel for kernel in cpu.kernels(CPU)}
CPUS = extensions.cpu().topology()["cpus"]
SET = {"working_set": 1 << 20, "pages": "4k"}


@pytest.mark.parametrize("cpus", [CPUS[:1], CPUS[:2], CPUS[:2][::-1], CPUS[:3]])
@pytest.mark.parametrize("iterations", [1, 2, 1000])
def test_every_turn_is_answered_whoever_plays(cpus: list[int], iterations: int) -> None:
    job = KERNELS["core_to_core"].prepare(CPU, {}, len(cpus), cpus)
    for _ in range(5):
        timing = job.run(iterations)
        assert (timing.checked, timing.iterations) == (True, iterations)
    job.close()


@pytest.mark.parametrize("name", ["loaded.latency", "loaded.bandwidth"])
@pytest.mark.parametrize("threads", sorted({1, min(2, len(CPUS)), len(CPUS)}))
def test_all_threads_go_on_until_the_timed_ones_have_ended_and_every_result_is_right(name: str, threads: int) -> None:
    job = KERNELS[name].prepare(CPU, SET, threads)
    for iterations in (1, 7, 200):
        timing = job.run(iterations)
        assert (timing.checked, timing.iterations) == (True, iterations)
    pairs = job.pairs(50, None, 0, 20, 10.0)
    assert (len(pairs.ns), pairs.checked) == (20, True)
    job.close()


def test_a_case_runs_on_the_cpus_that_it_names() -> None:
    job = KERNELS["read.f64.scalar"].prepare(CPU, SET, 1, CPUS[-1:])
    assert job.run(10).checked is True
    assert {row["cpu"] for row in extensions.cpu().memory()} >= {CPUS[-1]}
    job.close()


def test_cpus_that_are_not_ours_or_not_as_many_as_threads_are_refused() -> None:
    kernel = KERNELS["core_to_core"]
    with pytest.raises(UsageError, match="this process may use"):
        kernel.prepare(CPU, {}, 1, [max(CPUS) + 4096])
    with pytest.raises(UsageError, match="this process may use"):
        kernel.prepare(CPU, {}, 1, [CPUS[0], CPUS[0]])


def test_only_what_has_a_working_set_takes_a_node_and_one_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="no parameter node"):
        KERNELS["core_to_core"].prepare(CPU, {"node": 0}, 1)
    with pytest.raises(CannotRun, match="NUMA node 60000"):
        KERNELS["read.f64.scalar"].prepare(CPU, {**SET, "node": 60000}, 1)


def test_arrays_are_shared_by_the_teams_of_one_cpu() -> None:
    native = extensions.cpu()
    held = len(native.memory())
    alone = KERNELS["read.f64.scalar"].prepare(CPU, SET, 1, CPUS[-1:])
    together = KERNELS["read.f64.scalar"].prepare(CPU, SET, len(CPUS), CPUS)
    assert len(native.memory()) == held + len(CPUS)
    alone.close()
    together.close()
