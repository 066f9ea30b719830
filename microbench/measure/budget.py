"""The time of a whole run, from the start of the process to its end, and what of it is for what.

What a run pays before and after its measuring (start, checks, proof, analysis, files) is no constant: the start is
timed, and the end, which is the same kind of work on the same machine, is reckoned in starts. A start may have been
slow for what is over by then, so that its processor time counts, and a yardstick tells again and again what is added to
such time now.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from microbench.records import Budget

# What follows the measuring, in times of the start: both analyses with file and table, and what each case adds; the
# proof, where machine code is disassembled for it and where it is looked up; the page with the picture, whose libraries
# the end of the process then takes down too.
_ANALYSIS, _CASE, _DISASSEMBLED, _LOOKED_UP, _PAGE = 0.2, 0.003, 2.2, 0.2, 3.7
# A start faster than this says little of what follows: a library's own start counts from here.
_LEAST_START_S = 0.05
# Proof and page are left out rather than take more than this share of what is left when measuring begins.
_SHARE_OF_REST = 0.5
# Starting PyTorch in times of a run's own start, and the share of a run that this may take.
_LIBRARY, _SHARE_OF_LIBRARY = 1.5, 0.2
# No end is met to the second.
_MARGIN = 0.02
# Of a whole run: what kernels may count on beforehand, alone and where operators follow; and what operators get.
KERNELS, KERNELS_ALONE, OPERATORS = 0.55, 0.6, 1 / 3
# The yardstick: so many objects are made and sorted, some ten milliseconds of an interpreter's work, as long as the
# slices that a scheduler deals out: a shorter one mostly lies inside of a slice and tells of no others. It is laid on
# as often as this share of a run passes. What counts is how much longer it took than its processor time, which caches
# that the loops have emptied lengthen as well. Of so many readings the mean is believed, without the longest: a
# scheduler's turns may be longer than one, and a long work meets as many of them as many short ones; one alone tells
# little.
_OBJECTS, _EVERY, _TIMES, _FIRST_TIMES = 40_000, 0.04, 8, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """The moment at which a run must have ended: ``limit_s`` after ``started``, a reading of the monotonic clock."""

    limit_s: float
    started: float = field(default_factory=lambda: time.monotonic())  # noqa: PLW0108 - looked up when it is asked
    clock: Callable[[], float] = field(default_factory=lambda: time.monotonic)

    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started

    def left(self) -> float:
        """Seconds to the end; negative when it has passed."""
        return self.limit_s - self.elapsed()


def yardstick() -> None:
    """A little of what an interpreter does all the time."""
    sorted({str(number): number for number in reversed(range(_OBJECTS))})


class Pace:
    """How long a start of this process would take now: its processor time, by what the clock adds to such time.

    Parameters
    ----------
    work_s
        Processor seconds that the process took from its start to its plan.
    limit_s
        Seconds of the whole run.
    """

    def __init__(self, work_s: float, limit_s: float) -> None:
        self._work_s = max(_LEAST_START_S, work_s)
        self._every_s = _EVERY * limit_s
        self._slower: deque[float] = deque(maxlen=_TIMES)
        for _ in range(_FIRST_TIMES):
            self._look()

    def start_s(self) -> float:
        """Seconds of a start, as things are; lays the yardstick on where that was some time ago."""
        if time.monotonic() - self._looked >= self._every_s:
            self._look()
        return self._work_s * self._usual()

    def learn(self, starts: float, seconds: float) -> None:
        """Take in what work of so many starts really took; it counts as much as the start itself."""
        self._work_s = (self._work_s + seconds / starts / self._usual()) / 2

    def _usual(self) -> float:
        kept = sorted(self._slower)[:-1] if len(self._slower) > _FIRST_TIMES else self._slower
        return sum(kept) / len(kept)

    def _look(self) -> None:
        began, worked = time.monotonic(), time.thread_time()
        yardstick()
        self._looked = time.monotonic()
        self._slower.append(max(1.0, (self._looked - began) / max(time.thread_time() - worked, 1e-6)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Seconds of what follows the measuring: the analysis with its file, the proof, the page (0: none)."""

    analysis_s: float
    proof_s: float
    page_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What is left when measuring begins, dealt out: seconds for kernels, for operators, and for what follows."""

    kernels_s: float
    operators_s: float
    after_s: float
    proof: bool = True
    page: bool = True


def share_out(left_s: float, limit_s: float, ending: Ending, *, operators: bool) -> Shares:
    """Deal out what is left of a run.

    Parameters
    ----------
    left_s
        Seconds from the start of measuring to the end of the run.
    limit_s
        Seconds of the whole run.
    ending
        What follows the measuring.
    operators
        Whether operators are timed after the kernels.

    Examples
    --------
    >>> ending = Ending(analysis_s=1.0, proof_s=2.0, page_s=4.0)
    >>> shares = share_out(140.0, 150.0, ending, operators=True)
    >>> round(shares.kernels_s), round(shares.operators_s), shares.page
    (80, 50, True)
    >>> share_out(4.0, 5.0, ending, operators=False).page
    False
    """
    left = max(0.0, left_s)
    after = min(ending.analysis_s, left)
    proof = after + ending.proof_s <= _SHARE_OF_REST * left
    after += ending.proof_s if proof else 0.0
    page = ending.page_s > 0 and after + ending.page_s <= _SHARE_OF_REST * left
    after += (ending.page_s if page else 0.0) + _MARGIN * limit_s
    rest = max(0.0, left - after)
    for_operators = min(OPERATORS * limit_s, 0.5 * rest) if operators else 0.0
    return Shares(kernels_s=rest - for_operators, operators_s=for_operators, after_s=after, proof=proof, page=page)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When what of a run must end, reckoned anew at each question, from how long things take at the moment.

    ``begun_s`` is when measuring began, by the run's own clock, and ``cases`` how many there are; ``disassembles``,
    ``operators`` and ``page`` tell what follows, and ``proven`` that the proof does not.
    """

    deadline: Deadline
    pace: Pace
    page: bool = False
    begun_s: float = 0.0
    cases: int = 0
    disassembles: bool = True
    operators: bool = False
    proven: bool = False

    def begun(self, cases: int, *, disassembles: bool, operators: bool) -> Schedule:
        """The schedule of a run whose measuring begins now."""
        begun_s = self.deadline.elapsed()
        return replace(self, begun_s=begun_s, cases=cases, disassembles=disassembles, operators=operators)

    def ending(self) -> Ending:
        """What follows the measuring, as things are."""
        start_s = self.pace.start_s()
        return Ending(
            analysis_s=(_ANALYSIS + self.cases * _CASE) * start_s,
            proof_s=self._proof * start_s,
            page_s=_PAGE * start_s if self.page else 0.0,
        )

    @property
    def _proof(self) -> float:
        return 0.0 if self.proven else _DISASSEMBLED if self.disassembles else _LOOKED_UP

    def shares(self) -> Shares:
        """What was left when measuring began, dealt out."""
        limit_s = self.deadline.limit_s
        return share_out(limit_s - self.begun_s, limit_s, self.ending(), operators=self.operators)

    def kernels_end_s(self) -> float:
        """When kernels must have been measured, by the run's own clock."""
        return self.begun_s + self.shares().kernels_s

    def for_operators_s(self) -> float:
        """Seconds that are left for operators now that kernels are measured and proven."""
        ending = replace(self.ending(), proof_s=0.0)
        return share_out(self.deadline.left(), self.deadline.limit_s, ending, operators=False).kernels_s

    def proves_first(self) -> bool:
        """Whether the loops are proven before they are timed, which tells early how long such work takes here."""
        return self.disassembles and self.shares().proof

    def proof_fits(self) -> bool:
        """Whether there is time to prove the loops before what follows."""
        ending = self.ending()
        return self.deadline.left() - self.shares().operators_s >= ending.analysis_s + ending.proof_s

    @contextmanager
    def proving(self) -> Iterator[None]:
        """Around the proof: what it takes tells more than a yardstick of how long all that follows will take."""
        began_s = self.deadline.elapsed()
        yield
        if self.disassembles:
            self.pace.learn(self._proof, self.deadline.elapsed() - began_s)

    def page_fits(self) -> bool:
        """Whether there is time to draw page and picture."""
        return self.deadline.left() >= _PAGE * self.pace.start_s()


def library_fits(limit_s: float, start_s: float) -> bool:
    """Whether starting PyTorch, reckoned from the seconds of a run's own start, takes a small share of the run."""
    return _LIBRARY * start_s <= _SHARE_OF_LIBRARY * limit_s


def kernels_s(budget: Budget, *, operators: bool) -> float:
    """Seconds that a plan may count on for its kernels before anything is known of the machine."""
    return budget.time_limit_s * (KERNELS if operators else KERNELS_ALONE)
