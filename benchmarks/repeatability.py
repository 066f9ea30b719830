"""How well `microbench run --quick` repeats: fresh processes in a row, and one run beside a process that spins.

Usage: python benchmarks/repeatability.py [--runs 10] [--spin] [--out DIR] [--markdown PATH]

Prints, per ceiling, how many runs converged and the spread (highest over lowest, less one) over those; with --spin,
every compute ceiling of a run beside a process that spins on a core for half of it, against the quiet ones, and the
finding that names the disturbance. Where turbo moves the clock from run to run, rates move with it; the columns per
clock (each run's round that did most in a cycle) show what the measurement itself adds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from microbench.hardware.clock import evaluate_round, select_rounds
from microbench.records import Ceiling, Characterisation
from microbench.storage.store import load

# The project's own targets for quick runs on two noisy cores, as fractions.
TARGET = {("compute", 1): 0.01, ("compute", 2): 0.03, ("memory", 1): 0.05, ("memory", 2): 0.05}
FLAGGED_AT_MOST = 2
DISTURBED_TARGET = 0.02
Key = tuple[str, int]


def measure(out: Path) -> Characterisation:
    """Run the command line once in a fresh process and load what it left."""
    before = set(out.glob("*/*.json"))
    started = time.monotonic()
    command = [sys.executable, "-P", "-m", "microbench", "run", "--device", "cpu", "--quick", "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    path = next(iter(set(out.glob("*/*.json")) - before))
    print(f"{path.name}: {time.monotonic() - started:.1f} s", file=sys.stderr)
    return load(path)


def spin(cpu: int, start_s: float, stop_s: float) -> None:
    """Keep one core busy between two moments."""
    os.sched_setaffinity(0, {cpu})
    time.sleep(start_s)
    until = time.monotonic() + stop_s - start_s
    while time.monotonic() < until:
        pass


def table(runs: list[Characterisation]) -> Iterator[tuple[Key, list[tuple[Characterisation, Ceiling]]]]:
    """Group the native peak ceilings of all runs, each beside its run, by name and threads."""
    grouped: dict[Key, list[tuple[Characterisation, Ceiling]]] = defaultdict(list)
    for run in runs:
        for ceiling in run.ceilings:
            if ceiling.mode == "peak":
                grouped[ceiling.name, ceiling.threads].append((run, ceiling))
    yield from sorted(grouped.items(), key=lambda item: (item[1][0][1].measures, item[0][1], item[0][0]))


def spread(values: list[float]) -> float:
    """Highest over lowest, less one; 0 for fewer than two values."""
    return max(values) / min(values) - 1 if len(values) > 1 else 0.0


def most_per_clock(run: Characterisation, ceiling: Ceiling) -> float | None:
    """The highest rate per clock of the rounds of a ceiling's case; ``None`` where their clock is unknown."""
    assert run.plan is not None
    case = next(case for case in run.plan.cases if case.key == ceiling.case)
    sheets = {sheet.name: sheet for sheet in run.sheets}
    sheet = sheets[case.kernel]
    reference_clock = sheets.get(sheet.reference_clock or "")
    rounds = [
        evaluate_round(samples, case, run.device, sheet, reference_clock)[0]
        for samples in run.samples
        if samples.case == case.key
    ]
    known = [rounds[i] for i in select_rounds(rounds, case.threads, reference_clock is not None)]
    return max((each.rate / each.clock_hz for each in known if each.clock_hz), default=None)


def repeatability(runs: list[Characterisation]) -> list[str]:
    """Markdown rows: ceiling, runs, flagged, spreads over the converged and over all, per clock, target, verdicts."""
    heads = (
        "ceiling",
        "threads",
        "runs",
        "not converged",
        "spread of the others",
        "of all",
        "per clock",
        "target",
        "met",
        "met per clock",
    )
    rows = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for key, found in table(runs):
        if found[0][1].level in (None, "L2", "DRAM"):
            rows.append(f"| {' | '.join(map(str, _cells(key, found)))} |")
    return rows


def _cells(key: Key, found: list[tuple[Characterisation, Ceiling]]) -> list[str | int]:
    name, threads = key
    level = found[0][1].level
    converged = [(run, ceiling) for run, ceiling in found if ceiling.converged]
    flagged = len(found) - len(converged)
    target = TARGET[found[0][1].measures, min(2, threads)]
    few_flagged = level is not None or flagged <= FLAGGED_AT_MOST
    rates = spread([ceiling.rate.value for _, ceiling in converged])
    of_all = spread([ceiling.rate.value for _, ceiling in found])
    clocked = [most for run, ceiling in converged if (most := most_per_clock(run, ceiling))]
    per_clock = spread(clocked) if level != "DRAM" and clocked else None
    return [
        name,
        threads,
        len(found),
        flagged,
        f"{rates:.2%}",
        f"{of_all:.2%}",
        "" if per_clock is None else f"{per_clock:.2%}",
        f"{target:.0%}",
        "yes" if rates <= target and few_flagged else "no",
        "" if per_clock is None else "yes" if per_clock <= target and few_flagged else "no",
    ]


def disturbed(quiet: list[Characterisation], beside: Characterisation) -> list[str]:
    """Markdown rows: compute ceilings beside a spinning process over the best quiet run, and the findings."""
    best = {key: max((ceiling for _, ceiling in found), key=lambda c: c.rate.value) for key, found in table(quiet)}
    rows = ["| ceiling | threads | disturbed / quiet | per clock | met per clock |", "| --- " * 5 + "|"]
    for (name, threads), [(_, ceiling), *_] in table([beside]):
        if ceiling.measures != "compute" or (name, threads) not in best:
            continue
        quiet_best = best[name, threads]
        ratio = ceiling.rate.value / quiet_best.rate.value
        per_clock = ceiling.per_clock / quiet_best.per_clock if ceiling.per_clock and quiet_best.per_clock else None
        worst = per_clock if per_clock is not None else ratio
        verdict = "yes" if abs(worst - 1) <= DISTURBED_TARGET else "no"
        rows.append(
            f"| {name} | {threads} | {ratio:.4f} | {'' if per_clock is None else f'{per_clock:.4f}'} | {verdict} |"
        )
    rows += ["", "Findings of the disturbed run:", ""]
    rows += [f"- {finding.code}: {finding.says}" for finding in beside.findings]
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument(
        "--spin", action="store_true", help="then one run with a process spinning on one core for half of it"
    )
    parser.add_argument("--out", type=Path, help="keep the characterisations here (default: a folder that is removed)")
    parser.add_argument("--markdown", type=Path, help="also write the tables to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)
        runs = [measure(out) for _ in range(arguments.runs)]
        lines = [
            f"Ten quick runs in a row ({len(runs)} here) on {runs[0].device.name}, {runs[0].device.arch}:",
            "",
            *repeatability(runs),
        ]
        if arguments.spin:
            seconds = runs[-1].environment.seconds if runs[-1].environment else 20.0
            other = multiprocessing.Process(
                target=spin, args=(max(os.sched_getaffinity(0)), 3 + seconds / 4, 3 + seconds * 3 / 4)
            )
            other.start()
            beside = measure(out)
            other.join()
            lines += [
                "",
                "With a process spinning on one core for the middle half of the run:",
                "",
                *disturbed(runs, beside),
            ]
    print("\n".join(lines))
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
