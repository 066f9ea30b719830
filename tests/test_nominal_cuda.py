from __future__ import annotations

import pytest

from microbench.nominal import advertised_rate, bus_rate
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
    assert advertised_rate(CARD, sheet(unit="matrix", dtype="i8"), None) is None
    assert advertised_rate(CARD, sheet(measures="memory", access="read"), "DRAM") == pytest.approx(3.35e12)


def test_a_slice_is_not_held_to_the_whole_card() -> None:
    assert bus_rate(SLICE, "DRAM") is None
    assert advertised_rate(SLICE, sheet(unit="matrix", dtype="f16"), None) is None
