from __future__ import annotations

import pytest

from microbench.errors import UsageError
from microbench.operators import op
from microbench.predict import predict, roofs
from microbench.records import Ceiling, Characterisation, Cost, Device, Estimate, MemoryLevel


def _exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def small_machine() -> Characterisation:
    """1 TFLOP/s of f32, 1 MB of L2 at 1 TB/s, DRAM at 100 GB/s, 1 us to launch."""
    device = Device(id="0", kind="cpu", name="small", arch="none", levels=(MemoryLevel(name="L2", capacity_bytes=10**6),))
    ceilings = (
        Ceiling(name="fma.f32", measures="compute", backend="native", rate=_exactly(1e12), case="a", dtype="f32"),
        Ceiling(name="read.l2", measures="memory", backend="native", rate=_exactly(1e12), case="b", level="L2"),
        Ceiling(name="read.dram", measures="memory", backend="native", rate=_exactly(1e11), case="c", level="DRAM"),
    )
    return Characterisation(
        schema="1.0",
        device=device,
        environment=None,
        plan=None,
        ceilings=ceilings,
        costs=(Cost(name="launch.eager", seconds=_exactly(1e-6)),),
    )


def test_without_a_fit_the_roofline_and_the_cost_add_up() -> None:
    (square,) = predict("matmul:m=1000,n=1000,k=1000", small_machine())
    assert square.limiter == "compute"
    assert square.seconds.value == pytest.approx(1e-6 + 2e9 / 1e12)
    assert square.seconds.low < square.seconds.value < square.seconds.high


def test_a_working_set_that_fits_is_served_by_the_cache_unless_it_is_cold() -> None:
    hot, cold = predict([op("copy", size=10**5), op("copy", size=10**5, cache="cold")], small_machine())
    assert (hot.level, cold.level) == ("L2", "DRAM")
    assert cold.terms["memory"] == pytest.approx(10 * hot.terms["memory"])


def test_a_tiny_operator_is_bound_by_its_cost() -> None:
    (tiny,) = predict([op("add", size=4)], small_machine())
    assert (tiny.bound, tiny.limiter) == ("cost", "cost")


def test_a_dtype_without_a_ceiling_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="it has f32"):
        roofs(small_machine(), "bf16")


def test_the_package_offers_the_function_although_the_module_is_imported() -> None:
    import microbench
    import microbench.predict

    assert microbench.predict is predict
    assert microbench.op("add", size=1) == op("add", size=1)
