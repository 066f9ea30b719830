"""The Triton kernels at work: operands on the device, launches between events, and a look at what each launch left."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from microbench.errors import CannotRun
from microbench.records import Access, Device, Timing
from microbench.records.dtypes import DTYPES

BLOCK = 4096  # elements of a stream's block: four 16-byte accesses for each of 256 threads
PAIRS = 1024  # of the vector FMA: eight for each of 128 threads
TURNS = 32
FMAS = (1, 4, 16, 64)
KINDS: dict[Access, int] = {"read": 0, "write": 1, "copy": 2, "triad": 3}
ARRAYS: dict[Access, tuple[int, int]] = {"read": (1, 0), "write": (0, 1), "copy": (1, 1), "triad": (2, 1)}
MIXED = (128, 64)  # rows and depth of the FP16 tile that the mixed products load
PRODUCTS = ((16, 1), (64, 1), (64, 4), (64, 16))  # their columns, and products a tile: columns x products FLOP a byte
PROGRAMS = {"dot": 2, "fma": 8, "stream": 8, "mix": 8, "mix_dot": 4}  # a multiprocessor


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One format of `tl.dot`: its tile, and the targets where Triton uses the matrix units (major x 10 + minor)."""

    dtype: str
    accumulator: str
    shape: tuple[int, int, int]
    targets: tuple[int, ...]
    precision: str = "ieee"


class Job(ABC):
    """What the Triton kernels share: a grid that fills the device, events around a launch, and a look at the result."""

    def __init__(self, device: Device, kind: str, place: str | None = None) -> None:
        from microbench.hardware.torch_import import import_torch
        from microbench.kernels.triton import code

        torch = import_torch()
        if place is None and not torch.cuda.is_available():
            raise CannotRun(
                "this PyTorch cannot use the GPU (torch.cuda.is_available() is false); install one that matches the "
                "driver"
            )
        self.torch: Any = torch
        self.code = code
        self.place = place or f"cuda:{device.index}"
        self.programs = PROGRAMS[kind] * device.units_by_kind.get("sm", 1)
        self._tensors: dict[str, Any] = {}

    def make(self, name: str, values: Any) -> Any:
        """Put values on the device and keep them."""
        self._tensors[name] = values.to(self.place)
        return self._tensors[name]

    def __getitem__(self, name: str) -> Any:
        return self._tensors[name]

    @abstractmethod
    def launch(self, iterations: int) -> None:
        """Start the kernel once."""

    def spoil(self) -> None:
        """Overwrite what an earlier launch left."""
        self["out"].fill_(-1)

    def start(self, iterations: int) -> None:
        """Start the kernel once over a poisoned result."""
        self.spoil()
        self.launch(iterations)

    @abstractmethod
    def right(self, iterations: int) -> bool:
        """Whether the last launch left what it must."""

    def run(self, iterations: int) -> Timing:
        """Time one launch with at least so many iterations over all programs."""
        each = max(1, -(-iterations // self.programs))
        events = [self.torch.cuda.Event(enable_timing=True) for _ in range(2)]
        with self.torch.cuda.device(self.place):
            # Ahead of the first event: it takes no part of the time, and keeps the device busy until the launch has
            # arrived.
            self.spoil()
            events[0].record()
            self.launch(each)
            events[1].record()
            events[1].synchronize()
        ns = max(1, round(float(events[0].elapsed_time(events[1])) * 1e6))
        return Timing(ns=ns, iterations=each * self.programs, checked=self.right(each))

    def close(self) -> None:
        """Let go of the memory; again is allowed."""
        self._tensors.clear()


def _small(torch: Any, seed: int, *shape: int) -> Any:
    """Integers from -2 to 2, the same for the same seed."""
    return torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed))


class DotJob(Job):
    """`tl.dot` of one format: products cancel in pairs, one is left."""

    def __init__(self, device: Device, each: Dot, place: str | None = None) -> None:
        super().__init__(device, "dot", place)
        self.each = each
        m, n, k = each.shape
        stored = getattr(self.torch, DTYPES[each.dtype].torch or "float32")
        a, b = _small(self.torch, 1, m, k), _small(self.torch, 2, k, n)
        self.make("a", self.torch.stack([a, -a]).float().to(stored))
        self.make("b", b.float().to(stored))
        self.make(
            "expected", (a.double() @ b.double()).to(getattr(self.torch, DTYPES[each.accumulator].torch or "float32"))
        )
        self.make("out", self.torch.zeros((self.programs, m, n), dtype=self["expected"].dtype))

    def launch(self, iterations: int) -> None:
        """Start two products an iteration in every program."""
        m, n, k = self.each.shape
        sums = self.code.SUMS.get(self.each.dtype, self.code.tl.float32)
        self.code.dot[(self.programs,)](
            self["out"],
            self["a"],
            self["b"],
            iterations,
            M=m,
            N=n,
            K=k,
            PRECISION=self.each.precision,
            SUMS=sums,
            num_warps=4,
        )

    def right(self, iterations: int) -> bool:
        """Every element of every program."""
        del iterations
        return bool((self["out"] == self["expected"]).all())


class FmaJob(Job):
    """Vector multiply-adds."""

    def __init__(self, device: Device, place: str | None = None) -> None:
        super().__init__(device, "fma", place)
        lane = self.torch.arange(PAIRS, dtype=self.torch.float32)
        self.x, self.y = lane * 7 % 61 - 30, lane * 11 % 59 - 29
        self.make("a", self.torch.cat([self.torch.tensor([1.0, -1.0]), self.x, self.y]))
        self.make("out", self.torch.zeros(self.programs, 2 * PAIRS))

    def launch(self, iterations: int) -> None:
        """Start `TURNS` turns an iteration."""
        self.code.fma[(self.programs,)](self["out"], self["a"], iterations, TURNS=TURNS, BLOCK=PAIRS, num_warps=4)

    def right(self, iterations: int) -> bool:
        """Replay what is left of the period."""
        x, y = self.x.clone(), self.y.clone()
        for _ in range(iterations * TURNS % 6):
            x = y + x
            y = y - x
        return bool((self["out"] == self.torch.cat([x, y]).to(self.place)).all())


class StreamJob(Job):
    """A stream over a working set."""

    def __init__(self, device: Device, access: Access, working_set: int, place: str | None = None) -> None:
        super().__init__(device, "stream", place)
        self.access = access
        self.blocks = max(1, working_set // (4 * BLOCK * sum(ARRAYS[access])))
        size = self.blocks * BLOCK
        ramp = self.torch.arange(size, device=self.place)
        self.make("one", (ramp % 127).float())
        self.make("two", (ramp % 113).float() if access == "triad" else self.torch.zeros(1))
        self.make("out", self.torch.zeros(self.programs * BLOCK if access == "read" else size))

    def launch(self, iterations: int) -> None:
        """Start the stream."""
        kind = KINDS[self.access]
        self.code.stream[(self.programs,)](
            self["out"], self["one"], self["two"], self.blocks, iterations, KIND=kind, BLOCK=BLOCK, num_warps=8
        )

    def right(self, iterations: int) -> bool:
        """Look at what the first program left: its sums, or its last block."""
        visited = [i * self.programs % self.blocks for i in range(iterations)]
        lane = self.torch.arange(BLOCK)
        if self.access == "read":
            # Sums of integers stay exact below 2^24; longer launches repeat the same blocks and are told apart at small
            # counts.
            if iterations * 127 >= 1 << 24:
                return True
            expected = sum(((block * BLOCK + lane) % 127).double() for block in visited)
            return bool((self["out"][:BLOCK].cpu().double() == expected).all())
        at = visited[-1] * BLOCK + lane
        one, two = (at % 127).float(), (at % 113).float()
        expected = {"write": self.torch.ones(BLOCK), "copy": one, "triad": one + 3 * two}[self.access]
        return bool((self["out"][at.to(self.place)].cpu() == expected).all())


class MixJob(Job):
    """Mixed intensity."""

    def __init__(self, device: Device, fmas: int, working_set: int, place: str | None = None) -> None:
        super().__init__(device, "mix", place)
        self.fmas = fmas
        self.blocks = max(1, working_set // (8 * BLOCK))
        self.make("one", (self.torch.arange(self.blocks * 2 * BLOCK, device=self.place) % 61).float())
        self.make("turn", self.torch.tensor([1.0, -1.0]))
        self.make("out", self.torch.zeros(self.programs * BLOCK))

    def launch(self, iterations: int) -> None:
        """Start the stream."""
        self.code.mix[(self.programs,)](
            self["out"], self["one"], self["turn"], self.blocks, iterations, FMAS=self.fmas, BLOCK=BLOCK, num_warps=8
        )

    def right(self, iterations: int) -> bool:
        """Look at the first program's sums, as far as they are exact."""
        if iterations * 250 >= 1 << 24:
            return True
        lane, expected = self.torch.arange(BLOCK), self.torch.zeros(BLOCK)
        for i in range(iterations):
            at = i * self.programs % self.blocks * 2 * BLOCK + lane
            x, y = (at % 61).float(), ((at + BLOCK) % 61).float()
            for _ in range(self.fmas % 6):
                x = y + x
                y = y - x
            expected += x + y
        return bool((self["out"][:BLOCK].cpu() == expected).all())


class MixDotJob(Job):
    """Mixed intensity of `tl.dot`: each FP16 tile that is read is multiplied with one B so many times."""

    def __init__(self, device: Device, columns: int, products: int, working_set: int, place: str | None = None) -> None:
        super().__init__(device, "mix_dot", place)
        self.columns, self.products = columns, products
        rows, depth = MIXED
        self.blocks = max(1, working_set // (2 * rows * depth))
        elements = self.torch.arange(self.blocks * rows * depth, device=self.place, dtype=self.torch.int32)
        self.make("one", (elements % 5 - 2).half())
        self.make("two", _small(self.torch, 3, depth, columns).half())
        self.make("out", self.torch.zeros((self.programs, rows, columns)))

    def launch(self, iterations: int) -> None:
        """Start the stream."""
        rows, depth = MIXED
        self.code.mix_dot[(self.programs,)](
            self["out"],
            self["one"],
            self["two"],
            self.blocks,
            iterations,
            PRODUCTS=self.products,
            M=rows,
            N=self.columns,
            K=depth,
            num_warps=4,
        )

    def right(self, iterations: int) -> bool:
        """Look at the first program's sums, as far as they are exact."""
        rows, depth = MIXED
        if iterations * self.products * depth * 4 >= 1 << 24:
            return True
        two = self["two"].cpu().double()
        # Tiles repeat after five, so that a long launch is foreseen from how often each of them was met.
        starts = [i * self.programs % self.blocks * rows * depth % 5 for i in range(iterations)]
        lane = self.torch.arange(rows * depth).reshape(rows, depth)
        tiles = {start: ((start + lane) % 5 - 2).double() for start in set(starts)}
        expected = sum(starts.count(start) * self.products * (tile @ two) for start, tile in tiles.items())
        return bool((self["out"][0].cpu().double() == expected).all())
