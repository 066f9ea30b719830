"""The Triton kernels themselves.

This module imports Triton, so it is imported where a kernel is prepared and nowhere else. A program is a block. Loops
count `iterations` whose number the compiler does not know; operands come from memory, so it folds nothing.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Otherwise a count of 1, and one that 16 divides, would each be compiled anew in the middle of a measurement.
COUNTS = ["iterations", "blocks"]


@triton.jit(do_not_specialize=COUNTS)
def dot(
    out,
    a,
    b,
    iterations,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    PRECISION: tl.constexpr,
    SUMS: tl.constexpr,
):
    """Add products of A and of -A in turn, so that exact operands stay exact; one product more at the end is left."""
    row, column, depth = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    left = row[:, None] * K + depth[None, :]
    first = tl.load(a + left)
    second = tl.load(a + M * K + left)
    right = tl.load(b + depth[:, None] * N + column[None, :])
    sums = tl.zeros((M, N), dtype=SUMS)
    for _ in range(iterations):
        sums = tl.dot(first, right, sums, input_precision=PRECISION, out_dtype=SUMS)
        sums = tl.dot(second, right, sums, input_precision=PRECISION, out_dtype=SUMS)
    sums = tl.dot(first, right, sums, input_precision=PRECISION, out_dtype=SUMS)
    tl.store(out + tl.program_id(0) * M * N + row[:, None] * N + column[None, :], sums)


@triton.jit(do_not_specialize=COUNTS)
def fma(out, a, iterations, TURNS: tl.constexpr, BLOCK: tl.constexpr):
    """Turn pairs (x, y) by x += a*y, y += b*x; with a = 1, b = -1 a turn has period six."""
    lane = tl.arange(0, BLOCK)
    factor, back = tl.load(a), tl.load(a + 1)
    x, y = tl.load(a + 2 + lane), tl.load(a + 2 + BLOCK + lane)
    for _ in range(iterations):
        for _ in tl.static_range(TURNS):
            x = factor * y + x
            y = back * x + y
    at = out + tl.program_id(0) * 2 * BLOCK
    tl.store(at + lane, x)
    tl.store(at + BLOCK + lane, y)


@triton.jit(do_not_specialize=COUNTS)
def stream(out, one, two, blocks, iterations, KIND: tl.constexpr, BLOCK: tl.constexpr):
    """Read (0), write (1), copy (2) or triad (3) blocks in turn, wrapping at the end; a read leaves its sums."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    lane = tl.arange(0, BLOCK)
    sums = tl.zeros((BLOCK,), dtype=tl.float32)
    for i in range(iterations):
        at = ((program + i * programs) % blocks) * BLOCK + lane
        if KIND == 0:
            sums += tl.load(one + at)
        elif KIND == 1:
            tl.store(out + at, sums + 1.0)
        elif KIND == 2:
            tl.store(out + at, tl.load(one + at))
        else:
            tl.store(out + at, tl.load(one + at) + 3.0 * tl.load(two + at))
    if KIND == 0:
        tl.store(out + program * BLOCK + lane, sums)


@triton.jit(do_not_specialize=COUNTS)
def mix(out, one, turn, blocks, iterations, FMAS: tl.constexpr, BLOCK: tl.constexpr):
    """Stream pairs of blocks through so many turns each, and add up the results."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    lane = tl.arange(0, BLOCK)
    factor, back = tl.load(turn), tl.load(turn + 1)
    sums = tl.zeros((BLOCK,), dtype=tl.float32)
    for i in range(iterations):
        at = ((program + i * programs) % blocks) * (2 * BLOCK) + lane
        x, y = tl.load(one + at), tl.load(one + at + BLOCK)
        for _ in tl.static_range(FMAS):
            x = factor * y + x
            y = back * x + y
        sums += x + y
    tl.store(out + program * BLOCK + lane, sums)


@triton.jit(do_not_specialize=COUNTS)
def mix_dot(
    out, one, two, blocks, iterations, PRODUCTS: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr
):
    """Stream tiles A through so many products with one B each, and add up the results."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    row, column, depth = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    right = tl.load(two + depth[:, None] * N + column[None, :])
    sums = tl.zeros((M, N), dtype=tl.float32)
    for i in range(iterations):
        at = ((program + i * programs) % blocks) * (M * K)
        left = tl.load(one + at + row[:, None] * K + depth[None, :])
        for _ in tl.static_range(PRODUCTS):
            sums = tl.dot(left, right, sums, input_precision="ieee")
    tl.store(out + program * M * N + row[:, None] * N + column[None, :], sums)


SUMS = {"f64": tl.float64, "i8": tl.int32}
