"""The sweep that calibrates operators: small to large in FLOP and in bytes, round sizes and odd ones, per family.

The files of `operators` say how to draw the shapes of theirs; here they are drawn with a seed and kept where their work
fits limits that come from the device's own ceilings (`Reach`), so that `validate` can draw fresh ones from the same
population: an interval promises something about rows drawn like those that it was calibrated on.

On a processor sizes stay as they were drawn; a few rows of each draw take up to five times as long or have results that
an allocator maps anew at each call, some are backward passes, some in bf16. On a GPU most of those would be launches:
there each draw's rows are dealt out evenly over the logarithm of their roofline time, from one launch to several
milliseconds, in every number format that the device has a ceiling for.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from microbench.errors import UsageError
from microbench.operators import Op, op
from microbench.operators.draws import DRAWS, Draw, Sizes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from microbench.predict.figures import DeviceFigures

# Rows of each draw at the least, and shapes that are tried for one that fits the limits.
_LEAST, _TRIES = 10, 200
# Shapes that fit from which a GPU's row is chosen by its time, and shapes that are tried for one of them.
_CHOICE, _POOL_TRIES = 5, 4
# FLOP and bytes of the largest row of two processor cores: what a draw's own sizes are meant for.
_FLOP, _BYTES = 4e8, 2.4e7
# Seconds of arithmetic and of traffic at the ceilings that the largest row has: on a processor what a default run has
# time for, on a GPU what a large layer takes. A row holds no more than that share of the device's memory.
_LONGEST = {"cpu": (2e-3, 0.5e-3), "cuda": (4e-3, 4e-3)}
_MEMORY_SHARE = 1 / 16
# From one launch to the next where none was measured, and the share of rows whose work is shorter than that.
_LAUNCH_S, _SHORTER = 2.5e-6, 0.1
# Number formats of a GPU's rows by operator, most used first; the first that the device has gets all rows of a draw,
# the others a share. Formats of the same width move bytes alike, so that one of them stands for both there.
_PRODUCTS = ("bf16", "f16", "tf32", "f32")
_FORMATS: Mapping[str, tuple[str, ...]] = {
    "matmul": (*_PRODUCTS, "f8e4m3", "i8"),
    "linear": (*_PRODUCTS, "f8e4m3"),
    "bmm": _PRODUCTS,
    "conv2d": _PRODUCTS,
    "conv_transpose2d": _PRODUCTS,
    "attention": ("bf16", "f16", "f32"),
    "lstm": ("f16", "f32"),
    "lstm_cell": ("f16", "f32"),
}
_MOVERS = ("bf16", "f32")
# Rows of a processor's full sweep beyond those of a draw itself: long ones, of the backward pass, and in bf16. What is
# not here has none: most of a training step is products and what stands between them.
_FURTHER: Mapping[str, tuple[int, int, int]] = {
    "matmul": (12, 24, 20),
    "bmm": (8, 20, 0),
    "linear": (20, 40, 20),
    "attention": (10, 30, 20),
    "conv2d": (28, 60, 20),
    "conv2d.grouped": (4, 24, 0),
    "conv2d.depthwise": (12, 40, 20),
    "conv_transpose2d": (6, 24, 0),
    "elementwise": (8, 30, 20),
    "batch_norm": (6, 30, 20),
    "layer_norm": (4, 24, 0),
    "group_norm": (0, 20, 0),
    "rms_norm": (0, 20, 0),
    "pooling": (4, 24, 0),
    "softmax": (4, 20, 0),
    "reduction": (0, 20, 0),
    "movement": (6, 0, 0),
    "embedding": (0, 20, 0),
    "lstm_cell": (0, 20, 0),
}
# Times the longest of a processor's other rows that a long one may take, and bytes of one: its result is beyond what
# the C library's allocator ever keeps (32 MiB).
_LONG, _LONG_BYTES = 5.0, 1.2e8
# Rows drawn for each long one that is kept.
_LONG_TRIES = 12
# FLOP/s of a processor in bf16 over those in f32, where no ceiling was measured: products without an instruction of
# their own turn every number.
_BF16_SLOWER = 8.0
_OTHER_FORMATS, _BACKWARD = 0.25, 0.25
# Of the rows of a processor's sweep a GPU's has so many of each part, those with a product inside first, since all else
# moves bytes and little more; and so many at the least: an interval needs nine.
_PRODUCTS_PART, _PART, _FEW = 0.75, 0.35, 12
# Libraries multiply 8-bit numbers in whole vectors of 16, and 32 rows at the least.
_VECTOR, _ROWS = 16, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """From where to where a sweep goes.

    ``peak`` in FLOP/s by number format and ``bandwidth`` in byte/s turn work into seconds; ``flop`` is the most by
    format, ``bytes`` the most of a row; ``launch_s`` is the shortest time that differs from a launch.
    """

    kind: Literal["cpu", "cuda"] = "cpu"
    peak: Mapping[str, float] = field(default_factory=dict)
    bandwidth: float = 0.0
    flop: Mapping[str, float] = field(default_factory=lambda: {"f32": _FLOP})
    bytes: float = _BYTES
    launch_s: float = _LAUNCH_S

    @property
    def long(self) -> Reach:
        """From where to where the long rows of a processor go."""
        flop = {name: _LONG * most for name, most in self.flop.items()}
        return replace(self, flop=flop, bytes=max(_LONG * self.bytes, _LONG_BYTES))

    def beyond(self, made: Op) -> bool:
        """Whether a row is longer than all others."""
        return made.work.flop > self.flop.get(made.dtype, 0.0) or made.work.bytes > self.bytes

    @property
    def room(self) -> float:
        """Bytes of the largest row over those that a draw's own sizes are meant for."""
        return max(1.0, self.bytes / _BYTES)

    def holds(self, made: Op) -> bool:
        """Whether a row fits."""
        return made.work.flop <= self.flop.get(made.dtype, 0.0) and 0 < made.work.bytes <= self.bytes

    def seconds(self, made: Op) -> float:
        """Roofline time of a row."""
        return max(made.work.flop / self.peak[made.dtype], made.work.bytes / self.bandwidth)


def reach_of(figures: DeviceFigures, memory_bytes: int | None = None, launch_s: float | None = None) -> Reach:
    """Limits of a sweep from measured ceilings.

    Parameters
    ----------
    figures
        Peaks and bandwidth of the device; without them the limits are those of two processor cores.
    memory_bytes
        What the device can hold.
    launch_s
        From one launch to the next.
    """
    kind = figures.kind or "cpu"
    if not figures.bandwidth or not figures.peak or (kind == "cpu" and "f32" not in figures.peak):
        return Reach(kind=kind) if kind == "cpu" else Reach(kind=kind, flop={})
    arithmetic_s, traffic_s = _LONGEST[kind]
    held = _MEMORY_SHARE * memory_bytes if memory_bytes else float("inf")
    return Reach(
        kind=kind,
        peak=dict(figures.peak),
        bandwidth=figures.bandwidth,
        flop={name: arithmetic_s * rate for name, rate in figures.peak.items()},
        bytes=min(traffic_s * figures.bandwidth, held),
        launch_s=launch_s or _LAUNCH_S,
    )


def design(seed: int, share: float = 1.0, reach: Reach | None = None) -> list[Op]:
    """Draw a sweep.

    Parameters
    ----------
    seed
        Two seeds give two disjoint draws from one population. A draw's shapes depend on the seed and its own name, so
        that a new operator changes no other's.
    share
        Of the full number of rows.
    reach
        From where to where; that of two processor cores where none is given.
    """
    reach = reach or Reach()
    drawn: dict[str, Op] = {}
    for each in DRAWS.values():
        if reach.kind not in each.on:
            continue
        if reach.kind == "cpu":
            sizes = Sizes(np.random.default_rng((seed, zlib.crc32(each.name.encode()))), reach.room)
            _draw(each, ("f32", "forward", max(_LEAST, round(each.count * share))), sizes, reach, drawn)
            _draw_further(each, seed, share, reach, drawn)
            continue
        for part in _parts(each, share, reach):
            name = f"{each.name} {part[0]} {part[1]}"
            _draw(each, part, Sizes(np.random.default_rng((seed, zlib.crc32(name.encode()))), reach.room), reach, drawn)
    return list(drawn.values())


def _draw_further(each: Draw, seed: int, share: float, reach: Reach, drawn: dict[str, Op]) -> None:
    """Add a processor's long rows, those of the backward pass and those in bf16."""
    long, backward, narrow = (round(count * share) for count in _FURTHER.get(each.name, (0, 0, 0)))

    def sizes(part: str, room: float) -> Sizes:
        return Sizes(np.random.default_rng((seed, zlib.crc32(f"{each.name} {part}".encode()))), room)

    within = reach.long
    beyond: dict[str, Op] = {}
    _draw(each, ("f32", "forward", _LONG_TRIES * long), sizes("long", within.room), within, beyond)
    drawn |= dict([(name, made) for name, made in beyond.items() if reach.beyond(made)][:long])
    _draw(each, ("f32", "backward", backward), sizes("backward", reach.room), reach, drawn)
    if "bf16" not in reach.flop:
        reach = replace(reach, flop={**reach.flop, "bf16": reach.flop["f32"] / _BF16_SLOWER})
    _draw(each, ("bf16", "forward", narrow), sizes("bf16", reach.room), reach, drawn)


_Part = tuple[str, str, int]


def _parts(each: Draw, share: float, reach: Reach) -> Iterator[_Part]:
    """Number format, pass and number of rows of each part of a GPU's draw."""
    known = [name for name in _FORMATS.get(each.operators[0], _MOVERS) if name in reach.flop]
    rows = (_PRODUCTS_PART if each.operators[0] in _FORMATS else _PART) * each.count * share
    for place, name in enumerate(known):
        yield name, "forward", max(_FEW, round(rows * (_OTHER_FORMATS if place else 1.0)))
    if known:
        yield known[0], "backward", max(_FEW, round(_BACKWARD * rows))


def _draw(each: Draw, part: _Part, sizes: Sizes, reach: Reach, drawn: dict[str, Op]) -> None:
    """Add so many new rows of a draw to those drawn: as they come, or on a GPU evenly over the logarithm of time."""
    dtype, direction, wanted = part
    on_gpu = reach.kind == "cuda"
    number, tries = (_CHOICE * wanted, _POOL_TRIES) if on_gpu else (wanted, _TRIES)
    pool: dict[str, Op] = {}
    for attempt in range(tries * number):
        # Of a pass that does nothing no row fits: the others take its turn.
        turn = attempt if on_gpu or direction == "backward" else len(pool)
        made = _make(each.operators[turn % len(each.operators)], each.shape(sizes), dtype, direction)
        if made is None or not reach.holds(made) or str(made) in drawn:
            continue
        pool[str(made)] = made
        if len(pool) == number:
            break
    drawn |= _spread(pool, wanted, reach) if on_gpu else pool


def _spread(pool: Mapping[str, Op], wanted: int, reach: Reach) -> dict[str, Op]:
    """So many of a pool, evenly over the logarithm of their time from a launch to the longest, and some below.

    Every target takes the nearest that is left, the longest targets first: few shapes are as long.
    """
    names, left = list(pool), np.ones(len(pool), dtype=np.bool_)
    log_seconds = np.log([reach.seconds(pool[name]) for name in names])
    below = round(_SHORTER * wanted)
    targets = np.linspace(np.log(_LONGEST[reach.kind][0]), np.log(reach.launch_s), wanted - below)
    chosen = []
    for target in [*targets, *[-np.inf] * below]:
        if not left.any():
            break
        off = np.abs(log_seconds - target) if np.isfinite(target) else np.maximum(log_seconds - targets[-1], 0.0)
        place = int(np.argmin(np.where(left, off, np.inf)))
        left[place] = False
        chosen.append(place)
    return {names[place]: pool[names[place]] for place in sorted(chosen)}


def _make(name: str, shape: dict[str, Any], dtype: str, direction: str = "forward") -> Op | None:
    if dtype in ("f8e4m3", "i8"):
        shape = {key: max(_VECTOR, round(size / _VECTOR) * _VECTOR) for key, size in shape.items()}
        shape["m"] = max(_ROWS, shape["m"])
    if direction == "backward" and "train" in shape:
        shape = shape | {"train": 1}
    try:
        return op(name, dtype=dtype, direction=direction, **shape)
    except UsageError:
        return None
