"""One operator with its shape: made by `op` or read by `parse`, checked, its work counted by the rule of its row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from microbench.errors import UsageError, expect
from microbench.operators.registry import (
    LARGEST_COUNT,
    OPERATORS,
    Operator,
    Shape,
    bounds_sentence,
    complete,
    find,
    largest_value,
    least_value,
    rule_of,
)
from microbench.records import Work
from microbench.records.dtypes import DTYPES
from microbench.records.dtypes import dtype as find_dtype

Launch = Literal["eager", "graph", "kernel"]
Cache = Literal["hot", "cold"]
Direction = Literal["forward", "backward"]
# The first word of each is what is meant where nothing is said.
_MODES = {"launch": ("eager", "graph", "kernel"), "cache": ("hot", "cold"), "direction": ("forward", "backward")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operator with everything that its time depends on. Made by `op`, which checks it.

    ``traffic`` is bytes read and written where the tensors hold others than shape and dtype say: several formats in one
    call, expanded tensors, one tensor handed in twice. ``None`` means what the rule counts.
    """

    name: str
    dtype: str
    params: dict[str, int]
    launch: Launch = "eager"
    cache: Cache = "hot"
    direction: Direction = "forward"
    label: str = ""
    traffic: tuple[int, int] | None = None

    @property
    def row(self) -> Operator:
        """The operator's row in the table."""
        return OPERATORS[self.name]

    @property
    def work(self) -> Work:
        """FLOP, bytes and parameters, exact."""
        return work(self)

    def __str__(self) -> str:
        said = (key for key in self.params if key not in self.row.quiet or not _is_default(self, key))
        inner = ";".join(f"{key}={self.params[key]}" for key in said)
        return f"{self.name}[{inner}].{self.dtype}" + (":backward" if self.direction == "backward" else "")


def _is_default(made: Op, key: str) -> bool:
    value = made.row.defaults[key]
    return made.params[key] == (made.params[value] if isinstance(value, str) else value)


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
    modes = {key: mode(key, params.pop(key, words[0])) for key, words in _MODES.items()}
    label = str(params.pop("label", ""))
    shape = complete(row, params)
    for key, value in shape.items():
        shape[key] = whole(row.name, key, value)
    if modes["direction"] == "backward" and row.backward is None:
        raise UsageError(f"{row.name} has no backward pass; leave direction at forward")
    made = Op(name=row.name, dtype=number_format, params=dict(shape), label=label, **modes)
    work(made)
    return made


def mode(key: str, value: object) -> Any:
    """Check a launch mode, cache state or direction.

    Raises
    ------
    UsageError
        If it is none of the known words.
    """
    if not isinstance(value, str) or value not in _MODES[key]:
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
    read, written = made.traffic or (
        (tally.read * bits + 7) // 8 + tally.index_bytes,
        (tally.written * bits + 7) // 8,
    )
    counted = Work(
        flop=tally.flop,
        bytes_read=read,
        bytes_written=written,
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
    expect("the operator", expression, str, "an expression such as matmul:m=1024,n=512,k=64,dtype=f32")
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
