"""What a process pays beside the work of operators: pages that come back anew, views, calls, the backward engine.

Each is the smallest of a few tries of something that does nothing else. All end within a time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from microbench.hardware.torch_import import import_torch
from microbench.measure.budget import Deadline

# Blocks tried, doubling: from what caches hold to what no allocator keeps; of memory that is free, this share at most.
_LEAST_BLOCK, _MOST_BLOCK, _FREE_SHARE = 1 << 22, 1 << 28, 1 / 16
# Memory that comes anew takes so many times as long to write as what is there, where pages are cleared first, and so
# many seconds a block are no sign of it.
_SLOWER, _BLOCK_S, _LOOKS, _HALVINGS = 1.8, 1e-4, 2, 2
# Switches of mallopt(3): how much of the heap's end may be free, and how many blocks may be mapped by themselves.
_TRIM_THRESHOLD, _MMAP_MAX, _MOST_INT = -1, -4, 2**31 - 1
_TRIES, _CALLS = 5, 200
# Steps of the recurrent layer and operators of the chain whose slopes give the cost of one.
_STEPS, _CHAIN = 64, 32


def host_costs(free_bytes: float, limit_s: float) -> dict[str, float]:
    """Measure them on this processor (`Fits.host`); what there is no time for is left out.

    Parameters
    ----------
    free_bytes
        Memory that is free.
    limit_s
        Seconds for all.
    """
    torch = import_torch()
    deadline = Deadline(limit_s=limit_s)
    found: dict[str, float] = {}
    if deadline.left() > 0:
        found |= allocator(torch, min(_MOST_BLOCK, int(_FREE_SHARE * free_bytes)), deadline)
    for part in (_calls, _backward, _nested, _optimisers):
        if deadline.left() > 0:
            found |= part(torch)
    return found


def keep_memory() -> bool:
    """Let this process keep all memory that it gets, so that no operator that is timed pays for fetching its result.

    Whether it can: not every C library has that switch.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(_TRIM_THRESHOLD, _MOST_INT), mallopt(_MMAP_MAX, 0)])


def _least(call: Callable[[], object], times: int = _CALLS) -> float:
    """Seconds of one call: the smallest of a few samples."""
    from microbench.operators.torch_calls import timer

    clock = timer("cpu")
    clock(call, max(1, times // 10))
    return min(clock(call, times) for _ in range(_TRIES))


def _calls(torch: Any) -> dict[str, float]:
    with torch.inference_mode():
        x = torch.zeros(8, 8)
        return {"view_s": _least(lambda: x.transpose(0, 1)), "alone_s": _least(lambda: torch.relu(x))}


def _backward(torch: Any) -> dict[str, float]:
    """What starting the backward engine takes, from chains of one operator and of many."""

    def seconds(length: int) -> float:
        x = torch.zeros(8, requires_grad=True)
        y = x
        for _ in range(length):
            y = torch.relu(y)
        gradient = torch.ones(8)
        return _least(lambda: torch.autograd.grad(y, x, gradient, retain_graph=True), _CALLS // 3)

    short, long = seconds(1), seconds(1 + _CHAIN)
    return {"backward_start_s": max(0.0, short - (long - short) / _CHAIN)}


def _nested(torch: Any) -> dict[str, float]:
    """How much less an operator costs inside another one than called from Python: those of a small recurrent layer."""
    from microbench.operators.capture import capture

    layer = torch.nn.GRU(8, 8)
    x = torch.zeros(_STEPS, 1, 8)
    nested = sum(step.nested for step in capture(layer, [f"{_STEPS}x1x8:f32"]).steps)
    with torch.inference_mode():
        seconds = _least(lambda: layer(x), _CALLS // _STEPS + 1)
    return {"nested_s": seconds / nested} if nested else {}


def _optimisers(torch: Any) -> dict[str, float]:
    """Seconds of a step for each of many parameters that are too small to matter."""
    found = {}
    makers: dict[str, Callable[[Any], Any]] = {
        "adam": lambda given: torch.optim.Adam(given, lr=1e-9),
        "sgd": lambda given: torch.optim.SGD(given, lr=1e-9, momentum=0.9),
    }
    for name, make in makers.items():
        given = [torch.nn.Parameter(torch.zeros(8)) for _ in range(_CHAIN)]
        for each in given:
            each.grad = torch.zeros(8)
        found[f"{name}_s"] = _least(make(given).step, 3) / _CHAIN
    return found


def allocator(torch: Any, most: int, deadline: Deadline) -> dict[str, float]:
    """From which size on blocks are mapped anew at each call, how much of a heap's end is kept, and what a byte costs.

    Memory that comes anew is told by what writing it takes, against writing what is there: not every system counts
    pages. A size is left out where everything up to ``most`` bytes is kept.
    """
    there = torch.empty(most, dtype=torch.uint8)
    there.fill_(1)

    def block(size: int) -> object:
        return torch.empty(size, dtype=torch.uint8).fill_(1)

    mapped = _first_fetched(block, there, (_LEAST_BLOCK, most), deadline)
    piece = (mapped or most) // 4

    def heap(size: int) -> object:
        return [block(piece) for _ in range(size // piece)]

    kept = _first_fetched(heap, there, (mapped, most), deadline) if mapped else None
    found = {name: float(size) for name, size in (("mapped_bytes", mapped), ("kept_bytes", kept)) if size}
    if mapped and deadline.left() > 0:
        size = min(2 * mapped, most)
        part = there[:size]
        kept_s = min(_once(lambda: torch.bitwise_not(part, out=part)) for _ in range(_TRIES))
        fresh_s = min(_once(lambda: torch.bitwise_not(part)) for _ in range(_TRIES))
        found["fetch_s_per_byte"] = max(0.0, fresh_s - kept_s) / size
    return found


def _once(call: Callable[[], object]) -> float:
    from microbench.operators.torch_calls import timer

    return timer("cpu")(call, 1)


def _fetches(make: Callable[[int], object], there: Any, size: int) -> bool:
    """Whether blocks of so many bytes, made and dropped again and again, take much longer to write than what is there.

    An allocator learns from the blocks that it has seen, so that the first few are left out.
    """
    part = there[:size]
    for _ in range(2):
        make(size)
    fresh_s = min(_once(lambda: make(size)) for _ in range(_LOOKS))
    kept_s = min(_once(lambda: part.fill_(1)) for _ in range(_LOOKS))
    return fresh_s > _SLOWER * kept_s + _BLOCK_S


def _first_fetched(
    make: Callable[[int], object], there: Any, between: tuple[int, int], deadline: Deadline
) -> int | None:
    """About the smallest size that is fetched anew: by doubling, then by halving what is between it and its half."""
    size, most = between
    while not _fetches(make, there, size):
        size *= 2
        if size > most or deadline.left() <= 0:
            return None
    low, high = size // 2, size
    for _ in range(_HALVINGS):
        middle = (low + high) // 2
        low, high = (low, middle) if _fetches(make, there, middle) else (middle, high)
    return high
