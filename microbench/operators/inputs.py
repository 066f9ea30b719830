"""Inputs of a model to capture: tensors, specs such as ``8x3x224x224:f32``, and whatever else a forward pass takes.

A spec is a tensor by its sizes and format (``scalar:f32`` has no dimension), ``none``, ``true``, ``false``, ``int:3``,
``float:0.5``, ``str:mean``, ``(SPEC, SPEC)``, ``[SPEC]`` or ``{key=SPEC}``; ``name=SPEC`` is a keyword argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from microbench.errors import UsageError
from microbench.records.dtypes import DTYPES
from microbench.records.dtypes import dtype as find_dtype

_TENSOR = re.compile(r"(?P<sizes>\d+(?:x\d+)*|scalar)(?::(?P<dtype>[A-Za-z0-9_.]+))?")
_NAMED = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<spec>.+)", re.DOTALL)
_WORDS: dict[str, Any] = {"none": None, "true": True, "false": False}
_PLAIN: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}
# Formats of inputs that no ceiling belongs to, by PyTorch's names.
_FURTHER = {"u8": "uint8", "i16": "int16", "c64": "complex64", "c128": "complex128"}
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_EXAMPLE = "write sizes and a format such as 8x3x224x224:f32, or name=SPEC for a keyword"

Inputs = tuple[list[Any], dict[str, Any]]


def parse_input(spec: str) -> tuple[tuple[int, ...], str]:
    """Read ``8x3x224x224:f32`` into sizes and a format.

    Raises
    ------
    UsageError
        If it is no list of sizes, or the format is not known.
    """
    match = _TENSOR.fullmatch(spec.strip())
    if match is None:
        raise UsageError(f"{spec[:60]!r} is no input; {_EXAMPLE}")
    sizes = () if match["sizes"] == "scalar" else tuple(int(size) for size in match["sizes"].split("x"))
    if not all(1 <= size <= 2**40 for size in sizes):
        raise UsageError(f"{spec[:60]!r} has a size that is not between 1 and 2^40")
    wanted = match["dtype"] or "f32"
    if wanted in _FURTHER or wanted in _FURTHER.values():
        return sizes, wanted
    try:
        return sizes, find_dtype(wanted).name
    except ValueError as error:
        raise UsageError(str(error)) from None


def stored(torch: Any, number_format: str) -> Any:
    """PyTorch's type that holds a format.

    Raises
    ------
    UsageError
        If PyTorch has none.
    """
    further = _FURTHER.get(number_format, number_format)
    name = further if further in _FURTHER.values() else DTYPES[find_dtype(number_format).name].torch
    if name is None:
        raise UsageError(f"PyTorch has no tensors of {number_format}; give another format")
    return getattr(torch, name)


def arranged(inputs: Any) -> Inputs:
    """Positional and keyword inputs from what ``capture`` was given: one, a sequence, or a mapping of keywords."""
    if isinstance(inputs, Mapping):
        return [], dict(inputs)
    listed = [inputs] if isinstance(inputs, str) or not isinstance(inputs, Sequence) else list(inputs)
    places: list[Any] = []
    names: dict[str, Any] = {}
    for item in listed:
        named = _NAMED.fullmatch(item.strip()) if isinstance(item, str) else None
        if named is None:
            places.append(item)
        elif named["name"] in names:
            raise UsageError(f"the input {named['name']} is given twice; give it once")
        else:
            names[named["name"]] = named["spec"]
    return places, names


def filled(item: Any, tensor: Callable[[Any], Any]) -> Any:
    """An input with each tensor and each spec of one made by ``tensor``: from a tensor, or from sizes and a format.

    Raises
    ------
    UsageError
        If a spec cannot be read, or the input is of a kind that no spec stands for; no value is ever printed.
    """
    if item is None or isinstance(item, bool | int | float | complex):
        return item
    if isinstance(item, str):
        return _read(item.strip(), tensor)
    if isinstance(item, Mapping):
        made = {key: filled(value, tensor) for key, value in item.items()}
        return made if type(item) is dict else type(item)(made)  # type: ignore[call-arg]
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*[filled(each, tensor) for each in item])
    if isinstance(item, list | tuple):
        return type(item)(filled(each, tensor) for each in item)
    return tensor(item)


def _read(spec: str, tensor: Callable[[Any], Any]) -> Any:
    if spec.lower() in _WORDS:
        return _WORDS[spec.lower()]
    kind, colon, value = spec.partition(":")
    if colon and kind in _PLAIN:
        try:
            return _PLAIN[kind](value)
        except ValueError:
            raise UsageError(f"{spec[:60]!r} is no {kind}; write for example {kind}:2") from None
    if spec[:1] in _BRACKETS and spec.endswith(_BRACKETS[spec[0]]):
        return _group(spec, tensor)
    return tensor(parse_input(spec))


def _group(spec: str, tensor: Callable[[Any], Any]) -> Any:
    parts = [part.strip() for part in _split(spec[1:-1]) if part.strip()]
    if spec[0] != "{":
        read = [_read(part, tensor) for part in parts]
        return read if spec[0] == "[" else tuple(read)
    named = [_NAMED.fullmatch(part) for part in parts]
    if not all(named):
        raise UsageError(f"{spec[:60]!r} is no dictionary; write {{key=SPEC, key=SPEC}}")
    return {each["name"]: _read(each["spec"].strip(), tensor) for each in named if each}


def _split(text: str) -> list[str]:
    """Parts between commas that stand in no bracket."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in _BRACKETS) - (letter in _BRACKETS.values())
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def with_batch(spec: str, batch: int) -> str:
    """The spec with another first size, where it is one of a tensor with more than one."""
    named = _NAMED.fullmatch(spec.strip())
    head, body = (f"{named['name']}=", named["spec"]) if named else ("", spec)
    return f"{head}{batch}x{body.partition('x')[2]}" if _TENSOR.fullmatch(body.strip()) and "x" in body else spec
