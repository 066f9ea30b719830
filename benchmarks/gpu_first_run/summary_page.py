"""The page that `summarise.py` fills: what was kept, lines, and what to look at first."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from gpu_rows import Row

Key = tuple[str | None, ...]
CARDS = {"GH200": "GH200", "H200": "H200 SXM", "H100 PCIe": "H100 PCIe", "H100": "H100 SXM5", "A100": "A100 SXM4"}
PUBLISHED = "microbench/hardware/tables/published.csv"


def si(value: float | None, unit: str) -> str:
    """A value with a prefix."""
    if value is None:
        return "-"
    if unit == "s":
        return f"{value * 1e6:.3g} µs" if value < 1e-3 else f"{value * 1e3:.3g} ms"
    if unit == "cycles":
        return f"{value:.0f} cycles"
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.4g} {prefix}{unit}"
    return f"{value:.4g} {unit}"


def off(value: float | None, of: float | None) -> str:
    """By how many per cent one value is above another."""
    return "-" if not value or not of else f"{100 * (value / of - 1):+.1f} %"


class Page:
    """The page under way: lines, and what to look at first."""

    def __init__(self, work: Path, root: Path | None) -> None:
        self.work, self.root = work, root
        self.lines: list[str] = []
        self.look: list[str] = []
        self.runs: list[Row] = []
        for path in sorted(work.glob("results/*/*.json"), key=lambda path: path.stat().st_mtime):
            try:
                self.runs.append(json.loads(path.read_text()))
            except (OSError, ValueError):
                self.look.append(f"{path.name} cannot be read")
        self.run: Row = max(self.runs, key=lambda held: len(held.get("ceilings", ())), default={})

    def add(self, *lines: str) -> None:
        """Put lines on the page."""
        self.lines += lines

    def table(self, head: str, body: Iterable[str]) -> None:
        """Put a table on the page."""
        columns = head.count("|") + 1
        self.add(f"| {head} |", "|" + " --- |" * columns, *(f"| {row} |" for row in body), "")

    @property
    def device(self) -> Row:
        """The device of the run that is shown."""
        found: Row = self.run.get("device", {})
        return found

    def published(self) -> list[Row]:
        """Rows of the project's table of others' figures that are of this card."""
        path = self.root / PUBLISHED if self.root else None
        if path is None or not path.is_file():
            return []
        name = str(self.device.get("name", ""))
        card = next((card for card in CARDS if all(part in name for part in card.split())), None)
        if card is None:
            return []
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        return [dict(row) for row in csv.DictReader(lines) if row["gpu"].startswith(CARDS[card])]


def key(row: Row) -> Key:
    """What a figure is of. Peaks of plain and of matrix units are two things, a library's product is one."""
    if row.get("measures") == "compute":
        if row.get("mode") == "library" or row.get("by") == "torch":
            return ("compute", row.get("dtype"))
        matrix = "matrix" in (row.get("unit"), row.get("unit_of"))
        return ("compute", row.get("dtype"), "matrix" if matrix else "plain")
    if row.get("measures") == "memory":
        return ("memory", row.get("level"), row.get("access"))
    return (row.get("measures"), row.get("level") or row.get("name"))


def best(found: Iterable[Row], value: Callable[[Row], float]) -> dict[Key, Row]:
    """The row with the highest value of each kind."""
    held: dict[Key, Row] = {}
    for row in found:
        at = key(row)
        if value(row) and (at not in held or value(row) > value(held[at])):
            held[at] = row
    return held
