"""An INVENTED GPU's law of operator times, for tests only: what the fits are graded on, in another form than theirs.

A library picks a tile by a rule of its own (not the one that turns out best), whole waves of it run, prologues and
epilogues cost, operands are read again where the second cache does not hold them, odd sizes fall to slower code, long
products lower the clock; attention and decoding are kernels of their own; streams need bytes in flight before they
reach the memory's rate. No figure is of a real card.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field

from microbench.operators import Op
from microbench.records.dtypes import DTYPES

_TILES = ((256, 128), (128, 128), (128, 64), (64, 64), (64, 32), (64, 16), (16, 64))
_TILE_EFFICIENCY = {
    (256, 128): 0.93,
    (128, 128): 0.88,
    (128, 64): 0.74,
    (64, 64): 0.6,
    (64, 32): 0.42,
    (64, 16): 0.24,
    (16, 64): 0.22,
}
_HEADS = {64: 0.56, 96: 0.5, 128: 0.7, 256: 0.58}
_MOVED = {"transpose": 0.62, "gather": 0.7, "embedding": 0.72, "cat": 0.9, "max_pool2d": 0.78, "avg_pool2d": 0.8}
_MOVED |= {"softmax": 0.88, "layer_norm": 0.84, "rms_norm": 0.86, "batch_norm": 0.66, "group_norm": 0.6}


@dataclass(frozen=True, kw_only=True)
class FakeLaw:
    """Seconds of a kernel on the invented device, without noise."""

    peak: dict[str, float] = field(
        default_factory=lambda: {
            "f32": 55e12,
            "tf32": 380e12,
            "bf16": 760e12,
            "f16": 770e12,
            "f8e4m3": 1500e12,
            "i8": 1400e12,
        }
    )
    bandwidth: float = 2.9e12
    l2_bandwidth: float = 6.2e12
    l2_bytes: float = 48e6
    memory_bytes: int = 80 << 30
    sms: int = 128
    # Bytes in flight that the memory needs for half of its rate, and what a kernel takes from start to end at least.
    ramp_bytes: float = 1.1e6
    start_s: float = 1.6e-6

    def seconds(self, made: Op, hot: float) -> float:
        """A kernel, of whose operands a share lies in the second cache."""
        if made.name in ("matmul", "bmm", "linear"):
            body = self._matrix(made, hot)
        elif made.name in ("conv2d", "conv_transpose2d"):
            body = self._convolution(made, hot)
        elif made.name == "attention":
            body = self._attention(made, hot)
        elif made.name in ("lstm", "lstm_cell"):
            body = self._recurrent(made, hot)
        else:
            body = self._stream(made, hot)
        return self.start_s + body

    def _traffic(self, size: float, hot: float, share: float = 1.0) -> float:
        rate = 1 / (hot / self.l2_bandwidth + (1 - hot) / self.bandwidth)
        return (size + self.ramp_bytes) / (rate * share)

    def _chosen(self, shape: tuple[float, float, float, float]) -> tuple[tuple[int, int], int]:
        """The library's choice of a tile and of parts of k: by waves alone, without a thought of memory."""
        batch, m, n, k = shape
        best, found = math.inf, (_TILES[0], 1)
        for tile in _TILES:
            tiles = batch * math.ceil(m / tile[0]) * math.ceil(n / tile[1])
            for split in (1, 2, 4, 8):
                if split > 1 and (k < 512 * split or tiles > self.sms):
                    break
                waves = math.ceil(tiles * split / self.sms)
                guess = waves * tile[0] * tile[1] / _TILE_EFFICIENCY[tile] * (k / split + 200 + 150 * (split > 1))
                if guess < best:
                    best, found = guess, (tile, split)
        return found

    def _gemm(self, shape: tuple[float, float, float, float], dtype: str, hot: float, share: float = 1.0) -> float:
        batch, m, n, k = shape
        element = DTYPES[dtype].bytes
        tile, split = self._chosen(shape)
        tiles = batch * math.ceil(m / tile[0]) * math.ceil(n / tile[1])
        waves = math.ceil(tiles * split / self.sms)
        rate = self.peak[dtype] / self.sms * _TILE_EFFICIENCY[tile] * share
        odd = 1.0 if element > 2 or ((k * element) % 16 == 0 and (n * element) % 16 == 0) else 1.45
        steps = math.ceil(k / split / 32) * 32 + 90
        compute = odd * waves * 2 * tile[0] * tile[1] * steps / rate
        if compute > 8e-4:  # the clock falls under power
            compute *= 1 + 0.18 * min(1.0, math.log(compute / 8e-4) / 2)
        # Bands of tiles share operands; what the cache does not hold is read for each band again.
        a, b, c = batch * m * k * element, batch * n * k * element, batch * m * n * element
        bands = max(1.0, math.sqrt(self.sms) * tile[0] / max(m, 1))
        again = 1 + 0.15 * max(0.0, math.log2(max((a + b) / self.l2_bytes, 1))) / bands
        memory = self._traffic((a + b) * again + c, hot)
        if split > 1:
            memory += self._traffic(2 * split * batch * m * n * 4, 1.0) + 1.1e-6
        return max(compute, memory) + 0.25 * min(compute, memory)

    def _matrix(self, made: Op, hot: float) -> float:
        size = made.params
        batch = size.get("b", 1)
        if made.direction == "backward":
            m, n, k = size["m"], size["n"], size["k"]
            return self._gemm((batch, m, k, n), made.dtype, hot) + self._gemm((batch, k, n, m), made.dtype, hot)
        if min(size["m"], size["n"]) == 1:
            return self._traffic(made.work.bytes, hot, 0.8)
        return self._gemm((batch, size["m"], size["n"], size["k"]), made.dtype, hot)

    def _convolution(self, made: Op, hot: float) -> float:
        size = made.params
        depthwise = size["groups"] > 1 and size["groups"] == size["c_in"]
        passes = 2 if made.direction == "backward" else 1
        if depthwise:
            simd = 0.5 * self.peak["f32"] * (0.35 if size["channels_last"] else 0.22)
            return max(made.work.flop / simd, self._traffic(made.work.bytes, hot, 0.7)) * 1.1
        assert made.row.gemm is not None
        from microbench.operators.registry import Shape

        groups, m, n, k = (float(value) for value in made.row.gemm(Shape(size)))
        share = 0.85 if groups == 1 else 0.55
        # Tensor cores want channels last: other images are turned before and after.
        turning = 0.0
        if made.dtype != "f32" and not size["channels_last"]:
            turning = self._traffic(made.work.bytes, hot, 0.45)
        return passes * self._gemm((groups, m, n, k), made.dtype, hot, share) + turning

    def _attention(self, made: Op, hot: float) -> float:
        size = made.params
        heads, blocks = size["b"] * size["heads"], math.ceil(size["q_len"] / 128)
        if size["q_len"] == 1:
            groups = size["b"] * size["kv_heads"] * math.ceil(size["kv_len"] / 256)
            busy = min(1.0, (groups / (1.5 * self.sms)) ** 0.7)
            return self._traffic(made.work.bytes, hot, 0.82 * max(busy, 0.02)) + 1.4e-6
        share = _HEADS.get(size["head_dim"], 0.5) * (0.9 if size["causal"] else 1.0)
        if made.direction == "backward":
            share *= 0.75
        waves = math.ceil(heads * blocks / self.sms) / (heads * blocks / self.sms)
        waves = 1 + (waves - 1) * (0.6 if size["causal"] else 1.0)
        compute = made.work.flop / (self.peak[made.dtype] * share) * waves
        fill = heads * 2e-9 + math.ceil(heads * blocks / self.sms) * 1.1e-6
        return max(compute, self._traffic(made.work.bytes, hot)) + fill

    def _recurrent(self, made: Op, hot: float) -> float:
        size = made.params
        steps = size.get("steps", 1)
        inputs = self._gemm((1, steps * size["b"], 4 * size["hidden"], size["input"]), made.dtype, hot)
        step = self._gemm((1, size["b"], 4 * size["hidden"], size["hidden"]), made.dtype, 1.0)
        return (inputs + steps * (step + 2.2e-6)) * (2.3 if made.direction == "backward" else 1.0)

    def _stream(self, made: Op, hot: float) -> float:
        share = _MOVED.get(made.name, 0.92) * (0.9 if made.direction == "backward" else 1.0)
        size = made.params
        if "cols" in size and "rows" in size and made.name not in ("transpose", "gather", "embedding"):
            # A block for each row: few rows leave most of the device idle, long ones are cut.
            blocks = size["rows"] * max(1, size["cols"] // 8192)
            share *= min(1.0, (blocks / (2 * self.sms)) ** 0.6)
            if size["cols"] * DTYPES[made.dtype].bytes % 16:
                share /= 1.12
        simd = 0.8 * self.peak["f32"]
        return max(self._traffic(made.work.bytes, hot, share), made.work.flop / simd)

    def issue_seconds(self, made: Op) -> float:
        """What the invented host takes to issue a call."""
        own = zlib.crc32(made.name.encode()) % 60 / 10
        return (4.0 + own + (17.0 if made.direction == "backward" else 0.0)) * 1e-6
