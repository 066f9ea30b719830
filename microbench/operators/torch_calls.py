"""PyTorch's operators, ready to be timed: what a model's author calls, with its allocation of the result and nothing else.

A call makes a new output each time, because that is what eager code does. Inputs are random and stay where they are
(hot), or one of several copies is taken in turn so that none is in a cache (cold). A backward pass is one call of
autograd on a graph that is kept.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from microbench.errors import CannotRun, UsageError
from microbench.records.dtypes import DTYPES

if TYPE_CHECKING:
    from microbench.operators import Op

# Copies in turn hold so many bytes: beyond what a shared last level keeps for one tenant, and on a GPU so many of its
# last caches.
COLD_BYTES = 1 << 28
LAST_CACHES = 3
_SEED = 7

Call = Callable[[], object]
_Sizes = Any


def _cold_bytes(torch: Any, place: str) -> int:
    """How many bytes of copies in turn leave nothing of the first in a cache when its turn comes again."""
    if not place.startswith("cuda"):
        return COLD_BYTES
    return max(COLD_BYTES, LAST_CACHES * int(torch.cuda.get_device_properties(place).L2_cache_size))


def _tensor(torch: Any, op: Op, place: str, *sizes: int) -> Any:
    made = torch.rand(sizes, device=place) * 2 - 1
    stored = DTYPES[op.dtype].torch
    if stored is None:
        raise CannotRun(f"torch has no storage for {op.dtype}; {op} cannot be run")
    return made.to(getattr(torch, stored))


def _products(torch: Any, name: str, s: _Sizes, t: Callable[..., Any]) -> tuple[tuple[Any, ...], Callable[..., Any]]:
    if name == "matmul":
        return (t(s.m, s.k), t(s.k, s.n)), torch.mm
    if name == "bmm":
        return (t(s.b, s.m, s.k), t(s.b, s.k, s.n)), torch.bmm
    if name == "linear":
        return (t(s.m, s.k), t(s.n, s.k), *((t(s.n),) if s.bias else ())), torch.nn.functional.linear
    weights = (t(4 * s.hidden, s.input), t(4 * s.hidden, s.hidden), t(4 * s.hidden), t(4 * s.hidden))
    if name == "lstm":
        inputs = (t(s.steps, s.b, s.input), t(1, s.b, s.hidden), t(1, s.b, s.hidden))
        return (*inputs, *weights), lambda x, h, c, *w: torch.lstm(
            x, (h, c), list(w), True, 1, 0.0, False, False, False
        )
    state = (t(s.b, s.input), t(s.b, s.hidden), t(s.b, s.hidden))
    return (*state, *weights), lambda x, h, c, *w: torch.lstm_cell(x, (h, c), *w)[0]


def _convolutions(
    torch: Any, name: str, s: _Sizes, t: Callable[..., Any]
) -> tuple[tuple[Any, ...], Callable[..., Any]]:
    bias = (t(s.c_out),) if s.bias else ()
    options = {"stride": s.stride, "padding": s.pad, "dilation": s.dilation, "groups": s.groups}
    if name == "conv2d":
        inputs = (t(s.n, s.c_in, s.h, s.w), t(s.c_out, s.c_in // s.groups, s.kh, s.kw), *bias)
        return inputs, lambda *x: torch.nn.functional.conv2d(*x, **options)
    inputs = (t(s.n, s.c_in, s.h, s.w), t(s.c_in, s.c_out // s.groups, s.kh, s.kw), *bias)
    return inputs, lambda *x: torch.nn.functional.conv_transpose2d(*x, **options)


def _normalisations(
    torch: Any, name: str, s: _Sizes, t: Callable[..., Any]
) -> tuple[tuple[Any, ...], Callable[..., Any]]:
    functional = torch.nn.functional
    if name == "layer_norm":
        return (t(s.rows, s.cols), t(s.cols), t(s.cols)), lambda x, w, b: functional.layer_norm(x, (s.cols,), w, b)
    if name == "rms_norm":
        return (t(s.rows, s.cols), t(s.cols)), lambda x, w: functional.rms_norm(x, (s.cols,), w)
    mean, variance = t(s.c), t(s.c).abs() + 0.5
    train = bool(s.train)
    return (t(s.n, s.c, s.h, s.w), t(s.c), t(s.c)), lambda x, w, b: functional.batch_norm(
        x, mean, variance, w, b, training=train
    )


def _along_rows(torch: Any, name: str, s: _Sizes, t: Callable[..., Any]) -> tuple[tuple[Any, ...], Callable[..., Any]]:
    if name == "transpose":
        return (t(s.rows, s.cols),), lambda x: x.t().contiguous()
    if name == "softmax":
        return (t(s.rows, s.cols),), lambda x: torch.softmax(x, 1)
    return (t(s.rows, s.cols),), lambda x: getattr(torch, name)(x, 1)


def _windows(torch: Any, name: str, s: _Sizes, t: Callable[..., Any]) -> tuple[tuple[Any, ...], Callable[..., Any]]:
    call = getattr(torch.nn.functional, name)
    return (t(s.n, s.c, s.h, s.w),), lambda x: call(x, (s.kh, s.kw), s.stride, s.pad)


def _tables(torch: Any, name: str, s: _Sizes, t: Callable[..., Any]) -> tuple[tuple[Any, ...], Callable[..., Any]]:
    table = t(s.rows, s.cols)
    picked = torch.randint(0, s.rows, (s.count,), device=table.device)
    if name == "embedding":
        return (table,), lambda w: torch.nn.functional.embedding(picked, w)
    return (table,), lambda w: torch.index_select(w, 0, picked)


def _attention(torch: Any, _: str, s: _Sizes, t: Callable[..., Any]) -> tuple[tuple[Any, ...], Callable[..., Any]]:
    if s.causal and s.q_len not in (1, s.kv_len):
        raise CannotRun(
            "torch aligns a causal mask with the first key unless q_len is 1 or kv_len; this attention cannot be run "
            "as counted"
        )
    inputs = (
        t(s.b, s.heads, s.q_len, s.head_dim),
        t(s.b, s.kv_heads, s.kv_len, s.head_dim),
        t(s.b, s.kv_heads, s.kv_len, s.head_dim),
    )
    options = {"is_causal": bool(s.causal) and s.q_len > 1} | ({"enable_gqa": True} if s.heads != s.kv_heads else {})
    return inputs, lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, **options)


def _elementwise(torch: Any, name: str, s: _Sizes, t: Callable[..., Any]) -> tuple[tuple[Any, ...], Callable[..., Any]]:
    if name in ("add", "mul", "div"):
        return (t(s.size), t(s.size)), getattr(torch, name)
    if name == "copy":
        return (t(s.size),), torch.clone
    if name == "cat":
        return (t(s.size // 2), t(s.size - s.size // 2)), lambda *x: torch.cat(x)
    where = torch.nn.functional if name in ("relu", "gelu", "silu") else torch
    return (t(s.size),), getattr(where, name)


_BUILDERS: dict[str, Callable[..., tuple[tuple[Any, ...], Callable[..., Any]]]] = {
    "matmul": _products,
    "bmm": _products,
    "linear": _products,
    "recurrent": _products,
    "convolution": _convolutions,
    "normalisation": _normalisations,
    "reduction": _along_rows,
    "softmax": _along_rows,
    "pooling": _windows,
    "embedding": _tables,
    "attention": _attention,
    "elementwise": _elementwise,
    "data movement": _elementwise,
}


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
    """
    import torch

    from microbench.operators.core import Shape

    if op.name == "pointwise":
        raise UsageError("pointwise stands for any elementwise operator and cannot be run; name one")
    build = _along_rows if op.name == "transpose" else _BUILDERS[op.row.family]
    torch.manual_seed(_SEED)
    copies = 1 if op.cache == "hot" else max(2, _cold_bytes(torch, place) // max(op.work.bytes, 1) + 1)
    calls = []
    try:
        for _ in range(min(copies, 4096)):
            inputs, call = build(torch, op.name, Shape(op.params), lambda *sizes: _tensor(torch, op, place, *sizes))
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
        start, stop = (events(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(times):
            call()
        stop.record()
        stop.synchronize()
        return float(start.elapsed_time(stop)) / times * 1e-3

    return on_processor if place == "cpu" else on_gpu
