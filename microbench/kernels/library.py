"""Library ceilings: the best matrix product and the best copy that a user of PyTorch gets, on a processor or a GPU.

A matrix product's rate depends on its shape, and no shape is best everywhere. Where the case names none, `prepare`
looks for one (`gemm_search`). Operands are random, because that is what users multiply. One iteration is a tile of 16 x
16 x 16, so that the sheet's work does not depend on the shape.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from microbench.errors import CannotRun
from microbench.hardware.torch_import import import_torch
from microbench.kernels import Kernel
from microbench.kernels.gemm_search import TILE, Shape, search
from microbench.kernels.torch_products import multiplication, place, precision, quantised
from microbench.records import Device, Finding, Sheet, Timing, Value, Work

LINE = 64  # bytes that one iteration of a copy reads, and writes
SEARCH_S = {"cpu": 0.3, "cuda": 3.0}
_TIMED = 2  # products of a shape that the search asks for, after the one that starts it
LARGEST = {"cpu": 4096, "cuda": 16384}
CHECKED: Shape = (48, 80, 64)  # no two dimensions alike, so that a transposed operand cannot pass
COPIED_BYTES = 1 << 20
FAST = "torch_fast_accum"
NO_CUDA = "this PyTorch is built for processors only; install one with CUDA to see what libraries reach on this GPU"
NO_TORCH = "torch is not installed; pip install 'microbench-roofline[torch]'"

# Processor features of which one is needed for the product to be done in that format and not converted to another one.
_NATIVE = {
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
    "f16": ("avx512_fp16", "amx_fp16", "asimdhp", "fphp"),
    "i8": ("avx512_vnni", "avx_vnni", "amx_int8", "avx2", "asimddp", "i8mm"),
}
# The lowest GPU (major x 10 + minor) whose matrix units multiply that format.
_FLOOR = {"tf32": 80, "bf16": 80, "f16": 75, "i8": 75, "f8e4m3": 89}
_ACCUMULATORS = {"i8": "i32", "bf16": "f32", "f16": "f32", "tf32": "f32", "f8e4m3": "f32"}
# A product of k terms differs from the exact one by rounding each operand and each partial sum; twice that is no
# rounding any more.
_EPSILON = {
    "f64": 2.0**-52,
    "f32": 2.0**-23,
    "tf32": 2.0**-10,
    "f16": 2.0**-10,
    "bf16": 2.0**-7,
    "f8e4m3": 2.0**-3,
    "i8": 0.0,
}


def kernels(device: Device) -> Iterator[Kernel]:
    """Yield the library kernels for a device; without torch they are there, and say so."""
    reason = why_not(device)
    dtypes = ["f32", "f64", "bf16", "f16", "i8"] + (["tf32", "f8e4m3"] if device.kind == "cuda" else [])
    for name in dtypes:
        for fast in (False, True) if name == "f8e4m3" else (False,):
            sheet = gemm_sheet(device, name, fast=fast)
            yield Kernel(
                sheet=replace(sheet, unavailable=sheet.unavailable or reason),
                prepare=_Preparer(sheet, partial(Gemm, fast=fast)),
                check=_Checker(sheet),
            )
    sheet = copy_sheet(device)
    yield Kernel(sheet=replace(sheet, unavailable=reason), prepare=_Preparer(sheet, Copy), check=_Checker(sheet))


def why_not(device: Device) -> str | None:
    """Say why PyTorch cannot be used for a device, without importing it; ``None`` if nothing is known against it."""
    if importlib.util.find_spec("torch") is None:
        return NO_TORCH
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
    return NO_CUDA if device.kind == "cuda" and version.endswith("+cpu") else None


def gemm_sheet(device: Device, dtype: str, *, fast: bool = False) -> Sheet:
    """Describe the matrix product of one dtype; formats that the device converts to another one are labelled so."""
    native, unavailable = True, None
    if device.kind == "cpu" and dtype in _NATIVE:
        native = any(flag in device.features for flag in _NATIVE[dtype])
    if device.kind == "cuda" and dtype in _FLOOR and _capability(device) < _FLOOR[dtype]:
        major, minor = divmod(_FLOOR[dtype], 10)
        unavailable = f"{dtype} products need sm_{major}{minor} or newer; cuda:{device.index} is {device.arch}"
    variant, how = "torch", ""
    if not native:
        variant, how = "torch_emulated", ", converted to another format because this processor has no such instructions"
    elif fast:
        variant, how = FAST, ", sums kept as the tensor cores add them up (use_fast_accum)"
    elif quantised(device, dtype):
        variant, how = "torch_quantised", " of 8 by 7 bits, by oneDNN's quantised linear layer: `_int_mm` is slow here"
    return Sheet(
        name=f"gemm.{dtype}.{variant}",
        measures="compute",
        backend="torch",
        device_kind=device.kind,
        roles=("ceiling", "roof"),
        says=f"the best {dtype} matrix product that PyTorch gives, random operands{how}",
        dtype=dtype,
        accumulator=_ACCUMULATORS.get(dtype),
        variant=variant,
        work=Work(flop=2 * TILE**3),
        params=("m", "n", "k"),
        operands="random",
        source="microbench/kernels/library.py",
        verified=device.kind == "cpu",  # no GPU has run these yet
        unavailable=unavailable,
    )


def copy_sheet(device: Device) -> Sheet:
    """Describe PyTorch's copy of one tensor to another."""
    return Sheet(
        name="copy.f32.torch",
        measures="memory",
        backend="torch",
        device_kind=device.kind,
        # A call of the library costs more than a pass over a cache.
        roles=("dram_ceiling", "roof"),
        says="PyTorch's copy of one tensor to another; the working set is both",
        dtype="f32",
        access="copy",
        variant="torch",
        work=Work(bytes_read=LINE, bytes_written=LINE),
        params=("working_set",),
        operands="random",
        source="microbench/kernels/library.py",
        verified=device.kind == "cpu",  # no GPU has run these yet
    )


def _capability(device: Device) -> int:
    return int("".join(filter(str.isdigit, device.arch)) or 0)


@dataclass(frozen=True, slots=True)
class _Preparer:
    sheet: Sheet
    kind: Callable[[Device, str, int], Gemm | Copy]

    def __call__(
        self, device: Device, params: Mapping[str, Value], threads: int, cpus: Sequence[int] | None = None
    ) -> Gemm | Copy:
        del cpus  # the library pins nothing
        prepared = self.kind(device, self.sheet.dtype or "f32", threads)
        try:
            prepared.allocate(params)
        except (RuntimeError, MemoryError) as error:
            prepared.close()
            raise CannotRun(
                f"{self.sheet.name} cannot be prepared on {place(device)}: {str(error).splitlines()[0]}"
            ) from error
        return prepared


@dataclass(frozen=True, slots=True)
class _Checker:
    sheet: Sheet

    def __call__(self, device: Device) -> Finding | None:
        try:
            wrong = self._wrong(device)
        except (RuntimeError, AssertionError) as error:
            raise CannotRun(
                f"{self.sheet.name} cannot be checked on {place(device)}: {str(error).splitlines()[0]}"
            ) from error
        if wrong is None:
            return None
        return Finding(
            code="wrong-result",
            severity="error",
            says=f"{self.sheet.name} on {place(device)} is wrong: {wrong}",
            remedy="update PyTorch; its rate for this format cannot be trusted here",
        )

    def _wrong(self, device: Device) -> str | None:
        if self.sheet.access == "copy":
            return check_copy(device)
        return check_gemm(device, self.sheet.dtype or "f32", fast=self.sheet.variant == FAST)


class _Timed:
    """What products and copies share: a clock for the device they run on, and the number of threads."""

    def __init__(self, device: Device, dtype: str, threads: int) -> None:
        self.torch = import_torch()
        self.device, self.dtype, self.threads = device, dtype, threads
        self.place = place(device)

    def timed(self, call: Callable[[], object], times: int) -> int:
        """Nanoseconds for so many calls one after another."""
        if self.device.kind == "cuda":
            return self._events(call, times)
        if self.torch.get_num_threads() != self.threads:
            self.torch.set_num_threads(self.threads)
        started = time.perf_counter_ns()
        for _ in range(times):
            call()
        return max(1, time.perf_counter_ns() - started)

    def _events(self, call: Callable[[], object], times: int) -> int:
        start, stop = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        with self.torch.cuda.device(self.device.index):
            start.record()
            for _ in range(times):
                call()
            stop.record()
            stop.synchronize()
        return max(1, round(float(start.elapsed_time(stop)) * 1e6))


class Gemm(_Timed):
    """A matrix product with its operands in place."""

    def __init__(self, device: Device, dtype: str, threads: int, *, fast: bool = False) -> None:
        super().__init__(device, dtype, threads)
        self.fast = fast
        self.shape: Shape = (0, 0, 0)
        self._call: Callable[[], object] | None = None

    @property
    def found(self) -> dict[str, Value]:
        """The shape that ran, which the search chose where the case named none."""
        return dict(zip("mnk", self.shape, strict=True))

    def allocate(self, params: Mapping[str, Value]) -> None:
        """Take the case's shape or look for the best one."""
        given = [int(params[name]) for name in "mnk" if name in params]
        if given and len(given) < len("mnk"):
            raise ValueError("a shape needs m, n and k")
        if given:
            self.use((given[0], given[1], given[2]))
            return
        budget = SEARCH_S[self.device.kind]
        self.use(search(self.rate, budget, LARGEST[self.device.kind]))

    def use(self, shape: Shape) -> None:
        """Make the operands of one shape and run them once."""
        self._call = None
        self._call = multiplication(self.torch, self.device, self.dtype, shape, fast=self.fast)[0]
        self.shape = shape
        self.timed(self._call, 1)

    def timed(self, call: Callable[[], object], times: int) -> int:
        """Nanoseconds for so many products one after another, f32 as the dtype says."""
        with precision(self.torch, self.dtype):
            return super().timed(call, times)

    def rate(self, shape: Shape) -> tuple[float, float]:
        """FLOP/s of a shape, and the seconds of all its products as the timed ones tell them."""
        self.use(shape)
        assert self._call is not None
        took = [self.timed(self._call, 1) for _ in range(_TIMED)]
        return 2e9 * math.prod(shape) / min(took), (1 + _TIMED) / _TIMED * sum(took) * 1e-9

    def run(self, iterations: int) -> Timing:
        """Time at least so many tiles."""
        if self._call is None:
            raise CannotRun("this product is closed")
        tiles = math.prod(self.shape) // (TILE**3 * self.threads)
        times = max(1, -(-iterations // max(1, tiles)))
        ns = self.timed(self._call, times)
        return Timing(ns=ns, iterations=max(1, tiles) * times)

    def close(self) -> None:
        """Let go of the operands."""
        self._call = None


class Copy(_Timed):
    """A copy of one tensor to another."""

    def __init__(self, device: Device, dtype: str, threads: int) -> None:
        super().__init__(device, dtype, threads)
        self.tensors: tuple[Any, Any] | None = None

    def allocate(self, params: Mapping[str, Value]) -> None:
        """Two tensors that fill the working set together."""
        last = max((level.capacity_bytes or 0 for level in self.device.levels if level.name != "DRAM"), default=0)
        working_set = int(params.get("working_set", min(max(4 * last, 64 * COPIED_BYTES), 1024 * COPIED_BYTES)))
        lines = max(1, working_set // (2 * LINE) // self.threads) * self.threads
        source = self.torch.rand(lines * LINE // 4, device=self.place)
        self.tensors = (source, self.torch.empty_like(source))
        self.timed(self._copy, 1)

    def _copy(self) -> object:
        if self.tensors is None:
            raise CannotRun("this copy is closed")
        return self.tensors[1].copy_(self.tensors[0])

    def run(self, iterations: int) -> Timing:
        """Time at least so many lines of a thread."""
        if self.tensors is None:
            raise CannotRun("this copy is closed")
        lines = self.tensors[0].numel() * 4 // (LINE * self.threads)
        times = max(1, -(-iterations // lines))
        return Timing(ns=self.timed(self._copy, times), iterations=lines * times)

    def close(self) -> None:
        """Let go of the tensors."""
        self.tensors = None


def check_gemm(device: Device, dtype: str, *, fast: bool = False) -> str | None:
    """Compare a small product with the same one in float64; ``None`` where it is right."""
    torch = import_torch()
    m, n, k = CHECKED
    call, a, b = multiplication(torch, device, dtype, CHECKED, fast=fast)
    with precision(torch, dtype):
        found = call().double().cpu()
    expected = a.double().cpu() @ b.double().cpu()
    # Rounding of the result and of k partial sums, each at most k in size.
    allowed = 2 * _EPSILON[dtype] * max(1.0, math.sqrt(k)) * max(1.0, float(expected.abs().max()))
    worst = float((found - expected).abs().max())
    if not math.isfinite(worst) or worst > allowed:
        return f"{m} x {n} x {k} differs from float64 by {worst:.3g}, where rounding explains {allowed:.3g}"
    return None


def check_copy(device: Device) -> str | None:
    """Copy a little and compare; ``None`` where it is right."""
    copy = Copy(device, "f32", 1)
    copy.allocate({"working_set": COPIED_BYTES})
    assert copy.tensors is not None
    source, target = copy.tensors
    target.zero_()
    copy.run(1)
    return None if copy.torch.equal(source, target) else "the copy differs from what was copied"
