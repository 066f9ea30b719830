"""What an operator is: a name, its keys with defaults, and a rule that counts work from shapes alone.

A rule is plain integer arithmetic on ``shape.key``, so that the same few lines count one operator exactly (Python
integers) and a million of them at once (int64 arrays). Nothing here runs an operator.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from microbench.errors import UsageError
from microbench.records import Work
from microbench.records.dtypes import DTYPES
from microbench.records.dtypes import dtype as find_dtype

Launch = Literal["eager", "graph", "kernel"]
Cache = Literal["hot", "cold"]
Direction = Literal["forward", "backward"]

# Largest size of one dimension, and largest count of FLOP or bytes of one operator: beyond it int64 columns would wrap.
LARGEST_SIZE = 2**48
LARGEST_COUNT = 2**63 - 1
INDEX_BYTES = 8

# Keys that may be zero: all others are sizes, at least 1.
_MAY_BE_ZERO = frozenset({"pad", "causal", "bias", "train", "flop", "reads", "writes"})
_FLAGS = frozenset({"causal", "bias", "train"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What a rule counts: FLOP, elements read and written, parameters, and bytes of indices (which have their own dtype)."""

    flop: Any = 0
    read: Any = 0
    written: Any = 0
    parameters: Any = 0
    index_bytes: Any = 0


Rule = Callable[[Any], Tally]
Check = Callable[[Any], tuple[tuple[Any, str], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One row of the operator table.

    Parameters
    ----------
    name, family
        The operator and the family whose calibration it shares.
    keys
        Parameters in the order in which they are written.
    defaults
        Value of a missing key: a number, or the name of the key whose value it takes.
    forward, backward
        Rules that count the work; ``backward`` is ``None`` where nothing can be differentiated.
    gemm
        The operator as a batched matrix product ``(batch, m, n, k)``, where it is one.
    rows
        The operator as ``(rows, cols)``, where it works along rows.
    check
        What must hold between sizes: pairs of (fault, what is wrong).
    """

    name: str
    family: str
    keys: tuple[str, ...]
    says: str
    forward: Rule
    backward: Rule | None = None
    defaults: dict[str, int | str] = field(default_factory=dict)
    gemm: Callable[[Any], tuple[Any, Any, Any, Any]] | None = None
    rows: Callable[[Any], tuple[Any, Any]] | None = None
    check: Check | None = None


OPERATORS: dict[str, Operator] = {}


def add(row: Operator) -> None:
    """Put a row into the table; the row proves itself at import."""
    if row.name in OPERATORS:
        raise ValueError(f"two operators are named {row.name}")
    unknown = [key for key in row.defaults if key not in row.keys]
    if unknown:
        raise ValueError(f"operator {row.name}: defaults for unknown keys {unknown}")
    OPERATORS[row.name] = row


def operator(name: str, keys: str, family: str, **facts: Any) -> Callable[[Rule], Rule]:
    """Register the decorated function as the forward rule of an operator; its docstring says what it does."""

    def register(rule: Rule) -> Rule:
        says = (rule.__doc__ or name).strip().splitlines()[0]
        add(Operator(name=name, family=family, keys=tuple(keys.split()), says=says, forward=rule, **facts))
        return rule

    return register


def find(name: str) -> Operator:
    """Look an operator up.

    Raises
    ------
    UsageError
        If there is none of that name; the nearest spellings are named.
    """
    row = OPERATORS.get(name)
    if row is None:
        near = difflib.get_close_matches(name, OPERATORS, n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; 'microbench list operators' shows all."
        raise UsageError(f"unknown operator {name[:60]!r}{hint}")
    return row


class Shape(dict[str, Any]):
    """Sizes by name, read as attributes: ``shape.m``."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def complete(row: Operator, given: Mapping[str, Any]) -> Shape:
    """Fill in defaults, in the order of ``row.keys``.

    Raises
    ------
    UsageError
        If a key is unknown or one without a default is missing.
    """
    unknown = [key for key in given if key not in row.keys]
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), row.keys, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"{row.name} has no key {str(unknown[0])[:40]!r}; it takes {' '.join(row.keys)}{hint}")
    shape = Shape()
    for key in row.keys:
        value = given.get(key, row.defaults.get(key))
        if value is None:
            raise UsageError(f"{row.name} needs {key}; it takes {' '.join(row.keys)}")
        shape[key] = shape[value] if isinstance(value, str) else value
    return shape


def least_value(key: str) -> int:
    """Smallest value that a key may have."""
    return 0 if key in _MAY_BE_ZERO else 1


def largest_value(key: str) -> int:
    """Largest value that a key may have."""
    return 1 if key in _FLAGS else LARGEST_SIZE


def bounds_sentence(key: str) -> str:
    """Say what a key's value must be."""
    return "it is 0 or 1" if key in _FLAGS else f"it is a whole number from {least_value(key)} to 2^48"


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operator with everything that its time depends on. Made by `op`, which checks it."""

    name: str
    dtype: str
    params: dict[str, int]
    launch: Launch = "eager"
    cache: Cache = "hot"
    direction: Direction = "forward"
    label: str = ""

    @property
    def row(self) -> Operator:
        """The operator's row in the table."""
        return OPERATORS[self.name]

    @property
    def work(self) -> Work:
        """FLOP, bytes and parameters, exact."""
        return work(self)

    def __str__(self) -> str:
        inner = ";".join(f"{key}={value}" for key, value in self.params.items())
        return f"{self.name}[{inner}].{self.dtype}" + (":backward" if self.direction == "backward" else "")


def op(name: str, /, dtype: str = "f32", **params: Any) -> Op:
    """Describe one operator by its shape.

    Parameters
    ----------
    name
        A name of ``microbench list operators``.
    dtype
        Number format of all tensors.
    **params
        Sizes by key; also ``launch`` (eager, graph, kernel), ``cache`` (hot, cold) and ``direction`` (forward,
        backward).

    Raises
    ------
    UsageError
        If the name, a key or a value is wrong; the sentence says which.

    Examples
    --------
    >>> op("matmul", m=8, n=8, k=8, dtype="f32").work.flop
    1024
    """
    row = find(name)
    try:
        number_format = find_dtype(str(dtype)).name
    except ValueError as error:
        raise UsageError(str(error)) from None
    modes = {
        key: mode(key, params.pop(key, default))
        for key, default in (("launch", "eager"), ("cache", "hot"), ("direction", "forward"))
    }
    label = str(params.pop("label", ""))
    shape = complete(row, params)
    for key, value in shape.items():
        shape[key] = whole(row.name, key, value)
    if modes["direction"] == "backward" and row.backward is None:
        raise UsageError(f"{row.name} has no backward pass; leave direction at forward")
    made = Op(name=row.name, dtype=number_format, params=dict(shape), label=label, **modes)
    work(made)
    return made


_MODES = {"launch": ("eager", "graph", "kernel"), "cache": ("hot", "cold"), "direction": ("forward", "backward")}


def mode(key: str, value: object) -> Any:
    """Check a launch mode, cache state or direction.

    Raises
    ------
    UsageError
        If it is none of the known words.
    """
    if value not in _MODES[key]:
        raise UsageError(
            f"{'pass' if key == 'direction' else key} is {str(value)[:40]!r}; it is one of {', '.join(_MODES[key])}"
        )
    return value


def whole(name: str, key: str, value: object) -> int:
    """Check the value of a key and return it as an integer.

    Raises
    ------
    UsageError
        If it is no whole number or out of bounds.
    """
    number = value
    if isinstance(number, np.integer):
        number = int(number)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, bool):
        number = int(number)
    if not isinstance(number, int) or not least_value(key) <= number <= largest_value(key):
        raise UsageError(f"{name}: {key} is {str(value)[:40]}; {bounds_sentence(key)}")
    return number


def rule_of(row: Operator, direction: str) -> Rule:
    """Find the rule that counts the work of a pass.

    Raises
    ------
    UsageError
        If the operator has no backward pass.
    """
    rule = row.forward if direction == "forward" else row.backward
    if rule is None:
        raise UsageError(f"{row.name} has no backward pass; leave direction at forward")
    return rule


def work(made: Op) -> Work:
    """Count one operator exactly.

    Raises
    ------
    UsageError
        If its sizes contradict each other or the counts leave 63 bits.
    """
    row, shape = made.row, Shape(made.params)
    for fault, says in row.check(shape) if row.check else ():
        if fault:
            raise UsageError(f"{made}: {says}")
    tally = rule_of(row, made.direction)(shape)
    bits = DTYPES[made.dtype].bits
    counted = Work(
        flop=tally.flop,
        bytes_read=(tally.read * bits + 7) // 8 + tally.index_bytes,
        bytes_written=(tally.written * bits + 7) // 8,
        parameters=tally.parameters,
    )
    if max(counted.flop, counted.bytes) > LARGEST_COUNT:
        raise UsageError(f"{made} does more than 2^63 FLOP or bytes; ask for smaller sizes")
    return counted


_PRINTED = re.compile(r"(\w+)\s*[\[(]([^\[\]()]*)[\])](?:\.(\w+))?")


def parse(expression: str, default_dtype: str = "f32") -> Op:
    """Read an operator expression.

    Parameters
    ----------
    expression
        ``name:key=value,key=value``, where dtype, launch, cache and pass are keys as well; ``;`` and blanks separate
        too. What an ``Op`` prints, ``name[key=value].dtype``, is read as well, and so are round brackets.

    Raises
    ------
    UsageError
        If it cannot be read.

    Examples
    --------
    >>> str(parse("matmul:m=8,n=8,k=8,dtype=bf16"))
    'matmul[m=8;n=8;k=8].bf16'
    """
    printed = _PRINTED.fullmatch(expression.strip())
    name, rest = (printed[1], printed[2]) if printed else expression.strip().partition(":")[::2]
    given: dict[str, Any] = {"dtype": (printed and printed[3]) or default_dtype}
    seen: set[str] = set()
    for item in re.sub(r"\s*=\s*", "=", rest).replace(",", ";").replace(" ", ";").split(";"):
        if not item:
            continue
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(
                f"{item[:40]!r} in {expression[:80]!r} is not key=value; write for example "
                "matmul:m=1024,n=512,k=64,dtype=f32"
            )
        key = "direction" if key == "pass" else key
        if key in seen:
            raise UsageError(f"{key} is given twice in {expression[:80]!r}; give it once")
        seen.add(key)
        given[key] = value if key in ("dtype", "launch", "cache", "direction") else number(name, key, value)
    return op(name, **given)


def number(name: str, key: str, text: str) -> int:
    """Read one size.

    Raises
    ------
    UsageError
        If the text is no whole number.
    """
    if text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    raise UsageError(f"{name[:60]}: {key[:40]} is {text[:40]!r}; {bounds_sentence(key)}")
