"""Fragments of mma.sync as the PTX ISA tabulates them, and their formats, written apart from the product's own."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
SHAPE = re.compile(r"m(\d+)n(\d+)k(\d+)")
_GROUP, _PLACE = np.arange(32) // 4, np.arange(32) % 4


def _small(bits: Array, exponent_bits: int, mantissa_bits: int) -> Array:
    bits = bits.astype(np.int64)
    bias = 2 ** (exponent_bits - 1) - 1
    exponent, mantissa = bits >> mantissa_bits & (2**exponent_bits - 1), bits & (2**mantissa_bits - 1)
    size = np.where(
        exponent == 0,
        mantissa * 2.0 ** (1 - bias - mantissa_bits),
        (1 + mantissa / 2**mantissa_bits) * 2.0 ** (exponent - bias),
    )
    return np.where(bits >> (exponent_bits + mantissa_bits) & 1, -size, size)


def decode(kind: str, bits: Array) -> Array:
    """Values of register words; packed kinds get a second axis."""
    if kind == "f64":
        return np.ascontiguousarray(bits).view(np.float64)
    words = np.ascontiguousarray(bits.astype(np.uint32))
    if kind in ("f32", "tf32"):
        return (words & np.uint32(0xFFFFE000) if kind == "tf32" else words).view(np.float32).astype(np.float64)
    if kind in ("s32", "i32"):
        return words.view(np.int32).astype(np.float64)
    if kind in ("f16", "f16x2"):
        return words.view(np.float16).reshape(-1, 2).astype(np.float64)
    if kind in ("bf16", "bf16x2"):
        return (
            (words.view(np.uint16).astype(np.uint32) << np.uint32(16))
            .view(np.float32)
            .reshape(-1, 2)
            .astype(np.float64)
        )
    lanes = words.view(np.uint8).reshape(-1, 4)
    if kind == "e2m1":
        return _small(np.stack([lanes & 15, lanes >> 4], axis=-1).reshape(-1, 8), 2, 1)
    if kind == "s8":
        return lanes.view(np.int8).astype(np.float64)
    return _small(lanes, *{"e4m3": (4, 3), "e5m2": (5, 2)}[kind])


def encode(kind: str, values: Array) -> Array:
    """Register words of values; the inverse of `decode` with rounding to nearest."""
    if kind == "f64":
        return np.ascontiguousarray(values, dtype=np.float64).view(np.uint64)
    if kind == "f32":
        return np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    if kind == "s32":
        return np.asarray(values).astype(np.int64).astype(np.uint64) & np.uint64(0xFFFFFFFF)
    if kind in ("f16", "f16x2"):
        return np.ascontiguousarray(values, dtype=np.float16).view(np.uint32).reshape(-1).astype(np.uint64)
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    halves = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.ascontiguousarray(halves).view(np.uint32).reshape(-1).astype(np.uint64)


def _places_a(shape: tuple[int, int, int], width: int, i: int) -> tuple[Array, Array]:
    """Row and column of element i of A."""
    g, t = _GROUP, _PLACE
    if shape == (16, 8, 16) and width == 64:
        return (g if i % 2 == 0 else g + 8), (2 * i + t if i % 2 == 0 else 2 * i - 2 + t)
    if shape == (16, 8, 16):
        return (g if i < 2 or 4 <= i < 6 else g + 8), 2 * t + (i & 1) + (8 if i >= 4 else 0)
    if shape == (16, 8, 8) and width == 16:
        return (g if i < 2 else g + 8), 2 * t + (i & 1)
    if shape == (16, 8, 8):
        return (g if i in (0, 2) else g + 8), (t if i < 2 else t + 4)
    if shape == (16, 8, 64):
        return (g if i < 8 or 16 <= i < 24 else g + 8), 8 * t + (i & 7) + (32 if i >= 16 else 0)
    if shape == (16, 8, 32):
        return (g if i < 4 or 8 <= i < 12 else g + 8), 4 * t + (i & 3) + (16 if i >= 8 else 0)
    if shape == (8, 8, 16):
        return g, 4 * t + i
    return g, t  # m8n8k4


def _places_b(shape: tuple[int, int, int], width: int, i: int) -> tuple[Array, Array]:
    """Row and column of element i of B."""
    g, t = _GROUP, _PLACE
    if shape == (16, 8, 16) and width == 64:
        return t + 4 * i, g
    if shape == (16, 8, 16):
        return 2 * t + (i & 1) + (8 if i >= 2 else 0), g
    if shape == (16, 8, 8) and width == 16:
        return 2 * t + i, g
    if shape == (16, 8, 8):
        return t + 4 * i, g
    if shape == (16, 8, 64):
        return 8 * t + (i & 7) + (32 if i >= 8 else 0), g
    if shape == (16, 8, 32):
        return 4 * t + (i & 3) + (16 if i >= 4 else 0), g
    if shape == (8, 8, 16):
        return 4 * t + i, g
    return t, g


def _places_c(i: int) -> tuple[Array, Array]:
    """Row and column of element i of the accumulator."""
    return (_GROUP if i < 2 else _GROUP + 8), 2 * _PLACE + (i & 1)


_WIDTHS = {"f64": 64, "tf32": 32, "f16": 16, "bf16": 16, "e2m1": 4}


def _matrix(words: list[Array], kind: str, shape: tuple[int, int, int], which: str) -> Array:
    """A or B of one warp; a kernel multiplies the same ones many times, so they are put together once."""
    return _put_together(np.stack(words).tobytes(), words[0].dtype.str, kind, shape, which)


@lru_cache(maxsize=512)
def _put_together(held: bytes, stored: str, kind: str, shape: tuple[int, int, int], which: str) -> Array:
    words = np.frombuffer(held, dtype=stored).reshape(-1, 32)
    width = _WIDTHS.get(kind, 8)
    size, places = ((shape[0], shape[2]), _places_a) if which == "a" else ((shape[2], shape[1]), _places_b)
    elements = np.concatenate([decode(kind, word).reshape(32, -1) for word in words], axis=1)
    matrix = np.full(size, np.nan)
    for i in range(elements.shape[1]):
        matrix[places(shape, width, i)] = elements[:, i]
    if np.isnan(matrix).any():
        raise ValueError(f"fragments of {kind} leave holes in {size}")
    return matrix


def matrix_a(shape: tuple[int, int, int], kind: str, words: list[Array]) -> Array:
    """A of one warp from its registers."""
    return _matrix(words, kind, shape, "a")


def multiply(opcode: str, a: list[Array], b: list[Array], c: list[Array]) -> list[Array]:
    """Registers of D = A x B + C of one or more whole warps from their registers."""
    found = SHAPE.search(opcode)
    assert found is not None
    shape = (int(found[1]), int(found[2]), int(found[3]))
    words = opcode.split(".")[:-1] if "block_scale" in opcode else opcode.split(".")
    accumulator, kind = words[-1], words[-2]
    warps = [slice(at, at + 32) for at in range(0, len(c[0]), 32)]
    left = np.stack([matrix_a(shape, kind, [word[warp] for word in a]) for warp in warps])
    right = np.stack([_matrix([word[warp] for word in b], kind, shape, "b") for warp in warps])
    sums = np.concatenate([decode(accumulator, word).reshape(len(c[0]), -1) for word in c], axis=1)
    product = left @ right
    places = [_places_c(i) for i in range(sums.shape[1])]
    result = np.stack(
        [sums[:, i] + product[:, row, column].reshape(-1) for i, (row, column) in enumerate(places)], axis=1
    )
    if accumulator == "f16":
        return [encode("f16", result[:, at : at + 2]) for at in range(0, result.shape[1], 2)]
    return [encode(accumulator, result[:, i]) for i in range(result.shape[1])]
