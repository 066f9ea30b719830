"""What the audit of the project left open without hardware; about a minute on an H100.

Event against span, the schedules of packed halves, the balance of L2, layouts and switches of the library's products:
``python questions.py [--no-torch] [--lengths 1,5,20] [--installed-only]``. With nvcc on the path variants of the
kernels are compiled.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gpu_rows import failure

from microbench.hardware import cuda as probe
from microbench.hardware.nominal import nominal_rate
from microbench.kernels.cuda import device as at_work
from microbench.kernels.cuda import reference, registry, stream, timing
from microbench.kernels.cuda.row import CudaRow
from microbench.kernels.cuda.rows import rows_for
from microbench.kernels.cuda.tensor import Compute
from microbench.measure.calibration import calibrate
from microbench.measure.plan_cuda import Sets
from microbench.records import Sheet

T0 = time.monotonic()
COMPUTE = (
    "fma.f32", "fma.f64", "fma.f16.half2", "fma.bf16.bf16x2", "mad.i32", "dp4a.i8.i32", "mma.bf16.f32.m16n8k16",
    "mma.f64.f64.m16n8k16", "wgmma.bf16.f32.m64n256k16.ss", "wgmma.bf16.f32.m64n256k16.rs",
    "wgmma.tf32.f32.m64n256k8.ss", "wgmma.f8e4m3.f32.m64n256k32.ss", "wgmma.i8.i32.m64n256k32.ss", "read.i32.shared",
    "write.i32.shared", "read.i32.l1",
)  # fmt: skip
STREAMS = (
    "read.i32.u4",
    "read.i32.u8",
    "read.i32.bulk",
    "write.i32.u4",
    "copy.i32.u4",
    "triad.f32.u4",
    "copy.i32.bulk",
)
PACKED = ("fma.f32", "fma.f16.half2", "fma.bf16.bf16x2")
PAIRS = (6, 10, 16)
LAUNCHES = 6  # launches, of which the one with the shortest event counts


def say(*words: object) -> None:
    """Print behind the seconds since the start."""
    print(f"[{time.monotonic() - T0:6.1f}]", *words, flush=True)


class Stamps:
    """The stamps of the newest launch, caught on their way through `timing.read`."""

    def __init__(self) -> None:
        self.stamps: Any = None
        self.event_ns = 0.0
        self._read = timing.read
        timing.read = self._caught

    def _caught(self, stamps: Any, event_ns: float, step_ns: int | None, *, waves: bool = False) -> timing.Seen:
        self.stamps, self.event_ns = stamps.copy(), event_ns
        return self._read(stamps, event_ns, step_ns, waves=waves)


@dataclasses.dataclass(frozen=True)
class Launch:
    """One launch as its blocks saw it: ns with all SMs busy to the end, when each block ended, on which SM, GHz."""

    event_ns: float
    span_ns: float
    start_spread_ns: float
    steady_ns: int | None
    ends_ns: Any
    sm: Any
    clock: float
    iterations: int
    checked: bool | None

    @classmethod
    def of(cls, job: Any, count: int, caught: Stamps) -> Launch:
        """Launch once."""
        taken = job.run(count)
        s = caught.stamps
        own = (s[:, 2] - s[:, 0]).astype(float)
        cycles = (s[:, 3] - s[:, 1]).astype(float)
        return cls(
            event_ns=caught.event_ns,
            span_ns=float(s[:, 2].max() - s[:, 0].min()),
            start_spread_ns=float(s[:, 0].max() - s[:, 0].min()),
            steady_ns=timing.steady(s, timing.timer_step(s[:, (0, 2)]) or 1),
            ends_ns=s[:, 2].astype(float) - float(s[:, 0].min()),
            sm=s[:, 4],
            clock=float(np.median(cycles / own)),
            iterations=taken.iterations,
            checked=taken.checked,
        )


class Asker:
    """One GPU, and the questions that are put to it."""

    def __init__(self, lengths: list[float]) -> None:
        self.device = probe.probe(0)
        self.session = at_work.DeviceSession(self.device)
        self.rows = {row.name: row for row in rows_for(self.session.library.target or "")}
        self.sms = self.device.units_by_kind["sm"]
        self.lengths = lengths
        self.caught = Stamps()

    def line(self, tag: str, job: Any, sheet: Sheet, lengths: list[float]) -> None:
        """Time a job at several lengths in ms, and tell it by event, by span and by each block's own time."""
        for length in lengths:
            try:
                count = calibrate(job.run, length * 1e-3)
                found = min(
                    (Launch.of(job, count, self.caught) for _ in range(LAUNCHES)), key=lambda each: each.event_ns
                )
            except Exception as error:  # noqa: BLE001 - the next question is worth asking
                say(tag, "FAILED", failure(error))
                return
            say(f"{tag:34s} {length:3g} ms {self.told(found)}{self.rates(found, sheet)}")

    def told(self, found: Launch) -> str:
        """Times and their spread."""
        ends = np.array([found.ends_ns[found.sm == each].max() for each in np.unique(found.sm)])
        late = (found.event_ns - found.span_ns) / 1e3
        text = f"ok={found.checked} clk {found.clock:.4f} GHz event {found.event_ns / 1e3:9.1f} us "
        text += f"span {found.span_ns / 1e3:9.1f} (+{late:5.1f}) start spread {found.start_spread_ns / 1e3:5.1f} "
        return text + f"SM ends min/max {ends.min() / ends.max():.3f} SMs {len(ends)}"

    def rates(self, found: Launch, sheet: Sheet) -> str:
        """Work over each of the times."""
        if sheet.measures == "memory":
            moved = sheet.work.bytes * found.iterations
            steady = moved / (found.steady_ns or found.span_ns)
            text = f" GB/s event {moved / found.event_ns:7.1f} span {moved / found.span_ns:7.1f} steady {steady:7.1f}"
            return text + f" B/clk/SM {steady / found.clock / self.sms:6.2f}"
        flop = sheet.work.flop * found.iterations
        event, span = flop / found.event_ns, flop / found.span_ns
        each = found.clock * self.sms
        text = f" TFLOP/s event {event / 1e3:7.1f} span {span / 1e3:7.1f} FLOP/clk/SM event {event / each:7.1f} "
        nominal = nominal_rate(sheet, self.device, clock_hz=found.clock * 1e9, threads=1)
        return text + f"span {span / each:7.1f}" + (f" of {nominal / 1e9 / each:.0f}" if nominal else "")

    def sheet(self, row: CudaRow) -> Sheet:
        """A row's sheet."""
        return registry.sheet_of(row, self.session.library, "exact", None)

    def compute(
        self,
        name: str,
        tag: str = "",
        row: CudaRow | None = None,
        values: Compute | None = None,
        *,
        short: bool = False,
    ) -> None:
        """Time a kernel of layout "compute", with other operands or as another row describes it where given."""
        row = row or self.rows.get(name)
        if row is None:
            return
        try:
            if values is None:
                job = registry.prepare_compute(self.session, row, self.sheet(row), {})
            else:
                function = self.session.function(row)
                blocks = self.session.blocks(row, function)
                stage = at_work.Stage.set_up(self.session, row, blocks, function)
                job = registry.ComputeJob(stage, values, "exact", small=False)
            self.line(tag or name, job, self.sheet(row), self.lengths[:2] if short else self.lengths)
            job.close()
        except Exception as error:  # noqa: BLE001 - the next question is worth asking
            say(tag or name, "FAILED", failure(error))

    def streams(self) -> None:
        """Streams in L2, at four and at forty last caches."""
        sets = Sets.of(self.device)
        most = (self.device.memory_bytes or 1 << 33) // 8
        places = (("DRAM", sets.dram), ("DRAMx10", min(10 * sets.dram, most)), ("L2", sets.l2[0]))
        for name in STREAMS:
            for level, size in places if name in self.rows else ():
                try:
                    sheet = self.sheet(self.rows[name])
                    job = stream.prepare(self.session, self.rows[name], sheet, {"working_set": size})
                    self.line(f"{name} {level} {size >> 20} MiB", job, sheet, self.lengths[:2])
                    job.close()
                except Exception as error:  # noqa: BLE001 - the next question is worth asking
                    say(name, level, "FAILED", failure(error))

    def variant(self, family: str, old: str, new: str) -> None:
        """Compile a family with one change in its text, and load it in the place of the installed code."""
        source = self.session.library.folder / "src"
        text = (source / f"{family}.cu").read_text()
        if old not in text:
            raise ValueError(f"{family}.cu no longer holds {old!r}")
        with tempfile.TemporaryDirectory() as folder:
            changed, made = Path(folder) / "variant.cu", Path(folder) / "variant.cubin"
            changed.write_text(text.replace(old, new))
            command = ["nvcc", "-std=c++17", f"-arch={self.session.library.target}", "-cubin", "-I", str(source)]
            subprocess.run([*command, "-o", str(made), str(changed)], check=True, capture_output=True)
            image = self.session.context.load(made.read_bytes())
        self.session._images[family] = (self.session.library.code(family), image)  # noqa: SLF001 - no product has it

    def variants(self) -> None:
        """Other numbers of pairs in flight."""
        for pairs in PAIRS:
            self.variant("plain", "constexpr int PAIRS = 8;", f"constexpr int PAIRS = {pairs};")
            for name in PACKED:
                own = self.rows[name]
                turns = own.math_count // (2 * own.chains)
                row = dataclasses.replace(own, chains=pairs, math_count=2 * pairs * turns)
                self.compute(name, f"{name} PAIRS={pairs}", row, reference.plain(row, "exact"), short=True)


def products() -> None:
    """Layouts and switches of the library's products."""
    import torch

    held: Any = torch
    started = time.monotonic()
    held.cuda.init()
    say("torch", held.__version__, "init", round(time.monotonic() - started, 1), "s")
    for size in ((48, 80, 64), (4096, 4096, 4096), (8192, 8192, 8192)):
        m, n, k = size
        a, b = (held.randint(-128, 128, shape, dtype=held.int8, device="cuda") for shape in ((m, k), (k, n)))
        columns = b.t().contiguous().t()
        product = held._int_mm  # noqa: SLF001 - the only way to an INT8 product
        say("_int_mm NN", size, product_rate(held, partial(product, a, b), 2 * m * n * k))
        say("_int_mm TN", size, product_rate(held, partial(product, a, columns), 2 * m * n * k))
    n = 8192
    a, b = ((held.rand(n, n, device="cuda") * 2 - 1).to(held.float8_e4m3fn) for _ in range(2))
    one = held.ones((), device="cuda")
    for fast in (False, True):
        options = {"out_dtype": held.bfloat16, "use_fast_accum": fast}
        scaled = held._scaled_mm  # noqa: SLF001 - the only way to a scaled product
        call = partial(scaled, a, b.t(), one, one, **options)
        say("_scaled_mm fast_accum", fast, product_rate(held, call, 2 * n**3))
    for dtype in (held.bfloat16, held.float16):
        a, b = ((held.rand(n, n, device="cuda") * 2 - 1).to(dtype) for _ in range(2))
        say("mm", dtype, product_rate(held, partial(held.mm, a, b), 2 * n**3, 1500))


def product_rate(torch: Any, call: Callable[[], object], flop: float, times: int = 20) -> str:
    """The first call, the best single one, and many in a row."""

    def took(count: int) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / count

    try:
        started = time.monotonic()
        call()
        torch.cuda.synchronize()
        first = time.monotonic() - started
        one, many = min(took(1) for _ in range(5)), took(times)
    except Exception as error:  # noqa: BLE001 - a layout that the library refuses is an answer
        return f"FAILED {failure(error)}"
    rates = f"one {flop / one / 1e9:8.1f} TFLOP/s, {times} in a row {flop / many / 1e9:8.1f}"
    return f"first call {first:.3f} s, {rates}"


def main() -> int:
    """Put every question."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--lengths", default="1,5,20")
    parser.add_argument("--installed-only", action="store_true", help="no variants of the kernels: a fake has none")
    options = parser.parse_args()
    asker = Asker([float(each) for each in options.lengths.split(",")])
    device, session = asker.device, asker.session
    say(device.name, device.arch, device.units_by_kind, "boost", device.boost_clock_hz, *device.levels)
    say("facts", probe.facts(0), "driver", session.library.driver_version, "target", session.library.target)
    for name in COMPUTE:
        asker.compute(name)
    say("timer step ns", session.step_ns, "gate off:", session.gate.off)
    asker.streams()
    if shutil.which("nvcc") and not options.installed_only:
        asker.variants()
    if not options.no_torch:
        products()
    say("done")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
