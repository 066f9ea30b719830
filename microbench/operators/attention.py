"""Scaled dot-product attention in one pass: scores are never stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from microbench.errors import CannotRun
from microbench.operators.aten import Call, aten
from microbench.operators.core import Op
from microbench.operators.draws import Sizes, draw
from microbench.operators.registry import Faults, Tally, alignment, least, operator


def _faults(s: Any) -> Faults:
    return ((s.heads % s.kv_heads != 0, "kv_heads must divide heads"),)


def _attended_pairs(s: Any) -> Any:
    """Query-key pairs that are looked at: a causal mask lets the last query see all keys (so that a KV cache works)."""
    queries = least(s.q_len, s.kv_len)
    return s.q_len * s.kv_len * (1 - s.causal) + s.causal * (queries * s.kv_len - queries * (queries - 1) // 2)


def _tensors(s: Any) -> tuple[Any, Any]:
    return s.b * s.heads * s.q_len * s.head_dim, 2 * s.b * s.kv_heads * s.kv_len * s.head_dim


def _backward(s: Any) -> Tally:
    """Five products, one of which makes the scores anew; the result and a log-sum of each row are read as well."""
    queries, keys_values = _tensors(s)
    return Tally(
        flop=10 * s.b * s.heads * _attended_pairs(s) * s.head_dim,
        read=3 * queries + keys_values + s.b * s.heads * s.q_len,
        written=queries + keys_values,
    )


def _call(torch: Any, s: Any, t: Callable[..., Any]) -> tuple[tuple[Any, ...], Callable[..., Any]]:
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


def _variants(s: Any, _: Any) -> tuple[tuple[str, Any], ...]:
    """One query for each sequence is a stream of the keys, which libraries split among all units."""
    return (("decode", (s.q_len == 1) & (s.kv_len > 1)),)


def _coordinates(s: Any, _: Any) -> list[Any]:
    return [
        np.log(s.b * s.heads),
        np.log(s.q_len),
        np.log(s.kv_len),
        np.log(s.head_dim),
        np.log(s.heads / s.kv_heads),
        1.0 * s.causal,
        0.5 * alignment(s.q_len),
        0.5 * alignment(s.kv_len),
    ]


@operator(
    "attention",
    "b heads kv_heads q_len kv_len head_dim causal",
    "attention",
    example={"b": 2, "heads": 4, "kv_heads": 2, "q_len": 5, "kv_len": 5, "head_dim": 8, "causal": 1},
    defaults={"kv_heads": "heads", "kv_len": "q_len", "causal": 0},
    check=_faults,
    backward=_backward,
    call=_call,
    widths=("head_dim",),
    gemm=lambda s: (s.b * s.kv_heads, s.q_len * (s.heads // s.kv_heads), s.head_dim, s.kv_len),
    variants=_variants,
    coordinates=_coordinates,
)
def attention(s: Any) -> Tally:
    """Scaled dot-product attention in one pass: the two products; no scores are stored, the softmax is not counted."""
    queries, keys_values = _tensors(s)
    return Tally(flop=4 * s.b * s.heads * _attended_pairs(s) * s.head_dim, read=queries + keys_values, written=queries)


def _seen_op(call: Call, q: Any, k: Any, direction: str) -> Op:
    flags = [item for item in (*call.args[3:], call.kwargs.get("is_causal")) if item is True]
    shape = {
        "b": q.shape[0],
        "heads": q.shape[1],
        "kv_heads": k.shape[1],
        "q_len": q.shape[2],
        "kv_len": k.shape[2],
        "head_dim": q.shape[3],
    }
    return call.op("attention", direction, causal=bool(flags), **shape)


@aten(
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_attention_math",
    gives="attention",
)
def _seen(call: Call) -> list[Op]:
    return [_seen_op(call, call.args[0], call.args[1], "forward")]


@aten(
    "_scaled_dot_product_flash_attention_for_cpu_backward",
    "_scaled_dot_product_flash_attention_backward",
    "_scaled_dot_product_efficient_attention_backward",
    gives="attention",
    direction="backward",
)
def _seen_backward(call: Call) -> list[Op]:
    return [_seen_op(call, call.args[1], call.args[2], "backward")]


@draw("attention", count=120, on=("cpu",))
def _sizes(s: Sizes) -> dict[str, Any]:
    heads, length = s.pick(1, 2, 4, 8, 12, 16), s.log(8, 1024)
    decode = s.random.random() < 0.3
    return {
        "b": s.pick(1, 1, 2, 4, 8),
        "heads": heads,
        "q_len": 1 if decode else length,
        "kv_len": length,
        "head_dim": s.pick(32, 64, 64, 128),
        "causal": 0 if decode else s.pick(0, 1),
    }


@draw("attention", name="attention.prefill", count=120, on=("cuda",))
def _prefill(s: Sizes) -> dict[str, Any]:
    """Whole prompts and images: as many queries as keys, or fewer (cross attention); heads that share keys."""
    heads, length = s.pick(4, 8, 12, 16, 32, 64), s.log(32, 32768)
    cross = s.random.random() < 0.15
    return {
        "b": s.log(1, 64),
        "heads": heads,
        "kv_heads": max(1, heads // s.pick(1, 1, 4, 8)),
        "q_len": s.log(16, length) if cross else length,
        "kv_len": length,
        "head_dim": s.pick(64, 64, 96, 128, 128, 256),
        "causal": 0 if cross else s.pick(0, 1, 1),
    }


@draw("attention", name="attention.decode", count=80, on=("cuda",))
def _decode(s: Sizes) -> dict[str, Any]:
    """One new token for each sequence, against a cache of keys."""
    heads = s.pick(8, 16, 32, 64)
    return {
        "b": s.log(1, 256),
        "heads": heads,
        "kv_heads": max(1, heads // s.pick(1, 4, 8)),
        "q_len": 1,
        "kv_len": s.log(64, 131072),
        "head_dim": s.pick(64, 128, 128, 256),
        "causal": 0,
    }
