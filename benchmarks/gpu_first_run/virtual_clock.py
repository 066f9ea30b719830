"""How many rounds each case would get on an H100: the project's own loop on an imagined card and a virtual clock.

Run it in a checkout with PyTorch and Triton installed, as ``python benchmarks/gpu_first_run/virtual_clock.py [quick]
[--host-speed 1.5] [--preparation 60]``. Device times are work over published rates; what the host adds to a launch
(comparing its result) was measured on a CPU under the fake driver and stands in host_costs.csv. It is a thought
experiment on the time limit, and no part of the kit that runs on the card.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

from microbench.hardware import cuda as probe
from microbench.kernels import Kernel, library, registry
from microbench.kernels.cuda import code
from microbench.kernels.triton import registry as triton
from microbench.measure import loop
from microbench.measure.budget import kernels_s
from microbench.measure.plan import BUDGETS, Selection, make_plan
from microbench.records import Case, Device, Samples, Sheet, Timing, Value

H100 = {
    "name": "NVIDIA H100 80GB HBM3", "uuid": b"1" * 16, "memory_bytes": 85_000_000_000, "pci": "0", "major": 9,
    "minor": 0, "multiprocessors": 132, "clock_khz": 1_980_000, "shared_per_multiprocessor": 233_472,
    "l2_bytes": 52_428_800, "memory_clock_khz": 2_619_000, "bus_bits": 5120,
}  # fmt: skip
L1_BYTES, L2_BYTES = 200 << 10, 26 << 20  # beyond the second one a partition of L2 no longer holds a working set
DRAM_RATE, L2_RATE = 3e12, 6e12
VECTOR_RATE, MATRIX_RATE = {"f64": 33e12, "i32": 33e12, "i8": 33e12}, {"f64": 60e12, "f32": 60e12, "i32": 16e12}
OTHER_VECTOR, OTHER_MATRIX = 60e12, 600e12
STEP_S = {"shared": (18e-9,) * 3, "ca": (40e-9, 150e-9, 600e-9), "cg": (150e-9, 150e-9, 600e-9)}  # by level
LAUNCH_S = {"enqueue": 2e-6, "period": 2.2e-6, "held": 1.2e-6, "graph": 1.2e-6, "round_trip": 8e-6}
LINK_RATE = {"pageable": 20e9, "pinned": 50e9}
CHUNK, COPIED = 4096, 64 << 20  # bytes that an iteration and a call of a copy carry
SETTLE_S, IDLE_S, LONG_S = 2.0, 0.25, 24e-3  # of a sustained case: warm-up, rest before it is due again, one launch
HOST_S = {"cuda": 0.35e-3, "triton": 3e-3, "torch": 0.05e-3}  # around a launch, whatever it computes
FIRST_S = 8e-3  # the first comparison of a compute kernel reads every block


@dataclass
class Clock:
    """Seconds that nobody waits for, and what they were spent on."""

    now_s: float = 0.0
    spent: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def monotonic(self) -> float:
        """What `time.monotonic` would say."""
        return self.now_s


class Imagined:
    """A kernel on the imagined card: a launch advances the clock."""

    def __init__(self, clock: Clock, sheet: Sheet, working_set: int, host_s: float) -> None:
        self.clock, self.sheet, self.host_s = clock, sheet, host_s
        self.mode = "sustained" if sheet.operands == "random" else "peak"
        self.each_s, self.grain = cost(sheet, working_set)
        self.steady_until = -1.0
        self.first = sheet.backend == "cuda" and sheet.measures == "compute"

    def run(self, iterations: int) -> Timing:
        """Launch once."""
        began = self.clock.now_s
        count = -(-max(1, int(iterations)) // self.grain) * self.grain
        if self.mode == "sustained":
            if began - self.steady_until > IDLE_S:
                self.clock.now_s += SETTLE_S
            count = max(1, int(LONG_S / self.each_s) // self.grain) * self.grain
        took = self.each_s * count + 4e-6
        self.clock.now_s += took + self.host_s + 2e-3 * min(1.0, (took + self.host_s) / 20e-3) + FIRST_S * self.first
        self.first, self.steady_until = False, self.clock.now_s
        kind = (self.sheet.backend, self.sheet.measures, self.mode)
        self.clock.spent[kind] += self.clock.now_s - began  # type: ignore[assignment]
        own = self.sheet.backend == "cuda" and self.sheet.measures != "link"
        return Timing(ns=max(1, round(took * 1e9)), iterations=count, checked=True, clock_hz=1.755e9 if own else None)

    def close(self) -> None:
        """Nothing is held."""


def cost(sheet: Sheet, working_set: int) -> tuple[float, int]:
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
    dtype = sheet.dtype or ""
    matrix = sheet.unit == "matrix" or sheet.backend == "torch"
    peak = MATRIX_RATE.get(dtype, OTHER_MATRIX) if matrix else VECTOR_RATE.get(dtype, OTHER_VECTOR)
    if sheet.measures == "compute":
        return flop / peak, max(1, int(1.1e12 / flop)) if sheet.backend == "torch" else blocks
    moved = sheet.work.bytes / (DRAM_RATE if working_set > L2_BYTES else L2_RATE)
    return max(moved, flop / peak), blocks


def host_costs() -> dict[tuple[str, str], float]:
    """Seconds that comparing a result takes on the host, by kernel and level."""
    lines = (Path(__file__).with_name("host_costs.csv")).read_text().splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {(row["kernel"], row["level"]): float(row["check_ms"]) * 1e-3 for row in rows}


def imagined_kernels(device: Device, clock: Clock, host_speed: float) -> dict[str, Kernel]:
    """Every kernel of the card, as if its machine code, PyTorch and Triton could be used here."""
    costs = host_costs()

    def prepare(sheet: Sheet, params: Mapping[str, Value]) -> Imagined:
        working_set = int(params.get("working_set", 0))
        name, level = sheet.name.removesuffix(".random"), "DRAM" if working_set > L2_BYTES else "L2"
        check = costs.get((name, ""), costs.get((name, level), 0.0))
        return Imagined(clock, sheet, working_set, check / host_speed + HOST_S.get(sheet.backend, 0.0))

    def of(kernel: Kernel) -> Kernel:
        return replace(kernel, prepare=lambda _device, params, _threads, _cpus=None: prepare(kernel.sheet, params))

    with (
        patch.object(code.Library, "here", classmethod(lambda cls, held: cls(held, 13000))),
        patch.object(library, "why_not", lambda _: None),
        patch.object(triton, "no_torch", lambda _: None),
    ):
        return {name: of(kernel) for name, kernel in registry(device).items()}


class Rounds:
    """Counts the rounds of each case."""

    def __init__(self) -> None:
        self.of_case: Counter[str] = Counter()

    def sampled(self, samples: Samples) -> None:
        """Count one."""
        self.of_case[samples.case] += 1

    def progressed(self, case: Case, round_index: int, best: float) -> None:
        """Show nothing."""


def main() -> int:
    """Run a plan, and print how many rounds its cases got and what took the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("budget", nargs="?", default="default", choices=list(BUDGETS))
    parser.add_argument("--host-speed", type=float, default=1.0, help="of the host, against the one that was measured")
    parser.add_argument("--preparation", type=float, default=0.0, help="seconds before the first case is measured")
    options = parser.parse_args()
    clock, rounds = Clock(), Rounds()
    device = probe.describe(0, H100, {"power_limit_w": 700.0})
    kernels = imagined_kernels(device, clock, options.host_speed)
    budget = BUDGETS[options.budget]
    plan = make_plan(device, kernels, Selection(), budget)
    with patch.object(loop, "time", clock):
        measured = loop.Loop(device, kernels, plan, rounds)
        clock.now_s += options.preparation
        measured.run(plan.cases, kernels_s(budget, operators=options.budget != "quick") * 0.85, budget.min_rounds)
    counts = [rounds.of_case[case.key] for case in plan.cases]
    few = sum(count < 3 for count in counts)
    took_s = clock.now_s - options.preparation
    print(f"{budget.name}: {len(counts)} cases in {took_s:.1f} s after {options.preparation:g} s of preparation")
    print(f"rounds: least {min(counts)}, middle {statistics.median(counts):g}, most {max(counts)}; below 3: {few}")
    for kind, seconds in clock.spent.most_common():
        print(f"  {seconds:7.1f} s  {' '.join(kind)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
