"""A PyTorch model as a list of operators, captured on fake tensors: no weights, no execution, any size.

A dispatch mode sees every aten operator that eager execution would run, forward and (with ``train``) backward, and a
rule turns it into an operator of the table. Views cost nothing and are counted; operators without a rule are listed and
counted, never silently zero. The optimiser step is Adam's, one elementwise pass per parameter.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import logging
import re
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from microbench.errors import MicrobenchError, UsageError
from microbench.operators.aten import VIEWS, operators_of
from microbench.operators.core import Op, op
from microbench.records.dtypes import DTYPES
from microbench.records.dtypes import dtype as find_dtype

_INPUT = re.compile(r"(?P<sizes>\d+(?:x\d+)*)(?::(?P<dtype>[A-Za-z0-9_.]+))?")
# Adam reads parameter, gradient and two moments and writes the parameter and both moments, with about twelve operations
# each.
ADAM_READS, ADAM_WRITES, ADAM_FLOP = 4, 3, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operator of a model: ``phase`` is forward, backward or optimiser; ``aten`` the operator that was seen."""

    op: Op
    phase: str
    aten: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A captured model. ``unknown`` counts operators without a rule; bytes are of the tensors alive."""

    name: str
    steps: tuple[Step, ...]
    batch: int
    parameters: int
    parameter_bytes: int
    peak_bytes: int
    mean_bytes: float
    views: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    train: bool = False

    @property
    def operators(self) -> tuple[Op, ...]:
        """The operators in their order."""
        return tuple(step.op for step in self.steps)


def parse_input(spec: str) -> tuple[tuple[int, ...], str]:
    """Read ``8x3x224x224:f32``.

    Raises
    ------
    UsageError
        If it is no list of sizes.
    """
    match = _INPUT.fullmatch(spec.strip())
    if match is None:
        raise UsageError(f"{spec[:60]!r} is no input; write sizes and a dtype such as 8x3x224x224:f32")
    sizes = tuple(int(size) for size in match["sizes"].split("x"))
    if not all(1 <= size <= 2**40 for size in sizes):
        raise UsageError(f"{spec[:60]!r} has a size that is not between 1 and 2^40")
    try:
        return sizes, find_dtype(match["dtype"] or "f32").name
    except ValueError as error:
        raise UsageError(str(error)) from None


def load_model(spec: str) -> Callable[[], Any]:
    """Find ``package.module:callable``, which makes a model; literal arguments may follow in parentheses.

    Raises
    ------
    UsageError
        If it cannot be imported or is not callable, or its arguments are no literals.
    """
    module, colon, called = spec.partition(":")
    name, bracket, _ = called.partition("(")
    if not colon or not module or not name:
        raise UsageError(
            f"{spec[:80]!r} is no model; write MODULE:CALLABLE, for example torchvision.models:resnet18 or "
            "'torch.nn:Linear(784, 256)'"
        )
    places, names = _literals(called) if bracket else ([], {})
    try:
        made = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's module may do anything at import
        raise UsageError(f"{spec[:80]} cannot be imported: {type(error).__name__}: {_first_line(error)}") from None
    if not callable(made):
        raise UsageError(f"{spec[:80]} is not callable; name a function or class that makes the model")
    return functools.partial(made, *places, **names) if bracket else made


def _literals(call: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of ``name(1, key=2.0)``; nothing is evaluated."""
    try:
        parsed = ast.parse(call.strip(), mode="eval").body
        if (
            isinstance(parsed, ast.Call)
            and isinstance(parsed.func, ast.Name)
            and all(word.arg for word in parsed.keywords)
        ):
            names = {str(word.arg): ast.literal_eval(word.value) for word in parsed.keywords}
            return [ast.literal_eval(each) for each in parsed.args], names
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        pass
    raise UsageError(
        f"the arguments of {call[:80]!r} are no literals; write NAME(1, 2.5, 'text', key=True) or make a function of it"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:160]


def capture(model: Any, inputs: Any, *, train: bool = False, dtype: str | None = None, name: str = "") -> Graph:
    """Capture a model.

    Parameters
    ----------
    model
        A module, or a callable without arguments that makes one.
    inputs
        A list of inputs: tensors, or specs such as ``8x3x224x224:f32``.
    train
        Also the backward pass and an optimiser step.
    dtype
        Number format that parameters and floating inputs are turned into.

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

    recorder = _recorder(torch)
    try:
        made, arguments = _record(torch, (model, inputs, dtype), (recorder, train))
    except MicrobenchError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a user's model raises is one sentence
        raise UsageError(f"the model cannot be captured: {_reason(error)}") from None
    return _graph(made, recorder, (name or type(made).__name__, arguments, train))


def _record(torch: Any, given: tuple[Any, Any, str | None], how: tuple[Any, bool]) -> tuple[Any, list[Any]]:
    """Run a model on fake tensors under the recorder; what ran, and its inputs."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    model, inputs, dtype = given
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, warnings.catch_warnings():
        # Models warn of what is slow or doubtful when they run, and torch of looking at tensors without data: nothing
        # runs here.
        warnings.simplefilter("ignore")
        stored = _stored(torch, dtype) if dtype else None
        made = _fake_model(torch, fake, model, stored)
        listed = [inputs] if isinstance(inputs, str | torch.Tensor) else inputs
        arguments = [_argument(torch, fake, item, stored) for item in listed]
        _run(torch, made, arguments, how)
    return made, arguments


def _stored(torch: Any, number_format: str) -> Any:
    """Torch's dtype that stores a number format."""
    return getattr(torch, DTYPES[find_dtype(number_format).name].torch or "float32")


def _fake_model(torch: Any, fake: Any, model: Any, stored: Any) -> Any:
    """A model on fake tensors: a copy, or what its maker makes, in the dtype ``stored`` where one is asked for."""
    from torch._subclasses.fake_tensor import FakeCopyMode

    if isinstance(model, torch.nn.Module):
        with FakeCopyMode(fake):
            made = copy.deepcopy(model)
    else:
        made = model()
    if stored is not None:
        _turn(torch, made, stored)
    return made


def _turn(torch: Any, made: Any, stored: Any) -> None:
    """Change the dtype of floating parameters and buffers in place; fake ones cannot be swapped by ``Module.to``."""
    for module in made.modules():
        for name, tensor in module._parameters.items():  # noqa: SLF001 - the only way to replace one of any name
            if tensor is not None and tensor.is_floating_point():
                module._parameters[name] = torch.nn.Parameter(  # noqa: SLF001
                    tensor.detach().to(stored), requires_grad=tensor.requires_grad
                )
        for name, tensor in module._buffers.items():  # noqa: SLF001
            if tensor is not None and tensor.is_floating_point():
                module._buffers[name] = tensor.to(stored)  # noqa: SLF001


def _reason(error: BaseException) -> str:
    kind = type(error).__name__
    if kind in (
        "DynamicOutputShapeException",
        "DataDependentOutputException",
        "GuardOnDataDependentSymNode",
        "UnsupportedOperatorException",
    ):
        return (
            f"{getattr(error, 'func', None) or _first_line(error)} gives a shape that depends on data; give it a "
            "fixed size"
        )
    return f"{kind}: {_first_line(error)}"


def _argument(torch: Any, fake: Any, item: Any, stored: Any) -> Any:
    if isinstance(item, torch.Tensor):
        made = item if hasattr(item, "fake_mode") else fake.from_tensor(item)
    else:
        sizes, number_format = parse_input(str(item))
        made = torch.empty(sizes, dtype=_stored(torch, number_format))
    return made.to(stored) if stored is not None and made.is_floating_point() else made


def _run(torch: Any, made: Any, arguments: Sequence[Any], how: tuple[Any, bool]) -> None:
    recorder, train = how
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


def _forward_backward(torch: Any, made: Any, arguments: Sequence[Any], how: tuple[Any, bool]) -> None:
    recorder, train = how
    with recorder, torch.set_grad_enabled(train):
        out = made(*arguments)
        if train:
            recorder.phase = "backward"
            loss = sum(tensor.float().sum() for tensor in _tensors(torch, out) if tensor.requires_grad)
            if not isinstance(loss, torch.Tensor):
                raise UsageError("the model's output needs no gradient; --train has nothing to do")
            loss.backward()


def _tensors(torch: Any, value: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(torch, item)]
    return []


class _Live:
    """Bytes of the tensors alive, by storage."""

    def __init__(self) -> None:
        self.now = 0
        self.peak = 0
        self.total = 0
        self.looks = 0
        self._holders: Counter[int] = Counter()
        self._sizes: dict[int, int] = {}

    def saw(self, tensor: Any) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001 - the only name a storage has
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += self._sizes[key]
            self.peak = max(self.peak, self.now)
        self._holders[key] += 1
        weakref.finalize(tensor, self._gone, key).atexit = False

    def _gone(self, key: int) -> None:
        self._holders[key] -= 1
        if self._holders[key] <= 0:
            self.now -= self._sizes.pop(key, 0)
            del self._holders[key]

    def look(self) -> None:
        self.total += self.now
        self.looks += 1


def _recorder(torch: Any) -> Any:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
        """Writes down every operator that passes."""

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
            self.phase = "forward"
            self.steps: list[Step] = []
            self.unknown: Counter[str] = Counter()
            self.views = 0
            self.live = _Live()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            name = func.overloadpacket.__name__
            if name in VIEWS or (func.is_view and name != "expand_copy"):
                self.views += 1
                return out
            outputs = _tensors(torch, out)
            for tensor in outputs:
                self.live.saw(tensor)
            self.live.look()
            try:
                made = operators_of(torch, func, args, kwargs or {}, outputs)
            except (UsageError, AttributeError, IndexError, TypeError, ValueError):
                made = None
            if made is None:
                self.unknown[name] += 1
            else:
                self.steps += [Step(op=each, phase=self.phase, aten=name) for each in made]
            return out

    return Recorder()


def _graph(made: Any, recorder: Any, about: tuple[str, Sequence[Any], bool]) -> Graph:
    name, arguments, train = about
    parameters = list(made.parameters())
    held = sum(tensor.numel() * tensor.element_size() for tensor in (*parameters, *made.buffers(), *arguments))
    steps = list(recorder.steps)
    if train:
        steps += [_adam(tensor) for tensor in parameters if tensor.requires_grad]
        held += 2 * sum(tensor.numel() * tensor.element_size() for tensor in parameters if tensor.requires_grad)
    if not steps:
        raise UsageError(f"{name} runs no operator that has a rule")
    live = recorder.live
    return Graph(
        name=name,
        steps=tuple(steps),
        batch=int(arguments[0].shape[0]) if arguments and arguments[0].dim() else 1,
        parameters=sum(tensor.numel() for tensor in parameters),
        parameter_bytes=sum(tensor.numel() * tensor.element_size() for tensor in parameters),
        peak_bytes=held + live.peak,
        mean_bytes=held + live.total / max(live.looks, 1),
        views=recorder.views,
        unknown=dict(recorder.unknown),
        train=train,
    )


def _adam(tensor: Any) -> Step:
    size = int(tensor.numel())
    number_format = find_dtype(str(tensor.dtype)).name
    made = op(
        "pointwise",
        dtype=number_format,
        size=size,
        reads=ADAM_READS * size,
        writes=ADAM_WRITES * size,
        flop=ADAM_FLOP * size,
    )
    return Step(op=made, phase="optimiser", aten="adam")
