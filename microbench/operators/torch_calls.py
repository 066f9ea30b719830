"""PyTorch's operators, ready to be timed: what a model's author calls, with its allocation of the result, no more.

A call makes a new output each time, because that is what eager code does. Inputs are random and stay where they are
(hot), or one of several copies is taken in turn so that none is in a cache (cold). A backward pass is one call of
autograd on a graph that is kept.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from microbench.errors import CannotRun, UsageError
from microbench.operators.registry import Shape
from microbench.records.dtypes import DTYPES

if TYPE_CHECKING:
    from microbench.operators.core import Op

# Copies in turn hold so many bytes: beyond what a shared last level keeps for one tenant, and on a GPU so many of its
# last caches.
COLD_BYTES = 1 << 28
LAST_CACHES = 3
_SEED = 7
# Integers that products take; wider ones are indices.
INTEGER_BITS = 8

Call = Callable[[], object]


def cold_bytes(torch: Any, place: str) -> int:
    """How many bytes of copies in turn leave nothing of the first in a cache when its turn comes again."""
    if not place.startswith("cuda"):
        return COLD_BYTES
    return max(COLD_BYTES, LAST_CACHES * int(torch.cuda.get_device_properties(place).L2_cache_size))


def _tensor(torch: Any, op: Op, place: str, *sizes: int) -> Any:
    stored = DTYPES[op.dtype].torch
    if stored is None:
        raise CannotRun(f"torch has no storage for {op.dtype}; {op} cannot be run")
    dtype = getattr(torch, stored)
    if DTYPES[op.dtype].kind == "int" and DTYPES[op.dtype].bits == INTEGER_BITS:
        return torch.randint(-128, 128, sizes, dtype=dtype, device=place)
    if place == "cpu":
        return (torch.rand(sizes, device=place) * 2 - 1).to(dtype)
    # In place: what is as large as a share of the device's memory must not be there three times in f32.
    wide = dtype if DTYPES[op.dtype].bits > INTEGER_BITS else torch.float16
    return torch.empty(sizes, dtype=wide, device=place).uniform_(-1, 1).to(dtype)


@contextmanager
def precision(torch: Any, dtype: str) -> Iterator[None]:
    """Let products of f32 numbers be those of a dtype: rounded to TF32 for ``tf32``, not rounded for all others.

    PyTorch's switches are the process's own: they are put back. Its convolutions round by default.
    """
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    rounded = dtype == "tf32"
    torch.set_float32_matmul_precision("high" if rounded else "highest")
    torch.backends.cudnn.allow_tf32 = rounded
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


def call_of(op: Op, place: str = "cpu") -> Call:
    """Make a call that runs an operator once.

    Parameters
    ----------
    op
        What to run.
    place
        Torch's name of the device.

    Raises
    ------
    CannotRun
        If torch cannot run it here.
    UsageError
        If the operator has no call.
    """
    import torch

    build = op.row.call
    if build is None:
        raise UsageError(f"{op.name} cannot be run: {op.row.without.get('call', 'it has no torch call')}")
    torch.manual_seed(_SEED)
    copies = 1 if op.cache == "hot" else max(2, cold_bytes(torch, place) // max(op.work.bytes, 1) + 1)
    calls = []
    try:
        for _ in range(min(copies, 4096)):
            inputs, call = build(torch, Shape(op.params), lambda *sizes: _tensor(torch, op, place, *sizes))
            calls.append(_backward(torch, inputs, call) if op.direction == "backward" else _forward(inputs, call))
        calls[0]()
    except (RuntimeError, MemoryError) as error:
        raise CannotRun(f"{op} cannot run on {place}: {str(error).splitlines()[0][:120]}") from None
    if len(calls) == 1:
        return calls[0]
    turn = itertools.cycle(calls)

    def in_turn() -> object:
        return next(turn)()

    return in_turn


def _forward(inputs: tuple[Any, ...], call: Callable[..., Any]) -> Call:
    return lambda: call(*inputs)


def _backward(torch: Any, inputs: tuple[Any, ...], call: Callable[..., Any]) -> Call:
    wanted = [tensor.requires_grad_() for tensor in inputs]
    with torch.enable_grad():
        out = call(*wanted)
    gradient = torch.ones_like(out)
    return lambda: torch.autograd.grad(out, wanted, gradient, retain_graph=True)


def timer(place: str) -> Callable[[Call, int], float]:
    """Make a clock: seconds of one call, from so many calls one after another."""
    import torch

    events: Any = torch.cuda.Event

    def on_processor(call: Call, times: int) -> float:
        started = time.perf_counter_ns()
        for _ in range(times):
            call()
        return (time.perf_counter_ns() - started) / times * 1e-9

    def on_gpu(call: Call, times: int) -> float:
        # An event belongs to the device that is current, which need not be this one.
        with torch.cuda.device(place):
            start, stop = (events(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(times):
                call()
            stop.record()
            stop.synchronize()
        return float(start.elapsed_time(stop)) / times * 1e-3

    return on_processor if place == "cpu" else on_gpu
