"""A captured model at other batch sizes, from two captures: every size of an operator is constant or grows with it.

Memory is drawn on in a straight line likewise; its peak may be another moment's at another batch.

Sizes that two batches cannot tell (a square of the batch, a remainder, other operators) leave the model uncaptured at a
third one, to be captured there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from microbench.errors import UsageError
from microbench.operators.core import Op, op
from microbench.operators.graph import Graph, Step

Point = tuple[int, int]


def at_batch(captures: Sequence[Graph], batch: int) -> Graph | None:
    """A model at a batch size, from its captures at two others; ``None`` where these do not tell it."""
    one, other = captures
    same = len(one.steps) == len(other.steps) and one.batch != other.batch and one.unknown == other.unknown
    if not same:
        return None
    batches = (one.batch, other.batch)
    steps = []
    for first, second in zip(one.steps, other.steps, strict=True):
        made = _step((first, second), batches, batch)
        if made is None:
            return None
        steps.append(made)
    peak = _between((one.peak_bytes, other.peak_bytes), batches, batch)
    mean = _between((one.mean_bytes, other.mean_bytes), batches, batch)
    if peak is None or mean is None or one.parameter_bytes != other.parameter_bytes:
        return None
    return replace(
        one,
        steps=tuple(steps),
        batch=batch,
        peak_bytes=round(peak),
        mean_bytes=mean,
        allocations=_allocations((one.allocations, other.allocations), batches, batch),
    )


def _allocations(pair: tuple[tuple[int, ...], tuple[int, ...]], batches: Point, batch: int) -> tuple[int, ...]:
    """Blocks at a batch size; none where the two captures do not make and give back the same ones."""
    one, other = pair
    kept = [min(0, each) for each in one] == [min(0, each) for each in other]
    sizes = [_between(each, batches, batch) if each[0] > 0 else each[0] for each in zip(one, other, strict=False)]
    return tuple(round(each) for each in sizes if each is not None) if kept and None not in sizes else ()


def _between(values: tuple[float, float], batches: Point, batch: int) -> float | None:
    """A value that is a constant and a multiple of the batch; ``None`` where the constant would be negative."""
    slope = (values[1] - values[0]) / (batches[1] - batches[0])
    constant = values[0] - slope * batches[0]
    return constant + slope * batch if min(slope, constant) >= 0 else None


def _step(pair: tuple[Step, Step], batches: Point, batch: int) -> Step | None:
    one, other = (each.op for each in pair)
    alike = (one.name, one.dtype, one.direction, tuple(one.params)) == (
        other.name,
        other.dtype,
        other.direction,
        tuple(other.params),
    )
    if not alike:
        return None
    if one == other:
        return pair[0]
    sizes = {key: _between((one.params[key], other.params[key]), batches, batch) for key in one.params}
    held = one.traffic or other.traffic
    moved = [_between(each, batches, batch) for each in zip(_bytes(one), _bytes(other), strict=True)] if held else []
    if any(each is None or each != int(each) for each in (*sizes.values(), *moved)):
        return None
    made = _made(one, {key: int(size or 0) for key, size in sizes.items()})
    if made is None:
        return None
    traffic = (int(moved[0] or 0), int(moved[1] or 0)) if held else None
    return replace(pair[0], op=replace(made, traffic=traffic))


def _bytes(made: Op) -> Point:
    return made.work.bytes_read, made.work.bytes_written


def _made(like: Op, sizes: dict[str, int]) -> Op | None:
    try:
        return op(like.name, dtype=like.dtype, direction=like.direction, label=like.label, **sizes)
    except UsageError:
        return None
