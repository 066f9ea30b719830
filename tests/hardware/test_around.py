from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from microbench.hardware.interference import Around, Disturbance, Quota, siblings
from microbench.hardware.procfs import Machine, cpu_groups
from microbench.records import Cpu, Topology
from microbench.runs import signals

TICKS = os.sysconf("SC_CLK_TCK")
# Two cores of two hardware threads each.
SMT = Topology(cpus=tuple(Cpu(number=number, core=number % 2) for number in range(4)), allowed=(0, 1, 2, 3))


def write(machine: Machine, path: str, text: str) -> None:
    (machine.root / path).parent.mkdir(parents=True, exist_ok=True)
    (machine.root / path).write_text(text)


def stat(machine: Machine, *busy_s: float) -> None:
    rows = [f"cpu{number} {round(busy * TICKS)} 0 0 9 0 0 0 0 0 0\n" for number, busy in enumerate(busy_s)]
    write(machine, "proc/stat", "cpu 0 0 0 0 0 0 0 0\n" + "".join(rows))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    write(made, "proc/self/status", "Cpus_allowed_list:\t0-3\n")
    write(made, "proc/self/cgroup", "0::/box/app\n")
    stat(made, 0, 0, 0, 0)
    return made


def test_siblings_are_the_other_hardware_threads_of_the_same_cores() -> None:
    assert siblings(SMT, (0,)) == (2,)
    assert siblings(SMT, (0, 1)) == (2, 3)
    assert siblings(SMT, (0, 2)) == ()
    assert siblings(SMT, ()) == ()
    assert siblings(None, (0,)) == ()
    assert siblings(Topology(cpus=(Cpu(number=0), Cpu(number=1))), (0,)) == ()


def test_what_runs_beside_a_burst_is_counted_and_what_runs_elsewhere_is_not(machine: Machine) -> None:
    around = Around(SMT, machine)
    stat(machine, 5, 5, 5, 5)
    around.begin((0,))
    stat(machine, 6, 9, 5.5, 5)
    assert around.end()["sibling_s"] == pytest.approx(0.5)
    around.begin((0, 2))
    stat(machine, 7, 9, 6.5, 5)
    assert around.end()["sibling_s"] == 0
    around.begin(None)
    assert around.end() == {"steal_s": 0.0, "quota_s": 0.0, "sibling_s": 0.0}


def test_groups_are_looked_up_to_the_root_in_both_versions(machine: Machine) -> None:
    assert cpu_groups(machine) == ["sys/fs/cgroup/box/app", "sys/fs/cgroup/box", "sys/fs/cgroup"]
    write(machine, "proc/self/cgroup", "4:cpu,cpuacct:/docker/abc\n3:memory:/else\n")
    assert cpu_groups(machine) == [
        "sys/fs/cgroup/cpu/docker/abc",
        "sys/fs/cgroup/cpu/docker",
        "sys/fs/cgroup/cpu",
    ]
    write(machine, "proc/self/cgroup", "0::/\n")
    assert cpu_groups(machine) == ["sys/fs/cgroup"]


@pytest.mark.parametrize(
    ("cgroup", "file", "before", "after"),
    [
        (
            "0::/box/app\n",
            "sys/fs/cgroup/box/cpu.stat",
            "usage_usec 9\nnr_throttled 3\nthrottled_usec 1000\n",
            "usage_usec 99\nnr_throttled 5\nthrottled_usec 251000\n",
        ),
        (
            "4:cpu,cpuacct:/box\n",
            "sys/fs/cgroup/cpu/box/cpu.stat",
            "nr_periods 9\nnr_throttled 3\nthrottled_time 1000000\n",
            "nr_periods 19\nnr_throttled 5\nthrottled_time 251000000\n",
        ),
    ],
)
def test_a_quota_that_holds_the_process_is_counted(
    machine: Machine, cgroup: str, file: str, before: str, after: str
) -> None:
    write(machine, "proc/self/cgroup", cgroup)
    write(machine, file, before)
    quota, around = Quota(machine), Around(None, machine)
    watched = Disturbance(machine)
    around.begin((0,))
    write(machine, file, after)
    assert quota.lap() == (2, pytest.approx(0.25))
    assert quota.lap() == (0, 0)
    assert around.end()["quota_s"] == pytest.approx(0.25)
    assert watched.facts()["quota_stops"] == 2
    assert watched.facts()["quota_s"] == pytest.approx(0.25)


def test_without_a_quota_nothing_is_held(tmp_path: Path) -> None:
    assert Quota(Machine(tmp_path)).lap() == (0, 0)


def test_cpus_that_were_taken_away_are_told(machine: Machine) -> None:
    same, watched = Disturbance(machine), Disturbance(machine)
    assert "cpus_changed" not in same.facts()
    write(machine, "proc/self/status", "Cpus_allowed_list:\t0\n")
    assert watched.facts()["cpus_changed"] == "0-3 -> 0"


def test_a_stopped_process_knows_for_how_long() -> None:
    script = "import os, signal, sys, time; time.sleep(0.5); os.kill(int(sys.argv[1]), signal.SIGCONT)"
    with signals.stops() as watch:
        with subprocess.Popen([sys.executable, "-c", script, str(os.getpid())]):
            os.kill(os.getpid(), signal.SIGSTOP)
        assert watch.seconds > 0.2
    assert signal.getsignal(signal.SIGCONT) is signal.SIG_DFL


def test_a_signal_to_a_process_that_works_is_no_stop() -> None:
    with signals.stops() as watch:
        until = time.monotonic() + 0.02
        while time.monotonic() < until:
            pass
        signal.raise_signal(signal.SIGCONT)
        assert watch.seconds == 0


def test_others_who_listen_and_other_threads_are_left_alone() -> None:
    mine = signal.signal(signal.SIGCONT, lambda *_: None)
    try:
        held = signal.getsignal(signal.SIGCONT)
        with signals.stops():
            assert signal.getsignal(signal.SIGCONT) is held
    finally:
        signal.signal(signal.SIGCONT, mine)

    def elsewhere() -> None:
        with signals.stops() as watch:
            assert watch.seconds == 0

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGCONT) is signal.SIG_DFL
