"""Write fake-cuda.json: a made-up characterisation of a GPU that does not exist, for tests of what reads files.

Every number is invented. Run as ``python tests/data/make_fake_cuda.py``.
"""

from __future__ import annotations

from made_up import MIB, estimate, write

from microbench.records import Case, Ceiling, Characterisation, Cost, Device, Environment, Finding, Fits, LevelSeen, MemoryLevel, Proof


def fake_cuda_ceilings() -> list[Ceiling]:
    rows = []
    table = (
        ("f64", "vector", "", 30e12),
        ("f32", "vector", "", 60e12),
        ("bf16", "matrix", "m64n256k16", 940e12),
        ("f8e4m3", "matrix", "m64n256k32", 1880e12),
    )
    for dtype, unit, variant, nominal in table:
        for mode, share, watts in (("peak", 0.985, 520.0), ("sustained", 0.78, 698.0), ("library", 0.74, None)):
            if mode == "library" and dtype == "f8e4m3":
                continue
            rows.append(
                Ceiling(
                    name=f"mma.{dtype}" if unit == "matrix" else f"fma.{dtype}",
                    measures="compute",
                    backend="torch" if mode == "library" else "cuda",
                    unit=None if mode == "library" else unit,
                    dtype=dtype,
                    accumulator="f32" if unit == "matrix" else dtype,
                    variant=variant if mode != "library" else "",
                    scope="device",
                    mode=mode,
                    operands="random" if mode != "peak" else "exact",
                    case=Case(kernel=f"mma.{dtype}" if mode != "library" else f"gemm.{dtype}", scope="device", mode=mode).key,
                    rate=estimate(nominal * share),
                    typical=estimate(nominal * share * 0.98),
                    rounds=5,
                    converged=True,
                    nominal=nominal,
                    advertised=nominal * 1.05,
                    clock_hz=1.755e9 if mode == "peak" else 1.41e9,
                    power_w=watts,
                    energy_per_op_j=watts / (nominal * share) if watts and mode == "sustained" else None,
                    throttled_share=0.35 if mode == "sustained" else 0.0,
                    proof=Proof(status="proven", source="cuda/src/mma.cu", hash="sha256:c0de", tool="golden table"),
                )
            )
    for level, rate in (("shared", 31e12), ("L2", 7.1e12), ("DRAM", 3.05e12)):
        for access, share in (("read", 1.0), ("copy", 0.93)):
            case = Case(kernel=f"{access}.f32", params={"working_set": 2**30}, scope="device")
            rows.append(
                Ceiling(
                    name=f"{access}.f32",
                    measures="memory",
                    backend="cuda",
                    level=level,
                    access=access,
                    scope="device",
                    case=case.key,
                    rate=estimate(rate * share),
                    rounds=5,
                    converged=True,
                    advertised=3.35e12 if level == "DRAM" else None,
                )
            )
    rows.append(
        Ceiling(
            name="transfer.pinned",
            measures="link",
            backend="cuda",
            level="host",
            access="copy",
            variant="pinned",
            scope="device",
            case="transfer.pinned[direction=to_device]@1",
            rate=estimate(55e9),
            rounds=5,
            converged=True,
        )
    )
    return rows


def fake_cuda() -> Characterisation:
    costs = [
        Cost(name="latency", level=level, seconds=estimate(value))
        for level, value in (("shared", 17e-9), ("L1", 19e-9), ("L2", 152e-9), ("DRAM", 478e-9))
    ]
    costs += [
        Cost(name=name, seconds=estimate(value, above=0.3))
        for name, value in (("launch", 2.5e-6), ("launch_graph", 1.2e-6), ("round_trip", 7.9e-6))
    ]
    return Characterisation(
        schema="1.0",
        device=Device(
            id="00000000c0da",
            kind="cuda",
            name="Fake GPU 1 (made up for tests)",
            arch="sm_90a",
            units_by_kind={"sm": 132, "cuda_core": 16896, "tensor_core": 528},
            boost_clock_hz=1.98e9,
            memory_bytes=80 * 2**30,
            power_limit_w=700.0,
            levels=(MemoryLevel(name="L2", capacity_bytes=50 * MIB),),
        ),
        environment=Environment(
            started="2026-11-21T22:04:00Z", seconds=402.0, microbench="0.1.0", facts={"driver": "580.65", "ecc": True, "mig": None}
        ),
        plan=None,
        ceilings=tuple(fake_cuda_ceilings()),
        costs=tuple(costs),
        fits=Fits(
            levels=(LevelSeen(name="L2", seen_by="stream", low_bytes=MIB, high_bytes=30 * MIB, value=7.1e12, advertised_bytes=50 * MIB),)
        ),
        findings=(
            Finding(
                code="throttled",
                severity="warning",
                says="The device lowered its clock for power in 35 % of the sustained samples.",
                remedy="Nothing is wrong: this is what 700 W sustain.",
            ),
        ),
    )


if __name__ == "__main__":
    write("fake-cuda.json", fake_cuda())
