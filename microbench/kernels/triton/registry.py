"""The same ceilings by another compiler: streams, `tl.dot` per dtype, vector FMA and mixed intensity in Triton.

A second, independent measurement beside the CUDA C++ kernels, and what is left where there is neither nvcc nor NVRTC.
`tl.dot` names its `input_precision` always: without it float32 silently becomes TF32.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from microbench.errors import CannotRun
from microbench.kernels import Kernel
from microbench.kernels.library import why_not as no_torch
from microbench.kernels.triton.jobs import (
    ARRAYS,
    BLOCK,
    FMAS,
    MIXED,
    PAIRS,
    PRODUCTS,
    TURNS,
    Dot,
    DotJob,
    FmaJob,
    Job,
    MixDotJob,
    MixJob,
    StreamJob,
)
from microbench.records import Device, Finding, Measures, Sheet, Unit, Value, Work

NO_TRITON = "Triton is not installed; pip install 'microbench-roofline[torch]'"
_UNITS: dict[str, Unit] = {"dot": "matrix", "fma": "scalar", "mix": "scalar"}
DEFAULT_BYTES = 256 << 20
CHECK_BYTES = 1 << 20
_SINCE_AMPERE = (80, 86, 87, 89, 90, 100, 103, 120, 121)
# On other targets Triton falls back to plain FMAs, converts, or does not compile: those would be a rate of something
# else.
DOTS = (
    Dot(dtype="f16", accumulator="f32", shape=(128, 128, 64), targets=_SINCE_AMPERE),
    Dot(dtype="bf16", accumulator="f32", shape=(128, 128, 64), targets=_SINCE_AMPERE),
    Dot(dtype="tf32", accumulator="f32", shape=(128, 128, 32), targets=_SINCE_AMPERE, precision="tf32"),
    Dot(dtype="f8e4m3", accumulator="f32", shape=(128, 128, 64), targets=(89, 90, 100, 103, 120, 121)),
    Dot(dtype="i8", accumulator="i32", shape=(128, 128, 64), targets=_SINCE_AMPERE),
    Dot(dtype="f64", accumulator="f64", shape=(64, 64, 16), targets=(80, 90)),
)


def kernels(device: Device) -> Iterator[Kernel]:
    """Yield the Triton kernels of a GPU; where Triton or a PyTorch with CUDA is missing they say so."""
    reason = no_torch(device) or (None if importlib.util.find_spec("triton") else NO_TRITON)
    capability = int("".join(filter(str.isdigit, device.arch)) or 0)
    for each in DOTS:
        lacks = (
            None
            if capability in each.targets
            else f"Triton has no matrix instruction for {each.dtype} on {device.arch}"
        )
        m, n, k = each.shape
        sheet = _sheet(
            f"dot.{each.dtype}.{each.accumulator}.triton",
            "compute",
            each.dtype,
            Work(flop=4 * m * n * k),
            reason or lacks,
        )
        yield _kernel(device, sheet, lambda _, each=each: DotJob(device, each))  # type: ignore[misc]
    work = Work(flop=4 * TURNS * PAIRS)
    yield _kernel(device, _sheet("fma.f32.triton", "compute", "f32", work, reason), lambda _: FmaJob(device))
    for access, (loads, stores) in ARRAYS.items():
        work = Work(bytes_read=4 * BLOCK * loads, bytes_written=4 * BLOCK * stores)
        sheet = _sheet(f"{access}.f32.triton", "memory", "f32", work, reason)
        yield _kernel(device, sheet, lambda params, access=access: StreamJob(device, access, _size(params)))  # type: ignore[misc]
    for fmas in FMAS:
        work = Work(flop=4 * fmas * BLOCK, bytes_read=8 * BLOCK)
        sheet = _sheet(f"mix.f32.fma{fmas}.triton", "intensity", "f32", work, reason)
        yield _kernel(device, sheet, lambda params, fmas=fmas: MixJob(device, fmas, _size(params)))  # type: ignore[misc]
    yield from _mixed_products(device, capability, reason)


def _mixed_products(device: Device, capability: int, reason: str | None) -> Iterator[Kernel]:
    half = next(each for each in DOTS if each.dtype == "f16")
    lacks = None if capability in half.targets else f"Triton has no matrix instruction for f16 on {device.arch}"
    rows, depth = MIXED
    for columns, products in PRODUCTS:
        work = Work(flop=2 * rows * columns * depth * products, bytes_read=2 * rows * depth)
        name = f"mix.f16.f32.dot{columns * products}.triton"
        sheet = replace(_sheet(name, "intensity", "f16", work, reason or lacks), unit="matrix", accumulator="f32")
        yield _kernel(device, sheet, lambda params, n=columns, p=products: MixDotJob(device, n, p, _size(params)))  # type: ignore[misc]


def _size(params: Mapping[str, Value]) -> int:
    return CHECK_BYTES if "check" in params else int(params.get("working_set", DEFAULT_BYTES))


def _sheet(name: str, measures: Measures, dtype: str, work: Work, reason: str | None) -> Sheet:
    what, _, rest = name.partition(".")
    return Sheet(
        name=name,
        measures=measures,
        backend="triton",
        device_kind="cuda",
        roles=("intensity",) if measures == "intensity" else ("ceiling", "roof"),
        says=f"{what} in {dtype}, compiled by Triton",
        unit=_UNITS.get(what),
        dtype=dtype,
        accumulator=rest.split(".")[1] if what == "dot" else None,
        access=what if what in ARRAYS else None,
        variant="triton",
        work=work,
        params=("working_set",) if work.bytes else (),
        operands="exact",
        source="microbench/kernels/triton/code.py",
        verified=False,
        unavailable=reason,
    )


def _kernel(here: Device, sheet: Sheet, make: Callable[[Mapping[str, Value]], Job]) -> Kernel:
    def prepare(device: Device, params: Mapping[str, Value], threads: int, cpus: Sequence[int] | None = None) -> Job:
        del device, threads, cpus
        if sheet.unavailable:
            raise CannotRun(f"{sheet.name} cannot run on cuda:{here.index}: {sheet.unavailable}")
        try:
            job = make(params)
            job.start(1)
            job.torch.cuda.synchronize(job.place)
        except CannotRun:
            raise
        except Exception as error:
            # Triton's compiler raises what its passes raise, with the program text behind the first line.
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise CannotRun(f"{sheet.name} cannot be prepared on cuda:{here.index}: {first}") from error
        return job

    def check(_: Device) -> Finding | None:
        job = prepare(here, {"check": True}, 1)
        try:
            job.start(3)
            if job.right(3):
                return None
        finally:
            job.close()
        says = f"{sheet.name} on cuda:{here.index} is wrong: it left other values than its operands give"
        return Finding(
            code="wrong-result",
            severity="error",
            says=says,
            remedy="update Triton; compare with the CUDA C++ kernel of that name",
        )

    return Kernel(sheet=sheet, prepare=prepare, check=check)
