"""What is found about a run's own numbers, of whom, and how loudly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from microbench.analysis.ceilings import Analysis
from microbench.analysis.findings import left_out, run_findings, with_what_held
from microbench.records import Ceiling, Estimate, Finding, LevelSeen, Proof, Samples, Sheet

MIB = 2**20
FMA = Sheet(name="fma.f32.v256", measures="compute", backend="native", device_kind="cpu", says="", dtype="f32")
BARRIER = Sheet(name="cost.barrier", measures="cost", backend="native", device_kind="cpu", says="")
GPU = replace(FMA, name="mma.f32", backend="cuda", device_kind="cuda")


def ceiling(name: str = "fma.f32.v256", **facts: Any) -> Ceiling:
    known: dict[str, Any] = {"measures": "compute", "backend": "native", "converged": True, "variant": "v256"}
    rate = Estimate(value=1e9, low=1e9, high=1e9)
    return Ceiling(name=name, rate=rate, case=f"{name}[]@1", **{**known, **facts})


def found(
    *ceilings: Ceiling,
    levels: tuple[LevelSeen, ...] = (),
    samples: tuple[Samples, ...] = (),
    planned: tuple[Sheet, ...] = (FMA,),
    beside: tuple[Finding, ...] = (),
) -> list[Finding]:
    return run_findings(Analysis(ceilings=ceilings, costs=(), levels=levels, findings=beside), samples, planned)


def sample(case: str, checked: bool | None) -> Samples:
    return Samples(case=case, round=0, started_s=0.0, iterations=1, ns=(1,), count=1, checked=checked)


def test_a_run_without_anything_to_say_says_nothing() -> None:
    assert found(ceiling(clock_hz=3e9), samples=(sample("a", True), sample("b", None))) == []


@pytest.mark.parametrize(("sheet", "remedy"), [(FMA, "the processor and the compiler"), (GPU, "nvidia-smi")])
def test_a_wrong_result_is_an_error_that_names_its_case_once(sheet: Sheet, remedy: str) -> None:
    wrong = (sample("b", False), sample("a", False), sample("a", False), sample("c", True), sample("d", None))
    (finding,) = found(samples=wrong, planned=(sheet,))
    assert (finding.code, finding.severity) == ("wrong-result", "error")
    assert finding.says.startswith("2 cases computed a wrong result in a timed launch, first a;")
    assert remedy in finding.remedy


def test_the_worst_is_said_first() -> None:
    beside = Finding(code="one-l2", severity="info", says="x")
    codes = [each.code for each in found(ceiling(converged=False), samples=(sample("a", False),), beside=(beside,))]
    assert codes == ["wrong-result", "not-converged", "one-l2"]


def test_what_did_not_converge_is_named_three_at_most_arithmetic_and_memory_apart() -> None:
    loose = [ceiling(f"fma.f{i}", converged=False) for i in range(5)]
    memory = ceiling("read.f32", measures="memory", level="DRAM", access="read", converged=False)
    finding, other = found(*loose, memory, ceiling("fine"))
    assert finding.says.startswith("5 compute ceilings did not converge: fma.f0 (1 thread), fma.f1 (1 thread), fma.f2")
    assert "and 2 more" in finding.says
    (three,) = found(*loose[:3])
    assert "more;" not in three.says
    assert (other.code, found(memory)) == ("memory-not-converged", [other])
    assert other.says.startswith("1 memory ceiling did not converge: read.f32 (1 thread); ")


def test_a_disturbed_run_says_how_many_of_its_ceilings_held_and_nothing_else_is_changed() -> None:
    told = [Finding(code=code, severity="warning", says="it was busy") for code in ("steal", "other-processes", "odd")]
    ceilings = [ceiling("a"), ceiling("b", converged=False), ceiling("c")]
    held = "it was busy; 2 of 3 ceilings converged all the same"
    assert [each.says for each in with_what_held(told, ceilings)] == [held, held, "it was busy"]
    assert with_what_held(told, []) == told


def level(name: str, high: int, advertised: int | None, reuse_s: float | None = 0.002) -> LevelSeen:
    return LevelSeen(
        name=name,
        seen_by="stream",
        low_bytes=1,
        high_bytes=high,
        value=1.0,
        reuse_s=reuse_s,
        advertised_bytes=advertised,
    )


@pytest.mark.parametrize(("seen", "smaller"), [(16 * MIB, True), (17 * MIB, False), (4 * MIB, True)])
def test_a_last_cache_of_which_half_or_less_is_seen_is_smaller_than_advertised(seen: int, smaller: bool) -> None:
    levels = (level("L2", MIB // 4, MIB), level("L3", seen, 32 * MIB), level("DRAM", 256 * MIB, None))
    codes = [finding.code for finding in found(levels=levels)]
    assert codes == (["level-smaller"] if smaller else [])


@pytest.mark.parametrize(
    ("sheet", "remedy"), [(FMA, "neighbours share it"), (GPU, "a divided L2 fills up with copies")]
)
def test_a_cache_that_is_smaller_says_up_to_which_size_it_is_seen_and_why(sheet: Sheet, remedy: str) -> None:
    (finding,) = found(levels=(level("L3", 4 * MIB, 32 * MIB),), planned=(sheet,))
    assert (
        "L3 is advertised as 32 MiB, but a stream sees it only up to 4 MiB (2 ms between two uses of a line)"
        in finding.says
    )
    assert remedy in finding.remedy
    (silent,) = found(levels=(level("L3", 4 * MIB, 32 * MIB, None),))
    assert silent.says.endswith("up to 4 MiB")


def test_a_cache_whose_capacity_is_known_is_not_judged_by_the_end_of_its_plateau() -> None:
    held = replace(level("L3", 4 * MIB, 32 * MIB), capacity_bytes=20 * MIB)
    assert found(levels=(held,)) == []
    (finding,) = found(levels=(replace(held, capacity_bytes=8 * MIB),))
    assert "up to 8 MiB" in finding.says


@pytest.mark.parametrize(("clock_ghz", "moved"), [(3.03, False), (3.06, True)])
def test_a_clock_that_moves_by_more_than_readings_of_it_differ_is_told(clock_ghz: float, moved: bool) -> None:
    rows = (ceiling("fma.f32.v256", clock_hz=3.0e9), ceiling("fma.f64.v256", clock_hz=clock_ghz * 1e9))
    assert [finding.code for finding in found(*rows)] == (["clock-drift"] if moved else [])


@pytest.mark.parametrize(
    "other",
    [
        {"backend": "cuda"},
        {"measures": "memory", "level": "L1", "access": "read"},
        {"variant": "v512"},
        {"clock_hz": None},
    ],
)
def test_only_clocks_of_arithmetic_of_one_license_are_held_against_each_other(other: dict[str, Any]) -> None:
    assert found(ceiling("a", clock_hz=3e9), ceiling("b", **{"clock_hz": 2e9, **other})) == []


def test_machine_code_that_is_not_what_its_sheet_says_is_an_error() -> None:
    failed = Proof(status="failed", expected={"math": 20}, found={"math": 10})
    (finding,) = found(ceiling("a", proof=failed), ceiling("b"))
    assert (finding.code, finding.severity, finding.case) == ("proof-failed", "error", "a[]@1")
    assert "{'math': 20} expected, {'math': 10} found" in finding.says


def test_kernels_that_never_ran_on_hardware_are_named() -> None:
    planned = (replace(FMA, name="fma.f16.v512", verified=False), FMA)
    (finding,) = found(planned=planned)
    assert (finding.code, finding.says) == ("unverified", "never verified on hardware before this run: fma.f16.v512")


def test_what_an_installation_would_bring_is_named_once_a_reason() -> None:
    def lacking(name: str, why: str) -> Sheet:
        return replace(FMA, name=name, unavailable=why)

    needs = "needs torch: pip install torch"
    lacks = [lacking("gemm.f32", needs), lacking("gemm.f64", needs), lacking("amx.i8", "needs amx_tile"), FMA]
    (told,) = left_out(lacks, [FMA])
    assert (told.severity, told.says) == ("info", f"left out: gemm.f32, gemm.f64: {needs}")
    (alone,) = left_out(lacks, [BARRIER])
    assert alone.severity == "warning"
