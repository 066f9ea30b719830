"""The command `check`: outcomes of kernels as they come, a line for each that is not right, and the exit code."""

from __future__ import annotations

import time
from typing import Any

from microbench.cli.output import check_stdout, emit
from microbench.hardware import probe
from microbench.report.progress import Progress, Step, progress
from microbench.runs import check as runs
from microbench.runs.isolation import Limits, Outcome, Stand
from microbench.runs.signals import Interrupted


class Shown:
    """What the progress bar says of a check, and the outcomes so far."""

    def __init__(self, display: Progress) -> None:
        self.display, self.found = display, list[Outcome]()
        self._started = time.monotonic()
        display.start(0, 0.0)

    def hear(self, stand: Stand) -> None:
        """Take an outcome, and redraw: the share of the kernels that is done, and the time that the rest will take."""
        if stand.last is not None:
            self.found.append(stand.last)
        if not stand.known:
            return
        share = stand.ended / stand.known
        left = (time.monotonic() - self._started) * (1 - share) / share if share else None
        wrong = len(runs.faults(self.found))
        said = f"{stand.ended} of {stand.known} kernels" + (f", {wrong} not right" if wrong else "")
        doing = ", ".join(stand.doing)
        self.display.update(
            Step(case=f"{said} · {doing}" if doing else said, round=0, fraction=share, remaining_s=left)
        )


def check(options: dict[str, Any]) -> int:
    """Check a device's kernels; 1 where one is not right, and a sentence where nothing can be checked at all."""
    paths = (options["json_path"], options["csv_path"])
    check_stdout(*paths)
    device = probe(options["device"])
    limits = Limits(whole_s=options["time_limit"])
    if options["kernel_limit"] is not None:
        limits = Limits(item_s=options["kernel_limit"], whole_s=options["time_limit"])
    wanted = runs.Wanted(
        only=options["only"], backends=options["backend"], jobs=options["jobs"], limits=limits, under=options["under"]
    )
    display = progress()
    shown = Shown(display)
    started = time.monotonic()
    try:
        found = runs.check(device, wanted, shown.hear)
    except KeyboardInterrupt:
        display.done()
        _report(device.name, shown.found, started, paths)
        raise Interrupted("interrupted; the outcomes so far are shown") from None
    finally:
        display.done()
    _report(device.name, found, started, paths)
    runs.demand_some(found)
    return 1 if runs.faults(found) else 0


def _report(name: str, found: list[Outcome], started: float, paths: tuple[str | None, str | None]) -> None:
    """One line of counts, and the kernels that are not right."""
    title = f"{name}: {runs.counted(found) or 'nothing'}, {time.monotonic() - started:.0f} s"
    whole = runs.rows(found)
    bad = {id(outcome) for outcome in runs.faults(found)}
    kept = ("kernel", "family", "status", "says")
    shown = [
        {name: row[name] for name in kept} for row, outcome in zip(whole, found, strict=True) if id(outcome) in bad
    ]
    emit(whole, title, *paths, shown=shown)
