"""The proof must refuse: kernels that compile without a word and would have given a false number."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ptx import toolchain

from microbench.kernels.cuda.rows import ROWS, CudaRow
from microbench.proof import cuda, sass

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(toolchain.nvcc() is None, reason="no nvcc 13 on the PATH, traps cannot be compiled here"),
    pytest.mark.skipif(sass.nvdisasm() is None, reason="no nvdisasm: pip install nvidia-cuda-nvdisasm==13.5.37"),
]


def row_of(symbol: str) -> CudaRow:
    return next(row for row in ROWS if row.symbol == symbol)


def changed(family: str, *swaps: tuple[str, str]) -> str:
    text = toolchain.source(family)
    for old, new in swaps:
        assert old in text, f"{family}.cu no longer holds {old!r}"
        text = text.replace(old, new)
    return text


def complaints(row: CudaRow, target: str, text: str) -> str:
    path = toolchain.compiled(text, target, flags=("-O3", "-std=c++17"))
    return "; ".join(cuda.complaints(row, cuda.examine_all(path, target, (row,))[row.symbol]))


@pytest.mark.parametrize("target", ["sm_90a", "sm_100a"])
def test_emulated_fp8_is_refused(target: str) -> None:
    text = changed("mma", ("#if __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200", "#if 1"))
    assert "no loop with QMMA" in complaints(row_of("mma_e4m3_f32_m16n8k32"), target, text)


@pytest.mark.parametrize("target", ["sm_80", "sm_90a", "sm_120f"])
def test_hoisted_shared_loads_are_refused(target: str) -> None:
    text = changed("shared", ("ld.volatile.shared.v4", "ld.shared.v4"))
    assert "read_shared: " in complaints(row_of("read_shared"), target, text)


def test_a_system_scope_chase_is_refused() -> None:
    text = changed(
        "chase",
        (
            'asm volatile("ld.global.ca.u64 %0, [%1];" : "=l"(to) : "l"(at));',
            "to = *reinterpret_cast<volatile u64*>(at);",
        ),
    )
    assert "system-scope" in complaints(row_of("chase_ca"), "sm_90a", text)


@pytest.mark.parametrize("target", ["sm_80", "sm_100a"])
def test_unstored_chains_are_refused(target: str) -> None:
    stores = "    out[(2 * p) * THREADS] = x[p];\n    out[(2 * p + 1) * THREADS] = y[p];\n"
    text = changed("plain", (stores, "    if (p == 0) out[0] = x[0];\n"))
    said = complaints(row_of("fma_f32"), target, text)
    assert "math instructions in the loop, the row says 496" in said or "chains" in said


def test_divergent_tcgen05_issue_is_refused() -> None:
    text = changed("tcgen05", ("if (elected) issue", "if (threadIdx.x == 0) issue"))
    assert "divergent" in complaints(row_of("tcgen05_f16_m128n256k16"), "sm_100a", text)


@pytest.mark.parametrize("symbol", ["read_bulk", "copy_bulk"])
def test_divergent_bulk_copies_are_refused(symbol: str) -> None:
    text = changed("stream", ("if (chosen()) {", "if (threadIdx.x == 0) {"))
    assert f"{symbol}: " in complaints(row_of(symbol), "sm_90a", text)


@pytest.mark.parametrize("before", ['    asm volatile("wgmma.commit_group', "      if (REGISTERS)\n        kind::"])
def test_serialised_wgmma_neither_builds_nor_passes(before: str) -> None:
    text = changed("wgmma", (before, "d[0] += 1;\n" + before))
    with pytest.raises(AssertionError, match=r"warpgroup\.(arrive|wait) is injected|serialized"):
        toolchain.compiled(text, "sm_90a")
    path = toolchain.compiled(text, "sm_90a", flags=("-O3", "-std=c++17"), advice=False)
    row = row_of("wgmma_f16_m64n256k16_ss")
    assert "serialised" in "; ".join(cuda.complaints(row, cuda.examine_all(path, "sm_90a", (row,))[row.symbol]))


def test_spills_do_not_build() -> None:
    text = changed("plain", ("__launch_bounds__(THREADS, 4)", "__launch_bounds__(THREADS, 8)"))
    with pytest.raises(AssertionError, match="spilled"):
        toolchain.compiled(text, "sm_80")


def test_an_unrolled_loop_is_refused() -> None:
    text = changed(
        "chase", ("constexpr int STEPS = 16;", "constexpr int STEPS = 4;"), ("#pragma unroll 1\n", "#pragma unroll 4\n")
    )
    said = complaints(row_of("chase_ca"), "sm_80", text)
    assert "the loop counts by" in said


def test_a_host_that_packs_other_parameters_is_refused() -> None:
    row = replace(row_of("fma_f32"), layout="stream")
    assert "parameters" in complaints(row, "sm_80", toolchain.source("plain"))


def test_a_claim_of_more_work_is_refused() -> None:
    row = replace(row_of("fma_f32"), math_count=512)
    assert "496 math instructions in the loop, the row says 512" in complaints(row, "sm_80", toolchain.source("plain"))


def test_a_short_loop_is_not_a_peak() -> None:
    text = changed("plain", ("static constexpr int turns = 31;", "static constexpr int turns = 5;"))
    row = replace(row_of("fma_f32"), math_count=80)
    assert "at least 0.99 is claimed" in complaints(row, "sm_90a", text)


@pytest.mark.parametrize(("family", "target"), [("wgmma", "sm_80"), ("tcgen05", "sm_120f"), ("tcgen05", "sm_90a")])
def test_a_family_does_not_compile_where_it_does_not_exist(family: str, target: str) -> None:
    with pytest.raises(AssertionError, match=target):
        toolchain.compiled(toolchain.source(family), target)
