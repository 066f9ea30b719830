"""What the plausibility check compares with what, and how far two numbers may lie apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fake_backend import fake_device

from microbench.analysis.plausibility import doubts
from microbench.records import Ceiling, Estimate


def rate(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value, basis="made up")


def compute(name: str, value: float, **facts: Any) -> Ceiling:
    defaults: dict[str, Any] = {"measures": "compute", "backend": "native", "dtype": "f32", "case": f"{name}[]@1"}
    return Ceiling(name=name, rate=rate(value), **{**defaults, **facts})


def read(level: str, value: float, **facts: Any) -> Ceiling:
    case = f"read.f32.v512[working_set={level}]@1"
    memory = {"measures": "memory", "level": level, "access": "read", "variant": "v512", "case": case}
    return compute(f"read.f32.v512.{level}", value, **{**memory, **facts})


def library(value: float, threads: int = 1) -> Ceiling:
    scope = "device" if threads > 1 else "core"
    return compute("gemm.f32", value, mode="library", backend="torch", threads=threads, scope=scope)


def codes(*ceilings: Ceiling) -> list[str]:
    return [doubt.finding.code for doubt in doubts(ceilings, fake_device())]


UNITS = (compute("fma.f32.v512", 50.0), compute("fma.f32.v512", 100.0, threads=2, scope="device"))


@pytest.mark.parametrize(
    ("value", "threads", "found"),
    [(60.0, 1, ["library-above-units"]), (49.0, 1, []), (99.0, 2, []), (110.0, 2, ["library-above-units"])],
)
def test_a_library_is_held_against_units_on_as_many_threads(value: float, threads: int, found: list[str]) -> None:
    assert codes(*UNITS, library(value, threads)) == found


def test_a_library_is_held_against_the_best_unit_of_its_own_dtype() -> None:
    others = (compute("fma.f64.v512", 900.0, dtype="f64"), read("L1", 900.0), compute("fma.f32.v128", 20.0))
    assert codes(*UNITS, *others, library(60.0)) == ["library-above-units"]
    assert codes(*UNITS, *others, library(49.0)) == []


def test_a_library_without_a_unit_to_hold_it_against_raises_no_doubt() -> None:
    assert codes(library(60.0)) == []
    copy = compute("copy.torch", 60e9, measures="memory", level="DRAM", access="copy", mode="library", backend="torch")
    assert codes(*UNITS, copy) == []


@pytest.mark.parametrize(("value", "found"), [(50.4, []), (50.6, ["library-above-units"])])
def test_a_library_may_exceed_the_best_unit_by_one_per_cent(value: float, found: list[str]) -> None:
    assert codes(*UNITS, library(value, 1)) == found


def vectors(rates: tuple[float, float], per_clock: tuple[float | None, float | None] = (None, None)) -> list[Ceiling]:
    """Multiply-adds of single and of double precision."""
    return [
        compute(f"fma.{dtype}.v512", rate, unit="vector", variant="v512", dtype=dtype, per_clock=each)
        for dtype, rate, each in zip(("f32", "f64"), rates, per_clock, strict=True)
    ]


def test_single_and_double_precision_are_compared_per_cycle_where_turbo_stepped_between_them() -> None:
    assert codes(*vectors((180.0, 100.0), (64.0, 32.0))) == []
    assert codes(*vectors((200.0, 100.0), (56.0, 32.0))) == ["vector-ratio"]


@pytest.mark.parametrize(
    ("f32", "found"), [(191.0, []), (209.0, []), (189.0, ["vector-ratio"]), (211.0, ["vector-ratio"])]
)
def test_twice_as_fast_means_within_five_per_cent(f32: float, found: list[str]) -> None:
    assert codes(*vectors((f32, 100.0))) == found


def test_the_clock_is_left_out_where_one_of_the_two_does_not_tell_it() -> None:
    assert codes(*vectors((200.0, 100.0), (64.0, None))) == []
    assert codes(*vectors((200.0, 100.0), (None, 32.0))) == []


def test_only_peaks_of_vectors_of_one_width_are_held_against_each_other() -> None:
    single, double = vectors((200.0, 100.0))
    scalar = [replace(each, unit="scalar", rate=rate(90.0), variant="scalar") for each in (single, double)]
    sustained = [replace(each, mode="sustained", rate=rate(90.0)) for each in (single, double)]
    narrow = replace(double, variant="v256", rate=rate(50.0))
    assert codes(single, double, *scalar, *sustained, narrow) == []


@pytest.mark.parametrize(("two", "found"), [(98.0, []), (96.0, ["threads-slower"])])
def test_two_threads_may_tie_with_one_within_three_per_cent(two: float, found: list[str]) -> None:
    assert codes(compute("fma.f32.v512", 100.0), compute("fma.f32.v512", two, threads=2, scope="device")) == found


@pytest.mark.parametrize(("near", "found"), [(9.8e9, []), (9.6e9, ["levels-out-of-order"])])
def test_a_near_level_may_tie_with_a_far_one_within_three_per_cent(near: float, found: list[str]) -> None:
    assert codes(read("L3", near), read("DRAM", 10e9)) == found


@pytest.mark.parametrize(
    ("threads", "share", "found"),
    [(1, 1.004, []), (1, 1.007, ["above-nominal"]), (2, 1.007, []), (2, 1.02, ["above-nominal"])],
)
def test_a_rate_may_exceed_nominal_by_the_error_of_the_clock_alone(
    threads: int, share: float, found: list[str]
) -> None:
    scope = "device" if threads > 1 else "core"
    assert codes(compute("fma.f32.v512", share * 1e9, nominal=1e9, threads=threads, scope=scope)) == found


@pytest.mark.parametrize(
    ("backend", "level", "suspect"),
    [("cuda", "DRAM", "a cache answered a part of it"), ("cuda", "L2", "port table"), ("native", "DRAM", "port table")],
)
def test_main_memory_of_a_gpu_above_nominal_suspects_its_bus_and_all_else_the_ports(
    backend: str, level: str, suspect: str
) -> None:
    (doubt,) = doubts([read(level, 2e12, backend=backend, nominal=1e12)], fake_device())
    assert suspect in doubt.finding.remedy
    assert (
        doubt.finding.says
        == f"read.f32.v512.{level} with 1 thread is 200.0% of nominal at the clock seen, which cannot be"
    )
