"""Records as JSON and back; nothing else in the project knows how a file spells them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import msgspec

from microbench.records import Characterisation, Samples, Session

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = "1.3"

# Names in the file that differ from the records': those that files of schema 1 have always had.
_STORED_SHEET = {"frequency_license": "licence", "reference_clock": "companion"}
_STORED_SAMPLES = {"reference_ns": "companion_ns", "reference_iterations": "companion_iterations"}
_READ_SHEET = {stored: name for name, stored in _STORED_SHEET.items()}
_READ_SAMPLES = {stored: name for name, stored in _STORED_SAMPLES.items()}

_FIELDS = tuple((field.name, _STORED_SAMPLES.get(field.name, field.name), field.default) for field in fields(Samples))


def _builtin(value: object) -> object:
    """Turn a numpy scalar into Python's own number, without importing numpy."""
    item = getattr(value, "item", None)
    if callable(item):
        return item()
    raise TypeError(f"a record holds a {type(value).__name__}, which JSON cannot")


def _samples_row(samples: Samples) -> dict[str, Any]:
    """Samples as a JSON object without the fields that equal their default: a file holds thousands of them."""
    return {
        stored: value
        for name, stored, default in _FIELDS
        if (value := getattr(samples, name)) is not default and value != default
    }


def encode(characterisation: Characterisation) -> bytes:
    """Encode a characterisation as it is, however large."""
    tree = msgspec.to_builtins(replace(characterisation, schema=SCHEMA, samples=()), enc_hook=_builtin)
    tree["sheets"] = [_renamed(sheet, _STORED_SHEET) for sheet in tree["sheets"]]
    tree["samples"] = [_samples_row(samples) for samples in characterisation.samples]
    return msgspec.json.encode(tree, enc_hook=_builtin)


def encode_samples(samples: Samples) -> bytes:
    """Encode the samples of one case in one round: a line of a journal."""
    return msgspec.json.encode(_samples_row(samples), enc_hook=_builtin)


def encode_session(session: Session) -> bytes:
    """Encode the conditions under which a run was resumed: a line of a journal."""
    return msgspec.json.encode({"session": session}, enc_hook=_builtin)


class SessionLine(msgspec.Struct, forbid_unknown_fields=True):
    """A line of a journal that holds the conditions of a session."""

    session: Session


def _renamed(row: Any, names: Mapping[str, str]) -> Any:
    """A JSON object with some of its keys renamed; anything else is passed on, for the decoder to refuse."""
    return {names.get(key, key): value for key, value in row.items()} if isinstance(row, dict) else row


def _from_stored(tree: Any, kind: type[Any]) -> Any:
    """Give the keys of a file the names that the records have now."""
    if kind is Samples:
        return _renamed(tree, _READ_SAMPLES)
    if kind is Characterisation and isinstance(tree, dict):
        for part, names in (("sheets", _READ_SHEET), ("samples", _READ_SAMPLES)):
            if isinstance(tree.get(part), list):
                tree[part] = [_renamed(row, names) for row in tree[part]]
    return tree


def decode(data: bytes, kind: type[Any], *, unique: bool = True) -> Any:
    """Decode a record of the given class; objects that have a key twice are refused, unless told otherwise.

    Raises
    ------
    msgspec.MsgspecError
        If the data is not JSON, or not such a record.
    """
    try:
        tree = msgspec.json.decode(data)
        if unique:
            json.loads(data, object_pairs_hook=_no_key_twice)
        return msgspec.convert(_from_stored(tree, kind), kind)
    except (OverflowError, RecursionError) as error:  # an integer of 400 digits; brackets nested a thousand deep
        raise msgspec.ValidationError(str(error)) from error


def _no_key_twice(pairs: list[tuple[str, Any]]) -> None:
    """Refuse an object that has a key twice: which of the two is meant, nobody knows."""
    if len(dict(pairs)) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise msgspec.ValidationError(f"the key {twice[:60]!r} stands twice in one object")
