"""The asynchronous units of the PTX machine: wgmma, tcgen05, bulk copies and mbarriers, from the PTX ISA's tables.

Everything happens at once, in the order of issue: what a GPU may reorder is not proven here. The rules that make an
order visible are checked: registers fenced before wgmma and not read before its group is waited for, shared memory
fenced before another proxy reads it, barriers that count arrivals and bytes, tensor memory reached by each warp in its
own lanes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from ptx import fragments

if TYPE_CHECKING:
    from ptx.machine import Machine
    from ptx.parse import Statement

Array = np.ndarray[Any, Any]
_KINDS = {"f16": {0: "f16", 1: "bf16"}, "tf32": {2: "tf32"}, "f8f6f4": {0: "e4m3", 1: "e5m2"}, "i8": {1: "s8"}}
_DEPTH = {"f16": 16, "tf32": 8, "f8f6f4": 32, "i8": 32}


@dataclass
class Barrier:
    """An mbarrier: arrivals and bytes still awaited, and the phase that they end."""

    expected: int
    pending: int
    transactions: int = 0
    phase: int = 0

    def settle(self) -> None:
        """End the phase when nothing is awaited any more."""
        if self.pending == 0 and self.transactions == 0:
            self.phase += 1
            self.pending = self.expected


@dataclass
class Units:
    """State of the asynchronous units of one block."""

    barriers: dict[int, Barrier] = field(default_factory=dict)
    groups: list[set[str]] = field(default_factory=list)
    open_group: set[str] = field(default_factory=set)
    unfenced: set[str] = field(default_factory=set)
    unseen: bool = False  # shared memory was written by threads and not fenced for the asynchronous proxy
    tensor: Array = field(default_factory=lambda: np.full((128, 512), 0xDEADBEEF, dtype=np.uint64))
    columns: int = 0

    def in_flight(self) -> set[str]:
        """Registers that an unfinished wgmma may still write."""
        return self.open_group.union(*self.groups)


def _refuse(condition: object, says: str) -> None:
    if condition:
        raise RuntimeError(says)


def _tile(m: Machine, word: int, rows: int, kind: str, *, blackwell: bool) -> Array:
    """Elements (rows x K) that a descriptor describes: K-major, no swizzle, 32 bytes a row."""
    _refuse(m.units.unseen, "the tensor core reads shared memory that was not fenced for it")
    _refuse(word >> (61 if blackwell else 62), "the descriptor asks for a swizzle")
    _refuse(word >> 46 & 7 != (1 if blackwell else 0), "the descriptor's version is wrong")
    start, leading, stride = ((word >> at & 0x3FFF) << 4 for at in (0, 16, 32))
    row, column = np.meshgrid(np.arange(rows), np.arange(8), indexing="ij")
    addresses = start + row % 8 * 16 + row // 8 * stride + column // 4 * leading + column % 4 * 4
    words, index = m.shared.view(addresses.reshape(-1), 4)
    return fragments.decode(kind, words[index].astype(np.uint64)).reshape(rows, -1)


def warpgroup(m: Machine, s: Statement, lanes: Array) -> None:
    """wgmma.fence, .mma_async, .commit_group, .wait_group."""
    units = m.units
    _refuse(not lanes.all(), f"{s.opcode}: not all warps of the group are there")
    if s.parts[1] == "fence":
        units.unfenced.clear()
    elif s.parts[1] == "commit_group":
        units.groups.append(units.open_group)
        units.open_group = set()
    elif s.parts[1] == "wait_group":
        left = int(s.operands[0])
        units.groups = units.groups[len(units.groups) - left :] if left else []
    else:
        _multiply(m, s)


def _multiply(m: Machine, s: Statement) -> None:
    shape = fragments.SHAPE.search(s.opcode)
    assert shape is not None
    rows, columns, depth = (int(part) for part in shape.groups())
    accumulator, kind = s.parts[-3], s.parts[-1]
    names = [name.strip() for name in s.operands[0].strip("{}").split(",")]
    _refuse(m.units.unfenced & set(names), "wgmma on accumulators that were written after the last wgmma.fence")
    registers = [name.strip() for name in s.operands[1].strip("{}").split(",")] if s.operands[1].startswith("{") else []
    _refuse(m.units.unfenced & set(registers), "wgmma on operands that were written after the last wgmma.fence")
    b = _tile(m, int(m.value(s.operands[2])[0]), columns, kind, blackwell=False)
    if registers:
        held = [m.value(name) for name in registers]
        # A warp's 16 rows are laid out as the A of mma.sync with the same bytes a row.
        parts = [
            fragments.matrix_a((16, 8, depth), kind, [word[32 * w : 32 * w + 32] for word in held]) for w in range(4)
        ]
        a = np.concatenate(parts)
    else:
        a = _tile(m, int(m.value(s.operands[1])[0]), rows, kind, blackwell=False)
    product = np.einsum("ik,jk->ij", a, b)  # small; BLAS threads would wait for each other
    thread = np.arange(128)
    row, column = 16 * (thread // 32) + thread % 32 // 4, 2 * (thread % 4)
    for j, name in enumerate(names):
        old = fragments.decode(accumulator, m.raw(name))
        new = old + product[row + 8 * (j >> 1 & 1), column + 8 * (j >> 2) + (j & 1)]
        m.registers[name] = fragments.encode(accumulator, new).copy()
    m.units.open_group |= set(names)
    m.counts["flop"] += 2 * rows * columns * depth


def tensor(m: Machine, s: Statement, lanes: Array) -> None:
    """The tcgen05 instructions that the kernels use."""
    what = s.parts[1]
    units = m.units
    if what == "alloc":
        units.columns = int(m.value(s.operands[1])[0])
        words, index = m.shared.view(m.address(s.operands[0])[lanes][:1], 4)
        words[index] = 0
    elif what == "dealloc":
        _refuse(units.columns == 0, "tensor memory is given back twice")
        units.columns = 0
    elif what in ("ld", "st"):
        _reach(m, s, lanes, reads=what == "ld")
    elif what == "mma":
        _tensor_multiply(m, s, lanes)
    elif what == "commit":
        barrier = units.barriers[int(m.address(s.operands[0])[lanes][0])]
        barrier.pending -= 1
        barrier.settle()


def _reach(m: Machine, s: Statement, lanes: Array, *, reads: bool) -> None:
    names = [name.strip() for name in s.operands[0 if reads else 1].strip("{}").split(",")]
    addresses = m.address(s.operands[1 if reads else 0])
    thread = np.arange(m.threads)
    _refuse(
        (addresses[lanes] >> 16 != (thread[lanes] // 32 % 4) * 32).any(),
        "a warp reaches for tensor memory of another warp's lanes",
    )
    column = addresses & 0xFFFF
    _refuse((column[lanes] + len(names) > m.units.columns).any(), "tensor memory beyond what was allocated")
    for j, name in enumerate(names):
        if reads:
            m.put(name, m.units.tensor[thread, np.minimum(column + j, 511)], lanes)
        else:
            m.units.tensor[thread[lanes], column[lanes] + j] = m.value(name)[lanes]


def _tensor_multiply(m: Machine, s: Statement, lanes: Array) -> None:
    _refuse(int(lanes.sum()) != 1, "tcgen05.mma by more than one thread")
    at = int(np.flatnonzero(lanes)[0])
    where, a_word, b_word, word = (int(m.value(operand.strip("[]"))[at]) for operand in s.operands[:4])
    kind = s.opcode.partition("kind::")[2]
    element = _KINDS[kind][word >> 7 & 7]
    _refuse(_KINDS[kind][word >> 10 & 7] != element, "A and B differ in kind")
    accumulator = {1: "f32", 2: "s32"}[word >> 4 & 3]
    rows, columns = (word >> 24 & 31) * 16, (word >> 17 & 63) * 8
    _refuse(where >> 16 or where + columns > m.units.columns, "the accumulator lies outside of what was allocated")
    a = _tile(m, a_word, rows, element, blackwell=True)
    b = _tile(m, b_word, columns, element, blackwell=True)
    held = m.units.tensor[:rows, where : where + columns]
    old = fragments.decode(accumulator, held.reshape(-1)).reshape(rows, columns)
    adds = bool(m.value(s.operands[4])[at])
    held[:] = fragments.encode(accumulator, ((old if adds else 0) + np.einsum("ik,jk->ij", a, b)).reshape(-1)).reshape(
        rows, columns
    )
    m.counts["flop"] += 2 * rows * columns * _DEPTH[kind]


def barrier(m: Machine, s: Statement, lanes: Array) -> None:
    """mbarrier.init, .arrive.expect_tx, .try_wait.parity."""
    what = s.parts[1]
    place = 0 if what == "init" else 1
    address = int(m.address(s.operands[place])[lanes][0])
    if what == "init":
        count = int(m.value(s.operands[1])[0])
        m.units.barriers[address] = Barrier(count, count)
        m.units.unseen = True
        return
    held = m.units.barriers[address]
    if what == "arrive":
        held.transactions += int(m.value(s.operands[2])[0])
        held.pending -= 1
        _refuse(held.pending < 0, "more arrivals at a barrier than it expects")
    else:
        parity = int(m.value(s.operands[2])[lanes][0])
        m.put(s.operands[0], np.full(m.threads, (held.phase & 1) != parity, dtype=np.uint64), lanes)


def bulk(m: Machine, s: Statement, lanes: Array) -> None:
    """cp.async.bulk both ways; groups end at once."""
    if not s.parts[3].startswith(("shared", "global")):
        return
    _refuse(int(lanes.sum()) != 1, "a bulk copy by more than one thread")
    at = int(np.flatnonzero(lanes)[0])
    to, source = (int(m.address(operand)[at]) for operand in s.operands[:2])
    size = int(m.value(s.operands[2])[at])
    _refuse(to % 16 or source % 16 or size % 16, "a bulk copy that is not aligned to 16 bytes")
    words = np.arange(0, size, 4)
    reads = s.parts[3].startswith("shared")
    spaces = (m.shared, m.memory) if reads else (m.memory, m.shared)
    _refuse(not reads and m.units.unseen, "a bulk copy reads shared memory that was not fenced for it")
    into, index = spaces[0].view(to + words, 4)
    out, where = spaces[1].view(source + words, 4)
    into[index] = out[where]
    if reads:
        held = m.units.barriers[int(m.address(s.operands[3])[at])]
        held.transactions -= size
        held.settle()
    m.counts["global_read" if reads else "global_written"] += size
    m.counts["loads" if reads else "stores"] += 1
