"""What a device could do by arithmetic: units x width x clock x FLOP per cycle, each term from a table with its source.

Nominal is never what is printed on a box (that is advertised) nor what was measured (that is a ceiling). It bounds both
from above: a ceiling above nominal at the clock seen is a mistake until explained.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from microbench.errors import UsageError
from microbench.hardware.chips import revealed
from microbench.hardware.nominal_rates import Nominal, NominalDevice
from microbench.hardware.tables import gpus
from microbench.hardware.tables.ports import PORTS, Ports
from microbench.records import Device, Sheet, Topology
from microbench.records.units import digits, prefixed

_WIDTH_BITS = {"scalar": 0, "v128": 128, "v256": 256, "v512": 512}


def ports_of(device: Device) -> Ports | None:
    """Return the row of the port table for a CPU; ``None`` where its microarchitecture is not in the table.

    Examples
    --------
    >>> ports_of(Device(id="1", kind="cpu", name="x", arch="zen4")).per_cycle["fma.v512"]
    1
    """
    return PORTS.get(revealed(device.arch, device.features))


def per_cycle(sheet: Sheet, device: Device) -> float | None:
    """FLOP (compute) or bytes (memory) that one core or SM can do per cycle of a sheet's loop; ``None`` if unknown.

    A compute loop is bound by its multiply-adds, and where it multiplies and adds beside them, by the pipes of either
    kind and by all of them. A memory loop is bound by its loads or its stores, whichever take longer.
    """
    if device.kind == "cuda":
        return _per_cycle_cuda(sheet, device)
    row = ports_of(device)
    if row is None or sheet.ports is None:
        return None
    cycles = 0.0
    for word, instructions in _started(sheet, sheet.ports).items():
        count = row.per_cycle.get(word)
        if instructions and not count:
            return None
        cycles = max(cycles, instructions / count if count else 0)
    work = _work_of_one(sheet) if sheet.measures == "compute" else sheet.work.bytes
    return work / cycles if cycles else None


def _started(sheet: Sheet, ports: str) -> dict[str, float]:
    """Words of the port table, and how many instructions of one iteration each of them bounds."""
    width = ports.partition(".")[2]
    if sheet.measures != "compute":
        return {f"load.{width}": sheet.loads, f"store.{width}": sheet.stores}
    multiplied, added = sheet.beside.get("mul", 0), sheet.beside.get("add", 0)
    # A multiplication takes the port of a multiply-add. A sheet without counts stands for one instruction.
    started: dict[str, float] = {ports: sheet.math + multiplied or 1}
    if multiplied or added:
        started |= {f"add.{width}": added, f"arith.{width}": sheet.math + multiplied + added}
    return started


def _work_of_one(sheet: Sheet) -> float:
    """FLOP of the instructions of one iteration, or of one instruction where the sheet has no counts."""
    beside = sheet.beside.get("mul", 0) + sheet.beside.get("add", 0)
    return sheet.lanes * (sheet.flop_per_lane * (sheet.math or (0 if beside else 1)) + beside)


def nominal_rate(sheet: Sheet, device: Device, *, clock_hz: float, threads: int) -> float | None:
    """FLOP/s, OP/s or byte/s that the ports allow at a clock.

    ``None`` where the port table has no row for the chip or no count for the loop's instructions.

    Parameters
    ----------
    sheet
        The kernel.
    device
        Where it runs; on a CUDA device all SMs take part.
    clock_hz
        The clock seen while it ran.
    threads
        CPU threads, one a core.
    """
    each = per_cycle(sheet, device)
    if each is None:
        return None
    return each * clock_hz * (device.units_by_kind.get("sm", 1) if device.kind == "cuda" else threads)


def _per_cycle_cuda(sheet: Sheet, device: Device) -> float | None:
    chip = gpus.chip(device.name, device.arch)
    if chip is None or sheet.measures != "compute" or sheet.dtype is None or sheet.unit is None:
        return None
    # A lane of a multiprocessor runs scalar code; the table counts all lanes together, as a vector.
    unit = "vector" if sheet.unit == "scalar" else sheet.unit
    return chip.flop_per_clock(unit, sheet.dtype, sheet.accumulator)


def whole_gpu(device: Device) -> gpus.Gpu | None:
    """The table's row for a GPU; ``None`` for a CPU, an unknown card, and a MIG slice, whose figures are its own."""
    row = gpus.find(device.name) if device.kind == "cuda" else None
    return row if row is not None and device.units_by_kind.get("sm") == row.sms else None


def bus_rate(device: Device, level: str | None) -> float | None:
    """Bytes per second that a GPU's memory bus moves, width x pin rate; ``None`` for other levels and slices of a card.

    The table's row comes first, then what the driver reports of a card that the table lacks.
    """
    if level != "DRAM" or device.kind != "cuda":
        return None
    if gpus.find(device.name):
        return _table_bus_rate(device)
    dram = device.level("DRAM")
    return dram.bus_rate if dram else None


def _table_bus_rate(device: Device) -> float | None:
    row = whole_gpu(device)
    return row.memory_bandwidth if row else None


def advertised_rate(device: Device, sheet: Sheet, level: str | None) -> float | None:
    """The data sheet's figure for what a kernel measures: dense FLOP/s, or byte/s; ``None`` where it prints none."""
    row = whole_gpu(device)
    if row is None or sheet.measures != "compute":
        return _table_bus_rate(device) if level == "DRAM" else None
    kind = "matrix" if sheet.unit == "matrix" else "vector"
    return row.advertised.get((kind, sheet.dtype or ""))


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return (
        f"{', '.join(listed[:6])} and {len(listed) - 6} more, of which a part of a name such as RTX lists those like it"
    )


def named(name: str) -> NominalDevice:
    """Compute the nominal rates of a GPU by its name.

    Raises
    ------
    UsageError
        If the table has no such GPU; the sentence lists close ones.

    Examples
    --------
    >>> next(row.formula for row in named("A100").rows if row.name == "vector f64")
    '108 SMs x 32 lanes x 1.410 GHz x 2 FLOP'
    """
    row = gpus.find(name)
    if row is None:
        # Compare without vendor words, or every card looks like every other.
        known = {gpus.plain(spelling): each.name for each in gpus.GPUS for spelling in (each.name, *each.aliases)}
        close = list(
            dict.fromkeys(known[match] for match in difflib.get_close_matches(gpus.plain(name), known, n=6, cutoff=0.5))
        )
        matches = [each.name for each in gpus.matching(name)]
        hint = f"close: {', '.join(close)}" if close else f"known: {_some(each.name for each in gpus.GPUS)}"
        hint = f"it could be {', '.join(matches)}" if matches else hint
        raise UsageError(f"no GPU named {name[:60]!r} is in the table; {hint}")
    return _gpu(row)


def _gpu(row: gpus.Gpu) -> NominalDevice:
    rows = []
    for rate in row.chip.rates:
        clock = row.clock_hz(rate.unit, rate.dtype)
        units = (
            f"{row.chip.tensor_cores_per_sm} tensor cores"
            if rate.unit == "matrix"
            else f"{digits(rate.flop / 2, 1)} lanes"
        )
        each = rate.flop / row.chip.tensor_cores_per_sm if rate.unit == "matrix" else 2
        kind = "OP" if rate.dtype.startswith("i") else "FLOP"
        accumulator = f" ({rate.accumulator} accumulator)" if rate.accumulator else ""
        rows.append(
            Nominal(
                name=f"{rate.unit} {rate.dtype}{accumulator}",
                rate=row.sms * rate.flop * clock,
                unit=f"{kind}/s",
                per_cycle=row.sms * rate.flop,
                formula=f"{row.sms} SMs x {units} x {prefixed(clock, 'Hz')} x {each:.0f} {kind}",
                source=row.source,
            )
        )
    transfers = row.memory_bandwidth * 8 / row.bus_bits
    formula = f"{row.bus_bits} bit x {transfers / 1e9:.3f} GT/s / 8"
    rows.append(
        Nominal(
            name="memory",
            rate=row.memory_bandwidth,
            unit="byte/s",
            per_cycle=row.bus_bits / 8,
            formula=formula,
            source=row.source,
        )
    )
    return NominalDevice(name=row.name, facts=_gpu_facts(row), rows=tuple(rows), notes=(row.note,) if row.note else ())


def _gpu_facts(row: gpus.Gpu) -> dict[str, str]:
    facts = {
        "compute target": row.chip.target,
        "SMs": str(row.sms),
        "CUDA cores": str(row.cuda_cores),
        "tensor cores": str(row.tensor_cores),
        "base clock": prefixed(row.base_clock_hz, "Hz") if row.base_clock_hz else "unknown",
        "boost clock": prefixed(row.boost_clock_hz, "Hz"),
        "memory": f"{row.memory_gb:g} GB",
        "bus width": f"{row.bus_bits} bit",
        "memory bandwidth": prefixed(row.memory_bandwidth, "B/s"),
        "power limit": f"{row.power_limit_w:g} W",
        "launched": str(row.launched),
    }
    if row.matrix_clock_hz != row.boost_clock_hz:
        facts["clock of the data sheet's matrix rates"] = prefixed(row.matrix_clock_hz, "Hz")
    return facts


# What one instruction does, by its word: dtype, lanes of 512 bits, FLOP or OP per lane, and the flag it needs beside
# its width's.
_WORK: dict[str, tuple[tuple[str, int, int, str | None], ...]] = {
    "fma": (("f64", 8, 2, None), ("f32", 16, 2, None), ("f16", 32, 2, "avx512_fp16")),
    "dot_bf16": (("bf16", 16, 4, "avx512_bf16"),),
    "dot_i8": (("i8", 16, 8, None),),
    "madd_i8": (("i8", 16, 8, None),),
    "mmla_bf16": (("bf16", 16, 8, "bf16"),),
    "mmla_i8": (("i8", 16, 16, "i8mm"),),
    # 16 x 16 sums of 64 or 32 products
    "tile": (("i8", 256, 128, "amx_int8"), ("bf16", 256, 64, "amx_bf16")),
}
_WIDTH_NEEDS = {"v512": "avx512f", "v256": "avx2"}
_MATRIX = ("tile", "mmla_bf16", "mmla_i8")


def described(device: Device) -> NominalDevice:
    """Compute the nominal rates of a device that was probed: a CPU through the port table, a GPU through the GPU table.

    A clock that is unknown leaves the rate ``None``; the product per cycle is given all the same.

    Raises
    ------
    UsageError
        If a GPU is not in the table.
    """
    if device.kind == "cuda":
        return named(device.name)
    if device.topology is not None and len(device.topology.cores) > 1:
        return _of_each_kind(device, device.topology)
    row = ports_of(device)
    clock = device.boost_clock_hz or device.base_clock_hz
    cores = device.units_by_kind.get("core", 1)
    facts = {
        "microarchitecture": device.arch,
        "cores": str(cores),
        "clock": prefixed(clock, "Hz") if clock else "unknown",
    }
    if row is None:
        note = (
            f"{device.arch} is not in the port table: no nominal rate is known, and ceilings stand without a share of "
            "nominal"
        )
        return NominalDevice(name=device.name, facts=facts, notes=(note,))
    rows = tuple(_cpu_rows(row, device, cores, clock))
    notes = [row.note] if row.note else []
    if row.arch != device.arch:
        notes.append(
            f"this machine calls itself {device.arch}, but has instruction sets that only {row.arch} or newer has"
        )
    if clock is None:
        notes.append("the system does not tell the clock: 'microbench run' measures it for every instruction set")
    return NominalDevice(name=device.name, facts=facts, rows=rows, notes=tuple(notes))


def _of_each_kind(device: Device, topology: Topology) -> NominalDevice:
    """The rates of a machine with several kinds of core, each kind for itself: one loop waits for the slow ones."""
    facts: dict[str, str] = {}
    rows: list[Nominal] = []
    notes: dict[str, None] = {}
    for core in topology.cores:
        own = [cpu for cpu in topology.usable() if cpu.kind == core.kind]
        cores = {cpu.number if cpu.core is None else cpu.core for cpu in own}
        alone = replace(
            device,
            arch=core.arch or device.arch,
            units_by_kind={"core": len(cores)},
            base_clock_hz=core.base_clock_hz,
            boost_clock_hz=core.boost_clock_hz,
            topology=None,
        )
        told = described(alone)
        facts |= {f"{core.kind}: {name}": value for name, value in told.facts.items()}
        rows += [replace(row, name=f"{row.name}, {core.kind} cores") for row in told.rows]
        notes |= dict.fromkeys(told.notes)
    return NominalDevice(name=device.name, facts=facts, rows=tuple(rows), notes=tuple(notes))


def _cpu_rows(row: Ports, device: Device, cores: int, clock: float | None) -> list[Nominal]:
    found = []
    for word, count in row.per_cycle.items():
        kind, _, width = word.partition(".")
        if width not in (*_WIDTH_BITS, "amx") or (kind == "madd_i8" and f"dot_i8.{width}" in row.per_cycle):
            continue  # the length of SVE's vectors is the machine's
        for dtype, wide_lanes, flop, need in _WORK.get(kind, ()):
            if not _offers(device, need, _WIDTH_NEEDS.get(width)):
                continue
            lanes = wide_lanes if kind == "tile" else max(1, wide_lanes * _WIDTH_BITS[width] // 512)
            width_words = "" if kind == "tile" else " scalar" if width == "scalar" else f" {_WIDTH_BITS[width]} bit"
            unit = "matrix" if kind in _MATRIX else "vector"
            name = "scalar" if width == "scalar" else f"{unit}{width_words if kind != 'tile' else ''}"
            counted = f"{count:g} instructions" if count >= 1 else f"1/{1 / count:g} instruction"
            terms = (f"{counted} x {lanes} lanes", lanes * count * flop, f" x {flop}")
            found.append(_cpu_row(f"{name} {dtype}", dtype, terms, (row, cores, clock)))
    return found + list(_mixed_rows(row, device, cores, clock))


def _mixed_rows(row: Ports, device: Device, cores: int, clock: float | None) -> Iterator[Nominal]:
    """Multiply-adds and additions together, and the two apart where there are no multiply-adds."""
    for width in ("v128", "v256", "v512"):
        told = {kind: row.per_cycle.get(f"{kind}.{width}") for kind in ("fma", "mul", "add", "arith")}
        first = told["fma"] or told["mul"]
        if not (first and told["add"] and told["arith"]) or not _offers(device, _WIDTH_NEEDS.get(width)):
            continue
        added = min(told["add"], told["arith"] - first)
        if added <= 0:
            continue
        word, flop = ("FMA", 2) if told["fma"] else ("MUL", 1)
        for dtype, wide_lanes, _, _ in _WORK["fma"][:2]:
            lanes = wide_lanes * _WIDTH_BITS[width] // 512
            counted = f"({first:g} {word} x {flop} + {added:g} ADD) x {lanes} lanes"
            terms = (counted, lanes * (first * flop + added), "")
            name = f"vector {_WIDTH_BITS[width]} bit {dtype} {word} + ADD"
            yield _cpu_row(name, dtype, terms, (row, cores, clock))


def _cpu_row(name: str, dtype: str, terms: tuple[str, float, str], of: tuple[Ports, int, float | None]) -> Nominal:
    """One rate of all cores: what is counted, FLOP of it a cycle and core, and what the formula ends with."""
    counted, each, last = terms
    row, cores, clock = of
    ops = "OP" if dtype.startswith("i") else "FLOP"
    at = prefixed(clock, "Hz") if clock else "clock"
    return Nominal(
        name=name,
        rate=cores * each * clock if clock else None,
        unit=f"{ops}/s",
        per_cycle=cores * each,
        formula=f"{cores} cores x {counted} x {at}{last} {ops}",
        source=row.source,
    )


def _offers(device: Device, *flags: str | None) -> bool:
    """Whether a device that tells its flags has those; one that tells none (a name in a table) is taken to."""
    told = {"sse2", "asimd"} & set(device.features)
    arm = "asimd" in device.features
    return not told or all(flag in device.features for flag in flags if flag and flag.startswith(("avx", "amx")) != arm)
