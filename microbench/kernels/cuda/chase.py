"""Load-to-use latency through a GPU's memory: one warp follows a random cycle of addresses, one node a cache line.

The cycle is laid on the device, and no side holds it in memory: node `place(t)` leads to `place(t + 1)`, where `place`
is a permutation that kernel and host work out number by number. Made on the host, the cycles of a run would be a
gigabyte of lines to fill and to carry.

A case with ``line`` chases one line that points to itself: past L1 that is the latency of the slice of L2 where this
line lives. Each such line lies in an allocation of its own, at a place of its own, so that a few of them meet both
halves of a divided L2.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from microbench.errors import CannotRun
from microbench.kernels.cuda.device import (
    CHECK_ITERATIONS,
    MOST_ITERATIONS,
    DeviceSession,
    Fired,
    Stage,
    burst,
    timing_of,
)
from microbench.kernels.cuda.row import packed
from microbench.kernels.cuda.rows import ROWS, CudaRow
from microbench.records import Sheet, Timing, Value

if TYPE_CHECKING:
    from microbench import _cuda
    from microbench.kernels.cuda.timing import Seen

LINE_BYTES = 128
CHECK_BYTES = 64 << 10
APART_BYTES = 2 << 20  # what the driver maps at once: lines of different allocations have nothing in common
# A set that a cache holds is read by all multiprocessors before it is timed; one this many times the last cache is
# beyond all of them.
OUTGROWN = 2
# So many nodes are also followed once, which takes some milliseconds: what the one multiprocessor's own L1 holds.
FOLLOWED_NODES = 1 << 14
_SERVING = ("chase.lay", "chase.touch")
_WORD = 0xFFFFFFFF


def place(step: int, nodes: int) -> int:
    """Number of the line where the cycle over so many nodes is after so many steps (csrc/cuda/kernels/chase.cu).

    A permutation of the numbers below ``nodes``: four rounds of a Feistel network over an even power of two, walked on
    until it lands among them.

    Examples
    --------
    >>> sorted(place(step, 5) for step in range(5))
    [0, 1, 2, 3, 4]
    """
    half = 1
    while half < 16 and nodes > 1 << 2 * half:
        half += 1
    mask, at = (1 << half) - 1, step % nodes
    while True:
        left, right = at >> half, at & mask
        for turn in range(4):
            left, right = right, left ^ (_stirred(right, turn) & mask)
        at = left << half | right
        if at < nodes:
            return at


def _stirred(half: int, turn: int) -> int:
    half = (half + 0x7F4A7C15 * (turn + 1)) * 0x9E3779B1 & _WORD
    half ^= half >> 15
    half = half * 0x85EBCA77 & _WORD
    return half ^ half >> 13


def _named(name: str) -> CudaRow:
    return next(row for row in ROWS if row.name == name)


class ChaseJob:
    """A chase that goes on from the node where the last launch stopped."""

    def __init__(self, stage: Stage, nodes: int, line: int | None = None) -> None:
        self.stage = stage
        self.nodes = nodes
        self.step = 0
        held = stage.alloc(nodes * LINE_BYTES if line is None else APART_BYTES)
        offset = 0 if line is None else random.Random(line).randrange(APART_BYTES // LINE_BYTES) * LINE_BYTES  # noqa: S311 - a place, no secret
        self.base = held.address + offset
        self._out = stage.alloc(stage.row.threads * 8)
        self._wrong = False
        if line is None:
            self._serve("chase.lay", out=self.base)
        else:
            held.write(np.asarray([self.base], dtype=np.uint64).tobytes(), offset)

    def _serve(self, name: str, out: int) -> None:
        """Run one of the kernels that lay the cycle and read it, on every multiprocessor."""
        session = self.stage.session
        row = _named(name)
        function: _cuda.Function = session.function(row)
        where = {"out": out, "in": self.base, "stamps": self.stage.stamps.address}
        params = packed("compute", iterations=self.nodes, **where)
        blocks = session.blocks(row, function)
        session.timer.launches(session.cuda.Launch(function, (blocks, 1, 1), (row.threads, 1, 1), 0, params), 1)

    def warm(self) -> None:
        """Bring the set into the caches that hold it, the way it is from every multiprocessor."""
        last = self.stage.session.device.level("L2")
        with self.stage.session.driving(self._subject):
            if self.nodes * LINE_BYTES <= OUTGROWN * ((last.capacity_bytes if last else None) or CHECK_BYTES):
                self._serve("chase.touch", out=self._out.address)
            if self.nodes <= FOLLOWED_NODES:
                self.fire(-(-self.nodes // self.stage.row.loads))

    def _at(self, step: int) -> int:
        return self.base + place(step, self.nodes) * LINE_BYTES if self.nodes > 1 else self.base

    def _launch(self, iterations: int) -> tuple[Seen, bool]:
        seen = self.stage.seen(self.fire_marked(iterations))
        return seen, self.right(iterations)

    def per_block(self, iterations: int) -> int:
        """Trips of the loop: there is one block."""
        return max(1, min(MOST_ITERATIONS, iterations))

    def fire(self, per_block: int) -> Fired:
        """Launch."""
        where = {"out": self._out.address, "in": self._at(self.step), "stamps": self.stage.stamps.address}
        fired = self.stage.fire(packed("compute", iterations=per_block, **where))
        self.step = (self.step + self.stage.row.loads * per_block) % self.nodes
        return fired

    def fire_marked(self, per_block: int) -> Fired:
        """Poison what the lanes will leave, and launch."""
        self._out.fill(0)
        return self.fire(per_block)

    def right(self, per_block: int) -> bool:
        """Whether every lane ended at the node that the host foresaw, and always did."""
        del per_block  # `step` has counted it
        reached = np.frombuffer(self._out.read(0, self._out.size), dtype=np.uint64)
        self._wrong = self._wrong or not bool((reached == np.uint64(self._at(self.step))).all())
        return not self._wrong

    @property
    def _subject(self) -> str:
        return f"{self.stage.row.name} over {self.nodes * LINE_BYTES} bytes"

    def run(self, iterations: int) -> Timing:
        """Follow the cycle for so many trips of the loop; every lane must end at the node that the host foresaw."""
        trips = self.per_block(iterations)
        with self.stage.session.driving(self._subject):
            seen, right = self._launch(trips)
            return timing_of(self.stage.session, seen, trips, right)

    def burst(self, iterations: int, count: int, limit_s: float) -> list[Timing]:
        """Launch back to back; each goes on where the one before it stopped."""
        return burst(self, iterations, count, limit_s)

    def check(self) -> str | None:
        """Follow a short way."""
        right = self._launch(CHECK_ITERATIONS)[1]
        return None if right else "the chase ended at another node than the one that the cycle leads to"

    def close(self) -> None:
        """Give the memory back; again is allowed."""
        self.stage.close()


def prepare(session: DeviceSession, row: CudaRow, sheet: Sheet, params: Mapping[str, Value]) -> ChaseJob:
    """Load the code and lay out the cycle."""
    del sheet
    line = int(params["line"]) if "line" in params else None
    working_set = CHECK_BYTES if "check" in params else int(params.get("working_set", CHECK_BYTES))
    free = session.context.memory_info()[0]
    if working_set > free:
        raise CannotRun(f"{row.name} needs {working_set >> 20} MiB; {session.name} has {free >> 20} MiB free")
    for each in map(_named, _SERVING):
        if reason := session.library.reason(each):
            raise CannotRun(f"{row.name} needs {each.name}, which {each.says}: {reason}")
    stage = Stage.set_up(session, row, 1, session.function(row))
    try:
        return ChaseJob(stage, max(2, working_set // LINE_BYTES) if line is None else 1, line)
    except BaseException:
        stage.close()
        raise
