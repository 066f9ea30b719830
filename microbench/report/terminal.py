"""The characterisation as tables on a terminal: readable at 80 columns, better at 120, plain in a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from microbench.records import Characterisation, Finding, units
from microbench.report import cores, side, summary, view
from microbench.report.console import Output
from microbench.report.roofline_text import show_roofline
from microbench.report.sweeps import plural
from microbench.text import shown

# Below this width the median and the clock leave the table of ceilings; --csv and the page have them.
WIDE = 100
# Columns that leave the table of rates side by side where it is too wide, the first one first.
_LEFT_OUT_FIRST = ("power", "of_burst", "sustained", "nominal")
PIPE_WIDTH = 120
_SEVERITY = {"error": "bold red", "warning": "yellow", "info": "dim"}


def width_of(stream: TextIO, piped: int) -> int | None:
    """How wide to print: as the terminal is or COLUMNS says (``None``: rich asks both), else ``piped``."""
    return None if stream.isatty() or os.environ.get("COLUMNS", "").isdigit() else piped


def console(file: TextIO | None = None) -> Console:
    """A console for results: the terminal's own width and colours, 120 plain columns in a pipe without COLUMNS."""
    stream = file or sys.stdout
    return Output(file=stream, width=width_of(stream, PIPE_WIDTH), highlight=False, emoji=False, markup=False)


def show(characterisation: Characterisation, to: Console | None = None, *, every_variant: bool = False) -> None:
    """Print the summary, the roofline, ceilings, what others have, levels, costs and findings.

    Parameters
    ----------
    characterisation
        What was measured.
    to
        Where to print; standard output if omitted.
    every_variant
        Print all memory kernels instead of the best of each level and access.
    """
    out, characterisation = to or console(), shown(characterisation)
    show_summary(characterisation, out)
    show_roofline(characterisation, out)
    show_ceilings(characterisation, out, every_variant=every_variant)
    show_side(characterisation, out)
    show_levels(characterisation, out)
    show_costs(characterisation, out)
    show_cores(characterisation, out)
    show_findings(characterisation, out)


def show_summary(characterisation: Characterisation, out: Console) -> None:
    """Print the five lines."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for line in summary.lines(characterisation):
        grid.add_row(line.about, Text(line.says))
    out.print(grid)


def show_ceilings(characterisation: Characterisation, out: Console, *, every_variant: bool = False) -> None:
    """Print one table for each measure and thread count, and the legend of the flags used."""
    rows: list[view.Row] = []
    for group in view.groups(characterisation):
        best = group if every_variant else view.best_variants(group)
        out.print()
        out.print(_ceilings(best, wide=out.width >= WIDE))
        rows += best.rows
        if len(best.rows) < len(group.rows):
            left = plural(len(group.rows) - len(best.rows), "slower variant")
            out.print(Text(f"  {left} not shown; the page and --csv have all", style="dim"))
    for flag, says in view.legend(rows):
        out.print(Padding(Text.assemble((flag, "yellow"), f"  {says}"), (0, 0, 0, 2)))


def show_side(characterisation: Characterisation, out: Console) -> None:
    """Print rates side by side; columns that are unknown in every row, or that do not fit, are left out."""
    rows = side.side_rows(characterisation)
    known = side.columns(rows, without=("sources",))
    for name in _LEFT_OUT_FIRST:
        if 2 + sum(2 + _width(rows, field, heading) for field, heading in {"title": "", **known}.items()) > out.width:
            known.pop(name, None)
    if not known.keys() - {"burst"}:
        return
    table = _table(side.title(rows, characterisation.device.kind))
    table.add_column("what", no_wrap=True)
    for heading in known.values():
        table.add_column(
            heading.replace("of published", "of\npublished").replace("for this", "for\nthis"),
            justify="right",
            no_wrap=True,
        )
    for row in rows:
        table.add_row(row.title, *(Text(getattr(row, name), style="bold" if name == "burst" else "") for name in known))
    out.print()
    out.print(table)


def _width(rows: Sequence[side.SideRow], field: str, heading: str) -> int:
    """Characters across of a column, whose heading may be broken once."""
    return max(
        len(text) for text in (heading.removeprefix("of ").removeprefix("for "), *(getattr(row, field) for row in rows))
    )


def show_levels(characterisation: Characterisation, out: Console) -> None:
    """Print what was found of each memory level beside what is advertised."""
    if not characterisation.fits.levels:
        return
    table = _table("Memory levels found")
    table.add_column("level")
    for name in ("advertised", "a stream sees", "a chase sees", "bandwidth", "latency", "reused within"):
        table.add_column(name, justify="right", overflow="fold")
    for level in summary.level_rows(characterisation):
        table.add_row(
            level.name, level.advertised, level.stream, level.chase, level.bandwidth, level.latency, level.reuse
        )
    out.print()
    out.print(table)


def show_costs(characterisation: Characterisation, out: Console) -> None:
    """Print the latency ladder and the other costs."""
    costs = view.ladder(characterisation)
    if not costs:
        return
    table = _table("Latency and other costs")
    table.add_column("cost")
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("interval", justify="right", no_wrap=True)
    for cost in costs:
        table.add_row(
            view.cost_title(cost),
            units.seconds(cost.seconds.value),
            view.cost_interval(cost),
        )
    out.print()
    out.print(table)


def show_cores(characterisation: Characterisation, out: Console) -> None:
    """Print what cores do together: placements, scaling, core-to-core and loaded latency."""
    lines = cores.rows(characterisation)
    if not lines:
        return
    table = _table(cores.TITLE)
    table.add_column("what", no_wrap=True)
    table.add_column("")
    for what, says in lines:
        table.add_row(what, Text(says))
    out.print()
    out.print(table)


def show_findings(characterisation: Characterisation, out: Console) -> None:
    """Print the findings, worst first, each with its remedy; of one kind no more than two."""
    if not characterisation.findings:
        return
    out.print()
    out.print(Text("Findings", style="bold"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for finding, left in view.gathered_findings(characterisation):
        grid.add_row(Text(finding.severity, style=_SEVERITY[finding.severity]), _finding(finding, left))
    out.print(Padding(grid, (0, 0, 0, 2)))


def _finding(finding: Finding, left: int) -> Text:
    text = Text(finding.says)
    if finding.remedy:
        text.append("\n").append(f"→ {finding.remedy}", style="cyan")
    if left:
        text.append(f"\nand {left} more of this kind", style="dim")
    return text


def _ceilings(group: view.Group, *, wide: bool) -> Table:
    """One table; a column that is unknown in every row is left out."""
    columns = {"interval": "interval", "share": "of nominal"} | (
        {"typical": "typical", "clock": "clock"} if wide else {}
    )
    known = {
        field: name for field, name in columns.items() if any(getattr(row, field) != view.UNKNOWN for row in group.rows)
    }
    table = _table(group.title)
    table.add_column("ceiling", overflow="fold")
    for name in ("best", *known.values()):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("flag", style="yellow", no_wrap=True)
    for row in group.rows:
        table.add_row(
            Text(row.title), Text(row.rate, style="bold"), *(getattr(row, field) for field in known), row.flags
        )
    return table


def _table(title: str) -> Table:
    return Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        header_style="dim",
        collapse_padding=True,
        padding=(0, 1),
    )
