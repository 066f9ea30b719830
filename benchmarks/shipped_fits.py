"""Make the fits that the package carries, from public tables of measured operators; sources and licences beside them.

Each table's device is fitted alone, then beside all others; each keeps how far the others' fits were off on it. The
files are small enough to travel with the package: at most 400 rows of a family are interpolated from.

    python benchmarks/shipped_fits.py --data DIR [--out microbench/predict/shipped]
"""

from __future__ import annotations

import argparse
import gzip
import sys
from dataclasses import replace
from pathlib import Path

from public_fits import beside_each_other, fitted, key_of, with_errors
from public_tables import Rows, ceilings, tables
from threadpoolctl import threadpool_limits

from microbench.predict.figures import DeviceFigures, datasheet_figures
from microbench.predict.pool import KIN
from microbench.predict.transfer import families_of
from microbench.records import Characterisation, Finding, Fits
from microbench.storage.store import dumps, slug

OUT = Path(__file__).parents[1] / "microbench" / "predict" / "shipped"


def kin_of(rows: Rows) -> frozenset[str]:
    """Families that share one physics."""
    return frozenset(KIN.get(family, family) for family, _, _ in families_of(rows.table))


def made(sets: list[Rows]) -> dict[str, Characterisation]:
    """Fits of all sets, by key: alone, beside each other, and with the errors of the others."""
    figures: dict[tuple[str, str], DeviceFigures] = {}
    for rows in sets:
        figures[key_of(rows), "measured"] = ceilings(sets, rows)
        figures[key_of(rows), "nominal"] = datasheet_figures(rows.device)
    found: dict[str, Characterisation] = {}
    for kin in sorted({kin_of(rows) for rows in sets}, key=sorted):
        alike = [rows for rows in sets if kin_of(rows) == kin]
        alone = {key_of(rows): fitted(rows, figures) for rows in alike}
        found |= with_errors(alike, beside_each_other(alike, alone, figures), figures)
        sys.stderr.write(f"{', '.join(sorted(kin))}: {len(alike)} sets\n")
    return found


def joined(sets: list[Rows], fits: dict[str, Characterisation], source: str) -> Characterisation:
    """Fits of one device from one table as one file."""
    held = [fits[key_of(rows)] for rows in sets]
    operators = tuple(fit for each in held for fit in each.fits.operators)
    origin = Finding(code="source", severity="info", says=source)
    return replace(held[0], fits=Fits(operators=operators), findings=(origin,))


def sources(data: Path) -> dict[str, str]:
    """What the tables say of their source, by kind."""
    found = {}
    for path in sorted(data.glob("*.csv")):
        with path.open(encoding="utf-8") as file:
            first = file.readline()
        kind = next(kind for kind in ("gemm", "llm_layers", "linear", "bmm", "vector", "conv", "attention")
                    if path.name.startswith(kind))  # fmt: skip
        found[kind] = first.removeprefix("# ").removeprefix("source: ").strip()
    return found


def main() -> None:
    """Write all files anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the public tables")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    sets = tables(options.data)
    with threadpool_limits(limits=1, user_api="blas"):
        fits = made(sets)
    options.out.mkdir(parents=True, exist_ok=True)
    for old in options.out.glob("*.json.gz"):
        old.unlink()
    said = sources(options.data)
    lines = [
        "# Where the shipped fits come from",
        "",
        "Made by `python benchmarks/shipped_fits.py --data DIR` from public tables of measured operators: they are",
        "derived from the facts in those tables, and hold no text or code of them.",
        "",
        "| file | device | families | source and licence |",
        "| --- | --- | --- | --- |",
    ]
    groups: dict[tuple[str, str, str], list[Rows]] = {}
    for rows in sets:
        groups.setdefault((rows.device, rows.kind, rows.dtype), []).append(rows)
    for (device, kind, dtype), members in sorted(groups.items()):
        name = f"{slug(fits[key_of(members[0])].device)}-{kind.replace('_', '-')}-{dtype}.json.gz"
        whole = joined(members, fits, f"from a public table: {said[kind]}.")
        # Without a time in the header the same fits are the same file.
        (options.out / name).write_bytes(gzip.compress(dumps(whole), mtime=0))
        families = ", ".join(fit.family for fit in whole.fits.operators)
        lines.append(f"| {name} | {device} | {families} ({dtype}) | {said[kind]} |")
    (options.out / "SOURCES.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
