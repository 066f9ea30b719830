"""A small PTX machine: one block at a time, lanes as numpy arrays, just the instructions that the kernels use.

The asynchronous units are in `ptx.tensor`. FLOP and bytes are counted as the instructions run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ptx import fragments, tensor
from ptx.parse import Kernel, Statement

Array = np.ndarray[Any, Any]
SHARED_WINDOW = 1 << 40
GLOBAL_BASE = 1 << 20
LOW = np.uint64(0xFFFFFFFF)
MOST_STEPS = 2_000_000
LINE = 128  # bytes that a cache keeps together


class Memory:
    """Flat bytes with the ranges that were given out; an access outside of them, or not aligned, is refused."""

    def __init__(self, size: int, base: int) -> None:
        self.bytes = np.zeros(size, dtype=np.uint8)
        self.base, self.top = base, 0
        self.ranges: list[tuple[int, int]] = []

    def take(self, size: int, align: int = 256) -> int:
        """Give out bytes and return their address."""
        at = -(-self.top // align) * align
        self.top = at + size
        if self.top > self.bytes.size:
            raise MemoryError(f"the test machine has {self.bytes.size} bytes")
        self.ranges.append((self.base + at, self.base + at + size))
        return self.base + at

    def view(self, addresses: Array, width: int) -> tuple[Array, Array]:
        """Words of a width and the index of each address among them."""
        starts = np.array([low for low, _ in self.ranges])
        ends = np.array([high for _, high in self.ranges])
        which = np.searchsorted(starts, addresses, side="right") - 1
        if (which < 0).any() or (addresses + width > ends[which]).any() or (addresses % width).any():
            raise IndexError(f"an access of {width} bytes at {addresses[0]:#x} is outside every buffer, or not aligned")
        return self.bytes.view(f"u{width}"), (addresses - self.base) // width

    def write(self, address: int, data: Array) -> None:
        """Copy bytes in."""
        self.bytes[address - self.base : address - self.base + data.size] = data

    def read(self, address: int, size: int) -> Array:
        """Copy bytes out."""
        return self.bytes[address - self.base : address - self.base + size].copy()


@dataclass
class Machine:
    """Runs one block of a kernel. ``counts`` adds up FLOP and bytes by space."""

    kernel: Kernel
    memory: Memory
    threads: int
    arguments: list[int]
    dynamic_shared: int = 0
    block: int = 0
    blocks: int = 1
    counts: Counter[str] = field(default_factory=Counter)
    units: tensor.Units = field(default_factory=tensor.Units)

    def __post_init__(self) -> None:
        self.registers: dict[str, Array] = {}
        self.shared = Memory(1 << 18, 0)
        self.names = {}
        for name, (size, align) in self.kernel.shared.items():
            if size:
                self.names[name] = self.shared.take(size, align)
        for name, (size, align) in self.kernel.shared.items():
            if not size or name in ("image", "ring"):
                self.names[name] = self.shared.take(max(self.dynamic_shared, 16), align)
        self.parameters = {name: value for (name, _), value in zip(self.kernel.parameters, self.arguments, strict=True)}
        self.lane = np.arange(self.threads)
        self.at = np.zeros(self.threads, dtype=np.int64)
        self.alive = np.ones(self.threads, dtype=bool)
        self.clock = 0

    def run(self) -> Machine:
        """Run to the end; the lanes furthest behind go first, which brings diverged lanes together again."""
        steps = 0
        while self.alive.any():
            now = int(self.at[self.alive].min())
            active = self.alive & (self.at == now)
            self.step(self.kernel.code[now], active, now)
            steps += 1
            if steps > MOST_STEPS:
                raise RuntimeError(f"{self.kernel.name} does not end")
        return self

    def step(self, statement: Statement, active: Array, now: int) -> None:
        """Run one statement for the active lanes."""
        self.at[active] = now + 1
        chosen = active
        if statement.guard:
            holds = self.value(statement.guard).astype(bool)
            chosen = active & (~holds if statement.negated else holds)
        base = statement.parts[0]
        if base == "bra":
            self.at[chosen] = self.kernel.labels[statement.operands[0]]
        elif base in ("ret", "exit"):
            self.alive[chosen] = False
        elif base in ("bar", "barrier"):
            if statement.parts[1] == "sync" and not np.array_equal(chosen, self.alive):
                raise RuntimeError(f"{self.kernel.name}: a barrier that not all lanes reach")
        elif chosen.any():
            self.clock += 1
            carry = _OPCODES.get(base)
            if carry is None:
                raise NotImplementedError(f"{statement.opcode} is not an instruction of this machine")
            carry(self, statement, chosen)

    def value(self, word: str) -> Array:
        """Bits of an operand for all lanes, as unsigned 64-bit words."""
        if word in self.registers:
            if self.units.groups or self.units.open_group:
                self._finished(word)
            return self.registers[word]
        fixed = {
            "%tid.x": self.lane,
            "%ctaid.x": self.block,
            "%ntid.x": self.threads,
            "%nctaid.x": self.blocks,
            "%smid": 0,
        }
        if word in fixed:
            return (
                np.full(self.threads, fixed[word], dtype=np.uint64)
                if np.isscalar(fixed[word])
                else self.lane.astype(np.uint64)
            )
        if word in ("%globaltimer", "%clock64"):
            return np.full(self.threads, self.clock, dtype=np.uint64)
        if word in self.names:
            return np.full(self.threads, self.names[word], dtype=np.uint64)
        if found := re.fullmatch(r"0([fFdD])([0-9a-fA-F]+)", word):
            return np.full(self.threads, int(found[2], 16), dtype=np.uint64)
        if re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)U?", word):
            return np.full(self.threads, int(word.rstrip("U"), 0) & 0xFFFFFFFFFFFFFFFF, dtype=np.uint64)
        raise KeyError(f"{self.kernel.name}: {word} was never written")

    def raw(self, name: str) -> Array:
        """A register as it is, even while wgmma may write it."""
        return self.registers[name]

    def _finished(self, word: str) -> None:
        if word in self.units.in_flight():
            raise RuntimeError(f"{self.kernel.name}: {word} is read before its wgmma was waited for")

    def put(self, name: str, bits: Array, lanes: Array) -> None:
        """Write a register in some lanes."""
        if name == "_":
            return
        held = self.registers.get(name)
        if held is None:
            held = self.registers[name] = np.zeros(self.threads, dtype=np.uint64)
        held[lanes] = np.broadcast_to(bits, self.threads)[lanes]
        self.units.unfenced.add(name)

    def address(self, operand: str) -> Array:
        """Address of ``[register+offset]``."""
        inside = operand.strip("[]").strip()
        base, _, offset = inside.partition("+")
        return (self.value(base.strip()) + np.uint64(int(offset or "0", 0) & 0xFFFFFFFFFFFFFFFF)).astype(np.int64)


def _vector(operand: str) -> list[str]:
    return [part.strip() for part in operand.strip("{}").split(",")] if operand.startswith("{") else [operand]


def _bits(kind: str) -> int:
    return int(re.sub(r"\D", "", kind) or 32)


def _signed(bits: Array, width: int) -> Array:
    return bits.astype(np.uint32).view(np.int32).astype(np.int64) if width == 32 else bits.view(np.int64)


def _cut(bits: Array, width: int) -> Array:
    return bits & LOW if width == 32 else bits


def _space(statement: Statement) -> str:
    return next((part for part in statement.parts if part in ("global", "shared", "param")), "global")


def _load(m: Machine, s: Statement, lanes: Array) -> None:
    if _space(s) == "param":
        m.put(s.operands[0], np.full(m.threads, m.parameters[s.operands[1].strip("[]")], dtype=np.uint64), lanes)
        return
    _moved(m, s, lanes, _vector(s.operands[0]), s.operands[1], reads=True)


def _store(m: Machine, s: Statement, lanes: Array) -> None:
    _moved(m, s, lanes, _vector(s.operands[1]), s.operands[0], reads=False)


def _moved(m: Machine, s: Statement, lanes: Array, names: list[str], where: str, *, reads: bool) -> None:
    space = _space(s)
    memory = m.shared if space == "shared" else m.memory
    width = _bits(s.parts[-1]) // 8
    addresses = m.address(where)[lanes]
    if (addresses % (width * len(names))).any():
        raise IndexError(f"{s.opcode} at {addresses[0]:#x} is not aligned")
    for place, name in enumerate(names):
        words, index = memory.view(addresses + place * width, width)
        if reads:
            found = np.zeros(m.threads, dtype=np.uint64)
            found[lanes] = words[index]
            m.put(name, found, lanes)
        else:
            words[index] = m.value(name)[lanes].astype(words.dtype)
            m.units.unseen |= space == "shared"
    if space == "global":
        m.counts["lines"] += np.unique(np.stack([np.flatnonzero(lanes) // 32, addresses // LINE]), axis=1).shape[1]
    m.counts[f"{space}_{'read' if reads else 'written'}"] += width * len(names) * int(lanes.sum())
    m.counts["loads" if reads else "stores"] += int(lanes.sum())


def _move(m: Machine, s: Statement, lanes: Array) -> None:
    bits = m.value(s.operands[1])
    if s.operands[0].startswith("{"):  # a register of 64 bits taken apart
        for place, name in enumerate(_vector(s.operands[0])):
            m.put(name, bits >> np.uint64(32 * place) & LOW, lanes)
    elif s.parts[1] == "pred":
        m.put(s.operands[0], (bits != 0).astype(np.uint64), lanes)
    else:
        m.put(s.operands[0], _cut(bits, _bits(s.parts[-1])), lanes)


def _convert(m: Machine, s: Statement, lanes: Array) -> None:
    m.put(s.operands[0], _cut(m.value(s.operands[1]), min(_bits(s.parts[-1]), _bits(s.parts[-2]))), lanes)


def _window(m: Machine, s: Statement, lanes: Array) -> None:
    shift = np.uint64(SHARED_WINDOW if "shared" in s.parts else 0)
    bits = m.value(s.operands[1])
    m.put(s.operands[0], bits - shift if "to" in s.parts else bits + shift, lanes)


def _integer(work: Callable[[Array, Array], Array]) -> Callable[[Machine, Statement, Array], None]:
    def carry(m: Machine, s: Statement, lanes: Array) -> None:
        with np.errstate(over="ignore"):
            m.put(s.operands[0], _cut(work(m.value(s.operands[1]), m.value(s.operands[2])), _bits(s.parts[-1])), lanes)

    return carry


def _unary(work: Callable[[Array], Array]) -> Callable[[Machine, Statement, Array], None]:
    def carry(m: Machine, s: Statement, lanes: Array) -> None:
        bits = m.value(s.operands[1])
        if s.parts[-1] == "pred":
            m.put(s.operands[0], (bits == 0).astype(np.uint64), lanes)
        else:
            m.put(s.operands[0], _cut(work(bits), _bits(s.parts[-1])), lanes)

    return carry


def _multiply(m: Machine, s: Statement, lanes: Array) -> None:
    a, b = (m.value(word) for word in s.operands[1:3])
    if s.parts[1] == "wide":
        signed = s.parts[-1].startswith("s")
        product = _signed(a, 32) * _signed(b, 32) if signed else (a & LOW).astype(np.uint64) * (b & LOW)
        m.put(s.operands[0], product.astype(np.int64).view(np.uint64) if signed else product, lanes)
    else:
        with np.errstate(over="ignore"):
            m.put(s.operands[0], _cut(a * b, _bits(s.parts[-1])), lanes)


def _multiply_add(m: Machine, s: Statement, lanes: Array) -> None:
    a, b, c = (m.value(word) for word in s.operands[1:4])
    with np.errstate(over="ignore"):
        m.put(s.operands[0], _cut(a * b + c, _bits(s.parts[-1])), lanes)
    m.counts["flop"] += 2 * int(lanes.sum())


def _dot(m: Machine, s: Statement, lanes: Array) -> None:
    a, b = (
        np.ascontiguousarray(m.value(word).astype(np.uint32)).view(np.int8).reshape(-1, 4).astype(np.int64)
        for word in s.operands[1:3]
    )
    total = (a * b).sum(axis=1) + _signed(m.value(s.operands[3]), 32)
    m.put(s.operands[0], total.view(np.uint64) & LOW, lanes)
    m.counts["flop"] += 8 * int(lanes.sum())


def _fused(m: Machine, s: Statement, lanes: Array) -> None:
    kind = s.parts[-1]
    a, b, c = (fragments.decode(kind, m.value(word)) for word in s.operands[1:4])
    m.put(s.operands[0], fragments.encode(kind, a * b + c), lanes)
    m.counts["flop"] += (4 if kind.endswith("x2") else 2) * int(lanes.sum())


def _compare(m: Machine, s: Statement, lanes: Array) -> None:
    how, kind = s.parts[1], s.parts[-1]
    a, b = (m.value(word) for word in s.operands[1:3])
    width = _bits(kind)
    a, b = (_signed(x, width) if kind.startswith("s") else _cut(x, width) for x in (a, b))
    result = {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}[how]
    m.put(s.operands[0], result.astype(np.uint64), lanes)


def _select(m: Machine, s: Statement, lanes: Array) -> None:
    a, b, p = (m.value(word) for word in s.operands[1:4])
    m.put(s.operands[0], _cut(np.where(p != 0, a, b), _bits(s.parts[-1])), lanes)


def _matrix(m: Machine, s: Statement, lanes: Array) -> None:
    shape = fragments.SHAPE.search(s.opcode)
    assert shape is not None
    rows, columns, depth = (int(part) for part in shape.groups())
    warps = [warp for warp in range(m.threads // 32) if lanes[warp * 32]]
    if not np.array_equal(np.repeat(lanes[::32], 32), lanes):
        raise RuntimeError(f"{s.opcode}: a warp is not whole")
    m.counts["flop"] += 2 * rows * columns * depth * len(warps)
    if "block_scale" in s.opcode and any((m.value(s.operands[at]) != 0x38383838).any() for at in (4, 6)):
        raise NotImplementedError("block scales other than one")
    a, b, c = ([m.value(word)[lanes] for word in _vector(operand)] for operand in s.operands[1:4])
    for name, bits in zip(_vector(s.operands[0]), fragments.multiply(s.opcode, a, b, c), strict=True):
        spread = np.zeros(m.threads, dtype=np.uint64)
        spread[lanes] = bits
        m.put(name, spread, lanes)


def _elect(m: Machine, s: Statement, lanes: Array) -> None:
    first = np.zeros(m.threads, dtype=np.uint64)
    for warp in range(m.threads // 32):
        inside = np.flatnonzero(lanes[32 * warp : 32 * warp + 32])
        if inside.size:
            first[32 * warp + inside[0]] = 1
    m.put(s.operands[0].partition("|")[2], first, lanes)


def _fence(m: Machine, s: Statement, lanes: Array) -> None:
    del lanes
    if "proxy" in s.parts:
        m.units.unseen = False


_OPCODES: dict[str, Callable[[Machine, Statement, Array], None]] = {
    "ld": _load,
    "st": _store,
    "mov": _move,
    "cvt": _convert,
    "cvta": _window,
    "add": _integer(lambda a, b: a + b),
    "sub": _integer(lambda a, b: a - b),
    "and": _integer(lambda a, b: a & b),
    "or": _integer(lambda a, b: a | b),
    "xor": _integer(lambda a, b: a ^ b),
    "shl": _integer(lambda a, b: a << b),
    "shr": _integer(lambda a, b: a >> b),
    "rem": _integer(lambda a, b: (a & LOW) % (b & LOW)),
    "not": _unary(lambda a: ~a),
    "neg": _unary(lambda a: ~a + np.uint64(1)),
    "mul": _multiply,
    "mad": _multiply_add,
    "dp4a": _dot,
    "fma": _fused,
    "setp": _compare,
    "selp": _select,
    "mma": _matrix,
    "wgmma": tensor.warpgroup,
    "tcgen05": tensor.tensor,
    "mbarrier": tensor.barrier,
    "cp": tensor.bulk,
    "elect": _elect,
    "fence": _fence,
}
