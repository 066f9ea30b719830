"""What disturbed a run: time stolen by the host, other processes, quotas, busy siblings, a changed affinity."""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from microbench.hardware.environment import environment_findings
from microbench.hardware.procfs import Machine, allowed, cpu_groups, cpu_text
from microbench.records import Finding, Topology, Value

# Below these shares of the run the envelope over rounds does not notice.
STEAL_SHARE = 0.02
OTHERS_SHARE = 0.05
# Columns of a cpu line of /proc/stat: user nice system idle iowait irq softirq steal; guest time is in user already.
_IDLE, _IOWAIT, _STEAL, _COLUMNS = 3, 4, 7, 8
_TICKS = os.sysconf("SC_CLK_TCK")
# Entries of cpu.stat that tell how long a group was held, in seconds (control groups of version 2 and 1).
_THROTTLED = {"throttled_usec": 1e-6, "throttled_time": 1e-9}


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTime:
    """Seconds since boot, summed over some CPUs."""

    busy_s: float
    steal_s: float


def cpu_time(machine: Machine | None = None) -> CpuTime | None:
    """Read the kernel's counters of the CPUs that this process may use; ``None`` where there are none."""
    machine = machine or Machine()
    return _cpu_time(machine, allowed(machine))


def _cpu_time(machine: Machine, cpus: Iterable[int]) -> CpuTime | None:
    mine = {f"cpu{number}" for number in cpus}
    rows = [line.split() for line in (machine.text("proc/stat") or "").splitlines()]
    columns = [
        [int(value) for value in row[1 : 1 + _COLUMNS]]
        for row in rows
        if row and row[0] in mine and len(row) > _COLUMNS
    ]
    if not columns:
        return None
    busy = sum(sum(each) - each[_IDLE] - each[_IOWAIT] - each[_STEAL] for each in columns)
    return CpuTime(busy_s=busy / _TICKS, steal_s=sum(each[_STEAL] for each in columns) / _TICKS)


class Steal:
    """Stolen time: seconds that the host ran other guests while our CPUs were ready to run.

    `lap` gives the seconds since its last call; ``None`` is unknown.
    """

    def __init__(self, machine: Machine | None = None) -> None:
        self._machine = machine or Machine()
        self._last = self._read()

    def _read(self) -> float | None:
        now = cpu_time(self._machine)
        return now.steal_s if now else None

    def lap(self) -> float | None:
        """Seconds stolen since the last call, or since construction."""
        before, self._last = self._last, self._read()
        return None if before is None or self._last is None else round(max(0.0, self._last - before), 6)


class Switches:
    """Involuntary context switches of this process; `lap` gives those since the last call."""

    def __init__(self) -> None:
        self._last = self._read()

    @staticmethod
    def _read() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw

    def lap(self) -> int:
        """Switches since the last call, or since construction."""
        before, self._last = self._last, self._read()
        return self._last - before


class Quota:
    """How often, and for how long, control groups held this process because its quota of CPU time was used up.

    Seconds are summed over CPUs. `lap` gives both since its last call: zeros where no group has a quota.
    """

    def __init__(self, machine: Machine | None = None) -> None:
        self._machine = machine or Machine()
        self._files = [f"{group}/cpu.stat" for group in cpu_groups(self._machine)]
        self._last = self._read()

    def _read(self) -> tuple[int, float]:
        stops, seconds = 0, 0.0
        for file in self._files:
            for line in (self._machine.text(file) or "").splitlines():
                name, _, value = line.partition(" ")
                if name == "nr_throttled" and value.isdigit():
                    stops += int(value)
                elif name in _THROTTLED and value.isdigit():
                    seconds += int(value) * _THROTTLED[name]
        return stops, seconds

    def lap(self) -> tuple[int, float]:
        """Stops and seconds since the last call, or since construction."""
        before, self._last = self._last, self._read()
        return max(0, self._last[0] - before[0]), max(0.0, self._last[1] - before[1])


class Around:
    """What befalls the CPUs of one burst of samples, from `begin` to `end`."""

    def __init__(self, topology: Topology | None, machine: Machine | None = None) -> None:
        self._machine = machine or Machine()
        self._topology = topology
        self._steal, self._quota = Steal(self._machine), Quota(self._machine)
        self._siblings: tuple[int, ...] = ()
        self._worked = 0.0

    def begin(self, cpus: Sequence[int] | None) -> None:
        """Begin a burst on these CPUs (``None``: unknown)."""
        self._siblings = siblings(self._topology, cpus or ())
        self._worked = self._siblings_s()
        self._steal.lap()
        self._quota.lap()

    def end(self) -> dict[str, Any]:
        """The fields of `Samples` of the same names: ``steal_s``, ``quota_s`` and ``sibling_s``."""
        steal, (_, held) = self._steal.lap(), self._quota.lap()
        worked = max(0.0, self._siblings_s() - self._worked)
        return {"steal_s": steal, "quota_s": round(held, 6), "sibling_s": round(worked, 6)}

    def _siblings_s(self) -> float:
        found = _cpu_time(self._machine, self._siblings) if self._siblings else None
        return found.busy_s if found is not None else 0.0


def siblings(topology: Topology | None, cpus: Sequence[int]) -> tuple[int, ...]:
    """CPUs that share a core with some of these and are none of them."""
    known = topology.cpus if topology is not None else ()
    cores = {cpu.core for cpu in known if cpu.number in cpus and cpu.core is not None}
    return tuple(cpu.number for cpu in known if cpu.core in cores and cpu.number not in cpus)


def _own_s() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _processes(machine: Machine) -> dict[int, tuple[str, float]]:
    """Command name and CPU seconds of every visible process but this one and its parent."""
    ours = {os.getpid(), os.getppid()}
    found: dict[int, tuple[str, float]] = {}
    try:
        numbers = [int(entry.name) for entry in (machine.root / "proc").iterdir() if entry.name.isdigit()]
    except OSError:
        return found
    for number in numbers:
        # The name stands in parentheses and may hold any character; what follows the last one is plain.
        match = re.fullmatch(r"\d+ \((.*)\) (.*)", machine.text(f"proc/{number}/stat") or "", re.DOTALL)
        columns = match[2].split() if match else []
        if number not in ours and match and len(columns) > 12:
            name = re.sub(r"[^A-Za-z0-9._+-]", "", match[1])[:15] or "unnamed"
            found[number] = (name, (int(columns[11]) + int(columns[12])) / _TICKS)
    return found


class Disturbance:
    """Counters taken at the start of a run, and what they say at its end."""

    def __init__(self, machine: Machine | None = None) -> None:
        self._machine = machine or Machine()
        self._allowed = allowed(self._machine)
        self._cpus = max(1, len(self._allowed))
        self._environment = environment_findings(self._machine)
        self._steal = Steal(self._machine)
        self._quota = Quota(self._machine)
        self._switches = Switches()
        self._processes = _processes(self._machine)
        self._own_s = _own_s()
        self._cpu = cpu_time(self._machine)
        self._started = time.monotonic()
        self._facts: dict[str, Value | None] | None = None
        self._busiest: str | None = None

    def _read_once(self) -> Mapping[str, Value | None]:
        """Read the counters at the first call, which ends the interval that they cover."""
        if self._facts is None:
            elapsed = max(time.monotonic() - self._started, 1e-3)
            now = cpu_time(self._machine)
            others: float | None = None
            if now is not None and self._cpu is not None:
                others = max(0.0, now.busy_s - self._cpu.busy_s - (_own_s() - self._own_s))
            steal = self._steal.lap()
            whole = elapsed * self._cpus
            (stops, held), cpus = self._quota.lap(), allowed(self._machine)
            self._facts = {
                "run_s": round(elapsed, 3),
                "steal_s": None if steal is None else round(steal, 3),
                "steal_share": None if steal is None else round(steal / whole, 5),
                "other_processes_s": None if others is None else round(others, 3),
                "other_processes_share": None if others is None else round(others / whole, 5),
                "involuntary_switches": self._switches.lap(),
                "quota_stops": stops,
                "quota_s": round(held, 3),
            }
            if cpus != self._allowed:
                self._facts["cpus_changed"] = f"{cpu_text(self._allowed)} -> {cpu_text(cpus)}"
            self._busiest = self._name_busiest()
        return self._facts

    def _name_busiest(self) -> str | None:
        spent: dict[str, float] = {}
        for number, (name, seconds) in _processes(self._machine).items():
            before = self._processes.get(number, (name, 0.0))
            spent[name] = spent.get(name, 0.0) + max(0.0, seconds - (before[1] if before[0] == name else 0.0))
        busiest = max(spent, key=spent.__getitem__, default=None)
        return busiest if busiest is not None and spent[busiest] > 0 else None

    def facts(self) -> dict[str, Value | None]:
        """Seconds and shares of the run, by name; a share is of all allowed CPUs."""
        return dict(self._read_once())

    def findings(self) -> list[Finding]:
        """What was bad about the environment from the start, and what disturbed the run."""
        facts = self._read_once()
        return [*self._environment, *_disturbances(facts, self._cpus, self._busiest)]


def _disturbances(facts: Mapping[str, Value | None], cpus: int, busiest: str | None) -> list[Finding]:
    found = []
    during = f"of {cpus} CPU{'s' if cpus > 1 else ''} during the {float(facts.get('run_s') or 0):.0f} s of the run"
    steal = float(facts.get("steal_share") or 0)
    if steal > STEAL_SHARE:
        says = f"the host took {float(facts.get('steal_s') or 0):.1f} s {during} ({steal:.0%}) for other guests"
        found.append(
            Finding(
                code="steal", severity="warning", says=says, remedy="measure at another time, or on a dedicated host"
            )
        )
    others = float(facts.get("other_processes_share") or 0)
    if others > OTHERS_SHARE:
        who = f"; the busiest was '{busiest}'" if busiest else ""
        says = f"other processes used {float(facts.get('other_processes_s') or 0):.1f} s {during} ({others:.0%}){who}"
        found.append(
            Finding(
                code="other-processes",
                severity="warning",
                says=says,
                remedy="stop them and measure again",
            )
        )
    return found
