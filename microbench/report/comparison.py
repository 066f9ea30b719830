"""A comparison on its way out: rows for a table, one JSON object, or annotations that a GitHub job shows beside the change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from microbench import units
from microbench.compare import Comparison
from microbench.dtypes import DTYPES
from microbench.records import Finding

Row = dict[str, str | int | float | bool | None]

_LEVELS = {"error": "error", "warning": "warning", "info": "notice"}
_ROWS_IN_A_SUMMARY = 10


def rows(comparison: Comparison) -> list[Row]:
    """One row per measurement in both files, slowest first, in SI."""
    return [
        {
            "name": change.name,
            "measures": change.group,
            "old": change.old,
            "new": change.new,
            "ratio": change.ratio.value,
            "low": change.ratio.low,
            "high": change.ratio.high,
            "verdict": change.verdict,
            "settled": change.converged,
        }
        for change in comparison.changes
    ]


def readable(comparison: Comparison) -> list[Row]:
    """The same rows with units and prefixes, for a terminal."""
    return [
        {
            "row": change.name,
            "old": _quantity(change.name, change.group, change.old),
            "new": _quantity(change.name, change.group, change.new),
            "speed": f"{100 * (change.ratio.value - 1):+.1f} %",
            "between": f"{100 * (change.ratio.low - 1):+.1f} and {100 * (change.ratio.high - 1):+.1f} %",
            "verdict": change.verdict if change.converged else f"{change.verdict} (unsettled)",
        }
        for change in comparison.changes
    ]


def _quantity(name: str, group: str, value: float) -> str:
    if group == "cost":
        return units.seconds(value)
    words = name.replace(" ", ".").split(".")
    whole = group == "compute" and any(word in DTYPES and DTYPES[word].kind == "int" for word in words)
    return units.rate(value, "byte/s" if group != "compute" else "OP/s" if whole else "FLOP/s")


def summary(comparison: Comparison) -> list[str]:
    """Sentences on each kind of row, and what stands in one file only."""
    lines = [
        f"{group.name}: {group.verdict}, median {100 * (group.ratio.value - 1):+.1f} % (between {100 * (group.ratio.low - 1):+.1f} and "
        f"{100 * (group.ratio.high - 1):+.1f} %) over {group.rows} rows, which scatter by {100 * group.scatter:.1f} %"
        for group in comparison.groups
    ]
    for word, names in (("only in the new file", comparison.added), ("only in the old file", comparison.missing)):
        if names:
            more = f" and {len(names) - _ROWS_IN_A_SUMMARY} more" if len(names) > _ROWS_IN_A_SUMMARY else ""
            lines.append(f"{word}: {', '.join(names[:_ROWS_IN_A_SUMMARY])}{more}")
    return lines


def as_json(comparison: Comparison, failed: Sequence[Finding]) -> str:
    """The whole comparison as one JSON object."""
    document = asdict(comparison) | {"changes": rows(comparison), "exceeded": [asdict(finding) for finding in failed]}
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def as_github(comparison: Comparison, failed: Sequence[Finding]) -> str:
    """Workflow commands (``::error title=...::message``) for what failed or is doubtful, then the summary as a notice."""
    lines = [f"::{_LEVELS[each.severity]} title=microbench {each.code}::{_escaped(each)}" for each in (*failed, *comparison.findings)]
    told = "; ".join([f"{comparison.old} against {comparison.new}", *summary(comparison)])
    return "\n".join([*lines, f"::notice title=microbench compare::{_percent(told)}"]) + "\n"


def _escaped(finding: Finding) -> str:
    return _percent(f"{finding.says}. {finding.remedy}" if finding.remedy else finding.says)


def _percent(text: str) -> str:
    """Escape as workflow commands demand: a bare % or line break would end or change the message."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
