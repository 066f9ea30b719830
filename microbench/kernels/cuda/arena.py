"""GPU memory that every stream of a device session shares, so that the cases of a run fit side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from microbench.kernels.cuda.device import DeviceSession

if TYPE_CHECKING:
    from microbench import _cuda


class Arena:
    """Memory that all streams of a device share: sources with their patterns, and one target.

    Every case is prepared before the first is timed; a working set of its own for each would not fit. It grows to the
    largest that was asked for and is given back when the last user has gone.
    """

    def __init__(self, session: DeviceSession) -> None:
        self.session = session
        self.users = 0
        self._buffers: dict[str, _cuda.Buffer] = {}

    def want(self, name: str, size: int, words: NDArray[np.uint32] | None) -> None:
        """Make a buffer at least so large, filled with a repeated pattern or with ones."""
        held = self._buffers.get(name)
        if held is not None and held.size >= size:
            return
        if held is not None:
            held.close()
            del self._buffers[name]
        made = self.session.context.alloc(size)
        self._buffers[name] = made
        if words is None:
            made.fill(0xFFFFFFFF)
        else:
            self._repeat(made, words)

    def _repeat(self, buffer: _cuda.Buffer, words: NDArray[np.uint32]) -> None:
        """By copies on the device, each twice the one before."""
        done = min(buffer.size, words.nbytes)
        buffer.write(words.tobytes()[:done])
        kind = self.session.cuda.CopyKind.on_device
        while done < buffer.size:
            size = min(done, buffer.size - done)
            self.session.timer.copies([self.session.cuda.Copy(kind, buffer.address + done, buffer.address, size)], 1)
            done += size

    def __getitem__(self, name: str) -> _cuda.Buffer:
        return self._buffers[name]

    def leave(self) -> None:
        """Count a user out."""
        self.users -= 1
        if self.users == 0:
            while self._buffers:
                self._buffers.popitem()[1].close()


def arena_of(session: DeviceSession) -> Arena:
    """The memory that all streams of a device share."""
    if "arena" not in session.shared:
        session.shared["arena"] = Arena(session)
    arena: Arena = session.shared["arena"]
    return arena
