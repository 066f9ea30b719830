"""Output of a comparison: rows for a table, one JSON object, or annotations of a GitHub job."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from microbench.analysis.compared import Change, Comparison
from microbench.records import Finding, units
from microbench.records.dtypes import DTYPES
from microbench.report.summary import moment
from microbench.report.sweeps import plural
from microbench.text import inert, shown, visible

_LEVELS = {"error": "error", "warning": "warning", "info": "notice"}
_ROWS_IN_A_SUMMARY = 10
_LARGEST = 5
_STYLES = {"slower": "red", "missing": "red", "faster": "green", "unresolved": "yellow", "same": ""}
_COUNTED = ("slower", "missing", "unresolved", "faster", "same")


def show(comparison: Comparison, out: Console) -> None:
    """Print the verdict on the whole, on what is quoted first, on each kind of row, and then the rows that changed."""
    comparison = shown(comparison)
    out.print(Text(heading(comparison), style="bold"))
    out.print(_whole(comparison))
    out.print()
    out.print(_rows_table([change for change in comparison.changes if change.headline], "quoted first"))
    out.print()
    out.print(_groups_table(comparison))
    _show_rows(comparison, out)
    for line in _only_in_one(comparison):
        out.print(line)


def _whole(comparison: Comparison) -> Text:
    """The one word, and how many rows got which."""
    counts: Counter[str] = Counter(change.verdict for change in comparison.changes)
    said = ", ".join(f"{counts[word]} {word}" for word in _COUNTED if counts[word])
    pooled = "" if comparison.runs == (1, 1) else f"; {comparison.runs[1]} runs against {comparison.runs[0]}, pooled"
    return Text.assemble((comparison.verdict, f"bold {_STYLES[comparison.verdict]}"), f" ({said}{pooled})")


def _groups_table(comparison: Comparison) -> Table:
    table = _table()
    for column in ("kind", "verdict"):
        table.add_column(column, no_wrap=True)
    for column in ("speed, %", "between, %", "rows", "slower", "faster", "unresolved", "scatter, %"):
        table.add_column(column, justify="right")
    for group in comparison.groups:
        counts = Counter(change.verdict for change in comparison.changes if change.stratum == group.name)
        table.add_row(
            group.name,
            Text(group.verdict, style=_STYLES[group.verdict]),
            _speed(group.ratio.value),
            f"{_speed(group.ratio.low)} to {_speed(group.ratio.high)}",
            *(str(count) for count in (group.rows, counts["slower"], counts["faster"], counts["unresolved"])),
            f"{100 * group.scatter:.1f}",
        )
    return table


def _rows_table(changes: Sequence[Change], title: str) -> Table:
    table = _table()
    table.add_column(title, no_wrap=True)
    for column in ("old, new", "speed, %", "between, %"):
        table.add_column(column, justify="right", overflow="fold")
    table.add_column("verdict")
    for change in changes:
        row = readable(change)
        table.add_row(*row[:-1], Text(row[-1], style=_STYLES[change.verdict]))
    return table


def _show_rows(comparison: Comparison, out: Console) -> None:
    rest = [change for change in comparison.changes if not change.headline]
    changed = [change for change in rest if change.verdict not in ("same", "unresolved")]
    compared = sorted((change for change in rest if change.ratio), key=_distance)
    listed = changed or compared[:_LARGEST]
    if listed:
        out.print()
        title = "rows that changed" if changed else "no other row surely changed; furthest apart"
        out.print(_rows_table(listed, title))
    left = len(rest) - len(listed)
    if left:
        are = "are" if left > 1 else "is"
        says = f"{plural(left, 'row')} not shown {are} the same or unresolved; --format json has all"
        out.print(Text(says, style="dim"))


def _distance(change: Change) -> float:
    return -abs(math.log(change.ratio.value)) if change.ratio else 0.0


def heading(comparison: Comparison) -> str:
    """What is compared: new against old, each with its device and moment; one device is named once.

    Examples
    --------
    >>> old, new = "A, 2026-11-21T10:00:00+00:00", "A, 2026-11-22T10:00:00+00:00"
    >>> heading(Comparison(old=old, new=new, same_device=True, changes=(), groups=()))
    'A: 2026-11-22 10:00 UTC against 2026-11-21 10:00 UTC'
    """
    (new, _, late), (old, _, early) = (text.rpartition(", ") for text in (comparison.new, comparison.old))
    if new and new == old:
        return f"{new}: {moment(late)} against {moment(early)}"
    return " against ".join(
        f"{name}, {moment(started)}" if name else moment(started) for name, started in ((new, late), (old, early))
    )


def readable(change: Change) -> tuple[str, ...]:
    """A row of the table for people: name, old and new, change of speed, its interval, verdict with what decided it."""
    said = f"{change.verdict}: {change.why}" if change.why else change.verdict
    if change.new is None or change.ratio is None:
        return (change.name, _quantity(change, change.old), "", "", said)
    like = units.like_seconds if change.group == "cost" else units.like
    both = f"{like(change.old, change.new)}, {_quantity(change, change.new)}"
    between = f"{_speed(change.ratio.low)} to {_speed(change.ratio.high)}"
    return (change.name, both, _speed(change.ratio.value), between, said)


def _speed(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f}"


def _table() -> Table:
    return Table(
        box=box.SIMPLE_HEAD, show_edge=False, header_style="dim", collapse_padding=True, padding=(0, 1), pad_edge=False
    )


def _quantity(change: Change, value: float) -> str:
    if change.group == "cost":
        return units.seconds(value)
    words = change.name.replace(" ", ".").split(".")
    whole = change.group == "compute" and any(word in DTYPES and DTYPES[word].kind == "int" for word in words)
    return units.rate(value, "byte/s" if change.group != "compute" else "OP/s" if whole else "FLOP/s")


def summary(comparison: Comparison) -> list[str]:
    """A sentence on each kind of row, and on the rows that only one of the files has."""
    lines = [
        f"{group.name}: {group.verdict}, median {100 * (group.ratio.value - 1):+.1f} % (between "
        f"{100 * (group.ratio.low - 1):+.1f} and {100 * (group.ratio.high - 1):+.1f} %) over {group.rows} rows, which "
        f"scatter by {100 * group.scatter:.1f} %"
        for group in comparison.groups
    ]
    return [*lines, *_only_in_one(comparison)]


def _only_in_one(comparison: Comparison) -> list[str]:
    lines = []
    for word, names in (("only in the new file", comparison.added), ("missing in the new file", comparison.missing)):
        if names:
            more = f" and {len(names) - _ROWS_IN_A_SUMMARY} more" if len(names) > _ROWS_IN_A_SUMMARY else ""
            lines.append(f"{word}: {', '.join(names[:_ROWS_IN_A_SUMMARY])}{more}")
    return lines


def as_json(
    comparisons: Sequence[Comparison],
    failed: Sequence[Sequence[Finding]] = (),
    unresolved: Sequence[Sequence[Finding]] = (),
) -> str:
    """The whole comparison as one JSON object, several as an array of them."""
    documents = []
    for number, each in enumerate(comparisons):
        more = {"verdict": each.verdict, "missing": each.missing, "changes": each.frame_rows()}
        told = {
            name: [asdict(finding) for finding in found[number]] if found else []
            for name, found in (("exceeded", failed), ("unresolved", unresolved))
        }
        documents.append(asdict(each) | more | told)
    return json.dumps(documents[0] if len(documents) == 1 else documents, indent=1, allow_nan=False) + "\n"


def as_github(comparison: Comparison, failed: Sequence[Finding] = (), unresolved: Sequence[Finding] = ()) -> str:
    """GitHub workflow commands: what failed or is doubtful as errors and warnings, then the summary as a notice."""
    lines = [
        f"::{_LEVELS[each.severity]} title=microbench {each.code}::{_message(each)}"
        for each in (*failed, *unresolved, *comparison.findings)
    ]
    words = [f"{comparison.old} against {comparison.new}: {comparison.verdict}", *summary(comparison)]
    message = "; ".join(words)
    return "\n".join([*lines, f"::notice title=microbench compare::{_escape(message)}"]) + "\n"


def _message(finding: Finding) -> str:
    return _escape(f"{finding.says}. {finding.remedy}" if finding.remedy else finding.says)


def _escape(text: str) -> str:
    """Escape as workflow commands demand: a bare % or line break would end or change the message, ``##[`` begin one."""
    return inert(visible(text)).replace("%", "%25")
