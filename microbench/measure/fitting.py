"""Which cases fit into a time: what each takes is estimated from its facts, and corrected by what was seen.

A sample lasts as long as it is asked to, on every machine, so most of a visit is known beforehand. What is not (first
touch of memory, passes through working sets, what an interpreter and a scheduler add) is estimated by rates that are
slow for any machine of today, and then scaled by what such work really took.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from microbench.hardware.clock import SUSTAINED_SAMPLE_S, bound, lasts, sample_target_s
from microbench.measure import fitting_cuda, sustained
from microbench.measure.calibration import CLOCKED_SAMPLES
from microbench.measure.priorities import ORDER, Priorities
from microbench.records import Budget, Case, Device, Plan, Sheet
from microbench.stats.intervals import AGREEING_ROUNDS

# Bytes a second of filling memory that nobody has touched, and of a pass through a working set; seconds of one hop.
_FILL_RATE, _PASS_RATE, _HOP_S = 5e8, 4e9, 1e-7
_LINE_BYTES = 64
_CHASED_BYTES = 16 * 2**20  # beyond this no pass is made before a chase is timed
_ARRAYS = {"copy": 2, "triad": 3}
# A visit beside its samples.
_AROUND_S = 2.5e-3
# A library looks for its best shape, and its samples are as long as one product.
_SEARCH_S, _LIBRARY_VISIT_S, _SUSTAINED_VISIT_S = 0.5, 0.15, 0.3
# The first visit also looks for the number of iterations: so many visits altogether.
_FIRST_VISIT = 2.0
# A plan is cut to this share of its time: the rest is for second looks at what seems implausible.
PLANNED_SHARE = 0.85


class Fitting:
    """Estimates for the cases of a plan, and who goes when they do not fit."""

    def __init__(self, cases: Sequence[Case], sheets: Mapping[str, Sheet], device: Device, budget: Budget) -> None:
        self.priorities = Priorities(cases, sheets, device)
        gpu = device.kind == "cuda"
        self._visit_s = {
            case.key: fitting_cuda.visit_s(case, sheets[case.kernel], budget)
            if gpu
            else _visit_s(case, sheets[case.kernel], device, budget)
            for case in cases
        }
        self._few = {case.key for case in cases if lasts(case, sheets[case.kernel])}
        self._ahead = {case.key for case in cases if self._is_ahead(case, sheets[case.kernel])}
        alone = {case.key: _filling_s(case, sheets[case.kernel], 0) for case in cases if case.key in self._ahead}
        self._prepare_s = fitting_cuda.preparations(cases, sheets) if gpu else _preparations(cases, sheets) | alone
        self._seen: dict[str, float] = {}
        self._ready: set[str] = set()
        self._real = {"prepare": [1e-3, 1e-3], "visit": [1e-3, 1e-3]}  # seconds seen, seconds estimated

    def prepared(self, case: Case, seconds: float) -> None:
        """Take in what preparing a case took."""
        self._ready.add(case.key)
        self._learn("prepare", seconds, self._prepare_s[case.key])

    def visited(self, case: Case, seconds: float) -> None:
        """Take in what a visit took; the first one of a case is longer than those that follow."""
        usual = seconds if case.key in self._seen else seconds / _FIRST_VISIT
        self._seen[case.key] = usual
        self._learn("visit", usual, self._visit_s[case.key])

    def _learn(self, what: str, seconds: float, estimate: float) -> None:
        self._real[what][0] += seconds
        self._real[what][1] += estimate

    def _ratio(self, what: str) -> float:
        seen, estimated = self._real[what]
        return seen / estimated

    def _is_ahead(self, case: Case, sheet: Sheet) -> bool:
        rule = self.priorities.rule[case.key]
        soon_ready = _filling_s(case, sheet, 0) < self._visit_s[case.key]
        return rule.headline or (rule.essential and case.key not in self._few and soon_ready)

    def goes_ahead(self, case: Case) -> bool:
        """Whether a case is a headline, or is essential and prepared in less time than it is measured in."""
        return case.key in self._ahead

    def turn(self, case: Case) -> tuple[int, float]:
        """When a case without a round has its turn: headlines by what preparing them takes, others by importance."""
        if self.priorities.rule[case.key].headline:
            return -len(ORDER), max(0.0, self._prepare_s[case.key] - self._visit_s[case.key])
        return self.priorities.rank(case)[0], 0.0

    def needs_s(self, case: Case, rounds: int) -> float:
        """Seconds that so many further rounds of a case take, with its preparation where it still has to be made."""
        seconds = 0.0 if case.key in self._ready else self._ratio("prepare") * self._prepare_s[case.key]
        if not rounds:
            return seconds
        if case.key in self._few:
            rounds = min(rounds, sustained.ROUNDS)
        seen = self._seen.get(case.key)
        if seen is not None:
            return seconds + rounds * seen
        return seconds + (rounds - 1 + _FIRST_VISIT) * self._ratio("visit") * self._visit_s[case.key]

    def fit(self, cases: Iterable[Case], done: Mapping[str, int], rounds: int, left_s: float) -> list[Case]:
        """Those of the cases whose remaining rounds fit into a time, the most important first.

        Parameters
        ----------
        cases
            Of the plan.
        done
            Rounds that each has already, by key.
        rounds
            How many each must get.
        left_s
            Seconds.
        """
        kept: list[Case] = []
        short = False
        for case in sorted(cases, key=self.priorities.rank):
            essential = self.priorities.rule[case.key].essential
            needs_s = self.needs_s(case, max(0, rounds - done.get(case.key, 0)))
            if needs_s > left_s and kept:
                short = True  # a cheaper one of the essential may still fit
            elif essential or not short:
                kept.append(case)
                left_s -= needs_s
            if short and not essential:
                break
        return kept


def cut(plan: Plan, sheets: Mapping[str, Sheet], device: Device, seconds: float) -> tuple[Plan, tuple[Case, ...]]:
    """The plan whose cases fit so many rounds as its budget asks for into a time, and the cases left out.

    A thorough budget keeps all.
    """
    if plan.budget.name == "thorough":
        return plan, ()
    fitting = Fitting(plan.cases, sheets, device, plan.budget)
    kept = {case.key for case in fitting.fit(plan.cases, {}, plan.budget.min_rounds, PLANNED_SHARE * seconds)}
    chosen = tuple(case for case in plan.cases if case.key in kept)
    return replace(plan, cases=chosen), tuple(case for case in plan.cases if case.key not in kept)


def least_rounds(least: int) -> int:
    """Rounds below which none is cut short: where time is short rounds go first, and cases only then."""
    return min(least, AGREEING_ROUNDS)


def _visit_s(case: Case, sheet: Sheet, device: Device, budget: Budget) -> float:
    if sheet.backend == "torch":
        return _LIBRARY_VISIT_S
    if lasts(case, sheet):
        return _AROUND_S + SUSTAINED_SAMPLE_S
    if case.mode == "sustained":
        return _SUSTAINED_VISIT_S
    clocked = sheet.reference_clock is not None and bound(sheet, case, device) is not None
    count = 2 * CLOCKED_SAMPLES if clocked else budget.samples
    sampling = budget.sample_s + count * sample_target_s(case, sheet, budget, clocked=clocked)
    size, cold = int(case.params.get("working_set", 0)), bool(case.params.get("cold"))
    if sheet.measures == "latency":
        walking = size / _LINE_BYTES * _HOP_S if size <= _CHASED_BYTES else 0.0
    else:
        walking = 0.0 if cold else size / _PASS_RATE
    return _AROUND_S + sampling + walking


def _preparations(cases: Sequence[Case], sheets: Mapping[str, Sheet]) -> dict[str, float]:
    """Seconds of preparing each case, the largest working sets first: what they have touched the others share."""
    touched: dict[tuple[object, ...], int] = defaultdict(int)
    found = {}
    for case in sorted(cases, key=lambda case: -int(case.params.get("working_set", 0))):
        sheet = sheets[case.kernel]
        size = int(case.params.get("working_set", 0))
        group: tuple[object, ...] = (
            sheet.measures,
            sheet.access,
            case.params.get("pages"),
            case.threads,
            case.placement,
            sheet.backend,
        )
        if sheet.measures == "latency":
            group = (*group, size)  # a cycle of another length is an array of its own
        found[case.key] = _filling_s(case, sheet, touched[group])
        touched[group] = max(touched[group], size)
    return found


def _filling_s(case: Case, sheet: Sheet, touched: int) -> float:
    """Seconds of preparing a case when so many bytes of each of its arrays have been filled before."""
    fresh = max(0, int(case.params.get("working_set", 0)) - touched) * _ARRAYS.get(sheet.access or "", 1)
    return 1e-4 + fresh / _FILL_RATE + (_SEARCH_S if sheet.backend == "torch" else 0.0)
