"""The sustained points of the roofline beside an independent loop, at the ridge of main memory.

Usage: python benchmarks/ridge.py [--threads 1 2] [--rounds 7] [--mib 256] [--csv PATH]

Ours is `intensity.f32.<widest>.x<K>` with prefetch=0; the other is tests/peers/ridge.c, compiled here with -O3
-march=native: no prefetch instruction, threads, array and clock of its own. Both walk as many bytes a thread in
circles, a tenth of a second a sample, one after the other in every round. The ratio is median over median; its interval
goes from the lowest to the highest ratio of two samples of one round, since interference comes in episodes that are
longer than a round of one point. With burst, the same loop with its software prefetch.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Self

from rivals import MIB, SOURCES

from microbench.errors import MicrobenchError
from microbench.hardware import probe
from microbench.hardware.clock import SUSTAINED_SAMPLE_S
from microbench.kernels import Kernel, Prepared, registry
from microbench.measure.calibration import calibrate
from microbench.records import Device, Value

MULTIPLY_ADDS = (1, 2, 4, 8, 16, 32, 64)


class Independent:
    """The compiled C program, which waits for a line between two samples."""

    def __init__(self, program: Path, bytes_each: int, threads: int) -> None:
        command = [str(program), str(bytes_each), str(threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._line() != "ready":
            raise SystemExit("tests/peers/ridge.c did not start")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def sample(self, multiply_adds: int) -> float:
        """FLOP/s over a tenth of a second."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{multiply_adds} {SUSTAINED_SAMPLE_S}\n")
        self._process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@dataclass
class Loop:
    """One of our loops, prepared, and its samples."""

    kernel: Kernel
    job: Prepared
    threads: int
    iterations: int = 0
    rates: list[float] = field(default_factory=list)

    def sample(self) -> None:
        """Take one sample of a tenth of a second."""
        if not self.iterations:
            self.iterations = 20 * calibrate(self.job.run, SUSTAINED_SAMPLE_S / 20)
        timing = self.job.run(self.iterations)
        if timing.checked is False:
            raise SystemExit(f"{self.kernel.sheet.name} left a wrong result")
        self.rates.append(self.kernel.sheet.work.flop * self.threads * timing.iterations * 1e9 / timing.ns)


def build(folder: Path) -> Path:
    """Compile the independent loop for this machine."""
    program = folder / "ridge"
    compiler = [os.environ.get("CC", "cc"), "-O3", "-march=native", "-pthread"]
    subprocess.run([*compiler, str(SOURCES / "ridge.c"), "-o", str(program)], check=True)
    return program


def ours(kernels: Mapping[str, Kernel]) -> dict[int, Kernel]:
    """Our loops of the widest registers by their multiply-adds a load."""
    mixed = [k for k in kernels.values() if k.sheet.measures == "intensity" and k.sheet.dtype == "f32"]
    usable = [kernel for kernel in mixed if kernel.sheet.unavailable is None]
    width = max((kernel.sheet.access_bytes for kernel in usable), default=0)
    found = {k.sheet.math // k.sheet.loads: k for k in usable if k.sheet.access_bytes == width}
    if not found:
        raise SystemExit("no loop of the intensity sweep can run here")
    return found


def measure(device: Device, program: Path, bytes_each: int, threads: int, rounds: int) -> Iterator[dict[str, float]]:
    """One row for each intensity: both medians in FLOP/s, their ratio and its interval."""
    loops: dict[tuple[int, int | None], Loop] = {}
    others: dict[int, list[float]] = {}
    with Independent(program, bytes_each, threads) as independent:
        for multiply_adds, kernel in ours(registry(device)).items():
            for ahead in (0, None):
                params: dict[str, Value] = {"working_set": bytes_each, "pages": "huge"}
                params |= {} if ahead is None else {"prefetch": ahead}
                loops[multiply_adds, ahead] = Loop(kernel, kernel.prepare(device, params, threads), threads)
        for turn in range(rounds):
            for multiply_adds in MULTIPLY_ADDS:
                loops[multiply_adds, 0].sample()
                others.setdefault(multiply_adds, []).append(independent.sample(multiply_adds))
                loops[multiply_adds, None].sample()
            print(f"{threads} threads, round {turn + 1} of {rounds}", file=sys.stderr)
    for loop in loops.values():
        loop.job.close()
    for multiply_adds in MULTIPLY_ADDS:
        mine, other = loops[multiply_adds, 0].rates, others[multiply_adds]
        ratios = sorted(a / b for a, b in zip(mine, other, strict=True))
        yield {
            "threads": threads,
            "intensity": multiply_adds / 2,
            "ours_per_s": median(mine),
            "independent_per_s": median(other),
            "ratio": median(mine) / median(other),
            "paired": median(ratios),
            "low": ratios[0],
            "high": ratios[-1],
            "prefetching_per_s": median(loops[multiply_adds, None].rates),
        }


def table(rows: Sequence[Mapping[str, float]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| threads | FLOP/byte | ours, GFLOP/s | independent | of medians | of pairs | interval | prefetching |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['threads']} | {row['intensity']:g} | {row['ours_per_s'] / 1e9:.1f} | "
        f"{row['independent_per_s'] / 1e9:.1f} | {row['ratio']:.3f} | {row['paired']:.3f} | "
        f"{row['low']:.3f} .. {row['high']:.3f} | {row['prefetching_per_s'] / 1e9:.1f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, len(os.sched_getaffinity(0))}))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, default=256, help="MiB a thread")
    parser.add_argument("--csv", type=Path)
    wanted = parser.parse_args()
    try:
        device = probe("cpu")
        with tempfile.TemporaryDirectory() as folder:
            program = build(Path(folder))
            rows = [
                row
                for threads in wanted.threads
                for row in measure(device, program, wanted.mib * MIB, threads, wanted.rounds)
            ]
    except MicrobenchError as error:
        raise SystemExit(str(error)) from error
    print(f"{device.name} ({device.arch})\n\n{table(rows)}", end="")
    if wanted.csv is not None:
        with wanted.csv.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
