"""Commands that hold stored results against each other."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from microbench.analysis import compare_limits
from microbench.analysis.compare import compare as analyse
from microbench.analysis.compared import Comparison
from microbench.cli.output import finding_line
from microbench.cli.streams import write_commands
from microbench.errors import UsageError
from microbench.records import Characterisation, Finding
from microbench.report import comparison as report
from microbench.storage import store

Runs = tuple[Characterisation, ...]


def compare(paths: Sequence[Path], fail_if: Iterable[str], form: str) -> int:
    """Hold every further side against the first; 1: a limit is exceeded or a row missing, 4: unresolved."""
    limits = compare_limits.parse_limits(fail_if)
    first, *others = sides(paths)
    if not others:
        raise UsageError("give at least two files, or folders of runs to pool; the first is what others are held to")
    return show([analyse(first, other) for other in others], limits, form)


def show(comparisons: Sequence[Comparison], limits: Mapping[str, float], form: str) -> int:
    """Print comparisons in the form asked for, and return the exit code for all of them."""
    for each in comparisons:
        compare_limits.refuse_too_fine(limits, each.runs)
    failed = [compare_limits.exceeded(each, limits) for each in comparisons]
    open_ = [compare_limits.unresolved(each, limits) for each in comparisons]
    if form == "json":
        sys.stdout.write(report.as_json(comparisons, failed, open_))
    elif form == "github":
        write_commands("".join(map(report.as_github, comparisons, failed, open_)))
    else:
        _show_text(comparisons, failed, open_)
    codes = [compare_limits.exit_code(each, limits) for each in comparisons]
    return 1 if 1 in codes else max(codes)


def _show_text(
    comparisons: Sequence[Comparison], failed: Sequence[Sequence[Finding]], unresolved: Sequence[Sequence[Finding]]
) -> None:
    from microbench.report.terminal import console

    out = console()
    for each, lost, unsure in zip(comparisons, failed, unresolved, strict=True):
        report.show(each, out)
        sys.stdout.flush()
        for finding in (*each.findings, *lost, *unsure):
            sys.stderr.write(finding_line(finding))


def sides(paths: Iterable[Path]) -> list[Runs]:
    """What a command line names: a file is a side, a folder is one of all its runs, and so are runs of one --repeat."""
    found: list[Runs] = []
    tokens: dict[str, int] = {}
    for path in paths:
        runs = runs_of(path)
        token = {run.environment.repeat if run.environment else "" for run in runs}
        name = token.pop() if len(token) == 1 else ""
        if name and name in tokens:
            at = tokens[name]
            found[at] = tuple(sorted((*found[at], *runs), key=started))
            continue
        if name:
            tokens[name] = len(found)
        found.append(runs)
    return found


def runs_of(path: Path) -> Runs:
    """The characterisation in a file, or all of those below a folder, in the order of time.

    Raises
    ------
    UsageError
        If there is none, or one cannot be read.
    """
    if not path.is_dir():
        return (store.load(path),)
    files = sorted({*path.glob("*.json"), *path.glob("*/*.json")})
    if not files:
        raise UsageError(f"{path} is a folder without results; give a .json file, or the folder of a run --repeat")
    return tuple(sorted((store.load(file) for file in files), key=started))


def started(run: Characterisation) -> str:
    """When a run began; what was fitted comes first."""
    return run.environment.started if run.environment is not None else ""
