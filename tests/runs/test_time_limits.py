"""A whole run keeps its limit and measures what matters most: on a virtual clock, on machines that are busy or slow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_backend import KIB, fake_device
from virtual_machine import VirtualClock, busy_at_first, stolen, virtual_kernels, virtual_time

from microbench.analysis.ceilings import analyse
from microbench.kernels import cpu
from microbench.measure.plan import BUDGETS, Resources, Selection, make_plan
from microbench.measure.priorities import ORDER, Priorities
from microbench.records import MemoryLevel
from microbench.runs import measuring, session
from microbench.runs.session import Outcome, Request, carry_out

MIB = 1024 * KIB
DEVICE = fake_device(
    levels=(
        MemoryLevel(name="L1", capacity_bytes=32 * KIB),
        MemoryLevel(name="L2", capacity_bytes=512 * KIB),
        MemoryLevel(name="L3", capacity_bytes=32 * MIB),
        MemoryLevel(name="DRAM"),
    )
)
SHEETS = {
    sheet.name: sheet
    for sheet in cpu.sheets()
    if sheet.unavailable is None and sheet.backend == "native" and not sheet.takes("transfer")
}
# Processor seconds of what surrounds the measuring on an ordinary machine.
START_S, ANALYSIS_S, PROOF_S, PAGE_S, EXIT_S = 0.9, 0.25, 1.6, 2.8, 0.3


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Outcome, float]]:
    """Carry out a whole command on a virtual machine; what it left, and the seconds it took."""

    def taking(clock: VirtualClock, seconds: float, done: Callable[..., Any]) -> Callable[..., Any]:
        def longer(*arguments: Any, **more: Any) -> Any:
            clock.take(seconds)
            return done(*arguments, **more)

        return longer

    def carried_out(clock: VirtualClock) -> tuple[Outcome, float]:
        monkeypatch.setattr(Resources, "here", lambda: Resources(threads=2, memory_bytes=16 * 1024 * MIB))
        monkeypatch.setattr(session, "probe", lambda _spec: DEVICE)
        monkeypatch.setattr(session, "registry", lambda _device: virtual_kernels(clock, SHEETS))
        for module in (session, measuring):
            monkeypatch.setattr(module, "analyse", taking(clock, ANALYSIS_S, analyse))
        monkeypatch.setattr(session, "prove", taking(clock, PROOF_S, lambda *_: {}))
        monkeypatch.setattr(session.pages, "findings", list)
        clock.take(START_S)
        with virtual_time(clock):
            asked = Request(device="cpu", budget="quick", out=tmp_path, page=True, started=clock.first)
            outcome = carry_out(asked)
        if outcome.page:
            clock.take(PAGE_S)
        clock.take(EXIT_S)
        return outcome, clock.now - clock.first

    return carried_out


def places(clock: VirtualClock) -> dict[str, int]:
    """The place in the order of each case of the whole plan of a quick run, also of those that do not fit."""
    plan = make_plan(DEVICE, virtual_kernels(clock, SHEETS), Selection(), BUDGETS["quick"])
    found = Priorities(plan.cases, SHEETS, DEVICE).rule
    return {case.key: ORDER.index(found[case.key]) for case in plan.cases}


MACHINES: dict[str, Callable[[], VirtualClock]] = {
    "usual": VirtualClock,
    "3 times slower at first": lambda: VirtualClock(given=busy_at_first(6.0, 3.0)),
    "10 times slower at first": lambda: VirtualClock(given=busy_at_first(8.0, 10.0)),
    "30 times slower at first": lambda: VirtualClock(given=busy_at_first(8.0, 30.0)),
    "3 times slower throughout": lambda: VirtualClock(slow=3.0),
    "5 times slower throughout": lambda: VirtualClock(slow=5.0),
    "four of five slices stolen": lambda: VirtualClock(given=stolen(), together=2.0),
    "four of five slices stolen, long ones": lambda: VirtualClock(given=stolen(slice_s=0.03), together=2.0),
    "four of five slices stolen, in another rhythm": lambda: VirtualClock(given=stolen(first_s=0.013), together=2.0),
    "load comes after ten seconds": lambda: VirtualClock(given=lambda now: 1.0 if now < 10.0 else 0.25),
}


@pytest.mark.parametrize("name", MACHINES)
def test_a_quick_run_keeps_its_limit_and_measures_peaks_reads_and_the_latency_of_memory(name: str, run: Any) -> None:
    clock = MACHINES[name]()
    outcome, took = run(clock)
    assert took <= 30.0
    made, every = outcome.characterisation, places(clock)
    measured = {samples.case for samples in made.samples}
    headlines = [key for key, place in every.items() if ORDER[place].headline]
    assert [key for key in headlines if key not in measured] == []
    assert {"wide arithmetic", "reads of each level", "latencies of main memory"} == {
        ORDER[every[key]].name for key in headlines
    }
    left_out = [finding for finding in made.findings if finding.code == "left-out-for-time"]
    assert len(left_out) == (len(measured) < len(every))
    # In the order that is written down: while an essential case is left out, no other one is measured.
    missing = {place for key, place in every.items() if key not in measured}
    assert not any(ORDER[place].essential for place in missing) or all(ORDER[every[key]].essential for key in measured)
    assert all(ORDER[place].name in left_out[0].says for place in missing)
