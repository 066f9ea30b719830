"""Write fake-cpu.json: a made-up characterisation of a CPU that does not exist, for tests of what reads files.

Every number is invented. Run as ``python tests/data/make_fake_cpu.py``.
"""

from __future__ import annotations

import math

from made_up import KIB, MIB, estimate, write

from microbench.records import Budget, Case, Ceiling, Characterisation, Cost, Device, Environment, Estimate, Finding, Fits, LevelSeen, MemoryLevel, OperatorFit, Plan, Proof, RooflineFit, RoofPoint, Samples, Sheet, Work

PROVEN = Proof(
    status="proven", source="csrc/cpu/kernels/fma.cpp", hash="sha256:fa4e", tool="objdump 2.40", expected={"math": 16}, found={"math": 16}
)
SWEEP = [8 * KIB * 2**step for step in range(17)]
CACHES = ((32 * KIB, 345e9, 1.31e-9), (1 * MIB, 116e9, 4.6e-9), (6 * MIB, 24e9, 25e-9), (math.inf, 12.4e9, 108e-9))


def sheet(name: str, measures: str, **more: object) -> Sheet:
    facts = {
        "backend": "native",
        "device_kind": "cpu",
        "says": f"A made-up kernel named {name}.",
        "source": "csrc/cpu/kernels/fake.cpp",
        **more,
    }
    return Sheet(name=name, measures=measures, **facts)


def level_of(size: int) -> int:
    return next(index for index, (capacity, _, _) in enumerate(CACHES) if size <= capacity)


def fake_compute() -> list[Ceiling]:
    rows = []
    for dtype, bits in (("f64", 64), ("f32", 32), ("i8", 8)):
        for variant, unit, width, clock in (
            ("scalar", "scalar", bits, 3.1e9),
            ("avx2", "vector", 256, 2.7e9),
            ("avx512", "vector", 512, 2.4e9),
        ):
            if dtype == "i8" and unit == "scalar":
                continue
            for threads in (1, 2):
                nominal = width / bits * 4 * clock * threads
                share = 0.996 if threads == 1 else 0.985
                rows.append(
                    Ceiling(
                        name=f"fma.{dtype}.{variant}",
                        measures="compute",
                        backend="native",
                        unit=unit,
                        dtype=dtype,
                        accumulator="i32" if dtype == "i8" else dtype,
                        variant=variant,
                        threads=threads,
                        case=Case(kernel=f"fma.{dtype}.{variant}", threads=threads).key,
                        rate=estimate(nominal * share),
                        typical=Estimate(value=nominal * 0.94, low=nominal * 0.9, high=nominal * 0.97, confidence=0.95),
                        rounds=11,
                        converged=not (dtype == "i8" and threads == 2),
                        quiet_share=0.82,
                        nominal=nominal,
                        clock_hz=clock,
                        per_clock=nominal * share / clock / threads,
                        operands="exact",
                        proof=Proof(status="unproven", reason="no objdump") if variant == "scalar" else PROVEN,
                    )
                )
    return rows


def fake_memory() -> list[Ceiling]:
    rows = []
    for threads in (1, 2):
        for level, size, (_, rate, _) in zip(("L1", "L2", "L3", "DRAM"), (24 * KIB, 512 * KIB, 3 * MIB, 256 * MIB), CACHES, strict=True):
            for access, share in (("read", 1.0), ("write", 0.5), ("copy", 0.8), ("triad", 0.85)):
                for variant in ("avx512", "avx512.nt") if level == "DRAM" and access != "read" else ("avx512",):
                    kernel = f"{access}.f32.{variant}"
                    value = rate * share * threads * (0.97 if level != "DRAM" else 0.94) * (1.15 if variant.endswith("nt") else 1)
                    rows.append(
                        Ceiling(
                            name=kernel,
                            measures="memory",
                            backend="native",
                            dtype="f32",
                            level=level,
                            access=access,
                            variant=variant,
                            threads=threads,
                            case=Case(kernel=kernel, params={"pages": "huge", "working_set": size}, threads=threads).key,
                            rate=estimate(value, below=0.02),
                            typical=Estimate(value=value * 0.9, low=value * 0.8, high=value * 0.95, confidence=0.95),
                            rounds=9,
                            converged=level != "L3",
                            nominal=128 * 2.7e9 * threads if level == "L1" else None,
                            clock_hz=2.7e9,
                            proof=PROVEN,
                        )
                    )
        rows.extend(fake_sweep_point(size, threads) for size in SWEEP)
    return rows


def fake_sweep_point(size: int, threads: int) -> Ceiling:
    rate = CACHES[level_of(size)][1] * threads * (0.99 - 0.02 * math.log2(size / SWEEP[0]) / 14)
    case = Case(kernel="read.f32.avx512", params={"pages": "huge", "working_set": size}, threads=threads)
    return Ceiling(
        name="read.f32.avx512",
        measures="memory",
        backend="native",
        dtype="f32",
        access="read",
        variant="avx512",
        threads=threads,
        case=case.key,
        rate=estimate(rate),
        rounds=4,
        converged=True,
    )


def fake_costs() -> list[Cost]:
    rows = [
        Cost(
            name="latency",
            level=name,
            seconds=estimate(value, below=0.01, above=0.03),
            case=Case(kernel="chase", params={"pages": "huge", "working_set": size}).key,
        )
        for name, size, value in (("L1", 16 * KIB, 1.31e-9), ("L2", 256 * KIB, 4.6e-9), ("L3", 3 * MIB, 25e-9), ("DRAM", 256 * MIB, 108e-9))
    ]
    for pages, slower in (("huge", 1.0), ("small", 1.6)):
        for size in SWEEP:
            value = CACHES[level_of(size)][2] * (slower if size > MIB else 1.02)
            rows.append(
                Cost(
                    name="chase", seconds=estimate(value), case=Case(kernel="chase", params={"pages": pages, "working_set": size + 64}).key
                )
            )
    rows += [
        Cost(name=name, seconds=estimate(value, below=0.1, above=0.4))
        for name, value in (("timer", 2.1e-8), ("barrier", 3.4e-7), ("thread_start", 5.6e-5), ("first_touch", 2.5e-7))
    ]
    return rows


def fake_roofline(dtype: str, peak: float) -> RooflineFit:
    bandwidth = {"L1": 670e9, "DRAM": 23.4e9}
    points = []
    for level, rate in bandwidth.items():
        for step in range(-4, 9):
            fitted = (peak**-8 + (rate * 2.0**step) ** -8) ** (-1 / 8)
            points.append(RoofPoint(intensity=2.0**step, rate=fitted * (1 - 0.02 * (step % 3)), level=level, fitted=fitted))
    ridge = {level: peak / rate for level, rate in bandwidth.items()}
    return RooflineFit(
        dtype=dtype,
        unit="vector",
        threads=2,
        peak=peak,
        bandwidth=bandwidth,
        ridge=ridge,
        points=tuple(points),
        sharpness=8.0,
        rms_log_residual=0.021,
        worst_log_residual=-0.041,
    )


def fake_cpu() -> Characterisation:
    names = ("L1", "L2", "L3", "DRAM")
    ends = (0, *(int(capacity) for capacity, _, _ in CACHES[:3]), SWEEP[-1])
    told = (32 * KIB, MIB, int(35.75 * MIB), None)
    levels = [
        LevelSeen(
            name=name,
            seen_by=by,
            low_bytes=max(ends[i], SWEEP[0]),
            high_bytes=ends[i + 1] // (2 if name == "L3" and by == "chase" else 1),
            value=CACHES[i][1 if by == "stream" else 2],
            advertised_bytes=told[i],
            reuse_s=0.002 if name == "L3" else None,
        )
        for by in ("stream", "chase")
        for i, name in enumerate(names)
    ]
    kernels = [
        sheet(f"fma.{dtype}.{variant}", "compute", dtype=dtype, unit="vector", variant=variant, verified=variant != "scalar")
        for dtype in ("f64", "f32", "i8")
        for variant in ("scalar", "avx2", "avx512")
    ]
    kernels += [
        sheet(f"{access}.f32.avx512", "memory", dtype="f32", access=access, variant="avx512", work=Work(bytes_read=1024))
        for access in ("read", "write", "copy", "triad")
    ]
    kernels += [
        sheet("chase", "latency", loads=16),
        sheet("fma.bf16.amx", "compute", dtype="bf16", unit="matrix", variant="amx", unavailable="the chip has no amx_bf16"),
    ]
    sampled = Case(kernel="fma.f32.avx512")
    return Characterisation(
        schema="1.0",
        device=Device(
            id="00000000fa4e",
            kind="cpu",
            name="Fakechip 9000 (made up for tests)",
            arch="fakelake",
            units_by_kind={"core": 2, "thread": 2},
            base_clock_hz=2.5e9,
            memory_bytes=24 * 2**30,
            levels=tuple(
                MemoryLevel(name=name, capacity_bytes=size, line_bytes=64, shared_by=2 if name == "L3" else 1)
                for name, size in zip(names, told, strict=True)
                if size
            ),
            features=("avx2", "avx512f", "avx512_vnni"),
        ),
        environment=Environment(
            started="2026-11-21T22:04:00Z",
            seconds=131.4,
            microbench="0.1.0",
            facts={
                "kernel": "6.1.0",
                "compiler": "g++ 12.2",
                "transparent_hugepage": "madvise",
                "hypervisor": "kvm",
                "governor": None,
                "cpus_allowed": 2,
                "steal_share": 0.012,
                "quota": False,
            },
        ),
        plan=Plan(cases=(sampled,), budget=Budget(), seed=7),
        sheets=tuple(kernels),
        samples=(
            Samples(
                case=sampled.key, round=0, started_s=1.5, iterations=2**20, ns=(1_100_000, 1_090_000, 1_093_500), count=3, checked=True
            ),
        ),
        ceilings=(*fake_compute(), *fake_memory()),
        costs=tuple(fake_costs()),
        fits=Fits(
            levels=tuple(levels),
            rooflines=(fake_roofline("f32", 302e9), fake_roofline("f64", 151e9)),
            operators=(
                OperatorFit(
                    family="matmul",
                    dtype="f32",
                    rows=36,
                    cost_s={"eager": 2.4e-6},
                    terms={"peak": 271e9, "bandwidth": 21.5e9, "sharpness": 6.0},
                    correction={"noise": 0.05, "amplitude": 0.12, "apart": 1.0},
                    residuals=(-0.8, 0.2, 1.3, 2.2),
                    quantile=2.0,
                ),
                OperatorFit(family="softmax", dtype="f32", rows=6),
            ),
        ),
        findings=(
            Finding(
                code="level-short-lived",
                severity="warning",
                says="Of 35.75 MiB of L3 advertised a chase sees 3 MiB: other tenants replace the rest every 2 ms or so.",
                remedy="Plan with the size seen; it is the one in the table.",
            ),
            Finding(
                code="not-converged",
                severity="warning",
                says="fma.i8.avx512 on 2 threads: the three best rounds differ by 4.1 %.",
                remedy="microbench run --only 'fma.i8*' --thorough",
                case="fma.i8.avx512[]@2",
            ),
            Finding(code="steal", severity="info", says="The host took 1.2 % of the time away."),
            Finding(
                code="proof-tool-missing",
                severity="error",
                says="objdump was not found for <scalar> rows & their proof.",
                remedy="apt install binutils",
            ),
        ),
    )


if __name__ == "__main__":
    write("fake-cpu.json", fake_cpu())
