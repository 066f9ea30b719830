"""Where a model comes from: a module, what makes one, a plain function, or a program made of one.

A maker runs with the parameters that it makes moved to the meta device at once, so that a model of any size is built
without its memory and values are there where a constructor asks for them (of buffers and of plain tensors). Where that
fails it runs as it is.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from microbench.errors import UsageError

# What is predicted of a program that is no eager module.
_PROGRAMS = {
    "compiled": "the model is compiled; what is predicted is its eager execution, operator by operator",
    "exported": "the program is exported; what is predicted is the eager execution of its graph",
    "scripted": "the program is scripted and was run once on this processor; what is predicted is its eager execution",
    "graph": "the model is a traced graph; what is predicted is the eager execution of its nodes",
}

_FILLS = "uniform_ normal_ zero_ fill_ mul_ add_ sub_ div_ clamp_ erfinv_ exponential_ bernoulli_ random_ log_normal_"


def load_model(spec: str) -> Callable[[], Any]:
    """Find ``package.module:callable`` or ``file.py:callable``, which makes a model; literal arguments may follow.

    Modules of the current folder are found after installed ones.

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
        made = getattr(_imported(module), name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's module may do anything at import
        first = (str(error).splitlines() or [""])[0][:160]
        raise UsageError(f"{spec[:80]} cannot be imported: {type(error).__name__}: {first}") from None
    if not callable(made):
        raise UsageError(f"{spec[:80]} is not callable; name a function or class that makes the model")
    return functools.partial(made, *places, **names) if bracket else made


def _imported(module: str) -> Any:
    """A module by its name or its file."""
    if module.endswith(".py"):
        path = Path(module)
        found = importlib.util.spec_from_file_location(path.stem, path)
        if found is None or found.loader is None or not path.exists():
            raise FileNotFoundError(f"there is no file {module}")
        made = importlib.util.module_from_spec(found)
        sys.modules[path.stem] = made
        found.loader.exec_module(made)
        return made
    here = str(Path.cwd())
    beside = here not in sys.path and "" not in sys.path
    if beside:
        sys.path.append(here)
    try:
        return importlib.import_module(module)
    finally:
        if beside:
            sys.path.remove(here)


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


def module_of(torch: Any, model: Any) -> tuple[Any, list[str]]:
    """A module of whatever stands for a model, and what has to be said of it.

    Raises
    ------
    UsageError
        If it is nothing that can run.
    """
    if not isinstance(model, torch.nn.Module | torch.export.ExportedProgram):
        if not callable(model):
            raise UsageError(f"a {type(model).__name__} is no model; give a module, or a function that makes one")
        model = function_module(torch, model) if _takes_inputs(model) else _built(torch, model)
    if isinstance(model, torch.export.ExportedProgram):
        return model.module(), [_PROGRAMS["exported"]]
    if hasattr(model, "_orig_mod"):
        return model._orig_mod, [_PROGRAMS["compiled"]]  # noqa: SLF001 - the only way back
    if isinstance(model, torch.jit.ScriptModule):
        return model, [_PROGRAMS["scripted"]]
    if isinstance(model, torch.nn.Module):
        return model, [_PROGRAMS["graph"]] if isinstance(model, torch.fx.GraphModule) else []
    if callable(model):
        return function_module(torch, model), []
    raise UsageError(f"what should make a model made a {type(model).__name__}; let it return a module")


def _takes_inputs(model: Any) -> bool:
    """Whether a function has parameters that must be given: then it is no maker, and takes the inputs itself."""
    if isinstance(model, type):
        return False
    try:
        parameters = inspect.signature(model).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        each.default is each.empty and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        for each in parameters
    )


def function_module(torch: Any, function: Callable[..., Any]) -> Any:
    """A module whose forward pass is a function."""

    class Function(torch.nn.Module):  # type: ignore[name-defined, misc, unused-ignore]
        """A plain function as a model without parameters."""

        def forward(self, *places: Any, **names: Any) -> Any:
            """Call it."""
            return function(*places, **names)

    made = Function()
    made.__class__.__name__ = getattr(function, "__name__", type(function).__name__)
    return made


def _built(torch: Any, maker: Callable[[], Any]) -> Any:
    """What a maker makes, without memory of its parameters where it allows that."""
    try:
        with torch.random.fork_rng(devices=[]), _parameters_on_meta(torch):
            return maker()
    except Exception:  # noqa: BLE001 - whatever went wrong for want of values is tried with them
        return maker()


def _initialises(func: Any) -> bool:
    return getattr(func, "__module__", "") == "torch.nn.init" and func.__name__.endswith("_")


@contextlib.contextmanager
def _parameters_on_meta(torch: Any) -> Iterator[None]:
    """Move each parameter to the meta device when it is registered, and keep it there when a device is asked for."""
    from torch.overrides import TorchFunctionMode

    moves = (torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.cpu)
    # What gives numbers to a tensor in place gives none to one without data, and takes its time.
    fills = {getattr(torch.Tensor, name) for name in _FILLS.split()}

    class Stay(TorchFunctionMode):
        """Tensors without data change their format and not their device."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            filled = args[0] if args else (kwargs or {}).get("tensor")
            if (func in fills or _initialises(func)) and filled is not None and filled.is_meta:
                return filled
            if func in moves and args and args[0].is_meta:
                wanted = torch._C._nn._parse_to(*args[1:], **(kwargs or {}))[1] if func is torch.Tensor.to else None  # noqa: SLF001 - what Module.to reads its own arguments with
                return args[0] if wanted in (None, args[0].dtype) else func(args[0], wanted)
            return func(*args, **(kwargs or {}))

    registered = torch.nn.Module.register_parameter
    moved: dict[int, tuple[Any, Any]] = {}

    def register(module: Any, name: str, parameter: Any) -> None:
        plain = isinstance(parameter, torch.nn.Parameter) and not torch.nn.parameter.is_lazy(parameter)
        if plain and not parameter.is_meta:
            # The original is kept, so that no other parameter takes its place in memory and is taken for it.
            if id(parameter) not in moved:
                twin = torch.nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
                moved[id(parameter)] = (parameter, twin)
            parameter = moved[id(parameter)][1]
        registered(module, name, parameter)

    torch.nn.Module.register_parameter = register
    try:
        with Stay():
            yield
    finally:
        torch.nn.Module.register_parameter = registered
