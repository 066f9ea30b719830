"""Operators timed one call at a time among others: what one costs inside a model.

Called again and again, an operator finds its data, its code and the team of threads where its last call left them.
Inside a model other operators have run since, and every one pays for fetching them back: a few microseconds to a
multiple of its time. A stream is a group of operators called in turn, so that a known number of bytes lies between two
calls of one; each call is timed alone. Like a model, a group has a few kinds of operators in many sizes: code is
fetched again as well as data, and kinds share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Call = Callable[[], object]

# Bytes between two calls of one operator: from well inside a core's own cache to well outside of it. The last is what
# "cold" means.
STREAMS = (4e5, 1.6e6, 6.4e6, 2.4e7)
COLD = STREAMS[-1]
# Operators of a group: fewer would leave too much of each other's code behind, and more add nothing.
LEAST, MOST = 6, 64
# Kinds of operators in a group: convolution, normalisation, activation and addition make a network.
KINDS = 4
# Rows that tell how the cost grows with the bytes between two calls; the last stream visits all rows.
PROBES = 500
# The first turns bring a group in and teach branch predictors its order, as when a model runs again and again; the
# smallest of the others stands.
LEARNING = 2
TURNS = 6


def interleaved_batches(names: Sequence[str], order: Sequence[int]) -> list[list[int]]:
    """Deal an order out in batches of `KINDS` kinds, in the order in which kinds are met."""
    batch = {name: place // KINDS for place, name in enumerate(dict.fromkeys(names[each] for each in order))}
    dealt: dict[int, list[int]] = {}
    for place in order:
        dealt.setdefault(batch[names[place]], []).append(place)
    return list(dealt.values())


def groups(sizes: Sequence[int], order: Sequence[int], reuse: float) -> list[list[int]]:
    """Cut an order into groups of about ``reuse`` bytes; operators above a quarter of that join the last one only."""
    made: list[list[int]] = []
    group: list[int] = []
    held = 0
    for place in order:
        if reuse < COLD and sizes[place] > reuse / 4:
            continue
        group.append(place)
        held += sizes[place]
        if len(group) >= LEAST and (held >= reuse or len(group) == MOST):
            made.append(group)
            group, held = [], 0
    if group and reuse >= COLD:
        # The rest would be too short a stream on its own: it borrows from the group before.
        made.append((made[-1][: max(0, LEAST - len(group))] if made else []) + group)
    return made


def timed(calls: Sequence[Call], late: Callable[[], bool] = lambda: False) -> list[float]:
    """Seconds of each call of a group: the smallest over turns, the first ones left out.

    ``late`` is asked before each turn whether it should not be begun any more; NaN where none counted by then.
    """
    now = time.perf_counter_ns
    best = [float("inf")] * len(calls)
    for turn in range(TURNS):
        if late():
            break
        for place, call in enumerate(calls):
            started = now()
            call()
            spent = now() - started
            if turn >= LEARNING and spent < best[place]:
                best[place] = spent
    return [each * 1e-9 if np.isfinite(each) else float("nan") for each in best]


def halfway(extra: dict[float, Floats]) -> tuple[float, float]:
    """Fit the share of the whole extra cost that is paid after so many bytes: ``1 / (1 + (half / bytes)^power)``.

    Parameters
    ----------
    extra
        Seconds beyond the hot time by the bytes between two calls, a row per operator; NaN where it was not timed.

    Returns
    -------
    half, power
        Bytes after which half is paid, and how steeply.
    """
    whole = extra[COLD]
    logs, odds = [], []
    for reuse, seconds in extra.items():
        seen = np.isfinite(seconds) & np.isfinite(whole) & (whole > 0)
        if reuse < COLD and seen.sum() >= 10:
            share = float(np.clip(np.median(seconds[seen] / whole[seen]), 0.02, 0.98))
            # The last stream has not seen all of the cost either; that is what the fit extends to.
            logs.append(np.log(reuse))
            odds.append(share)
    if len(logs) < 2:
        return COLD**0.5 * STREAMS[0] ** 0.5, 0.7
    powers = np.linspace(0.3, 2.0, 35)
    halves = np.geomspace(STREAMS[0] / 4, COLD, 61)
    grid = [
        (
            float(np.abs(np.array([share_paid(np.exp(x), h, p) / share_paid(COLD, h, p) for x in logs]) - odds).sum()),
            h,
            p,
        )
        for h in halves
        for p in powers
    ]
    _, half, power = min(grid)
    return float(half), float(power)


def share_paid(reuse: float, half: float, power: float) -> float:
    """Share of the extra cost that is paid after so many bytes."""
    return float(1 / (1 + (half / reuse) ** power)) if reuse > 0 else 0.0
