"""One thread for numpy's and scipy's small linear algebra.

A fit factorises thousands of matrices of a few hundred rows. Dealing those out to threads gains nothing on an idle machine, and on a
busy one every barrier waits for a thread that is not running: a fit of a second took half a minute.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

# OpenBLAS under the prefixes and suffixes of the wheels that bring it.
_NAMES = ("openblas_{}_num_threads", "openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "scipy_openblas_{}_num_threads64_")
_Pair = tuple[Callable[[], int], Callable[[int], None]]


@cache
def _loaded() -> tuple[_Pair, ...]:
    """Getter and setter of each OpenBLAS in this process."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    paths = sorted({line.split(maxsplit=5)[5] for line in lines if "openblas" in line and len(line.split(maxsplit=5)) > 5})
    found: list[_Pair] = []
    for path in paths:
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        for name in _NAMES:
            if hasattr(library, name.format("get")) and hasattr(library, name.format("set")):
                found.append((getattr(library, name.format("get")), getattr(library, name.format("set"))))
                break
    return tuple(found)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep linear algebra on the calling thread; where another library than OpenBLAS does it, nothing changes."""
    import scipy.linalg  # noqa: F401 - its own copy of the library must be there to be found

    pairs = _loaded()
    before = [get() for get, _ in pairs]
    for _, change in pairs:
        change(1)
    try:
        yield
    finally:
        for (_, change), threads in zip(pairs, before, strict=True):
            change(threads)
