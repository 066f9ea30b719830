"""What bounds a loop, what a hypervisor hides, and how the nominal rates of a processor are written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from microbench.hardware.chips import revealed
from microbench.hardware.nominal import (
    advertised_rate,
    bus_rate,
    described,
    named,
    nominal_rate,
    per_cycle,
    ports_of,
)
from microbench.hardware.tables import gpus
from microbench.records import Device, MemoryLevel, Sheet, Work

CPU = Device(id="1", kind="cpu", name="CPU", arch="zen3", units_by_kind={"core": 4})
GPU = Device(id="1", kind="cuda", name="NVIDIA H100 80GB HBM3", arch="sm_90a", units_by_kind={"sm": 132})
PRODUCT = Sheet(
    name="wgmma.bf16.f32",
    measures="compute",
    backend="cuda",
    device_kind="cuda",
    says="",
    dtype="bf16",
    accumulator="f32",
    unit="matrix",
)


@pytest.mark.parametrize(
    ("arch", "features", "found"),
    [
        ("icelake", ("avx512f",), "icelake"),
        ("icelake", ("avx512_fp16",), "sapphirerapids"),
        ("skylake_avx512", ("amx_tile", "amx_fp16"), "graniterapids"),
        ("sapphirerapids", ("amx_tile",), "sapphirerapids"),
        ("sapphirerapids", ("amx_tile", "amx_fp16"), "graniterapids"),
        ("zen4", ("amx_fp16", "avx512_fp16"), "zen4"),
    ],
)
def test_an_instruction_set_that_the_older_model_never_had_reveals_the_newer(
    arch: str, features: tuple[str, ...], found: str
) -> None:
    assert revealed(arch, features) == found
    row = ports_of(replace(CPU, arch=arch, features=features))
    assert row is not None
    assert row.arch == found


def memory(loads: int, stores: int, width: str = "v256") -> Sheet:
    work = Work(bytes_read=32 * loads, bytes_written=32 * stores)
    known: dict[str, Any] = {"measures": "memory", "backend": "native", "device_kind": "cpu", "says": ""}
    return Sheet(name="copy.x", ports=f"copy.{width}", loads=loads, stores=stores, work=work, **known)


@pytest.mark.parametrize(
    ("loads", "stores", "bytes_per_cycle"),
    [(20, 0, 64), (0, 20, 32), (10, 10, 64), (20, 10, 96), (40, 10, 80)],
)
def test_two_loads_and_one_store_a_cycle_bound_what_is_moved(loads: int, stores: int, bytes_per_cycle: float) -> None:
    assert per_cycle(memory(loads, stores), CPU) == bytes_per_cycle


def test_a_loop_that_the_port_table_cannot_count_has_no_bound() -> None:
    assert per_cycle(memory(1, 0, "v1024"), CPU) is None
    assert per_cycle(memory(0, 0), CPU) is None
    assert per_cycle(replace(memory(1, 0), ports=None), CPU) is None
    assert per_cycle(memory(1, 0), replace(CPU, arch="unknown")) is None
    assert nominal_rate(memory(1, 0, "v1024"), CPU, clock_hz=1e9, threads=1) is None
    # A width that can be stored and not be loaded, or not at all, matters only to a loop that needs it.
    assert per_cycle(memory(0, 1), CPU) == 32


def test_a_gpu_is_bounded_by_its_multiprocessors_whatever_the_threads() -> None:
    rate = nominal_rate(PRODUCT, GPU, clock_hz=1.83e9, threads=7)
    assert rate == pytest.approx(989.4e12, rel=1e-3)
    assert nominal_rate(PRODUCT, replace(GPU, units_by_kind={}), clock_hz=1.83e9, threads=7) == pytest.approx(
        rate / 132
    )


def test_a_lane_of_a_multiprocessor_counts_as_a_vector() -> None:
    lanes = replace(PRODUCT, name="fma.f32", dtype="f32", accumulator=None, unit="scalar")
    assert per_cycle(lanes, GPU) == per_cycle(replace(lanes, unit="vector"), GPU) == 256


@pytest.mark.parametrize("unknown", [{"dtype": None}, {"unit": None}, {"dtype": "f4e2m1"}])
def test_a_kernel_of_a_gpu_that_the_table_cannot_count_has_no_bound(unknown: dict[str, Any]) -> None:
    assert per_cycle(replace(PRODUCT, **unknown), GPU) is None
    assert per_cycle(PRODUCT, replace(GPU, name="Nobody's GPU", arch="sm_999")) is None
    read = Sheet(
        name="read.f32", measures="memory", backend="cuda", device_kind="cuda", says="", dtype="f32", unit="vector"
    )
    assert per_cycle(read, GPU) is None


def test_the_bus_bounds_main_memory_of_a_gpu_and_nothing_else() -> None:
    told = MemoryLevel(name="DRAM", bus_rate=1e12)
    assert bus_rate(GPU, "DRAM") == pytest.approx(3.352e12, rel=1e-3)
    assert bus_rate(GPU, "L2") is None
    assert bus_rate(replace(GPU, kind="cpu"), "DRAM") is None
    assert bus_rate(replace(GPU, name="Nobody's GPU"), "DRAM") is None
    assert bus_rate(replace(GPU, name="Nobody's GPU", levels=(told,)), "DRAM") == 1e12


def test_a_data_sheet_is_quoted_for_the_whole_card_alone() -> None:
    printed = replace(PRODUCT, dtype="f16")
    assert advertised_rate(GPU, printed, None) == pytest.approx(989e12, rel=0.01)
    vector = replace(PRODUCT, name="fma.f32", dtype="f32", unit="scalar")
    assert advertised_rate(GPU, vector, None) == pytest.approx(67e12, rel=0.01)
    stream = Sheet(name="read.f32", measures="memory", backend="cuda", device_kind="cuda", says="")
    assert advertised_rate(GPU, stream, "DRAM") == bus_rate(GPU, "DRAM")
    assert advertised_rate(GPU, stream, "L2") is None
    part = replace(GPU, units_by_kind={"sm": 16})
    assert (advertised_rate(part, printed, None), advertised_rate(part, stream, "DRAM")) == (None, None)
    # A processor that calls itself like a card is none.
    assert advertised_rate(replace(GPU, kind="cpu"), printed, None) is None


def rows(device: Device) -> dict[str, tuple[float | None, float, str]]:
    return {row.name: (row.rate, row.per_cycle, row.formula) for row in described(device).rows}


def test_rates_of_a_processor_are_cores_times_instructions_times_lanes_times_clock() -> None:
    zen3 = replace(CPU, features=("sse2", "avx2"), base_clock_hz=2e9, boost_clock_hz=3e9)
    found = rows(zen3)
    assert found["vector 256 bit f32"] == (
        4 * 2 * 8 * 3e9 * 2,
        4 * 2 * 8 * 2,
        "4 cores x 2 instructions x 8 lanes x 3.000 GHz x 2 FLOP",
    )
    assert found["vector 256 bit f64"][1] == 4 * 2 * 4 * 2
    assert (found["vector 128 bit f32"][1], found["vector 128 bit f64"][1]) == (4 * 2 * 4 * 2, 4 * 2 * 2 * 2)
    assert found["scalar f32"][1] == found["scalar f64"][1] == 4 * 2 * 2
    assert not [name for name in found if "512" in name or "f16" in name]
    assert rows(replace(zen3, boost_clock_hz=None))["scalar f32"][0] == 4 * 2 * 2e9 * 2
    assert described(zen3).facts == {"microarchitecture": "zen3", "cores": "4", "clock": "3.000 GHz"}


def test_instruction_sets_that_the_system_hides_are_not_counted() -> None:
    names = set(rows(replace(CPU, features=("sse2",))))
    assert not [name for name in names if "256" in name]
    assert "scalar f32" in names
    server = ("sse2", "avx2", "avx512f", "avx512_fp16", "amx_tile", "amx_int8")
    wide = rows(replace(CPU, arch="sapphirerapids", features=server))
    assert {"vector 512 bit f16", "matrix i8"} <= wide.keys()
    assert "matrix bf16" not in wide
    assert "vector 512 bit bf16" not in wide
    assert wide["matrix i8"][2] == "4 cores x 1/16 instruction x 256 lanes x clock x 128 OP"


def test_what_is_unknown_of_a_processor_is_said() -> None:
    silent = described(replace(CPU, features=("sse2",)))
    assert [note for note in silent.notes if "does not tell the clock" in note]
    assert silent.facts["clock"] == "unknown"
    assert {row.rate for row in silent.rows} == {None}
    told = described(replace(CPU, features=("sse2",), base_clock_hz=2e9))
    assert not [note for note in told.notes if "clock" in note]
    stranger = described(replace(CPU, arch="unknown"))
    assert (stranger.rows, len(stranger.notes)) == ((), 1)
    assert "unknown is not in the port table" in stranger.notes[0]
    hidden = described(replace(CPU, arch="icelake", features=("sse2", "amx_tile")))
    assert [note for note in hidden.notes if "calls itself icelake" in note and "sapphirerapids" in note]
    assert not [note for note in told.notes if "calls itself" in note]


def test_a_probed_gpu_is_described_by_its_row_of_the_table() -> None:
    found = described(GPU)
    assert found.facts["SMs"] == "132"
    by_name = {row.name: row for row in found.rows}
    assert by_name["memory"].formula.startswith("5120 bit x ")
    assert by_name["memory"].per_cycle == 640
    assert by_name["matrix i8 (i32 accumulator)"].unit == "OP/s"
    assert by_name["matrix f16 (f32 accumulator)"].unit == "FLOP/s"
    assert by_name["vector f32"].formula == "132 SMs x 128 lanes x 1.980 GHz x 2 FLOP"


def test_dot_products_and_tiles_count_each_multiplication_and_addition() -> None:
    features = ("sse2", "avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16")
    zen4 = {name: row[1] for name, row in rows(replace(CPU, arch="zen4", features=features)).items()}
    assert (zen4["vector 512 bit bf16"], zen4["vector 512 bit i8"]) == (4 * 1 * 16 * 4, 4 * 1 * 16 * 8)
    assert zen4["vector 256 bit i8"] == 4 * 2 * 8 * 8
    server = {name: row[1] for name, row in rows(replace(CPU, arch="sapphirerapids", features=features)).items()}
    assert (server["matrix i8"], server["matrix bf16"]) == (4 * 256 * 128 / 16, 4 * 256 * 64 / 16)
    assert server["vector 512 bit f16"] == 2 * server["vector 512 bit f32"] == 4 * server["vector 512 bit f64"]
    units = {row.name: row.unit for row in described(replace(CPU, arch="zen4", features=features)).rows}
    assert (units["vector 512 bit i8"], units["vector 512 bit bf16"]) == ("OP/s", "FLOP/s")


def test_what_the_tables_note_of_a_chip_is_passed_on() -> None:
    assert "Graviton 2, Altra" in described(replace(CPU, arch="neoverse_n1", units_by_kind={})).notes
    assert described(replace(CPU, arch="neoverse_n1", units_by_kind={})).facts["cores"] == "1"
    notes = {row.name: row.note for row in gpus.GPUS}
    assert all(named(name).notes == ((note,) if note else ()) for name, note in notes.items())
    assert "clock of the data sheet's matrix rates" in described(GPU).facts
    assert "clock of the data sheet's matrix rates" not in named("A100").facts
