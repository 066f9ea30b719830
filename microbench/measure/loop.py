"""The measuring loop: rounds spread over the run, blocks of one frequency license in a round, bursts of samples.

1. Prepare every case once: memory, code, threads. Nothing of that is ever timed.
2. Calibrate: the number of iterations that makes a sample long enough for the clock.
3. In each round, visit the cases in blocks of one frequency license, narrow vectors to wide, in seeded order inside a
   block. Warm up with the case's own instructions, then take samples, each followed by one of the reference clock.
4. After each round hand the samples out (they are on disk before the next case starts) and drop the cases that have
   converged.
5. Stop when all have converged or the time is up, whatever is left then. Where it will not do for three rounds of
   each case, those go that `priorities` says, and a round of the most important ones is taken before anything else.
   Why a burst ended is stored with its samples, whether a case converged with its ceiling.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from microbench.errors import CannotRun, MicrobenchError
from microbench.hardware.clock import (
    SHAPES,
    bound,
    converged,
    distillable,
    evaluate_round,
    highest_clocks,
    lasts,
    select_rounds,
    settled,
)
from microbench.hardware.placement import cpus_of
from microbench.kernels import Kernel, Prepared
from microbench.measure import sustained
from microbench.measure.bursts import State
from microbench.measure.fitting import Fitting, least_rounds
from microbench.measure.order import in_blocks
from microbench.measure.visits import Visits
from microbench.records import Case, Device, Finding, Plan, Samples

log = logging.getLogger(__name__)

# A loop whose samples stay too short in so many visits is given up, since nothing can be said of it.
_SHORT_VISITS = 3
# A converged case is still visited now and then, so that a late quiet moment can raise it.
REVISIT_EVERY = 4
# Interference comes in episodes of seconds: agreement inside one episode is no agreement.
AGREEMENT_SPAN = 0.4
# What goes ahead of all others takes no more than this share of what is left, each.
_SHARE_OF_ONE = 0.2
# While cases are prepared, this often it is asked whether the others still fit.
_FIT_EVERY_S = 0.5
# A loop that has measured nothing at all when its time is up tries on for so long.
_GRACE_S = 2.0


class Watcher(Protocol):
    """What the session wants to hear while measuring."""

    def sampled(self, samples: Samples) -> None:
        """One case of one round is done; store it."""

    def progressed(self, case: Case, round_index: int, best: float) -> None:
        """Something to show: the most iterations per second so far, over all threads."""


class Loop:
    """One measurement of a plan. ``run`` may be called again for cases that the plausibility check doubts.

    ``findings`` collects the cases that could not be measured; ``round`` is the number of the round that comes next.
    """

    def __init__(self, device: Device, kernels: Mapping[str, Kernel], plan: Plan, watcher: Watcher) -> None:
        self.device = device
        self.kernels = kernels
        self.plan = plan
        self.watcher = watcher
        self.findings: list[Finding] = []
        self.started = time.monotonic()
        self._until_s: Callable[[], float] = lambda: 0.0
        self._random = random.Random(plan.seed)  # noqa: S311 - the order of cases is no secret
        self._states: dict[str, State] = {}
        self._shared: dict[tuple[str, int, str | None], Prepared] = {}
        self._held: tuple[Samples, ...] = ()
        self._before_s = 0.0
        self._visits = Visits(plan.budget, device)
        self._clocks: dict[tuple[str, int], float] = {}
        self._fitting = Fitting(plan.cases, {name: each.sheet for name, each in kernels.items()}, device, plan.budget)
        self.round = 0
        self.prepared_s = 0.0

    def resume(self, samples: Sequence[Samples], ended_s: float) -> None:
        """Take over what an interrupted run has measured of the plan's cases; times go on from when that ended."""
        self._held, self._before_s = tuple(samples), ended_s

    def prepare(self, cases: Sequence[Case], limit_s: float, until_s: float, least: int) -> tuple[Case, ...]:
        """Prepare cases before any is measured, the most important first; then the clock of measuring starts.

        Code is loaded and libraries start here, which says nothing of what measuring takes. No preparation begins after
        ``limit_s``, and none of a case whose ``least`` rounds do not fit ``until_s``. Return the cases that are ready.
        """
        self._until_s = lambda: until_s
        self._prepare(cases, least, limit_s)
        self.prepared_s = self._elapsed()
        self.started = time.monotonic()
        return tuple(case for case in cases if case.key in self._states)

    def run(self, cases: Sequence[Case], until_s: float | Callable[[], float], least: int) -> None:
        """Measure until all have converged or the time is up; in time, that is at least ``least`` rounds of each.

        ``until_s`` counts from the start of the loop; a function is asked again and again. No visit begins after it,
        nor one that is known to end later, but the very first.
        """
        self._until_s = until_s if callable(until_s) else lambda: until_s
        done = self._ahead([case for case in cases if self._is_new(case)])
        self._prepare(cases, least)
        for _ in range(self.plan.budget.max_rounds):
            if not self._one_round(cases, least, done):
                return
            self.round += 1
            done = set()

    def _ahead(self, cases: Iterable[Case]) -> set[str]:
        """Give each essential case that is soon ready a round of its own, the most important ones first.

        On a busy machine preparing the others may take all the time; so may a single one, which then waits for the
        rest. Return the keys of these cases.
        """
        waiting = self._ordered([case for case in cases if self._fitting.goes_ahead(case)])
        done = set()
        for share in (_SHARE_OF_ONE, 1.0):
            for case in waiting:
                if not self._late() and self._ends_in_time(case, share):
                    done.add(case.key)
                    self._prepare_one(case)
                    if case.key in self._states and not self._late():
                        self._timed_visit(self._states[case.key])
            waiting = [case for case in waiting if case.key not in done]
        return done

    def _one_round(self, cases: Sequence[Case], least: int, done: AbstractSet[str]) -> bool:
        """Visit what is due and not done yet; return whether there was time for it and something was wanted."""
        states = [self._states[case.key] for case in self._fit(cases, least) if case.key in self._states]
        if self._late() or all(state.converged or state.lost for state in states):
            return False
        due = [state for state in states if state.case.key not in done and self._due(state, least)]
        visited = not due
        for case in self._ordered([state.case for state in due]):
            if self._late():
                return False
            if self._ends_in_time(case):
                self._timed_visit(self._states[case.key])
                visited = True
        return visited

    def _timed_visit(self, state: State) -> None:
        started = self._elapsed()
        self._visit(state)
        self._fitting.visited(state.case, self._elapsed() - started)

    def unmeasured(self) -> tuple[Case, ...]:
        """The cases of the plan that there was no time for; one that failed has a finding of its own."""
        told = {finding.case for finding in self.findings}
        seen = {key for key, state in self._states.items() if state.rounds} | {held.case for held in self._held}
        return tuple(case for case in self.plan.cases if case.key not in seen and case.key not in told)

    def _left_s(self) -> float:
        """Seconds to the end of measuring."""
        asked, until_s = self._elapsed(), self._until_s()
        if self._elapsed() - asked > self.plan.budget.sample_s:
            self._visits.frequency_license = None  # reckoning took long enough for the clock to go elsewhere
        return until_s - self._elapsed()

    def _late(self) -> bool:
        """Whether the time is up; a loop that has measured nothing at all tries a little longer."""
        late_s = -self._left_s()
        return late_s > _GRACE_S or (late_s > 0 and self._has_measured())

    def _ends_in_time(self, case: Case, share: float = 1.0) -> bool:
        """Whether a visit of a case, with its preparation, takes no more than a share of what is left."""
        return not self._has_measured() or self._fitting.needs_s(case, 1) <= share * self._left_s()

    def _has_measured(self) -> bool:
        return any(state.rounds for state in self._states.values())

    def _fit(self, cases: Sequence[Case], least: int) -> list[Case]:
        """The cases whose rounds fit into the time that is left."""
        done = {case.key: len(self._states[case.key].rounds) for case in cases if case.key in self._states}
        return self._fitting.fit(cases, done, least_rounds(least), self._left_s())

    def close(self) -> None:
        """Free everything that was prepared."""
        for prepared in (*(state.prepared for state in self._states.values()), *self._shared.values()):
            prepared.close()
        self._states.clear()
        self._shared.clear()

    def _elapsed(self) -> float:
        return time.monotonic() - self.started

    def _prepare(self, cases: Sequence[Case], least: int, limit_s: float = math.inf) -> None:
        """Prepare what fits into the time, which is asked again while preparing uses it up."""
        asked = -_FIT_EVERY_S
        essential = {case.key for case in cases if self._fitting.priorities.rule[case.key].essential}
        # Largest working sets first: arenas are then mapped once at their full size.
        for case in sorted(cases, key=lambda case: (case.key not in essential, -_working_set(case))):
            started = self._elapsed()
            if started > limit_s:
                return
            if started - asked >= _FIT_EVERY_S:
                fitting, asked = {each.key for each in self._fit(cases, least)}, started
            if self._is_new(case) and case.key in fitting:
                self._prepare_one(case)

    def _is_new(self, case: Case) -> bool:
        """Whether nobody has tried to prepare a case yet."""
        return case.key not in self._states and all(finding.case != case.key for finding in self.findings)

    def _prepare_one(self, case: Case) -> None:
        started = self._elapsed()
        kernel = self.kernels[case.kernel]
        try:
            prepared = kernel.prepare(self.device, case.params, case.threads, cpus_of(case, self.device))
            self._states[case.key] = self._state(case, kernel, prepared)
        except (MicrobenchError, MemoryError, RuntimeError, ValueError) as error:
            self._give_up(case, error)
        self._fitting.prepared(case, self._elapsed() - started)

    def _state(self, case: Case, kernel: Kernel, prepared: Prepared) -> State:
        """A prepared case with its reference clock, and with what an interrupted run has measured of it."""
        state = State(case=case, sheet=kernel.sheet, prepared=prepared)
        reference_clock = self.kernels.get(kernel.sheet.reference_clock or "")
        if (
            reference_clock is not None
            and reference_clock.sheet.unavailable is None
            and not lasts(case, kernel.sheet)
            and bound(kernel.sheet, case, self.device)
        ):
            key = (reference_clock.sheet.name, case.threads, case.placement)
            if key not in self._shared:
                cpus = cpus_of(case, self.device)
                self._shared[key] = reference_clock.prepare(self.device, {}, case.threads, cpus)
            state.reference_clock, state.reference_clock_sheet = self._shared[key], reference_clock.sheet
        for samples in self._held:
            if samples.case == case.key and (trusted := distillable(samples)) is not None:
                self._count(state, trusted, samples.started_s)
                self.round = max(self.round, samples.round + 1)
        return state

    def _give_up(self, case: Case, error: BaseException) -> None:
        facts = {"says": f"{case.key} was not measured: {error}", "remedy": "microbench doctor", "case": case.key}
        self.findings.append(Finding(code="not-measured", severity="warning", **facts))

    def _due(self, state: State, least: int) -> bool:
        """Every case for the first rounds, then those that have not converged, and the others now and then."""
        if state.lost:
            return False
        if lasts(state.case, state.sheet):
            return self._due_for_long(state, least)
        if len(state.rounds) < least:
            return True
        until_s = self._before_s + self._until_s()
        spread = state.ended_s[-1] - state.ended_s[0] >= AGREEMENT_SPAN * (until_s - state.ended_s[0])
        proven_by_ports = any(each.share is not None for each in state.rounds)
        state.converged = self._converged(state) and (spread or proven_by_ports or state.sheet.measures in SHAPES)
        return not state.converged or self.round % REVISIT_EVERY == 0

    def _due_for_long(self, state: State, least: int) -> bool:
        """Few rounds, spread over those that every case has; as many again where the plausibility check asks."""
        rounds, budget = sustained.ROUNDS, self.plan.budget
        again = least > budget.min_rounds
        state.converged = len(state.rounds) >= (2 * rounds if again else rounds)
        return not state.converged and (again or self.round % max(1, budget.min_rounds // rounds) == 0)

    def _converged(self, state: State) -> bool:
        rounds = settled(state.rounds, state.case, state.sheet, self._clocks)
        counted = select_rounds(rounds, state.case.threads, state.reference_clock is not None)
        return converged([rounds[i] for i in counted], state.sheet, state.case.threads)

    def _ordered(self, cases: Sequence[Case]) -> list[Case]:
        """Blocks of one frequency license; cases without a round yet in the order of their importance before that."""

        def turn(case: Case) -> tuple[int, float]:
            state = self._states.get(case.key)
            return (0, 0.0) if state is not None and state.rounds else self._fitting.turn(case)

        return in_blocks(cases, {case.key: self.kernels[case.kernel].sheet for case in cases}, turn, self._random)

    def _visit(self, state: State) -> None:
        try:
            samples = self._visits.visit(state, self.round, self._before_s + self._elapsed())
        except (MicrobenchError, RuntimeError, MemoryError) as error:
            state.lost = True
            self._give_up(state.case, error)
            return
        if samples is None:
            self._too_short(state)
            return
        self._count(state, samples, self._before_s + self._elapsed())
        self.watcher.sampled(samples)
        highest = max(each.rate for each in state.rounds)
        self.watcher.progressed(state.case, self.round, highest)

    def _too_short(self, state: State) -> None:
        state.short_visits += 1
        if state.short_visits < _SHORT_VISITS:
            return
        state.lost = True
        target = self._visits.target_s(state) * 1e6
        error = CannotRun(
            f"its samples stayed shorter than half of the {target:.0f} us that they should last, so that they time the "
            "start of threads and not the loop; close other programs and run again"
        )
        self._give_up(state.case, error)

    def _count(self, state: State, samples: Samples, ended_s: float) -> None:
        """Take in a round: its best rate, and the share of the ports' count at the clock seen."""
        seen, _ = evaluate_round(samples, state.case, self.device, state.sheet, state.reference_clock_sheet)
        state.rounds.append(seen)
        state.ended_s.append(ended_s)
        for key, clock in highest_clocks([(state.case, state.sheet, seen)]).items():
            self._clocks[key] = max(self._clocks.get(key, 0.0), clock)


def _working_set(case: Case) -> int:
    return int(case.params.get("working_set", 0))
