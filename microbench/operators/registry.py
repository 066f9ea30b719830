"""The operator table: what one row holds, and how a file of this folder puts a row into it.

A rule is plain integer arithmetic on ``shape.key``, so that the same few lines count one operator exactly (Python
integers) and a million of them at once (int64 arrays). Nothing here runs an operator.

FLOP: an FMA is 2, every other arithmetic or transcendental operation (also a comparison) is 1. A bias is where an
accumulator starts and adds nothing. Bytes are compulsory: each input element once, each element of the result once, no
intermediate. What a forward pass keeps for its backward pass beside the result (statistics of rows, places of maxima)
is read by the backward rule; the forward rule does not count it as written, because inference need not write it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from microbench.errors import UsageError, expect

# Largest size of one dimension, and largest count of FLOP or bytes of one operator: beyond it int64 columns would wrap.
LARGEST_SIZE = 2**48
LARGEST_COUNT = 2**63 - 1
INDEX_BYTES = 8
# Vector units and tensor cores load 16 elements at a time at most: a size that is no multiple leaves lanes or copies
# behind.
ALIGNMENT = 16

# Keys that may be zero: all others are sizes, at least 1.
_FLAGS = frozenset({"causal", "bias", "train", "weight", "ceil", "grad_input", "grad_weight", "channels_last"})
_PADS = {f"{name}{axis}" for name in ("pad", "out_pad") for axis in ("", "_h", "_w")}
_MAY_BE_ZERO = _FLAGS | _PADS | {"flop", "reads", "writes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What a rule counts: FLOP, elements read and written, parameters, and bytes of indices (of their own dtype)."""

    flop: Any = 0
    read: Any = 0
    written: Any = 0
    parameters: Any = 0
    index_bytes: Any = 0


class Shape(dict[str, Any]):
    """Sizes by name, read as attributes: ``shape.m``."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


Rule = Callable[[Any], Tally]
Faults = tuple[tuple[Any, str], ...]
# Inputs of a torch call and the call itself, from torch, a shape and a maker of random tensors.
TorchCall = Callable[[Any, Any, Callable[..., Any]], tuple[tuple[Any, ...], Callable[..., Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One row of the operator table: everything that is known of an operator, aten names and draws apart.

    Parameters
    ----------
    name, family, says
        The operator, the family whose calibration it shares, and what it does in one line.
    keys
        Parameters in the order in which they are written.
    example
        A small shape, for tests and for whoever asks what a shape looks like.
    defaults
        Value of a missing key: a number, or the name of the key whose value it takes.
    forward, backward
        Rules that count the work.
    check
        What must hold between sizes: pairs of (fault, what is wrong).
    call
        PyTorch's call: its inputs and a function of them. Torch is handed in, so that no file here imports it.
    quiet
        Keys with a default that are printed only where they differ from it.
    widths
        Keys that are a width of a model or proportional to one; of a product that of its input, then of its output.
    takes_index
        Whether the input is an index or a state, so that it fixes no input width of what follows.
    gemm
        The operator as a batched matrix product ``(batch, m, n, k)``, where it is one.
    rows
        The operator as ``(rows, cols)``, where it works along rows.
    variants
        Separate kernels of a library inside the operator, from the shape and the product inside: (name, which rows).
        A later one wins.
    coordinates
        Columns in which near shapes cost alike, where those of ``gemm`` or ``rows`` do not say it.
    winograd
        Where Winograd's algorithm applies, its image tiles of 4 x 4 and of 2 x 2 outputs, c_out and c_in.
    scratch
        Elements of each block that a library takes while it works and gives back.
    without
        Parts that the operator does without, each with the reason: backward, aten, aten backward, call, draws.
    """

    name: str
    family: str
    keys: tuple[str, ...]
    says: str
    forward: Rule
    example: dict[str, int] = field(default_factory=dict)
    backward: Rule | None = None
    defaults: dict[str, int | str] = field(default_factory=dict)
    check: Callable[[Any], Faults] | None = None
    call: TorchCall | None = None
    quiet: tuple[str, ...] = ()
    widths: tuple[str, ...] | None = None
    takes_index: bool = False
    gemm: Callable[[Any], tuple[Any, Any, Any, Any]] | None = None
    rows: Callable[[Any], tuple[Any, Any]] | None = None
    variants: Callable[[Any, Any], tuple[tuple[str, Any], ...]] | None = None
    coordinates: Callable[[Any, Any], list[Any]] | None = None
    winograd: Callable[[Any], tuple[Any, ...]] | None = None
    scratch: Callable[[Any], tuple[Any, ...]] | None = None
    without: dict[str, str] = field(default_factory=dict)


OPERATORS: dict[str, Operator] = {}


def add(row: Operator) -> None:
    """Put a row into the table; the row proves itself at import."""
    if row.name in OPERATORS:
        raise ValueError(f"two operators are named {row.name}")
    for what, named in (("defaults", row.defaults), ("example", row.example), ("widths", row.widths or ())):
        unknown = [key for key in named if key not in row.keys]
        if unknown:
            raise ValueError(f"operator {row.name}: {what} for unknown keys {unknown}")
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
    expect("the operator", name, str, "a name of 'microbench list operators'")
    row = OPERATORS.get(name)
    if row is None:
        near = difflib.get_close_matches(name, OPERATORS, n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; 'microbench list operators' shows all."
        raise UsageError(f"unknown operator {name[:60]!r}{hint}")
    return row


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
        default = row.defaults.get(key)
        if key not in given and default is None:
            raise UsageError(f"{row.name} needs {key}; it takes {' '.join(row.keys)}")
        # Only a default may be the name of a key: a word that is given is none.
        shape[key] = given[key] if key in given else shape[default] if isinstance(default, str) else default
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


def least(a: Any, b: Any) -> Any:
    """Take the smaller of two sizes, element by element for columns."""
    return np.minimum(a, b) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else min(a, b)


def alignment(size: Any) -> Any:
    """0 (odd) to 2 (a multiple of 16): half the power of two in a column of sizes."""
    whole = np.maximum(size, 1).astype(np.int64)
    return np.asarray(0.5 * np.log2(np.gcd(whole, ALIGNMENT)), dtype=np.float64)


def rows_and_cols(s: Any) -> tuple[Any, Any]:
    """Rows and their length, of an operator that has these keys."""
    return s.rows, s.cols


def short_rows(s: Any, _: Any) -> tuple[tuple[str, Any], ...]:
    """Rows that do not fill the widest vector are done element by element."""
    return (("short", s.cols < ALIGNMENT),)
