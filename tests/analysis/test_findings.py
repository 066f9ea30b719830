from __future__ import annotations

from typing import Any

from microbench.analysis.ceilings import Analysis
from microbench.analysis.findings import run_findings
from microbench.records import Ceiling, Estimate, Finding


def ceiling(variant: str, clock_ghz: float, **fields: Any) -> Ceiling:
    fields = {"measures": "compute", "backend": "native", "converged": True, **fields}
    name = f"fma.f32.{variant}"
    rate = Estimate(value=1e9, low=1e9, high=1e9)
    return Ceiling(name=name, case=f"{name}[]@1", variant=variant, clock_hz=clock_ghz * 1e9, rate=rate, **fields)


def told(*ceilings: Ceiling) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in run_findings(Analysis(ceilings=ceilings, costs=(), levels=()), (), ()):
        found.setdefault(finding.code, []).append(finding)
    return found


def test_a_clock_that_moved_is_said_once_for_all_variants() -> None:
    steps = [ceiling(variant, clock) for variant in ("v128", "v256") for clock in (3.59, 3.69)]
    (finding,) = told(*steps, ceiling("v512", 3.39), ceiling("v512", 3.59))["clock-drift"]
    assert "of v512 between 3.39 and 3.59 GHz; of v128, v256 between 3.59 and 3.69 GHz" in finding.says


def test_readings_of_one_turbo_step_are_no_drift() -> None:
    assert "clock-drift" not in told(ceiling("v128", 3.59), ceiling("v128", 3.60))


def test_loose_ceilings_of_a_gpu_do_not_blame_a_core() -> None:
    (host,) = told(ceiling("v128", 3.5, converged=False))["not-converged"]
    (gpu,) = told(ceiling("half2", 1.7, converged=False, backend="cuda"))["not-converged"]
    assert "(1 thread)" in host.says
    assert "the core may be shared" in host.says
    assert "thread" not in gpu.says
    assert "core" not in gpu.says
