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

    def permuted(torch: Any, device: Device, dtype: str, shape: Any, **more: bool) -> Any:
        call, a, b = right(torch, device, dtype, shape, **more)
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


@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_the_precision_of_f32_is_what_it_was_after_every_product(before: str) -> None:
    torch = pytest.importorskip("torch")
    torch.set_float32_matmul_precision(before)
    seen = []
    for dtype in ("f32", "tf32"):
        product = library.Gemm(CPU, dtype, 1)
        product.use((64, 64, 64))
        product.timed(lambda: seen.append(torch.get_float32_matmul_precision()), 1)
        product.run(1)
        assert torch.get_float32_matmul_precision() == before
    assert seen == ["highest", "high"]
    assert library.check_gemm(CPU, "f32") is None
    assert torch.get_float32_matmul_precision() == before


class AsOnAGpu:
    """A FAKE of PyTorch that notes how the products of 8-bit formats are called."""

    int32, bfloat16 = "int32", "bfloat16"

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = []

    def ones(self, *_: object, **__: object) -> float:
        return 1.0

    def empty(self, *size: int, **_: object) -> object:
        return size

    def _int_mm(self, a: Any, b: Any, **more: Any) -> None:
        self.calls.append(("_int_mm", a.stride(), b.stride(), more))

    def _scaled_mm(self, a: Any, b: Any, *_: object, **more: Any) -> None:
        self.calls.append(("_scaled_mm", a.stride(), b.stride(), more))


class OnTheGpu:
    """A FAKE tensor that says it lies on a GPU, with strides as PyTorch's."""

    def __init__(self, held: Any) -> None:
        self.held = held
        self.device = type("Place", (), {"type": "cuda"})
        self.dtype = held.dtype
        self.shape = held.shape

    def t(self) -> OnTheGpu:
        return OnTheGpu(self.held.t())

    def contiguous(self) -> OnTheGpu:
        return OnTheGpu(self.held.contiguous())

    def stride(self) -> tuple[int, ...]:
        return tuple(self.held.stride())


@pytest.mark.parametrize(("dtype", "fast"), [("i8", False), ("f8e4m3", False), ("f8e4m3", True)])
def test_8_bit_products_of_a_gpu_take_the_right_operand_column_by_column(dtype: str, fast: bool) -> None:
    torch = pytest.importorskip("torch")
    a, b = (OnTheGpu(torch.zeros(size, dtype=torch.int8)) for size in ((32, 64), (64, 48)))
    noted = AsOnAGpu()
    torch_products.product(noted, dtype, a, b, fast=fast)()  # type: ignore[arg-type]
    ((_, left, right, more),) = noted.calls
    assert left == (64, 1)
    assert right == (1, 64)
    assert more.get("use_fast_accum") == (None if dtype == "i8" else fast)


def test_f8_products_are_two_rows_by_how_sums_are_kept() -> None:
    sheets = {name: kernel.sheet for name, kernel in by_name(replace(GPU, arch="sm_90a")).items()}
    slow, fast = sheets["gemm.f8e4m3.torch"], sheets["gemm.f8e4m3.torch_fast_accum"]
    assert "use_fast_accum" in fast.says
    assert "use_fast_accum" not in slow.says
    assert [name for name in by_name(CPU) if "f8" in name] == []
