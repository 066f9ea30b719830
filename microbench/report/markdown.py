"""The report in Markdown, short enough for an issue or a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from microbench.records import Characterisation, units
from microbench.report import cores, fits, side, summary, view
from microbench.text import shown, visible

# What GitHub and others turn into a link on their own, and a comment that nobody sees and that keeps them from it: the
# mention of a user or an address, a URL, a host, and a number of an issue.
_LINKED = re.compile(r"@(?=\S)|:(?=//)|\bwww(?=\.)|#(?=\d)|\bGH-(?=\d)", re.IGNORECASE)
_NOTHING = "<!-- -->"
_ENTITY = re.compile(r"&(?=\\?#|\w+;)")  # spells another character


def render(characterisation: Characterisation) -> str:
    """Write the summary, the levels, the best ceilings, the costs and the findings.

    Examples
    --------
    ``microbench report FILE --md report.md`` writes what this returns.
    """
    characterisation = shown(characterisation)
    parts = [
        f"# {escape(summary.title(characterisation))}",
        _summary(characterisation),
        *_side(characterisation),
        *_ceilings(characterisation),
    ]
    parts += [
        *_levels(characterisation),
        *_costs(characterisation),
        *_cores(characterisation),
        *_operators(characterisation),
        *_findings(characterisation),
    ]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Escape Markdown: names of devices and sentences of findings stay plain text, and nobody and nothing is linked."""
    text = visible(" ".join(text.split()))
    for character in "\\`*_[]<>|#$~":
        text = text.replace(character, "\\" + character)
    text = _ENTITY.sub(r"\\&", text)
    return _LINKED.sub(lambda found: f"{found[0]}{_NOTHING}", text)


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = [heading, ["---", *("---:" for _ in heading[1:])], *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _summary(characterisation: Characterisation) -> str:
    return "\n".join(f"- **{line.about}**: {escape(line.says)}" for line in summary.lines(characterisation))


def _side(characterisation: Characterisation) -> Iterable[str]:
    rows = side.side_rows(characterisation)
    if rows:
        known = side.columns(rows, without=("highest",))
        yield f"## {side.title(rows, characterisation.device.kind)}"
        yield escape(side.SAYS[characterisation.device.kind])
        yield table(("what", *known.values()), [(row.title, *(getattr(row, name) for name in known)) for row in rows])


def _ceilings(characterisation: Characterisation) -> Iterable[str]:
    best = [view.best_variants(group) for group in view.groups(characterisation)]
    for group in best:
        yield f"## {group.title}"
        yield table(
            ("ceiling", "best", "interval", "of nominal", "typical", "clock", "flag"),
            [(row.title, row.rate, row.interval, row.share, row.typical, row.clock, row.flags) for row in group.rows],
        )
    legend = view.legend(row for group in best for row in group.rows)
    if legend:
        yield "\n".join(f"- `{flag}` {escape(says)}" for flag, says in legend)


def _levels(characterisation: Characterisation) -> Iterable[str]:
    rows = summary.level_rows(characterisation)
    if rows:
        yield "## Memory levels found"
        yield table(
            ("level", "advertised", "a stream sees", "a chase sees", "bandwidth", "latency", "reused within"),
            [(row.name, row.advertised, row.stream, row.chase, row.bandwidth, row.latency, row.reuse) for row in rows],
        )


def _costs(characterisation: Characterisation) -> Iterable[str]:
    costs = view.ladder(characterisation)
    if costs:
        yield "## Latency and other costs"
        rows = [
            (
                view.cost_title(cost),
                units.seconds(cost.seconds.value),
                view.cost_interval(cost),
            )
            for cost in costs
        ]
        yield table(("cost", "time", "interval"), rows)


def _cores(characterisation: Characterisation) -> Iterable[str]:
    rows = cores.rows(characterisation)
    if rows:
        yield f"## {cores.TITLE}"
        yield table(("what", "seen"), rows)


def _operators(characterisation: Characterisation) -> Iterable[str]:
    rows = fits.fit_rows(characterisation)
    if rows:
        yield "## Operator families calibrated"
        yield fits.explained(characterisation)
        yield table(fits.HEADING, [fits.cells(row) for row in rows])


def _findings(characterisation: Characterisation) -> Iterable[str]:
    if characterisation.findings:
        yield "## Findings"
        yield "\n".join(
            _finding(text.severity, text.says, text.remedy, left)
            for text, left in view.gathered_findings(characterisation)
        )


def _finding(severity: str, says: str, remedy: str, left: int) -> str:
    more = f" (and {left} more of this kind)" if left else ""
    return f"- **{severity}**: {escape(says)}{' → ' + escape(remedy) if remedy else ''}{more}"
