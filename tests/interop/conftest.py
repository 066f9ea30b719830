from __future__ import annotations

from typing import Any

import pytest

from microbench.records import (
    Budget,
    Case,
    Ceiling,
    Characterisation,
    Cost,
    Device,
    Estimate,
    Fits,
    MemoryLevel,
    OperatorFit,
    Plan,
    Samples,
    Sheet,
)


def ceiling(name: str, rate: float, **facts: Any) -> Ceiling:
    """A ceiling of the fake device: whole device, library, 2 % below to 1 % above the rate."""
    defaults: dict[str, Any] = {
        "measures": "compute",
        "backend": "torch",
        "mode": "library",
        "scope": "device",
        "case": f"{name}@1",
    }
    estimate = Estimate(value=rate, low=rate * 0.98, high=rate * 1.01, basis="fake")
    return Ceiling(name=name, rate=estimate, **{**defaults, **facts})


FAKE_DEVICE = Device(
    id="0f",
    kind="cuda",
    name="Fake X100 SXM 80GB",
    arch="sm_90a",
    units_by_kind={"sm": 100},
    memory_bytes=80 * 2**30,
    power_limit_w=700.0,
    levels=(MemoryLevel(name="L2", capacity_bytes=50 * 2**20), MemoryLevel(name="DRAM", capacity_bytes=80 * 2**30)),
)

# Peaks 1000 (bf16), 2000 (i8), 60 (f32) T and 3 T byte/s; a library reaches 75 %, 70 %, 90 % and 80 % of them.
FAKE_CEILINGS = (
    ceiling("mma.bf16.f32", 960e12, unit="matrix", dtype="bf16", mode="peak", backend="cuda", advertised=1000e12),
    ceiling("matmul.bf16", 750e12, dtype="bf16"),
    ceiling("matmul.i8", 1400e12, dtype="i8", advertised=2000e12),
    ceiling("fma.f32", 58e12, unit="vector", dtype="f32", mode="peak", backend="cuda", nominal=60e12),
    ceiling("matmul.f32", 54e12, dtype="f32"),
    ceiling("fma.f32.core", 0.6e12, dtype="f32", unit="vector", scope="core", backend="cuda", mode="peak"),
    ceiling(
        "read.f32", 2.4e12, measures="memory", level="DRAM", access="read", advertised=3e12, mode="peak", backend="cuda"
    ),
    ceiling(
        "copy.f32", 2.1e12, measures="memory", level="DRAM", access="copy", advertised=3e12, mode="peak", backend="cuda"
    ),
    ceiling("read.f32.l2", 6e12, measures="memory", level="L2", access="read", mode="peak", backend="cuda"),
)

FAKE_PLAN = Plan(
    cases=(
        Case(kernel="matmul.f32", params={"m": 512, "n": 256, "k": 1024}, scope="device", mode="library"),
        Case(kernel="linear.bf16", params={"m": 64, "n": 4096, "k": 1024}, scope="device", mode="library"),
        Case(kernel="softmax.f32", params={"rows": 128, "cols": 1000}, scope="device", mode="library"),
        Case(kernel="read.f32", params={"working_set": 4096}),
        Case(kernel="gemm.bf16.nvidia", params={"m": 8, "n": 16, "k": 32}, scope="device", mode="library"),
    ),
    budget=Budget(),
)


def sheet(name: str, dtype: str, backend: str = "torch") -> Sheet:
    return Sheet(name=name, measures="operator", backend=backend, device_kind="cuda", says="fake", dtype=dtype)  # type: ignore[arg-type]


def samples(case: Case, *ns: int, iterations: int = 10) -> Samples:
    return Samples(case=case.key, round=0, started_s=0.0, iterations=iterations, ns=ns, count=len(ns))


@pytest.fixture
def fake() -> Characterisation:
    """A characterisation of a device that does not exist, with round numbers."""
    return Characterisation(
        schema="1.0",
        device=FAKE_DEVICE,
        environment=None,
        plan=FAKE_PLAN,
        sheets=(
            sheet("matmul.f32", "f32"),
            sheet("linear.bf16", "bf16"),
            sheet("softmax.f32", "f32"),
            sheet("read.f32", "f32", "native"),
            sheet("gemm.bf16.nvidia", "bf16"),
        ),
        samples=(
            samples(FAKE_PLAN.cases[0], 300_000, 310_000, 320_000),  # 31 us an iteration
            samples(FAKE_PLAN.cases[1], 20_000),
            samples(FAKE_PLAN.cases[2], 50_000),
            samples(FAKE_PLAN.cases[3], 1_000),
            samples(FAKE_PLAN.cases[4], 70_000),
        ),
        ceilings=FAKE_CEILINGS,
        costs=(Cost(name="launch.plain", seconds=Estimate(value=4e-6, low=4e-6, high=5e-6, basis="fake")),),
        fits=Fits(
            operators=(OperatorFit(family="matmul", dtype="bf16", rows=20, cost_s={"eager": 8e-6, "graph": 2e-6}),)
        ),
    )
