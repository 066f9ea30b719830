from __future__ import annotations

import getpass
import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microbench.hardware import interference
from microbench.hardware.environment import FACTS, environment_facts, environment_findings
from microbench.hardware.interference import Disturbance, Steal, Switches, cpu_time
from microbench.hardware.procfs import Machine, allowed, cpu_list

Recorded = dict[str, str]
Place = Callable[[Recorded], Machine]

STATUS = "Name:\tpython\nCpus_allowed:\tff\nCpus_allowed_list:\t{cpus}\nnonvoluntary_ctxt_switches:\t3\n"
# Two recorded machines, cut down to what is read.
VIRTUAL: Recorded = {
    "proc/sys/kernel/osrelease": "6.12.1\n",
    "proc/cpuinfo": "processor\t: 0\nmicrocode\t: 0x1\nflags\t\t: fpu sse2 hypervisor avx2\n\nprocessor\t: 1\n",
    "proc/self/status": STATUS.format(cpus="0-1"),
    "proc/self/cgroup": "9:memory:/box\n1:cpu:/\n0::/\n",
    "proc/loadavg": "0.10 0.20 0.30 1/200 12345\n",
    "proc/meminfo": "MemTotal:       24684084 kB\nMemAvailable:   22512592 kB\nSwapTotal:  0 kB\nSwapFree:  0 kB\n",
    "proc/stat": (
        "cpu  300 0 50 2000 11 0 1 32 0 0\ncpu0 100 0 20 1000 2 0 1 12 0 0\ncpu1 200 0 30 1000 9 0 0 20 0 0\nintr 5\n"
    ),
    "sys/devices/system/cpu/smt/active": "0\n",
    "sys/devices/system/cpu/vulnerabilities/meltdown": "Not affected\n",
    "sys/devices/system/cpu/vulnerabilities/retbleed": "Vulnerable\n",
    "sys/devices/system/cpu/vulnerabilities/spectre_v1": "Mitigation; barriers\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    "sys/devices/system/node/online": "0\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "sys/kernel/mm/transparent_hugepage/hpage_pmd_size": "2097152\n",
}
LAPTOP: Recorded = VIRTUAL | {
    "proc/cpuinfo": "processor\t: 0\nmicrocode\t: 0xf4\nflags\t\t: fpu sse2 avx2\n",
    "proc/self/status": STATUS.format(cpus="0-3,8-11"),
    "proc/self/cgroup": "0::/user.slice/app.scope\n",
    "proc/loadavg": "5.82 2.64 1.27 10/157 21329\n",
    "proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 900000 kB\nSwapTotal: 8000000 kB\nSwapFree: 2000000 kB\n",
    "sys/devices/system/cpu/smt/active": "1\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "performance\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "4700000\n",
    "sys/devices/system/cpu/intel_pstate/no_turbo": "1\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n",
    "sys/fs/cgroup/user.slice/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/user.slice/app.scope/cpu.max": "max 100000\n",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")  # as both recorded machines were

    def write(recorded: Recorded) -> Machine:
        for name, text in recorded.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Machine(tmp_path)

    return write


def test_a_virtual_machine_is_described(place: Place) -> None:
    facts = environment_facts(place(VIRTUAL))
    expected = {
        "kernel": "6.12.1",
        "hypervisor": "yes",
        "microcode": "0x1",
        "cpus": 2,
        "cpu_quota": None,
        "load": 0.1,
        "smt": False,
        "governor": None,
        "mitigations": "1 mitigated, 1 open, 1 not affected",
        "clocksource": "tsc",
        "transparent_hugepage": "madvise",
        "huge_page": 2097152,
        "memory": 24684084 * 1024,
        "swap_used": 0,
        "numa_nodes": 1,
    }
    assert expected.items() <= facts.items()


def test_a_quiet_virtual_machine_gives_no_findings(place: Place) -> None:
    assert [finding.code for finding in environment_findings(place(VIRTUAL))] == []


def test_everything_bad_for_measuring_is_found_with_a_remedy(place: Place) -> None:
    machine = place(LAPTOP)
    facts = environment_facts(machine)
    assert (facts["hypervisor"], facts["smt"], facts["turbo"], facts["clock_max"], facts["cpus"]) == (
        "none",
        True,
        False,
        4_700_000_000,
        8,
    )
    assert (facts["governor"], facts["cpu_quota"]) == ("performance, powersave", 1.5)
    findings = environment_findings(machine)
    assert {finding.code for finding in findings} == {
        "governor", "cpu-quota", "load", "memory-short", "swap", "huge-pages", "clocksource",
    }  # fmt: skip
    assert all(finding.remedy for finding in findings)


def test_a_version_1_control_group_quota_is_found(place: Place) -> None:
    machine = place(
        VIRTUAL
        | {
            "proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        }
    )
    assert environment_facts(machine)["cpu_quota"] == 0.5
    assert [finding.code for finding in environment_findings(machine)] == ["cpu-quota"]


def test_one_cpu_is_a_finding_not_a_fault(place: Place) -> None:
    machine = place(VIRTUAL | {"proc/self/status": STATUS.format(cpus="1"), "proc/loadavg": "0.00 0.00 0.00 1/2 3\n"})
    assert [(finding.code, finding.severity) for finding in environment_findings(machine)] == [("one-cpu", "info")]


def test_a_machine_without_proc_and_sys_gives_only_what_python_knows(tmp_path: Path) -> None:
    facts = environment_facts(Machine(tmp_path))
    known = {name for name, value in facts.items() if value is not None}
    assert known <= {"python", "compiler", "optimised", "sanitisers"}
    assert set(facts) == {row.name for row in FACTS}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=60), name=st.sampled_from(sorted(LAPTOP)))
def test_no_content_of_a_pseudo_file_raises(place: Place, data: bytes, name: str) -> None:
    machine = place(LAPTOP)
    (machine.root / name).write_bytes(data)
    facts = environment_facts(machine)
    environment_findings(machine, facts)
    cpu_time(machine)


def test_nothing_that_identifies_the_machine_is_stored() -> None:
    values = [str(value) for value in environment_facts().values()]
    for secret in (platform.node(), getpass.getuser(), str(Path.home()), str(Path.cwd())):
        assert not any(secret == value or (len(secret) > 4 and secret in value) for value in values), secret


def test_cpu_lists_are_expanded(place: Place) -> None:
    assert cpu_list("0-3,8-11") == [0, 1, 2, 3, 8, 9, 10, 11]
    assert cpu_list("") == []
    assert allowed(place(LAPTOP)) == [0, 1, 2, 3, 8, 9, 10, 11]


# --- disturbances during a run
# -----------------------------------------------------------------------------------------------------


def busy(machine: Machine, user: int, steal: int) -> None:
    text = (
        f"cpu 1 1 1 1 1 1 1 1\ncpu0 {user} 0 0 9 0 0 0 {steal} 0 0\ncpu1 0 0 0 9 0 0 0 0 0 0\ncpu7 99999 0 0 0 0 0 0 "
        "99999 0 0\n"
    )
    (machine.root / "proc/stat").write_text(text)


def process(machine: Machine, number: int, name: str, ticks: int) -> None:
    folder = machine.root / f"proc/{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stat").write_text(f"{number} ({name}) R 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 5 0 0\n")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(interference, "time", fake)
    monkeypatch.setattr(interference, "_own_s", lambda: fake.now / 2)  # half a CPU is ours
    monkeypatch.setattr(interference, "_TICKS", 100)
    return fake


def test_a_spinning_neighbour_is_named_with_its_share(place: Place, clock: Clock) -> None:
    machine = place(VIRTUAL)
    busy(machine, user=1000, steal=0)
    process(machine, 31, "spin) (odd", 50)
    watched = Disturbance(machine)
    clock.now += 20
    busy(machine, user=1000 + 100 * (10 + 13), steal=0)
    process(machine, 31, "spin) (odd", 50 + 1300)
    process(machine, 32, "newcomer", 10)
    (finding,) = watched.findings()
    assert finding.code == "other-processes"
    assert finding.says.startswith(
        "other processes used 13.0 s of 2 CPUs during the 20 s of the run (32%); the busiest was 'spinodd'"
    )
    facts = watched.facts()
    assert facts["other_processes_s"] == pytest.approx(13)
    assert facts["other_processes_share"] == pytest.approx(13 / 40)


def test_our_own_work_is_no_disturbance(place: Place, clock: Clock) -> None:
    machine = place(VIRTUAL)
    busy(machine, user=0, steal=0)
    watched = Disturbance(machine)
    clock.now += 20
    busy(machine, user=1000, steal=0)
    assert watched.findings() == []


def test_stolen_time_is_found(place: Place, clock: Clock) -> None:
    machine = place(VIRTUAL)
    busy(machine, user=0, steal=100)
    watched = Disturbance(machine)
    clock.now += 20
    busy(machine, user=1000, steal=400)
    (finding,) = watched.findings()
    assert finding.code == "steal"
    assert "3.0 s of 2 CPUs" in finding.says
    assert watched.facts()["steal_s"] == pytest.approx(3)


def test_what_was_bad_from_the_start_is_among_the_findings(place: Place) -> None:
    assert "huge-pages" in {finding.code for finding in Disturbance(place(LAPTOP)).findings()}


def test_a_machine_without_counters_disturbs_nothing(tmp_path: Path) -> None:
    watched = Disturbance(Machine(tmp_path))
    assert watched.findings() == []
    assert watched.facts()["steal_s"] is None
    assert Steal(Machine(tmp_path)).lap() is None


def test_laps_count_from_the_last_one(place: Place) -> None:
    machine = place(VIRTUAL)
    busy(machine, user=0, steal=100)
    steal = Steal(machine)
    busy(machine, user=0, steal=100 + os.sysconf("SC_CLK_TCK"))
    assert steal.lap() == pytest.approx(1)
    assert steal.lap() == 0
    switches = Switches()
    assert switches.lap() >= 0


INTEL = "vendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R)\n"
GRAVITON = "BogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "emulated"),
    [
        ("x86_64", INTEL, None),
        ("aarch64", GRAVITON, None),
        ("aarch64", "", None),
        ("aarch64", INTEL, "the kernel describes GenuineIntel"),
        ("aarch64", "CPU implementer\t: 0x00\nCPU part\t: 0x051\n", "implementer 0 is software"),
        ("x86_64", GRAVITON, "the kernel describes implementer 0x41"),
        (
            "x86_64",
            "vendor_id\t: VirtualApple\nmodel name\t: VirtualApple @ 2.50GHz\n",
            "it calls itself VirtualApple @ 2.50GHz",
        ),
        (
            "x86_64",
            "vendor_id\t: AuthenticAMD\nmodel name\t: QEMU TCG CPU version 2.5+\n",
            "it calls itself QEMU TCG CPU version 2.5+",
        ),
    ],
)
def test_a_program_that_is_translated_for_another_processor_says_so(
    place: Place, monkeypatch: pytest.MonkeyPatch, machine: str, cpuinfo: str, emulated: str | None
) -> None:
    told = place({"proc/cpuinfo": cpuinfo})
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert environment_facts(told)["emulated"] == emulated
    assert ("emulated" in {finding.code for finding in environment_findings(told)}) == (emulated is not None)
