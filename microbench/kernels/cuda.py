"""The CUDA C++ kernels, carried out: rows become kernels, `prepare` loads code and fills memory, `run` launches and reads the stamps.

A sample is one launch with its iterations inside, between two events with the queue held by the gate. Every block stamps its cycles and
nanoseconds, which gives the clock it ran at, apart from the event's time. The longer of the two times counts.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from microbench.devices import cuda as probe
from microbench.devices import nvml
from microbench.errors import CannotRun, ContextLost
from microbench.kernels import Kernel, Prepare, Prepared, cuda_near, cuda_stamps, cuda_tensor
from microbench.kernels.cuda_code import Code, Library, rows_and_reasons
from microbench.kernels.cuda_rows import LAYOUTS, STAMP_WORDS, CudaRow, parameter_offsets
from microbench.kernels.cuda_tensor import Compute
from microbench.kernels.cuda_values import plain
from microbench.records import Device, Finding, Operands, Sheet, Timing, Value, Work

if TYPE_CHECKING:
    from microbench import _cuda
    from microbench.kernels import cuda_stream

MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
SHARED_BY_DEFAULT = 48 << 10
MOST_ITERATIONS = 2**31 - 1
CHECK_ITERATIONS = 3  # odd: after an even number an exchange of signs has cancelled
VALUES: dict[str, Callable[[CudaRow, Any], Compute]] = {
    "plain": plain,
    **cuda_tensor.VALUES,
    **cuda_near.VALUES,
    "chase": cuda_near.chase_shared,
}
SENSOR_PERIOD_S = 0.02  # NVML answers in about a millisecond and refreshes no faster


def kernels(device: Device) -> Iterator[Kernel]:
    """Yield the CUDA C++ kernels of a device; those it lacks carry the reason."""
    from microbench.kernels import cuda_chase, cuda_links, cuda_stream

    station = Station(device)
    for row, reason in rows_and_reasons(station.library):
        carried: Carried = cuda_stream.prepare if row.layout == "stream" else prepare_compute
        if row.family == "chase" and row.space == "global":
            carried = cuda_chase.prepare
        for kind in kinds(row):
            yield kernel_of(station, row, sheet_of(row, station.library, kind, reason), carried)
    yield from cuda_links.kernels(station)


def kinds(row: CudaRow) -> tuple[Operands, ...]:
    """Which operands a row is measured with; none for the kernels that only serve others.

    Random operands settle a compute loop's power. The mixed loop is no ceiling, and its exact sums are checked to the bit.
    """
    if row.limiter == "none":
        return ()
    return ("exact", "random") if row.measures == "compute" and "random" in row.operands else ("exact",)


def kernel_of(station: Station, row: CudaRow, sheet: Sheet, prepare: Carried) -> Kernel:
    """Join a row, its sheet and the function that carries out its layout."""

    def prepared(device: Device, params: Mapping[str, Value], threads: int) -> Prepared:
        del device, threads
        if sheet.unavailable:
            raise CannotRun(f"{sheet.name} cannot run on {station.name}: {sheet.unavailable}")
        with station.driving(sheet.name):
            return prepare(station, row, sheet, params)

    def check(device: Device) -> Finding | None:
        del device
        with station.driving(f"{sheet.name} (check)"):
            job = prepare(station, row, sheet, {"check": True})
            try:
                wrong = job.check()
            finally:
                job.close()
        return wrong_result(station, sheet, wrong) if wrong else None

    carried: Prepare = prepared
    return Kernel(sheet=sheet, prepare=carried, check=check)


def wrong_result(station: Station, sheet: Sheet, wrong: str) -> Finding:
    """Say that a kernel computed something else than it must."""
    return Finding(
        code="wrong-result",
        severity="error",
        says=f"{sheet.name} on {station.name} is wrong: {wrong}",
        remedy="check the card's memory and power (nvidia-smi -q -d ECC,PERFORMANCE); without such a fault, report it with this file",
    )


def sheet_of(row: CudaRow, library: Library, kind: Operands, reason: str | None) -> Sheet:
    """Turn a row into the facts that are stored with a run. Random operands are a kernel of their own, with the same machine code."""
    legacy = library.target in row.legacy
    notes = ["the legacy path of this chip"] if legacy else []
    notes += ["a slow unit of this chip"] if library.target in row.slow else []
    return Sheet(
        name=row.name if kind == "exact" else f"{row.name}.random",
        measures=row.measures,
        backend="cuda",
        device_kind="cuda",
        says=f"{row.says}{' (' + ', '.join(notes) + ')' if notes else ''}",
        unit=row.unit,
        dtype=row.dtype,
        accumulator=row.accumulator,
        access=row.access,
        variant=".".join(filter(None, (row.variant, "legacy" if legacy else ""))),
        lanes=max(1, row.flop_per_math // 2),
        chains=row.chains,
        math=row.math_count,
        loads=row.loads,
        stores=row.stores,
        access_bytes=row.access_bytes,
        work=Work(flop=row.flop, bytes_read=row.bytes_read, bytes_written=row.bytes_written),
        params=_params(row),
        operands=kind,
        source=f"csrc/cuda/kernels/{row.family}.cu",
        symbol=row.symbol,
        verified=False,  # until a characterisation of a real GPU lies under results/
        unavailable=reason,
    )


def _params(row: CudaRow) -> tuple[str, ...]:
    if row.layout == "stream":
        return ("working_set", "blocks_per_sm")
    return ("working_set",) if row.family == "chase" and row.space == "global" else ()


def sheets_for(arch: str, driver_version: int = 13000) -> list[Sheet]:
    """List every kernel of a compute target, which need not be here, with where its code would come from.

    Raises
    ------
    UsageError
        If the target is unknown.

    Examples
    --------
    >>> [sheet.unavailable for sheet in sheets_for("sm_90a") if sheet.name == "wgmma.bf16.f32.m64n256k16.ss"]
    [None]
    """
    return [replace(sheet, source=origin) for sheet, origin in sheets(probe.imagined(arch), driver_version)]


def sheets(device: Device, driver_version: int = 13000) -> list[tuple[Sheet, str]]:
    """List every kernel of a device, present or imagined, with where its code comes from. Needs no GPU.

    Examples
    --------
    >>> from microbench.devices.cuda import imagined
    >>> [sheet.unavailable for sheet, _ in sheets(imagined("sm_90a")) if sheet.name == "fma.f32"]
    [None]
    """
    library = Library(device, driver_version)
    rows = [(row, reason) for row, reason in rows_and_reasons(library) if kinds(row)]
    return [(sheet_of(row, library, "exact", reason), library.origin(row.family)) for row, reason in rows]


class Checkable(Prepared, Protocol):
    """A prepared kernel that can compare its own result."""

    def check(self) -> str | None:
        """Run a few iterations and say what is wrong, ``None`` if nothing is."""


Carried = Callable[["Station", CudaRow, Sheet, Mapping[str, Value]], Checkable]


class Station:
    """One GPU at work: its context, timer, loaded code, gate and sensors. Made when the first kernel is prepared."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.name = f"cuda:{device.index}"
        self.cuda: Any = probe.extension()
        self.library = Library.here(device)
        self.step_ns: int | None = None
        self._images: dict[str, tuple[Code, _cuda.Module]] = {}
        self._last_look = 0.0
        self._reading = nvml.Reading()

    @cached_property
    def context(self) -> _cuda.Context:
        """The device's primary context, shared with every other library of this process."""
        made: _cuda.Context = self.cuda.Context(self.device.index)
        return made

    @cached_property
    def timer(self) -> _cuda.Timer:
        """The one stream that everything is timed on."""
        made: _cuda.Timer = self.cuda.Timer(self.context)
        return made

    @cached_property
    def sensors(self) -> nvml.Sensors:
        """Power, temperature and throttling of this GPU."""
        return nvml.Sensors(probe.raw(self.device.index)["uuid"])

    @cached_property
    def gate(self) -> cuda_stamps.GateKeeper:
        """What holds the queue while launches are put into it."""
        return cuda_stamps.GateKeeper(self)

    @contextlib.contextmanager
    def driving(self, subject: str) -> Iterator[None]:
        """Name the case in errors of the driver, and turn them into sentences of this project."""
        try:
            self.context.subject = subject
            yield
        except self.cuda.DriverError as error:
            if error.lost:
                remedy = "what was measured is kept; 'microbench run --resume FILE' goes on in a fresh process"
                raise ContextLost(f"{error}; {remedy}") from error
            raise CannotRun(str(error)) from error

    def load(self, family: str) -> tuple[Code, _cuda.Module]:
        """Load a family's machine code once."""
        if family not in self._images:
            code = self.library.code(family)
            self._images[family] = (code, self.context.load(code.image))
        return self._images[family]

    def function(self, row: CudaRow) -> _cuda.Function:
        """Return a row's kernel, with as much shared memory as it asks for."""
        found = self.load(row.family)[1].function(row.symbol)
        if row.shared_bytes > SHARED_BY_DEFAULT:
            found.set_attribute(MAX_DYNAMIC_SHARED, row.shared_bytes)
        return found

    def blocks(self, row: CudaRow, function: _cuda.Function, per_sm: int = 0) -> int:
        """Blocks that fill the device: so many a multiprocessor as asked for, the row's number, or all that fit."""
        sms = self.device.units_by_kind.get("sm")
        fit = function.occupancy(row.threads, row.shared_bytes)
        if not sms or fit < 1:
            block = f"{row.threads} threads and {row.shared_bytes} bytes of shared memory"
            raise CannotRun(f"no block of {row.name} ({block}) fits a multiprocessor of {self.name}")
        return sms * min(per_sm or row.blocks_per_sm or fit, fit)

    @cached_property
    def arena(self) -> cuda_stream.Arena:
        """The memory that streams share."""
        from microbench.kernels import cuda_stream

        return cuda_stream.Arena(self)

    def look(self, now: float) -> nvml.Reading:
        """Read the sensors, at most every `SENSOR_PERIOD_S`."""
        if now - self._last_look >= SENSOR_PERIOD_S:
            self._last_look, self._reading = now, self.sensors.read()
        return self._reading


def packed(layout: str, **values: int) -> bytes:
    """Pack a kernel's parameters at their natural offsets, as the driver hands them on.

    Examples
    --------
    >>> packed("compute", out=1, **{"in": 2}, stamps=3, iterations=4).hex()
    '01000000000000000200000000000000030000000000000004000000'
    """
    whole = b""
    for parameter, (offset, size) in zip(LAYOUTS[layout], parameter_offsets(layout), strict=True):
        whole = whole.ljust(offset, b"\0") + struct.pack("<Q" if size == 8 else "<I", values[parameter.name])
    return whole


@dataclass(slots=True)
class Stage:
    """A kernel on its device: function, grid, and the buffers that every layout has."""

    station: Station
    row: CudaRow
    function: _cuda.Function
    blocks: int
    stamps: _cuda.Buffer
    buffers: list[_cuda.Buffer]
    warm: bool = False

    @classmethod
    def set_up(cls, station: Station, row: CudaRow, blocks: int, function: _cuda.Function) -> Stage:
        """Allocate the stamps."""
        stamps = station.context.alloc(blocks * STAMP_WORDS * 8)
        return cls(station, row, function, blocks, stamps, [stamps])

    def alloc(self, size: int) -> _cuda.Buffer:
        """Device memory that `close` gives back."""
        buffer = self.station.context.alloc(size)
        self.buffers.append(buffer)
        return buffer

    def launch(self, params: bytes) -> cuda_stamps.Seen:
        """Launch once and read the stamps. The first launch of all is not gated: loading code lazily would wait for the gate."""
        station = self.station
        launch = station.cuda.Launch(self.function, (self.blocks, 1, 1), (self.row.threads, 1, 1), self.row.shared_bytes, params)
        gate = station.gate.closed() if self.warm else None
        ns = station.timer.launches(launch, 1, gate)
        self.warm = True
        stamps = np.frombuffer(self.stamps.read(0, self.stamps.size), dtype=np.uint64).reshape(-1, STAMP_WORDS)
        seen = cuda_stamps.read(stamps, ns, station.step_ns)
        station.step_ns = seen.step_ns
        return seen

    def close(self) -> None:
        """Give every buffer back; again is allowed."""
        while self.buffers:
            self.buffers.pop().close()


def timing(station: Station, seen: cuda_stamps.Seen, iterations: int, checked: bool | None) -> Timing:
    """Join a launch's time and clock with what the sensors say."""
    import time

    reading = station.look(time.monotonic())
    return Timing(
        ns=seen.ns,
        iterations=iterations,
        checked=checked,
        clock_hz=seen.clock_hz,
        throttled=bool(reading.throttled),
        power_w=reading.power_w,
    )


class ComputeJob:
    """A kernel of layout "compute": operands in, accumulators out, the same for every block."""

    def __init__(self, stage: Stage, values: Compute, kind: Operands, *, small: bool) -> None:
        self.stage, self.values, self.kind = stage, values, kind
        self._settle = None if kind == "exact" or small else cuda_stamps.Settling()
        self._in = stage.alloc(values.inputs.size)
        self._in.write(values.inputs.tobytes())
        self._out = stage.alloc(stage.blocks * values.out_bytes)
        self._out.fill(0xFFFFFFFF)
        self._whole = False
        self._wrong = False
        self._next = 0

    def _launch(self, iterations: int) -> cuda_stamps.Seen:
        stage = self.stage
        where = {"out": self._out.address, "in": self._in.address, "stamps": stage.stamps.address}
        return stage.launch(packed("compute", iterations=iterations, **where))

    def _outputs(self, first: int, count: int) -> NDArray[np.uint8]:
        size = self.values.out_bytes
        return np.frombuffer(self._out.read(first * size, count * size), dtype=np.uint8).reshape(count, size)

    def run(self, iterations: int) -> Timing:
        """Launch so many iterations over all blocks; the result of this very launch is looked at."""
        stage = self.stage
        per_block = min(MOST_ITERATIONS, max(1, -(-iterations // stage.blocks))) | 1
        with stage.station.driving(stage.row.name):
            if self._settle is not None:
                self._settle.until_steady(lambda: self._launch(per_block), lambda: stage.station.look(float("inf")).power_w)
            seen = self._launch(per_block)
            return timing(stage.station, seen, per_block * stage.blocks, self._right(per_block))

    def _right(self, iterations: int) -> bool:
        """All blocks the first time, then another one each time: reading everything back after each sample would cool the device.

        A launch that was wrong once, even one that only calibrated, condemns those after it.
        """
        first, count = (self._next % self.stage.blocks, 1) if self._whole else (0, self.stage.blocks)
        self._whole, self._next = True, self._next + 1
        found = self._outputs(first, count)
        expected = self.values.expected(iterations)
        if expected is None:
            right = bool((found == found[0]).all()) and self.values.plausible(found[0].copy())
        else:
            right = bool((found == expected).all())
        self._wrong = self._wrong or not right
        return not self._wrong

    def check(self) -> str | None:
        """Compare every block after few iterations with the reference."""
        self._launch(CHECK_ITERATIONS)
        found = self._outputs(0, self.stage.blocks)
        odd = np.flatnonzero((found != found[0]).any(axis=1))
        if odd.size:
            return f"{odd.size} of {self.stage.blocks} blocks differ from the first one"
        if not self.values.close_to(CHECK_ITERATIONS, found[0].copy()):
            return f"after {CHECK_ITERATIONS} iterations the accumulators are not what the operands give"
        return None

    def close(self) -> None:
        """Give the memory back."""
        self.stage.close()


def prepare_compute(station: Station, row: CudaRow, sheet: Sheet, params: Mapping[str, Value]) -> ComputeJob:
    """Load the code and lay out the operands of a compute kernel."""
    if row.family not in VALUES:
        raise CannotRun(f"{row.name} has no operands here; its family {row.family!r} is not carried out by this version")
    kind: Operands = sheet.operands or "exact"
    function = station.function(row)
    # Latency is one warp's; its time must not be divided by the blocks of others.
    blocks = 1 if row.measures == "latency" else station.blocks(row, function)
    stage = Stage.set_up(station, row, blocks, function)
    try:
        return ComputeJob(stage, VALUES[row.family](row, kind), kind, small="check" in params)
    except BaseException:
        stage.close()
        raise
