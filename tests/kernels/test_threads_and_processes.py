"""The compiled module under threads, forks, spawned processes and sub-interpreters."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command_line import environment

from microbench.errors import CannotRun, UsageError
from microbench.hardware import extensions, probe
from microbench.kernels import cpu

KERNEL = "fma.f64.scalar" if any(row["name"] == "fma.f64.scalar" for row in extensions.cpu().kernels()) else "read.f32"
FIRST = extensions.cpu().topology()["cpus"][0]


def prepared() -> cpu._Job:
    return cpu._Job(extensions.cpu().prepare(KERNEL, [FIRST], {}))


def test_a_job_may_be_closed_while_other_threads_measure_it() -> None:
    job = prepared()
    started, failures = threading.Barrier(4), list[object]()

    def measure() -> int:
        started.wait()
        runs = 0
        while True:
            try:
                timing = job.run(20_000)
            except CannotRun as closed:
                failures.extend([closed] if "was closed" not in str(closed) else [])
                return runs
            failures.extend([timing] if timing.checked is False else [])
            runs += 1

    with ThreadPoolExecutor(4) as pool:
        measuring = [pool.submit(measure) for _ in range(3)]
        started.wait()
        job.close()
        job.close()
        assert all(each.result() >= 0 for each in measuring)
    assert not failures


def test_a_reference_clock_may_be_closed_in_the_middle_of_a_burst() -> None:
    for _ in range(20):
        job, clock = prepared(), prepared()
        closing = threading.Thread(target=clock.close)
        closing.start()
        with contextlib.suppress(CannotRun):  # it was closed before
            assert job.pairs(2_000, clock, 2_000, 20, 1.0).checked is not False
        closing.join()
        job.close()


def test_jobs_of_several_threads_take_turns_and_stay_right() -> None:
    def measure(_number: int) -> bool:
        job = prepared()
        try:
            return all(job.run(5_000).checked is not False for _ in range(20))
        finally:
            job.close()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(measure, range(8)))


def test_a_job_that_is_forgotten_is_freed_without_holding_up_the_others() -> None:
    ticks = 0
    done = threading.Event()

    def count() -> None:
        nonlocal ticks
        while not done.wait(0.001):
            ticks += 1

    counting = threading.Thread(target=count)
    counting.start()
    for _ in range(20):
        job = prepared()
        job.run(1000)
        del job
    done.set()
    counting.join()
    assert ticks > 0


def _child(what: Callable[[], None]) -> int:
    """The exit code of a forked process that does something; a hang is ended after a while."""
    child = os.fork()
    if child == 0:
        code = 9
        try:
            what()
            code = 0
        finally:
            os._exit(code)
    done = threading.Event()

    def end() -> None:
        if not done.wait(60):
            os.kill(child, 9)

    ending = threading.Thread(target=end)
    ending.start()
    status = os.waitpid(child, 0)[1]
    done.set()
    ending.join()
    return os.waitstatus_to_exitcode(status)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_refuses_its_parents_jobs_and_makes_its_own() -> None:
    job = prepared()
    assert job.run(1000).checked is not False

    def inside() -> None:
        with pytest.raises(CannotRun, match="before the process was forked off; prepare it anew"):
            job.run(1000)
        job.close()
        mine = prepared()
        assert mine.run(1000).checked is not False
        mine.close()

    assert _child(inside) == 0
    assert job.run(1000).checked is not False
    job.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_measurement_leaves_both_processes_working() -> None:
    job, done = prepared(), threading.Event()

    def measure() -> None:
        while not done.is_set():
            job.run(20_000)

    measuring = threading.Thread(target=measure)
    measuring.start()

    def inside() -> None:
        mine = prepared()
        assert mine.run(1000).checked is not False
        mine.close()

    try:
        assert [_child(inside) for _ in range(5)] == [0] * 5
    finally:
        done.set()
        measuring.join()
    job.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_a_pool_measure(method: str, tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text(
        "import multiprocessing\n"
        "from microbench.hardware import extensions\n"
        "def work(number):\n"
        f"    job = extensions.cpu().prepare({KERNEL!r}, [{FIRST}], {{}})\n"
        "    right = job.run(1000)[2]\n"
        "    job.close()\n"
        "    return right is not False\n"
        "if __name__ == '__main__':\n"
        f"    held = extensions.cpu().prepare({KERNEL!r}, [{FIRST}], {{}})\n"
        "    held.run(1000)\n"
        f"    with multiprocessing.get_context({method!r}).Pool(2) as pool:\n"
        "        print(all(pool.map(work, range(4))))\n"
    )
    done = subprocess.run(
        [sys.executable, script], env=environment(tmp_path), capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


def test_a_run_in_a_thread_is_like_any_other(tmp_path: Path) -> None:
    import microbench as mb

    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(mb.run, "cpu", only="fma.f64.scalar", time_limit=5.0, out=tmp_path).result()
    assert made.samples


SUBINTERPRETER = """
try:
    import _interpreters
except ImportError:
    import _xxsubinterpreters as _interpreters
inside = '''
import sys
sys.path[:] = {path!r}
from microbench.errors import MicrobenchError
try:
    from microbench.hardware import extensions
    found = extensions.cpu()
    job = found.prepare({kernel!r}, [{cpu}], {{}})
    says = "ran" if job.run(1000)[2] is not False else "wrong"
    job.close()
except MicrobenchError as error:
    says = str(error)
except ImportError as error:  # a dependency
    says = "import: " + str(error)
print(says, flush=True)
'''
first = _interpreters.create()
_interpreters.run_string(first, inside)
second = _interpreters.create()
_interpreters.run_string(second, inside)
from microbench.hardware import extensions
assert extensions.cpu().prepare({kernel!r}, [{cpu}], {{}}).run(1000)[2] is not False
print("main goes on")
"""


def test_a_sub_interpreter_measures_or_is_refused_in_a_sentence(tmp_path: Path) -> None:
    script = SUBINTERPRETER.format(path=sys.path, kernel=KERNEL, cpu=FIRST)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    *inside, after = done.stdout.splitlines()
    assert after == "main goes on", done.stderr
    assert len(inside) == 2
    assert all(line == "ran" or "interpreter" in line for line in inside), inside


def test_a_cpu_that_is_none_is_refused() -> None:
    with pytest.raises((CannotRun, UsageError)):
        cpu._Native(next(sheet for sheet in cpu.sheets() if sheet.name == KERNEL))(probe("cpu"), {}, 1, [1 << 20])
