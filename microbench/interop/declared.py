"""Hardware numbers that files of other tools declare: turned into SI, their place kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from microbench.errors import UsageError

# "other" is a number whose key means nothing to the reader.
Quantity = Literal["compute", "bandwidth", "capacity", "link", "other"]
# Between cards (NVLink, or PCIe where there is none), or PCIe itself.
Link = Literal["between", "pcie"]
Keys = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One number that a file declares about a device, in FLOP/s, byte/s or bytes.

    ``where`` names the place in the file, ``keys`` is the path of keys there, ``stated`` the number and unit as
    written. ``also`` are other dtypes that the key may mean, ``vector`` whether it is a rate of the vector unit.
    ``link`` says which link, of which the file gives the byte/s of one device in one direction.
    """

    device: str
    quantity: Quantity
    value: float
    where: str
    stated: str
    dtype: str | None = None
    keys: Keys = ()
    also: tuple[str, ...] = ()
    vector: bool = False
    link: Link | None = None


def number(value: object, where: str) -> float:
    """Read a positive finite number.

    Raises
    ------
    UsageError
        If it is text, a truth value, negative, zero, not finite, or of no magnitude that a rate or size has.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"{where} is {_short(value)}; a number is needed there")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not (0 < result < math.inf):
        raise UsageError(f"{where} is {_short(value)}; a rate or size is positive and finite")
    if not 1e-30 < result < 1e30:
        raise UsageError(f"{where} is {_short(value)}; no rate or size is that {'small' if result < 1 else 'large'}")
    return result


def text(value: object, where: str) -> str:
    """Read a non-empty name.

    Raises
    ------
    UsageError
        If it is anything else.
    """
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where} is {_short(value)}; a name is needed there")
    return value


def table(value: object, where: str) -> dict[str, Any]:
    """Read a mapping.

    Raises
    ------
    UsageError
        If it is anything else.
    """
    if not isinstance(value, dict):
        raise UsageError(f"{where} is {_short(value)}; a table of keys is needed there")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One number of a format: its key, what it is (see `Declared`), and ``scale``, the format's unit in SI.

    A ``note`` is written after the unit.
    """

    key: str
    quantity: Quantity
    scale: float
    unit: str
    dtype: str | None = None
    also: tuple[str, ...] = ()
    vector: bool = False
    link: Link | None = None
    note: str = ""


def declare(field: Field, value: object, device: str, keys: Iterable[str], where: str = "") -> Declared:
    """One declared number; ``keys`` is its path in the document, and ``where`` what it is called, if not that.

    Raises
    ------
    UsageError
        If the value is no positive finite number.
    """
    path = tuple(keys)
    where = where or ".".join(path)
    stated = number(value, where)
    return Declared(
        device=device,
        quantity=field.quantity,
        value=stated * field.scale,
        where=where,
        stated=f"{stated:g} {field.unit}{field.note}",
        dtype=field.dtype,
        keys=path,
        also=field.also,
        vector=field.vector,
        link=field.link,
    )


def fields_of(entry: Mapping[str, Any], fields: Iterable[Field], device: str, keys: Iterable[str]) -> list[Declared]:
    """The numbers of a flat table, as far as it has these fields.

    Raises
    ------
    UsageError
        If one of them is no number.
    """
    path = tuple(keys)
    return [
        declare(field, entry[field.key], device, (*path, field.key))
        for field in fields
        if entry.get(field.key) is not None
    ]


def devices_of(document: Any, section: str, fields: Iterable[Field]) -> list[Declared] | None:
    """Read a mapping of devices to flat entries; ``None`` where the document has no such section.

    Raises
    ------
    UsageError
        If an entry is no table, or one of its fields no number.
    """
    if not (isinstance(document, dict) and isinstance(document.get(section), dict)):
        return None
    wanted = tuple(fields)
    return [
        row
        for device, entry in document[section].items()
        for row in fields_of(table(entry, f"{section}.{device}"), wanted, str(device), (section, str(device)))
    ]


def numbers_in(document: Any) -> Iterator[tuple[Keys, float | int | None, int]]:
    """Every number of a document: its path of keys, its value, and 1; of a list the path, ``None`` and how many.

    A list of numbers, such as a curve, is one entry: nothing in it is a figure of its own.
    """
    waiting: list[tuple[Keys, Any]] = [((), document)]
    while waiting:
        keys, value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(((*keys, str(key)), inner) for key, inner in reversed(value.items()))
        elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
            waiting.extend(((*keys, str(place)), inner) for place, inner in reversed(list(enumerate(value))))
        elif isinstance(value, list):
            count = _counted(value)
            if count:
                yield keys, None, count
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield keys, value, 1


def _counted(value: list[Any]) -> int:
    count, waiting = 0, [value]
    while waiting:
        for inner in waiting.pop():
            if isinstance(inner, list):
                waiting.append(inner)
            else:
                count += isinstance(inner, (int, float)) and not isinstance(inner, bool)
    return count


def _short(value: object) -> str:
    try:
        shown = repr(value)
    except (ValueError, RecursionError):  # an integer beyond the digit limit, or a table that contains itself
        shown = f"a very large {type(value).__name__}"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
