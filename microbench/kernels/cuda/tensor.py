"""Operands and results of the tensor-core kernels: fragments, images of shared memory, descriptors, instruction words.

Layouts are those of the PTX ISA: fragments of mma.sync and wgmma, K-major tiles without swizzle (8 rows x 16 bytes
contiguous, the neighbour in K after 128 bytes, the next 8 rows after 256), the wgmma and tcgen05 shared-memory
descriptors, the tcgen05 instruction word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microbench.kernels.cuda.number_formats import SIGN_MASK, decode, encode, pack, per_word, unpack
from microbench.kernels.cuda.rows import CudaRow

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

TILES = 4
STEPS = 8
LEADING_BYTES, STRIDE_BYTES = 128, 256
TILE_ROW_BYTES = 32
_BLACKWELL_VERSION = 1 << 46
_ALL_ONES = 0xFFFFFFFF  # turns every byte a into -a - 1
_RANDOM_SEED = 30_000
# Exact sums stay below what the accumulator holds exactly; FP8 products on Hopper are summed with about 14 bits.
_EXACT_BELOW = {"f16": 2048, "f32": 1 << 24, "f64": 1 << 53, "i32": 1 << 53}
_FP8_EXACT_BELOW = 1 << 13
# Largest error allowed against a float64 reference, as a share of the largest partial sum, after few iterations.
_TOLERANCE = {"f16": 2e-2, "f32": 1e-4, "f64": 1e-12, "i32": 0.0}
_FP8_TOLERANCE = 5e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """One kernel of layout "compute" with its operands.

    ``inputs`` is what lies behind ``in``; ``expected`` gives what one block leaves behind ``out`` after so many
    iterations, ``None`` where only `plausible` can be asked (random operands). ``close_to`` compares a few iterations
    with a float64 reference. An even number of iterations may cancel, so the host should run odd ones.
    """

    inputs: Bytes
    out_bytes: int
    expected: Callable[[int], Bytes | None]
    close_to: Callable[[int, Bytes], bool]
    plausible: Callable[[Bytes], bool]


def shape_of(row: CudaRow) -> tuple[int, int, int]:
    """M, N, K of one instruction, from the variant (``m16n8k16`` or ``m64n256k16.ss``)."""
    m, rest = row.variant.split(".")[0].removeprefix("m").split("n")
    n, k = rest.split("k")
    return int(m), int(n), int(k)


def fragment_a(dtype: str, tile: Array) -> Array:
    """Registers of A (M x K values) per lane: (registers, 32).

    Lane = 4 x group + place; registers alternate rows g and g + 8.
    """
    rows, depth = tile.shape
    e = per_word(dtype)
    halves = rows // 8
    count = halves * depth // (4 * e)
    group, place = np.arange(32) >> 2, np.arange(32) & 3
    words = []
    for register in range(count):
        row = group + 8 * (register % halves)
        column = 4 * e * (register // halves) + place[:, None] * e + np.arange(e)
        words.append(pack(dtype, encode(dtype, tile[row[:, None], column])).reshape(32))
    return np.stack(words)


def fragment_b(dtype: str, tile: Array) -> Array:
    """Registers of B (K x 8 values) per lane: (registers, 32)."""
    e = per_word(dtype)
    group, place = np.arange(32) >> 2, np.arange(32) & 3
    words = []
    for register in range(tile.shape[0] // (4 * e)):
        depth = 4 * e * register + place[:, None] * e + np.arange(e)
        words.append(pack(dtype, encode(dtype, tile[depth, group[:, None]])).reshape(32))
    return np.stack(words)


def fragment_d(dtype: str, tile: Array) -> Array:
    """Registers of the accumulator (M x 8 values) per lane: (registers, 32); FP16 packs two columns in one."""
    group, place = np.arange(32) >> 2, np.arange(32) & 3
    words: list[Array] = []
    for half in range(tile.shape[0] // 8):
        pair = encode(dtype, tile[(group + 8 * half)[:, None], 2 * place[:, None] + np.arange(2)])
        words += [pack(dtype, pair).reshape(32)] if dtype == "f16" else [pair[:, 0], pair[:, 1]]
    return np.stack(words).astype(np.uint64 if dtype == "f64" else np.uint32)


def tile_image(dtype: str, tile: Array) -> Bytes:
    """Bytes of a K-major tile (rows x K values, 32 bytes a row) as the descriptors below describe it."""
    lines = np.ascontiguousarray(pack(dtype, encode(dtype, tile))).view(np.uint8).reshape(tile.shape[0], TILE_ROW_BYTES)
    image = np.empty(tile.shape[0] * TILE_ROW_BYTES, dtype=np.uint8)
    row, column = np.meshgrid(np.arange(tile.shape[0]), np.arange(TILE_ROW_BYTES), indexing="ij")
    image[row // 8 * STRIDE_BYTES + column // 16 * LEADING_BYTES + row % 8 * 16 + column % 16] = lines
    return image


def wgmma_descriptor(address: int = 0) -> int:
    """Shared-memory descriptor: address, leading and stride offset in 16 bytes at bits 0, 16 and 32, no swizzle."""
    return (address & 0x3FFFF) >> 4 | (LEADING_BYTES >> 4) << 16 | (STRIDE_BYTES >> 4) << 32


def tcgen05_descriptor(address: int = 0) -> int:
    """Encode the same fields for Blackwell, whose descriptor carries version 1 in bits 46 to 48."""
    return wgmma_descriptor(address) | _BLACKWELL_VERSION


def tcgen05_word(dtype: str, m: int, n: int) -> int:
    """Instruction word, dense, K-major, without negation.

    The accumulator's format stands at bit 4, A's at 7, B's at 10, N / 8 at 17, M / 16 at 24.
    """
    accumulator = 2 if dtype == "i8" else 1
    operand = {"f16": 0, "bf16": 1, "tf32": 2, "f8e4m3": 0, "f8e5m2": 1, "i8": 1}[dtype]
    return accumulator << 4 | operand << 7 | operand << 10 | (n >> 3) << 17 | (m >> 4) << 24


def operand(dtype: str, kind: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float64]:
    """Values of one operand as the format holds them.

    Small integers that differ by row, column and k, or random in [-1, 1].
    """
    random = np.random.default_rng((_RANDOM_SEED, seed))
    if kind == "exact":
        return random.integers(-2, 3, size=shape).astype(np.float64)
    if dtype == "i8":
        return random.integers(-128, 128, size=shape).astype(np.float64)
    reach = 6.0 if dtype == "f4e2m1" else 1.0  # four bits have few numbers below one
    return decode(dtype, encode(dtype, random.uniform(-reach, reach, size=shape)))


def _work(
    row: CudaRow, kind: str, inputs: Bytes, outs: tuple[Array, Array, Array], arrange: Callable[[Array], Bytes]
) -> Compute:
    """Join inputs with results.

    Those are the start, what an even trip adds and what an odd trip adds, as matrices that `arrange` lays out.
    """
    start, even, odd = outs
    assert row.dtype is not None
    assert row.accumulator is not None
    accumulator = row.accumulator
    narrow = row.dtype.startswith("f8")
    largest = float(max(np.abs(start).max(), np.abs(start + even).max(), np.abs(even).max(), 1.0))
    limit = _FP8_EXACT_BELOW if narrow and accumulator != "f16" else _EXACT_BELOW[accumulator]
    if kind == "exact" and largest >= limit:
        raise ValueError(f"{row.name}: exact operands reach {largest:.0f}, the accumulator is exact below {limit}")

    def sums(iterations: int) -> NDArray[np.float64]:
        exact: NDArray[np.float64] = start + even * ((iterations + 1) // 2) + odd * (iterations // 2)
        return exact

    # Laying a result out takes longer than the launch that made it, so it is done once: where trips cancel for either
    # parity, else (integers, which only add up) for each of the three terms.
    @cache
    def of_parity(parity: int) -> Bytes:
        return arrange(sums(parity))

    @cache
    def terms() -> tuple[NDArray[np.uint32], ...]:
        return tuple(arrange(term).view(np.uint32) for term in (start, even, odd))

    cancels = not (even + odd).any()

    def expected(iterations: int) -> Bytes | None:
        if kind != "exact" and accumulator != "i32":
            return None
        if cancels:
            return of_parity(iterations % 2)
        if accumulator != "i32":
            return arrange(sums(iterations))
        first, added, taken = terms()
        times = [np.uint32(count & _ALL_ONES) for count in ((iterations + 1) // 2, iterations // 2)]
        added_up: Bytes = (first + added * times[0] + taken * times[1]).view(np.uint8)
        return added_up

    def values(found: Bytes) -> NDArray[np.float64]:
        words = found.view(np.uint64 if accumulator == "f64" else np.uint32)
        return decode(accumulator, unpack(accumulator, words.reshape(1, -1))[0] if accumulator == "f16" else words)

    def close_to(iterations: int, found: Bytes) -> bool:
        exact = expected(iterations)
        if exact is not None:
            return bool(np.array_equal(exact, found))
        allowed = (_FP8_TOLERANCE if narrow else _TOLERANCE[accumulator]) * largest * iterations
        return bool(np.abs(values(found) - values(arrange(sums(iterations)))).max() <= allowed)

    def plausible(found: Bytes) -> bool:
        seen = values(found)
        return bool(np.isfinite(seen).all() and np.unique(seen).size > row.threads)

    return Compute(
        inputs=inputs, out_bytes=arrange(start).size, expected=expected, close_to=close_to, plausible=plausible
    )


def mma(row: CudaRow, kind: str) -> Compute:
    """Operands and results of one mma.sync kernel; all warps of a block hold the same matrices."""
    assert row.dtype is not None
    assert row.accumulator is not None
    dtype, accumulator = row.dtype, row.accumulator
    m, n, k = shape_of(row)
    word = np.uint64 if dtype == "f64" else np.uint32
    a = [operand(dtype, kind, (m, k), seed) for seed in range(2)]
    b = [operand(dtype, kind, (k, n), 10 + chain) for chain in range(row.chains)]
    start = np.stack([operand(dtype, "exact", (m, n), 50 + chain) for chain in range(row.chains)])
    mask = _ALL_ONES if dtype == "i8" else SIGN_MASK[dtype]
    flipped = [-1 - tile for tile in a] if dtype == "i8" else [-tile for tile in a]
    even = np.stack([STEPS // 2 * (a[0] + a[1]) @ tile for tile in b])
    odd = np.stack([STEPS // 2 * (flipped[0] + flipped[1]) @ tile for tile in b])
    header = np.array([mask, 0x38383838, 0x38383838, 0], dtype=word)  # the scales are 1.0 in E4M3, four of them
    warps = (1, row.warps)
    slots = [
        *(fragment_a(dtype, tile) for tile in a),
        *(fragment_b(dtype, tile) for tile in b),
        *(fragment_d(accumulator, tile) for tile in start),
    ]
    inputs = np.concatenate([header, *(np.tile(slot, warps).astype(word).reshape(-1) for slot in slots)]).view(np.uint8)

    def arrange(outs: Array) -> Bytes:
        return np.concatenate([np.tile(fragment_d(accumulator, tile), warps).reshape(-1) for tile in outs]).view(
            np.uint8
        )

    return _work(row, kind, inputs, (start, even, odd), arrange)


def _tiles(row: CudaRow, kind: str) -> tuple[list[Array], Array, Array]:
    assert row.dtype is not None
    m, n, k = shape_of(row)
    a = [operand(row.dtype, kind, (m, k), seed) for seed in range(TILES)]
    b = operand(row.dtype, kind, (n, k), 10)
    return a, b, -1 - b if row.dtype == "i8" else -b


def _image(dtype: str, header: tuple[int, int, int], tiles: tuple[list[Array], Array, Array]) -> Bytes:
    a, b, exchanged = tiles
    words = np.array([*header, 0], dtype=np.uint64).view(np.uint8)
    return np.concatenate([words, *(tile_image(dtype, tile) for tile in (*a, b, exchanged))])


def wgmma(row: CudaRow, kind: str) -> Compute:
    """Operands and results of one wgmma kernel: a warpgroup's 64 x 256 accumulators, 128 registers a thread."""
    assert row.dtype is not None
    assert row.accumulator is not None
    dtype, accumulator = row.dtype, row.accumulator
    tiles = a, b, exchanged = _tiles(row, kind)
    whole = STEPS // TILES * np.sum(a, axis=0)
    inputs = _image(dtype, (wgmma_descriptor(), wgmma_descriptor(), 0), tiles)
    # A warp holds 16 of the 64 rows, laid out as for mma.sync.
    fragments = [
        np.concatenate([fragment_a(dtype, tile[16 * warp : 16 * warp + 16]) for warp in range(4)], axis=1) for tile in a
    ]
    if row.variant.endswith(".rs"):
        inputs = np.concatenate(
            [inputs, *(np.ascontiguousarray(fragment).reshape(-1).view(np.uint8) for fragment in fragments)]
        )

    def arrange(outs: Array) -> Bytes:
        columns = [
            np.concatenate(
                [fragment_d(accumulator, outs[16 * warp : 16 * warp + 16, at : at + 8]) for warp in range(4)], axis=1
            )
            for at in range(0, outs.shape[1], 8)
        ]
        return np.concatenate(columns).reshape(-1).view(np.uint8)

    return _work(row, kind, inputs, (np.zeros((64, 256)), whole @ b.T, whole @ exchanged.T), arrange)


def tcgen05(row: CudaRow, kind: str) -> Compute:
    """Operands and results of one tcgen05 kernel: two accumulators of 128 x 256, the even steps' first."""
    assert row.dtype is not None
    assert row.accumulator is not None
    dtype, accumulator = row.dtype, row.accumulator
    m, n, _ = shape_of(row)
    tiles = a, b, exchanged = _tiles(row, kind)
    header = (tcgen05_descriptor(), tcgen05_descriptor(), tcgen05_word(dtype, m, n))
    inputs = _image(dtype, header, tiles)
    sums = [row.math_count // TILES * (a[first] + a[first + 2]) for first in (0, 1)]
    even, odd = (np.concatenate([part @ side.T for part in sums], axis=1) for side in (b, exchanged))

    def arrange(outs: Array) -> Bytes:
        return np.ascontiguousarray(encode(accumulator, outs).astype(np.uint32).T).reshape(-1).view(np.uint8)

    return _work(row, kind, inputs, (np.zeros_like(even), even, odd), arrange)


VALUES: dict[str, Callable[[CudaRow, str], Compute]] = {"mma": mma, "wgmma": wgmma, "tcgen05": tcgen05}
