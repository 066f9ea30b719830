"""Every kernel with operands, expected output and the work to count, for the PTX machine.

References for the plain, streaming, chase and launch kernels are written here, apart from the product's (where a cycle
goes is worked out by the kernel, the fake driver and the host, each on its own); those of the
tensor kernels are the product's own, held against fragments that were written apart (`ptx.fragments`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from ptx import fragments, machine, parse, toolchain

from microbench.kernels.cuda import chase, shared, tensor
from microbench.kernels.cuda.rows import LAYOUTS, TARGETS, CudaRow

Array = np.ndarray[Any, Any]
BLOCKS = 2
STAGES = 8  # of the ring of the bulk kernels


@cache
def modules(family: str, target: str) -> dict[str, parse.Kernel]:
    """The PTX of a family for a target."""
    return parse.kernels(toolchain.compiled(toolchain.source(family), target, "ptx", ("-O3", "-std=c++17")).read_text())


def first_target(row: CudaRow) -> str:
    """Prefer sm_80 or sm_90a, which most rows have, so that few modules are compiled."""
    return next(target for target in ("sm_80", "sm_90a", *TARGETS) if target in row.targets)


@dataclass
class Case:
    """Buffers by parameter, plain parameters, and what must be found in a buffer after so many iterations."""

    buffers: dict[str, Array]
    values: dict[str, int] = field(default_factory=dict)
    expected: Callable[[int, int], Array] | None = None
    close: Callable[[int, Array], bool] | None = None
    operand: str = "in"
    watched: str = "out"


@dataclass
class Ran:
    """What one or several blocks left behind, and the work they did."""

    found: list[Array]
    counts: Counter[str]


def run(row: CudaRow, target: str, case: Case, iterations: int, blocks: int = 1, *, module: Path | None = None) -> Ran:
    """Run a row's kernel (of another module, if one is given), block by block, each on fresh buffers."""
    kernel = (parse.kernels(module.read_text()) if module else modules(row.family, target))[row.symbol]
    found, counts = [], Counter[str]()
    for block in range(blocks):
        memory = machine.Memory(1 << 23, machine.GLOBAL_BASE)
        at = {name: memory.take(data.nbytes) for name, data in case.buffers.items()}
        stamps = memory.take(48 * blocks)
        for name, data in case.buffers.items():
            memory.write(
                at[name],
                case_bytes(data, at[name], linked=name == "in" and row.family == "chase" and row.space == "global"),
            )
        known = {"stamps": stamps, "iterations": iterations, **case.values, **at}
        arguments = [known.get(parameter.name, 0) for parameter in LAYOUTS[row.layout]]
        made = machine.Machine(kernel, memory, row.threads, arguments, row.shared_bytes, block, blocks).run()
        found.append(memory.read(at[case.watched], case.buffers[case.watched].nbytes))
        if row.limiter != "none":
            assert memory.read(stamps + 48 * block, 48).view(np.uint64)[5] == iterations, (
                "the stamp does not tell the iterations"
            )
        counts.update(made.counts)
    return Ran(found, counts)


def case_bytes(data: Array, address: int, *, linked: bool) -> Array:
    """Bytes of a buffer; a chase's links become addresses."""
    words = data + np.uint64(address) if linked else data
    return np.ascontiguousarray(words).reshape(-1).view(np.uint8)


def per_iteration(row: CudaRow, target: str, case: Case) -> dict[str, int]:
    """FLOP and bytes that one more iteration of one block takes."""
    fewer, more = (run(row, target, case, iterations).counts for iterations in (1, 2))
    space = "shared" if row.space == "shared" else "global"
    names = {
        "flop": "flop",
        "read": f"{space}_read",
        "written": f"{space}_written",
        "loads": "loads",
        "stores": "stores",
    }
    return {name: more[key] - fewer[key] for name, key in names.items()}


def lines_per_iteration(row: CudaRow, target: str, case: Case) -> int:
    """Lines of the cache that the loads and stores of one more iteration touch, each warp's counted apart."""
    fewer, more = (run(row, target, case, iterations).counts["lines"] for iterations in (1, 2))
    return more - fewer


def case_of(row: CudaRow, kind: str = "exact") -> Case:
    """Build the case of a row."""
    if row.family in tensor.VALUES or row.family == "shared" or row.symbol == "chase_shared":
        make = tensor.VALUES.get(row.family) or (shared.shared if row.family == "shared" else shared.chase_shared)
        made = make(row, kind)
        out = np.full(made.out_bytes * BLOCKS, 0xFF, dtype=np.uint8)

        def of_block(iterations: int, block: int) -> Array:
            whole = np.full(made.out_bytes * BLOCKS, 0xFF, dtype=np.uint8)
            whole[block * made.out_bytes : (block + 1) * made.out_bytes] = made.expected(iterations)
            return whole

        return Case(
            {"out": out, "in": made.inputs},
            expected=of_block,
            close=lambda n, seen: made.close_to(n, seen[: made.out_bytes]),
        )
    return {"plain": _plain, "stream": _stream, "chase": _chase, "intensity": _mix, "launch": _launch}[row.family](
        row, kind
    )


def _words(dtype: str, values: Array) -> Array:
    """Register words of the plain kernels' elements."""
    if dtype in ("i32", "i8"):
        return np.asarray(values).astype(np.int64).astype(np.uint32)
    if dtype == "f64":
        return np.asarray(values, dtype=np.float64).view(np.uint64)
    if dtype == "f32":
        return np.asarray(values, dtype=np.float32).view(np.uint32)
    half = np.asarray(values).astype(np.float16).view(np.uint16)
    if dtype == "bf16":
        half = (np.asarray(values, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return np.ascontiguousarray(half).view(np.uint32)


def _plain(row: CudaRow, kind: str) -> Case:
    dtype = str(row.dtype)
    random = np.random.default_rng(5)
    packed = 2 if dtype in ("f16", "bf16") else 1
    start = random.integers(-30, 31, size=(row.chains, row.threads, 2, packed)).astype(np.float64)
    a = 1.0
    if kind == "random" and dtype not in ("i32", "i8"):
        a, start = 0.828125, start / 32
    start[1::2] = 0 - start[::2]
    turns = row.math_count // (2 * row.chains)

    bits = partial(_words, dtype)
    head = bits(np.repeat([a, 7.0], packed))  # the second element is not used

    def after(iterations: int) -> Array:
        left = start.copy()
        for _ in range(turns * iterations):
            for pair in range(0, row.chains, 2):
                left[pair : pair + 2, :, 0] += a * left[pair : pair + 2, :, 1]
                left[pair, :, 1] -= a * left[pair, :, 0]
                left[pair + 1, :, 1] -= a * left[pair + 1, :, 0]
        return left

    def expected(iterations: int, block: int) -> Array:
        whole = np.full((BLOCKS, bits(start).nbytes), 0xFF, dtype=np.uint8)
        whole[block] = bits(after(iterations)).reshape(-1).view(np.uint8)
        return whole.reshape(-1)

    def close(iterations: int, seen: Array) -> bool:
        words = seen[: bits(start).nbytes]
        held = {"f64": np.float64, "f32": np.float32, "f16": np.float16}.get(dtype)
        values = (words.view(np.uint16).astype(np.uint32) << 16).view(np.float32) if held is None else words.view(held)
        allowed = {"f64": 1e-12, "f32": 1e-5, "f16": 0.1, "bf16": 0.6}[dtype]
        return bool(np.abs(values.astype(np.float64) - after(iterations).reshape(-1)).max() < allowed)

    inputs = np.concatenate([head.reshape(-1), bits(start).reshape(-1)])
    out = np.full(bits(start).nbytes * BLOCKS, 0xFF, dtype=np.uint8)
    return Case({"out": out, "in": inputs}, expected=expected, close=close)


def _elements(count: int, seed: int, *, floats: bool) -> Array:
    values = np.random.default_rng(seed).integers(-50, 51, size=(count, 4))
    return (
        values.astype(np.float32).view(np.uint32)
        if floats
        else (values.astype(np.int64) * 40_503_251).astype(np.uint32)
    )


def _starts(row: CudaRow, count: int, iterations: int, block: int) -> list[int]:
    first, step = row.tile, 2 * row.tile
    start = (first + block * row.tile) % count
    return [(start + step * i) % count for i in range(iterations)]


def _stream(row: CudaRow, kind: str) -> Case:
    del kind
    tiles = 5
    count = tiles * row.tile
    floats = row.access == "triad"
    a, b = _elements(count, 1, floats=floats), _elements(count + 1, 2, floats=floats)
    b[count] = np.array([0, 0, 0, 3], dtype=np.float32).view(np.uint32)
    values = {"count": count, "first": row.tile, "step": 2 * row.tile}
    size = row.threads * BLOCKS if row.access == "read" else count
    out = np.full((max(size, 8 * 512 * BLOCKS), 4), 0xFFFFFFFF, dtype=np.uint32)

    def expected(iterations: int, block: int) -> Array:
        left = out.copy()
        for start in _starts(row, count, iterations, block):
            piece = slice(start, start + row.tile)
            if row.access == "write":
                whole = row.tile if row.space == "bulk" else row.threads
                left[piece] = np.tile(a[:whole], (row.tile // whole, 1))
            elif row.access == "copy":
                left[piece] = a[piece]
            elif row.access == "triad":
                left[piece] = (a[piece].view(np.float32) + 3 * b[piece].view(np.float32)).view(np.uint32)
        if row.symbol == "read_bulk":
            for i, start in enumerate(_starts(row, count, iterations, block)):
                stage = (block * STAGES + i % STAGES) * row.tile
                left[stage : stage + row.tile] = a[start : start + row.tile]
        elif row.access == "read":
            left[block * row.threads : (block + 1) * row.threads] = _sums(
                row, a, _starts(row, count, iterations, block)
            )
        return left.reshape(-1).view(np.uint8)

    return Case({"out": out, "in": a, "in2": b}, values, expected)


def _sums(row: CudaRow, elements: Array, starts: list[int]) -> Array:
    total = np.zeros((row.threads, 4), dtype=np.uint32)
    for start in starts:
        total += elements[start : start + row.tile].reshape(-1, row.threads, 4).sum(axis=0, dtype=np.uint32)
    return total


def _mixable(count: int) -> Array:
    """Words whose halves are ordinary numbers in 16 bits, and so are they and their pairs in 32 and 64."""
    random = np.random.default_rng(3)
    halves = random.integers(0, 1 << 10, size=(count, 8)) | random.choice(
        [0x3C00, 0x4000, 0xBC00, 0xC000], size=(count, 8)
    )
    return np.ascontiguousarray(halves.astype(np.uint16)).view(np.uint32)


def _turned(kind: str, elements: Array, fmas: int) -> Array:
    """Turn the pairs of words of each element, every sum rounded to the format."""
    words = elements.view(np.uint64) if kind == "f64" else elements
    x, y = (np.ascontiguousarray(words[:, at::2]).reshape(-1) for at in (0, 1))
    for _ in range(fmas):
        x = _added(kind, x, y, 1.0)
        y = _added(kind, y, x, -1.0)
    both = np.empty_like(words)
    both[:, 0::2], both[:, 1::2] = (part.reshape(len(elements), -1) for part in (x, y))
    return both.view(np.uint32)


def _added(kind: str, to: Array, what: Array, sign: float) -> Array:
    bits = fragments.encode(kind, fragments.decode(kind, to) + sign * fragments.decode(kind, what))
    return bits if kind == "f64" else bits.astype(np.uint32)


def _multiplied(kind: str, elements: Array, tiles: Array, mmas: int) -> Array:
    """What each warp of 32 elements leaves: products with both tiles in turn, the bits of their accumulators added."""
    opcode = f"mma.sync.aligned.m16n8k16.row.col.f32.{kind}.{kind}.f32"
    a = [elements[:, register].astype(np.uint64) for register in range(4)]
    left = np.zeros((len(elements), 4), dtype=np.uint32)
    for chain in range(min(mmas, 2)):
        b = [np.tile(tiles[:, 2 * chain + register].astype(np.uint64), len(elements) // 32) for register in range(2)]
        d = [np.zeros(len(elements), dtype=np.uint64)] * 4
        for _ in range(chain, mmas, 2):
            d = fragments.multiply(opcode, a, b, d)
        left += np.stack(d, axis=1).astype(np.uint32)
    return left


def _mix_of_tensor_cores(row: CudaRow) -> Case:
    count, kind = 5 * row.tile, str(row.dtype)
    random = np.random.default_rng(7)
    values = random.integers(-8, 9, size=(count, 8)).astype(np.float64) / 8
    elements = np.stack(
        [fragments.encode(kind, values[:, 2 * word : 2 * word + 2]) for word in range(4)], axis=1
    ).astype(np.uint32)
    small = random.integers(-2, 3, size=(32, 8)).astype(np.float64)
    tiles = np.stack([fragments.encode(kind, small[:, 2 * word : 2 * word + 2]) for word in range(4)], axis=1).astype(
        np.uint32
    )
    left_of = _multiplied(kind, elements, tiles, int(row.symbol.rpartition("_")[2]))
    out = np.full((row.threads * BLOCKS, 4), 0xFFFFFFFF, dtype=np.uint32)

    def expected(iterations: int, block: int) -> Array:
        left = out.copy()
        left[block * row.threads : (block + 1) * row.threads] = _sums(
            row, left_of, _starts(row, count, iterations, block)
        )
        return left.reshape(-1).view(np.uint8)

    return Case(
        {"out": out, "in": elements, "in2": tiles}, {"count": count, "first": row.tile, "step": 2 * row.tile}, expected
    )


def _mix(row: CudaRow, kind: str) -> Case:
    if row.unit == "matrix":
        return _mix_of_tensor_cores(row)
    count = 5 * row.tile
    kind = {"f16": "f16x2", "bf16": "bf16x2"}.get(str(row.dtype), str(row.dtype))
    elements = _mixable(count)
    turned = _turned(kind, elements, int(row.symbol.rpartition("_")[2]))
    out = np.full((row.threads * BLOCKS, 4), 0xFFFFFFFF, dtype=np.uint32)

    def expected(iterations: int, block: int) -> Array:
        left = out.copy()
        left[block * row.threads : (block + 1) * row.threads] = _sums(
            row, turned, _starts(row, count, iterations, block)
        )
        return left.reshape(-1).view(np.uint8)

    pair = [[1.0], [-1.0]] if kind in ("f32", "f64") else [[1.0, 1.0], [-1.0, -1.0]]
    bits = fragments.encode(kind, np.array(pair).reshape(-1) if kind in ("f32", "f64") else np.array(pair))
    factors = bits if kind == "f64" else bits.astype(np.uint32)
    return Case(
        {"out": out, "in": elements, "in2": factors},
        {"count": count, "first": row.tile, "step": 2 * row.tile},
        expected,
    )


def _serving(row: CudaRow) -> Case:
    """A cycle laid over lines of nothing; lines that are read to the last, which is odd as no address of a line is."""
    nodes, words = 61, chase.LINE_BYTES // 8
    lines = np.full(nodes * words, 0xFFFFFFFFFFFFFFFF, dtype=np.uint64)
    if row.symbol == "chase_touch":
        lines[:], lines[-words] = 0, 1
        out = np.full(1, 0xFFFFFFFFFFFFFFFF, dtype=np.uint64)
        # Buffers lie one after the other, and `run` adds an address to each word.
        odd = np.asarray([machine.GLOBAL_BASE + 256 + 1], dtype=np.uint64).view(np.uint8)
        return Case({"out": out, "in": lines}, {"iterations": nodes}, lambda *_: odd)

    def laid(iterations: int, block: int) -> Array:
        del iterations, block
        left = lines.copy()
        for step in range(nodes):
            to = machine.GLOBAL_BASE + chase.place(step + 1, nodes) * chase.LINE_BYTES
            left[chase.place(step, nodes) * words] = to
        return left.view(np.uint8)

    return Case({"out": lines}, {"iterations": nodes}, laid)


def _chase(row: CudaRow, kind: str) -> Case:
    del kind
    if row.symbol in ("chase_lay", "chase_touch"):
        return _serving(row)
    nodes, stride = 61, 128
    order = shared.cycle(nodes)
    table = np.zeros(nodes * stride // 8, dtype=np.uint64)
    table[:: stride // 8] = shared.links(order) * stride
    out = np.full(row.threads * BLOCKS, 0xFF, dtype=np.uint64)

    def close(iterations: int, seen: Array) -> bool:
        # Buffers lie one after the other: the chase starts at the second one.
        base = machine.GLOBAL_BASE + -(-out.nbytes // 256) * 256
        reached = base + int(order[row.loads * iterations % nodes]) * stride
        return bool((seen.view(np.uint64)[: row.threads] == reached).all())

    return Case({"out": out, "in": table}, close=close)


def _launch(row: CudaRow, kind: str) -> Case:
    del kind
    if row.symbol == "gate":
        flag = np.array([1, 0], dtype=np.uint32)
        released = np.array([1, 0], dtype=np.uint32)
        return Case(
            {"out": np.zeros(2, dtype=np.uint32), "flag": flag},
            {"timeout_ns": 200},
            lambda _, __: released.view(np.uint8),
            operand="flag",
        )
    if row.symbol == "ticks":
        return Case(
            {"out": np.zeros(8, dtype=np.uint64)},
            close=lambda n, seen: bool((np.diff(seen.view(np.uint64)[:n].astype(np.int64)) > 0).all()),
        )
    return Case({"out": np.zeros(4, dtype=np.uint32)}, expected=lambda _, __: np.zeros(16, dtype=np.uint8))
