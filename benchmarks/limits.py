"""How near our compute rows come to what the ports allow, and whether the measurement would notice if they did not.

Three tables: the share of lanes x ports x 2 x reference clock that each row reaches; what a loop loses that is
lengthened by a twentieth on purpose; and a 256-bit row before and after a block of 512-bit arithmetic, which leaves the
core at a lower clock for a while.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from microbench.hardware.clock import best
from microbench.hardware.nominal import nominal_rate
from microbench.kernels import Kernel, Pairing, Pairs, Prepared
from microbench.measure.calibration import calibrate
from microbench.records import Device, Samples, Sheet, Value

# Short samples, each beside one of the reference clock: a core that is shared is quiet for less than a millisecond.
SAMPLE_S = 50e-6
PAIRS = 64
BURSTS = 4
# Longer than any core takes to change its frequency license.
WARM_UP_S = 10e-3
WIDE_BLOCK_S = 50e-3
SHARE_TARGET = {True: 0.99, False: 0.98}  # one thread, several
LOSS_TARGET = (4.5, 5.5)
RETURN_TARGET = 1.0
# No share can be above this unless the reference clock loop was disturbed and the row was not.
PLAUSIBLE = {True: 1.005, False: 1.01}


@dataclass(slots=True)
class Row:
    """One compute row at one number of threads: its share of the limit in each round, plain and lengthened."""

    name: str
    threads: int
    shares: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Return:
    """A 256-bit row around a 512-bit block: rates and shares of each round, before and after."""

    name: str
    threads: int
    before: list[tuple[float, float | None]] = field(default_factory=list)
    after: list[tuple[float, float | None]] = field(default_factory=list)


class Bench:
    """Our kernels on this device, each sampled in turn with its reference clock."""

    def __init__(self, device: Device, kernels: Mapping[str, Kernel]) -> None:
        self.device, self.kernels = device, kernels

    def rows(self) -> list[Sheet]:
        """The compute rows that can run here and have a reference clock."""
        sheets = [kernel.sheet for kernel in self.kernels.values()]
        return [
            sheet
            for sheet in sheets
            if sheet.measures == "compute" and sheet.unavailable is None and sheet.reference_clock
        ]

    def interleaved(
        self, sheet: Sheet, threads: int, variants: Sequence[Mapping[str, Value]]
    ) -> list[tuple[float, float | None]]:
        """Rate per thread and share of the limit of each variant, the best of its bursts.

        The variants' bursts alternate, so that all of them meet the same clocks.
        """
        assert sheet.reference_clock is not None
        clock = self.kernels[sheet.reference_clock]
        jobs = [_paired(self.kernels[sheet.name].prepare(self.device, params, threads)) for params in variants]
        reference_clock = clock.prepare(self.device, {}, threads)
        bursts: list[list[tuple[float, float | None]]] = [[] for _ in jobs]
        try:
            warm_up(jobs[0], WARM_UP_S)
            counts = [calibrate(job.run, SAMPLE_S) for job in jobs]
            clock_count = calibrate(reference_clock.run, SAMPLE_S)
            for _ in range(BURSTS):
                for job, count, found in zip(jobs, counts, bursts, strict=True):
                    taken = job.pairs(count, reference_clock, clock_count, PAIRS, math.inf)
                    if taken.checked is False:
                        raise SystemExit(f"{sheet.name} left a wrong result")
                    found.append(self._rate_and_share(sheet, clock.sheet, threads, _samples(taken)))
        finally:
            for each in (*jobs, reference_clock):
                each.close()
        return [
            (max(rate for rate, _ in found), max((share for _, share in found if share), default=None))
            for found in bursts
        ]

    def _rate_and_share(self, sheet: Sheet, clock: Sheet, threads: int, samples: Samples) -> tuple[float, float | None]:
        found = best(samples, clock)
        rate = sheet.work.flop * samples.iterations / found.ns * 1e9
        if found.clock_hz is None:
            return rate, None
        nominal = nominal_rate(sheet, self.device, clock_hz=found.clock_hz, threads=1)
        share = rate / nominal if nominal else None
        return rate, share if share is None or share <= PLAUSIBLE[threads == 1] else None

    def around(self, narrow: Sheet, wide: Sheet, threads: int) -> Iterator[tuple[float, float | None]]:
        """Rate and share of the narrow row, then again after a block of the wide one."""
        yield self.interleaved(narrow, threads, [{}])[0]
        job = self.kernels[wide.name].prepare(self.device, {}, threads)
        try:
            warm_up(job, WIDE_BLOCK_S)
        finally:
            job.close()
        yield self.interleaved(narrow, threads, [{}])[0]


def warm_up(job: Prepared, seconds: float) -> None:
    """Run a job for so many seconds, one sample at a time."""
    count, until = calibrate(job.run, SAMPLE_S), time.monotonic() + seconds
    while time.monotonic() < until:
        job.run(count)


def _paired(job: Prepared) -> Pairing:
    assert isinstance(job, Pairing)
    return job


def _samples(taken: Pairs) -> Samples:
    return Samples(
        case="limits",
        round=0,
        started_s=0.0,
        iterations=taken.iterations,
        ns=taken.ns,
        count=len(taken.ns),
        reference_ns=taken.reference_ns,
        reference_iterations=taken.reference_iterations,
    )


def sample(bench: Bench, rows: Mapping[tuple[str, int], Row], returns: Mapping[tuple[str, int], Return]) -> None:
    """Sample every row once, plain and lengthened, and every 256-bit row around a 512-bit block."""
    sheets = {sheet.name: sheet for sheet in bench.rows()}
    for row in rows.values():
        sheet = sheets[row.name]
        variants: list[Mapping[str, Value]] = [{}, {"lengthen": 5}] if "lengthen" in sheet.params else [{}]
        shares = [share for _, share in bench.interleaved(sheet, row.threads, variants)]
        if shares[0] is not None:
            row.shares.append(shares[0])
        if len(shares) > 1 and shares[0] is not None and shares[1] is not None:
            row.losses.append(100 * (1 - shares[1] / shares[0]))
    for each in returns.values():
        wide = sheets[each.name.replace("v256", "v512")]
        before, after = bench.around(sheets[each.name], wide, each.threads)
        each.before.append(before)
        each.after.append(after)


def shares_table(rows: Sequence[Row]) -> str:
    """Share of the limit by row, and the loss of the lengthened loop, each beside its target."""
    lines = [
        (
            "| row | threads | best share | third best | target | met | loss of the lengthened loop, % (median, range) "
            "| target, % | met |"
        ),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        target = SHARE_TARGET[row.threads == 1]
        ranked = sorted(row.shares, reverse=True)
        share = f"{ranked[0]:.4f} | {ranked[min(2, len(ranked) - 1)]:.4f}" if ranked else "clock unknown |"
        met = _met(bool(ranked) and ranked[0] >= target)
        loss = "| |"
        if row.losses:
            middle = statistics.median(row.losses)
            within = LOSS_TARGET[0] <= middle <= LOSS_TARGET[1]
            loss = (
                f"{middle:.2f} ({min(row.losses):.2f} .. {max(row.losses):.2f}) | {LOSS_TARGET[0]} .. {LOSS_TARGET[1]} "
                f"| {_met(within)}"
            )
        lines.append(f"| {row.name} | {row.threads} | {share} | {target} | {met} | {loss} |")
    return "\n".join(lines) + "\n"


def returns_table(returns: Sequence[Return]) -> str:
    """The 256-bit rows before and after: rates follow the turbo clock of the moment, shares do not."""
    lines = [
        (
            "| row | threads | before, G/s | after, G/s | change, % | share before | share after | change per clock, % "
            "| target, % | met |"
        ),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in returns:
        rates = [max(rate for rate, _ in side) * each.threads / 1e9 for side in (each.before, each.after)]
        shares = [
            max((share for _, share in side if share is not None), default=None) for side in (each.before, each.after)
        ]
        raw = 100 * (rates[1] / rates[0] - 1)
        per_clock = 100 * (shares[1] / shares[0] - 1) if shares[0] and shares[1] else None
        share_cells = (
            f"{shares[0]:.4f} | {shares[1]:.4f} | {per_clock:+.2f}"
            if per_clock is not None
            else "unknown | unknown | unknown"
        )
        met = (
            "yes"
            if abs(raw) <= RETURN_TARGET
            else "per clock"
            if per_clock is not None and abs(per_clock) <= RETURN_TARGET
            else "no"
        )
        lines.append(
            f"| {each.name} | {each.threads} | {rates[0]:.2f} | {rates[1]:.2f} | {raw:+.2f} | {share_cells} | "
            f"{RETURN_TARGET:g} | {met} |"
        )
    return "\n".join(lines) + "\n"


def _met(yes: bool) -> str:
    return "yes" if yes else "no"


def planned(bench: Bench, threads: Sequence[int]) -> tuple[dict[tuple[str, int], Row], dict[tuple[str, int], Return]]:
    """Empty rows of all compute kernels that can run here, and of all pairs of a 256-bit and a 512-bit row."""
    sheets = bench.rows()
    names = {sheet.name for sheet in sheets}
    narrow = [
        name
        for name in sorted(names)
        if name.startswith("fma.") and name.endswith(".v256") and name.replace("v256", "v512") in names
    ]
    rows = {(sheet.name, count): Row(name=sheet.name, threads=count) for sheet in sheets for count in threads}
    return rows, {(name, count): Return(name=name, threads=count) for name in narrow for count in threads}
