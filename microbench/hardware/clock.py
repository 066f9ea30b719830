"""The core clock while a sample ran, from the samples of the reference clock loop around it.

A reference clock loop's dependent chain takes a known number of cycles, so its time is the clock. It alternates with
the samples, which are some 50 us each: interference comes and goes faster than a millisecond, turbo moves the clock in
steps of some 100 MHz, and both make a single reading wrong. So a sample counts towards a peak only inside a window of
consecutive pairs whose two fastest samples agree and whose two fastest reference clocks agree: noise is one-sided, so
two that agree at the fast end ran undisturbed, and, because they alternate, at the same clock. A round without such a
window says nothing about a peak, unless no round has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from microbench.hardware.placement import nominal_of, sharers
from microbench.records import Budget, Case, Device, Samples, Sheet
from microbench.stats.intervals import (
    COMPUTE_TOLERANCE,
    MEMORY_TOLERANCE,
    PORTS_TOLERANCE,
    SHAPE_TOLERANCE,
    UNITS_TOLERANCE,
    rounds_agree,
)

# Pairs in a window: long enough for two quiet moments of either loop, short enough (some ms) for one step of turbo.
WINDOW = 16
# Curves (sweeps by chase, mixed intensity) are fitted over many points, none of which must be a peak.
SHAPES = ("latency", "intensity", "cost")
# Undisturbed readings of one clock agree within some tenths of a per cent; steps of turbo are 2.5 % and more.
_AGREE = 0.003
# What the core clock bounds is sampled in pairs with a reference clock, short ones: quiet moments of a shared core are
# shorter than a millisecond, and of a hundred short samples some hit one where ten long ones do not.
CLOCKED_SAMPLE_S = 50e-6
# What a program of some seconds gets shows after a tenth of one: several episodes of a shared host's scheduler, and the
# power limit.
SUSTAINED_SAMPLE_S = 0.1
# A sample shorter than this share of what it was to last was calibrated while something held its loop up: it times the
# start of threads and the reading of clocks, not the loop.
LONG_ENOUGH = 0.5
# One step of turbo: two cases of a license may run that far apart.
_CLOCK_STEP = 0.03
# Turbo and throttling move the clock of one frequency license by less between two moments of a run; a reading below
# this share of the highest, which nothing else confirms, was a reference clock that was held up.
_LOWEST_CLOCK = 0.85


def lasts(case: Case, sheet: Sheet) -> bool:
    """Whether a case is sampled for long, as those of a CPU are whose mode is sustained."""
    return case.mode == "sustained" and sheet.device_kind == "cpu"


def sample_target_s(case: Case, sheet: Sheet, budget: Budget, *, clocked: bool) -> float:
    """Seconds that a sample of a case should last; ``clocked`` where a reference clock alternates with it.

    Several threads start some 100 ns apart, and bringing tiles in and out costs some 200 ns, so those samples are
    longer.
    """
    if lasts(case, sheet):
        return SUSTAINED_SAMPLE_S
    if not clocked:
        return budget.sample_s
    return CLOCKED_SAMPLE_S * (1 if case.threads == 1 else 2) * (4 if sheet.frequency_license == "amx" else 1)


def distillable(samples: Samples) -> Samples | None:
    """What of a burst can be trusted: nothing of one whose samples are too short, no clock from short reference clocks.

    Examples
    --------
    >>> burst = Samples(case="a", round=0, started_s=0.0, iterations=1, ns=(300, 152), count=2, target_ns=100_000)
    >>> distillable(burst) is None
    True
    """
    if samples.target_ns is None:
        return samples
    shortest = LONG_ENOUGH * samples.target_ns
    if min(samples.ns) < shortest:
        return None
    if samples.reference_ns and min(samples.reference_ns) < shortest:
        return replace(samples, reference_ns=(), reference_iterations=0)
    return samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The fastest trustworthy sample of a burst: its duration, and the clock it ran at (``None``: unknown)."""

    ns: int
    clock_hz: float | None


def best(samples: Samples, reference_clock: Sheet | None) -> Best:
    """The fastest sample of a burst's quiet window, with the core clock there.

    Where no window is quiet, it is the fastest sample of all, and its clock is unknown.

    Examples
    --------
    >>> sheet = Sheet(name="clock.v128", measures="clock", backend="native", device_kind="cpu", says="", cycles=3)
    >>> facts = {"case": "a", "round": 0, "started_s": 0.0, "iterations": 1, "count": 3}
    >>> best(Samples(ns=(8000, 9000, 8001), reference_ns=(2000, 1000, 1001), reference_iterations=1000, **facts), sheet)
    Best(ns=8000, clock_hz=3000000000.0)
    """
    fastest = min(range(len(samples.ns)), key=samples.ns.__getitem__)
    if samples.clock_hz:
        return Best(ns=samples.ns[fastest], clock_hz=samples.clock_hz[min(fastest, len(samples.clock_hz) - 1)])
    window = quiet_window(samples)
    if window is None or reference_clock is None or not reference_clock.cycles:
        return Best(ns=samples.ns[fastest], clock_hz=None)
    clocked = min(samples.reference_ns[window.start : window.stop])
    return Best(
        ns=min(samples.ns[window.start : window.stop]),
        clock_hz=reference_clock.cycles * samples.reference_iterations * 1e9 / clocked,
    )


def quiet_window(samples: Samples) -> range | None:
    """Indices of the quiet window with the fastest sample; ``None`` where no window is quiet or there are no pairs."""
    pairs = min(len(samples.ns), len(samples.reference_ns))
    if pairs < 2:
        return None
    first, second = _two_fastest(samples.ns[:pairs])
    clocked, again = _two_fastest(samples.reference_ns[:pairs])
    quiet = (second <= first * (1 + _AGREE)) & (again <= clocked * (1 + _AGREE))
    if not quiet.any():
        return None
    chosen = int(np.argmin(np.where(quiet, first, np.inf)))
    return range(chosen, chosen + min(WINDOW, pairs))


def _two_fastest(ns: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The fastest and the second fastest of every window."""
    values = np.asarray(ns, dtype=float)
    windows = np.partition(sliding_window_view(values, min(WINDOW, len(values))), 1, axis=1)
    return windows[:, 0], windows[:, 1]


Bound = Literal["ports", "clock"]


def bound(sheet: Sheet, case: Case, device: Device) -> Bound | None:
    """What a case scales with: the ports' count at the core clock, the core clock alone, or neither.

    Arithmetic and the first level are bound by ports; the second level runs at the core clock, but at a rate nobody
    publishes.
    """
    if sheet.reference_clock is None:
        return None
    if sheet.measures == "compute":
        return "ports"
    if sheet.measures != "memory":
        return None
    size = int(case.params.get("working_set", 0))
    fits = [
        name
        for name in ("L1", "L2")
        if (level := device.level(name)) is not None
        and size * sharers(case, device, name) <= (level.capacity_bytes or 0)
    ]
    return None if not fits else "ports" if fits[0] == "L1" else "clock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of one case, as convergence and ceilings see it.

    ``rate`` is the best of the round in iterations a second, over all threads; ``clock_hz`` the core clock it ran at;
    ``share`` the rate over what the ports can do at that clock. ``None`` is unknown.
    """

    rate: float
    clock_hz: float | None = None
    share: float | None = None


def evaluate_round(
    samples: Samples, case: Case, device: Device, sheet: Sheet, reference_clock: Sheet | None
) -> tuple[Round, Best]:
    """Rate, clock and share of nominal of one round, beside its fastest trustworthy sample."""
    fastest = best(samples, reference_clock)
    rate = case.threads * samples.iterations * 1e9 / fastest.ns
    share = None
    if fastest.clock_hz and bound(sheet, case, device) != "clock":
        nominal = nominal_of(sheet, case, device, fastest.clock_hz)
        work = sheet.work.flop if sheet.measures == "compute" else sheet.work.bytes
        share = rate * work / nominal if nominal else None
    # What a device stamps itself is no clock that rounds are compared by.
    return Round(rate=rate, clock_hz=None if samples.clock_hz else fastest.clock_hz, share=share), fastest


def _clock_key(case: Case, sheet: Sheet) -> tuple[str, int]:
    """What runs at one clock: a frequency license on one placement of threads."""
    return (
        f"{sheet.frequency_license}/{case.placement}" if case.placement else sheet.frequency_license or "",
        case.threads,
    )


def highest_clocks(rounds: Iterable[tuple[Case, Sheet, Round]]) -> dict[tuple[str, int], float]:
    """The highest clock that reference clocks told, by frequency license and number of threads.

    Whatever holds a reference clock up makes the clock seem lower, so of cases that run at one clock the highest
    reading is nearest to it.
    """
    found: dict[tuple[str, int], float] = {}
    for case, sheet, each in rounds:
        if each.clock_hz is not None and sheet.frequency_license is not None:
            key = _clock_key(case, sheet)
            found[key] = max(found.get(key, 0.0), each.clock_hz)
    return found


def settled(rounds: Sequence[Round], case: Case, sheet: Sheet, highest: Mapping[tuple[str, int], float]) -> list[Round]:
    """The rounds with clocks taken away that other cases of the same frequency license contradict.

    A round above nominal that is within nominal at the highest clock of its license had a disturbed reference clock; so
    had one without a share (nothing publishes the second level's rate) whose clock lies far below the highest. Such a
    round's clock is unknown. What stays above nominal at the highest clock is left for the plausibility check.
    """
    top = highest.get(_clock_key(case, sheet))
    limit = above_nominal(case.threads)

    def disturbed(each: Round) -> bool:
        if each.clock_hz is None or top is None:
            return False
        if each.share is None:
            return each.clock_hz < _LOWEST_CLOCK * top
        lower = each.clock_hz < top * (1 - _AGREE)
        return each.share > limit and lower and each.share * each.clock_hz / top <= limit * (1 + _CLOCK_STEP)

    return [Round(rate=each.rate) if disturbed(each) else each for each in rounds]


def comparable(rounds: Sequence[Round]) -> list[float]:
    """What rounds must agree on: shares where ports bound them, rates per clock where the clock does, else rates.

    A share a little above 1 is an error of the clock, so shares are compared up to 1.
    """
    shares = [min(each.share, 1.0) for each in rounds if each.share is not None]
    clocked = [each.rate / each.clock_hz for each in rounds if each.clock_hz]
    return shares or clocked or [each.rate for each in rounds]


def above_nominal(threads: int) -> float:
    """The share of nominal that no rate can exceed, but for the error of the clock.

    Clock readings of one thread agree to 0.5 %; several threads also start at slightly different times.
    """
    return 1.005 if threads == 1 else 1.01


def select_rounds(rounds: Sequence[Round], threads: int, timed_clock: bool) -> list[int]:
    """Indices of the rounds that count towards a peak.

    Where a reference clock loop gives the clock (``timed_clock``), a round of unknown clock does not count; nor does
    one above nominal, whose reference clocks were disturbed alike, as long as most rounds are plausible. If most are
    above, the tables are wrong, and the plausibility check says so.
    """
    everything = list(range(len(rounds)))
    known = [i for i in everything if rounds[i].share is not None or rounds[i].clock_hz is not None]
    if not timed_clock or not known:
        return everything
    limit = above_nominal(threads)
    plausible = [i for i in known if (rounds[i].share or 0.0) <= limit]
    return plausible if 2 * len(plausible) >= len(known) else known


def converged(rounds: Sequence[Round], sheet: Sheet, threads: int = 1) -> bool:
    """Whether the rounds that count establish a peak: then the loop may stop, and the ceiling is stored as converged.

    Three of them agree, per clock where turbo moves the rate, and a compute kernel's fastest is within 1.5 % of what
    the ports can do, on a GPU within 5 % of its units. A library's loop has no clock of its own, so its rounds are held
    to what turbo leaves of them, as those of memory are. What goes by a chip's legacy path, or is another compiler's,
    need not reach the units at all. Nothing that is above nominal has converged, however well its rounds agree: either
    a clock or a table is wrong.
    """
    by_ports = sheet.measures == "compute" and sheet.backend != "torch"
    reaches = by_ports and sheet.backend != "triton" and "legacy" not in sheet.variant.split(".")
    least = 1 - (UNITS_TOLERANCE if sheet.device_kind == "cuda" else PORTS_TOLERANCE)
    tolerance = COMPUTE_TOLERANCE if by_ports else SHAPE_TOLERANCE if sheet.measures in SHAPES else MEMORY_TOLERANCE
    if not rounds_agree(comparable(rounds), tolerance):
        return False
    fastest = max(rounds, key=lambda each: each.rate)
    if sheet.device_kind == "cpu" and fastest.share is not None and fastest.share > above_nominal(threads):
        return False
    return not reaches or fastest.share is None or fastest.share >= least
