"""What a C library's allocator gives back to the system between two passes of a model, and has to fetch anew.

A block that the heap has no room for is mapped if it is large, and unmapped when it is given back, so that every page
of it is touched for the first time at each call. All others come from a heap that grows at its end; when much is free
there, the end is given back. How large and how much is measured (`runs.host_costs`): an allocator that keeps everything
has neither limit. The simulation is of glibc: the smallest hole that holds a block, else the end of the heap, else a
mapping; both limits grow with the blocks that were mapped and given back (mallopt(3), M_MMAP_THRESHOLD).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

# What an allocator puts around a block: alignment to vectors and its own notes.
_AROUND = 96
# Both limits of a process that has mapped nothing yet, and passes after which they have settled.
_FIRST = float(1 << 17)
_PASSES = 4
# What a step of training leaves between the blocks of the heap: small ones that stay, one for so many blocks.
_PINNED, _SMALL = 64, 512


@dataclass(slots=True)
class _Heap:
    """Holes between blocks, the end of what is handed out and of what the process holds; what was ``fetched`` so far.

    A block that is mapped by itself begins at -1.
    """

    most_mapped: float
    most_kept: float
    fetched: int = 0
    _end: int = 0
    _held: int = 0
    _mapped: float = _FIRST
    _kept: float = _FIRST
    _by_size: list[tuple[int, int]] = field(default_factory=list)
    _starts: dict[int, int] = field(default_factory=dict)
    _stops: dict[int, int] = field(default_factory=dict)

    def take(self, size: int) -> tuple[int, int]:
        """Where a block begins, and its size: in the smallest hole that holds it, at the heap's end, or by itself."""
        size += _AROUND
        place = bisect.bisect_left(self._by_size, (size, -1))
        if place < len(self._by_size):
            found, start = self._by_size[place]
            self._remove(start)
            if found > size:
                self._add(start + size, start + found)
            return start, size
        if self._end + size > self._held:
            if size > self._mapped or size >= self.most_mapped:
                self.fetched += size
                return -1, size
            self.fetched += self._end + size - self._held
            self._held = self._end + size
        self._end += size
        return self._end - size, size

    def give_back(self, start: int, size: int) -> None:
        """A block becomes a hole, together with those beside it; at the end of the heap none is left."""
        if start < 0:
            if size > self._mapped and size <= self.most_mapped:
                self._mapped, self._kept = float(size), 2.0 * size
            return
        stop = start + size
        if stop in self._starts:
            after = stop
            stop = self._starts[after]
            self._remove(after)
        if start in self._stops:
            start = self._stops[start]
            self._remove(start)
        if stop < self._end:
            self._add(start, stop)
            return
        self._end = start
        if self._held - self._end > min(self._kept, self.most_kept):
            self._held = self._end

    def _add(self, start: int, stop: int) -> None:
        self._starts[start], self._stops[stop] = stop, start
        bisect.insort(self._by_size, (stop - start, start))

    def _remove(self, start: int) -> None:
        stop = self._starts.pop(start)
        del self._stops[stop]
        del self._by_size[bisect.bisect_left(self._by_size, (stop - start, start))]


def fetched_bytes(
    events: Sequence[int], mapped_bytes: float = math.inf, kept_bytes: float = math.inf, once: Sequence[int] = ()
) -> int:
    """Bytes that a pass of a model touches for the first time, after some passes before it in a process of its own.

    Parameters
    ----------
    events
        Bytes of blocks in the order in which they are made; a number below zero gives back the block of that place,
        counted from 1. What is left at the end is given back there.
    mapped_bytes, kept_bytes
        Size from which on a block that the heap has no room for is mapped, at the most, and how much may be free at the
        heap's end, at the most. Both begin at `_FIRST` and follow the largest block that was mapped and given back.
    once
        Bytes of blocks that are made at the end of the first pass, before anything of it is given back, and stay; then
        small blocks that stay come to lie between others, too.

    Examples
    --------
    >>> fetched_bytes([1 << 20, -1]), fetched_bytes([1 << 20, -1], mapped_bytes=1 << 20)
    (0, 1048672)
    """
    if math.isinf(mapped_bytes) and math.isinf(kept_bytes):
        return 0
    heap = _Heap(most_mapped=mapped_bytes, most_kept=kept_bytes)
    fetched = 0
    for number in range(_PASSES):
        before = heap.fetched
        places: dict[int, tuple[int, int]] = {}
        for event in events:
            if event > 0:
                places[len(places) + 1] = heap.take(event)
                if once and number == 1 and not len(places) % _PINNED:
                    heap.take(_SMALL)
            elif -event in places and places[-event][1]:
                heap.give_back(*places[-event])
                places[-event] = (0, 0)
        for size in once if not number else ():
            heap.take(size)
        for start, size in places.values():
            if size:
                heap.give_back(start, size)
        fetched = heap.fetched - before
    return fetched
