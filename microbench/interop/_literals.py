"""Tables of literals in Python files, read from the syntax tree: no code runs, no literal grows beyond a table."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable
from typing import Any

_MAX_NODES = 200_000


class _Unreadable(ValueError):
    pass


def read(content: str) -> dict[str, Any]:
    """Read the assignments of literals in a Python file; nothing of it is run.

    Raises
    ------
    ValueError, SyntaxError, RecursionError, MemoryError
        If it is no Python, has too much of it, or no such assignment.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of the file's author, not of ours
        warnings.simplefilter("ignore", DeprecationWarning)
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
