"""Operands and results of the kernels within one SM (shared memory, L1, pointer chases) and of mixed intensity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microbench.kernels.cuda.number_formats import decode, encode, pack, per_word, unpack
from microbench.kernels.cuda.rows import CudaRow
from microbench.kernels.cuda.tensor import Compute, fragment_b, operand

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

SLOTS = 4
L1_LOADS = 8
LINE_WORDS = 32  # of a header in front of the operands, so that they begin with a line of 128 bytes
NODES = 4096
_SEED = 40_000


def _compute(inputs: Array, out_bytes: int, result: Callable[[int], Array]) -> Compute:
    def expected(iterations: int) -> Bytes:
        return np.ascontiguousarray(result(iterations)).reshape(-1).view(np.uint8)

    def close_to(iterations: int, found: Bytes) -> bool:
        return bool(np.array_equal(expected(iterations), found))

    def plausible(found: Bytes) -> bool:
        return np.unique(found).size > 1

    return Compute(
        inputs=inputs.reshape(-1).view(np.uint8),
        out_bytes=out_bytes,
        expected=expected,
        close_to=close_to,
        plausible=plausible,
    )


def _words(*shape: int) -> NDArray[np.uint32]:
    return np.random.default_rng(_SEED).integers(0, 1 << 32, size=shape, dtype=np.uint32)


def shared(row: CudaRow, kind: str) -> Compute:
    """Sums of what the ports delivered, wrapping modulo 2^32; a write leaves what it wrote."""
    del kind
    if row.variant == "l1":
        halves = _words(2, L1_LOADS, row.threads, 4)
        header = np.zeros(LINE_WORDS, dtype=np.uint32)
        header[0] = L1_LOADS * row.threads  # exclusive-or with it moves to the other half
        sums = halves.sum(axis=1, dtype=np.uint32)

        def both(iterations: int) -> Array:
            counts = np.array([(iterations + 1) // 2, iterations // 2], dtype=np.uint64).astype(np.uint32)
            total: Array = (sums * counts[:, None, None]).sum(axis=0, dtype=np.uint32)
            return total

        return _compute(np.concatenate([header, halves.reshape(-1)]), row.threads * 16, both)
    slots = _words(SLOTS, row.threads, 4)
    if row.access == "write":
        return _compute(slots, slots.nbytes, lambda _: slots)
    total = slots.sum(axis=0, dtype=np.uint32)
    return _compute(
        slots, row.threads * 16, lambda iterations: total * np.uint32(row.loads // SLOTS * iterations & 0xFFFFFFFF)
    )


def cycle(nodes: int, seed: int = _SEED) -> NDArray[np.int64]:
    """Order in which one random cycle visits all nodes, starting at node 0.

    Linking each node to the next in the order gives a single cycle over the whole set, so that a chase meets every node
    once a round.
    """
    order = np.random.default_rng(seed).permutation(nodes - 1) + 1
    return np.concatenate([[0], order]).astype(np.int64)


def links(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Successor of each node."""
    successor = np.empty_like(order)
    successor[order] = np.roll(order, -1)
    return successor


def chase_shared(row: CudaRow, kind: str) -> Compute:
    """Walk one cycle over shared memory in byte offsets; every lane ends at the same node."""
    del kind
    order = cycle(NODES)
    offsets = (links(order) * 4).astype(np.uint32)

    def reached(iterations: int) -> Array:
        return np.full(row.threads, order[row.loads * iterations % NODES] * 4, dtype=np.uint32)

    return _compute(offsets, row.threads * 4, reached)


def mixed(dtype: str, elements: NDArray[np.uint32], fmas: int) -> NDArray[np.uint32]:
    """Bits of 16-byte elements (n, 4) after the turns of the mixed-intensity kernel with a = 1, b = -1.

    A block leaves their sums.

    Each step adds two numbers of the format and rounds once. FP64 has 53 bits, more than twice those of the others and
    two, so that rounding to it in between changes nothing (Figueroa, When is double rounding innocuous, 1995).
    """
    values = decode(dtype, unpack(dtype, elements.view(np.uint64) if dtype == "f64" else elements))
    pairs = values.reshape(
        len(elements), -1, 2, per_word(dtype)
    )  # the pair of words, then the elements packed in a word
    x, y = pairs[:, :, 0], pairs[:, :, 1]
    for _ in range(fmas):
        x = decode(dtype, encode(dtype, x + y))
        y = decode(dtype, encode(dtype, y - x))
    words = pack(dtype, encode(dtype, np.stack([x, y], axis=2)).reshape(len(elements), -1))
    return np.ascontiguousarray(words).view(np.uint32).reshape(-1, 4)


def turns(dtype: str) -> NDArray[np.uint32]:
    """Words of a = 1 and b = -1 behind `in2` of the mixed-intensity kernel."""
    count = per_word(dtype)
    words: NDArray[np.uint32] = np.ascontiguousarray(pack(dtype, encode(dtype, np.repeat([1.0, -1.0], count)))).view(
        np.uint32
    )
    return words


def _tiles(dtype: str) -> list[NDArray[np.float64]]:
    """Two matrices B (16 x 8) of small integers, by which the mixed-intensity kernel of the tensor cores multiplies."""
    return [operand(dtype, "exact", (16, 8), 60 + chain) for chain in range(2)]


def multiplied(dtype: str, elements: NDArray[np.uint32], mmas: int) -> NDArray[np.uint32]:
    """Bits (n, 4) that a warp's lanes add up when 32 elements at a time are a fragment A (16 x 16) of so many products.

    Even products multiply with the first B, odd ones with the second; each has an FP32 accumulator that starts at zero.
    """
    group, place = np.arange(32) >> 2, np.arange(32) & 3
    values = decode(dtype, unpack(dtype, elements)).reshape(-1, 32, 4, 2)
    a = np.empty((len(values), 16, 16))
    for register in range(4):
        for half in range(2):
            a[:, group + 8 * (register % 2), 8 * (register // 2) + 2 * place + half] = values[:, :, register, half]
    total = np.zeros((len(values), 32, 4), dtype=np.uint32)
    for first, b in enumerate(_tiles(dtype)[:mmas]):
        d = (a @ b) * len(range(first, mmas, 2)) + 0.0  # a zero is a positive one
        for word in range(4):
            found = d[:, group + 8 * (word // 2), 2 * place + word % 2]
            total[:, :, word] += found.astype(np.float32).view(np.uint32)
    return total.reshape(-1, 4)


def mixed_by(row: CudaRow) -> tuple[str, NDArray[np.uint32]]:
    """What lies behind `in2` of a mixed-intensity kernel: a name for it, and its words."""
    dtype = row.dtype or "f32"
    if row.unit != "matrix":
        return f"turns.{dtype}", turns(dtype)
    words = np.concatenate([fragment_b(dtype, tile) for tile in _tiles(dtype)])
    return f"tiles.{dtype}", np.ascontiguousarray(words.T.astype(np.uint32))


VALUES: dict[str, Callable[[CudaRow, str], Compute]] = {"shared": shared}
