"""A model as `torch.compile` runs it: inductor is asked for its graph after fusion, and nothing is generated or run.

The model is traced on fake tensors into one graph of aten operators, inductor lowers it and fuses what it fuses, and a
pass behind fusion reads the kernels off: each loop nest with the bytes that it reads and writes outside of itself, each
call of a library with the rule of its aten operator.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from microbench.errors import MicrobenchError, UsageError
from microbench.operators.aten import VIEWS, Call, format_of, operators_of
from microbench.operators.core import Op, op
from microbench.operators.graph import Step
from microbench.operators.recorder import tensors_in
from microbench.records.dtypes import DTYPES


class _FusedError(Exception):
    """Ends inductor's work behind fusion."""


def fused_steps(torch: Any, made: Any, arguments: tuple[list[Any], dict[str, Any]]) -> tuple[list[Step], Counter[str]]:
    """The kernels of a compiled model, from a module on fake tensors and its arguments; and calls without a rule.

    Raises
    ------
    UsageError
        If the model has no graph as a whole, or this version of PyTorch does not tell it.
    """
    reader = _Kernels(torch)

    def read(kernels: Sequence[Any]) -> None:
        # A plain function: inductor copies its settings, and a method's object with it.
        reader.read(kernels)

    try:
        graph, tensors = _traced(torch, made, arguments)
        _lowered(torch, graph, tensors, read)
    except MicrobenchError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever inductor raises of a user's model is one sentence
        if not _ended(error):
            first = (str(error).strip().splitlines() or [""])[0][:120]
            raise UsageError(
                f"torch.compile's graph of the model cannot be had ({type(error).__name__}: {first}); leave --compiled "
                "out"
            ) from None
    if not reader.steps:
        raise UsageError("this version of PyTorch does not tell what inductor fuses; leave --compiled out")
    return reader.steps, reader.unknown


def _ended(error: BaseException | None) -> bool:
    """Whether our own exception is at the bottom of what inductor raised."""
    while error is not None:
        if isinstance(error, _FusedError) or _FusedError.__name__ in str(error)[:200]:
            return True
        error = error.__cause__ or getattr(error, "inner_exception", None)
    return False


def _traced(torch: Any, made: Any, arguments: tuple[list[Any], dict[str, Any]]) -> tuple[Any, list[Any]]:
    """One graph of the whole model in inductor's operators, and its inputs."""
    from torch._functorch.aot_autograd import aot_export_module
    from torch._inductor.decomposition import select_decomp_table
    from torch.utils._pytree import tree_flatten, tree_unflatten

    leaves, spec = tree_flatten(arguments)
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]

    class Flat(torch.nn.Module):  # type: ignore[name-defined, misc, unused-ignore]
        """The model as a function of tensors that gives tensors."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = made

        def forward(self, *tensors: Any) -> Any:
            given = list(leaves)
            for place, tensor in zip(places, tensors, strict=True):
                given[place] = tensor
            positional, named = tree_unflatten(given, spec)
            return tuple(tensors_in(torch, self.inner(*positional, **named)))

    flat = Flat()
    inputs = [leaves[place] for place in places]
    graph, _ = aot_export_module(flat, inputs, decompositions=select_decomp_table(), trace_joint=False)
    held = [*dict(flat.named_parameters(remove_duplicate=False)).values()]
    held += [*dict(flat.named_buffers(remove_duplicate=False)).values()]
    return graph, [*held, *inputs]


def _lowered(torch: Any, graph: Any, tensors: list[Any], read: Any) -> None:
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx_inner

    said = logging.getLogger("torch._inductor")
    silent = said.disabled
    said.disabled = True
    try:
        with config.patch(_post_fusion_custom_pass=read, fx_graph_cache=False), torch.no_grad():
            compile_fx_inner(graph, tensors, is_inference=True)
    finally:
        said.disabled = silent


class _Kernels:
    """Reads the kernels that inductor has fused, in their order, as operators."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._counted: set[Any] = set()
        self.steps: list[Step] = []
        self.unknown: Counter[str] = Counter()

    def read(self, kernels: Sequence[Any]) -> None:
        """What inductor calls behind fusion; nothing comes after it."""
        from torch._inductor.ir import MultiOutput
        from torch._inductor.scheduler import ExternKernelSchedulerNode, NopKernelSchedulerNode

        library = {
            kernel: self._call_of(kernel)
            for kernel in kernels
            # Results of a call with several have a node of their own each.
            if isinstance(kernel, ExternKernelSchedulerNode) and not isinstance(kernel.node, MultiOutput)
        }
        # Their FLOP are no loop's that only brings an operand into another layout.
        self._counted.update(library.values())
        for kernel in kernels:
            if kernel in library:
                self._library_call(kernel, library[kernel])
            elif not isinstance(kernel, ExternKernelSchedulerNode | NopKernelSchedulerNode):
                self.steps.append(self._loops(kernel))
        raise _FusedError

    def _calls(self, kernel: Any) -> list[Any]:
        """The traced aten calls behind a kernel, each once, without views."""
        origins = {origin: None for each in kernel.get_nodes() for origin in getattr(each.node, "origins", ())}
        calls = [each for each in origins if isinstance(each.target, self._torch._ops.OpOverload)]  # noqa: SLF001 - its name
        return [each for each in calls if not (each.target.is_view or _name(each) in VIEWS)]

    def _call_of(self, kernel: Any) -> Any:
        """The traced call that a library does: of the calls behind it the one that it is named after, or the last."""
        named = str(getattr(kernel.node, "op_overload", None) or getattr(kernel.node, "python_kernel_name", ""))
        calls = self._calls(kernel)
        return next((each for each in calls if _name(each) in named), calls[-1] if calls else None)

    def _operators(self, call: Any) -> list[Op] | None:
        """The operators of a traced call, by the rule of its name; ``None`` where there is no rule."""
        from torch.fx.node import map_arg

        args, kwargs = map_arg((call.args, call.kwargs), lambda node: node.meta.get("val"))
        outputs = tensors_in(self._torch, call.meta.get("val"))
        try:
            return operators_of(self._torch, call.target, args, kwargs, outputs)
        except (UsageError, AttributeError, IndexError, TypeError, ValueError, RuntimeError):
            return None

    def _library_call(self, kernel: Any, call: Any) -> None:
        found = self._operators(call) if call is not None else None
        if found is None:
            self.unknown[_name(call) if call is not None else type(kernel.node).__name__] += 1
        else:
            self.steps += [Step(op=each, phase="forward", aten=_name(call)) for each in found]

    def _loops(self, kernel: Any) -> Step:
        """One loop nest: the FLOP of what is fused into it, the bytes that it reads and writes outside of itself."""
        calls = self._calls(kernel)
        new = [call for call in calls if call not in self._counted]
        self._counted.update(new)
        flop = sum(each.work.flop for call in new for each in self._operators(call) or ())
        read, written = (
            int(sum(kernel.get_read_write_buffer_accesses(include_reads=reads, include_writes=not reads).values()))
            for reads in (True, False)
        )
        number_format = self._format(kernel)
        bits = DTYPES[number_format].bits
        made = op(
            "pointwise",
            dtype=number_format,
            size=max(1, 8 * written // bits),
            reads=8 * read // bits,
            writes=8 * written // bits,
            flop=flop,
        )
        return Step(op=Call.moving(made, read, written), phase="forward", aten=" ".join(map(_name, calls)) or "copy")

    def _format(self, kernel: Any) -> str:
        """The format of what a loop nest writes."""
        written = [each.node.get_dtype() for each in kernel.get_nodes() if hasattr(each.node, "get_dtype")]
        floating = [each for each in written if each.is_floating_point]
        return format_of(self._torch.empty(0, dtype=(floating or written)[-1], device="meta"))


def _name(call: Any) -> str:
    return str(call.target.overloadpacket.__name__)
