"""Which ceilings bound an operator, and how much of it the caches hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from microbench.errors import UsageError
from microbench.operators import op, table_of
from microbench.predict import predict
from microbench.predict.operator import UNCALIBRATED_HIGH, UNCALIBRATED_LOW, memory_levels, predict_table, roofs
from microbench.records import (
    Ceiling,
    Characterisation,
    Cost,
    Device,
    Estimate,
    Fits,
    LevelSeen,
    MemoryLevel,
    OperatorFit,
)

MB = 10**6
LEVELS = (
    MemoryLevel(name="L1", capacity_bytes=32_000, shared_by=1),
    MemoryLevel(name="L2", capacity_bytes=MB, shared_by=2),
    MemoryLevel(name="L3", capacity_bytes=32 * MB, shared_by=4),
    MemoryLevel(name="DRAM"),
)


def exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def row(name: str, value: float, **facts: Any) -> Ceiling:
    return Ceiling(name=name, backend="native", rate=exactly(value), case=name, **facts)


def machine(*more: Ceiling, threads: int = 4, seen: tuple[LevelSeen, ...] = ()) -> Characterisation:
    """A processor of 1 TFLOP/s with levels of 4000, 2000, 500 and 100 GB/s."""
    memory = [
        row(f"read.{level.name.lower()}", rate, measures="memory", level=level.name, access="read", threads=threads)
        for level, rate in zip(LEVELS, (4e12, 2e12, 5e11, 1e11), strict=True)
    ]
    peak = row("fma.f32", 1e12, measures="compute", dtype="f32", threads=threads)
    return Characterisation(
        schema="1.0",
        device=Device(id="0", kind="cpu", name="made up", arch="none", levels=LEVELS),
        environment=None,
        plan=None,
        ceilings=(peak, *memory, *more),
        costs=(Cost(name="launch.eager", seconds=exactly(1e-6)), Cost(name="launch", seconds=exactly(9e-6))),
        fits=Fits(levels=seen),
    )


@pytest.mark.parametrize(
    ("threads", "l1", "l2"), [(1, 32_000, MB), (2, 64_000, MB), (4, 128_000, 2 * MB), (8, 256_000, 4 * MB)]
)
def test_all_threads_together_have_all_of_their_own_caches_and_one_last_level(threads: int, l1: int, l2: int) -> None:
    assert memory_levels(machine(threads=threads)).capacity == (l1, l2, 32 * MB, 0)


def test_a_cache_holds_what_a_sweep_saw_of_it_before_what_is_advertised() -> None:
    seen = LevelSeen(name="L3", seen_by="stream", low_bytes=2 * MB, high_bytes=8 * MB, value=1.0)
    assert memory_levels(machine(seen=(seen,))).capacity == (128_000, 2 * MB, 8 * MB, 0)


@pytest.mark.parametrize(
    ("size", "level"), [(15_000, "L1"), (17_000, "L2"), (240_000, "L2"), (260_000, "L3"), (5 * MB, "DRAM")]
)
def test_a_working_set_is_served_by_the_smallest_level_that_holds_it(size: int, level: str) -> None:
    (found,) = predict([op("copy", size=size)], machine())  # reads and writes 4 bytes an element
    assert found.level == level


def test_a_faster_single_thread_is_not_what_a_whole_operator_reaches() -> None:
    single = (
        row("fma.f32.turbo", 3e12, measures="compute", dtype="f32", threads=1),
        row("read.dram.turbo", 3e11, measures="memory", level="DRAM", access="read", threads=1),
    )
    bounds = roofs(machine(*single), "f32")
    assert (bounds.peak, bounds.peak_name, bounds.memory.bandwidth[-1]) == (1e12, "fma.f32", 1e11)


def test_the_whole_device_is_what_an_operator_reaches_before_more_threads_of_a_part() -> None:
    whole = row("gemm.f32", 5e11, measures="compute", dtype="f32", scope="device")
    assert roofs(machine(whole), "f32").peak == 5e11


def test_of_ceilings_of_one_kind_the_highest_is_the_roof() -> None:
    assert roofs(machine(row("a", 9e11, measures="compute", dtype="f32", threads=4)), "f32").peak == 1e12
    assert roofs(machine(row("a", 2e12, measures="compute", dtype="f32", threads=4)), "f32").peak == 2e12


def test_a_launch_costs_what_its_mode_was_measured_to_cost() -> None:
    assert roofs(machine(), "f32").cost_s == {"eager": 1e-6, "graph": 0.0, "kernel": 0.0}
    older = replace(machine(), costs=machine().costs[1:])
    assert roofs(older, "f32").cost_s["eager"] == 9e-6


def test_an_operator_without_a_fit_may_take_five_times_its_roofline_and_beat_it_by_a_third() -> None:
    (found,) = predict([op("matmul", m=1000, n=1000, k=1000)], machine())
    assert found.seconds.value == pytest.approx(1e-6 + 2e9 / 1e12)
    assert (found.seconds.low, found.seconds.high) == pytest.approx(
        (0.7 * found.seconds.value, 5 * found.seconds.value)
    )
    assert (UNCALIBRATED_LOW, UNCALIBRATED_HIGH) == (0.7, 5.0)


def test_an_operator_takes_the_longer_of_arithmetic_and_traffic_and_names_it() -> None:
    bound = {each.op: each for each in predict(["relu:size=100000000", "matmul:m=1000,n=1000,k=1000"], machine())}
    memory, compute = bound.values()
    assert (memory.limiter, memory.bound) == ("memory:DRAM", "memory")
    assert memory.seconds.value == pytest.approx(1e-6 + 8e8 / 1e11)
    assert (compute.limiter, compute.bound) == ("compute", "compute")


def test_a_level_that_nobody_advertises_holds_what_was_seen_of_it_or_nothing() -> None:
    bare = replace(machine(), device=replace(machine().device, levels=()))
    assert memory_levels(bare).capacity == (0, 0, 0, 0)
    seen = LevelSeen(name="L2", seen_by="stream", low_bytes=1, high_bytes=500_000, value=1.0)
    assert memory_levels(replace(bare, fits=Fits(levels=(seen,)))).capacity == (0, 500_000, 0, 0)


def test_a_peak_is_of_its_own_dtype_and_of_arithmetic() -> None:
    others = (
        row("fma.f64", 9e12, measures="compute", dtype="f64", threads=4),
        row("read.f32", 9e12, measures="memory", level="L1", access="read", dtype="f32", threads=4),
    )
    assert roofs(machine(*others), "f32").peak == 1e12
    with pytest.raises(UsageError, match=r"no bf16 compute ceiling \(it has f32, f64\)"):
        roofs(machine(*others), "bf16")


def test_without_a_memory_ceiling_or_a_peak_the_refusal_says_which() -> None:
    peaks = replace(machine(), ceilings=machine().ceilings[:1])
    with pytest.raises(UsageError, match="no memory ceiling"):
        roofs(peaks, "f32")
    with pytest.raises(UsageError, match="it has none"):
        roofs(replace(machine(), ceilings=machine().ceilings[1:]), "f32")


def test_rows_of_a_dtype_without_a_ceiling_are_found_and_refused_only_where_there_is_no_other() -> None:
    known, unknown = op("relu", size=10), op("relu", size=10, dtype="bf16")
    columns = predict_table(table_of([known, unknown]), machine())
    assert (columns.limiter[0], columns.limiter[1]) == ("cost", "")
    assert {finding.code for finding in columns.findings} == {"family-not-calibrated", "no-ceiling"}
    with pytest.raises(UsageError, match=r"relu.size=10..bf16 cannot be predicted"):
        predict([known, unknown], machine())
    with pytest.raises(UsageError, match="no bf16 compute ceiling"):
        predict_table(table_of([unknown]), machine())
    assert predict_table(table_of([]), machine()).findings == ()


@pytest.mark.parametrize(("cache", "codes"), [("hot", set()), ("cold", {"other-cache"})])
def test_a_fit_of_the_other_cache_state_is_used_and_said(cache: str, codes: set[str]) -> None:
    fit = OperatorFit(
        family="elementwise",
        dtype="f32",
        rows=40,
        cost_s={"eager": 2e-6},
        terms={"peak": 1e15, "bandwidth": 1e11, "sharpness": 50.0},
        codes=("relu",),
        quantile=1.0,
    )
    calibration = replace(machine(), fits=Fits(operators=(fit,)))
    columns = predict_table(table_of([op("relu", size=10**6, cache=cache)]), calibration)
    assert {finding.code for finding in columns.findings} - {"older-fits"} == codes
    assert columns.basis[0] == "conformal on 40 rows"
    assert columns.level[0] == ("L3" if cache == "hot" else "DRAM")
    (other,) = predict([op("softmax", rows=8, cols=8)], calibration)
    assert "without a fit" in str(other.seconds.basis)


def test_a_prediction_is_called_as_it_was_asked_for() -> None:
    backward = op("matmul", m=8, n=8, k=8, direction="backward")
    named, built = predict(["relu:size=8", backward], machine())
    assert (named.op, built.op) == ("relu[size=8].f32", str(backward))
    assert built.work == backward.work


@pytest.mark.parametrize(("dtype", "codes"), [("i64", {"other-format"}), ("bool", {"other-format"}), ("f64", set())])
def test_integers_move_as_the_nearest_format_that_was_calibrated_and_that_is_said(dtype: str, codes: set[str]) -> None:
    """They have no roofline of their own; a float format of another width has one, or is refused."""
    fit = OperatorFit(
        family="elementwise",
        dtype="f32",
        rows=40,
        cost_s={"eager": 2e-6},
        terms={"peak": 1e15, "bandwidth": 1e11, "sharpness": 50.0},
        codes=("relu",),
        quantile=1.0,
    )
    calibrated = replace(machine(), fits=Fits(operators=(fit,)))
    columns = predict_table(table_of([op("relu", size=10**6), op("relu", size=10**6, dtype=dtype)]), calibrated)
    assert codes == {finding.code for finding in columns.findings} & {"other-format"}
    assert (columns.limiter[1] != "") == bool(codes)
