"""What the CUDA kernels multiply and copy, and what must come out: operands and expected results, family by family.

Exact operands are small integers that differ by slot, lane and half, so that every result is known to the bit for any
number of iterations and a permuted operand shows. Random operands keep the same machine code in a bounded range with
changing bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microbench.kernels.cuda.rows import CudaRow
from microbench.kernels.cuda.tensor import Compute
from microbench.records import Operands

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

PATTERN_ELEMENTS = 65521  # 16-byte elements, a prime: no power-of-two stride finds the same data again
# The mixed-intensity kernels have a pattern of their own, short enough to foresee what becomes of each element. A
# product on the tensor cores takes 32 of them, a prime number of which make the pattern.
MIXED_GROUPS = 251
MIXED_ELEMENTS = 32 * MIXED_GROUPS
ELEMENT_BYTES = 16
SCALE = 3.0  # of the triad
_RANDOM_SEED = 20_000


def bf16_bits(values: Array) -> NDArray[np.uint16]:
    """Round to bfloat16 (nearest, ties to even) and return the bits."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def bf16_values(bits: Array) -> NDArray[np.float32]:
    """Return the values of bfloat16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


# How a row of the plain family stores one element: values per element, to bits, from bits.
def _float_format(kind: type, bits: type) -> tuple[int, Callable[[Array], Array], Callable[[Array], Array]]:
    return 1, lambda v: v.astype(kind).view(bits), lambda b: b.view(kind).astype(np.float64)


_FORMATS: dict[str, tuple[int, Callable[[Array], Array], Callable[[Array], Array]]] = {
    "f64": _float_format(np.float64, np.uint64),
    "f32": _float_format(np.float32, np.uint32),
    "f16": (
        2,
        lambda v: v.astype(np.float16).view(np.uint16).reshape(-1, 2).copy().view(np.uint32),
        lambda b: b.view(np.float16),
    ),
    "bf16": (2, lambda v: bf16_bits(v).reshape(-1, 2).copy().view(np.uint32), lambda b: bf16_values(b.view(np.uint16))),
    "i32": (1, lambda v: v.astype(np.int64).astype(np.uint32), lambda b: b.view(np.int32).astype(np.int64)),
    "i8": (1, lambda v: v.astype(np.int64).astype(np.uint32), lambda b: b.view(np.int32).astype(np.int64)),
}
# A bounded rotation in floating point drifts by rounding; after few turns a small multiple of the format's step is all
# of it.
_DRIFT = {"f64": 1e-12, "f32": 1e-4, "f16": 0.2, "bf16": 1.0}
_SMALL_ITERATIONS = 4
_ALL_ONES = 0xFFFFFFFF


def plain(row: CudaRow, kind: Operands) -> Compute:
    """Return operands and results of the plain family.

    Pairs (x, y) are turned by x += a*y, y += a*(x of the neighbour), and every second one begins as the negative of the
    one before, so that a turn is y -= a*x. With a = 1 it has period six; with a random a below two it is a bounded
    rotation.
    """
    assert row.dtype is not None
    dtype, pairs, threads = row.dtype, row.chains, row.threads
    turns = row.math_count // (2 * pairs)
    per_element, to_bits, to_values = _FORMATS[dtype]
    integer = dtype in ("i32", "i8")
    a, x, y = _plain_start(dtype, kind, (pairs, threads * per_element))
    first = np.repeat(np.asarray([a, 0], dtype=x.dtype), per_element)
    held = to_bits(first).reshape(-1)
    inputs = np.concatenate([held, to_bits(_side_by_side(x, y, per_element)).reshape(-1)]).view(np.uint8)

    @cache
    def after(count: int) -> Array:
        p, q = x.copy(), y.copy()
        for _ in range(count):
            p, q = _turned(dtype, a, p, q)
        return _side_by_side(p, q, per_element)

    def expected(iterations: int) -> Bytes | None:
        if kind == "exact":
            return to_bits(after(iterations * turns % 6)).reshape(-1).view(np.uint8)
        if integer and iterations <= _SMALL_ITERATIONS:
            return to_bits(after(iterations * turns)).reshape(-1).view(np.uint8)
        return None

    def close_to(iterations: int, found: Bytes) -> bool:
        exact = expected(iterations)
        if exact is not None:
            return bool(np.array_equal(exact, found))
        values = np.asarray(
            to_values(found.view(np.uint64 if dtype == "f64" else np.uint32)), dtype=np.float64
        ).reshape(-1)
        return bool(np.abs(values - after(iterations * turns)).max() <= _DRIFT[dtype])

    def plausible(found: Bytes) -> bool:
        values = np.asarray(to_values(found.view(np.uint64 if dtype == "f64" else np.uint32)), dtype=np.float64)
        return bool(np.isfinite(values).all() and np.unique(values).size > threads)

    return Compute(
        inputs=inputs,
        out_bytes=inputs.size - held.nbytes,
        expected=expected,
        close_to=close_to,
        plausible=plausible,
    )


def _side_by_side(x: Array, y: Array, per_element: int) -> Array:
    """Pair by pair, each thread's x and y together, an element (of so many values) each."""
    pairs, values = x.shape
    return np.stack([each.reshape(pairs, values // per_element, per_element) for each in (x, y)], axis=2).reshape(-1)


def _turned(dtype: str, a: Any, p: Array, q: Array) -> tuple[Array, Array]:
    neighbour = np.arange(len(p)) ^ 1
    if dtype == "i8":
        p = _wrapped(p + _dot(a, q))
        return p, _wrapped(q + _dot(a, p[neighbour]))
    if dtype == "i32":
        p = _wrapped(p + a * q)
        return p, _wrapped(q + a * p[neighbour])
    p = p + a * q
    return p, q + a * p[neighbour]


def _plain_start(dtype: str, kind: Operands, shape: tuple[int, int]) -> tuple[Any, Array, Array]:
    slot, lane = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    if kind == "exact":
        x, y = (slot * 7 + lane * 13) % 61 - 30, (slot * 11 + lane * 17 + 5) % 59 - 29
        whole = np.int64 if dtype in ("i32", "i8") else np.float64
        return whole(1), _opposed(x.astype(whole)), _opposed(y.astype(whole))
    random = np.random.default_rng(_RANDOM_SEED)
    if dtype in ("i32", "i8"):
        words = random.integers(-(2**31), 2**31, size=(2, *shape), dtype=np.int64)
        return random.integers(-(2**31), 2**31, dtype=np.int64) | 1, words[0], words[1]
    # The operands as the format holds them, or the reference would turn by another angle.
    to_bits, to_values = _FORMATS[dtype][1:]

    def held(values: Array) -> Array:
        return np.asarray(to_values(to_bits(values.reshape(-1)).reshape(-1)), dtype=np.float64).reshape(values.shape)

    x, y = random.uniform(-1, 1, size=(2, *shape))
    return held(np.asarray([0.828125] * 2))[0], _opposed(held(x)), _opposed(held(y))


def _opposed(values: Array) -> Array:
    """Every second row the negative of the one before; a zero is a positive one."""
    values[1::2] = 0 - values[0::2]
    return values


def _wrapped(values: Array) -> Array:
    return values.astype(np.uint64).astype(np.uint32).view(np.int32).astype(np.int64)


def _bytes_of(values: Array) -> Array:
    return (
        np.atleast_1d(np.asarray(values, dtype=np.int64))
        .astype(np.uint32)
        .view(np.int8)
        .reshape(*np.shape(np.atleast_1d(values)), 4)
    )


def _dot(a: Any, y: Array) -> Array:
    products = _bytes_of(y).astype(np.int64) * _bytes_of(a).astype(np.int64)
    result: Array = products.sum(axis=-1)
    return result


@cache
def pattern(dtype: str | None, seed: int) -> NDArray[np.uint32]:
    """Return the elements of four words that streams repeat, `PATTERN_ELEMENTS` of them, `MIXED_ELEMENTS` for ``mix``.

    Mixed bits; floats of small integers for the triad (``f32``); for the mixed-intensity kernels (``mix``) words that
    are ordinary numbers in every format that these read them in, so that one buffer serves all: signs and seven bits of
    mantissa in one binade, each 16-bit half between 1 and 1.125 as FP16 and between 2^-7 and 2^-6 as BF16, words
    likewise as FP32, pairs about 2^-60 as FP64. Sums of products with small integers then stay exact in FP32, which is
    what the tensor cores add up.
    """
    words = np.arange((MIXED_ELEMENTS if dtype == "mix" else PATTERN_ELEMENTS) * 4, dtype=np.uint64) + np.uint64(
        seed * 7919
    )
    mixed = (words * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(29)
    if dtype == "f32":
        return ((mixed % 127).astype(np.float32) - 63).view(np.uint32).reshape(-1, 4)
    if dtype == "mix":
        return (mixed & np.uint64(0x807F807F) | np.uint64(0x3C003C00)).astype(np.uint32).reshape(-1, 4)
    return mixed.astype(np.uint32).reshape(-1, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Where the blocks of a stream go: all in 16-byte elements."""

    count: int
    first: int
    step: int
    tile: int
    iterations: int

    def visited(self, block: int) -> NDArray[np.int64]:
        """Element where each iteration of a block starts."""
        start = (self.first + block * self.tile) % self.count
        return (start + self.step * np.arange(self.iterations, dtype=np.int64)) % self.count

    def after(self, blocks: int) -> int:
        """Where the next launch goes on."""
        return (self.first + self.step * self.iterations) % self.count if blocks else self.first


def read_sum(walk: Walk, block: int, threads: int, source: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Sum what each thread of a block reads, word by word, wrapping: (threads, 4)."""
    # Positions repeat; counting them once each keeps a long launch cheap to check. Tiles are slices of a source that
    # goes on behind its end: picking their elements one by one takes twenty times as long.
    starts, times = np.unique(walk.visited(block) % len(source), return_counts=True)
    longer = np.concatenate([source, np.resize(source, (walk.tile, 4))])
    total = np.zeros((walk.tile, 4), dtype=np.uint32)
    for start, count in zip(starts.tolist(), times.tolist(), strict=True):
        tile = longer[start : start + walk.tile]
        total += tile if count == 1 else tile * np.uint32(count & _ALL_ONES)
    found: NDArray[np.uint32] = total.reshape(-1, threads, 4).sum(axis=0, dtype=np.uint32)
    return found


def last_stages(walk: Walk, block: int, stages: int, source: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return what a ring of stages holds after a bulk read: stage s the last tile of iteration s modulo the ring."""
    visited = walk.visited(block)
    last = [visited[at + (visited.size - 1 - at) // stages * stages] for at in range(stages)]
    offsets = np.arange(walk.tile, dtype=np.int64)
    return source[(np.asarray(last)[:, None] + offsets) % PATTERN_ELEMENTS].reshape(-1, 4)


def streamed(
    access: str, threads: int, at: int, tile: int, sources: tuple[NDArray[np.uint32], ...]
) -> NDArray[np.uint32]:
    """Return what a write, copy or triad leaves in the tile that starts at an element: (tile, 4)."""
    where = (at + np.arange(tile, dtype=np.int64)) % PATTERN_ELEMENTS
    if access == "write":
        return np.tile(sources[0][:threads], (tile // threads, 1))
    if access == "copy":
        return sources[0][where]
    b, c = (source[where].view(np.float32) for source in sources)
    return (b + np.float32(SCALE) * c).view(np.uint32)
