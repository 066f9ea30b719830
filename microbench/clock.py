"""The core clock while a sample ran, told by the companion samples before and after it.

A companion loop's dependent chain takes a known number of cycles, so its time is the clock. Turbo moves the clock in steps of
some 100 MHz, on some hosts every few milliseconds, and interference makes a companion look slow. So a sample counts towards a
peak only where the companions on both sides of it agree: then both ran undisturbed at the clock that the sample had. A round
without such a sample tells nothing about a peak, unless no round has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from microbench.records import Samples, Sheet

# Steps of turbo are 2.5 % and more, undisturbed readings of one step agree within some tenths of a per cent.
_AGREE = 0.008


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The fastest trustworthy sample of a burst: its duration, and the clock it ran at where something tells it."""

    ns: int
    clock_hz: float | None


def best(samples: Samples, companion: Sheet | None) -> Best:
    """The fastest sample between two companions that agree; the fastest of all, its clock unknown, where there is none such.

    Examples
    --------
    >>> sheet = Sheet(name="clock.v128", measures="clock", backend="native", device_kind="cpu", says="", cycles=3)
    >>> facts = {"case": "a", "round": 0, "started_s": 0.0, "iterations": 1, "count": 3}
    >>> best(Samples(ns=(7, 8, 9), companion_ns=(2000, 1000, 1000), companion_iterations=1000, **facts), sheet)
    Best(ns=9, clock_hz=3000000000.0)
    """
    fastest = min(range(len(samples.ns)), key=samples.ns.__getitem__)
    if samples.clock_hz:
        return Best(ns=samples.ns[fastest], clock_hz=samples.clock_hz[min(fastest, len(samples.clock_hz) - 1)])
    if not samples.companion_ns or companion is None or not companion.cycles:
        return Best(ns=samples.ns[fastest], clock_hz=None)
    cycles = companion.cycles * samples.companion_iterations * 1e9
    clocks = [cycles / ns for ns in samples.companion_ns]
    # The companion of sample i runs right after it, so that of sample i - 1 ran right before it.
    between = [i for i in range(1, min(len(samples.ns), len(clocks))) if abs(clocks[i - 1] / clocks[i] - 1) <= _AGREE]
    if not between:
        return Best(ns=samples.ns[fastest], clock_hz=None)
    chosen = min(between, key=samples.ns.__getitem__)
    return Best(ns=samples.ns[chosen], clock_hz=max(clocks[chosen - 1], clocks[chosen]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of one case: its best rate, and that rate's share of what the ports can do at the clock seen (``None``: unknown)."""

    rate: float
    share: float | None = None


def above_nominal(threads: int) -> float:
    """The share above which a rate cannot be: clock readings of one thread agree to 0.5 %, several threads also start apart."""
    return 1.005 if threads == 1 else 1.01


def counting(rounds: Sequence[Round], threads: int, timed_clock: bool) -> list[int]:
    """Indices of the rounds that count towards a peak.

    Where companions tell the clock (``timed_clock``), a round of unknown clock does not count; nor does one above nominal, whose
    companions were disturbed alike, as long as most rounds are plausible. If most are above, the tables are wrong, and the gate says so.
    """
    everything = list(range(len(rounds)))
    known = [i for i in everything if rounds[i].share is not None]
    if not timed_clock or not known:
        return everything
    limit = above_nominal(threads)
    plausible = [i for i in known if (rounds[i].share or 0.0) <= limit]
    return plausible if 2 * len(plausible) >= len(known) else known
