"""Hardware numbers that files of other tools declare: parsed without running code, turned into SI, their place kept."""

from __future__ import annotations

import ast
import json
import math
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from microbench.errors import UsageError

# A table of hardware numbers is a few kilobytes; anything near this is something else.
MAX_BYTES = 4_000_000
_MAX_NODES = 200_000

Quantity = Literal["compute", "bandwidth", "capacity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One number that a file declares about a device, in FLOP/s, byte/s or bytes.

    ``where`` is the path of keys in the file, ``stated`` the number and unit as written there.
    """

    device: str
    quantity: Quantity
    value: float
    where: str
    stated: str
    dtype: str | None = None


def number(value: object, where: str) -> float:
    """Read a positive finite number.

    Raises
    ------
    UsageError
        If it is text, a truth value, negative, zero, not finite or too large for a float.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"{where} is {_short(value)}; a number is needed there")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not (0 < result < math.inf):
        raise UsageError(f"{where} is {_short(value)}; a rate or size is positive and finite")
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
    """One number of a format: its key, the quantity, and ``scale``, the format's unit in SI."""

    key: str
    quantity: Quantity
    scale: float
    unit: str
    dtype: str | None = None


def devices_of(document: Any, section: str, fields: Iterable[Field]) -> list[Declared] | None:
    """Read a mapping of devices to flat entries; ``None`` where the document has no such section.

    Raises
    ------
    UsageError
        If an entry is no table, or one of its fields no number.
    """
    if not (isinstance(document, dict) and isinstance(document.get(section), dict)):
        return None
    found = []
    wanted = tuple(fields)
    for device, entry in document[section].items():
        row = table(entry, f"{section}.{device}")
        for field in wanted:
            if field.key in row:
                value = number(row[field.key], f"{device}.{field.key}")
                where, stated = f"{section}.{device}.{field.key}", f"{value:g} {field.unit}"
                si = value * field.scale
                found.append(
                    Declared(
                        device=str(device),
                        quantity=field.quantity,
                        value=si,
                        where=where,
                        stated=stated,
                        dtype=field.dtype,
                    )
                )
    return found


def _short(value: object) -> str:
    try:
        shown = repr(value)
    except (ValueError, RecursionError):  # an integer beyond the digit limit, or a table that contains itself
        shown = f"a very large {type(value).__name__}"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def read_document(path: str | Path) -> Any:
    """Parse a JSON, YAML, TOML or Python file into plain values; Python is read as literals and never run.

    Raises
    ------
    UsageError
        If the file cannot be read or parsed.
    """
    path = Path(path)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # it might never end, or never begin
            raise UsageError(
                f"{path} is not a regular file; give a JSON, YAML, TOML or Python file of hardware numbers"
            )
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UsageError(f"{path} has {size} bytes; a file of hardware numbers has at most {MAX_BYTES}")
        content = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}; give the file of declared numbers") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"{path} is not UTF-8 text: {error}; give a JSON, YAML, TOML or Python file") from None
    return parse(content, path.suffix.lower(), str(path))


def parse(content: str, suffix: str, name: str) -> Any:
    """Parse text by its suffix; without a known suffix each format is tried in turn.

    Raises
    ------
    UsageError
        If no parser takes it.
    """
    known = {".json": (_json,), ".yaml": (_yaml,), ".yml": (_yaml,), ".toml": (_toml,), ".py": (_python,)}
    parsers: tuple[Callable[[str], Any], ...] = known.get(suffix, (_json, _toml, _python, _yaml))
    reason = "it is empty"
    for parser in parsers if content.strip() else ():
        try:
            return parser(content)
        except RecursionError:
            reason = "it is nested too deeply"
        except (ValueError, SyntaxError, MemoryError, OverflowError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise UsageError(f"{name} cannot be read: {reason}; give a JSON, YAML, TOML or Python file of hardware numbers")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice in one table")
        found[key] = value
    return found


def _json(content: str) -> Any:
    return json.loads(content, object_pairs_hook=_unique)


def _toml(content: str) -> Any:
    return tomllib.loads(content)


def _yaml(content: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except (AttributeError, TypeError, KeyError, IndexError) as error:  # constructors that trip over odd tags
        raise ValueError(f"the YAML has a value that cannot be built: {error}") from None


class _Unreadable(ValueError):
    pass


def _python(content: str) -> dict[str, Any]:
    tree = ast.parse(content)
    if sum(1 for _ in ast.walk(tree)) > _MAX_NODES:
        raise ValueError("it has more than a table's worth of code")
    found: dict[str, Any] = {}
    for statement in ast.walk(tree):
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                try:
                    found[name] = _literal(value)
                except (_Unreadable, ArithmeticError):
                    continue  # not a table of literals: not ours
            case _:
                continue
    if not found:
        raise ValueError("no assignment of literals stands in it")
    return found


_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


def _literal(node: ast.expr) -> Any:
    """Evaluate literals, arithmetic on numbers, ``torch.float16`` as its name and ``Name(key=value)`` as a table."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Dict(keys=keys, values=values):
            return _dict([(key, value) for key, value in zip(keys, values, strict=True) if key is not None])
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item) for item in items]
        case ast.Attribute(attr=attribute):
            return attribute
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_numeric(_literal(operand))
        case ast.BinOp(left=left, op=operator, right=right):
            return _arithmetic(operator, _literal(left), _literal(right))
        case ast.Call(keywords=keywords, args=[]) if keywords:
            return {keyword.arg: _literal(keyword.value) for keyword in keywords if keyword.arg}
        case ast.Call(func=ast.Name(id=name), args=args):
            return {"call": name, "args": [_literal(argument) for argument in args]}
        case _:
            raise _Unreadable(ast.dump(node)[:80])


def _dict(items: list[tuple[ast.expr, ast.expr]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in items:
        name = _literal(key)
        if not isinstance(name, (str, int, float)):
            raise _Unreadable("a key is no name")
        found[str(name)] = _literal(value)
    return found


def _numeric(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Unreadable("arithmetic on something that is no number")
    return value


def _arithmetic(operator: ast.operator, left: object, right: object) -> Any:
    function = _OPERATORS.get(type(operator))
    if type(operator) is ast.Pow:
        base, power = _numeric(left), _numeric(right)
        if abs(power) > 64 or abs(base) > 1e6:  # 10**12 is a unit, 9**9**9 is a bomb
            raise _Unreadable("a power beyond any unit")
        return base**power
    if function is None:
        raise _Unreadable("an operator that no table needs")
    result = function(_numeric(left), _numeric(right))
    if abs(result) > 1e30:  # beyond any rate; a chain of products would grow without end
        raise _Unreadable("a number beyond any rate")
    return result
