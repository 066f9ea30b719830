"""The operator table: every rule that counts work from shapes; those of sliding windows are in `windows`.

FLOP: an FMA is 2, every other arithmetic or transcendental operation (also a comparison) is 1. A bias is where an
accumulator starts and adds nothing. Bytes are compulsory: each input element once, each output element once, no
intermediate. Importing this module fills `core.OPERATORS`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from microbench.operators.core import INDEX_BYTES, Operator, Rule, Tally, add, operator

# name: (tensors read, FLOP per element, tensors read by backward, FLOP per element of backward, tensors written by
# backward). gelu: x/2 * (1 + erf(x/sqrt 2)). add hands its gradient on untouched: nothing runs.
POINTWISE = {
    "add": (2, 1, 0, 0, 0),
    "mul": (2, 1, 3, 2, 2),
    "div": (2, 1, 3, 4, 2),
    "relu": (1, 1, 2, 1, 1),
    "gelu": (1, 5, 2, 12, 1),
    "silu": (1, 5, 2, 8, 1),
    "tanh": (1, 1, 2, 3, 1),
    "exp": (1, 1, 2, 1, 1),
    "sigmoid": (1, 4, 2, 3, 1),
}


def least(a: Any, b: Any) -> Any:
    """Take the smaller of two sizes, element by element for columns."""
    return np.minimum(a, b) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else min(a, b)


def _pointwise(reads: int, flop: int, writes: int) -> Rule:
    return lambda s: Tally(flop=flop * s.size, read=reads * s.size, written=writes * s.size)


for _name, (_in, _flop, _back_in, _back_flop, _back_out) in POINTWISE.items():
    add(
        Operator(
            name=_name,
            family="elementwise",
            keys=("size",),
            says=f"{_name} on every element",
            forward=_pointwise(_in, _flop, 1),
            backward=_pointwise(_back_in, _back_flop, _back_out),
            rows=lambda s: (1, s.size),
        )
    )


@operator(
    "pointwise",
    "size reads writes flop",
    "elementwise",
    defaults={"reads": "size", "writes": "size", "flop": "size"},
    rows=lambda s: (1, s.size),
)
def pointwise(s: Any) -> Tally:
    """Any other elementwise operator: elements read and written and FLOP are given (broadcasts, optimiser steps)."""
    return Tally(flop=s.flop, read=s.reads, written=s.writes)


def _product_backward(s: Any) -> Tally:
    return Tally(flop=4 * s.m * s.n * s.k, read=s.m * s.n + s.m * s.k + s.k * s.n, written=s.m * s.k + s.k * s.n)


@operator("matmul", "m n k", "matmul", backward=_product_backward, gemm=lambda s: (1, s.m, s.n, s.k))
def matmul(s: Any) -> Tally:
    """C[m,n] = A[m,k] B[k,n]."""
    return Tally(flop=2 * s.m * s.n * s.k, read=s.m * s.k + s.k * s.n, written=s.m * s.n)


def _bmm_backward(s: Any) -> Tally:
    one = _product_backward(s)
    return Tally(flop=s.b * one.flop, read=s.b * one.read, written=s.b * one.written)


@operator("bmm", "b m n k", "bmm", backward=_bmm_backward, gemm=lambda s: (s.b, s.m, s.n, s.k))
def bmm(s: Any) -> Tally:
    """Multiply b independent pairs: C[m,n] = A[m,k] B[k,n]."""
    return Tally(flop=2 * s.b * s.m * s.n * s.k, read=s.b * (s.m * s.k + s.k * s.n), written=s.b * s.m * s.n)


def _linear_backward(s: Any) -> Tally:
    one = _product_backward(s)
    return Tally(flop=one.flop + s.bias * s.m * s.n, read=one.read, written=one.written + s.bias * s.n)


@operator(
    "linear", "m n k bias", "linear", defaults={"bias": 1}, backward=_linear_backward, gemm=lambda s: (1, s.m, s.n, s.k)
)
def linear(s: Any) -> Tally:
    """Y[m,n] = X[m,k] W[n,k]^T + bias[n]; W and bias are parameters."""
    weights = s.n * s.k + s.bias * s.n
    return Tally(flop=2 * s.m * s.n * s.k, read=s.m * s.k + weights, written=s.m * s.n, parameters=weights)


def _rows(s: Any) -> tuple[Any, Any]:
    return s.rows, s.cols


def _softmax_backward(s: Any) -> Tally:
    return Tally(flop=4 * s.rows * s.cols, read=2 * s.rows * s.cols, written=s.rows * s.cols)


@operator("softmax", "rows cols", "softmax", rows=_rows, backward=_softmax_backward)
def softmax(s: Any) -> Tally:
    """Softmax along each row: maximum, subtract, exp, sum, divide."""
    return Tally(flop=5 * s.rows * s.cols, read=s.rows * s.cols, written=s.rows * s.cols)


def _layer_norm_backward(s: Any) -> Tally:
    return Tally(
        flop=14 * s.rows * s.cols, read=2 * s.rows * s.cols + 2 * s.rows + s.cols, written=s.rows * s.cols + 2 * s.cols
    )


@operator("layer_norm", "rows cols", "normalisation", rows=_rows, backward=_layer_norm_backward)
def layer_norm(s: Any) -> Tally:
    """Layer normalisation of each row with weight and bias: mean, variance, normalise, scale, shift."""
    return Tally(
        flop=7 * s.rows * s.cols, read=s.rows * s.cols + 2 * s.cols, written=s.rows * s.cols, parameters=2 * s.cols
    )


def _rms_norm_backward(s: Any) -> Tally:
    return Tally(
        flop=10 * s.rows * s.cols, read=2 * s.rows * s.cols + s.rows + s.cols, written=s.rows * s.cols + s.cols
    )


@operator("rms_norm", "rows cols", "normalisation", rows=_rows, backward=_rms_norm_backward)
def rms_norm(s: Any) -> Tally:
    """Root-mean-square normalisation of each row with weight."""
    return Tally(flop=4 * s.rows * s.cols, read=s.rows * s.cols + s.cols, written=s.rows * s.cols, parameters=s.cols)


def _batch_norm_backward(s: Any) -> Tally:
    size = s.n * s.c * s.h * s.w
    return Tally(flop=14 * size, read=2 * size + 3 * s.c, written=size + 2 * s.c)


@operator(
    "batch_norm",
    "n c h w train",
    "normalisation",
    defaults={"w": "h", "train": 0},
    backward=_batch_norm_backward,
    rows=lambda s: (s.n * s.c, s.h * s.w),
)
def batch_norm(s: Any) -> Tally:
    """Batch normalisation with stored statistics (train=0) or with those of the batch (train=1)."""
    size = s.n * s.c * s.h * s.w
    return Tally(
        flop=(4 + 3 * s.train) * size, read=size + 4 * s.c, written=size + 4 * s.train * s.c, parameters=2 * s.c
    )


def _reduce(s: Any) -> Tally:
    return Tally(flop=s.rows * s.cols, read=s.rows * s.cols, written=s.rows)


def _spread(s: Any) -> Tally:
    return Tally(read=s.rows, written=s.rows * s.cols)


for _name in ("sum", "mean"):
    add(
        Operator(
            name=_name,
            family="reduction",
            keys=("rows", "cols"),
            says=f"{_name} of each row",
            forward=_reduce,
            backward=_spread,
            rows=_rows,
        )
    )


def _attention_faults(s: Any) -> tuple[tuple[Any, str], ...]:
    return ((s.heads % s.kv_heads != 0, "kv_heads must divide heads"),)


def attended_pairs(s: Any) -> Any:
    """Query-key pairs that are looked at: a causal mask lets the last query see all keys (so that a KV cache works)."""
    queries = least(s.q_len, s.kv_len)
    return s.q_len * s.kv_len * (1 - s.causal) + s.causal * (queries * s.kv_len - queries * (queries - 1) // 2)


def _attention_tensors(s: Any) -> tuple[Any, Any]:
    return s.b * s.heads * s.q_len * s.head_dim, 2 * s.b * s.kv_heads * s.kv_len * s.head_dim


def _attention_backward(s: Any) -> Tally:
    queries, keys_values = _attention_tensors(s)
    return Tally(
        flop=10 * s.b * s.heads * attended_pairs(s) * s.head_dim,
        read=3 * queries + keys_values + s.b * s.heads * s.q_len,
        written=queries + keys_values,
    )


@operator(
    "attention",
    "b heads kv_heads q_len kv_len head_dim causal",
    "attention",
    defaults={"kv_heads": "heads", "kv_len": "q_len", "causal": 0},
    backward=_attention_backward,
    check=_attention_faults,
    gemm=lambda s: (s.b * s.kv_heads, s.q_len * (s.heads // s.kv_heads), s.head_dim, s.kv_len),
)
def attention(s: Any) -> Tally:
    """Scaled dot-product attention in one pass: the two products; scores are never stored and the softmax is not counted."""
    queries, keys_values = _attention_tensors(s)
    return Tally(flop=4 * s.b * s.heads * attended_pairs(s) * s.head_dim, read=queries + keys_values, written=queries)


def _nothing(s: Any) -> Tally:
    return Tally(flop=0 * s.size)


def _move(s: Any) -> Tally:
    return Tally(flop=0 * s.size, read=s.size, written=s.size)


for _name, _says in (("copy", "copy of a tensor"), ("cat", "tensors joined into one of size elements")):
    add(
        Operator(
            name=_name,
            family="data movement",
            keys=("size",),
            says=_says,
            forward=_move,
            backward=_nothing,
            rows=lambda s: (1, s.size),
        )
    )


def _turn(s: Any) -> Tally:
    return Tally(flop=0 * s.rows, read=s.rows * s.cols, written=s.rows * s.cols)


add(
    Operator(
        name="transpose",
        family="data movement",
        keys=("rows", "cols"),
        says="transposed copy of a matrix",
        forward=_turn,
        backward=_turn,
        rows=_rows,
    )
)


def _scatter(s: Any) -> Tally:
    return Tally(
        flop=s.count * s.cols, read=s.count * s.cols, written=s.rows * s.cols, index_bytes=INDEX_BYTES * s.count
    )


@operator("gather", "rows cols count", "embedding", rows=lambda s: (s.count, s.cols), backward=_scatter)
def gather(s: Any) -> Tally:
    """Pick count rows of a table of rows x cols; a row picked twice is read once."""
    return Tally(
        flop=0 * s.rows,
        read=least(s.count, s.rows) * s.cols,
        written=s.count * s.cols,
        index_bytes=INDEX_BYTES * s.count,
    )


@operator("embedding", "rows cols count", "embedding", rows=lambda s: (s.count, s.cols), backward=_scatter)
def embedding(s: Any) -> Tally:
    """Gather from a table of parameters."""
    picked = gather(s)
    return Tally(
        flop=0 * s.rows,
        read=picked.read,
        written=picked.written,
        index_bytes=picked.index_bytes,
        parameters=s.rows * s.cols,
    )


def _lstm_backward(s: Any) -> Tally:
    weights = 4 * s.hidden * (s.input + s.hidden)
    state = s.b * (s.input + 2 * s.hidden)
    return Tally(
        flop=4 * s.b * weights + 30 * s.b * s.hidden,
        read=state + weights + 6 * s.b * s.hidden,
        written=state + weights + 8 * s.hidden,
    )


@operator(
    "lstm_cell",
    "b input hidden",
    "recurrent",
    backward=_lstm_backward,
    gemm=lambda s: (1, s.b, 4 * s.hidden, s.input + s.hidden),
)
def lstm_cell(s: Any) -> Tally:
    """One step of an LSTM: two products, two biases, three sigmoids, two tanh, the new cell and hidden state."""
    weights = 4 * s.hidden * (s.input + s.hidden)
    return Tally(
        flop=2 * s.b * weights + 18 * s.b * s.hidden,
        read=s.b * (s.input + 2 * s.hidden) + weights + 8 * s.hidden,
        written=2 * s.b * s.hidden,
        parameters=weights + 8 * s.hidden,
    )


@operator("lstm", "b steps input hidden", "recurrent", gemm=lambda s: (s.steps, s.b, 4 * s.hidden, s.input + s.hidden))
def lstm(s: Any) -> Tally:
    """A layer of LSTM over a sequence, as libraries run it in one call: the steps of a cell, weights read once."""
    weights = 4 * s.hidden * (s.input + s.hidden)
    return Tally(
        flop=s.steps * (2 * s.b * weights + 18 * s.b * s.hidden),
        read=s.steps * s.b * s.input + 2 * s.b * s.hidden + weights + 8 * s.hidden,
        written=s.steps * s.b * s.hidden + 2 * s.b * s.hidden,
        parameters=weights + 8 * s.hidden,
    )
