"""A PyTorch model as a list of operators, captured on fake tensors: no weights, no execution, any size.

What has its weights inside an object that no fake tensor stands for (quantised layers, scripted programs) is run once.

A dispatch mode sees every aten operator that eager execution would run, forward and (with ``train``) backward, and a
rule turns it into an operator of the table. Views cost nothing and are counted; operators without a rule are listed and
counted, never silently zero. The optimiser's step follows by its own table (`optimiser`).
"""

from __future__ import annotations

import contextlib
import copy
import gc
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from microbench.errors import MicrobenchError, UsageError
from microbench.operators.fake_models import on_fake, shaped
from microbench.operators.fused import fused_steps
from microbench.operators.graph import Graph, Step
from microbench.operators.host_calls import watched
from microbench.operators.inputs import arranged, filled, stored
from microbench.operators.known_values import BALANCED
from microbench.operators.library_layers import library_layers
from microbench.operators.model_sources import module_of
from microbench.operators.module_calls import ModuleCalls
from microbench.operators.optimiser import OPTIMISERS, events_of, steps_of
from microbench.operators.optimiser import optimiser as known_optimiser
from microbench.operators.quantised import packed_tensors
from microbench.operators.recorder import recorder_of, tensors_in
from microbench.operators.weight_formats import WeightUses, weight_format
from microbench.records.dtypes import dtype as find_dtype

__all__ = ["Graph", "Step", "capture"]

# Formats that PyTorch runs a whole model in, and what holds each.
_WHOLE = {"f64": "f64", "f32": "f32", "tf32": "f32", "f16": "f16", "bf16": "bf16"}
_COMPILED = (
    "kernels are those that torch.compile fuses for a processor; each loop is predicted as an elementwise operator of "
    "its traffic, memory as that of the eager model"
)
_EXPERTS = ("_grouped_mm", "_scaled_grouped_mm")
# Tensors inside an error's message, whose numbers are nobody's business.
_PRINTED = re.compile(r"(?:Fake)?(?:Tensor|tensor|Parameter)\((?:[^()]|\([^()]*\))*\)?|\[\s*-?\d[^\]]{40,}\]?")


def _first_line(error: BaseException) -> str:
    return (_PRINTED.sub("a tensor", str(error)).strip().splitlines() or [""])[0][:160]


def capture(  # noqa: PLR0913 - keywords only
    model: Any,
    inputs: Any,
    *,
    train: bool = False,
    optimiser: str = "adam",
    dtype: str | None = None,
    weights: str | None = None,
    compiled: bool = False,
    device: str = "cpu",
    name: str = "",
) -> Graph:
    """Capture a model.

    Parameters
    ----------
    model
        A module, a callable without arguments that makes one, a function of the inputs, or an exported, compiled or
        scripted program.
    inputs
        One input, a list of them, or a dictionary of keyword arguments. An input is a tensor, a spec such as
        ``8x3x224x224:f32`` (``name=SPEC`` is a keyword), ``None``, a number, or a list, tuple or dictionary of inputs.
    train
        Also the backward pass and an optimiser step.
    optimiser
        Whose step: adam, sgd (with momentum) or none.
    dtype
        Number format that parameters and floating inputs are turned into: f64, f32, f16, bf16; tf32 leaves them f32 and
        multiplies in tf32.
    weights
        Format that the weights of products are stored in, activations as they are: i4, i8, f8, f4.
    compiled
        The kernels of ``torch.compile`` (inductor's for processors) in place of the eager operators.
    device
        Kind of the device: on ``cuda`` a library runs a recurrent layer in one call.

    Raises
    ------
    UsageError
        If the model cannot be built or run on fake tensors; data-dependent shapes are named.
    CannotRun
        If torch is not installed.
    """
    from microbench.hardware.torch_import import import_torch

    import_torch()
    import torch

    wanted = _whole_format(dtype)
    known_optimiser(optimiser)
    recorder = recorder_of(torch)
    if (weights is not None or compiled) and train:
        raise UsageError("weights of fewer bits and compiled models are for inference; leave --train out")
    if weights is not None:
        if compiled:
            raise UsageError("a compiled model keeps its weights; leave --weights or --compiled out")
        weights, recorder.uses = weight_format(weights), WeightUses()
    recorder.compiled, recorder.layers = compiled, device != "cpu"
    try:
        with _uncollected():
            made, arguments, notes = _record(torch, (model, inputs, wanted), (recorder, train))
    except MicrobenchError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a user's model raises is one sentence
        raise UsageError(f"the model cannot be captured: {_reason(error)}") from None
    about = (name or type(made).__name__, arguments, optimiser if train else None)
    graph = _graph((made, packed_tensors(torch, made)), recorder, about)
    if any(step.aten in _EXPERTS for step in graph.steps):
        notes.append(BALANCED)
    graph = replace(graph, notes=tuple(dict.fromkeys((*notes, *recorder.answers.notes))))
    if compiled:
        steps, unknown = recorder.kernels
        notes = [*graph.notes, _COMPILED]
        graph = replace(graph, steps=tuple(steps), unknown=dict(unknown), views=0, notes=tuple(notes), compiled=True)
        graph = replace(graph, python_views=0, allocations=())
    graph = _multiplied_in(graph, "tf32") if wanted == "tf32" else graph
    return recorder.uses.stored(graph, weights) if weights is not None else graph


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Let no garbage be looked for: nearly all objects of a large model are there to stay, and each look visits all."""
    looks = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looks:
            gc.enable()


def _whole_format(dtype: str | None) -> str | None:
    if dtype is None:
        return None
    try:
        wanted = find_dtype(dtype).name
    except ValueError as error:
        raise UsageError(str(error)) from None
    if wanted not in _WHOLE:
        raise UsageError(
            f"PyTorch runs no whole model in {wanted}: its layers take {', '.join(_WHOLE)}; --weights stores weights "
            f"alone in fewer bits, and --op matmul:m=64,n=64,k=64,dtype={wanted} predicts an operator"
        )
    return wanted


def _multiplied_in(graph: Graph, number_format: str) -> Graph:
    """The graph with its f32 products in another format of the same storage."""
    steps = [
        replace(step, op=replace(step.op, dtype=number_format)) if step.op.row.gemm and step.op.dtype == "f32" else step
        for step in graph.steps
    ]
    return replace(graph, steps=tuple(steps))


def _record(torch: Any, given: tuple[Any, Any, str | None], how: tuple[Any, bool]) -> tuple[Any, list[Any], list[str]]:
    """Run a model on fake tensors under the recorder; what ran, the tensors of its inputs, and what is to be said."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    model, inputs, dtype = given
    wanted = stored(torch, _WHOLE[dtype]) if dtype else None
    with warnings.catch_warnings():
        # Models warn of what is slow or doubtful when they run, and torch of looking at tensors without data: nothing
        # runs here.
        warnings.simplefilter("ignore")
        made, notes = module_of(torch, model)
        if _opaque(torch, made):
            return *_record_real(torch, (made, inputs, wanted), how), notes
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        made = shaped(torch, made, lambda lazy: _called(lazy, _meta_inputs(torch, inputs, wanted)[0]))
        made = on_fake(torch, fake, made, wanted)
        with fake:
            arguments, tensors = _made_inputs(torch, inputs, wanted, fake.from_tensor)
            _run(torch, made, arguments, how)
    return made, tensors, notes


def _opaque(torch: Any, made: Any) -> bool:
    """Whether a model holds weights that no fake tensor can stand for."""
    if isinstance(made, torch.jit.ScriptModule):
        return True
    return any(isinstance(held, torch.ScriptObject) for each in made.modules() for held in vars(each).values())


def _record_real(torch: Any, given: tuple[Any, Any, Any], how: tuple[Any, bool]) -> tuple[Any, list[Any]]:
    """Run a model once for real, on zeros."""
    made, inputs, wanted = given
    if how[1] or wanted is not None:
        raise UsageError("a quantised or scripted model can neither be trained nor turned into another format here")
    if how[0].compiled:
        raise UsageError("a quantised or scripted model cannot be compiled here; leave --compiled out")
    arguments, tensors = _made_inputs(torch, inputs, None, lambda tensor: tensor.detach().clone())
    copied = made if isinstance(made, torch.jit.ScriptModule) else copy.deepcopy(made)
    _run(torch, copied, arguments, how)
    return copied, tensors


def _meta_inputs(torch: Any, inputs: Any, wanted: Any) -> tuple[Any, list[Any]]:
    with torch.device("meta"):
        return _made_inputs(torch, inputs, wanted, lambda tensor: tensor.to("meta"))


def _made_inputs(
    torch: Any, inputs: Any, wanted: Any, taken: Any
) -> tuple[tuple[list[Any], dict[str, Any]], list[Any]]:
    """Arguments of a call, and all tensors in them; ``taken`` makes one of a tensor that was given."""
    tensors = []

    def tensor(item: Any) -> Any:
        if isinstance(item, tuple):
            made = torch.zeros(item[0], dtype=stored(torch, item[1]))
        elif not isinstance(item, torch.Tensor):
            raise UsageError(f"an input is a {type(item).__name__}; give tensors, specs such as 8x16:f32, or numbers")
        elif hasattr(item, "fake_mode"):
            made = item
        else:
            made = torch.zeros(item.shape, dtype=item.dtype) if item.is_meta else taken(item)
        made = made.to(wanted) if wanted is not None and made.is_floating_point() else made
        tensors.append(made)
        return made

    places, names = arranged(inputs)
    filled_in = [filled(item, tensor) for item in places], {key: filled(item, tensor) for key, item in names.items()}
    return filled_in, tensors


def _called(made: Any, arguments: tuple[list[Any], dict[str, Any]]) -> Any:
    places, names = arguments
    return made(*places, **names)


# What PyTorch raises where a shape or a decision hangs on numbers that nobody has.
_OF_DATA = (
    "DynamicOutputShapeException",
    "DataDependentOutputException",
    "GuardOnDataDependentSymNode",
    "UnsupportedOperatorException",
)


def _reason(error: BaseException) -> str:
    kind = type(error).__name__
    if kind in _OF_DATA:
        return (
            f"{getattr(error, 'func', None) or _first_line(error)} gives a shape that depends on data; give it a "
            "fixed size"
        )
    return f"{kind}: {_first_line(error)}"


def _run(torch: Any, made: Any, arguments: tuple[list[Any], dict[str, Any]], how: tuple[Any, bool]) -> None:
    recorder, train = how
    with contextlib.suppress(NotImplementedError):  # an exported program is what it was exported as
        made.train(train)
    # The fused path of transformer layers is one opaque operator; the layers' own operators are the same work.
    fused = torch.backends.mha.get_fastpath_enabled()
    # What fails is one sentence of ours; torch would print its own traceback first.
    said = logging.getLogger("torch._subclasses.fake_tensor")
    silent = said.disabled
    torch.backends.mha.set_fastpath_enabled(False)
    said.disabled = True
    try:
        _forward_backward(torch, made, arguments, (recorder, train))
    finally:
        said.disabled = silent
        torch.backends.mha.set_fastpath_enabled(fused)


def _forward_backward(
    torch: Any, made: Any, arguments: tuple[list[Any], dict[str, Any]], how: tuple[Any, bool]
) -> None:
    recorder, train = how
    recorder.calls = ModuleCalls(torch, made)
    if recorder.uses is not None:
        recorder.uses.of(made)
    whole = library_layers(torch, recorder) if recorder.layers else contextlib.nullcontext()
    with recorder.calls, recorder, torch.set_grad_enabled(train):
        with whole, watched(recorder.host):
            out = _called(made, arguments)
        if train:
            recorder.phase = "backward"
            loss = sum(tensor.float().sum() for tensor in tensors_in(torch, out) if tensor.requires_grad)
            if not isinstance(loss, torch.Tensor):
                raise UsageError("the model's output needs no gradient; --train has nothing to do")
            loss.backward()
    if recorder.compiled:
        with torch.no_grad():
            recorder.kernels = fused_steps(torch, made, arguments)


def _graph(of: tuple[Any, list[Any]], recorder: Any, about: tuple[str, Sequence[Any], str | None]) -> Graph:
    (made, packed), (name, arguments, optimiser) = of, about
    parameters = [*made.parameters(), *packed]
    held = sum(tensor.numel() * tensor.element_size() for tensor in (*parameters, *made.buffers(), *arguments))
    steps, events, states = list(recorder.steps), list(recorder.live.events), list[int]()
    for path, tensor in made.named_parameters() if optimiser else ():
        if tensor.requires_grad:
            steps += steps_of(str(optimiser), tensor, path.rpartition(".")[0])
            events += events_of(str(optimiser), tensor, sum(event > 0 for event in events))
            states += OPTIMISERS[str(optimiser)].kept * [tensor.numel() * tensor.element_size()]
    held += sum(states)
    if not steps:
        raise UsageError(f"{name} runs no operator that has a rule")
    live = recorder.live
    return Graph(
        name=name,
        steps=tuple(steps),
        batch=next((int(tensor.shape[0]) for tensor in arguments if tensor.dim()), 1),
        parameters=sum(tensor.numel() for tensor in parameters),
        parameter_bytes=sum(tensor.numel() * tensor.element_size() for tensor in parameters),
        peak_bytes=held + live.peak,
        mean_bytes=held + live.total / max(live.looks, 1),
        views=recorder.views,
        unknown=dict(recorder.unknown),
        train=optimiser is not None,
        parts=recorder.calls.parts(),
        python_views=recorder.host.views,
        optimiser=optimiser or "none",
        trained=sum(tensor.requires_grad for tensor in parameters) if optimiser else 0,
        allocations=tuple(events),
        state_bytes=tuple(states),
    )
