"""GPUs by name (gpus.csv), and what an SM of each chip does per clock.

Advertised rates must agree with the product of SMs, FLOP per clock and clock, or the table is refused.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources

from microbench.records.dtypes import DTYPES

# Data sheets round to two or three digits.
_ROUNDING = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Dense FLOP (or OP) per clock and SM of one unit, dtype and accumulator."""

    unit: str
    dtype: str
    flop: float
    accumulator: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES or self.unit not in ("vector", "matrix") or self.flop <= 0:
            raise ValueError(f"{self} is no rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A GPU chip as it is sold: some are cut down by firmware, so that one die gives several rows."""

    name: str
    target: str
    cores_per_sm: int
    tensor_cores_per_sm: int
    rates: tuple[Rate, ...]

    def __post_init__(self) -> None:
        if self.flop_per_clock("vector", "f32", None) != 2 * self.cores_per_sm:
            raise ValueError(f"{self.name}: its f32 rate is not two FLOP a core")

    def flop_per_clock(self, unit: str, dtype: str, accumulator: str | None) -> float | None:
        """Dense FLOP per clock and SM; an accumulator that the table does not tell apart takes the dtype's rate."""
        found = {rate.accumulator: rate.flop for rate in self.rates if (rate.unit, rate.dtype) == (unit, dtype)}
        return found.get(accumulator, found.get(None))


def _vector(f32: float, f64: float | None, f16: float | None, bf16: float | None, i32: float | None) -> Iterator[Rate]:
    for dtype, flop in (("f64", f64), ("f32", f32), ("f16", f16), ("bf16", bf16), ("i32", i32)):
        if flop is not None:
            yield Rate(unit="vector", dtype=dtype, flop=flop)


def _matrix(f16: float, f32_accumulator: float | None = None, **others: float) -> Iterator[Rate]:
    """Matrix rates of a chip, in FLOP or OP per clock and SM.

    ``f16`` is the rate with an f16 accumulator, ``f32_accumulator`` that with an f32 one (the same if omitted), which
    is also bf16's. 8-bit floats, where ``f8`` is set, run at twice the rates of f16.
    """
    wide = f16 if f32_accumulator is None else f32_accumulator
    yield Rate(unit="matrix", dtype="f16", flop=f16, accumulator="f16")
    yield Rate(unit="matrix", dtype="f16", flop=wide, accumulator="f32")
    if others.get("tf32"):
        yield Rate(unit="matrix", dtype="tf32", flop=others["tf32"], accumulator="f32")
        yield Rate(unit="matrix", dtype="bf16", flop=wide, accumulator="f32")
    if others.get("f64"):
        yield Rate(unit="matrix", dtype="f64", flop=others["f64"], accumulator="f64")
    if others.get("f8"):
        for dtype in ("f8e4m3", "f8e5m2"):
            yield Rate(unit="matrix", dtype=dtype, flop=2 * f16, accumulator="f16")
            yield Rate(unit="matrix", dtype=dtype, flop=2 * wide, accumulator="f32")
    if others.get("i8"):
        yield Rate(unit="matrix", dtype="i8", flop=others["i8"], accumulator="i32")
    if others.get("f4"):
        yield Rate(unit="matrix", dtype="f4e2m1", flop=others["f4"], accumulator="f32")


def _chips() -> dict[str, Chip]:
    turing = tuple(_vector(128, 4, 256, None, 128))
    ampere = tuple(_vector(256, 4, 256, 256, 128))
    blackwell = tuple(_vector(256, 4, 256, 256, 256))
    ga100 = tuple(_vector(128, 64, 512, 256, 128))
    gh100 = tuple(_vector(256, 128, 512, 512, 128))
    gh100_export = tuple(_vector(256, 4, 512, 512, 128))
    gh20 = tuple(_vector(256, None, 512, 512, 128))  # one digit is printed of its f64 rate
    gb110 = tuple(_vector(256, 4, 512, 512, 128))
    # Integer multiplications of Pascal are several instructions each, so that no rate of theirs is told.
    gp100 = tuple(_vector(128, 64, 256, None, None))
    gp10x = tuple(_vector(256, 8, 4, None, None))
    rows = (
        ("gp100", "sm_60", 64, 0, gp100),
        ("gp10x", "sm_61", 128, 0, gp10x),
        ("gv100", "sm_70", 64, 8, (*_vector(128, 64, 256, None, 128), *_matrix(1024))),
        ("tu10x", "sm_75", 64, 8, (*turing, *_matrix(1024, 512, i8=2048))),
        ("tu10x_pro", "sm_75", 64, 8, (*turing, *_matrix(1024, i8=2048))),
        ("ga100", "sm_80", 64, 4, (*ga100, *_matrix(2048, tf32=1024, f64=128, i8=4096))),
        ("ga10x", "sm_86", 128, 4, (*ampere, *_matrix(1024, 512, tf32=256, i8=2048))),
        ("ga10x_pro", "sm_86", 128, 4, (*ampere, *_matrix(1024, tf32=512, i8=2048))),
        ("ad10x", "sm_89", 128, 4, (*ampere, *_matrix(1024, 512, tf32=256, i8=2048, f8=1))),
        ("ad10x_dc", "sm_89", 128, 4, (*ampere, *_matrix(1024, 512, tf32=256, i8=1024, f8=1))),
        ("ad10x_pro", "sm_89", 128, 4, (*ampere, *_matrix(1024, tf32=512, i8=2048, f8=1))),
        ("gh20", "sm_90a", 128, 4, (*gh20, *_matrix(1024, tf32=512, i8=2048, f8=1))),
        ("gh100_export", "sm_90a", 128, 4, (*gh100_export, *_matrix(4096, tf32=2048, f64=4, i8=8192, f8=1))),
        ("gh100", "sm_90a", 128, 4, (*gh100, *_matrix(4096, tf32=2048, f64=256, i8=8192, f8=1))),
        ("gb100", "sm_100a", 128, 4, (*gh100, *_matrix(8192, tf32=4096, f64=128, i8=16384, f8=1, f4=32768))),
        ("gb110", "sm_103a", 128, 4, (*gb110, *_matrix(8192, tf32=4096, i8=512, f8=1, f4=49152))),
        ("gb20x", "sm_120a", 128, 4, (*blackwell, *_matrix(1024, 512, tf32=256, i8=2048, f8=1, f4=4096))),
        ("gb20x_pro", "sm_120a", 128, 4, (*blackwell, *_matrix(1024, tf32=512, i8=2048, f8=1, f4=4096))),
        ("gb20b", "sm_121a", 128, 4, (*blackwell, *_matrix(1024, tf32=512, i8=2048, f8=1, f4=4096))),
    )
    return {
        name: Chip(name=name, target=target, cores_per_sm=cores, tensor_cores_per_sm=tensor, rates=rates)
        for name, target, cores, tensor, rates in rows
    }


CHIPS = _chips()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as sold. Advertised rates are the data sheet's, dense; ``None`` where it has none or was not read.

    ``nvlink`` is what all its NVLinks move in both directions (byte/s; 0: it has none, ``None``: not known), ``pcie``
    the generations and lanes that it is sold with; ``also_printed`` are rates that another sheet has by dtype.
    """

    name: str
    aliases: tuple[str, ...]
    chip: Chip
    sms: int
    base_clock_hz: float | None
    boost_clock_hz: float
    matrix_clock_hz: float
    memory_gb: float
    bus_bits: int
    memory_bandwidth: float
    power_limit_w: float
    l2_bytes: int | None
    launched: int
    advertised: dict[tuple[str, str], float]
    source: str
    nvlink: float | None = None
    pcie: tuple[tuple[int, int], ...] = ()
    also_printed: dict[str, float] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        if (
            not 0 < (self.base_clock_hz or 1) <= self.boost_clock_hz
            or not 2000 <= self.launched <= 2100
            or not self.source
        ):
            raise ValueError(f"{self.name}: base clock above boost clock, no year or no source")
        if not all(2 < generation < 8 and lanes in (4, 8, 16) for generation, lanes in self.pcie):
            raise ValueError(f"{self.name}: {self.pcie} is no PCIe")
        # No memory moves more than 32 or less than 1 Gbit/s a pin.
        if not 1e9 < self.memory_bandwidth * 8 / self.bus_bits < 32e9:
            raise ValueError(f"{self.name}: {self.memory_bandwidth:g} byte/s does not fit a bus of {self.bus_bits} bit")
        for (unit, dtype), advertised in self.advertised.items():
            flop = self.chip.flop_per_clock(unit, dtype, "i32" if dtype.startswith("i") else "f32")
            clock = self.clock_hz(unit, dtype)
            if flop is None or abs(self.sms * flop * clock / advertised - 1) > _ROUNDING:
                raise ValueError(
                    f"{self.name}: advertised {unit} {dtype} {advertised:g} is not {self.sms} SMs x {flop} x {clock:g}"
                )

    def clock_hz(self, unit: str, dtype: str) -> float:
        """The clock that the data sheet multiplies with: lower for matrix products, but not for those in f64."""
        return self.matrix_clock_hz if unit == "matrix" and dtype != "f64" else self.boost_clock_hz

    @property
    def cuda_cores(self) -> int:
        """CUDA cores (f32 lanes) of the whole device."""
        return self.sms * self.chip.cores_per_sm

    @property
    def tensor_cores(self) -> int:
        """Tensor cores of the whole device."""
        return self.sms * self.chip.tensor_cores_per_sm


_ADVERTISED = {
    ("vector", "f64"): "advertised_f64_tflops",
    ("vector", "f32"): "advertised_f32_tflops",
    ("matrix", "f16"): "advertised_f16_matrix_tflops",
    ("matrix", "f8e4m3"): "advertised_f8_matrix_tflops",
    ("matrix", "i8"): "advertised_i8_matrix_tops",
}


def table(name: str) -> list[dict[str, str]]:
    """Read a CSV table of this folder; lines that begin with '#' are remarks."""
    text = resources.files("microbench.hardware.tables").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if line and not line.startswith("#")))


def _gpu(row: dict[str, str]) -> Gpu:
    def megahertz(column: str) -> float | None:
        return float(row[column]) * 1e6 if row[column] else None

    boost = float(row["boost_clock_mhz"]) * 1e6
    return Gpu(
        name=row["name"],
        aliases=tuple(alias for alias in row["aliases"].split(";") if alias),
        chip=CHIPS[row["chip"]],
        sms=int(row["sms"]),
        base_clock_hz=megahertz("base_clock_mhz"),
        boost_clock_hz=boost,
        matrix_clock_hz=megahertz("matrix_clock_mhz") or boost,
        memory_gb=float(row["memory_gb"]),
        bus_bits=int(row["bus_bits"]),
        memory_bandwidth=float(row["memory_gb_s"]) * 1e9,
        power_limit_w=float(row["power_limit_w"]),
        l2_bytes=int(float(row["l2_mib"]) * 2**20) if row["l2_mib"] else None,
        launched=int(row["launched"]),
        advertised={key: float(row[column]) * 1e12 for key, column in _ADVERTISED.items() if row[column]},
        source=row["source"],
        nvlink=float(row["nvlink_gb_s"]) * 1e9 if row["nvlink_gb_s"] else None,
        pcie=tuple(
            (int(one), int(other)) for one, _, other in (each.partition("x") for each in row["pcie"].split()) if one
        ),
        also_printed={
            dtype: float(rate) * 1e12 for dtype, _, rate in (each.partition("=") for each in row["also"].split())
        },
        note=row["note"],
    )


def plain(name: str) -> str:
    """Reduce a name to what tells cards apart: no vendor, no brand, no spaces, no MIG slice.

    Examples
    --------
    >>> plain("NVIDIA A100-SXM4-40GB MIG 1g.5gb"), plain("GeForce RTX 4090")
    ('a100sxm440gb', 'rtx4090')
    """
    words = re.findall(r"[a-z0-9]+", name.lower().partition(" mig ")[0])
    return "".join(word for word in words if word not in ("nvidia", "tesla", "geforce", "gpu"))


GPUS = tuple(_gpu(row) for row in table("gpus.csv"))
_BY_SPELLING: dict[str, Gpu] = {}
for _row in GPUS:
    for _spelling in {plain(name) for name in (_row.name, *_row.aliases)}:
        if _BY_SPELLING.setdefault(_spelling, _row) is not _row:
            raise ValueError(f"gpus.csv: {_spelling!r} stands for two GPUs")
# A device that is not in the table is bounded by the fastest chip of its compute target.
_BY_TARGET = {
    chip.target.rstrip("af"): chip
    for chip in sorted(CHIPS.values(), key=lambda chip: chip.flop_per_clock("matrix", "f16", "f32") or 0)
}


def find(name: str) -> Gpu | None:
    """Find a GPU by any of its spellings, those of the driver included; ``None`` if the table has none."""
    return _BY_SPELLING.get(plain(name))


def matching(text: str) -> tuple[Gpu, ...]:
    """Every GPU of which one spelling holds each word of a text; none for a text without words.

    Examples
    --------
    >>> [gpu.name for gpu in matching("h200 nvl")], [gpu.name for gpu in matching("no such card")]
    (['H200 NVL'], [])
    """
    words = [word for word in map(plain, text.split()) if word]
    spellings = ((gpu, [plain(name) for name in (gpu.name, *gpu.aliases)]) for gpu in GPUS)
    return tuple(
        gpu for gpu, known in spellings if words and any(all(word in name for word in words) for name in known)
    )


def chip(name: str, target: str) -> Chip | None:
    """Find the chip of a device by its name, else by its compute target (the fastest chip that has it).

    Examples
    --------
    >>> chip("NVIDIA Unheard Of", "sm_90a").name
    'gh100'
    """
    known = find(name)
    return known.chip if known else _BY_TARGET.get(target.rstrip("af"))
