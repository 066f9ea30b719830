"""What a whole run would take on an H100, and how many rounds its cases get: the session itself on a virtual clock.

Run it in a checkout with PyTorch and Triton installed, as ``python benchmarks/gpu_first_run/virtual_clock.py [quick]
[--host-speed 0.5]``. Device times are shares of what the sheets compute at the clock; what the host works out and
compares was measured on a CPU and stands in host_costs.csv (`host_costs.py` writes it); what libraries and compilers
take to start is what is known of such machines. It is a thought experiment on the time limit, and no part of the kit
that runs on the card.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

from microbench.analysis.ceilings import analyse
from microbench.hardware import cuda as probe
from microbench.hardware.nominal import nominal_rate
from microbench.kernels import Kernel, library, registry
from microbench.kernels.cuda import code
from microbench.kernels.gemm_search import Shape, search
from microbench.kernels.triton import registry as triton
from microbench.measure.budget import Deadline, Pace, Schedule
from microbench.measure.plan import BUDGETS, Selection, limited
from microbench.records import Device, Finding, Plan, Sheet, Timing, Value
from microbench.report.progress import Quiet
from microbench.runs import session, signals
from microbench.runs.job import Job, plan_in_time
from microbench.runs.recorder import Recorder
from microbench.runs.saving import Request

H100 = {
    "name": "NVIDIA H100 80GB HBM3", "uuid": b"1" * 16, "memory_bytes": 85_000_000_000, "pci": "0", "major": 9,
    "minor": 0, "multiprocessors": 132, "clock_khz": 1_980_000, "shared_per_multiprocessor": 233_472,
    "l2_bytes": 52_428_800, "memory_clock_khz": 2_619_000, "bus_bits": 5120,
}  # fmt: skip
CLOCK_HZ = 1.755e9
UNITS_SHARE, SLOW_SHARE = 0.98, 0.93  # of nominal that a loop reaches: the chip's own path, and library or compiler
L1_BYTES, L2_BYTES = 200 << 10, 26 << 20  # beyond the second one a partition of L2 no longer holds a working set
DRAM_RATE, L2_RATE, SHARED_RATE = 3e12, 6e12, 29e12
OTHER_RATE = 60e12
STEP_S = {"shared": (18e-9,) * 3, "ca": (40e-9, 150e-9, 600e-9), "cg": (150e-9, 150e-9, 600e-9)}  # by level
LAUNCH_S = {"enqueue": 2e-6, "period": 2.2e-6, "held": 1.2e-6, "graph": 1.2e-6, "round_trip": 8e-6}
LINK_RATE = {"pageable": 20e9, "pinned": 50e9}
CHUNK, COPIED = 4096, 64 << 20  # bytes that an iteration and a call of a copy carry
SETTLE_S, IDLE_S, LONG_S = 2.0, 0.25, 24e-3  # of a sustained case: warm-up, rest before it is due again, one launch
# The host around a launch: calls of the driver with the copy of the stamps, and of the sensors.
CALLS_S, SENSORS_S, SENSORS_EVERY_S, REASONS_S, REASONS_EVERY_S = 0.12e-3, 2e-3, 20e-3, 0.3e-3, 5e-3
EVENTS_S = {"triton": 3e-3, "torch": 0.05e-3}
FIRST_S = 8e-3  # the first comparison of a compute kernel reads every block
# Starts: the process until it has a plan, PyTorch with its context and cuBLAS, a Triton kernel, code of a family.
START_S, TORCH_S, TRITON_S, LOAD_S = 3.0, 8.0, 2.5, 20e-3
SLOW_CALL_S, NEW_CODE_S, OPERANDS_S = 0.34, 0.05, 5e-3  # a library's first product, one of a new shape, its operands
FILL_RATE = 5e11  # bytes a second that the device fills
CHECK_S = 30e-3  # a few iterations of every block against a reference
OPERATORS_S = 90.0  # that calibrating operators may take in a default run


@dataclass
class Clock:
    """Seconds that nobody waits for, and what they were spent on."""

    now_s: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)
    busy_s: float = 0.0  # of the device inside bursts
    bursts_s: float = 0.0

    def __call__(self) -> float:
        """What every clock would say."""
        self.now_s += 1e-6  # so that a loop that only looks at the clock ends
        return self.now_s

    def take(self, seconds: float, *what: str) -> None:
        """Let so many seconds pass."""
        self.now_s += seconds
        self.spent[" ".join(what)] = self.spent.get(" ".join(what), 0.0) + seconds


@contextmanager
def ticking(clock: Clock) -> Iterator[None]:
    """Let everything that asks a clock ask this one."""
    with ExitStack() as stack:
        for name in ("monotonic", "process_time", "thread_time"):
            stack.enter_context(patch.object(time, name, clock))
        yield


class Imagined:
    """A kernel on the imagined card: a launch advances the clock."""

    def __init__(self, clock: Clock, sheet: Sheet, device: Device, working_set: int, check_s: float) -> None:
        self.clock, self.sheet, self.check_s = clock, sheet, check_s
        self.each_s, self.grain = cost(sheet, device, working_set)
        self.walked_s = working_set / 128 * STEP_S["cg"][1] if working_set <= 2 << 20 else 1.5e-3
        self.sustained = sheet.operands == "random" and sheet.backend == "cuda"
        self.steady_until = -1.0
        self.looked = -1.0
        self.first = sheet.backend == "cuda" and sheet.measures == "compute"
        self.own = sheet.backend == "cuda" and sheet.measures not in ("cost", "link")
        if self.own:  # others look at each launch by itself
            self.burst = self._burst

    def _count(self, iterations: int) -> int:
        if self.sustained:
            return max(1, int(LONG_S / self.each_s) // self.grain) * self.grain
        return -(-max(1, int(iterations)) // self.grain) * self.grain

    def _timing(self, count: int) -> Timing:
        clock_hz = CLOCK_HZ if self.own else None
        took = self.each_s * count + 4e-6
        return Timing(ns=max(1, round(took * 1e9)), iterations=count, checked=True, clock_hz=clock_hz)

    def run(self, iterations: int) -> Timing:
        """Launch once, and compare."""
        count, clock = self._count(iterations), self.clock
        if self.sustained and clock.now_s - self.steady_until > IDLE_S:
            clock.take(SETTLE_S, "settling")
        timing = self._timing(count)
        around = EVENTS_S.get(self.sheet.backend, CALLS_S) + self.check_s + FIRST_S * self.first
        if clock.now_s - self.looked >= SENSORS_EVERY_S:
            around, self.looked = around + SENSORS_S, clock.now_s
        clock.take(timing.ns * 1e-9 + around, self.sheet.backend, self.sheet.measures, "one by one")
        self.first, self.steady_until = False, clock.now_s
        return timing

    def _burst(self, iterations: int, count: int, limit_s: float) -> list[Timing]:
        """Launch back to back, and compare the last."""
        clock, began, timing = self.clock, self.clock.now_s, self._timing(self._count(iterations))
        taken: list[Timing] = []
        looked = began
        while len(taken) < count and (not taken or clock.now_s - began <= limit_s):
            if clock.now_s - looked >= REASONS_EVERY_S:
                clock.take(REASONS_S, "sensors")
                looked = clock.now_s
            clock.take(timing.ns * 1e-9 + CALLS_S, self.sheet.backend, self.sheet.measures, "bursts")
            taken.append(timing)
        clock.busy_s += len(taken) * timing.ns * 1e-9
        clock.bursts_s += clock.now_s - began
        clock.take(REASONS_S + self.check_s, self.sheet.backend, self.sheet.measures, "compared")
        return taken

    def warm(self) -> None:
        """Read the set from every multiprocessor, and follow it where it is small."""
        if self.sheet.measures == "latency":
            self.clock.take(CALLS_S + self.walked_s, "warm")
        else:
            self.run(1)

    def close(self) -> None:
        """Nothing is held."""


def cost(sheet: Sheet, device: Device, working_set: int) -> tuple[float, int]:
    """Seconds of an iteration, and the iterations that a launch rounds up to."""
    flop, blocks = sheet.work.flop, 132 * (4 if sheet.measures == "compute" else 8)
    if sheet.measures == "latency":
        level = (working_set > L1_BYTES) + (working_set > L2_BYTES)
        return sheet.loads * STEP_S[sheet.variant][level], 1
    if sheet.measures == "cost":
        return LAUNCH_S[sheet.name.partition(".")[2]], 1
    if sheet.measures == "link":
        rate = LINK_RATE["pageable" if "pageable" in sheet.name else "pinned"]
        return CHUNK / rate, COPIED // CHUNK
    nominal = nominal_rate(sheet, device, clock_hz=CLOCK_HZ, threads=1) if sheet.measures != "memory" else None
    share = UNITS_SHARE if sheet.backend == "cuda" else SLOW_SHARE
    peak = share * (nominal or OTHER_RATE)
    if sheet.measures == "compute":
        return flop / peak, max(1, int(1.1e12 / flop)) if sheet.backend == "torch" else blocks
    if sheet.backend == "torch":
        return sheet.work.bytes / DRAM_RATE, max(1, working_set // 2 // library.LINE)
    rate = SHARED_RATE if not working_set else DRAM_RATE if working_set > L2_BYTES else L2_RATE
    return max(sheet.work.bytes / rate, flop / peak), blocks


class Host:
    """What the host takes for a kernel before and after its launches."""

    def __init__(self, clock: Clock, device: Device, speed: float) -> None:
        lines = (Path(__file__).with_name("host_costs.csv")).read_text().splitlines()
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
        self.clock, self.device, self.speed = clock, device, speed
        self.check = {(row["kernel"], row["level"]): float(row["check_ms"]) * 1e-3 / speed for row in rows}
        self.operands = {row["kernel"]: float(row["prepare_ms"]) * 1e-3 / speed for row in rows}
        self.done: set[str] = set()

    def once(self, name: str, seconds: float, what: str) -> None:
        """Something that is paid for once a process."""
        if name not in self.done:
            self.done.add(name)
            self.clock.take(seconds / self.speed, what)

    def ready(self, sheet: Sheet) -> None:
        """Code and operands."""
        name = sheet.name.removesuffix(".random")
        if sheet.backend == "torch":
            self.once("torch", TORCH_S, "starting PyTorch")
        elif sheet.backend == "triton":
            self.once("torch", TORCH_S, "starting PyTorch")
            self.once(name, TRITON_S, "compiling Triton kernels")
        else:
            self.once(sheet.source, LOAD_S, "loading code")
            self.once(sheet.name, self.operands.get(name, 0.0) * self.speed, "operands")

    def prepare(self, sheet: Sheet, params: Mapping[str, Value]) -> Imagined:
        """Prepare a case."""
        self.ready(sheet)
        working_set = int(params.get("working_set", 0))
        self.clock.take(1e-3 / self.speed + working_set / FILL_RATE, "filling memory")
        if sheet.backend == "torch" and sheet.measures == "compute":
            search(lambda shape: self.product(sheet, shape), library.SEARCH_S["cuda"], library.LARGEST["cuda"])
        name, level = sheet.name.removesuffix(".random"), "DRAM" if working_set > L2_BYTES else "L2"
        compared = self.check.get((name, ""), self.check.get((name, level), 0.0))
        stamps = self.check["stamps", ""] if sheet.backend == "cuda" else 0.0
        return Imagined(self.clock, sheet, self.device, working_set, compared + stamps)

    def product(self, sheet: Sheet, shape: Shape) -> tuple[float, float]:
        """Ask a library for the rate of a shape: its operands, a first product, and two that are timed."""
        flop, each_s = 2 * math.prod(shape), 0.0
        # Small products do not fill the device.
        each_s = max(flop / sheet.work.flop * cost(sheet, self.device, 0)[0], 8e-6)
        first = NEW_CODE_S if sheet.name in self.done else SLOW_CALL_S
        self.done.add(sheet.name)
        self.clock.take((OPERANDS_S + first) / self.speed + 3 * each_s, "searching products")
        return flop / each_s, 3 * each_s

    def checked(self, sheet: Sheet) -> Finding | None:
        """The check before a kernel is timed."""
        self.ready(sheet)
        self.clock.take(CHECK_S / self.speed, "checks")
        return None


def imagined_kernels(device: Device, host: Host) -> dict[str, Kernel]:
    """Every kernel of the card, as if its machine code, PyTorch and Triton could be used here."""

    def of(kernel: Kernel) -> Kernel:
        return replace(
            kernel,
            prepare=lambda _device, params, _threads, _cpus=None: host.prepare(kernel.sheet, params),
            check=lambda _device: host.checked(kernel.sheet),
        )

    with (
        patch.object(code.Library, "here", classmethod(lambda cls, held: cls(held, 13000))),
        patch.object(library, "why_not", lambda _: None),
        patch.object(triton, "no_torch", lambda _: None),
    ):
        return {name: of(kernel) for name, kernel in registry(device).items()}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run: its plan, rounds by case, seconds when it was prepared, measured and over, its findings, the clock."""

    plan: Plan
    rounds: Counter[str]
    prepared_s: float
    measured_s: float
    took_s: float
    limit_s: float
    converged: int
    findings: tuple[Finding, ...]
    clock: Clock

    @property
    def duty(self) -> float:
        """Share of a burst in which the device works."""
        return self.clock.busy_s / self.clock.bursts_s


class ImaginedPace(Pace):
    """A start takes as long at any time."""

    def __init__(self, start_s: float) -> None:
        self._start_s = start_s

    def start_s(self) -> float:
        """Seconds of a start."""
        return self._start_s


def whole_run(name: str, host_speed: float = 1.0) -> Outcome:
    """Carry out a budget on the imagined card."""
    clock = Clock()
    device = probe.describe(0, H100, {"power_limit_w": 700.0})
    host = Host(clock, device, host_speed)
    kernels = imagined_kernels(device, host)
    with ticking(clock):
        clock.take(START_S / host_speed, "starting")
        budget = limited(BUDGETS[name], None, device.kind)
        plan, no_time = plan_in_time(device, kernels, Selection(), budget)
        deadline = Deadline(limit_s=budget.time_limit_s, started=0.0, clock=clock)
        job = Job(
            device=device,
            kernels=kernels,
            plan=plan,
            resumed=None,
            schedule=Schedule(deadline=deadline, pace=ImaginedPace(START_S / host_speed), page=True),
            no_time=no_time,
        ).begun(Selection())
        recorder = Recorder(None, Quiet(), job.sheets(), deadline)
        shares = job.schedule.shares()
        request = Request(budget=name, page=True)
        with signals.held() as pending:
            job, findings, _ = session._check_and_measure(request, job, recorder, pending)  # noqa: SLF001
        measured_s = clock.now_s
        if job.schedule.operators:
            clock.take(min(OPERATORS_S, job.schedule.for_operators_s()), "operators")
        clock.take(shares.after_s, "analysis, proof, page")
    rounds = Counter(samples.case for samples in recorder.samples)
    made = analyse(recorder.samples, job.plan, job.sheets(), device)
    return Outcome(
        plan=plan,
        rounds=rounds,
        prepared_s=recorder.times.get("prepared", 0.0),
        measured_s=measured_s,
        took_s=clock.now_s,
        limit_s=budget.time_limit_s,
        converged=sum(ceiling.converged for ceiling in made.ceilings),
        findings=tuple(findings),
        clock=clock,
    )


def main() -> int:
    """Run a plan, and print how many rounds its cases got and what took the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("budget", nargs="?", default="default", choices=list(BUDGETS))
    parser.add_argument("--host-speed", type=float, default=1.0, help="of the host, against the one that was measured")
    options = parser.parse_args()
    found = whole_run(options.budget, options.host_speed)
    counts = [found.rounds[case.key] for case in found.plan.cases]
    few = sum(count < 3 for count in counts)
    print(
        f"{options.budget}: {len(counts)} cases in {found.took_s:.1f} s of {found.limit_s:g} s, of which prepared in "
        f"{found.prepared_s:.1f} s, measured by {found.measured_s:.1f} s"
    )
    print(f"rounds: least {min(counts)}, middle {statistics.median(counts):g}, most {max(counts)}; below 3: {few}")
    print(f"converged: {found.converged} ceilings; the device works {100 * found.duty:.0f} % of a burst")
    for what, seconds in sorted(found.clock.spent.items(), key=lambda each: -each[1]):
        print(f"  {seconds:7.1f} s  {what}")
    for finding in found.findings:
        print(f"  {finding.code}: {finding.says}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
