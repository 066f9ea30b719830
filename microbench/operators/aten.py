"""From an aten call to operators of the table: a rule for each name, registered by the files of this folder.

Names without a rule that torch tags as pointwise are elementwise operators like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from microbench.operators.core import Direction, Op, op
from microbench.records.dtypes import dtype as find_dtype

# Names that only look at a tensor differently, or make one without writing it.
_VIEWS = """view reshape _unsafe_view _reshape_alias t transpose permute expand slice select unsqueeze squeeze split
split_with_sizes chunk unbind as_strided detach alias lift_fresh lift unfold narrow diagonal view_as_real
view_as_complex empty empty_like new_empty empty_strided new_empty_strided empty_permuted flatten movedim swapaxes
numpy_T sym_size sym_numel sym_stride prim_layout _local_scalar_dense item is_same_size device"""
VIEWS = frozenset(_VIEWS.split())


class Call:
    """One aten call: its arguments by position, its outputs, the dtype that its work is in."""

    def __init__(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], outputs: Sequence[Any], inputs: Sequence[Any]
    ) -> None:
        self.args, self.kwargs, self.outputs, self.inputs = args, kwargs, outputs, inputs
        floating = [tensor for tensor in (*outputs, *inputs) if tensor.is_floating_point()]
        chosen = (floating or [*outputs, *inputs])[0]
        self.dtype = find_dtype(str(chosen.dtype)).name

    def op(self, name: str, direction: Any = "forward", **params: Any) -> Op:
        """An operator of this call's dtype."""
        return op(name, dtype=self.dtype, direction=direction, **{key: int(value) for key, value in params.items()})

    def arg(self, place: int, default: Any = None) -> Any:
        """An argument by position."""
        return self.args[place] if len(self.args) > place else default

    def pointwise(self) -> Op:
        """The call as an elementwise operator that reads all inputs and writes all outputs."""
        written = sum(tensor.numel() for tensor in self.outputs)
        return self.op(
            "pointwise",
            size=self.outputs[0].numel(),
            reads=sum(tensor.numel() for tensor in self.inputs),
            writes=written,
            flop=written,
        )


Rule = Callable[[Call], list[Op]]


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
    aten(*names, gives=gives, direction=direction)(
        lambda call: [call.op(gives, direction, size=call.outputs[0].numel())]
    )


def operators_of(
    torch: Any, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], outputs: Sequence[Any]
) -> list[Op] | None:
    """Operators that an aten call stands for; ``None`` where there is no rule."""
    inputs = [item for item in _flat(args) + _flat(list(kwargs.values())) if isinstance(item, torch.Tensor)]
    if not outputs and not inputs:
        return []
    if outputs and all(tensor.numel() == 0 for tensor in outputs):
        return []
    call = Call(args, kwargs, outputs, inputs)
    seen = ATEN.get(func.overloadpacket.__name__)
    if seen is not None:
        return seen.rule(call)
    if torch.Tag.pointwise in func.tags and outputs:
        return [call.pointwise()]
    return None


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [item for each in value for item in _flat(each)]
    return [value]


def rows_of(tensor: Any, length: int) -> dict[str, int]:
    """A tensor as rows of a length."""
    return {"rows": max(1, tensor.numel() // length), "cols": length}
