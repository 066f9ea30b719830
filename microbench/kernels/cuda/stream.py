"""Streams through a GPU's memory: layout "stream", whose working set decides which level answers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from microbench.errors import CannotRun
from microbench.kernels.cuda.arena import arena_of
from microbench.kernels.cuda.device import (
    CHECK_ITERATIONS,
    MOST_ITERATIONS,
    DeviceSession,
    Fired,
    Stage,
    burst,
    timing_of,
)
from microbench.kernels.cuda.reference import (
    ELEMENT_BYTES,
    PATTERN_ELEMENTS,
    SCALE,
    Walk,
    last_stages,
    pattern,
    read_sum,
    streamed,
)
from microbench.kernels.cuda.row import packed
from microbench.kernels.cuda.rows import CudaRow
from microbench.kernels.cuda.shared import mixed, mixed_by, multiplied
from microbench.records import Sheet, Timing, Value

if TYPE_CHECKING:
    from microbench.kernels.cuda.timing import Seen

BULK_STAGES = 8  # the ring of the bulk kernels; a read needs as many iterations to fill it
ARRAYS = {"read": 1, "write": 1, "copy": 2, "triad": 3}
LAST_CACHES = 4  # a working set of so many last caches belongs to DRAM
MOST_ELEMENTS = 2**31 - 2**24  # the kernel counts elements in 32 bits, and adds a step before it wraps
CHECK_BYTES = 8 << 20
# Blocks a place of a stream through the last cache, where multiprocessors of unequal clusters get on unequally fast:
# enough that most of them run while every multiprocessor is busy, few enough that the sums they leave are under 1 % of
# what they read in a millisecond.
WAVES = 4


def default_set(session: DeviceSession) -> int:
    """Bytes that no cache holds: several times the last one, and no more than half the free memory."""
    last = session.device.level("L2")
    free = session.context.memory_info()[0]
    return min(LAST_CACHES * ((last.capacity_bytes if last else None) or 64 << 20), free // 2)


@cache
def left_of_mix(row: CudaRow) -> NDArray[np.uint32]:
    """What a mixed loop leaves of its pattern; computed once, since every working set repeats the same one."""
    leaves = multiplied if row.unit == "matrix" else mixed
    return leaves(row.dtype or "f32", pattern("mix", 0), int(row.symbol.rpartition("_")[2]))


class StreamJob:
    """A stream over a working set that goes on where the last launch stopped."""

    def __init__(self, stage: Stage, working_set: int) -> None:
        self.stage, self.access = stage, stage.row.access or "read"
        row = stage.row
        self.arrays = ARRAYS[self.access]
        tiles = working_set // (self.arrays * ELEMENT_BYTES * row.tile)
        self.count = max(1, min(tiles, MOST_ELEMENTS // row.tile)) * row.tile
        # All blocks together go on by one tile each; in a set smaller than that they share tiles, which a cache does
        # not mind.
        self.step = stage.blocks * row.tile % self.count
        if self.step == 0 and self.count > row.tile:
            self.step = row.tile
        self.first = 0
        held = "mix" if row.measures == "intensity" else row.dtype
        self._sources = tuple(pattern(held, seed) for seed in range(2 if self.access == "triad" else 1))
        self._names = tuple(f"{held}.{seed}" for seed in range(len(self._sources)))
        self._open = True
        self._wrong = False
        self._marked: Walk | None = None
        self.least = BULK_STAGES if row.space == "bulk" else 1
        # What a read adds up: the elements as they are, or as the mixed loop leaves them.
        self._summed = left_of_mix(row) if held == "mix" else self._sources[0]
        arena_of(stage.session).users += 1
        try:
            self._fill()
        except BaseException:
            self.close()
            raise

    def _fill(self) -> None:
        size, arena, row = self.count * ELEMENT_BYTES, arena_of(self.stage.session), self.stage.row
        for name, words in zip(self._names, self._sources, strict=True):
            arena.want(name, self._repeats * ELEMENT_BYTES if self.access == "write" else size + ELEMENT_BYTES, words)
        if row.measures == "intensity":
            name, words = mixed_by(row)
            arena.want(name, words.nbytes, words)
        arena.want("out", self.stage.blocks * self._left if self.access == "read" else size, None)

    @property
    def _repeats(self) -> int:
        """Elements after which a write repeats itself."""
        return self.stage.row.tile if self.stage.row.space == "bulk" else self.stage.row.threads

    @property
    def _left(self) -> int:
        """Bytes that a block of a read leaves: a sum for each thread, or its ring of stages."""
        row = self.stage.row
        return (BULK_STAGES * row.tile if row.space == "bulk" else row.threads) * ELEMENT_BYTES

    def _launch(self, iterations: int, blocks: Iterable[int]) -> tuple[Seen, Walk]:
        walk = self._walk(iterations)
        self._poison(walk, blocks)
        with self._scaled():
            return self.stage.seen(self._fire(walk)), walk

    def _walk(self, iterations: int) -> Walk:
        tile = self.stage.row.tile
        return Walk(count=self.count, first=self.first, step=self.step, tile=tile, iterations=iterations)

    @contextlib.contextmanager
    def _scaled(self) -> Iterator[None]:
        """The triad's factor, which lies behind its second array, where another stream may have data."""
        if self.access != "triad":
            yield
            return
        second, behind = arena_of(self.stage.session)[self._names[1]], self.count * ELEMENT_BYTES
        second.write(np.asarray([0, 0, 0, SCALE], dtype=np.float32).tobytes(), behind)
        yield
        second.write(self._sources[1][self.count % PATTERN_ELEMENTS].tobytes(), behind)

    def _fire(self, walk: Walk) -> Fired:
        stage, arena = self.stage, arena_of(self.stage.session)
        second = mixed_by(stage.row)[0] if stage.row.measures == "intensity" else self._names[-1]
        where = {"out": arena["out"].address, "in": arena[self._names[0]].address, "in2": arena[second].address}
        fired = stage.fire(
            packed(
                "stream",
                stamps=stage.stamps.address,
                count=walk.count,
                first=walk.first,
                step=walk.step,
                iterations=walk.iterations,
                **where,
            )
        )
        self.first = walk.after(stage.blocks)
        return fired

    def per_block(self, iterations: int) -> int:
        """Iterations of each block that make at least so many altogether."""
        return min(MOST_ITERATIONS, max(self.least, -(-iterations // self.stage.blocks)))

    def run(self, iterations: int) -> Timing:
        """Launch so many tiles over all blocks, and look at what two of the blocks left."""
        stage = self.stage
        per_block = self.per_block(iterations)
        with stage.session.driving(self._subject), self._scaled():
            seen = stage.seen(self.fire_marked(per_block))
            return timing_of(stage.session, seen, per_block * stage.blocks, self.right(per_block))

    def burst(self, iterations: int, count: int, limit_s: float) -> list[Timing]:
        """Launch back to back; each goes on where the one before it stopped."""
        with self.stage.session.driving(self._subject), self._scaled():
            return burst(self, iterations, count, limit_s)

    @property
    def _subject(self) -> str:
        return f"{self.stage.row.name} over {self.count * ELEMENT_BYTES * self.arrays} bytes"

    @property
    def _compared(self) -> set[int]:
        """The blocks whose results a timed launch is judged by."""
        return {0, self.stage.blocks - 1}

    def fire(self, per_block: int) -> Fired:
        """Launch."""
        return self._fire(self._walk(per_block))

    def fire_marked(self, per_block: int) -> Fired:
        """Poison what two of the blocks will leave, and launch."""
        self._marked = self._walk(per_block)
        self._poison(self._marked, self._compared)
        return self._fire(self._marked)

    def _poison(self, walk: Walk, blocks: Iterable[int]) -> None:
        """Overwrite what will be looked at: another stream may have left the very same values there."""
        for at, size in (self._result(walk, block) for block in blocks):
            arena_of(self.stage.session)["out"].write(b"\xff" * size, at)

    def right(self, per_block: int) -> bool:
        """Whether those blocks left in the last marked launch what they must, and always did."""
        assert self._marked is not None
        assert self._marked.iterations == per_block
        marked = self._marked
        self._wrong = self._wrong or not all(self._right(marked, block) for block in self._compared)
        return not self._wrong

    def _result(self, walk: Walk, block: int) -> tuple[int, int]:
        """Where a block leaves what can be looked at: offset and size in bytes."""
        if self.access == "read":
            return block * self._left, self._left
        return int(walk.visited(block)[-1]) * ELEMENT_BYTES, walk.tile * ELEMENT_BYTES

    def _right(self, walk: Walk, block: int) -> bool:
        threads = self.stage.row.threads
        offset, size = self._result(walk, block)
        found = np.frombuffer(arena_of(self.stage.session)["out"].read(offset, size), dtype=np.uint32).reshape(-1, 4)
        if self.access == "read" and self.stage.row.space == "bulk":
            return bool(np.array_equal(found, last_stages(walk, block, BULK_STAGES, self._sources[0])))
        if self.access == "read":
            return bool(np.array_equal(found, read_sum(walk, block, threads, self._summed)))
        return bool(
            np.array_equal(
                found, streamed(self.access, self._repeats, offset // ELEMENT_BYTES, walk.tile, self._sources)
            )
        )

    def check(self) -> str | None:
        """Compare every block's result after few iterations."""
        blocks = range(self.stage.blocks)
        _, walk = self._launch(max(CHECK_ITERATIONS, self.least + 1), blocks)
        wrong = [block for block in blocks if not self._right(walk, block)]
        if wrong:
            return (
                f"{len(wrong)} of {self.stage.blocks} blocks left something else than the source holds, block "
                f"{wrong[0]} first"
            )
        return None

    def close(self) -> None:
        """Give the memory back; again is allowed."""
        self.stage.close()
        if self._open:
            self._open = False
            arena_of(self.stage.session).leave()


def in_waves(session: DeviceSession, row: CudaRow, working_set: int, *, full: bool) -> bool:
    """Whether a stream is handed out in more blocks than fit at once.

    Through main memory, which all multiprocessors share, the slow ones go on at the full rate when the others have
    ended, and nothing is gained. Fewer blocks than fit cannot be kept so few by a larger grid, and a block of bulk
    copies leaves a whole ring behind.
    """
    last = session.device.level("L2")
    held = last is not None and last.capacity_bytes is not None and working_set <= last.capacity_bytes
    return held and full and row.space != "bulk"


def prepare(session: DeviceSession, row: CudaRow, sheet: Sheet, params: Mapping[str, Value]) -> StreamJob:
    """Load the code, allocate the working set and fill it."""
    del sheet
    small = "check" in params
    working_set = CHECK_BYTES if small else int(params.get("working_set", 0)) or default_set(session)
    needed = working_set + PATTERN_ELEMENTS * ELEMENT_BYTES
    free = session.context.memory_info()[0]
    if needed > free:
        raise CannotRun(
            f"{row.name} needs {math.ceil(needed / 2**20)} MiB; {session.name} has {free // 2**20} MiB free"
        )
    function = session.function(row)
    blocks = session.blocks(row, function, 1 if small else int(params.get("blocks_per_sm", 0)))
    waves = not small and in_waves(session, row, working_set, full=blocks == session.blocks(row, function))
    stage = Stage.set_up(session, row, blocks * WAVES if waves else blocks, function)
    stage.waves = waves
    try:
        return StreamJob(stage, working_set)
    except BaseException:
        stage.close()
        raise
