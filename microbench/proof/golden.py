"""The golden table: what every shipped kernel's loop is made of, and the hash of every cubin that was examined.

``proof/sass.csv`` and ``proof/cubins.csv`` change only in a reviewed commit; ``python .ci/golden.py sass`` writes them,
as ``python -m microbench.proof.golden FOLDER`` does from a folder of ``<family>.<target>.cubin``; without a folder that
prints the table. At run time a
cubin whose hash is listed is proven without a disassembler.
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
import tempfile
from dataclasses import replace
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path

from microbench.errors import CannotRun
from microbench.kernels.cuda import cubin as elf
from microbench.kernels.cuda.rows import FAMILIES, ROWS, CudaRow, rows_for
from microbench.proof import cuda, sass, schedule
from microbench.proof.architecture import nearest
from microbench.records import Proof

ELF = b"\x7fELF"
COLUMNS = (
    "target",
    "family",
    "symbol",
    "loop",
    "nops",
    "math",
    "flop",
    "loads",
    "stores",
    "chains",
    "registers",
    "stack",
    "hash",
    "reuse",
    "conflicts",
    "distance",
    "flight",
    "least",
    "most",
    "opcodes",
)


def line(row: CudaRow, found: cuda.Examined) -> dict[str, str]:
    """One kernel's entry of the golden table."""
    return {
        "target": found.target,
        "family": row.family,
        "symbol": row.symbol,
        "loop": str(found.loop),
        "nops": str(found.nops),
        "math": str(found.math),
        "flop": str(found.flop),
        "loads": str(found.loads),
        "stores": str(found.stores),
        "chains": str(found.stored_chains),
        "registers": str(found.resources.registers),
        "stack": str(found.resources.stack_bytes),
        "hash": found.hash,
        **scheduled(row, found),
        "opcodes": " ".join(f"{opcode}*{count}" for opcode, count in found.opcodes.items()),
    }


def scheduled(row: CudaRow, found: cuda.Examined) -> dict[str, str]:
    """How a loop is scheduled, as the table has it.

    ``least`` and ``most`` are the share of the pipe's rate that the schedule allows, empty where a row is no peak.
    """
    seen = found.schedule
    least, most = seen.allows(cuda.warps(row, found))
    peak = row.measures == "compute"
    return {
        "reuse": str(seen.reuse),
        "conflicts": str(seen.conflicts),
        "distance": str(seen.distance or ""),
        "flight": str(seen.flight),
        "least": f"{least:.3f}" if peak else "",
        "most": f"{most:.3f}" if peak else "",
    }


@cache
def table() -> dict[tuple[str, str], dict[str, str]]:
    """The golden table by target and symbol."""
    text = (files("microbench.proof") / "sass.csv").read_text()
    return {(entry["target"], entry["symbol"]): entry for entry in csv.DictReader(io.StringIO(text))}


@cache
def hashes() -> dict[str, tuple[str, str]]:
    """Family and target of every examined cubin by the SHA-256 of its bytes."""
    text = (files("microbench.proof") / "cubins.csv").read_text()
    return {entry["sha256"]: (entry["family"], entry["target"]) for entry in csv.DictReader(io.StringIO(text))}


def proof(row: CudaRow, target: str, cubin: bytes, source: str) -> Proof:
    """Whether these bytes hold the loop that the row describes.

    Parameters
    ----------
    row, target
        The kernel, and what it was compiled for.
    cubin
        The very bytes that are loaded.
    source
        Where they came from, for the reader of the result ("shipped cubin", "NVRTC 13.0").
    """
    expected = {"math": row.math_count, "loads": row.loads, "stores": row.stores}
    digest = hashlib.sha256(cubin).hexdigest()
    if hashes().get(digest) == (row.family, target):
        entry = table().get((target, row.symbol), {})
        found = {name: int(entry[name]) for name in expected if entry}
        proven = Proof(status="proven", source=source, hash=digest, tool="golden table", expected=expected, found=found)
        return judged(row, entry, proven) if entry else proven
    if not cubin.startswith(ELF):
        return Proof(
            status="unproven",
            source=source,
            hash=digest,
            reason="the driver made the machine code from PTX and keeps it",
        )
    if row.limiter == "none":
        return Proof(status="unproven", source=source, hash=digest, reason="a kernel without a measured loop")
    try:
        functions, resources = _disassembled(cubin)
    except CannotRun as refused:
        return Proof(status="unproven", source=source, hash=digest, expected=expected, reason=str(refused))
    function = functions.get(row.symbol)
    seen = cuda.examine(function, nearest(target), row, resources[row.symbol]) if function else None
    says = cuda.complaints(row, seen)
    counted = {name: int(getattr(seen, name)) for name in expected} if seen else {}
    examined = Proof(
        status="failed" if says else "proven",
        source=source,
        hash=digest,
        tool="nvdisasm",
        expected=expected,
        found=counted,
        reason="; ".join(says) or None,
    )
    return judged(row, line(row, seen), examined) if seen and not says else examined


def judged(row: CudaRow, entry: dict[str, str], proven: Proof) -> Proof:
    """A proof of the counts, with what an entry of the table says of the schedule.

    A peak whose schedule does not allow its ceiling, or a stream with fewer accesses in flight than claimed, is
    unproven, and says so.
    """
    flight = int(entry["flight"])
    if row.measures != "compute":
        says = f"{flight} accesses in flight a thread" if row.in_flight else None
        short = f"the sheet says {row.in_flight} accesses in flight, the code issues {flight}"
        proof = replace(proven, schedule=says)
        return replace(proof, status="unproven", reason=short) if flight < row.in_flight else proof
    least, most = (round(100 * float(entry[name])) for name in ("least", "most"))
    share = f"{most}" if least == most else f"{least} to {most}"
    parts = [f"the schedule allows {share} % of the unit's rate"]
    if row.math in schedule.SCALAR:
        kept = round(100 * int(entry["reuse"]) / int(entry["math"]))
        parts.append(f"{kept} % of multiply-adds keep a source, {entry['conflicts']} wait for a register bank")
    if entry["distance"]:
        later = "1 instruction" if entry["distance"] == "1" else f"{entry['distance']} instructions"
        parts.append(f"results are used {later} later")
    proof = replace(proven, schedule=", ".join(parts))
    if float(entry["most"]) >= schedule.ENOUGH:
        return proof
    return replace(proof, status="unproven", reason="the counts are right, but the schedule does not allow the ceiling")


@lru_cache(maxsize=16)
def _disassembled(cubin: bytes) -> tuple[dict[str, sass.Function], dict[str, elf.Resources]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.cubin"
        path.write_bytes(cubin)
        return sass.disassemble(path), elf.resources(cubin)


def examine_folder(folder: Path) -> list[tuple[CudaRow, cuda.Examined | None]]:
    """Every row with a loop, as found in the cubins of a folder."""
    seen = []
    for family, targets in FAMILIES.items():
        for target in targets:
            rows = tuple(row for row in rows_for(target) if row.family == family and row.limiter != "none")
            found = cuda.examine_all(folder / f"{family}.{target}.cubin", target, rows)
            seen += [(row, found[row.symbol]) for row in rows]
    return seen


def main(folder: Path, data: Path = Path(__file__).parent) -> int:
    """Write both tables from the cubins of a folder; refuses to while any of them differs from its row."""
    seen = examine_folder(folder)
    says = [sentence for row, found in seen for sentence in cuda.complaints(row, found)]
    says += [sentence for row, found in seen if found for sentence in cuda.limited_as_claimed(row, found)]
    for sentence in says:
        sys.stderr.write(sentence + "\n")
    if says:
        return 1
    with (data / "sass.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(line(row, found) for row, found in seen if found)
    with (data / "cubins.csv").open("w", newline="") as out:
        out.write("family,target,sha256\n")
        for family, targets in FAMILIES.items():
            for target in targets:
                digest = hashlib.sha256((folder / f"{family}.{target}.cubin").read_bytes()).hexdigest()
                out.write(f"{family},{target},{digest}\n")
    return 0


def printed() -> str:
    """The golden table for a person: one kernel and target a line."""
    shown = ("target", "symbol", "loop", "math", "loads", "stores", "chains", "registers", "opcodes")
    lines = [[entry[name] for name in shown] for entry in table().values()]
    widths = [max(len(line[column]) for line in [list(shown), *lines]) for column in range(len(shown) - 1)]
    return "\n".join(
        "  ".join([*(word.ljust(width) for word, width in zip(line, widths, strict=False)), line[-1]])
        for line in [list(shown), *lines]
    )


def schedules() -> list[str]:
    """How every peak loop is scheduled, as lines of Markdown for the documentation."""
    names = {(row.family, row.symbol): row.name for row in ROWS if row.measures == "compute"}
    lines = ["| target | kernel | keep a source | wait for a bank | distance | other slots | allows |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for entry in table().values():
        if not entry["most"]:
            continue
        math, slots = int(entry["math"]), int(entry["loop"])
        scalar = entry["family"] == "plain"
        kept = f"{100 * int(entry['reuse']) / math:.0f} %" if scalar else ""
        least, most = (f"{100 * float(entry[name]):.0f}" for name in ("least", "most"))
        cells = [
            entry["target"],
            f"`{names[entry['family'], entry['symbol']]}`",
            kept,
            entry["conflicts"] if scalar else "",
            entry["distance"],
            f"{100 * (slots - math) / slots:.1f} %",
            f"{most} %" if least == most else f"{least} to {most} %",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1])))
    sys.stdout.write(printed() + "\n")
