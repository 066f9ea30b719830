from __future__ import annotations

import pytest

from microbench.hardware.cuda import describe
from microbench.hardware.nominal import advertised_rate, bus_rate, named
from microbench.records import Device, Sheet

CARD = Device(id="1", kind="cuda", name="NVIDIA H100 80GB HBM3", arch="sm_90a", units_by_kind={"sm": 132})
SLICE = Device(id="1", kind="cuda", name="NVIDIA H100 80GB HBM3 MIG 1g.10gb", arch="sm_90a", units_by_kind={"sm": 16})


def sheet(**facts: object) -> Sheet:
    return Sheet(**{"name": "a", "measures": "compute", "backend": "cuda", "device_kind": "cuda", "says": "", **facts})  # type: ignore[arg-type]


def test_a_known_card_is_bounded_by_its_bus_and_shows_what_its_sheet_prints() -> None:
    assert bus_rate(CARD, "DRAM") == pytest.approx(3.35e12)
    assert bus_rate(CARD, "L2") is None
    assert advertised_rate(CARD, sheet(unit="scalar", dtype="f32"), None) == pytest.approx(67e12)
    assert advertised_rate(CARD, sheet(unit="matrix", dtype="f16"), None) == pytest.approx(989e12)
    assert advertised_rate(CARD, sheet(unit="matrix", dtype="i8"), None) == pytest.approx(1979e12)
    assert advertised_rate(CARD, sheet(unit="matrix", dtype="tf32"), None) is None
    assert advertised_rate(CARD, sheet(measures="memory", access="read"), "DRAM") == pytest.approx(3.35e12)


def test_int8_of_a_b300_is_the_token_rate_that_was_published() -> None:
    rates = {row.name: row.rate for row in named("B300").rows}
    assert rates["matrix i8 (i32 accumulator)"] == pytest.approx(0.15e15, rel=0.1)
    assert rates["matrix i8 (i32 accumulator)"] == pytest.approx(2 * rates["vector f32"], rel=0.1)  # type: ignore[operator]


def test_a_slice_is_not_held_to_the_whole_card() -> None:
    assert bus_rate(SLICE, "DRAM") is None
    assert advertised_rate(SLICE, sheet(unit="matrix", dtype="f16"), None) is None


def probed(name: str = "NVIDIA Next", sensors: dict[str, object] | None = None, **found: object) -> Device:
    """What the record of a card is, whose driver tells these attributes (``None``: it reads 0)."""
    told: dict[str, object] = {
        "major": 9,
        "minor": 0,
        "multiprocessors": 132,
        "clock_khz": 1_980_000,
        "l2_bytes": 50 << 20,
    }
    told |= {"shared_per_multiprocessor": 228 << 10, "memory_bytes": 80 << 30, "uuid": b"0" * 16, "name": name}
    told |= {"bus_bits": 5120, "memory_clock_khz": 2_619_000}
    return describe(0, told | found, sensors or {})  # type: ignore[arg-type]


def test_a_card_that_the_table_lacks_is_bounded_by_the_bus_its_driver_tells() -> None:
    # 5120 bit on both edges of 2.619 GHz
    assert bus_rate(probed(), "DRAM") == pytest.approx(3352.32e9)
    assert bus_rate(probed(), "L2") is None
    assert advertised_rate(probed(), sheet(measures="memory", access="read"), "DRAM") is None


def test_the_table_comes_before_the_driver() -> None:
    assert bus_rate(probed("NVIDIA H100 80GB HBM3", memory_clock_khz=1_000_000), "DRAM") == pytest.approx(3.35e12)
    assert bus_rate(probed("NVIDIA H100 80GB HBM3 MIG 1g.10gb", multiprocessors=16), "DRAM") is None


def test_a_bus_that_reads_zero_or_is_shared_with_other_slices_bounds_nothing() -> None:
    assert bus_rate(probed(bus_bits=None), "DRAM") is None
    assert bus_rate(probed(memory_clock_khz=None), "DRAM") is None
    assert bus_rate(probed(sensors={"mig_instance": True}), "DRAM") is None
    # The driver's clock reads 0, and NVML's does not.
    assert bus_rate(probed(memory_clock_khz=None, sensors={"max_memory_clock_hz": 2.619e9}), "DRAM") == pytest.approx(
        3352.32e9
    )
