"""A FAKE characterisation with a row of everything, for tests of what writes and reads files."""

from __future__ import annotations

from microbench.records import (
    Budget,
    Case,
    Ceiling,
    Characterisation,
    Cost,
    Device,
    Environment,
    Estimate,
    Finding,
    Fits,
    LevelSeen,
    MemoryLevel,
    OperatorFit,
    Plan,
    Proof,
    RooflineFit,
    RoofPoint,
    Samples,
    Sheet,
    Work,
)
from microbench.storage import store

DEVICE = Device(
    id="1f2e3d4c5b6a",
    kind="cpu",
    name="Example(R) CPU @ 2.50GHz",
    arch="cascadelake",
    units_by_kind={"core": 2},
    levels=(MemoryLevel(name="L1", capacity_bytes=32768, line_bytes=64, ways=8, shared_by=1),),
    features=("avx2", "avx512f"),
)
CASE = Case(kernel="fma.f32.avx512", params={"pages": "huge", "working_set": 24576, "ratio": 0.5, "gated": True})
SAMPLES = Samples(
    case=CASE.key,
    round=0,
    started_s=0.25,
    iterations=1000,
    ns=(1000, 900, 950),
    count=3,
    reference_ns=(10, 11, 12),
    checked=True,
)


def characterisation(samples: tuple[Samples, ...] = (SAMPLES,)) -> Characterisation:
    rate = Estimate(value=153e9, low=152e9, high=153.6e9, basis="third best round .. nominal")
    return Characterisation(
        schema=store.SCHEMA,
        device=DEVICE,
        environment=Environment(
            started="2026-01-01T12:00:00Z",
            seconds=12.5,
            microbench="0.1.0",
            facts={"kernel": "6.1", "quota": None, "cpus": 2},
        ),
        plan=Plan(cases=(CASE,), budget=Budget(name="quick", time_limit_s=30.0), seed=7),
        sheets=(
            Sheet(
                name="fma.f32.avx512",
                measures="compute",
                backend="native",
                device_kind="cpu",
                says="FMA",
                dtype="f32",
                work=Work(flop=768),
            ),
        ),
        samples=samples,
        ceilings=(
            Ceiling(
                name="compute.f32.vector",
                measures="compute",
                backend="native",
                rate=rate,
                case=CASE.key,
                dtype="f32",
                proof=Proof(status="proven", tool="objdump", expected={"math": 24}, found={"math": 24}),
            ),
        ),
        costs=(Cost(name="latency", level="L1", seconds=Estimate(value=1.3e-9, low=1.3e-9, high=1.4e-9)),),
        fits=Fits(
            levels=(LevelSeen(name="L1", seen_by="chase", low_bytes=8192, high_bytes=32768, value=1.3e-9),),
            rooflines=(
                RooflineFit(
                    dtype="f32",
                    unit="vector",
                    threads=1,
                    peak=153e9,
                    bandwidth={"L1": 345e9},
                    ridge={"L1": 0.44},
                    points=(RoofPoint(intensity=0.25, rate=80e9, level="L1", fitted=86e9),),
                ),
            ),
            operators=(
                OperatorFit(
                    family="matmul",
                    dtype="f32",
                    rows=12,
                    terms={"peak": 150e9, "bandwidth": 12e9, "sharpness": 2.0},
                    cost_s={"eager": 1e-6},
                    scale=(1.0,),
                    correction={"amplitude": 0.1, "noise": 0.05, "apart": 1.0},
                    points=((1.0, 2.0), (3.0, 4.0)),
                    residuals=(0.1, -0.1),
                ),
            ),
        ),
        findings=(Finding(code="steal", severity="warning", says="1 % stolen", remedy="measure at night"),),
    )
