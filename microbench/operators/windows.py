"""Windows that slide over images and volumes: how many places they take along an axis, and which keys say so.

The first axis has the keys ``stride``, ``pad`` and ``dilation``; ``stride_w`` is that of the width where it differs. A
sequence is an image of height 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

_AXES = {2: ("h", "w"), 3: ("d", "h", "w")}


@dataclass(frozen=True, slots=True)
class Axis:
    """A window along one axis: sizes of input and window, step, zeros on both sides, distance of its elements."""

    size: Any
    kernel: Any
    stride: Any
    pad: Any
    dilation: Any
    out_pad: Any
    ceil: Any

    @property
    def reach(self) -> Any:
        """From the first element of a window to its last, both included."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def places(self) -> Any:
        """Places of the window; with ``ceil`` also a last one that begins inside the input and reaches beyond it."""
        last = self.size + 2 * self.pad - self.reach
        whole = last // self.stride + 1
        more = last % self.stride > 0
        return whole + self.ceil * more * (whole * self.stride < self.size + self.pad)

    @property
    def spread(self) -> Any:
        """Size of what a transposed convolution makes."""
        return (self.size - 1) * self.stride - 2 * self.pad + self.reach + self.out_pad


def keys(rank: int, *more: str) -> tuple[str, ...]:
    """Keys of the window's further axes, such as ``stride_w``, for ``stride`` and so on."""
    return tuple(f"{name}_{axis}" for axis in _AXES[rank][1:] for name in more)


def defaults(rank: int, *more: str) -> dict[str, int | str]:
    """What the keys of further axes are where they are missing: those of the first, and a cube's sides."""
    first = _AXES[rank][0]
    sides: dict[str, int | str] = dict.fromkeys(_AXES[rank][1:], first)
    sides |= {f"k{axis}": f"k{first}" for axis in _AXES[rank][1:]}
    return sides | {f"{name}_{axis}": name for axis in _AXES[rank][1:] for name in more}


def axes(s: Any, rank: int) -> list[Axis]:
    """The axes of a shape."""
    found = []
    for place, axis in enumerate(_AXES[rank]):
        named = {
            name: s.get(name if place == 0 else f"{name}_{axis}", missing)
            for name, missing in (("stride", 1), ("pad", 0), ("dilation", 1), ("out_pad", 0))
        }
        found.append(Axis(size=s[axis], kernel=s[f"k{axis}"], ceil=s.get("ceil", 0), **named))
    return found


def product(values: Sequence[Any]) -> Any:
    """The product of sizes or columns."""
    whole = values[0]
    for value in values[1:]:
        whole = whole * value
    return whole


def either(faults: Sequence[Any]) -> Any:
    """Whether any of several faults is there, element by element for columns."""
    return reduce(or_, faults)


def seen(sizes: Sequence[int], window: Sequence[int], **how: Sequence[int]) -> dict[str, int]:
    """Keys of a window from what torch is called with, one number an axis or one for all; a sequence has height 1."""
    spread = {name: _each(values, len(sizes)) for name, values in how.items()}
    sizes, window = list(sizes), _each(window, len(sizes))
    if len(sizes) == 1:
        sizes, window = [1, *sizes], [1, *window]
        spread = {name: [0 if "pad" in name else 1, *values] for name, values in spread.items()}
    shape: dict[str, int] = {}
    for place, axis in enumerate(_AXES[len(sizes)]):
        shape |= {axis: sizes[place], f"k{axis}": window[place]}
        shape |= {(name if place == 0 else f"{name}_{axis}"): values[place] for name, values in spread.items()}
    return shape


def _each(values: Sequence[int], rank: int) -> list[int]:
    return list(values) * rank if len(values) == 1 else list(values)
