"""The CUDA C++ kernels: rows become kernels, and those of layout "compute" are carried out here.

Streams, chases and links have modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from microbench.errors import CannotRun
from microbench.hardware import cuda as probe
from microbench.kernels import Kernel, Prepare, Prepared
from microbench.kernels.cuda import shared, tensor, timing
from microbench.kernels.cuda.code import Library, rows_and_reasons
from microbench.kernels.cuda.device import (
    CHECK_ITERATIONS,
    MOST_ITERATIONS,
    DeviceSession,
    Fired,
    Stage,
    burst,
    timing_of,
    wrong_result,
)
from microbench.kernels.cuda.reference import plain
from microbench.kernels.cuda.row import packed
from microbench.kernels.cuda.rows import CudaRow
from microbench.kernels.cuda.tensor import Compute
from microbench.records import Device, Finding, Operands, Sheet, Timing, Value, Work

# Between two launches the host takes some tenths of a millisecond: of such a launch that is 1 %, of a burst's a third.
LEAST_SUSTAINED_NS = 20_000_000

VALUES: dict[str, Callable[[CudaRow, Any], Compute]] = {
    "plain": plain,
    **tensor.VALUES,
    **shared.VALUES,
    "chase": shared.chase_shared,
}


def kernels(device: Device) -> Iterator[Kernel]:
    """Yield the CUDA C++ kernels of a device; those it lacks carry the reason."""
    from microbench.kernels.cuda import chase, links, stream

    session = DeviceSession(device)
    for row, reason in rows_and_reasons(session.library):
        carried: Carried = stream.prepare if row.layout == "stream" else prepare_compute
        if row.family == "chase" and row.space == "global":
            carried = chase.prepare
        for kind in kinds(row):
            yield kernel_of(session, row, sheet_of(row, session.library, kind, reason), carried)
    yield from links.kernels(session)


def kinds(row: CudaRow) -> tuple[Operands, ...]:
    """Which operands a row is measured with; none for the kernels that only serve others.

    Random operands settle a compute loop's power. The mixed loop is no ceiling, and its exact sums are checked to the
    bit.
    """
    if row.limiter == "none":
        return ()
    return ("exact", "random") if row.measures == "compute" and "random" in row.operands else ("exact",)


def kernel_of(session: DeviceSession, row: CudaRow, sheet: Sheet, prepare: Carried) -> Kernel:
    """Join a row, its sheet and the function that carries out its layout."""

    def prepared(
        device: Device, params: Mapping[str, Value], threads: int, cpus: Sequence[int] | None = None
    ) -> Prepared:
        del device, threads, cpus
        if sheet.unavailable:
            raise CannotRun(f"{sheet.name} cannot run on {session.name}: {sheet.unavailable}")
        with session.driving(sheet.name):
            return prepare(session, row, sheet, params)

    def check(device: Device) -> Finding | None:
        del device
        with session.driving(f"{sheet.name} (check)"):
            job = prepare(session, row, sheet, {"check": True})
            try:
                wrong = job.check()
            finally:
                job.close()
        return wrong_result(session, sheet, wrong) if wrong else None

    carried: Prepare = prepared
    return Kernel(sheet=sheet, prepare=carried, check=check)


def sheet_of(row: CudaRow, library: Library, kind: Operands, reason: str | None) -> Sheet:
    """Turn a row into the facts that are stored with a run.

    Random operands are a kernel of their own, with the same machine code.
    """
    legacy = library.target in row.legacy
    notes = ["the legacy path of this chip"] if legacy else []
    notes += ["a slow unit of this chip"] if library.target in row.slow else []
    return Sheet(
        name=row.name if kind == "exact" else f"{row.name}.random",
        measures=row.measures,
        backend="cuda",
        device_kind="cuda",
        roles=row.roles,
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
    if row.family == "chase" and row.space == "global":
        return ("working_set", "line") if row.variant == "cg" else ("working_set",)
    return ()


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
    >>> from microbench.hardware.cuda import imagined
    >>> [sheet.unavailable for sheet, _ in sheets(imagined("sm_90a")) if sheet.name == "fma.f32"]
    [None]
    """
    library = Library(device, driver_version)
    rows = [(row, reason) for row, reason in rows_and_reasons(library) if kinds(row)]
    return [
        (sheet_of(row, library, "exact", reason), "nowhere" if reason else library.origin(row.family))
        for row, reason in rows
    ]


class Checkable(Prepared, Protocol):
    """A prepared kernel that can compare its own result."""

    def check(self) -> str | None:
        """Run a few iterations and say what is wrong, ``None`` if nothing is."""


Carried = Callable[[DeviceSession, CudaRow, Sheet, Mapping[str, Value]], Checkable]


class ComputeJob:
    """A kernel of layout "compute": operands in, accumulators out, the same for every block."""

    def __init__(self, stage: Stage, values: Compute, kind: Operands, *, small: bool) -> None:
        self.stage, self.values, self.kind = stage, values, kind
        self._settle = None if kind == "exact" or small else timing.SteadyStateWarmup()
        self._in = stage.alloc(values.inputs.size)
        self._in.write(values.inputs.tobytes())
        self._out = stage.alloc(stage.blocks * values.out_bytes)
        self._out.fill(0xFFFFFFFF)
        self._whole = False
        self._wrong = False
        self._next = 0
        self._long = 1  # iterations of a launch that sustains

    def _launch(self, iterations: int) -> timing.Seen:
        return self.stage.seen(self.fire(iterations))

    def per_block(self, iterations: int) -> int:
        """Iterations of each block that make at least so many altogether: an odd number."""
        return min(MOST_ITERATIONS, max(1, -(-iterations // self.stage.blocks))) | 1

    def fire(self, per_block: int) -> Fired:
        """Launch."""
        where = {"out": self._out.address, "in": self._in.address, "stamps": self.stage.stamps.address}
        return self.stage.fire(packed("compute", iterations=per_block, **where))

    def fire_marked(self, per_block: int) -> Fired:
        """Poison what will be looked at, and launch."""
        first, count = self._looked_at()
        size = self.values.out_bytes
        self._out.write(b"\xff" * (count * size), first * size)
        return self.fire(per_block)

    def _outputs(self, first: int, count: int) -> NDArray[np.uint8]:
        size = self.values.out_bytes
        return np.frombuffer(self._out.read(first * size, count * size), dtype=np.uint8).reshape(count, size)

    def run(self, iterations: int) -> Timing:
        """Launch so many iterations over all blocks; the result of this very launch is looked at."""
        stage = self.stage
        per_block = self.per_block(iterations)
        with stage.session.driving(stage.row.name):
            if self._settle is not None:
                per_block = self._settled(per_block, self._settle)
            seen = self._launch(per_block)
            right = self.right(per_block)
            return timing_of(stage.session, seen, per_block * stage.blocks, right, settled=self._settle is not None)

    def burst(self, iterations: int, count: int, limit_s: float) -> list[Timing]:
        """Launch back to back, without settling first."""
        return burst(self, iterations, count, limit_s)

    def _settled(self, per_block: int, settle: timing.SteadyStateWarmup) -> int:
        """Run until clock and power are steady, and return the iterations of one launch.

        Launches are so long that the card does not rest between them.
        """
        session = self.stage.session
        while self._long < MOST_ITERATIONS // 2:
            self._long = max(self._long, per_block)
            took = self._launch(self._long).ns
            if took >= LEAST_SUSTAINED_NS:
                break
            self._long = min(MOST_ITERATIONS, round(self._long * min(16.0, 1.2 * LEAST_SUSTAINED_NS / took))) | 1
        settle.until_steady(
            lambda: self._launch(self._long), lambda: session.look(float("inf")).power_w, session.sensors.restart
        )
        return self._long

    def _looked_at(self) -> tuple[int, int]:
        """First block and number of those that are compared next: all the first time, then another one each time.

        Reading all back would cool the device.
        """
        return (self._next % self.stage.blocks, 1) if self._whole else (0, self.stage.blocks)

    def right(self, iterations: int) -> bool:
        """Compare what the last launch left.

        A launch that was wrong once, even one that only calibrated, condemns those after it.
        """
        first, count = self._looked_at()
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


@cache
def _values(row: CudaRow, kind: Operands) -> Compute:
    """Operands and results of a row: the check before a case and the case itself have the same."""
    return VALUES[row.family](row, kind)


def prepare_compute(session: DeviceSession, row: CudaRow, sheet: Sheet, params: Mapping[str, Value]) -> ComputeJob:
    """Load the code and lay out the operands of a compute kernel."""
    if row.family not in VALUES:
        raise CannotRun(
            f"{row.name} has no operands here; its family {row.family!r} is not carried out by this version"
        )
    kind: Operands = sheet.operands or "exact"
    function = session.function(row)
    # Latency is one warp's; its time must not be divided by the blocks of others.
    blocks = 1 if row.measures == "latency" else session.blocks(row, function)
    stage = Stage.set_up(session, row, blocks, function)
    try:
        return ComputeJob(stage, _values(row, kind), kind, small="check" in params)
    except BaseException:
        stage.close()
        raise
