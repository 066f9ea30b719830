"""One visit to a case: its count is sought, the core is warmed up, and a burst of samples is taken."""

from __future__ import annotations

import time
from dataclasses import replace

from microbench.hardware.clock import SUSTAINED_SAMPLE_S, distillable, lasts, quiet_window, sample_target_s
from microbench.hardware.energy import Meter
from microbench.hardware.interference import Around
from microbench.hardware.placement import cpus_of
from microbench.kernels import Warming
from microbench.measure.bursts import State, burst
from microbench.measure.calibration import CLOCKED_SAMPLES, calibrate
from microbench.measure.warming import passes
from microbench.records import Budget, Device, Samples
from microbench.records.roles import RATED

# A visit whose samples turn out too short is calibrated and taken again.
_VISITS, _BURSTS = 3, 3
_LEAST_COLD_SAMPLES = 4
# The trial that the iterations of a sustained sample are scaled up from.
_TRIAL_S = 5e-3


class Visits:
    """The visits of a loop; ``frequency_license`` is the one that the last case has left the clock at, if known."""

    def __init__(self, budget: Budget, device: Device) -> None:
        self.budget = budget
        self._device = device
        self.frequency_license: str | None = None
        self._around = Around(device.topology)
        self._meter = Meter()

    def visit(self, state: State, number: int, started_s: float) -> Samples | None:
        """Samples of the visit of a round; ``None`` where they stay shorter than half of what they should last.

        Whatever holds a loop up while its count is sought makes the count too small, so a burst tells whether it was:
        if it was too small, count and burst are made again. A reference clock that stays too short is left out.
        """
        for _ in range(_VISITS):
            self._calibrate(state)
            self._warm_up(state)
            count = self.budget.samples if state.reference_clock is None else CLOCKED_SAMPLES
            if state.case.params.get("cold"):
                count = max(_LEAST_COLD_SAMPLES, count // 2)  # evicting takes longer than what is timed
            if lasts(state.case, state.sheet):
                count = 1
            self._around.begin(cpus_of(state.case, self._device))
            began = self._meter.mark()
            samples = replace(self._burst(state, count, number, started_s), **self._around.end())
            if lasts(state.case, state.sheet) and (watts := self._meter.watts(began)):
                samples = replace(samples, power_w=(round(watts, 3),))
            if samples.iterations < state.iterations:
                return samples  # a kernel that does no more at once has samples as long as it can
            samples = replace(samples, target_ns=round(self.target_s(state) * 1e9))
            trusted = distillable(samples)
            if trusted is samples:
                return samples
            if trusted is None:
                state.iterations = 0
            else:
                state.reference_iterations = 0
        return trusted

    def _burst(self, state: State, count: int, number: int, started_s: float) -> Samples:
        """Take a burst; with a reference clock, take it again if no window of it was quiet: the next round is far."""
        for _ in range(_BURSTS):
            samples = burst(state, count, number, started_s)
            if state.reference_clock is None or samples.checked is False or quiet_window(samples) is not None:
                break
        return samples

    def _calibrate(self, state: State) -> None:
        target_s = self.target_s(state)
        if not state.iterations:
            # What lasts is scaled up from a short trial: a set that no cache holds has one rate, however long.
            times = round(target_s / _TRIAL_S) if lasts(state.case, state.sheet) else 1
            state.iterations = times * calibrate(state.prepared.run, target_s / times)
        if state.reference_clock is not None and not state.reference_iterations:
            state.reference_iterations = calibrate(state.reference_clock.run, target_s)

    def target_s(self, state: State) -> float:
        """Seconds that a sample of this case should last."""
        budget, clocked = self.budget, state.reference_clock is not None
        target_s = sample_target_s(state.case, state.sheet, budget, clocked=clocked)
        # Only a thorough run has the time that a slow gauge of power asks for.
        held = budget.name == "thorough" and lasts(state.case, state.sheet) and state.case.scope == "device"
        return max(target_s, self._meter.settles_s) if held and state.sheet.takes(*RATED) else target_s

    def _warm_up(self, state: State) -> None:
        """Hold the instruction set's own clock, and bring a working set that can be cached into its cache."""
        budget = self.budget
        if lasts(state.case, state.sheet):
            state.prepared.run(max(1, round(state.iterations * budget.warmup_s / SUSTAINED_SAMPLE_S)))
            self.frequency_license = state.sheet.frequency_license
            return
        if isinstance(state.prepared, Warming):
            state.prepared.warm()
        elif iterations := passes(state.case, state.sheet):
            state.prepared.run(iterations)
        # Inside a block of one frequency license the previous case has left the clock where it belongs.
        until = time.monotonic() + (
            budget.warmup_s if state.sheet.frequency_license != self.frequency_license else budget.sample_s
        )
        while time.monotonic() < until:
            state.prepared.run(state.iterations)
        self.frequency_license = state.sheet.frequency_license
