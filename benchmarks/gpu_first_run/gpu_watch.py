"""Every CUDA kernel's rate at its defaults, a process for each family under watch.

A worker times the kernels of one family and tells each start and end, as the processes of `microbench check` do: what
hangs, dies or loses the device ends alone.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_rows import Row, say

if TYPE_CHECKING:  # the facts are written before the project is installed
    from microbench.kernels import Kernel
    from microbench.records import Device, Sheet, Timing
    from microbench.runs.isolation import Stand

PROGRAM = Path(__file__).resolve().with_name("gpu_first.py")
GROUPS = ("plain", "stream", "mma", "wgmma", "tcgen05", "shared", "chase", "intensity", "links")
LOST = 3  # exit code of a worker whose context is lost
LAUNCH_NS = 2_000_000  # of a launch whose rate is told


def kernels_of(group: str, device: Device) -> list[Kernel]:
    """The CUDA kernels of a family."""
    from microbench.kernels.cuda import registry
    from microbench.runs import check

    return [kernel for kernel in registry.kernels(device) if check.family(kernel.sheet) == group]


def worker(options: argparse.Namespace) -> int:
    """Time the kernels of a family one after another, telling each start and end; the parent watches."""
    from microbench import hardware
    from microbench.runs import check, isolation

    channel = isolation.Channel()
    device = hardware.probe(options.device)
    skip = set(filter(None, options.skip.split(",")))
    asked = options.only.split(",") if options.only else ["*"]
    found = [
        kernel
        for kernel in kernels_of(options.group, device)
        # Random operands are the same machine code, run until clock and power are steady: seconds each.
        if kernel.sheet.operands != "random" and kernel.sheet.name not in skip
        if any(fnmatch.fnmatch(kernel.sheet.name, glob) for glob in asked)
    ]
    channel.ready([kernel.sheet.name for kernel in found])
    for kernel in found:
        name = kernel.sheet.name
        if kernel.sheet.unavailable:
            channel.done(name, check.UNAVAILABLE, kernel.sheet.unavailable)
            continue
        channel.start(name)
        row = outcome(kernel, device)
        channel.done(name, row.pop("status"), row.pop("says"), **row)
        if row.get("lost"):
            return LOST
    return 0


def outcome(kernel: Kernel, device: Device) -> Row:
    """Time one kernel; whatever is raised is its outcome, and whether the context is lost by it."""
    from microbench.errors import ContextLost

    try:
        return timed(kernel, device)
    except ContextLost as error:
        return {"status": "lost", "says": str(error), "lost": True}
    except Exception as error:  # noqa: BLE001 - any fault of a kernel is what this program looks for
        row = {"status": "error", "says": f"{type(error).__name__}: {error}"}
        return row | {"traceback": traceback.format_exc()[-1500:], "lost": "CUDA error" in str(error)}


def timed(kernel: Kernel, device: Device) -> Row:
    """Rate of a kernel at its default parameters, and whether twice the iterations take twice the time."""
    sheet = kernel.sheet
    prepared = kernel.prepare(device, {}, 1)
    try:
        first = prepared.run(1)
        count, taken = max(1, first.iterations), first
        for _ in range(12):
            if taken.ns >= LAUNCH_NS or count >= 1 << 40:
                break
            count = max(count + 1, round(count * min(64.0, 1.3 * LAUNCH_NS / max(1, taken.ns))))
            taken = prepared.run(count)
        once = [prepared.run(count) for _ in range(4)]
        twice = [prepared.run(2 * count) for _ in range(4)]
    finally:
        prepared.close()
    wrong = False in {took.checked for took in (first, *once, *twice)}
    row: Row = {"status": "wrong" if wrong else "right"}
    row["says"] = "a timed launch left a wrong result" if wrong else None
    each = [took.ns / took.iterations for took in once]
    best = min(*each, *(took.ns / took.iterations for took in twice))
    row |= {"ns_each": best, "first_ns": first.ns, "launch_ns": min(took.ns for took in once)}
    row["iterations"] = once[0].iterations
    row["per_iteration_twice_over_once"] = round(min(took.ns / took.iterations for took in twice) / min(each), 4)
    row["spread"] = round(max(each) / min(each) - 1, 4)
    row |= {"measures": sheet.measures, "dtype": sheet.dtype, "unit": sheet.unit, "variant": sheet.variant}
    return row | {"access": sheet.access} | rate(sheet, device, best, twice)


def rate(sheet: Sheet, device: Device, best_ns: float, timings: list[Timing]) -> Row:
    """FLOP/s and FLOP a clock and SM, bytes a second, and the clock."""
    clock_hz = next((took.clock_hz for took in timings if took.clock_hz), None)
    row: Row = {"clock_hz": clock_hz}
    if sheet.work.flop:
        row["flop_per_s"] = sheet.work.flop / best_ns * 1e9
        sms = device.units_by_kind.get("sm")
        if clock_hz and sms:
            row["flop_per_clock_sm"] = round(row["flop_per_s"] / clock_hz / sms, 1)
    if sheet.work.bytes:
        row["byte_per_s"] = sheet.work.bytes / best_ns * 1e9
    return row


def watch(options: argparse.Namespace) -> int:
    """Time all families, several at a time."""
    from microbench.runs import check, isolation

    command = [sys.executable, "-u", str(PROGRAM), "worker", "--device", options.device]
    command += ["--only", options.only] if options.only else []
    groups = [isolation.Group(name=name, command=(*command, "--group", name)) for name in options.groups.split(",")]

    def hear(stand: Stand) -> None:
        if stand.last is not None:
            one = stand.last
            row: Row = {"kernel": one.item or None, "group": one.group, "status": one.status, "says": one.says}
            say(options.out, row | {"seconds": round(one.seconds, 3), "stderr": one.tail} | one.facts)

    limits = isolation.Limits(item_s=options.kernel_limit, whole_s=options.limit)
    found = isolation.watch(groups, options.jobs, limits, hear)
    print("rates: " + check.counted(found))
    bad = check.faults(found)
    for each in bad:
        print(f"  {each.status}: {each.group} {each.item}: {str(each.says)[:200]}")
    return 1 if bad else 0
