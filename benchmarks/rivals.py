"""Other benchmarks of the same machine, each behind one call: `rival(point, our best rate) -> (label, rate)` pairs.

likwid-bench and carm-roofline where they are installed, and two C programs of tests/peers that are built on the spot:
the C library's memcpy and memset, copy and triad by STREAM's rules. Whatever they print, a rate here is bytes that the
program asks for, or FLOP.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from microbench.records import Device

MIB = 2**20
SOURCES = Path(__file__).resolve().parents[1] / "tests" / "peers"
# Seconds of one rival in one round: long enough to outlast its start, short enough to interleave.
BURST_S = 0.25
# Rivals that were there and gave no result, with what they said.
FAILED: dict[str, str] = {}
CARM_RATIO = {"read": "1:0", "write": "0:1", "copy": "1:1", "triad": "2:1"}
CARM_ISAS = {"avx512f": "x86_avx512", "avx2": "x86_avx2", "asimd": "arm_neon"}
CARM_WIDTH = {"v512": "x86_avx512", "v256": "x86_avx2", "v128": "x86_sse"}
CARM_GAP_BYTES = "16384"
LIKWID_OP = {"read": "load", "write": "store", "copy": "copy", "triad": "stream"}
LIKWID_PEAK = {"f32": "peakflops_sp", "f64": "peakflops"}
# Its SSE loop multiplies and adds: there is no FMA in SSE.
LIKWID_WIDTH = {"v512": "_avx512_fma", "v256": "_avx_fma", "v128": "_sse"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What both sides measure: an operation at a memory level, or a compute row."""

    level: str
    op: str
    threads: int
    bytes_per_thread: int = 0

    @property
    def name(self) -> str:
        """Level, operation and threads, as tables print them."""
        return f"{self.level} {self.op} {self.threads}T"


Measure = Callable[[Point, float], Iterator[tuple[str, float]]]


class Likwid:
    """likwid-bench, every kernel for the operation that this CPU has instructions for."""

    def __init__(self, device: Device) -> None:
        self.features = set(device.features)
        self.known = re.findall(r"^(\w+) - ", output(["likwid-bench", "-a"]), re.MULTILINE)

    def __call__(self, point: Point, rate: float) -> Iterator[tuple[str, float]]:
        """Run each for about one burst."""
        for name in self._names(point):
            total = (point.bytes_per_thread or 16 * 1024) * point.threads // 1000
            # Its peakflops loops do 30 FLOP for each element of 4 bytes loaded; its memory loops are counted in bytes.
            amount = rate * BURST_S / (total * 1000 * (1 if point.level != "compute" else 7.5))
            text = output(
                ["likwid-bench", "-t", name, "-W", f"N:{total}kB:{point.threads}", "-i", str(max(10, int(amount)))]
            )
            unit = "MFlops/s" if point.level == "compute" else "MByte/s"
            found = re.search(unit + r":\s+([\d.]+)", text)
            if found is None:
                FAILED[f"likwid {name}"] = f"printed no {unit} at {point.name}"
            else:
                yield f"likwid {name}", float(found[1]) * 1e6

    def _names(self, point: Point) -> Iterator[str]:
        if point.level == "compute":
            what, dtype, width = point.op.split(".")[:3]
            wanted = (
                [LIKWID_PEAK[dtype] + LIKWID_WIDTH[width]]
                if what == "fma" and dtype in LIKWID_PEAK and width in LIKWID_WIDTH
                else []
            )
        else:
            stem = LIKWID_OP[point.op]
            tails = (
                ["_avx512", "_avx512_fma", "_avx", "_avx_fma"]
                if stem != "stream"
                else ["_avx512_fma", "_avx_fma", "_sp_avx512_fma", "_sp_avx_fma", "_avx"]
            )
            wanted = [stem + tail for tail in tails]
            if point.level == "DRAM":
                wanted += [stem + tail for tail in ("_mem_avx512", "_mem_avx", "_mem_avx_fma")]
        yield from (
            name for name in wanted if name in self.known and ("avx512" not in name or "avx512f" in self.features)
        )


class Compiled:
    """The C programs of tests/peers."""

    def __init__(self, folder: Path) -> None:
        self.memops, self.stream = folder / "memops", folder / "stream"
        compiler = [os.environ.get("CC", "cc"), "-O3", "-march=native"]
        subprocess.run([*compiler, "-pthread", str(SOURCES / "memops.c"), "-o", str(self.memops)], check=True)
        elements = str(24 * MIB)
        subprocess.run(
            [*compiler, "-fopenmp", "-DELEMENTS=" + elements, str(SOURCES / "stream.c"), "-o", str(self.stream)],
            check=True,
        )

    def __call__(self, point: Point, rate: float) -> Iterator[tuple[str, float]]:
        """Time memcpy and memset at every level beyond the first, STREAM's rules in main memory only."""
        del rate
        if point.level in ("L2", "L3", "DRAM") and point.op in ("copy", "write"):
            command = [str(self.memops), point.op, str(point.bytes_per_thread), str(point.threads), str(BURST_S)]
            yield "glibc " + {"copy": "memcpy", "write": "memset"}[point.op], float(output(command))
        if point.level == "DRAM" and point.op in ("copy", "triad"):
            yield (
                "C by STREAM's rules",
                float(output([str(self.stream), point.op, str(BURST_S)], OMP_NUM_THREADS=str(point.threads))),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    """A benchmark program that carm built; ``amount`` is bytes or FLOP of one repetition of each loop, all threads."""

    program: Path
    amount: dict[str, float]
    threads: dict[str, int]
    dtype: dict[str, str]

    def run(self) -> dict[str, float]:
        """Rates by name; a line of its output is name, milliseconds (the median of its trials), repetitions."""
        lines = [
            line.split(", ")
            for line in output([str(self.program), "--thread-stride-gap-bytes", CARM_GAP_BYTES]).splitlines()
        ]
        return {
            row[0]: self.amount[row[0]] * int(row[2]) / (float(row[1]) * 1e-3) for row in lines if row[0] in self.amount
        }


class Carm:
    """carm-roofline: its own loops at our sizes and its own load-to-store ratios, and its multiply-adds.

    Its command spends six seconds on looking at the machine, so it builds the program for an operation, or for a width,
    once; every round runs that program, all thread counts at a time.
    """

    def __init__(self, device: Device, folder: Path, threads: Sequence[int]) -> None:
        self.folder, self.threads = folder, [str(each) for each in threads]
        self.isas = [isa for feature, isa in CARM_ISAS.items() if feature in device.features] or ["x86_sse"]
        self.made: dict[str, _Built] = {}
        self.fresh: dict[str, dict[str, float]] = {}

    def __call__(self, point: Point, rate: float) -> Iterator[tuple[str, float]]:
        """What its program printed for this point; the program runs again when a point is asked for a second time."""
        del rate
        words = self._words(point)
        if words is None:
            return
        group = " ".join(words)
        if group not in self.made:
            self.made[group] = self._build(words)
        built = self.made[group]
        dtype = point.op.split(".")[1] if point.level == "compute" else "f32"
        mine = {name for name in built.amount if built.threads[name] == point.threads and built.dtype[name] == dtype}
        if not mine & set(self.fresh.get(group, {})):
            self.fresh[group] = built.run()
        for name in sorted(mine):
            if name in self.fresh[group]:
                yield "carm " + re.sub(r"_(arith|mem)_.*", "", name), self.fresh[group].pop(name)

    def _words(self, point: Point) -> list[str] | None:
        if point.level != "compute":
            ratio, size = CARM_RATIO[point.op], f"{point.bytes_per_thread // 1024}KiB"
            # In main memory the width hardly matters, and it fills its arrays anew for each loop: one width, one trial.
            isas, trials_s = (self.isas[:1], "0.1") if point.level == "DRAM" else (self.isas, "0.3")
            sizes = ["--ld-st-ratio", ratio, "--mem-test-sizes", size, "--test-time", trials_s]
            return ["-t", "memory", "-m", point.level, "-i", *isas, *sizes]
        what, dtype, width = point.op.split(".")[:3]
        isa = CARM_WIDTH.get(width, "")
        if what != "fma" or dtype not in ("f32", "f64") or isa not in (*self.isas, "x86_sse"):
            return None
        return ["-t", "arithmetic", "-i", isa, "-d", "f32", "f64", "--instruction", "fma", "--test-time", "0.3"]

    def _build(self, words: Sequence[str]) -> _Built:
        out = Path(tempfile.mkdtemp(dir=self.folder))
        # The frequency only serves its cycle counts, which nobody reads here; without it, it measures one for seconds.
        fixed = f"--frequency 1GHz --output-fmt jsonl --keep-artifacts --output-dir {out}".split()
        said = output(["carm", "benchmark", *words, "--threads", *self.threads, *fixed], TMPDIR=str(out))
        programs = sorted(out.glob("carm-benchmark-*/benchmark"))
        files = sorted(out.glob("*/benchmarks.jsonl"))
        if not programs or not files:
            FAILED["carm " + " ".join(words)] = f"no result: {said[-200:].strip() or 'it said nothing'}"
            return _Built(program=Path("true"), amount={}, threads={}, dtype={})
        rows = [json.loads(line) for line in files[0].read_text().splitlines()]
        amount = {
            row["name"]: row.get("bandwidth_gbps", row.get("performance_gops")) * 1e9 * row["time_seconds"]
            for row in rows
        }
        return _Built(
            program=programs[0],
            amount={row["name"]: amount[row["name"]] / row["repetitions"] for row in rows},
            threads={row["name"]: int(row["num_threads"]) for row in rows},
            dtype={row["name"]: str(row["data_type"]) for row in rows},
        )


def output(command: Sequence[str], **environment: str) -> str:
    """What a program writes to its standard output."""
    made = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **environment})
    return made.stdout


def here(
    device: Device, folder: Path, threads: Sequence[int], without: Sequence[str]
) -> tuple[list[Measure], dict[str, str]]:
    """The rivals that are installed, and why each of the others is missing."""
    needs: dict[str, tuple[str, str, Callable[[], Measure]]] = {
        "likwid": ("likwid-bench", "apt-get install likwid", lambda: Likwid(device)),
        "carm": ("carm", "pip install carm-roofline", lambda: Carm(device, folder, threads)),
        "c": (os.environ.get("CC", "cc"), "install a C compiler", lambda: Compiled(folder)),
    }
    found: list[Measure] = []
    absent: dict[str, str] = {}
    for name, (command, remedy, make) in needs.items():
        if name in without:
            absent[name] = "left out as asked"
        elif shutil.which(command) is None:
            absent[name] = f"no {command} on the path; {remedy}"
        else:
            try:
                found.append(make())
            except (OSError, subprocess.CalledProcessError) as error:
                absent[name] = f"{command} failed: {error}"
    for name, why in absent.items():
        print(f"rival {name}: {why}", file=sys.stderr)
    return found, absent
