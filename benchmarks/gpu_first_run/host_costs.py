"""What the host pays for each CUDA kernel on an H100 around its launches: writes host_costs.csv.

Run it in a checkout, as ``python benchmarks/gpu_first_run/host_costs.py``; it needs no GPU and no driver. The work is
the project's own: operands worked out, the stamps of a launch read, the result of one launch of a millisecond compared
with the one expected. `virtual_clock.py` takes its seconds from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from virtual_clock import DRAM_RATE, H100, L2_RATE

from microbench.hardware import cuda as probe
from microbench.kernels.cuda import reference, timing
from microbench.kernels.cuda.registry import VALUES, kinds
from microbench.kernels.cuda.row import CudaRow
from microbench.kernels.cuda.rows import STAMP_WORDS, rows_for
from microbench.kernels.cuda.stream import BULK_STAGES, left_of_mix
from microbench.measure.plan_cuda import Sets

SAMPLE_S = 1e-3
SMS, THREADS = 132, 2048
LAUNCHES = 3


def milliseconds(call: Callable[[], object], times: int = LAUNCHES) -> float:
    """The quickest of a few calls."""
    took = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return min(took) * 1e3


def compute(row: CudaRow) -> tuple[float, float]:
    """Milliseconds of working out the operands, and of comparing one block of a launch."""
    started = time.perf_counter()
    values = VALUES[row.family](row, "exact")
    made = (time.perf_counter() - started) * 1e3
    found = np.zeros((1, values.out_bytes), dtype=np.uint8)
    # What a launch of so many iterations leaves is looked up or added up; the first look at a parity lays it out.
    for iterations in (1, 3):
        values.expected(iterations)

    def compared() -> object:
        return (found == values.expected(1001)).all()

    return made, milliseconds(compared)


def stream(row: CudaRow, working_set: int, rate: float) -> float:
    """Milliseconds of comparing what two blocks of a launch left."""
    arrays = {"read": 1, "write": 1, "copy": 2, "triad": 3}[row.access or "read"]
    count = working_set // (arrays * reference.ELEMENT_BYTES * row.tile) * row.tile
    blocks = SMS * (2 if row.space == "bulk" else THREADS // row.threads)
    iterations = max(1, round(SAMPLE_S * rate / (blocks * (row.bytes_read + row.bytes_written))))
    walk = reference.Walk(
        count=count, first=0, step=blocks * row.tile % count, tile=row.tile, iterations=max(iterations, BULK_STAGES)
    )
    source = reference.pattern(row.dtype, 0) if row.measures == "memory" else left_of_mix(row)

    def compared() -> object:
        if row.access != "read":
            sources = (source, reference.pattern(row.dtype, 1))
            return reference.streamed(row.access or "", row.threads, 0, row.tile, sources)
        if row.space == "bulk":
            return reference.last_stages(walk, 0, BULK_STAGES, source)
        return reference.read_sum(walk, 0, row.threads, source)

    compared()
    return 2 * milliseconds(compared)


def stamps() -> float:
    """Milliseconds of reading the stamps of a launch that fills the device with blocks of 256 threads."""
    blocks = SMS * THREADS // 256
    words = np.zeros((blocks, STAMP_WORDS), dtype=np.uint64)
    words[:, 0], words[:, 2] = np.arange(blocks) % 7 * 32, 1_000_000
    words[:, 3], words[:, 4] = 1_755_000, np.arange(blocks) % SMS
    return milliseconds(lambda: timing.read(words, 1e6, 32))


def main() -> int:
    """Time every kernel, and write the table."""
    sets = Sets.of(probe.describe(0, H100, {}))
    lines = [
        "# Milliseconds of host work, measured on a Zen 3 CPU by host_costs.py: operands worked out when a kernel is",
        "# prepared, and what follows a launch whose result is compared",
        "kernel,level,prepare_ms,check_ms",
        f"stamps,,0,{stamps():.2f}",
    ]
    for row in rows_for("sm_90a"):
        if not kinds(row):
            continue
        if row.layout == "stream":
            for level, size, rate in (("DRAM", sets.dram, DRAM_RATE), ("L2", sets.l2[0], L2_RATE)):
                lines.append(f"{row.name},{level},0,{stream(row, size, rate):.2f}")
        elif row.family in VALUES and row.measures != "latency":
            made, compared = compute(row)
            lines.append(f"{row.name},,{made:.2f},{compared:.2f}")
    Path(__file__).with_name("host_costs.csv").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
