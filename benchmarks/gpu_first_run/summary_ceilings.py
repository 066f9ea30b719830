"""The page's tables of ceilings, costs, latencies and links: ours, independent ones beside them, published ones."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_rows import Row, rows
from summary_page import Key, Page, best, key, off, si

LIMIT = 0.05  # a difference that is told
UNITS = {"compute": "FLOP/s", "memory": "B/s"}
INDEPENDENT = {"library": "cuBLAS or PyTorch", "peak": "probe.cu"}


def rate(row: Row) -> float:
    """What a ceiling of the run reaches."""
    value: float = row["rate"]["value"]
    return value


def others(page: Page) -> list[Row]:
    """The independent figures."""
    return [*rows(page.work / "crosscheck.jsonl"), *rows(page.work / "probe.jsonl")]


@dataclass(frozen=True)
class Compared:
    """One ceiling of ours beside an independent figure and published ones; each may be missing."""

    at: Key
    mode: str
    own: Row | None
    other: Row | None
    printed: list[Row]

    @property
    def name(self) -> str:
        """What is compared."""
        return f"{self.mode} {' '.join(map(str, self.at))}"

    @property
    def value(self) -> float | None:
        """Ours."""
        return rate(self.own) if self.own else None

    @property
    def against(self) -> float | None:
        """The independent one."""
        return self.other["value"] if self.other else None

    @property
    def of_nominal(self) -> float | None:
        """Ours as a share of nominal."""
        return rate(self.own) / self.own["nominal"] if self.own and self.own.get("nominal") else None

    def flags(self) -> list[str]:
        """What is wrong with ours by its own account."""
        if self.own is None:
            return []
        found = [] if self.own.get("converged") or self.mode == "library" else ["not converged"]
        found += ["proof failed"] if self.own.get("proof", {}).get("status") == "failed" else []
        found += ["throttled"] if (self.own.get("throttled_share") or 0) > 0.1 else []
        above = self.of_nominal is not None and self.of_nominal > 1.01
        return found + ([f"above nominal by {off(self.of_nominal, 1)}"] if above else [])

    def line(self) -> str:
        """A line of the table."""
        unit, own = UNITS[str(self.at[0])], self.own or {}
        share = f"{100 * self.of_nominal:.1f} %" if self.of_nominal else "-"
        clock = f"{own['clock_hz'] / 1e9:.3f}" if own.get("clock_hz") else "-"
        told = sorted({si(float(row["value"]), "").strip() for row in self.printed})
        cells = [self.name, str(own.get("name", "-")), si(self.value, unit), share, clock, si(self.against, unit)]
        return " | ".join([*cells, off(self.value, self.against), ", ".join(told) or "-", ", ".join(self.flags())])

    def doubts(self) -> list[str]:
        """What about it should be looked at first."""
        if self.own is None or self.value is None:
            return []
        unit, found = UNITS[str(self.at[0])], []
        ours = f"{self.name}: ours {si(self.value, unit)}"
        if self.other and self.against and abs(self.value / self.against - 1) > LIMIT:
            theirs = f"{INDEPENDENT[self.mode]}'s {si(self.against, unit)} ({self.other['what']})"
            found.append(f"{ours} ({self.own['name']}) is {off(self.value, self.against)} of {theirs}")
        if self.of_nominal and self.of_nominal > 1.01:
            found.append(f"{self.own['name']} is {100 * self.of_nominal:.1f} % of nominal, which cannot be")
        if self.of_nominal and self.of_nominal < 0.93 and self.mode == "peak" and self.at[0] == "compute":
            share = f"{100 * self.of_nominal:.1f} %"
            found.append(f"{self.own['name']} reaches {share} of nominal at the clock seen")
        plain = next((row for row in self.printed if not row["note"]), None)
        if plain and abs(self.value / float(plain["value"]) - 1) > 2 * LIMIT:
            who = f"{plain['gpu']}, {plain['source']}"
            found.append(f"{ours} against {si(float(plain['value']), unit)} published ({who})")
        return found


def compared(page: Page) -> list[Compared]:
    """What cuBLAS reaches is compared with cuBLAS, what probe.cu reaches with our loops."""
    own, printed = page.run.get("ceilings", []), page.published()
    independent = [row for row in others(page) if "value" in row and "zeros" not in str(row.get("what"))]
    found = []
    for mode, by in (("peak", "probe.cu"), ("library", "torch")):
        mine = best([row for row in own if (row["mode"] == "library") == (mode == "library")], rate)
        theirs = best([row for row in independent if row.get("by") == by], lambda row: float(row["value"]))
        for at in sorted({at for at in (*mine, *theirs) if at[0] in UNITS}, key=str):
            of_it = [row for row in printed if key(row) == at and (row["mode"] == mode or at[0] == "memory")]
            found.append(Compared(at, mode, mine.get(at), theirs.get(at), of_it))
    return found


def ceilings(page: Page) -> None:
    """The table of ceilings."""
    found = compared(page)
    if not found:
        return
    shown = f"{len(page.runs)} runs kept; shown: the one with most ceilings"
    page.add(f"## Ceilings ({shown}; {page.device.get('name')}, {page.device.get('arch')})", "")
    head = "what | ours | value | of nominal | GHz | independent | ours over it | published | flags"
    page.table(head, [each.line() for each in found])
    page.look += [doubt for each in found for doubt in each.doubts()]
    peaks: dict[str | None, float] = {}
    for each in found:
        if each.mode == "peak" and each.at[0] == "compute" and each.value:
            peaks[each.at[1]] = max(peaks.get(each.at[1], 0.0), each.value)
    for each in found:
        peak = peaks.get(each.at[1])
        if each.mode == "library" and each.at[0] == "compute" and each.value and peak and each.value > 1.02 * peak:
            ours = f"our instruction peak {si(peak, 'FLOP/s')}: our loop misses the unit's best path"
            page.look.append(f"{each.at[1]}: the library's {si(each.value, 'FLOP/s')} is above {ours}")
    zeros = [row for row in others(page) if "zeros" in str(row.get("what"))]
    if zeros:
        page.add("zeros: " + "; ".join(f"{row['what']} {si(row.get('value'), 'FLOP/s')}" for row in zeros), "")
    errors = [row for row in rows(page.work / "crosscheck.jsonl") if "error" in row]
    page.look += [f"independent figure failed: {row.get('what')}: {row['error']}" for row in errors[:5]]


def costs(page: Page) -> None:
    """Launch costs, latencies, links, levels."""
    independent = [row for row in others(page) if row.get("measures") in ("cost", "latency_cycles", "link")]
    if not page.run.get("costs") and not independent:
        return
    page.add("## Costs, latencies, links", "")
    seconds = {cost["name"]: cost["seconds"]["value"] for cost in page.run.get("costs", [])}
    told = (f"{name} {si(value, 's') if value >= 1e-6 else f'{value * 1e9:.1f} ns'}" for name, value in seconds.items())
    page.add("ours: " + "; ".join(told), "")
    units = {"byte/s": "B/s"}
    told = (
        f"{row['what']} {si(row['value'], units.get(row['unit']) or row['unit'])}"
        for row in independent
        if "value" in row
    )
    page.add("independent: " + "; ".join(told), "")
    clocks = [ceiling["clock_hz"] for ceiling in page.run.get("ceilings", []) if ceiling.get("clock_hz")]
    for row in independent:
        page.look += cost_doubts(page, row, seconds, max(clocks, default=None))
    levels = (page.run.get("fits") or {}).get("levels", [])
    if levels:
        page.add("levels seen: " + "; ".join(level_line(level) for level in levels), "")


def cost_doubts(page: Page, row: Row, seconds: dict[str, float], clock: float | None) -> list[str]:
    """Where a cost, latency or link of ours differs from an independent one."""
    level = f"load_to_use.{row.get('level')}"
    if row["measures"] == "latency_cycles" and clock and level in seconds:
        mine = seconds[level] * clock
        if abs(mine / row["value"] - 1) > 2 * LIMIT:
            return [f"{level}: ours {mine:.0f} cycles at {clock / 1e9:.2f} GHz, probe.cu {row['value']:.0f}"]
    if row["measures"] == "cost" and row.get("by") == "probe.cu" and row["name"] in seconds:
        mine = seconds[row["name"]]
        if abs(mine / row["value"] - 1) > 5 * LIMIT:
            return [f"{row['name']}: ours {si(mine, 's')}, probe.cu {si(row['value'], 's')}"]
    if row["measures"] == "link" and "value" in row:
        name = str(row.get("name"))
        rates = [rate(ceiling) for ceiling in page.run.get("ceilings", []) if ceiling["name"].endswith(name)]
        if rates and abs(max(rates) / row["value"] - 1) > LIMIT:
            return [f"copy.{name}: ours {si(max(rates), 'B/s')}, {row['by']} {si(row['value'], 'B/s')}"]
    return []


def level_line(level: Row) -> str:
    """Where a level of memory ends."""
    low, high = level["low_bytes"] / 2**20, level["high_bytes"] / 2**20
    advertised = (level.get("advertised_bytes") or 0) / 2**20
    return f"{level['name']} by {level['seen_by']} {low:.3g}..{high:.3g} MiB (advertised {advertised:.4g})"
