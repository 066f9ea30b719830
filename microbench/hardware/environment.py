"""The conditions that numbers are measured under: one small function per fact, ``None`` where a machine hides it.

No host name, user, path, serial or other identity is read. A fact that is bad for measuring becomes a finding with a
remedy; nothing is changed.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from microbench.errors import MicrobenchError
from microbench.hardware import extensions
from microbench.hardware.procfs import Machine, allowed, cpu_groups, cpu_list
from microbench.records import Finding, Value, units

Read = Callable[[Machine], Value | None]
Judge = Callable[[Value, Machine], Finding | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A fact of the environment: its name, unit (empty for words), reader, and the check that it is fit to measure."""

    name: str
    unit: str
    read: Read
    judge: Judge | None = None


FACTS: list[Fact] = []
# Facts that change from minute to minute by themselves: where others differ, the conditions do.
PASSING = frozenset({"load", "memory_available", "swap_used", "gpu_pcie_generation"})


def fact(unit: str = "", judge: Judge | None = None) -> Callable[[Read], Read]:
    """Register a function as a fact of its own name."""

    def register(read: Read) -> Read:
        FACTS.append(Fact(name=read.__name__, unit=unit, read=read, judge=judge))
        return read

    return register


def _doubt(code: str, says: str, remedy: str) -> Finding:
    return Finding(code=code, severity="warning", says=says, remedy=remedy)


# --- software
# --------------------------------------------------------------------------------------------------------------------


@fact()
def kernel(machine: Machine) -> Value | None:
    """Release of the operating system kernel."""
    return machine.text("proc/sys/kernel/osrelease")


@fact()
def python(machine: Machine) -> Value | None:  # noqa: ARG001
    """Version of the interpreter."""
    return platform.python_version()


def _build(key: str) -> Value | None:
    """One entry of what the native module says about its own build; ``None`` where there is no such module."""
    try:
        value = extensions.cpu().build_info().get(key)
    except (MicrobenchError, AttributeError):
        return None
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value) or "none"
    return value if isinstance(value, (str, int, float, bool)) else None


@fact()
def compiler(machine: Machine) -> Value | None:  # noqa: ARG001
    """Compiler of the native module, with its version."""
    words = [str(word) for word in (_build("compiler"), _build("version")) if word]
    return " ".join(words) or None


def _slow_build(value: Value, _: Machine) -> Finding | None:
    remedy = "install a release build: pip install --force-reinstall ."
    return (
        None
        if value
        else _doubt("not-optimised", "the native module was built without optimisation: every rate is too low", remedy)
    )


@fact(judge=_slow_build)
def optimised(machine: Machine) -> Value | None:  # noqa: ARG001
    """Whether the native module was built with optimisation."""
    return _build("optimised")


def _sanitised(value: Value, _: Machine) -> Finding | None:
    if value in (False, "", "none"):
        return None
    return _doubt(
        "sanitised",
        f"the native module was built with sanitisers ({value}): every rate is too low",
        "install a release build",
    )


@fact(judge=_sanitised)
def sanitisers(machine: Machine) -> Value | None:  # noqa: ARG001
    """Sanitisers compiled into the native module."""
    return _build("sanitisers")


# --- processor
# -------------------------------------------------------------------------------------------------------------------


@fact()
def microcode(machine: Machine) -> Value | None:
    """Revision of the processor's microcode, as the kernel sees it."""
    return machine.entry("proc/cpuinfo", "microcode")


@fact()
def hypervisor(machine: Machine) -> Value | None:
    """Whether this is a virtual machine: the hypervisor's name, ``yes`` or ``none``."""
    flags = machine.entry("proc/cpuinfo", "flags")
    if flags is None:
        return machine.text("sys/hypervisor/type")
    return (machine.text("sys/hypervisor/type") or "yes") if "hypervisor" in flags.split() else "none"


def _emulator(value: Value, _: Machine) -> Finding | None:
    says = f"programs for {platform.machine()} are translated here ({value}): every figure is the translator's"
    return _doubt("emulated", says, "measure where the processor runs the program itself")


@fact(judge=_emulator)
def emulated(machine: Machine) -> Value | None:
    """What shows that a translator such as QEMU or Rosetta runs this program; ``None`` where nothing does.

    Translators of single programs pass on the kernel's description of the real processor, which has other entries for
    other architectures. Those that describe a processor of their own leave Arm's implementer 0, which is reserved for
    software, or a brand of their own.
    """
    x86, arm = machine.entry("proc/cpuinfo", "vendor_id"), machine.entry("proc/cpuinfo", "CPU implementer")
    if platform.machine() == "aarch64":
        own = "implementer 0 is software" if arm and re.fullmatch(r"0x0+", arm) else None
        return f"the kernel describes {x86}" if x86 and not arm else own
    model = machine.entry("proc/cpuinfo", "model name") or ""
    own = f"it calls itself {model}" if x86 == "VirtualApple" or "TCG" in model else None
    return f"the kernel describes implementer {arm}" if arm and not x86 else own


def _governor_slow(value: Value, _: Machine) -> Finding | None:
    if value == "performance":
        return None
    says = f"the frequency governor is {value}: the clock may not be up when a sample starts"
    return _doubt("governor", says, "sudo cpupower frequency-set -g performance")


@fact(judge=_governor_slow)
def governor(machine: Machine) -> Value | None:
    """Frequency governors in use; ``None`` where the system does not set the clock (virtual machines)."""
    return ", ".join(sorted(set(machine.texts("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")))) or None


@fact("Hz")
def clock_max(machine: Machine) -> Value | None:
    """Highest clock that cpufreq would set."""
    kilohertz = machine.number("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    return kilohertz * 1000 if kilohertz else None


@fact()
def turbo(machine: Machine) -> Value | None:
    """Whether clocks above the base clock are allowed."""
    off = machine.number("sys/devices/system/cpu/intel_pstate/no_turbo")
    on = machine.number("sys/devices/system/cpu/cpufreq/boost")
    return off == 0 if off is not None else on == 1 if on is not None else None


@fact()
def smt(machine: Machine) -> Value | None:
    """Whether several hardware threads share a core, as far as the system knows."""
    active = machine.number("sys/devices/system/cpu/smt/active")
    return None if active is None else active == 1


@fact()
def mitigations(machine: Machine) -> Value | None:
    """How many processor vulnerabilities are mitigated, open, or do not concern this processor."""
    states = machine.texts("sys/devices/system/cpu/vulnerabilities/*")
    if not states:
        return None
    mitigated = sum("mitigation" in state.lower() for state in states)
    spared = sum(state.lower().startswith("not affected") for state in states)
    return f"{mitigated} mitigated, {len(states) - mitigated - spared} open, {spared} not affected"


# --- what this process may use
# -----------------------------------------------------------------------------------------------------


def _one_cpu(value: Value, _: Machine) -> Finding | None:
    if value != 1:
        return None
    says = "this process may use one CPU only: nothing is measured with several threads"
    return Finding(
        code="one-cpu", severity="info", says=says, remedy="give it more with taskset or the container's cpuset"
    )


@fact(judge=_one_cpu)
def cpus(machine: Machine) -> Value | None:
    """Number of CPUs that this process may run on."""
    return len(allowed(machine)) or None


def _quota_bites(value: Value, machine: Machine) -> Finding | None:
    count = len(allowed(machine))
    if not count or float(value) >= count:
        return None
    says = f"a quota gives this process {float(value):g} of {count} CPUs: it is stopped in the middle of samples"
    return _doubt(
        "cpu-quota", says, "raise the container's CPU limit, or pin it to whole CPUs (--cpuset-cpus) without a limit"
    )


@fact("CPUs", judge=_quota_bites)
def cpu_quota(machine: Machine) -> Value | None:
    """CPUs' worth of time that control groups allow; ``None`` without a limit."""
    limits: list[float] = []
    for group in cpu_groups(machine):
        limits += _limit(machine.text(f"{group}/cpu.max"))
        limits += _limit(f"{machine.text(f'{group}/cpu.cfs_quota_us')} {machine.text(f'{group}/cpu.cfs_period_us')}")
    return min(limits, default=None)


def _limit(text: str | None) -> list[float]:
    match = re.fullmatch(r"(\d{1,12}) (\d{1,12})", text or "")
    return [int(match[1]) / int(match[2])] if match and int(match[1]) > 0 and int(match[2]) > 0 else []


def _busy(value: Value, machine: Machine) -> Finding | None:
    count = len(allowed(machine)) or 1
    if float(value) < 0.5 * count:
        return None
    says = f"the machine was busy when this began (load {float(value):g} on {count} CPUs)"
    return _doubt("load", says, "stop what else is running ('top' shows it), or measure at another time")


@fact("runnable", judge=_busy)
def load(machine: Machine) -> Value | None:
    """Load average of the last minute."""
    match = re.match(r"(\d+\.\d+)\s", machine.text("proc/loadavg") or "")
    return float(match[1]) if match else None


@fact()
def isolated_cpus(machine: Machine) -> Value | None:
    """CPUs that the scheduler leaves alone."""
    return machine.text("sys/devices/system/cpu/isolated")


# --- memory and time
# -------------------------------------------------------------------------------------------------------------


@fact("byte")
def memory(machine: Machine) -> Value | None:
    """Memory of the system."""
    return machine.kibibytes("MemTotal")


def _short(value: Value, _: Machine) -> Finding | None:
    if float(value) >= 2 * 2**30:
        return None
    says = f"only {units.size(float(value))} of memory is available: the largest working sets may not fit"
    return _doubt("memory-short", says, "end programs that hold much memory")


@fact("byte", judge=_short)
def memory_available(machine: Machine) -> Value | None:
    """Memory that can be had without swapping."""
    return machine.kibibytes("MemAvailable")


def _swapping(value: Value, _: Machine) -> Finding | None:
    if float(value) < 2**30:
        return None
    return _doubt(
        "swap",
        f"{units.size(float(value))} are swapped out: memory is short here",
        "end programs that hold much memory",
    )


@fact("byte", judge=_swapping)
def swap_used(machine: Machine) -> Value | None:
    """Swap space in use."""
    total, free = machine.kibibytes("SwapTotal"), machine.kibibytes("SwapFree")
    return total - free if total is not None and free is not None else None


def _no_huge_pages(value: Value, _: Machine) -> Finding | None:
    if value != "never":
        return None
    says = (
        "transparent huge pages are off: latency and DRAM figures include page walks, and no huge-page rows are "
        "measured"
    )
    return _doubt("huge-pages", says, "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled")


@fact(judge=_no_huge_pages)
def transparent_hugepage(machine: Machine) -> Value | None:
    """When the kernel gives huge pages: always, madvise or never."""
    match = re.search(r"\[(\w+)\]", machine.text("sys/kernel/mm/transparent_hugepage/enabled") or "")
    return match[1] if match else None


@fact("byte")
def huge_page(machine: Machine) -> Value | None:
    """Size of a transparent huge page."""
    return machine.number("sys/kernel/mm/transparent_hugepage/hpage_pmd_size")


@fact()
def numa_nodes(machine: Machine) -> Value | None:
    """Number of memory nodes."""
    return len(cpu_list(machine.text("sys/devices/system/node/online") or "")) or None


def _slow_clock(value: Value, _: Machine) -> Finding | None:
    if value in ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"):
        return None
    says = f"the system keeps time with {value}, which is slow to read: short samples are coarse"
    return _doubt("clocksource", says, "boot with clocksource=tsc where the processor has an invariant counter")


@fact(judge=_slow_clock)
def clocksource(machine: Machine) -> Value | None:
    """What the system keeps time with."""
    return machine.text("sys/devices/system/clocksource/clocksource0/current_clocksource")


# --- all of it
# -------------------------------------------------------------------------------------------------------------------


def environment_facts(machine: Machine | None = None) -> dict[str, Value | None]:
    """Every fact by name; ``None`` where this machine hides it.

    Examples
    --------
    >>> environment_facts()["python"].count(".")
    2
    """
    machine = machine or Machine()
    return {row.name: row.read(machine) for row in FACTS}


def environment_findings(machine: Machine | None = None, facts: dict[str, Value | None] | None = None) -> list[Finding]:
    """The facts that are bad for measuring, as findings with remedies."""
    machine = machine or Machine()
    known = environment_facts(machine) if facts is None else facts
    judged: Iterable[Finding | None] = (
        row.judge(value, machine)
        for row in FACTS
        if row.judge is not None and (value := known.get(row.name)) is not None
    )
    return [finding for finding in judged if finding is not None]
