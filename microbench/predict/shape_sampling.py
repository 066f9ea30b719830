"""The designed sweep that calibrates operators: small to large in FLOP and in bytes, round sizes and odd ones, per family.

Sizes are drawn log-uniformly with a seed and kept where their work fits the limits, so that `validate` can draw fresh
ones from the same population: an interval promises something about rows drawn like those that it was calibrated on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from microbench.errors import UsageError
from microbench.operators import Op, op

Draw = Callable[["Sizes"], dict[str, Any]]

# Rows per family at full length; a quick sweep takes a share of them.
COUNTS: Mapping[str, int] = {
    "matmul": 300,
    "bmm": 120,
    "linear": 240,
    "conv2d": 150,
    "conv2d.grouped": 80,
    "conv2d.depthwise": 150,
    "conv_transpose2d": 110,
    "elementwise": 126,
    "reduction": 64,
    "softmax": 80,
    "layer_norm": 44,
    "rms_norm": 40,
    "batch_norm": 60,
    "attention": 120,
    "pooling": 70,
    "movement": 60,
    "embedding": 44,
    "lstm_cell": 36,
    "lstm": 40,
}


@dataclass(slots=True)
class Sizes:
    """A seeded source of sizes."""

    random: np.random.Generator

    def log(self, low: int, high: int) -> int:
        """Log-uniform; three in five rounded to a multiple of 16 (8 below 64), as most models have them."""
        value = float(np.exp(self.random.uniform(np.log(low), np.log(high))))
        grain = 16 if value >= 64 else 8 if value >= 12 else 1
        if self.random.random() < 0.6:
            value = max(low, round(value / grain) * grain)
        return int(min(max(round(value), low), high))

    def pick(self, *values: Any) -> Any:
        """One of the values."""
        return values[int(self.random.integers(len(values)))]


def _image(s: Sizes) -> dict[str, int]:
    return {"n": s.pick(1, 1, 2, 4, 8), "h": s.pick(7, 14, 28, 56, 112, s.log(5, 112))}


def _dense(s: Sizes) -> dict[str, Any]:
    kernel = s.pick(1, 1, 3, 3, 3, 5, 7)
    return _image(s) | {
        "c_in": s.pick(3, s.log(1, 512), s.log(8, 512), s.log(16, 512)),
        "c_out": s.log(4, 512),
        "kh": kernel,
        "pad": s.pick(kernel // 2, kernel // 2, 0),
        "stride": s.pick(1, 1, 1, 2),
    }


def _grouped(s: Sizes) -> dict[str, Any]:
    groups = s.pick(2, 4, 8, 16, 32)
    return _image(s) | {
        "c_in": groups * s.log(2, 32),
        "c_out": groups * s.log(2, 32),
        "groups": groups,
        "kh": s.pick(1, 3, 3),
        "pad": 1,
    }


def _depthwise(s: Sizes) -> dict[str, Any]:
    channels, kernel = s.log(8, 1024), s.pick(3, 3, 5, 7)
    shape = {
        "c_in": channels,
        "c_out": channels,
        "groups": channels,
        "kh": kernel,
        "pad": kernel // 2,
        "stride": s.pick(1, 1, 2),
    }
    return _image(s) | shape


def _turned(s: Sizes) -> dict[str, Any]:
    kernel = s.pick(2, 3, 4)
    return _image(s) | {
        "c_in": s.log(4, 256),
        "c_out": s.log(4, 256),
        "kh": kernel,
        "stride": s.pick(1, 2, 2),
        "pad": s.pick(0, 1),
    }


def _window(s: Sizes) -> dict[str, Any]:
    kernel, stride = s.pick((2, 2), (3, 2), (3, 1))
    return _image(s) | {"c": s.log(1, 512), "kh": kernel, "stride": stride, "pad": kernel // 2 if kernel == 3 else 0}


def _heads(s: Sizes) -> dict[str, Any]:
    heads, length = s.pick(1, 2, 4, 8, 12, 16), s.log(8, 1024)
    decode = s.random.random() < 0.3
    return {
        "b": s.pick(1, 1, 2, 4, 8),
        "heads": heads,
        "q_len": 1 if decode else length,
        "kv_len": length,
        "head_dim": s.pick(32, 64, 64, 128),
        "causal": 0 if decode else s.pick(0, 1),
    }


def _layer(s: Sizes) -> dict[str, Any]:
    return {"b": s.log(1, 64), "steps": s.log(2, 128), "input": s.log(8, 512), "hidden": s.log(8, 512)}


def _rows(s: Sizes) -> dict[str, Any]:
    return {"rows": s.log(1, 32768), "cols": s.log(8, 16384)}


# name: (operators to choose from, how to draw a shape)
_DRAWS: Mapping[str, tuple[tuple[str, ...], Draw]] = {
    "matmul": (("matmul",), lambda s: {key: s.log(1 if key == "m" else 4, 2048) for key in "mnk"}),
    "bmm": (("bmm",), lambda s: {"b": s.log(2, 96), **{key: s.log(1 if key == "m" else 4, 512) for key in "mnk"}}),
    "linear": (("linear",), lambda s: {key: s.log(1 if key == "m" else 4, 3072) for key in "mnk"}),
    "conv2d": (("conv2d",), _dense),
    "conv2d.grouped": (("conv2d",), _grouped),
    "conv2d.depthwise": (("conv2d",), _depthwise),
    "conv_transpose2d": (("conv_transpose2d",), _turned),
    "elementwise": (
        ("add", "mul", "div", "relu", "gelu", "silu", "tanh", "exp", "sigmoid"),
        lambda s: {"size": s.log(64, 6_000_000)},
    ),
    "reduction": (("sum", "mean"), _rows),
    "softmax": (("softmax",), _rows),
    "layer_norm": (("layer_norm",), _rows),
    "rms_norm": (("rms_norm",), _rows),
    "batch_norm": (("batch_norm",), lambda s: _image(s) | {"c": s.log(1, 512), "train": s.pick(0, 0, 1)}),
    "attention": (("attention",), _heads),
    "pooling": (("max_pool2d", "avg_pool2d"), _window),
    "movement": (("copy", "cat", "transpose"), lambda s: {"size": s.log(64, 6_000_000)}),
    "embedding": (
        ("gather", "embedding"),
        lambda s: {"rows": s.log(16, 65536), "cols": s.log(8, 1024), "count": s.log(1, 8192)},
    ),
    "lstm_cell": (("lstm_cell",), lambda s: {"b": s.log(1, 128), "input": s.log(8, 768), "hidden": s.log(8, 768)}),
    "lstm": (("lstm",), _layer),
}


def design(seed: int, share: float = 1.0, dtype: str = "f32", most: tuple[float, float] = (4e8, 2.4e7)) -> list[Op]:
    """Draw a sweep.

    Parameters
    ----------
    seed
        Two seeds give two disjoint draws from one population.
    share
        Of the full number of rows.
    dtype
        Number format of all rows.
    most
        FLOP and bytes of the largest row.
    """
    drawn: dict[str, Op] = {}
    for place, (name, (names, draw)) in enumerate(_DRAWS.items()):
        sizes = Sizes(np.random.default_rng((seed, place)))
        wanted = max(10, round(COUNTS[name] * share))
        found = 0
        for _ in range(200 * wanted):
            operator = names[found % len(names)]
            made = _make(operator, draw(sizes), dtype)
            if made is None or made.work.flop > most[0] or made.work.bytes > most[1] or str(made) in drawn:
                continue
            drawn[str(made)] = made
            found += 1
            if found == wanted:
                break
    return list(drawn.values())


def _make(name: str, shape: dict[str, Any], dtype: str) -> Op | None:
    if name == "transpose":
        side = max(1, int(shape["size"] ** 0.5))
        shape = {"rows": side, "cols": max(1, shape["size"] // side)}
    try:
        return op(name, dtype=dtype, **shape)
    except UsageError:
        return None
