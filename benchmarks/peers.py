"""Our kernels beside other benchmarks of the same machine, interleaved in one run, and beside what the ports allow.

Usage: python benchmarks/peers.py [--level L1 L2 L3 DRAM compute limits] [--op read write copy triad] [--threads 1 2]
                                  [--rounds 5] [--without likwid carm c] [--loaded] [--csv PATH] [--markdown PATH]

Each round measures ours, then each rival, with the same bytes per thread and the same way of counting: bytes that the
program asks for. A rate of ours is the work of one burst over its time, as long as a rival's burst; the C programs
print their best slice. Rivals that are missing or failed are named, with how to get them. A loaded machine is refused,
or with --loaded measured and marked. The level "limits" needs no rivals: it sets our compute rows beside their own
limit.

The value of either side is its best round; the ratio's interval goes from our third best round over the rival's best to
our best over the rival's third best. A tie is a ratio whose interval holds 1.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import limits
from rivals import BURST_S, FAILED, LIKWID_OP, MIB, Measure, Point, here

from microbench.errors import MicrobenchError
from microbench.hardware.cpu import probe
from microbench.hardware.interference import OTHERS_SHARE, STEAL_SHARE, Disturbance
from microbench.kernels import Kernel, registry
from microbench.records import Device, Value

# A first look at every variant is shorter than what is compared.
LOOK_S = 0.02
# Runnable processes a CPU, before we start, from which rates are those of a crowd.
CROWDED = 0.5
# Variants that later rounds still measure: the fastest of the first.
FINALISTS = 3
# Bytes ahead for software prefetch, as plans have them.
DISTANCES = {"L2": (128, 1024), "L3": (1024, 2048), "DRAM": (512, 1024)}
STARTED = time.monotonic()
LEVELS = ("L1", "L2", "L3", "DRAM", "compute", "limits")

# Rates by label, then by round.
Rates = dict[str, dict[int, float]]


def variants(kernels: dict[str, Kernel], point: Point) -> Iterator[tuple[str, Mapping[str, Value]]]:
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
        if (
            sheet.measures != "memory"
            or sheet.backend != "native"
            or sheet.access != point.op
            or sheet.unit != "vector"
        ):
            continue
        non_temporal = sheet.variant.endswith("_nt")
        if non_temporal and point.level != "DRAM":
            continue
        yield from (
            (name, {"working_set": point.bytes_per_thread, **params})
            for params in _params(point, sheet.access_bytes, non_temporal)
        )


def _params(point: Point, width: int, non_temporal: bool) -> Iterator[Mapping[str, Value]]:
    yield {"pages": "huge"}
    if point.level == "L1" and point.op == "triad":
        yield {"pages": "huge", "group": 1}
    if point.level == "L1" or width < 32:
        return
    distances = (2048,) if point.op == "read" and point.level != "L3" else DISTANCES[point.level]
    for distance in distances:
        yield {"pages": "huge", "prefetch": distance}
    if point.level in ("L2", "L3"):
        yield {"pages": "4k"}
        for distance in distances:
            yield {"pages": "4k", "prefetch": distance}
    elif non_temporal or point.op in ("read", "write"):
        yield from ({"pages": pages, "streams": streams} for streams in (4, 8, 16) for pages in ("huge", "4k"))
    if non_temporal:
        yield {"pages": "4k"}


class Ours:
    """Our kernels, sampled in every round."""

    def __init__(self, device: Device, kernels: dict[str, Kernel]) -> None:
        self.device, self.kernels = device, kernels
        self._best: dict[Point, list[str]] = {}

    def __call__(self, point: Point, rate: float) -> Iterator[tuple[str, float]]:
        """Look at every variant in the first round; sample the finalists in every one."""
        del rate
        # Jobs stay open over the point: their arrays are shared, and filling one takes longer than sampling it.
        with contextlib.ExitStack() as opened:
            known = {
                " ".join((name, *(f"{key}={value}" for key, value in params.items() if key != "working_set"))): (
                    name,
                    params,
                )
                for name, params in variants(self.kernels, point)
            }
            if point not in self._best:
                seen = {label: self._sample(*each, point.threads, opened, LOOK_S) for label, each in known.items()}
                self._best[point] = sorted(seen, key=lambda label: -seen[label])[:FINALISTS]
            for label in self._best[point]:
                yield label, self._sample(*known[label], point.threads, opened, BURST_S)

    def _sample(
        self, name: str, params: Mapping[str, Value], threads: int, opened: contextlib.ExitStack, seconds: float
    ) -> float:
        """Rate of one burst of so many seconds."""
        kernel = self.kernels[name]
        amount = kernel.sheet.work.flop if kernel.sheet.measures == "compute" else kernel.sheet.work.bytes
        job = kernel.prepare(self.device, params, threads)
        opened.callback(job.close)
        iterations, timing = 64, job.run(64)
        while timing.ns < seconds * 1e9 / 16:
            iterations *= 2
            timing = job.run(iterations)
        timing = job.run(max(1, round(iterations * seconds * 1e9 / timing.ns)))
        if timing.checked is False:
            raise SystemExit(f"{name} left a wrong result")
        return amount * timing.iterations * threads / timing.ns * 1e9


def points(device: Device, wanted: argparse.Namespace) -> list[Point]:
    """The operations at sizes that lie well inside each level."""
    caches = {level.name: level.capacity_bytes or 0 for level in device.levels}
    sizes = {
        "L1": caches.get("L1", 32768) * 5 // 8 // 12288 * 12288,
        "L2": caches.get("L2", MIB) // 2,
        "DRAM": 256 * MIB,
    }
    if caches.get("L3", 0) > 3 * sizes["L2"] * 2 * max(wanted.threads):
        sizes["L3"] = 6 * sizes["L2"]
    found = [
        Point(level=level, op=op, threads=threads, bytes_per_thread=sizes[level])
        for level in wanted.level
        if level in sizes
        for op in wanted.op
        for threads in wanted.threads
    ]
    if "compute" in wanted.level:
        rows = [f"fma.{dtype}.{width}" for width in ("v128", "v256", "v512") for dtype in ("f32", "f64")]
        found += [Point(level="compute", op=row, threads=threads) for row in rows for threads in wanted.threads]
    return found


def compare(
    points_wanted: Sequence[Point], ours: Ours, rivals: Sequence[Measure], rounds: int
) -> Iterator[dict[str, str | float]]:
    """Measure both sides interleaved, then yield one row per point with the best of its rivals.

    Turbo may move while a rival runs for a quarter of a second, so where the clock counts ours is measured again after
    each rival; the best counts.
    """
    rates: dict[Point, dict[bool, Rates]] = defaultdict(lambda: {True: defaultdict(dict), False: defaultdict(dict)})

    def sample(measure: Measure, point: Point, turn: int) -> bool:
        our_best = max((rate for rounds_of in rates[point][True].values() for rate in rounds_of.values()), default=1e9)
        found = list(measure(point, our_best))
        for label, rate in found:
            seen = rates[point][measure is ours][label]
            seen[turn] = max(seen.get(turn, 0.0), rate)
        return bool(found)

    with contextlib.suppress(KeyboardInterrupt):  # what was measured until then still counts
        for turn in range(rounds):
            for point in points_wanted:
                sample(ours, point, turn)
                for rival in rivals:
                    if sample(rival, point, turn) and point.level != "DRAM":
                        sample(ours, point, turn)
                print(
                    f"{time.monotonic() - STARTED:.0f} s, round {turn + 1} of {rounds}: {point.name}", file=sys.stderr
                )
    for point, seen in rates.items():
        if seen[True] and seen[False]:
            yield _row(point, _best(seen[True]), _best(seen[False]))


def _row(point: Point, ours: tuple[str, list[float]], rival: tuple[str, list[float]]) -> dict[str, str | float]:
    """Best round over best round; the interval takes the third best of either side."""
    (our_label, our_rounds), (label, rival_rounds) = ours, rival
    return {
        "point": point.name,
        "bytes_per_thread": point.bytes_per_thread,
        "ours": our_label,
        "ours_per_s": our_rounds[0],
        "rival": label,
        "rival_per_s": rival_rounds[0],
        "ratio": our_rounds[0] / rival_rounds[0],
        "low": our_rounds[min(2, len(our_rounds) - 1)] / rival_rounds[0],
        "high": our_rounds[0] / rival_rounds[min(2, len(rival_rounds) - 1)],
        "rounds": len(our_rounds),
    }


def _best(side: Rates) -> tuple[str, list[float]]:
    """The label with the highest rate, and its rates by round, highest first."""
    label = max(side, key=lambda each: max(side[each].values()))
    return label, sorted(side[label].values(), reverse=True)


def ratios_table(rows: Sequence[dict[str, str | float]]) -> str:
    """The rows as Markdown, the ratio first: absolute rates belong to one machine at one hour."""
    lines = [
        "| point | ratio | interval | at least a tie | ours, G/s | best rival, G/s | our variant | rival |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['point']} | {row['ratio']:.3f} | {row['low']:.3f} .. {row['high']:.3f} | "
        f"{'yes' if float(row['high']) >= 1 else 'no'} | {float(row['ours_per_s']) / 1e9:.1f} | "
        f"{float(row['rival_per_s']) / 1e9:.1f} | {row['ours']} | {row['rival']} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def limits_tables(bench: limits.Bench, threads: Sequence[int], rounds: int) -> str:
    """Sample the compute rows against their limits and return the two tables."""
    rows, returns = limits.planned(bench, threads)
    with contextlib.suppress(KeyboardInterrupt):
        for turn in range(rounds):
            limits.sample(bench, rows, returns)
            print(f"round {turn + 1} of {rounds}: limits", file=sys.stderr)
    text = "\n## Compute rows beside lanes x ports x 2 x the reference clock\n\n" + limits.shares_table(
        list(rows.values())
    )
    if returns:
        text += "\n## A 256-bit row before and after a block of 512-bit arithmetic\n\n" + limits.returns_table(
            list(returns.values())
        )
    return text


def crowd() -> str:
    """The load average of the last minute and the CPUs that share it."""
    return f"load average {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} CPUs"


def load_of(disturbance: Disturbance, before: str) -> str:
    """What else the machine did meanwhile, in a sentence that says whether that counts."""
    facts = disturbance.facts()
    others, steal = (float(facts[name] or 0) for name in ("other_processes_share", "steal_share"))
    loaded = others > OTHERS_SHARE or steal > STEAL_SHARE
    return (
        f"\n**{'Loaded' if loaded else 'Quiet'} machine**: {before} before and {os.getloadavg()[0]:.1f} after; other "
        f"processes took {others:.0%} of the CPUs and the host {steal:.1%}"
        f"{': ratios are those of this hour, and their intervals say how far to believe them' if loaded else ''}.\n"
    )


def peers_of(rivals: Sequence[Measure], absent: Mapping[str, str]) -> str:
    """Which rivals were measured, and why the others were not."""
    there = ", ".join(type(each).__name__.lower() for each in rivals) or "none"
    missing = "".join(f"- {name}: {why}\n" for name, why in {**absent, **FAILED}.items())
    return f"\nRivals measured: {there}.{' Missing or failed:' if missing else ''}\n\n{missing}"


def page(device: Device, rows: Sequence[dict[str, str | float]], limits_text: str, rounds: int) -> str:
    """All results as Markdown."""
    text = (
        f"# Beside other benchmarks, and beside the limit\n\n{device.name} ({device.arch}), "
        f"{device.units_by_kind.get('core', 1)} cores; "
    )
    text += f"`python benchmarks/peers.py --rounds {rounds}`.\n"
    if rows:
        lost = [str(row["point"]) for row in rows if float(row["high"]) < 1]
        text += (
            f"\n## Ratio to the best rival\n\n{len(rows) - len(lost)} of {len(rows)} points are at least a tie"
            f"{'; behind: ' + ', '.join(lost) if lost else ''}. A ratio is best round over best round, all "
            "interleaved; its interval "
            "goes from our third best over the rival's best to our best over the rival's third best; a tie is an "
            "interval that holds 1. "
            "Bytes are those that the program asks for.\n\n" + ratios_table(rows)
        )
    return text + limits_text


def main() -> int:
    """Compare and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--level", nargs="+", default=list(LEVELS), choices=LEVELS)
    parser.add_argument("--op", nargs="+", default=list(LIKWID_OP), choices=list(LIKWID_OP))
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, len(os.sched_getaffinity(0))}))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without", nargs="*", default=[], choices=["likwid", "carm", "c"])
    parser.add_argument("--loaded", action="store_true", help="measure though other processes run, and say so")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--markdown", type=Path)
    wanted = parser.parse_args()
    before, disturbance = crowd(), Disturbance()
    if os.getloadavg()[0] > CROWDED * len(os.sched_getaffinity(0)) and not wanted.loaded:
        raise SystemExit(f"{before}: rates would be those of a crowd; wait, or say --loaded and have it said")
    try:
        device = probe()
    except MicrobenchError as error:
        raise SystemExit(str(error)) from error
    kernels = {name: kernel for name, kernel in registry(device).items() if kernel.sheet.backend == "native"}
    limits_text = ""
    if "limits" in wanted.level:
        limits_text = limits_tables(limits.Bench(device, kernels), wanted.threads, wanted.rounds)
    with tempfile.TemporaryDirectory() as folder:
        asked = points(device, wanted)
        rivals, absent = here(device, Path(folder), wanted.threads, wanted.without) if asked else ([], {})
        rows = list(compare(asked, Ours(device, kernels), rivals, wanted.rounds))
    text = page(device, rows, load_of(disturbance, before) + peers_of(rivals, absent) + limits_text, wanted.rounds)
    print(text, end="")
    if wanted.markdown is not None:
        wanted.markdown.parent.mkdir(parents=True, exist_ok=True)
        wanted.markdown.write_text(text, encoding="utf-8")
    if wanted.csv is not None and rows:
        with wanted.csv.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
