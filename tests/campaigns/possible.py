"""Whether a machine could have what a file says, told by the names of the fields and not by the code under test."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

# By a field's name, or by its end where that begins with "_": least and greatest, 0 apart where the third says so.
_RULES = (
    ("_hz", 1e2, 1e14, False),
    ("_share", 0.0, 1.0, True),
    ("confidence", 1e-9, 1 - 1e-9, False),
    ("_bytes", 1, 2**61, True),
    ("_w", 1e-7, 1e10, False),
    ("_s", 1e-18, 1e10, True),
    ("ns", 1, 1e19, True),
    ("_ns", 1, 1e19, True),
    ("threads", 1, 1e10, False),
    ("rounds", 1, 1e10, False),
    ("count", 1, 1e19, False),
)
_SIGNED = ("residual", "models", "points", "seed", "facts", "numa", "params")


def impossible(record: object, path: str = "") -> Iterator[str]:
    """What in a record no machine has: a sentence each."""
    if isinstance(record, bool) or record is None:
        return
    if isinstance(record, (int, float)):
        yield from _number(record, path)
    elif dataclasses.is_dataclass(record):
        yield from _record(record, path)
    elif isinstance(record, dict):
        for key, value in record.items():
            yield from impossible(
                value, f"{path}.{key}" if path.rpartition(".")[2] not in ("facts", "params") else path
            )
    elif isinstance(record, (tuple, list)):
        for value in record:
            yield from impossible(value, path)


def _number(value: float, path: str) -> Iterator[str]:
    if "facts" in path.split("."):
        return
    try:
        plain = float(value)
    except OverflowError:
        plain = math.inf
    words = path.split(".")
    signed = any(word in part for part in words for word in _SIGNED)
    # What may be negative is the logarithm of a ratio or a coordinate: nothing is divided by it.
    if not math.isfinite(plain) or abs(plain) > 1e45 or (plain and not signed and abs(plain) < 1e-45):
        yield f"{path} is {plain}"
        return
    if plain < 0 and not signed:
        yield f"{path} is {plain}"
    for ending, least, most, zero in _RULES:
        if any(part == ending or (ending[0] == "_" and part.endswith(ending)) for part in words[-2:]) and not any(
            word in path for word in _SIGNED
        ):
            if not (least <= plain <= most or (zero and plain == 0)):
                yield f"{path} is {plain}"
            return


def _record(record: Any, path: str) -> Iterator[str]:
    name = type(record).__name__
    if name == "Samples" and (record.count < len(record.ns) or record.throttled > record.count):
        yield f"{path}: {record.count} samples, {len(record.ns)} kept, {record.throttled} throttled"
    if name == "Estimate" and not record.low <= record.value <= record.high:
        yield f"{path}: {record.low} {record.value} {record.high}"
    if name == "OperatorFit" and record.points:
        if len({len(point) for point in record.points}) > 1:
            yield f"{path}: ragged points"
        if not {"amplitude", "noise", "apart"} <= record.correction.keys():
            yield f"{path}: points without a correction"
    if name == "Case" and not isinstance(record.params.get("working_set", 1), int):
        yield f"{path}: working set {record.params['working_set']!r}"
    for field in dataclasses.fields(record):
        yield from impossible(getattr(record, field.name), f"{path}.{field.name}" if path else field.name)
