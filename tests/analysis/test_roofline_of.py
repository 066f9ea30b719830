"""Which ceilings of a characterisation become roofs."""

from __future__ import annotations

from typing import Any

import pytest
from fake_backend import fake_device

from microbench.analysis.roofline import Roofline
from microbench.errors import UsageError
from microbench.records import Ceiling, Characterisation, Estimate


def row(name: str, value: float, **facts: Any) -> Ceiling:
    rate = Estimate(value=value, low=value, high=value, basis="made up")
    return Ceiling(name=name, backend="native", rate=rate, case=name, **facts)


def of(*rows: Ceiling, **how: Any) -> Roofline:
    made = Characterisation(schema="1.0", device=fake_device(), environment=None, plan=None, ceilings=rows)
    return Roofline.of(made, **how)


FMA: dict[str, Any] = {"measures": "compute", "dtype": "f32"}
READ: dict[str, Any] = {"measures": "memory", "level": "DRAM", "access": "read"}


def test_roofs_are_of_one_mode_though_another_is_higher() -> None:
    rows = (
        row("fma.f32", 100e9, **FMA),
        row("gemm.f32", 120e9, mode="library", **FMA),
        row("fma.f32", 80e9, mode="sustained", **FMA),
        row("read.f32", 10e9, **READ),
        row("copy.torch", 11e9, mode="library", **READ),
    )
    assert (of(*rows).peak("f32"), of(*rows).bandwidth()) == (100e9, 10e9)
    assert of(*rows, mode="sustained").peak("f32") == 80e9
    assert of(*rows, mode="library").ridge_point("f32") == pytest.approx(120 / 11)


def test_roofs_are_of_one_number_of_threads_though_another_is_higher() -> None:
    rows = (row("fma.f32", 100e9, threads=2, scope="device", **FMA), row("fma.f32", 150e9, **FMA))
    assert (of(*rows).peak("f32"), of(*rows, threads=1).peak("f32")) == (100e9, 150e9)


def test_of_two_ceilings_the_higher_is_the_roof_in_whatever_order_they_come() -> None:
    rows = (row("fma.f32.v128", 50e9, **FMA), row("fma.f32.v256", 100e9, **FMA), row("fma.f32.scalar", 20e9, **FMA))
    assert of(*rows).peak("f32") == of(*reversed(rows)).peak("f32") == 100e9


def test_what_memory_streams_in_a_dtype_is_no_peak_and_a_link_no_memory() -> None:
    rows = (
        row("fma.f32", 100e9, **FMA),
        row("read.f32.l1", 400e9, measures="memory", level="L1", access="read", dtype="f32"),
        row("copy.host", 20e9, measures="link", level="host", access="copy"),
    )
    assert of(*rows).peak("f32") == 100e9
    assert of(*rows).bandwidth("L1") == 400e9
    with pytest.raises(UsageError, match="it has L1 read"):
        of(*rows).bandwidth("host", "copy")


def test_a_characterisation_without_ceilings_has_no_roof() -> None:
    with pytest.raises(UsageError, match="it has none"):
        of().peak("f32")
    with pytest.raises(UsageError, match="it has none"):
        of().bandwidth()


def test_a_sustained_roofline_takes_what_lasts_and_bursts_where_nothing_else_was_measured() -> None:
    rows = (
        row("fma.f32", 100e9, **FMA),
        row("fma.f64", 50e9, measures="compute", dtype="f64"),
        row("fma.f32", 80e9, mode="sustained", **FMA),
        row("read.f32", 10e9, **READ),
        row("read.f32", 6e9, mode="sustained", **READ),
        row("read.f32.L1", 200e9, measures="memory", level="L1", access="read"),
        row("gemm.f64", 70e9, mode="library", measures="compute", dtype="f64"),
    )
    lasts = of(*rows, mode="sustained")
    assert (lasts.peak("f32"), lasts.peak("f64")) == (80e9, 50e9)
    assert (lasts.bandwidth(), lasts.bandwidth("L1")) == (6e9, 200e9)
    assert (lasts.bandwidths["DRAM", "read"].mode, lasts.bandwidths["L1", "read"].mode) == ("sustained", "peak")
    assert of(*rows).bandwidth() == 10e9


def test_a_sustained_roof_counts_though_a_burst_was_lower() -> None:
    rows = (row("read.f32", 10e9, **READ), row("read.f32", 11e9, mode="sustained", **READ))
    assert of(*rows, mode="sustained").bandwidth() == 11e9
    assert of(*rows).bandwidth() == 10e9
