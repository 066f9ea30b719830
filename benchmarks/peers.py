"""Our kernels beside other benchmarks of the same machine, interleaved in one run.

Usage: python benchmarks/peers.py [--level L1 L2 DRAM compute] [--op read write copy triad] [--threads 1 2] [--rounds 5]
                                  [--csv PATH] [--markdown PATH]

Peers: likwid-bench and carm-roofline where they are installed, and two C programs of tests/peers that are built on the spot
(the C library's memcpy and memset; copy and triad by STREAM's rules). What is missing is said in a line. Each round measures ours,
then each peer, with the same bytes per thread and the same way of counting: bytes that the program asks for.

The value of either side is its best round; the ratio's interval goes from our third best round over the peer's best to our best
over the peer's third best. A tie is a ratio whose interval holds 1.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from microbench.devices.cpu import probe
from microbench.errors import MicrobenchError
from microbench.kernels import Kernel, registry
from microbench.records import Device, Value

MIB = 2**20
PEERS = Path(__file__).resolve().parents[1] / "tests" / "peers"
# Seconds of one peer in one round: long enough to outlast its start, short enough to interleave.
BURST_S = 0.25
SAMPLE_NS = 1_000_000
SAMPLES = 25
CARM_RATIO = {"read": "1:0", "write": "0:1", "copy": "1:1", "triad": "2:1"}
CARM_ISA = {"avx512f": "x86_avx512", "avx2": "x86_avx2", "asimd": "arm_neon"}
LIKWID_OP = {"read": "load", "write": "store", "copy": "copy", "triad": "stream"}
DTYPE_OF_PEAK = {"f32": "peakflops_sp", "f64": "peakflops"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One thing that both sides can do: an operation at a level, or a compute dtype and width."""

    level: str
    op: str
    threads: int
    bytes_per_thread: int = 0

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.level} {self.op} {self.threads}T"


Rates = dict[str, list[float]]
Measure = Callable[[Point, float], Iterator[tuple[str, float]]]


def variants(kernels: dict[str, Kernel], point: Point) -> Iterator[tuple[str, dict[str, Value]]]:
    """Our kernels and parameters that compete at one point."""
    for name, kernel in kernels.items():
        sheet = kernel.sheet
        if sheet.unavailable is not None:
            continue
        if point.level == "compute":
            if sheet.measures == "compute" and name == point.op:
                yield name, {}
            continue
        if sheet.access == point.op and sheet.variant == "rep" and point.level != "L1":
            yield from ((name, {"working_set": point.bytes_per_thread, "pages": pages}) for pages in ("huge", "4k"))
            continue
        if sheet.measures != "memory" or sheet.backend != "native" or sheet.access != point.op or sheet.unit != "vector":
            continue
        past = sheet.variant.endswith("_nt")
        if past and point.level != "DRAM":
            continue
        yield from ((name, {"working_set": point.bytes_per_thread, **params}) for params in _params(point, sheet.access_bytes, past))


def _params(point: Point, width: int, past: bool) -> Iterator[dict[str, Value]]:
    yield {"pages": "huge"}
    if point.level == "L1" or width < 32:
        return
    distances = (512, 1024) if point.op != "read" else (2048,)
    yield from ({"pages": "huge", "prefetch": distance} for distance in distances)
    if point.level == "L2":
        yield {"pages": "4k"}
        yield from ({"pages": "4k", "prefetch": distance} for distance in distances)
    elif past or point.op in ("read", "write"):
        yield from ({"pages": pages, "streams": streams} for streams in (4, 8, 16) for pages in ("huge", "4k"))
    if past:
        yield {"pages": "4k"}


class Ours:
    """Our kernels, prepared once and sampled in every round."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.kernels = {name: kernel for name, kernel in registry(device).items() if kernel.sheet.backend == "native"}
        self._best: dict[Point, list[str]] = {}

    def __call__(self, point: Point, rate: float) -> Iterator[tuple[str, float]]:
        """Sample every variant in the first round, the best five of it in later ones."""
        del rate
        seen: dict[str, float] = {}
        for name, params in variants(self.kernels, point):
            words = (name, *(f"{key}={value}" for key, value in params.items() if key != "working_set"))
            label = " ".join(words)
            if label not in self._best.get(point, [label]):
                continue
            seen[label] = self._sample(name, params, point.threads)
            yield label, seen[label]
        self._best.setdefault(point, sorted(seen, key=lambda label: -seen[label])[:5])

    def _sample(self, name: str, params: dict[str, Value], threads: int) -> float:
        kernel = self.kernels[name]
        amount = kernel.sheet.work.flop if kernel.sheet.measures == "compute" else kernel.sheet.work.bytes
        job = kernel.prepare(self.device, params, threads)
        try:
            iterations, timing = 64, job.run(64)
            while timing.ns < SAMPLE_NS / 4:
                iterations *= 2
                timing = job.run(iterations)
            iterations = max(1, iterations * SAMPLE_NS // timing.ns)
            best = 0.0
            for _ in range(SAMPLES):
                timing = job.run(iterations)
                if timing.checked is False:
                    raise SystemExit(f"{name} left a wrong result")
                best = max(best, amount * timing.iterations * threads / timing.ns * 1e9)
        finally:
            job.close()
        return best


class Likwid:
    """likwid-bench, every kernel for the operation that this CPU has instructions for."""

    def __init__(self, device: Device) -> None:
        self.features = set(device.features)
        self.known = re.findall(r"^(\w+) - ", _output(["likwid-bench", "-a"]), re.MULTILINE)

    def __call__(self, point: Point, rate: float) -> Iterator[tuple[str, float]]:
        """Run each for about one burst."""
        for name in self._names(point):
            total = (point.bytes_per_thread or 16 * 1024) * point.threads // 1000
            amount = rate * BURST_S / (total * 1000 * (1 if point.level != "compute" else 40))
            text = _output(["likwid-bench", "-t", name, "-W", f"N:{total}kB:{point.threads}", "-i", str(max(10, int(amount)))])
            unit = "MFlops/s" if point.level == "compute" else "MByte/s"
            found = re.search(unit + r":\s+([\d.]+)", text)
            if found is not None:
                yield f"likwid {name}", float(found[1]) * 1e6

    def _names(self, point: Point) -> Iterator[str]:
        if point.level == "compute":
            _, dtype, width = point.op.split(".")
            suffix = {"v512": "_avx512_fma", "v256": "_avx_fma", "v128": "_sse"}.get(width, "")
            wanted = [DTYPE_OF_PEAK[dtype] + suffix]
        else:
            stem = LIKWID_OP[point.op]
            tails = ["_avx512", "_avx512_fma", "_avx", "_avx_fma"] if stem != "stream" else ["_avx512_fma", "_avx_fma", "_sp_avx512_fma"]
            wanted = [stem + tail for tail in tails]
            if point.level == "DRAM":
                wanted += [stem + tail for tail in ("_mem_avx512", "_mem_avx", "_mem_avx_fma")]
        yield from (name for name in wanted if name in self.known and ("avx512" not in name or "avx512f" in self.features))


class Compiled:
    """The C programs of tests/peers."""

    def __init__(self, folder: Path) -> None:
        self.memops, self.stream = folder / "memops", folder / "stream"
        compiler = [os.environ.get("CC", "cc"), "-O3", "-march=native"]
        subprocess.run([*compiler, "-pthread", str(PEERS / "memops.c"), "-o", str(self.memops)], check=True)
        elements = str(24 * MIB)
        subprocess.run([*compiler, "-fopenmp", "-DELEMENTS=" + elements, str(PEERS / "stream.c"), "-o", str(self.stream)], check=True)

    def __call__(self, point: Point, rate: float) -> Iterator[tuple[str, float]]:
        """Time memcpy and memset at every level beyond the first, STREAM's rules in main memory only."""
        del rate
        if point.level in ("L2", "DRAM") and point.op in ("copy", "write"):
            command = [str(self.memops), point.op, str(point.bytes_per_thread), str(point.threads), str(BURST_S)]
            yield "glibc " + {"copy": "memcpy", "write": "memset"}[point.op], float(_output(command))
        if point.level == "DRAM" and point.op in ("copy", "triad"):
            yield "C by STREAM's rules", float(_output([str(self.stream), point.op, str(BURST_S)], OMP_NUM_THREADS=str(point.threads)))


class Carm:
    """carm-roofline: its own loops, at our sizes and its own load-to-store ratios."""

    def __init__(self, device: Device, folder: Path) -> None:
        self.folder = folder
        self.isa = next((isa for feature, isa in CARM_ISA.items() if feature in device.features), "x86_sse")

    def __call__(self, point: Point, rate: float) -> Iterator[tuple[str, float]]:
        """One benchmark; the results file is the only output that is meant for programs."""
        del rate
        if point.level == "compute":
            return
        out = Path(tempfile.mkdtemp(dir=self.folder))
        words = f"benchmark -t memory -m {point.level} -i {self.isa} --threads {point.threads} --ld-st-ratio {CARM_RATIO[point.op]}"
        size = f"{point.bytes_per_thread // 1024}KiB"
        _output(["carm", *words.split(), "--mem-test-sizes", size, "--test-time", "0.3", "--output-dir", str(out), "--output-fmt", "jsonl"])
        for path in out.glob("*/benchmarks.jsonl"):
            for row in map(json.loads, path.read_text().splitlines()):
                yield f"carm {row['isa']}", float(row["bandwidth_gbps"]) * 1e9


def _output(command: Sequence[str], **environment: str) -> str:
    made = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **environment})
    return made.stdout


def points(device: Device, wanted: argparse.Namespace) -> list[Point]:
    """The operations at sizes that lie well inside each level."""
    caches = {level.name: level.capacity_bytes or 0 for level in device.levels}
    sizes = {"L1": caches.get("L1", 32768) * 5 // 8 // 12288 * 12288, "L2": caches.get("L2", MIB) // 2, "DRAM": 256 * MIB}
    found = [
        Point(level=level, op=op, threads=threads, bytes_per_thread=sizes[level])
        for level in wanted.level
        if level != "compute"
        for op in wanted.op
        for threads in wanted.threads
    ]
    if "compute" in wanted.level:
        rows = [f"fma.{dtype}.{width}" for dtype in ("f32", "f64") for width in ("v128", "v256", "v512")]
        found += [Point(level="compute", op=row, threads=threads) for row in rows for threads in wanted.threads]
    return found


def compare(points_wanted: Sequence[Point], ours: Ours, peers: Sequence[Measure], rounds: int) -> Iterator[dict[str, str | float]]:
    """Interleave, then one row per point and peer."""
    rates: dict[Point, dict[bool, Rates]] = defaultdict(lambda: {True: defaultdict(list), False: defaultdict(list)})
    with contextlib.suppress(KeyboardInterrupt):  # what was measured until then still counts
        for turn in range(rounds):
            for point in points_wanted:
                for measure in (ours, *peers):
                    so_far = [rate for listed in rates[point][True].values() for rate in listed]
                    for label, rate in measure(point, max(so_far, default=1e9)):
                        rates[point][measure is ours][label].append(rate)
                print(f"round {turn + 1} of {rounds}: {point.name}", file=sys.stderr)
    for point, sides in rates.items():
        if not sides[True] or not sides[False]:
            continue
        our_label, our_rounds = _best(sides[True])
        label, peer_rounds = _best(sides[False])
        yield {
            "point": point.name,
            "bytes_per_thread": point.bytes_per_thread,
            "ours": our_label,
            "ours_per_s": our_rounds[0],
            "peer": label,
            "peer_per_s": peer_rounds[0],
            "ratio": our_rounds[0] / peer_rounds[0],
            "low": our_rounds[min(2, len(our_rounds) - 1)] / peer_rounds[0],
            "high": our_rounds[0] / peer_rounds[min(2, len(peer_rounds) - 1)],
            "rounds": len(our_rounds),
        }


def _best(side: Rates) -> tuple[str, list[float]]:
    label = max(side, key=lambda each: max(side[each]))
    return label, sorted(side[label], reverse=True)


def markdown(rows: Sequence[dict[str, str | float]]) -> str:
    """Ratios first: absolute rates belong to one machine at one hour."""
    lines = [
        "| point | ratio | interval | ours, G/s | best peer, G/s | our variant | peer |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['point']} | {row['ratio']:.3f} | {row['low']:.3f} .. {row['high']:.3f} | {float(row['ours_per_s']) / 1e9:.1f} "
        f"| {float(row['peer_per_s']) / 1e9:.1f} | {row['ours']} | {row['peer']} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Compare and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--level", nargs="+", default=["L1", "L2", "DRAM", "compute"], choices=["L1", "L2", "DRAM", "compute"])
    parser.add_argument("--op", nargs="+", default=list(LIKWID_OP), choices=list(LIKWID_OP))
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, len(os.sched_getaffinity(0))}))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without", nargs="*", default=[], choices=["likwid", "carm", "c"])
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--markdown", type=Path)
    wanted = parser.parse_args()
    try:
        device = probe()
    except MicrobenchError as error:
        raise SystemExit(str(error)) from error
    with tempfile.TemporaryDirectory() as folder:
        rows = list(compare(points(device, wanted), Ours(device), _peers(device, Path(folder), wanted.without), wanted.rounds))
    print(markdown(rows), end="")
    if wanted.markdown is not None:
        wanted.markdown.write_text(markdown(rows), encoding="utf-8")
    if wanted.csv is not None and rows:
        with wanted.csv.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return 0


def _peers(device: Device, folder: Path, without: Sequence[str]) -> list[Measure]:
    needs: dict[str, tuple[str, Callable[[], Measure]]] = {
        "likwid": ("likwid-bench", lambda: Likwid(device)),
        "carm": ("carm", lambda: Carm(device, folder)),
        "c": (os.environ.get("CC", "cc"), lambda: Compiled(folder)),
    }
    found: list[Measure] = []
    for name, (command, make) in needs.items():
        if name in without:
            continue
        if shutil.which(command) is None:
            print(f"peer {name}: no {command} on the path, left out", file=sys.stderr)
            continue
        found.append(make())
    return found


if __name__ == "__main__":
    sys.exit(main())
