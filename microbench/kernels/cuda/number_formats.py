"""Numbers as the tensor cores hold them: bits of a value, value of bits, and words packed from several of them.

Field widths come from `microbench.records.dtypes`; the 8-bit and 4-bit formats are the OCP ones (E4M3 has NaN but no
infinity, E2M1 neither).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microbench.records.dtypes import DTYPES

Array = NDArray[Any]
SIGN_MASK = {
    "f16": 0x80008000,
    "bf16": 0x80008000,
    "tf32": 0x80000000,
    "f64": 1 << 63,
    "f8e4m3": 0x80808080,
    "f8e5m2": 0x80808080,
    "f4e2m1": 0x88888888,
}


@cache
def _table(dtype: str) -> NDArray[np.float64]:
    """Value of each bit pattern of a format of at most 8 bits, NaN where the pattern is no finite number."""
    row = DTYPES[dtype]
    assert row.exponent_bits is not None
    assert row.mantissa_bits is not None
    bits = np.arange(1 << row.bits)
    mantissa = bits & ((1 << row.mantissa_bits) - 1)
    exponent = (bits >> row.mantissa_bits) & ((1 << row.exponent_bits) - 1)
    bias = (1 << (row.exponent_bits - 1)) - 1
    fraction = mantissa / (1 << row.mantissa_bits)
    size = np.where(exponent == 0, fraction * 2.0 ** (1 - bias), (1 + fraction) * 2.0 ** (exponent - bias))
    if dtype == "f8e4m3":
        size[(bits & 0x7F) == 0x7F] = np.nan
    elif dtype == "f8e5m2":
        size[exponent == 31] = np.nan
    return np.where(bits >> (row.bits - 1), -size, size)


def encode(dtype: str, values: Array) -> NDArray[np.uint64]:
    """Bits of the nearest number of a format, one element each."""
    values = np.asarray(values)
    if dtype in ("i8", "i32"):
        return values.astype(np.int64).astype(np.uint64) & np.uint64((1 << DTYPES[dtype].bits) - 1)
    if dtype == "f64":
        return values.astype(np.float64).view(np.uint64)
    if dtype == "f16":
        return values.astype(np.float16).view(np.uint16).astype(np.uint64)
    if dtype in ("f32", "tf32", "bf16"):
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
        drop = {"f32": 0, "tf32": 13, "bf16": 16}[dtype]
        if drop:  # to nearest, ties to even
            shift, one = np.uint64(drop), np.uint64(1)
            bits = (bits + np.uint64((1 << (drop - 1)) - 1) + ((bits >> shift) & one)) >> shift << shift
        return bits >> np.uint64(16) if dtype == "bf16" else bits
    table = _table(dtype)
    known = np.flatnonzero(np.isfinite(table))
    order = known[np.argsort(table[known], kind="stable")]
    edges = (table[order][1:] + table[order][:-1]) / 2
    return order[np.searchsorted(edges, values)].astype(np.uint64)


def decode(dtype: str, bits: Array) -> NDArray[np.float64]:
    """Values of bits, exactly (integers up to 2^53 as well)."""
    bits = np.asarray(bits)
    if dtype in ("i8", "i32"):
        signed = np.int8 if dtype == "i8" else np.int32
        return bits.astype(f"u{signed().itemsize}").view(signed).astype(np.float64)
    if dtype == "f64":
        return np.ascontiguousarray(bits, dtype=np.uint64).view(np.float64)
    if dtype == "f16":
        return np.ascontiguousarray(bits, dtype=np.uint16).view(np.float16).astype(np.float64)
    if dtype in ("f32", "tf32", "bf16"):
        wide = bits.astype(np.uint32) << np.uint32(16) if dtype == "bf16" else bits.astype(np.uint32)
        return np.ascontiguousarray(wide).view(np.float32).astype(np.float64)
    return _table(dtype)[bits.astype(np.int64)]


def per_word(dtype: str) -> int:
    """Elements in one register word (FP64: a word of 8 bytes, else 4)."""
    return max(1, 32 // DTYPES[dtype].bits)


def pack(dtype: str, bits: Array) -> Array:
    """Words from elements along the last axis, the first element in the lowest bits."""
    width, count = DTYPES[dtype].bits, per_word(dtype)
    if dtype == "f64":
        return np.asarray(bits, dtype=np.uint64)
    parts = np.asarray(bits, dtype=np.uint64).reshape(*np.shape(bits)[:-1], -1, count)
    words: Array = (parts << (np.arange(count, dtype=np.uint64) * np.uint64(width))).sum(axis=-1, dtype=np.uint64)
    return words.astype(np.uint32)


def unpack(dtype: str, words: Array) -> NDArray[np.uint64]:
    """Elements of words along the last axis; the inverse of `pack`."""
    width, count = DTYPES[dtype].bits, per_word(dtype)
    wide = np.asarray(words).astype(np.uint64)
    if dtype == "f64":
        return wide
    parts = (wide[..., None] >> (np.arange(count, dtype=np.uint64) * np.uint64(width))) & np.uint64((1 << width) - 1)
    return parts.reshape(*np.shape(words)[:-1], -1)
