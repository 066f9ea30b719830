from __future__ import annotations

import contextlib
import math
import os
import platform
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from microbench.errors import CannotRun, UsageError
from microbench.hardware import extensions
from microbench.kernels import Pairing, cpu
from microbench.records import Device

CPU = Device(id="0", kind="cpu", name="this one", arch="generic")
KERNELS = {kernel.sheet.name: kernel for kernel in cpu.kernels(CPU)}
HERE = [name for name, kernel in KERNELS.items() if kernel.sheet.unavailable is None]
COMPUTE = [name for name in HERE if KERNELS[name].sheet.measures == "compute"]
PLAIN = next(name for name in COMPUTE if "lengthen" in KERNELS[name].sheet.params)


def test_names_say_what_dtype_and_variant() -> None:
    for name, kernel in KERNELS.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*", name)
        if kernel.sheet.measures == "compute":
            assert kernel.sheet.dtype in name.split(".")
            assert name.endswith(kernel.sheet.variant)


def test_a_kernel_that_cannot_run_says_why() -> None:
    for kernel in KERNELS.values():
        if kernel.sheet.unavailable is not None:
            assert kernel.sheet.unavailable.startswith("needs ")
            with pytest.raises(CannotRun, match=re.escape(kernel.sheet.unavailable)):
                kernel.prepare(CPU, {}, 1)


@pytest.mark.parametrize("name", COMPUTE)
def test_work_is_the_instructions_times_what_each_does(name: str) -> None:
    sheet = KERNELS[name].sheet
    assert sheet.math % sheet.chains == 0
    beside = sheet.beside.get("mul", 0) + sheet.beside.get("add", 0)
    assert sheet.work.flop == sheet.lanes * (sheet.math * sheet.flop_per_lane + beside) > 0


def test_what_stands_for_a_kernel_is_a_kernel_of_the_same_dtype() -> None:
    for name, kernel in KERNELS.items():
        for other in kernel.sheet.unless:
            assert other in KERNELS, name
            assert KERNELS[other].sheet.dtype == kernel.sheet.dtype, name


@pytest.mark.skipif(platform.machine() != "x86_64", reason="SSE2 is a part of x86-64")
def test_a_cpu_of_any_age_has_a_compute_peak_of_both_floats() -> None:
    code = "for sheet in cpu.sheets(): print(sheet.name, sheet.unavailable)"
    rows = [line.split(" ", 1) for line in with_cap("sse2", code).splitlines()]
    free = {name for name, unavailable in rows if unavailable == "None"}
    assert {"mul_add.f64.v128", "mul_add.f32.v128", "clock.mul_add.f32.v128"} <= free
    assert not any(name.startswith(("fma", "dot")) for name in free)


@pytest.mark.parametrize("name", HERE)
def test_the_check_passes(name: str) -> None:
    assert KERNELS[name].check(CPU) is None


def test_kernels_are_checked_where_the_system_gives_no_huge_pages() -> None:
    words = (
        "import ctypes; ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE",
        "from microbench.kernels.cpu import kernels",
        "from microbench.records import Device",
        "here = Device(id='0', kind='cpu', name='this one', arch='unknown')",
        "paged = [each for each in kernels(here) if 'pages' in each.sheet.params and not each.sheet.unavailable]",
        "assert paged and all(each.check(here) is None for each in paged)",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMPUTE)
@pytest.mark.parametrize("iterations", [1, 2, 67, 68, 69, 4095, 4096, 4097, 12345])
def test_the_timed_result_is_exact_for_any_count(name: str, iterations: int) -> None:
    job = KERNELS[name].prepare(CPU, {}, 1)
    assert job.run(iterations).checked is True
    job.close()


def test_all_threads_check_their_result() -> None:
    threads = len(extensions.cpu().topology()["cpus"])
    job = KERNELS[PLAIN].prepare(CPU, {}, threads)
    for _ in range(20):
        timing = job.run(1000)
        assert timing.checked is True
        assert timing.iterations == 1000
    job.close()


def own_threads() -> int:
    """The threads of teams, by name: libraries of other tests start and end threads of their own at any time."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # one that ended just now
            names.append((task / "comm").read_text())
    return names.count("microbench-team\n")


def test_jobs_on_the_same_cpus_share_their_threads_and_the_last_one_ends_them() -> None:
    alone = own_threads()
    cpus = len(extensions.cpu().topology()["cpus"])
    teams = {1, cpus}
    jobs = [KERNELS[name].prepare(CPU, {}, threads) for name in COMPUTE[:5] for threads in teams for _ in range(4)]
    assert own_threads() == alone + sum(teams)
    assert all(job.run(100).checked is True for job in jobs)
    for job in jobs:
        job.close()
    assert own_threads() == alone


def test_a_job_that_is_refused_leaves_those_on_the_same_threads_at_work() -> None:
    alone = own_threads()
    job = KERNELS[PLAIN].prepare(CPU, {}, 1)
    with pytest.raises(UsageError):
        KERNELS[PLAIN].prepare(CPU, {"lengthen": -1}, 1)
    assert job.run(100).checked is True
    job.close()
    assert own_threads() == alone


def test_jobs_of_one_team_take_turns() -> None:
    jobs = [KERNELS[name].prepare(CPU, {}, 1) for name in COMPUTE[:4]]
    with ThreadPoolExecutor(len(jobs)) as pool:
        at_once = pool.map(lambda job: [job.run(5000).checked for _ in range(50)], jobs * 2)
    assert all(all(checked) for checked in at_once)
    for job in jobs:
        job.close()


def test_a_forked_child_makes_threads_of_its_own() -> None:
    child = """
import os
from microbench.kernels import cpu
from microbench.records import Device
device = Device(id="0", kind="cpu", name="this one", arch="generic")
kernel = next(each for each in cpu.kernels(device) if each.sheet.name == "cost.timer")
held = kernel.prepare(device, {}, 1)
pid = os.fork()
if pid == 0:
    job = kernel.prepare(device, {}, 1)
    os._exit(0 if job.run(10).checked else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", child], capture_output=True, text=True, check=True, timeout=600
    )
    assert done.stdout.split() == ["0"]


@pytest.mark.parametrize("threads", [1, len(extensions.cpu().topology()["cpus"])])
def test_a_burst_alternates_with_its_reference_clock_and_checks_every_sample(threads: int) -> None:
    sheet = KERNELS[PLAIN].sheet
    assert sheet.reference_clock is not None
    job, clock = (KERNELS[name].prepare(CPU, {}, threads) for name in (PLAIN, sheet.reference_clock))
    assert isinstance(job, Pairing)
    seen = job.pairs(1000, clock, 300, 40, 10.0)
    assert (len(seen.ns), len(seen.reference_ns)) == (40, 40)
    assert (seen.iterations, seen.reference_iterations, seen.checked) == (1000, 300, True)
    assert min(*seen.ns, *seen.reference_ns) > 0
    alone = job.pairs(1000, None, 0, 3, 10.0)
    assert (len(alone.ns), alone.reference_ns, alone.reference_iterations) == (3, (), 0)
    job.close()
    clock.close()


@pytest.mark.hardware
def test_a_burst_is_no_slower_than_single_samples() -> None:
    job = KERNELS[PLAIN].prepare(CPU, {}, 1)
    assert isinstance(job, Pairing)
    # The best of each: neither may hold anything that the other does not. Neighbours disturb for seconds on end, so
    # both are tried until a moment of each was quiet.
    single, burst = math.inf, math.inf
    give_up = time.monotonic() + 60
    while not burst < 1.5 * single < math.inf and time.monotonic() < give_up:
        single = min(single, *(job.run(200_000).ns for _ in range(20)))
        burst = min(burst, *job.pairs(200_000, None, 0, 20, 10.0).ns)
    assert burst < 1.5 * single
    job.close()


@pytest.mark.timed
def test_a_burst_ends_at_its_limit_but_has_two_pairs() -> None:
    threads = len(extensions.cpu().topology()["cpus"])
    job = KERNELS[PLAIN].prepare(CPU, {}, threads)
    assert isinstance(job, Pairing)
    assert len(job.pairs(1000, None, 0, 50, 0.0).ns) == 2
    # All of them would take minutes; on a busy machine two may take longer than the limit.
    assert 2 <= len(job.pairs(100_000, None, 0, 2**20, 0.05).ns) < 2**20
    job.close()


def test_bursts_that_make_no_sense_are_refused() -> None:
    job, other = (KERNELS[PLAIN].prepare(CPU, {}, 1) for _ in range(2))
    assert isinstance(job, Pairing)
    bad = [(0, None, 0, 1, 1.0), (1, None, 0, 0, 1.0), (1, None, 0, 2**21, 1.0), (1, other, 0, 1, 1.0)]
    bad += [(1, None, 0, 1, limit_s) for limit_s in (-1.0, math.nan)] + [(-1, None, 0, 1, 1.0)]
    for arguments in bad:
        with pytest.raises(UsageError):
            job.pairs(*arguments)
    if len(extensions.cpu().topology()["cpus"]) > 1:
        wide = KERNELS[PLAIN].prepare(CPU, {}, 2)
        with pytest.raises(UsageError, match="same CPUs"):
            job.pairs(1, wide, 1, 1, 1.0)
        wide.close()
    other.close()
    with pytest.raises(CannotRun, match="closed"):
        job.pairs(1, other, 1, 1, 1.0)
    assert job.run(100).checked is True
    job.close()


def test_closing_twice_is_allowed_and_running_afterwards_is_refused() -> None:
    job = KERNELS[PLAIN].prepare(CPU, {}, 1)
    job.close()
    job.close()
    with pytest.raises(CannotRun, match="closed"):
        job.run(1)


def test_bad_requests_are_refused_with_a_sentence() -> None:
    kernel = KERNELS[PLAIN]
    with pytest.raises(UsageError, match="has no parameter colour"):
        kernel.prepare(CPU, {"colour": 1}, 1)
    with pytest.raises(UsageError, match="lengthen must be an integer"):
        kernel.prepare(CPU, {"lengthen": 6}, 1)
    with pytest.raises(UsageError, match="threads asked for"):
        kernel.prepare(CPU, {}, 100_000)
    job = kernel.prepare(CPU, {}, 1)
    with pytest.raises(UsageError, match="at least one iteration"):
        job.run(0)
    job.close()


def test_two_kernels_never_share_a_name() -> None:
    names = [row["name"] for row in extensions.cpu().kernels()]
    assert len(names) == len(set(names))


def test_every_reference_clock_is_a_clock_kernel_that_says_its_cycles() -> None:
    for name, kernel in KERNELS.items():
        if kernel.sheet.reference_clock is None:
            continue
        reference_clock = KERNELS[kernel.sheet.reference_clock].sheet
        assert reference_clock.measures == "clock", name
        assert reference_clock.cycles > 0
        assert reference_clock.frequency_license == kernel.sheet.frequency_license


def test_a_lengthened_loop_leaves_the_same_exact_result() -> None:
    for name in COMPUTE:
        if "lengthen" in KERNELS[name].sheet.params:
            job = KERNELS[name].prepare(CPU, {"lengthen": 5}, 1)
            assert job.run(777).checked is True
            job.close()


IMPORTS = """
from microbench.errors import UsageError
from microbench.hardware import extensions
from microbench.kernels import cpu
"""


def with_cap(cap: str, code: str) -> str:
    """Run Python code in a fresh process, since the cap is read once."""
    command = [sys.executable, "-c", IMPORTS + code]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "MICROBENCH_ISA": cap}
    ).stdout


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the cap's words are those of x86-64")
def test_a_capped_instruction_set_is_hidden_and_says_so() -> None:
    code = "for sheet in cpu.sheets(): print(sheet.name, sheet.unavailable)"
    rows = dict(line.split(" ", 1) for line in with_cap("avx2", code).splitlines())
    plain = KERNELS["fma.f32.v512"].sheet.unavailable
    assert rows["fma.f32.v512"] == (plain or "needs avx512f, hidden by MICROBENCH_ISA=avx2")
    assert rows["fma.f32.v256"] == str(KERNELS["fma.f32.v256"].sheet.unavailable)


def test_an_unknown_cap_is_refused_with_the_known_ones() -> None:
    code = "try: extensions.cpu()\nexcept UsageError as error: print(error)"
    assert "MICROBENCH_ISA=avx9 names no instruction set; known here:" in with_cap("avx9", code)
