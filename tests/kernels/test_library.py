"""Library ceilings on the processor, and the search for a shape on invented rates."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from microbench import kernels
from microbench.errors import CannotRun
from microbench.kernels import library, torch_products
from microbench.records import Device, MemoryLevel

CPU = Device(
    id="0" * 16,
    kind="cpu",
    name="invented",
    arch="x86_64_v3",
    levels=(MemoryLevel(name="L1", capacity_bytes=32768), MemoryLevel(name="L2", capacity_bytes=1 << 20)),
    features=("avx2",),
)
GPU = Device(id="1" * 16, kind="cuda", name="invented", arch="sm_75", features=("sm_75",))


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    torch = pytest.importorskip("torch")
    before, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    yield
    torch.set_num_threads(before)
    torch.set_float32_matmul_precision(precision)


def by_name(device: Device) -> dict[str, kernels.Kernel]:
    return {kernel.sheet.name: kernel for kernel in library.kernels(device)}


@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16", "f16", "i8"])
def test_products_agree_with_float64(dtype: str) -> None:
    assert library.check_gemm(CPU, dtype) is None


@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16", "f16", "i8"])
def test_a_wrong_product_is_seen(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = library.multiplication

    def permuted(torch: Any, device: Device, dtype: str, shape: Any) -> Any:
        call, a, b = right(torch, device, dtype, shape)
        return lambda: call().flip(0).contiguous(), a, b

    monkeypatch.setattr(library, "multiplication", permuted)
    kernel = next(
        kernel for kernel in library.kernels(CPU) if kernel.sheet.dtype == dtype and kernel.sheet.measures == "compute"
    )
    finding = kernel.check(CPU)
    assert finding is not None
    assert finding.code == "wrong-result"


def test_the_copy_copies() -> None:
    assert by_name(CPU)["copy.f32.torch"].check(CPU) is None


@pytest.mark.parametrize("name", ["gemm.f32.torch", "copy.f32.torch"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_counts_the_work_it_did(name: str, threads: int) -> None:
    kernel = by_name(CPU)[name]
    params = {"m": 64, "n": 96, "k": 128} if name.startswith("gemm") else {"working_set": 1 << 20}
    prepared = kernel.prepare(CPU, params, threads)
    timing = prepared.run(1)
    work = kernel.sheet.work
    done = (work.flop or work.bytes) * timing.iterations * threads
    assert done == (2 * 64 * 96 * 128 if name.startswith("gemm") else 1 << 20)
    assert prepared.run(3 * timing.iterations).iterations == 3 * timing.iterations
    prepared.close()
    prepared.close()


def test_formats_without_instructions_are_labelled_emulated() -> None:
    assert "gemm.bf16.torch_emulated" in by_name(CPU)
    assert "gemm.bf16.torch" in by_name(replace(CPU, features=("avx2", "avx512_bf16")))


def test_integers_are_multiplied_by_the_fast_path_that_the_processor_has_and_the_variant_says_which() -> None:
    assert "gemm.i8.torch_quantised" in by_name(CPU)
    for dot in ("avx512_vnni", "avx_vnni", "amx_int8"):
        assert "gemm.i8.torch" in by_name(replace(CPU, features=("avx2", dot)))
    assert "gemm.i8.torch" in by_name(replace(CPU, features=("asimd", "asimddp")))


def test_a_quantised_product_is_exact_where_two_products_would_overflow_16_bits() -> None:
    torch = pytest.importorskip("torch")
    a, b = torch.full((16, 32), 127, dtype=torch.int8), torch.full((32, 48), 63, dtype=torch.int8)
    b[::2] = -64
    exact = a.double() @ b.double()
    assert torch.equal(torch_products.quantised_product(torch, a, b)().double(), exact)


def test_a_pytorch_without_the_quantised_layer_says_so() -> None:
    torch = pytest.importorskip("torch")

    class Without:
        class ops:  # noqa: N801 - torch's own name
            onednn = object()

    with pytest.raises(CannotRun, match="no oneDNN quantised linear layer"):
        torch_products.quantised_product(Without, torch.zeros(1), torch.zeros(1))


def test_a_pytorch_for_processors_says_so_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.importlib.metadata, "version", lambda _: "2.13.0+cpu")
    assert {kernel.sheet.unavailable for kernel in library.kernels(replace(GPU, arch="sm_90a"))} == {library.NO_CUDA}
    assert library.why_not(CPU) is None


def test_an_old_gpu_says_which_formats_it_lacks_without_importing_torch() -> None:
    sheets = {dtype: library.gemm_sheet(GPU, dtype) for dtype in ("f32", "tf32", "f8e4m3")}
    assert sheets["f32"].unavailable is None
    assert "sm_80 or newer" in (sheets["tf32"].unavailable or "")
    assert "sm_89 or newer" in (sheets["f8e4m3"].unavailable or "")


def test_without_torch_every_sheet_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(library.importlib.util, "find_spec", lambda _: None)
    assert {kernel.sheet.unavailable for kernel in library.kernels(CPU)} == {library.NO_TORCH}


def test_a_shape_with_a_dimension_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs m, n and k"):
        by_name(CPU)["gemm.f32.torch"].prepare(CPU, {"m": 64}, 1)
