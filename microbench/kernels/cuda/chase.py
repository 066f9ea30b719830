"""Load-to-use latency through a GPU's memory: one warp follows a random cycle of addresses, one node a cache line.

A case with ``line`` chases one line that points to itself: past L1 that is the latency of the slice of L2 where this
line lives. Each such line lies in an allocation of its own, at a place of its own, so that a few of them meet both
halves of a divided L2.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from microbench.errors import CannotRun
from microbench.kernels.cuda.device import CHECK_ITERATIONS, MOST_ITERATIONS, DeviceSession, Stage, timing_of
from microbench.kernels.cuda.row import packed
from microbench.kernels.cuda.rows import CudaRow
from microbench.kernels.cuda.shared import cycle, links
from microbench.records import Sheet, Timing, Value

if TYPE_CHECKING:
    from microbench.kernels.cuda.timing import Seen

LINE_BYTES = 128
CHECK_BYTES = 64 << 10
APART_BYTES = 2 << 20  # what the driver maps at once: lines of different allocations have nothing in common
WARM_S = 0.5  # a set that a cache holds is walked once before it is timed; one that takes longer is beyond every cache


class ChaseJob:
    """A chase that goes on from the node where the last launch stopped."""

    def __init__(self, stage: Stage, nodes: int, line: int | None = None) -> None:
        self.stage = stage
        self.order = cycle(nodes)
        self.place = 0
        held = stage.alloc(self.order.size * LINE_BYTES if line is None else APART_BYTES)
        offset = 0 if line is None else random.Random(line).randrange(APART_BYTES // LINE_BYTES) * LINE_BYTES  # noqa: S311 - a place, no secret
        self.base = held.address + offset
        words = np.zeros((self.order.size, LINE_BYTES // 8), dtype=np.uint64)
        words[:, 0] = np.uint64(self.base) + links(self.order).astype(np.uint64) * np.uint64(LINE_BYTES)
        held.write(words.data, offset)
        self._out = stage.alloc(stage.row.threads * 8)
        self._wrong = False
        self._warm()

    def _warm(self) -> None:
        started, done, steps = time.monotonic(), 0, self.stage.row.loads
        while done < self.order.size and time.monotonic() - started < WARM_S:
            iterations = min(-(-self.order.size // steps), 1 << 14)
            self._launch(iterations)
            done += iterations * steps

    def _launch(self, iterations: int) -> tuple[Seen, bool]:
        start = self.base + int(self.order[self.place]) * LINE_BYTES
        where = {"out": self._out.address, "in": start, "stamps": self.stage.stamps.address}
        self._out.fill(0)
        seen = self.stage.launch(packed("compute", iterations=iterations, **where))
        self.place = (self.place + self.stage.row.loads * iterations) % self.order.size
        reached = np.frombuffer(self._out.read(0, self._out.size), dtype=np.uint64)
        right = bool((reached == np.uint64(self.base + int(self.order[self.place]) * LINE_BYTES)).all())
        self._wrong = self._wrong or not right
        return seen, not self._wrong

    def run(self, iterations: int) -> Timing:
        """Follow the cycle for so many trips of the loop; every lane must end at the node that the host foresaw."""
        trips = max(1, min(MOST_ITERATIONS, iterations))
        with self.stage.session.driving(f"{self.stage.row.name} over {self.order.size * LINE_BYTES} bytes"):
            seen, right = self._launch(trips)
            return timing_of(self.stage.session, seen, trips, right)

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
    stage = Stage.set_up(session, row, 1, session.function(row))
    try:
        return ChaseJob(stage, max(2, working_set // LINE_BYTES) if line is None else 1, line)
    except BaseException:
        stage.close()
        raise
