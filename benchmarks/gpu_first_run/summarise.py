"""One page of what `first_run.sh` found: ``python3 -E -s summarise.py WORK [ROOT] [MODE]``.

It needs nothing but Python, and reads what is there.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from pathlib import Path

from gpu_rows import Row, rows
from summary_ceilings import LIMIT, ceilings, costs
from summary_page import Page, off, si

MOST = 60  # lines of what to look at first
VALUES = {
    "values": "Values",
    "memcheck": "Values under the memory checker",
    "nvrtc": "Values of code compiled by NVRTC",
}
DOUBTFUL = ("wrong-result", "not-checked", "not-measured", "context-lost", "above-nominal", "backends-differ")


def facts(page: Page) -> None:
    """The machine."""
    found = rows(page.work / "facts.jsonl")
    if not found:
        page.look.append("no facts were written: the first phase failed (A-facts.log)")
        return
    first = found[0]
    card = [line.split(",") for line in str(first.get("nvidia_smi", "")).splitlines()]
    page.add("## Machine", "")
    if len(card) >= 2 and len(card[0]) > 1:
        told = (f"{name.strip()} {value.strip()}" for name, value in zip(card[0], card[1], strict=False))
        page.add("; ".join(told), "")
    else:
        page.add(f"nvidia-smi: {str(first.get('nvidia_smi', ''))[:200]}", "")
    asked = ("nvcc", "ncu", "compute-sanitizer", "g++", "libc")
    tools = "; ".join(f"{name}: {first[name]}" for name in asked if first.get(name))
    host = f"{first.get('nproc')} processors ({first.get('cpu')}), kernel {first.get('kernel')}"
    page.add(f"python {first.get('python')}, {host}; {tools}", "")
    packages = ", ".join(f"{row['package']} {row['version']}" for row in found if row.get("version"))
    absent = ", ".join(row["package"] for row in found if "package" in row and not row["version"])
    torch = next((row for row in found if "torch" in row), {})
    page.add(f"packages: {packages}; not there: {absent or 'none'}; torch: {json.dumps(torch)}", "")
    if torch and not torch.get("is_available"):
        page.look.append(f"torch cannot use the GPU: {torch.get('why') or 'is_available() is false'}")


def phases(page: Page) -> None:
    """How each phase ended."""
    try:
        lines = (page.work / "phases.tsv").read_text().splitlines()
    except OSError:
        return
    table = [row for row in (line.split("\t") for line in lines) if len(row) > 3]
    page.add("## Phases", "")
    page.table("phase | s | how it ended", [f"{row[0]} | {row[1]} | {row[3]}" for row in table])
    for name, _, _, ended in table:
        if ended != "done" and not ended.startswith("skipped"):
            try:
                log = (page.work / f"{name}.log").read_text(errors="replace")
            except OSError:
                log = ""
            last = [line for line in log.splitlines() if line.strip()][-1:]
            page.look.append(f"phase {name} ended with '{ended}': {''.join(last)[:180]}")


def values(page: Page) -> None:
    """Which kernels compute what they must, by shipped code, under the memory checker, and as NVRTC compiles them."""
    for name, title in VALUES.items():
        kernels = outcomes(page.work / f"{name}.json")
        if kernels:
            page.add(f"## {title}", "")
            checked(page, name, kernels)
    for path in sorted(page.work.glob("sanitizer-*.log")):
        lines = path.read_text(errors="replace").splitlines()
        errors = [line for line in lines if any(word in line for word in ("Invalid", "Out-of-range", "Misaligned"))]
        if errors:
            first = errors[0].strip("= ")[:150]
            page.look.append(f"memory checker, {path.name}: {len(errors)} errors, first: {first}")


def outcomes(path: Path) -> list[Row]:
    """What `microbench check` wrote; empty where it did not end."""
    try:
        found: list[Row] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found


def checked(page: Page, name: str, kernels: list[Row]) -> None:
    """One round of checks."""
    counts = Counter(row["status"] for row in kernels)
    page.add(", ".join(f"{count} {status}" for status, count in sorted(counts.items())), "")
    families: dict[str, list[Row]] = {}
    for row in kernels:
        families.setdefault(row["family"], []).append(row)
    took = ((group, len(of), sum(row["seconds"] for row in of)) for group, of in families.items())
    page.add("families: " + "; ".join(f"{group} {count} in {seconds:.1f} s" for group, count, seconds in took), "")
    bad = [row for row in kernels if row["status"] not in ("right", "unavailable")]
    if bad:
        body = (f"{row['status']} | {row['family']} | {row.get('kernel')} | {said(row, 230)}" for row in bad[:MOST])
        page.table("status | family | kernel | what", body)
    for (status, group), count in Counter((row["status"], row["family"]) for row in bad).items():
        first = next(row for row in bad if (row["status"], row["family"]) == (status, group))
        told = f"first {first.get('kernel')}: {said(first, 140)} ({name}.json)"
        page.look.append(f"{group}: {status}, {count} kernels, {told}")
    slow = sorted((row for row in kernels if row.get("seconds", 0) > 5), key=lambda row: -row["seconds"])[:5]
    if slow:
        page.add("slow checks: " + ", ".join(f"{row['kernel']} {row['seconds']} s" for row in slow), "")


def said(row: Row, most: int) -> str:
    """What a row says, for a cell of a table."""
    return str(row.get("says"))[:most].replace("|", "/")


def rates(page: Page) -> None:
    """Every kernel once."""
    found = rows(page.work / "rates.jsonl")
    if not found:
        return
    page.add("## Every kernel once, at its default parameters", "")
    body = []
    for row in found:
        if row["status"] in ("right", "wrong"):
            body.append(rate_line(page, row))
        elif row["status"] != "unavailable":
            name = row.get("kernel") or row["group"]
            page.look.append(f"timing {name}: {row['status']}: {said(row, 150)}")
    page.table("kernel | rate | FLOP a clock and SM | per iteration, twice over once | spread | result", body)


def rate_line(page: Page, row: Row) -> str:
    """One kernel's rate, and whether twice the work took twice as long."""
    value = f"{row['ns_each']:.1f} ns each"
    if row.get("flop_per_s") or row.get("byte_per_s"):
        value = si(row.get("flop_per_s") or row["byte_per_s"], "FLOP/s" if row.get("flop_per_s") else "B/s")
    twice = row.get("per_iteration_twice_over_once")
    odd = twice is not None and abs(twice - 1) > 0.03 and row.get("measures") != "cost"
    if row["status"] == "wrong":
        page.look.append(f"{row['kernel']}: {row['says']}")
    if odd and twice is not None:
        once = f"{row['launch_ns'] / 1e6:.2f} ms once"
        page.look.append(f"{row['kernel']}: twice the iterations take {2 * twice:.2f} times as long ({once})")
    cells = (row["kernel"], value, row.get("flop_per_clock_sm") or "-", f"{twice}{' (!)' if odd else ''}")
    return " | ".join(map(str, (*cells, row["spread"], row["status"])))


def counters(page: Page) -> None:
    """What the hardware counted."""
    found = rows(page.work / "counters.jsonl")
    if not found:
        return
    page.add("## Hardware counters over what the sheets claim (1 is agreement)", "")
    body = []
    for row in found:
        if "kernel" not in row:
            page.look.append(f"counters: {row.get('error')}")
            continue
        ratios, params = row.get("ratios", {}), row.get("params") or ""
        told = ", ".join(f"{name} {value:.3f}" for name, value in ratios.items()) or row.get("error", "-")
        body.append(f"{row['kernel']} | {params} | {told}")
        for name, value in ratios.items():
            if not name.endswith(("%", "GHz")) and abs(value - 1) > LIMIT:
                page.look.append(f"counters: {row['kernel']} {params}: {name} is {value:.3f} of the sheet's")
    page.table("kernel | working set | counted over claimed", body)


def models(page: Page) -> None:
    """Models, and operators on fresh shapes."""
    found = rows(page.work / "models.jsonl")
    if found:
        page.add("## Models", "")
        head = "model | input | eager | graph | predicted | error | 90 % interval | note"
        page.table(head, [model_line(page, row) for row in found])
    try:
        table = list(csv.DictReader((page.work / "validate.csv").read_text().splitlines()))
    except OSError:
        return
    page.add("## Operators on fresh shapes (validate)", "")
    names = ["family", "rows", "mean_error_percent", "median_error_percent", "coverage_percent"]
    names += ["plain_roofline_percent", "repeat_percent"]
    page.table(" | ".join(names), [" | ".join(str(row.get(name)) for name in names) for row in table])


def model_line(page: Page, row: Row) -> str:
    """One model, predicted and measured."""
    predicted = row.get("predict") or {}
    value, eager = predicted.get("value"), row.get("eager_s")
    inside = "-"
    if value and eager:
        inside = "inside" if predicted["low"] <= eager <= predicted["high"] else "outside"
        if abs(value / eager - 1) > 0.25:
            seen = f"eager {si(eager, 's')}, as a graph {si(row.get('graph_s'), 's')}"
            page.look.append(f"model {row['model']}: predicted {si(value, 's')}, {seen}; interval {inside}")
    error = row.get("error") or predicted.get("error")
    if error:
        page.look.append(f"model {row.get('model')}: {error}")
    cells = [str(row.get("model")), f"{row.get('input', '')} {row.get('dtype', '')}", si(eager, "s")]
    cells += [si(row.get("graph_s"), "s"), si(value, "s"), off(value, eager), inside]
    return " | ".join([*cells, row.get("graph_error") or error or ""])


def findings(page: Page) -> None:
    """What the run says of itself."""
    found = page.run.get("findings", [])
    if not page.run:
        return
    page.add(f"## Findings of the run ({len(found)})", "")
    codes = Counter(row["code"] for row in found)
    first = {code: next(row for row in found if row["code"] == code) for code in codes}
    lines = [
        f"{code} | {count} | {first[code]['severity']} | {said(first[code], 200)}" for code, count in codes.items()
    ]
    page.table("code | times | severity | first", lines)
    for code in DOUBTFUL:
        if code in codes:
            page.look.append(f"the run has {codes[code]} findings '{code}', first: {said(first[code], 160)}")
    own = [
        row for row in page.run.get("ceilings", []) if row.get("backend") == "cuda" and row.get("measures") != "link"
    ]
    unproven = [row for row in own if row.get("proof", {}).get("status") != "proven"]
    if unproven:
        name, reason = unproven[0]["name"], unproven[0].get("proof", {}).get("reason")
        page.look.append(f"{len(unproven)} CUDA ceilings are not proven, first {name}: {reason}")


def main() -> int:
    """Print the page."""
    page = Page(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    for part in (facts, phases, values, ceilings, costs, counters, models, findings, rates):
        try:
            part(page)
        except Exception as error:  # noqa: BLE001 - the rest of the page is worth more
            page.look.append(f"this page's part '{part.__name__}' failed: {type(error).__name__}: {error}")
    print(f"# First run on a GPU ({sys.argv[3] if len(sys.argv) > 3 else ''})\n\n## Look at first\n")
    print("\n".join(f"- {line}" for line in page.look[:MOST]) or "- nothing stands out")
    if len(page.look) > MOST:
        print(f"- and {len(page.look) - MOST} more")
    print("", *page.lines, sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
