"""Every kernel's value, or its rate, a process for each group of kernels under watch.

A worker checks or times the kernels of one group and tells each start and end. The watcher tells wrong, error, hang,
died and lost apart, and the next kernel goes on in a new process.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from gpu_rows import Row, rows, say

if TYPE_CHECKING:  # the facts are written before the project is installed
    from microbench.kernels import Kernel
    from microbench.records import Device, Sheet, Timing

PROGRAM = Path(__file__).resolve().with_name("gpu_first.py")
CUDA_GROUPS = ("plain", "stream", "mma", "wgmma", "tcgen05", "shared", "chase", "intensity", "links")
GROUPS = (*CUDA_GROUPS, "triton.0", "triton.1", "triton.2", "torch")
KERNEL_LIMIT = {"triton": 60.0, "torch": 60.0}  # seconds for one kernel's check; Triton compiles in it
START_LIMIT = 120.0  # seconds for a process to import and probe: the first import of torch on a fresh disk is slow
END_LIMIT = 20.0  # seconds for a process to end after its last word
PROCESSES = 40  # of one group, at most: each goes on behind the kernel at which the one before it died
LOST = 3  # exit code of a worker whose context is lost
LAUNCH_NS = 2_000_000  # of a launch whose rate is told


def group_of(sheet: Sheet) -> str:
    """The group that a kernel is checked in: its source file, or its backend."""
    if sheet.backend == "cuda":
        stem = Path(sheet.source or "links").stem
        return stem if stem in CUDA_GROUPS else "links"
    return sheet.backend


def kernels_of(group: str, device: Device) -> list[Kernel]:
    """The kernels of a group.

    Only that group's modules are imported, so that a broken torch does not spoil the CUDA kernels.
    """
    name, _, part = group.partition(".")
    found: Iterator[Kernel]
    if name in CUDA_GROUPS:
        from microbench.kernels.cuda import registry as cuda

        found = cuda.kernels(device)
    elif name == "triton":
        from microbench.kernels.triton import registry as triton

        found = triton.kernels(device)
    else:
        from microbench.kernels import library

        found = library.kernels(device)
    chosen = [kernel for kernel in found if group_of(kernel.sheet) == name]
    return [kernel for place, kernel in enumerate(chosen) if not part or place % 3 == int(part)]


def worker(options: argparse.Namespace) -> int:
    """Check (or time) the kernels of a group one after another, telling each start and end; the parent watches."""
    from microbench import hardware

    device = hardware.probe(options.device)
    skip = set(filter(None, options.skip.split(",")))
    found = kernels_of(options.group, device)
    print("@ready " + json.dumps({"kernels": [kernel.sheet.name for kernel in found]}), flush=True)
    for kernel in found:
        sheet = kernel.sheet
        asked = not options.only or any(fnmatch.fnmatch(sheet.name, glob) for glob in options.only.split(","))
        # Random operands are the same machine code, run until clock and power are steady: seconds each.
        if sheet.name in skip or not asked or (options.what == "time" and sheet.operands == "random"):
            continue
        row: Row = {"kernel": sheet.name, "group": options.group, "what": options.what}
        if sheet.unavailable:
            print("@done " + json.dumps({**row, "status": "unavailable", "says": sheet.unavailable}), flush=True)
            continue
        print("@start " + sheet.name, flush=True)
        started = time.perf_counter()
        row |= outcome(kernel, device, options.what)
        row["seconds"] = round(time.perf_counter() - started, 3)
        lost = row.pop("lost", False)
        print("@done " + json.dumps(row), flush=True)
        if lost:
            return LOST
    return 0


def outcome(kernel: Kernel, device: Device, what: str) -> Row:
    """Check or time one kernel; whatever is raised is its outcome, and whether the context is lost by it."""
    from microbench.errors import ContextLost

    try:
        if what == "time":
            return timed(kernel, device)
        finding = kernel.check(device)
    except ContextLost as error:
        return {"status": "lost", "says": str(error), "lost": True}
    except Exception as error:  # noqa: BLE001 - any fault of a kernel is what this program looks for
        text = str(error)
        row = {
            "status": "error",
            "says": f"{type(error).__name__}: {text}",
            "traceback": traceback.format_exc()[-1500:],
        }
        return row | {"lost": "an illegal memory access" in text or "CUDA error" in text}
    return {"status": "right" if finding is None else "wrong", "says": None if finding is None else finding.says}


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


CHILDREN: set[int] = set()


def end_children(number: int, _frame: FrameType | None) -> None:
    """A phase that is cut off leaves no process behind on the GPU."""
    for pid in CHILDREN:
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    os._exit(128 + number)


class Watched:
    """A worker under watch: its lines, a limit for each kernel, a new process behind the kernel at which it died."""

    def __init__(self, group: str, options: argparse.Namespace, deadline: float, prefix: tuple[str, ...] = ()) -> None:
        self.group, self.options, self.deadline, self.prefix = group, options, deadline, prefix
        self.limit = max(options.kernel_limit, KERNEL_LIMIT.get(group.partition(".")[0], 0))
        self.done: list[str] = []
        self.current: str | None = None
        self.ready = False

    def note(self, row: Row) -> None:
        """Write down what became of a kernel."""
        self.done.append(row["kernel"])
        say(self.options.out, row)

    def go(self) -> None:
        """Start processes until the group is through or the time is up."""
        for _ in range(PROCESSES):
            if time.monotonic() > self.deadline or not self._process():
                return

    def _process(self) -> bool:
        """Run one process; whether another must go on behind it."""
        command = [*self.prefix, sys.executable, "-u", str(PROGRAM), "worker", "--group", self.group]
        command += ["--what", self.options.what, "--skip", ",".join(self.done), "--device", self.options.device]
        command += ["--only", self.options.only] if self.options.only else []
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        CHILDREN.add(child.pid)
        errors: list[str] = []
        drain = threading.Thread(target=lambda: errors.extend(child.stderr or ()), daemon=True)
        drain.start()
        self.current, self.ready = None, False
        why = self._listen(child)
        if why is not None:
            self._end(child)
        try:
            code: int | None = child.wait(timeout=END_LIMIT)
        except subprocess.TimeoutExpired:
            self._end(child, hard=True)
            code = None
        drain.join(timeout=2)
        return self._ended(code, why, "".join(errors)[-1500:])

    def _listen(self, child: subprocess.Popen[str]) -> str | None:
        """Read what the worker tells; why it is given up, ``None`` where it ended by itself."""
        assert child.stdout is not None
        selector = selectors.DefaultSelector()
        selector.register(child.stdout, selectors.EVENT_READ)
        os.set_blocking(child.stdout.fileno(), False)
        held, last = "", time.monotonic()
        while True:
            now = time.monotonic()
            if now > self.deadline:
                return "the phase's time was up"
            if now - last > (self.limit if self.ready else START_LIMIT):
                return f"no answer within {now - last:.0f} s"
            if not selector.select(timeout=0.2):
                continue
            piece = os.read(child.stdout.fileno(), 65536).decode(errors="replace")
            if not piece:
                return None
            *lines, held = (held + piece).split("\n")
            for line in lines:
                last = time.monotonic()
                self._heard(line)

    def _heard(self, line: str) -> None:
        if line.startswith("@ready "):
            self.ready = True
        elif line.startswith("@start "):
            self.current = line[7:].strip()
        elif line.startswith("@done "):
            self.note(json.loads(line[6:]))
            self.current = None

    def _ended(self, code: int | None, why: str | None, tail: str) -> bool:
        """Tell how a process ended; whether another must go on behind it."""
        row: Row = {"group": self.group, "what": self.options.what, "kernel": self.current}
        if why == "the phase's time was up":
            say(self.options.out, row | {"status": "cut off", "says": why})
            return False
        if self.current is not None:  # it died or hung inside a kernel
            says = why or (f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}")
            self.note(row | {"status": "hang" if why else "died", "says": says, "traceback": tail})
            return True
        if code == LOST:
            return True
        if code or why:
            says = why or f"exit code {code}: {(tail.strip().splitlines() or [''])[-1]}"
            say(self.options.out, row | {"status": "no start", "says": says, "traceback": tail})
        return False

    @staticmethod
    def _end(child: subprocess.Popen[str], *, hard: bool = False) -> None:
        try:
            os.killpg(child.pid, signal.SIGKILL if hard else signal.SIGTERM)
            if not hard:
                try:
                    child.wait(timeout=3)
                except subprocess.TimeoutExpired:
                    os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def watch(options: argparse.Namespace) -> int:
    """All groups, several at a time."""
    deadline = time.monotonic() + options.limit
    waiting: queue.Queue[str] = queue.Queue()
    for group in options.groups.split(","):
        waiting.put(group)
    signal.signal(signal.SIGTERM, end_children)
    threads = [threading.Thread(target=turn, args=(waiting, options, deadline)) for _ in range(options.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while not waiting.empty():
        row: Row = {"group": waiting.get(), "what": options.what, "status": "cut off", "kernel": None}
        say(options.out, row | {"says": "not begun"})
    found = [row for row in rows(options.out) if row["what"] == options.what and row["status"] != "group"]
    print(options.what, dict(Counter(row["status"] for row in found)))
    bad = [row for row in found if row["status"] not in ("right", "unavailable")]
    for row in bad:
        print(f"  {row['status']}: {row['group']} {row.get('kernel')}: {str(row.get('says'))[:200]}")
    return 1 if bad else 0


def turn(waiting: queue.Queue[str], options: argparse.Namespace, deadline: float) -> None:
    """Watch one group after another, as long as there are any."""
    prefix = tuple(options.prefix.split("\x1f")) if options.prefix else ()
    while time.monotonic() < deadline:
        try:
            group = waiting.get_nowait()
        except queue.Empty:
            return
        started = time.monotonic()
        watched = Watched(group, options, deadline, tuple(part.replace("GROUP", group) for part in prefix))
        watched.go()
        row = {"group": group, "what": options.what, "status": "group", "kernels": len(watched.done)}
        say(options.out, {**row, "seconds": round(time.monotonic() - started, 1)})
