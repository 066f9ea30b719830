"""From an aten call to operators of the table: a rule for each name, registered by the files of this folder.

A rule reads arguments by their names in the operator's schema; one that cannot express them returns ``None``, and the
call is reported as one without a rule. Names without a rule that torch tags as pointwise are elementwise operators like
any other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from microbench.operators.core import Direction, Op, op
from microbench.records.dtypes import DTYPES
from microbench.records.dtypes import dtype as find_dtype

# Names that only look at a tensor differently, make one without writing it, or choose a kernel.
_VIEWS = """view reshape _unsafe_view _reshape_alias t transpose permute expand slice select unsqueeze squeeze split
split_with_sizes chunk unbind as_strided detach alias lift_fresh lift unfold narrow diagonal view_as_real
view_as_complex empty empty_like new_empty empty_strided new_empty_strided empty_permuted flatten movedim swapaxes
numpy_T sym_size sym_numel sym_stride prim_layout _local_scalar_dense item is_same_size device conj _conj real imag
set_ resize_ detach_ t_ transpose_ squeeze_ unsqueeze_ as_strided_ _fused_sdp_choice _neg_view
unsafe_split unsafe_split_with_sizes _linalg_check_errors _assert_async _assert_scalar _assert_tensor_metadata
sym_storage_offset sym_is_contiguous _has_same_storage_numel"""
VIEWS = frozenset(_VIEWS.split())
# Formats that the table has no row for, and the one whose ceilings bound them; bytes are those of the tensors.
_BOUND_BY = {
    "uint8": "i8",
    "int16": "i32",
    "uint16": "i32",
    "uint32": "i32",
    "uint64": "i64",
    "complex32": "f16",
    "complex64": "f32",
    "complex128": "f64",
    "quint8": "i8",
    "qint8": "i8",
    "qint32": "i32",
    "float8_e4m3fnuz": "f8e4m3",
    "float8_e5m2fnuz": "f8e5m2",
    "float8_e8m0fnu": "f8e5m2",
    "float4_e2m1fn_x2": "f4e2m1",
}
# FLOP of an operation on complex numbers in real ones; two where the name is not here.
_COMPLEX_FLOP = {"mul": 6, "div": 11, "abs": 4, "reciprocal": 6}


def format_of(tensor: Any) -> str:
    """The number format whose ceilings bound work on a tensor.

    Raises
    ------
    ValueError
        If it is none that is known.
    """
    name = str(tensor.dtype).removeprefix("torch.")
    return find_dtype(_BOUND_BY.get(name, name)).name


def held_bytes(tensor: Any) -> int:
    """Bytes of memory that a tensor names: an expanded dimension is there once, what overlaps is not there twice."""
    count, extent = 1, 1
    if tensor.numel() == 0:
        return 0
    if tensor.layout.__repr__() != "torch.strided":
        return int(tensor.numel() * tensor.element_size())
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        if stride:
            count *= size
            extent += (size - 1) * stride
    return int(min(count, extent) * tensor.element_size())


@functools.cache
def _parameters(func: Any) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """Names of an operator's arguments and their defaults."""
    arguments = func._schema.arguments  # noqa: SLF001 - torch has no public name for the schema of an operator
    return tuple(each.name for each in arguments), tuple(each.default_value for each in arguments)


class Call:
    """One aten call: arguments as its schema names them, its outputs, the format that its work is in.

    ``args`` are all arguments of the schema in their order, those that were not given by their defaults.
    """

    def __init__(
        self, func: Any, given: tuple[Sequence[Any], Mapping[str, Any]], outputs: Sequence[Any], inputs: Sequence[Any]
    ) -> None:
        positional, kwargs = given
        names, defaults = _parameters(func)
        later = names[len(positional) :]
        self.name = str(func.overloadpacket.__name__)
        self.args = (*positional, *(map(kwargs.get, later, defaults[len(positional) :])))
        self._named = dict(zip(names, self.args, strict=True))
        self.outputs, self.inputs = outputs, inputs
        floating = [each for each in (*outputs, *inputs) if each.is_floating_point() or each.is_complex()]
        self.dtype = format_of((floating or [*outputs, *inputs])[0])

    def get(self, *names: str) -> Any:
        """The argument of the first of these names that the schema has; ``None`` where it has none of them."""
        return next((self._named[name] for name in names if name in self._named), None)

    def op(self, name: str, direction: Any = "forward", **params: Any) -> Op:
        """An operator of this call's format."""
        return op(name, dtype=self.dtype, direction=direction, **{key: int(value) for key, value in params.items()})

    def holding(self, made: Op, read: Iterable[Any], written: Iterable[Any]) -> Op:
        """The operator with the bytes of the tensors that it reads and writes, each once; ``None`` is no tensor."""
        return self.moving(made, _bytes(read), _bytes(written))

    @staticmethod
    def moving(made: Op, read: int, written: int) -> Op:
        """The operator with so many bytes read and written."""
        work = made.work
        plain = (read, written) == (work.bytes_read, work.bytes_written)
        return made if plain else replace(made, traffic=(read, written))

    def exact(self, made: Op) -> Op:
        """The operator with the bytes of all inputs and all outputs."""
        return self.holding(made, self.inputs, self.outputs)

    def traffic(
        self, read: Sequence[Any], written: Sequence[Any], flop: int | None = None, name: str = "pointwise"
    ) -> Op:
        """An operator of which traffic and FLOP are given; without FLOP one for each number written."""
        bits = DTYPES[self.dtype].bits
        elements = [-(-8 * _bytes(tensors) // bits) for tensors in (read, written)]
        size = max(1, sum(tensor.numel() for tensor in written))
        made = self.op(
            name, size=size, reads=elements[0], writes=elements[1], flop=self._each() * size if flop is None else flop
        )
        return self.holding(made, read, written)

    def pointwise(self) -> Op:
        """The call as an elementwise operator that reads all inputs and writes all outputs."""
        return self.traffic(self.inputs, self.outputs)

    def _each(self) -> int:
        """FLOP for each number of the result."""
        if not any(tensor.is_complex() for tensor in (*self.outputs, *self.inputs)):
            return 1
        return _COMPLEX_FLOP.get(self.name.removesuffix("_"), 2)


def _bytes(tensors: Iterable[Any]) -> int:
    """Bytes of tensors, of the same memory once."""
    once = {}
    for tensor in tensors:
        if tensor is not None:
            where = id(tensor) if tensor.is_sparse else (tensor.untyped_storage()._cdata, tensor.storage_offset())  # noqa: SLF001 - the only name a storage has
            once[where, tuple(tensor.shape)] = held_bytes(tensor)
    return sum(once.values())


Rule = Callable[[Call], list[Op] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is made of an aten call: the rule, and the operators and pass that it may give."""

    rule: Rule
    operators: tuple[str, ...]
    direction: Direction


ATEN: dict[str, Seen] = {}


def aten(*names: str, gives: str | tuple[str, ...], direction: Direction = "forward") -> Callable[[Rule], Rule]:
    """Register the decorated function as the rule for aten names; ``gives`` names the operators that it may give."""

    def register(rule: Rule) -> Rule:
        operators = (gives,) if isinstance(gives, str) else gives
        for name in names:
            if name in ATEN:
                raise ValueError(f"two rules are for aten.{name}")
            ATEN[name] = Seen(rule=rule, operators=operators, direction=direction)
        return rule

    return register


def same_size(*names: str, gives: str, direction: Direction = "forward") -> None:
    """Register aten names that are an operator of as many elements as the call's output has."""

    def rule(call: Call) -> list[Op]:
        if any(tensor.is_complex() for tensor in call.outputs):
            return [call.pointwise()]
        return [call.exact(call.op(gives, direction, size=call.outputs[0].numel()))]

    aten(*names, gives=gives, direction=direction)(rule)


def operators_of(
    torch: Any, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], outputs: Sequence[Any]
) -> list[Op] | None:
    """Operators that an aten call stands for; ``None`` where there is no rule, or none that can express it."""
    inputs = [item for item in _flat(args) + _flat(list(kwargs.values())) if isinstance(item, torch.Tensor)]
    if not outputs and not inputs:
        return []
    if outputs and all(tensor.numel() == 0 for tensor in outputs):
        return []
    call = Call(func, (args, kwargs), outputs, inputs)
    name = call.name if func.namespace == "aten" else f"{func.namespace}.{call.name}"
    # What works in place does what its twin does.
    seen = ATEN.get(name) or ATEN.get(name.removesuffix("_"))
    if seen is not None:
        return seen.rule(call)
    return [call.pointwise()] if outputs and _elementwise(torch, func) else None


@functools.cache
def _elementwise(torch: Any, func: Any) -> bool:
    """Whether torch tags an operator as pointwise, or the one that does the same without working in place."""
    if torch.Tag.pointwise in func.tags:
        return True
    twin = getattr(torch.ops.aten, func.overloadpacket.__name__.removesuffix("_"), None)
    return twin is not None and any(torch.Tag.pointwise in getattr(twin, each).tags for each in twin.overloads())


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [item for each in value for item in _flat(each)]
    return [value]


def rows_of(tensor: Any, length: int) -> dict[str, int]:
    """A tensor as rows of a length."""
    return {"rows": max(1, tensor.numel() // length), "cols": length}


def exact_quotient(whole: int, part: int) -> int | None:
    """How often one number goes into another; ``None`` where something is left."""
    return whole // part if part and whole % part == 0 else None
