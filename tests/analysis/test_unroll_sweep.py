from __future__ import annotations

import pytest

from microbench.analysis.unroll_sweep import edges
from microbench.records import Case, Finding, Samples, Sheet, Work


def found(rates: dict[str, float], access: str = "read", per_sm: tuple[int, ...] = (0, 4)) -> list[Finding]:
    """Findings of a sweep whose kernels reach these rates with all the blocks that fit, and half of it with four."""
    sheets, cases, samples = {}, {}, []
    for variant, rate in rates.items():
        sheet = Sheet(
            name=f"{access}.i32.{variant}",
            measures="memory",
            backend="cuda",
            device_kind="cuda",
            says="",
            access=access,  # type: ignore[arg-type]
            variant=variant,
            work=Work(bytes_read=1 << 20),
        )
        sheets[sheet.name] = sheet
        for blocks in per_sm:
            case = Case(kernel=sheet.name, params={"working_set": 1 << 28, "blocks_per_sm": blocks})
            cases[case.key] = case
            ns = round(2**20 * 1e9 * 1000 / rate) * (2 if blocks else 1)
            samples += [
                Samples(case=case.key, round=i, started_s=0.0, iterations=1000, ns=(ns, 2 * ns), count=2)
                for i in range(2)
            ]
    return edges(samples, cases, sheets)


def test_a_sweep_that_reaches_its_plateau_inside_raises_nothing() -> None:
    assert found({"u1": 1e12, "u2": 2e12, "u4": 3e12, "u8": 3.01e12}) == []
    assert found({"u1": 1e12, "u2": 3e12, "u4": 2e12, "u8": 1e12}) == []


def test_a_best_at_the_edge_names_the_parameter_and_both_rates() -> None:
    (finding,) = found({"u1": 1e12, "u2": 2e12, "u4": 2.5e12, "u8": 3e12})
    assert finding.code == "sweep-edge"
    assert "read over 256 MiB" in finding.says
    assert "accesses in flight" in finding.says
    assert "3.000 TB/s with 8 a thread, 2.500 TB/s with at most 4" in finding.says
    assert finding.case == "read.i32.u8[blocks_per_sm=0;working_set=268435456]@1"


@pytest.mark.parametrize("rate", [2.98e12, 3.5e12])
def test_another_kind_of_kernel_that_is_as_fast_settles_it(rate: float) -> None:
    assert found({"u1": 1e12, "u2": 2e12, "u4": 2.5e12, "u8": 3e12, "bulk": rate}) == []
    assert found({"u1": 1e12, "u2": 2e12, "u4": 2.5e12, "u8": 3e12, "bulk": 2e12}) != []


def test_two_points_are_no_sweep() -> None:
    assert found({"u4": 2.5e12, "u8": 3e12}) == []
