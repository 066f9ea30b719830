"""The time of a whole run, from the start of the process to its end, and what of it is for what.

What a run pays before and after its measuring (start, checks, proof, analysis, files) is no constant: the start is
timed, and the end, which is the same kind of work on the same machine, is reckoned in starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from microbench.records import Budget

# What follows the measuring, in times of the start: the analysis with its file, the proof, and the page with the
# picture.
_ANALYSIS, _PROOF, _PAGE = 0.4, 0.8, 1.8
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """The moment at which a run must have ended: ``limit_s`` after ``started``, a reading of the monotonic clock."""

    limit_s: float
    started: float = field(default_factory=time.monotonic)
    clock: Callable[[], float] = time.monotonic

    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started

    def left(self) -> float:
        """Seconds to the end; negative when it has passed."""
        return self.limit_s - self.elapsed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What is left when measuring begins, dealt out: seconds for kernels, for operators, and for what follows."""

    kernels_s: float
    operators_s: float
    after_s: float
    proof: bool = True
    page: bool = True


def share_out(deadline: Deadline, start_s: float, *, operators: bool, page: bool) -> Shares:
    """Deal out what is left of a run.

    Parameters
    ----------
    deadline
        Of the whole run.
    start_s
        Seconds that the process took from its start to its plan.
    operators, page
        Whether operators are timed after the kernels, and whether page and picture are drawn at the end.

    Examples
    --------
    >>> now = Deadline(limit_s=150.0, started=0.0, clock=lambda: 10.0)
    >>> shares = share_out(now, 2.5, operators=True, page=True)
    >>> round(shares.kernels_s), round(shares.operators_s), shares.page
    (80, 50, True)
    >>> share_out(Deadline(limit_s=5.0, started=0.0, clock=lambda: 3.0), 2.5, operators=False, page=True).page
    False
    """
    left, start = max(0.0, deadline.left()), max(_LEAST_START_S, start_s)
    after = min(_ANALYSIS * start, left)
    proof = after + _PROOF * start <= _SHARE_OF_REST * left
    after += _PROOF * start if proof else 0.0
    page = page and after + _PAGE * start <= _SHARE_OF_REST * left
    after += (_PAGE * start if page else 0.0) + _MARGIN * deadline.limit_s
    rest = max(0.0, left - after)
    for_operators = min(OPERATORS * deadline.limit_s, 0.5 * rest) if operators else 0.0
    return Shares(kernels_s=rest - for_operators, operators_s=for_operators, after_s=after, proof=proof, page=page)


def page_fits(deadline: Deadline, start_s: float) -> bool:
    """Whether page and picture can be drawn in what is left of a run, reckoned from the seconds of its start."""
    return deadline.left() >= _PAGE * max(_LEAST_START_S, start_s)


def library_fits(limit_s: float, start_s: float) -> bool:
    """Whether starting PyTorch, reckoned from the seconds of a run's own start, takes a small share of the run."""
    return _LIBRARY * start_s <= _SHARE_OF_LIBRARY * limit_s


def kernels_s(budget: Budget, *, operators: bool) -> float:
    """Seconds that a plan may count on for its kernels before anything is known of the machine."""
    return budget.time_limit_s * (KERNELS if operators else KERNELS_ALONE)
