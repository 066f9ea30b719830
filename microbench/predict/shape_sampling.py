"""The sweep that calibrates operators: small to large in FLOP and in bytes, round sizes and odd ones, per family.

The files of `operators` say how to draw the shapes of theirs; here they are drawn with a seed and kept where their work
fits the limits, so that `validate` can draw fresh ones from the same population: an interval promises something about
rows drawn like those that it was calibrated on.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from microbench.errors import UsageError
from microbench.operators import Op, op
from microbench.operators.draws import DRAWS, Sizes

# Rows of each draw at the least, and shapes that are tried for one that fits the limits.
_LEAST, _TRIES = 10, 200


def design(seed: int, share: float = 1.0, dtype: str = "f32", most: tuple[float, float] = (4e8, 2.4e7)) -> list[Op]:
    """Draw a sweep.

    Parameters
    ----------
    seed
        Two seeds give two disjoint draws from one population. A draw's shapes depend on the seed and its own name, so
        that a new operator changes no other's.
    share
        Of the full number of rows.
    dtype
        Number format of all rows.
    most
        FLOP and bytes of the largest row.
    """
    drawn: dict[str, Op] = {}
    for each in DRAWS.values():
        sizes = Sizes(np.random.default_rng((seed, zlib.crc32(each.name.encode()))))
        wanted = max(_LEAST, round(each.count * share))
        found = 0
        for _ in range(_TRIES * wanted):
            made = _make(each.operators[found % len(each.operators)], each.shape(sizes), dtype)
            if made is None or made.work.flop > most[0] or made.work.bytes > most[1] or str(made) in drawn:
                continue
            drawn[str(made)] = made
            found += 1
            if found == wanted:
                break
    return list(drawn.values())


def _make(name: str, shape: dict[str, Any], dtype: str) -> Op | None:
    try:
        return op(name, dtype=dtype, **shape)
    except UsageError:
        return None
