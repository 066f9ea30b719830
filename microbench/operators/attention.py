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


def _tensors(s: Any) -> tuple[Any, Any, Any]:
    """Queries, keys with values, results."""
    keys_values = s.b * s.kv_heads * s.kv_len * (s.head_dim + s.value_dim)
    queries = s.b * s.heads * s.q_len
    return queries * s.head_dim, keys_values, queries * s.value_dim


def _backward(s: Any) -> Tally:
    """Five products, one of which makes the scores anew; the result and a log-sum of each row are read as well."""
    queries, keys_values, results = _tensors(s)
    return Tally(
        flop=2 * s.b * s.heads * _attended_pairs(s) * (3 * s.head_dim + 2 * s.value_dim),
        read=queries + keys_values + 2 * results + s.b * s.heads * s.q_len,
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
        t(s.b, s.kv_heads, s.kv_len, s.value_dim),
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
    "b heads kv_heads q_len kv_len head_dim causal value_dim",
    "attention",
    example={"b": 2, "heads": 4, "kv_heads": 2, "q_len": 5, "kv_len": 5, "head_dim": 8, "causal": 1},
    defaults={"kv_heads": "heads", "kv_len": "q_len", "causal": 0, "value_dim": "head_dim"},
    quiet=("value_dim",),
    check=_faults,
    backward=_backward,
    call=_call,
    widths=("head_dim", "value_dim"),
    gemm=lambda s: (s.b * s.kv_heads, s.q_len * (s.heads // s.kv_heads), s.head_dim, s.kv_len),
    variants=_variants,
    coordinates=_coordinates,
)
def attention(s: Any) -> Tally:
    """Scaled dot-product attention in one pass: the two products; no scores are stored, the softmax is not counted."""
    queries, keys_values, results = _tensors(s)
    flop = 2 * s.b * s.heads * _attended_pairs(s) * (s.head_dim + s.value_dim)
    return Tally(flop=flop, read=queries + keys_values, written=results)


# Names whose tensors are (batch, length, heads, size); of all others (batch, heads, length, size).
_LENGTH_FIRST = ("_flash_attention", "_efficient_attention")
# Values of custom_mask_type: none, causal from the first key, causal up to the last key.
_MASK_TYPES = {0: None, 1: "first", 2: "last"}
_RAGGED = ("cum_seq_q", "cu_seqlens_q", "seqused_k", "seqlen_k", "block_table")
_WINDOWS = ("window_size", "window_size_left", "window_size_right")


def _mask(call: Call) -> str | None:
    """Which end a causal mask is aligned with; ``None`` where there is none."""
    if call.get("custom_mask_type") is not None:
        return _MASK_TYPES[call.get("custom_mask_type")]
    aligned = "last" if call.name.startswith("_flash_attention") else "first"
    return aligned if call.get("is_causal") else None


def _shape(call: Call) -> dict[str, int] | None:
    """The shape of an attention; ``None`` where sequences differ in length or a mask has a form without a key."""
    q, k, v = (call.get(name) for name in ("query", "key", "value"))
    # The kernels that take both always hand over lengths; empty ones mean that all are alike.
    ragged = [call.get(name) for name in _RAGGED]
    if any(each is not None and each.numel() for each in ragged) or q.dim() != 4:
        return None
    if any((call.get(name) or -1) >= 0 for name in _WINDOWS):
        return None
    if call.name.startswith(_LENGTH_FIRST):
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    mask, q_len, kv_len = _mask(call), q.shape[2], k.shape[2]
    if mask == "first" and q_len > kv_len:
        return None
    return {
        "b": q.shape[0],
        "heads": q.shape[1],
        "kv_heads": k.shape[1],
        "q_len": q_len,
        # A mask that begins with the first key leaves those after the last query unseen.
        "kv_len": q_len if mask == "first" else kv_len,
        "head_dim": q.shape[3],
        "causal": mask is not None,
        "value_dim": v.shape[3],
    }


_FORWARD = """_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention
_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention _scaled_dot_product_attention_math
_scaled_dot_product_fused_attention_overrideable _flash_attention_forward _efficient_attention_forward
_cudnn_attention_forward"""
_GRADIENTS = """_scaled_dot_product_flash_attention_for_cpu_backward _scaled_dot_product_flash_attention_backward
_scaled_dot_product_efficient_attention_backward _scaled_dot_product_cudnn_attention_backward
_scaled_dot_product_fused_attention_overrideable_backward _flash_attention_backward _efficient_attention_backward
_cudnn_attention_backward"""


@aten(*_FORWARD.split(), gives="attention")
def _seen(call: Call) -> list[Op] | None:
    """The result is written; its log-sum is kept for a backward pass only."""
    shape = _shape(call)
    if shape is None:
        return None
    read = [call.get(name) for name in ("query", "key", "value")] + [call.get("attn_mask", "attn_bias", "bias")]
    return [call.holding(call.op("attention", **shape), read, call.outputs[:1])]


@aten(*_GRADIENTS.split(), gives="attention", direction="backward")
def _seen_backward(call: Call) -> list[Op] | None:
    """All three gradients; a pass that makes fewer has no key."""
    shape, mask = _shape(call), call.get("grad_input_mask")
    if shape is None or not all((mask or (True,))[:3]):
        return None
    names = ("query", "key", "value", "out", "logsumexp")
    read = [call.get("grad_out", "grad_out_"), *(call.get(name) for name in names)]
    read.append(call.get("attn_mask", "attn_bias", "bias"))
    return [call.holding(call.op("attention", "backward", **shape), read, call.outputs)]


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
