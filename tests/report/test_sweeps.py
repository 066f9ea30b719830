from __future__ import annotations

from dataclasses import replace

import pytest

from microbench.records import Case, Characterisation, Samples, Sheet, Work
from microbench.report.sweeps import Curve, chases, is_sweep_point, names, parse_case, streams, working_set

SIZES = [8192 * 2**step for step in range(6)]


def test_a_case_key_is_read_back() -> None:
    case = Case(kernel="read.f32.avx512", params={"pages": "huge", "working_set": 24576}, threads=2)
    assert parse_case(case.key) == case


@pytest.mark.parametrize("text", ["", "read", "read[]", "read[]@", "read[]@0", "[a=1]@1", None])
def test_what_is_no_case_key_is_none(text: str | None) -> None:
    assert parse_case(text) is None
    assert working_set(text) is None


def test_only_a_working_set_without_level_is_a_sweep_point() -> None:
    key = "read.f32[working_set=8192]@1"
    assert is_sweep_point(None, key)
    assert not is_sweep_point("L1", key)
    assert not is_sweep_point(None, "fma.f32[]@1")


def test_the_curves_of_the_fake_have_all_sweep_points(fake_cpu: Characterisation) -> None:
    found = streams(fake_cpu)
    assert [curve.threads for curve in found] == [2, 1]
    assert all(len(curve.points) >= 17 for curve in found)
    assert {curve.params["pages"] for curve in chases(fake_cpu)} == {"huge", "small"}


def test_samples_alone_give_a_curve_at_the_rate_of_the_best_sample(bare: Characterisation) -> None:
    sheet = Sheet(
        name="read.f32",
        measures="memory",
        backend="native",
        device_kind="cpu",
        says="Made up.",
        access="read",
        work=Work(bytes_read=64),
    )
    samples = [
        Samples(
            case=f"read.f32[working_set={size}]@2",
            round=turn,
            started_s=0,
            iterations=1000,
            ns=(2000 + turn, 4000),
            count=2,
        )
        for size in SIZES
        for turn in (0, 1)
    ]
    (curve,) = streams(replace(bare, sheets=(sheet,), samples=tuple(samples)))
    # 2 threads x 64 bytes x 1000 iterations in 2000 ns
    assert curve.points == tuple((size, pytest.approx(64e9)) for size in SIZES)


def test_chase_samples_give_seconds_per_load(bare: Characterisation) -> None:
    sheet = Sheet(name="chase", measures="latency", backend="native", device_kind="cpu", says="Made up.", loads=16)
    samples = [
        Samples(case=f"chase[working_set={size}]@1", round=0, started_s=0, iterations=10, ns=(800,), count=1)
        for size in SIZES
    ]
    (curve,) = chases(replace(bare, sheets=(sheet,), samples=tuple(samples)))
    assert curve.points == tuple((size, pytest.approx(5e-9)) for size in SIZES)


def test_a_few_points_are_no_sweep(bare: Characterisation) -> None:
    sheet = Sheet(name="chase", measures="latency", backend="native", device_kind="cpu", says="Made up.", loads=16)
    samples = [
        Samples(case=f"chase[working_set={size}]@1", round=0, started_s=0, iterations=10, ns=(800,), count=1)
        for size in SIZES[:4]
    ]
    assert chases(replace(bare, sheets=(sheet,), samples=tuple(samples))) == ()


def test_level_cases_beside_a_sweep_are_no_curve_of_their_own(bare: Characterisation) -> None:
    sheet = Sheet(name="chase", measures="latency", backend="native", device_kind="cpu", says="Made up.", loads=16)
    sizes = {1: [1024 * step for step in range(1, 21)], 2: [1024 * step for step in range(1, 8)]}
    keys = [f"chase[working_set={size}]@{threads}" for threads, some in sizes.items() for size in some]
    samples = [Samples(case=key, round=0, started_s=0, iterations=10, ns=(800,), count=1) for key in keys]
    assert [curve.threads for curve in chases(replace(bare, sheets=(sheet,), samples=tuple(samples)))] == [1]


def test_curves_are_named_by_what_differs() -> None:
    curves = [
        Curve(kernel="read", threads=threads, params={"pages": "huge", "streams": 4}, points=()) for threads in (1, 2)
    ]
    assert names(curves) == ("read, huge pages, 4 streams", ("1 thread", "2 threads"))
    assert names([]) == ("", ())


@pytest.mark.parametrize(
    "key",
    [
        "read.f32[working_s- et=1]@1",
        "read.f32[working_set=x]@1",
        "read.f32[pages=a b]@1",
        "read.f32[]@99999999999",
        f"read.f32[working_set={'9' * 5000}]@1",
    ],
)
def test_a_key_that_no_case_can_have_is_none(key: str) -> None:
    assert parse_case(key) is None
