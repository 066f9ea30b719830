from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from microbench.hardware.tables.published import Published
from microbench.records import Ceiling, Characterisation, Cost, Estimate
from microbench.report import html, markdown, side, view

LIBRARY = Published(
    gpu="H100 SXM5 80GB",
    measures="compute",
    value=750e12,
    mode="library",
    source="a made-up paper",
    dtype="bf16",
    unit="matrix",
    accumulator="f32",
)


def only(characterisation: Characterisation, *ceilings: Ceiling) -> Characterisation:
    return replace(characterisation, ceilings=ceilings, costs=())


def like(ceiling: Ceiling, value: float, **changes: Any) -> Ceiling:
    return replace(
        ceiling, rate=Estimate(value=value, low=value, high=value), **{"nominal": None, "advertised": None, **changes}
    )


def burst(characterisation: Characterisation, dtype: str) -> Ceiling:
    return next(
        row
        for row in characterisation.ceilings
        if row.dtype == dtype and row.mode == "peak" and row.measures == "compute"
    )


def test_gpu_rows_stand_side_by_side_with_published_figures(fake_cuda: Characterisation) -> None:
    row = next(row for row in side.side_rows(fake_cuda, [LIBRARY]) if row.title.startswith("bf16"))
    assert (row.burst, row.sustained, row.library) == ("925.9 TFLOP/s", "733.2", "695.6")
    assert row.sources == "750.0 TFLOP/s library (a made-up paper)"
    assert (row.highest, row.normal) == ("750.0 lib.", "93 %")
    assert row.power == "698 W, 0.952 pJ/FLOP"


def test_the_power_shown_is_that_of_the_sustained_rate_shown(fake_cuda: Characterisation) -> None:
    slower = [
        like(row, 1e12, name="fma.bf16.random", power_w=400.0, energy_per_op_j=4e-10)
        for row in fake_cuda.ceilings
        if row.mode == "sustained" and row.dtype == "bf16"
    ]
    assert slower
    rows = side.side_rows(replace(fake_cuda, ceilings=(*slower, *fake_cuda.ceilings)), [])
    assert next(row for row in rows if row.title.startswith("bf16")).power == "698 W, 0.952 pJ/FLOP"


def test_plain_and_tensor_cores_and_accumulators_have_rows_of_their_own(fake_cuda: Characterisation) -> None:
    one = burst(fake_cuda, "bf16")
    held = only(
        fake_cuda,
        like(one, 600e12, dtype="f16", unit="matrix", accumulator="f16"),
        like(one, 120e12, dtype="f16", unit="vector", accumulator=None),
        like(one, 900e12, dtype="f16", unit="matrix", accumulator="f32"),
        like(one, 700e12, dtype="f16", unit=None, accumulator="f32", mode="library", backend="torch"),
    )
    wide = replace(LIBRARY, dtype="f16", mode="peak", value=950e12)
    narrow = replace(wide, accumulator="f16", value=640e12)
    rows = {row.title: row for row in side.side_rows(held, [wide, narrow])}
    assert list(rows) == ["f16 tensor (f32)", "f16 tensor (f16)", "f16 plain"]
    assert [row.highest for row in rows.values()] == ["950.0", "640.0", view.UNKNOWN]
    assert [row.library for row in rows.values()] == ["700.0", view.UNKNOWN, view.UNKNOWN]


def test_scalar_code_on_every_lane_is_what_others_publish_as_vector(fake_cuda: Characterisation) -> None:
    held = only(fake_cuda, like(burst(fake_cuda, "f32"), 59e12, unit="scalar", accumulator=None))
    (row,) = side.side_rows(
        held, [replace(LIBRARY, dtype="f32", unit="vector", accumulator=None, mode="peak", value=59.1e12)]
    )
    assert (row.title, row.highest, row.normal) == ("f32 plain", "59.10", "100 %")


def test_every_access_that_somebody_published_is_held_against_its_like(fake_cuda: Characterisation) -> None:
    read = next(row for row in fake_cuda.ceilings if (row.level, row.access) == ("DRAM", "read"))
    held = only(fake_cuda, like(read, 3.2e12), like(read, 2.9e12, access="copy"), like(read, 3e12, access="write"))
    theirs = [
        replace(
            LIBRARY,
            measures="memory",
            dtype=None,
            unit=None,
            accumulator=None,
            mode="peak",
            level="DRAM",
            access=access,
            value=value,
        )
        for access, value in (("read", 3.2e12), ("copy", 2.9e12))
    ]
    assert [(row.title, row.normal) for row in side.side_rows(held, theirs)] == [
        ("DRAM read", "100 %"),
        ("DRAM copy", "100 %"),
    ]


def test_published_cycles_are_compared_at_the_clock_seen(fake_cuda: Characterisation) -> None:
    theirs = replace(
        LIBRARY,
        measures="latency_cycles",
        value=300,
        mode="peak",
        dtype=None,
        unit=None,
        accumulator=None,
        level="L2",
        access=None,
    )
    held = replace(fake_cuda, ceilings=(like(burst(fake_cuda, "f32"), 1e12, clock_hz=1.5e9),))
    row = next(row for row in side.side_rows(held, [theirs]) if row.title == "L2 latency")
    assert row.highest == "200 ns"
    assert row.sources == "300 cycles, here at 1.50 GHz (a made-up paper)"


def test_rows_say_whether_a_card_is_normal(fake_cuda: Characterisation) -> None:
    card = replace(fake_cuda.device, name="NVIDIA H100 80GB HBM3", units_by_kind={"sm": 132})
    one, read = burst(fake_cuda, "bf16"), next(row for row in fake_cuda.ceilings if row.level == "DRAM")
    for value, word in ((700e12, "slow"), (950e12, "normal"), (1100e12, "fast")):
        held = replace(only(fake_cuda, like(one, value), like(read, 3.1e12)), device=card)
        rows = {row.title: row.verdict for row in side.side_rows(held)}
        assert rows == {"bf16 tensor (f32)": word, "DRAM read": "normal"}
        assert side.title(side.side_rows(held), "cuda") == "Is this card normal?"
        for page in (html.render(held), markdown.render(held)):
            assert "for this card" in page
    unknown = only(fake_cuda, like(one, 700e12))
    assert side.side_rows(unknown)[0].verdict == view.UNKNOWN
    assert "for this card" not in markdown.render(unknown)


def test_a_slice_of_a_card_is_not_held_against_whole_ones(fake_cuda: Characterisation) -> None:
    card = replace(fake_cuda.device, name="NVIDIA H100 80GB HBM3", units_by_kind={"sm": 132})
    assert side.known_figures(replace(fake_cuda, device=card))
    assert side.known_figures(replace(fake_cuda, device=replace(card, units_by_kind={"sm": 16}))) == ()


def test_what_only_a_library_can_do_has_a_row(fake_cuda: Characterisation) -> None:
    alone = only(fake_cuda, like(burst(fake_cuda, "bf16"), 7e14, unit=None, mode="library", backend="torch"))
    (row,) = side.side_rows(alone, [])
    assert (row.burst, row.library, row.of_burst) == (view.UNKNOWN, "700.0 TFLOP/s", view.UNKNOWN)


def test_columns_that_nobody_knows_anything_about_are_left_out(fake_cpu: Characterisation) -> None:
    one = burst(fake_cpu, "f32")
    two = replace(one, threads=view.headline_threads(fake_cpu) or 1)
    held = only(fake_cpu, two, like(two, 0.5 * two.rate.value, unit=None, mode="library", backend="torch"))
    assert list(side.columns(side.side_rows(held))) == ["burst", "library", "of_burst", "nominal"]
    for page in (html.render(held), markdown.render(held)):
        assert not re.search(r"advertised</th>.*published by", page)
        assert "power, sustained" not in page


def test_launches_are_held_against_their_like(fake_cuda: Characterisation) -> None:
    theirs = [
        replace(
            LIBRARY,
            measures="launch_s",
            value=value,
            mode="peak",
            dtype=None,
            unit=None,
            accumulator=None,
            access=access,
        )
        for access, value in (("plain", 2.5e-6), ("graph", 1.25e-6))
    ]
    costs = [
        Cost(name=f"launch.{name}", seconds=Estimate(value=1e-6, low=1e-6, high=1e-6))
        for name in ("period", "graph", "enqueue")
    ]
    rows = side.side_rows(replace(fake_cuda, ceilings=(), costs=tuple(costs)), theirs)
    assert [(row.title, row.burst, row.normal) for row in rows] == [
        ("launch to launch", "1.00 µs", "40 %"),
        ("launch to launch, graph", "1.00 µs", "80 %"),
    ]
