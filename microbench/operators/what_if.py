"""What if a model were narrower, or its convolutions grouped: a captured model with its operators' shapes changed.

``scale_channels`` multiplies every inner width (channels, features, head size); the model's input and the outputs of
its last product stay as they are. ``group`` splits dense convolutions. Neither asks whether the changed model still
predicts well, and both leave the model's own code alone: a width that the code would have fixed is changed all the
same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from microbench.errors import UsageError
from microbench.operators.core import Op, op

if TYPE_CHECKING:
    from collections.abc import Mapping

    from microbench.operators.capture import Graph, Step

_PRODUCT_FAMILIES = ("convolution", "linear", "matmul")
Shape = dict[str, int]
# Keys that a layer's two passes may differ in.
_OF_A_PASS = ("bias", "grad_input", "grad_weight")


def scale_channels(graph: Graph, factor: float) -> Graph:
    """Multiply every inner width of a captured model.

    Parameters
    ----------
    graph
        What `capture` gave.
    factor
        0.5 halves all widths.

    Raises
    ------
    UsageError
        If the factor is no number between 1/64 and 64, or the model has no product whose widths could change.
    """
    if not 1 / 64 <= factor <= 64:
        raise UsageError(f"widths cannot be multiplied by {factor}; give a factor from 0.015625 to 64, for example 0.5")
    forward = [place for place, step in enumerate(graph.steps) if step.phase == "forward"]
    products = [place for place in forward if graph.steps[place].op.row.family in _PRODUCT_FAMILIES]
    if not products:
        raise UsageError(f"{graph.name} has no convolution and no linear layer; there are no channels to scale")
    first, last = products[0], products[-1]
    fed = any(step.op.row.takes_index for step in graph.steps[:first])
    ends = {first: (not fed, first == last), last: (first == last and not fed, True)}
    changed: dict[int, Shape] = {
        place: _product(graph.steps[place].op, factor, ends.get(place, (False, False))) for place in products
    }
    like = {_key(graph.steps[place].op): shape for place, shape in changed.items()}
    turned = _gradients([(graph.steps[place].op, changed[place]) for place in products])
    stored = {_weights(graph.steps[place].op.params): _weights(changed[place]) for place in products}
    outputs = _outputs(graph.steps[last].op)
    for place, step in enumerate(graph.steps):
        outside = step.phase == "forward" and not (-1 if fed else first) < place < last
        of_output = (step.op.params.get("size") or step.op.params.get("rows")) in outputs
        if place in changed or outside or (step.phase != "forward" and of_output):
            continue
        changed[place] = _step(step, factor, (like, turned, stored))
    return _changed(graph, changed, factor)


def group(graph: Graph, groups: int) -> Graph:
    """Split every dense convolution whose channels ``groups`` divides, except the first, which sees the model's input.

    Raises
    ------
    UsageError
        If there is no such convolution.
    """
    dense = [
        place
        for place, step in enumerate(graph.steps)
        if step.op.row.family == "convolution" and step.op.params["groups"] == 1
        and groups > 1 and step.op.params["c_in"] % groups == 0 and step.op.params["c_out"] % groups == 0
    ]  # fmt: skip
    forward = [
        place
        for place, step in enumerate(graph.steps)
        if step.phase == "forward" and step.op.row.family == "convolution"
    ]
    entry = _key(graph.steps[forward[0]].op) if forward else None
    dense = [place for place in dense if _key(graph.steps[place].op) != entry]
    if not dense:
        raise UsageError(
            f"{graph.name} has no dense convolution after the first whose channels {groups} divides; try another "
            "number of groups"
        )
    changed = {place: graph.steps[place].op.params | {"groups": groups} for place in dense}
    pairs = [(graph.steps[place].op, changed[place]) for place in dense if graph.steps[place].phase == "forward"]
    stored = {_weights(made.params): _weights(shape) for made, shape in pairs}
    for place, step in enumerate(graph.steps):
        if step.phase == "optimiser" and step.op.params["size"] in stored:
            changed[place] = _times(
                step.op.params, stored[step.op.params["size"]] / step.op.params["size"], step.op.row.widths or ()
            )
    return _changed(graph, changed, 1.0)


def _key(made: Op) -> tuple[str, tuple[int, ...]]:
    """A layer by its shape, whatever the pass; a bias changes nothing, nor does which gradients are made."""
    return made.name, tuple(value for key, value in made.params.items() if key not in _OF_A_PASS)


def _times(params: Mapping[str, int], factor: float, keys: tuple[str, ...]) -> Shape:
    # What is zero stays zero: an operator that reads nothing goes on reading nothing.
    return {key: max(1, round(factor * value)) if key in keys and value else value for key, value in params.items()}


def _whole_groups(shape: Shape, widths: tuple[str, ...]) -> Shape:
    """Channels in as many groups as before, each of whole channels."""
    groups = shape.get("groups", 1)
    if groups == 1:
        return shape
    return shape | {key: max(groups, round(shape[key] / groups) * groups) for key in widths}


def _product(made: Op, factor: float, fixed: tuple[bool, bool]) -> Shape:
    """Widths of a product in the forward pass; ``fixed`` are its input and its output."""
    into, out = made.row.widths or ()
    shape = _times(made.params, factor, tuple(key for key, stays in ((into, fixed[0]), (out, fixed[1])) if not stays))
    if made.params.get("groups", 1) > 1 and made.params["groups"] == made.params["c_in"]:
        shape["groups"] = shape["c_in"]
    return _whole_groups(shape, made.row.widths or ())


def _outputs(made: Op) -> tuple[int, ...]:
    """Elements of the model's output and of the bias that is added to it: gradients of these keep their size."""
    if made.row.family == "convolution":
        return (made.params["c_out"],)
    return made.params["n"], made.params["m"] * made.params["n"]


def _gradients(products: list[tuple[Op, Shape]]) -> dict[tuple[int, int, int], Shape]:
    """The products of a linear layer's backward pass: for its input m x k from n, for its weights n x k from m."""
    found: dict[tuple[int, int, int], Shape] = {}
    for made, shape in products:
        if made.row.family == "convolution":
            continue
        (m, n, k), (_, wide, deep) = ((each["m"], each["n"], each["k"]) for each in (made.params, shape))
        found[m, k, n] = {"m": m, "n": deep, "k": wide}
        found[n, k, m] = {"m": wide, "n": deep, "k": m}
        found[k, n, m] = {"m": deep, "n": wide, "k": m}
    return found


def _weights(params: Mapping[str, int]) -> int:
    if "c_in" in params:
        kernel = params.get("kd", 1) * params["kh"] * params["kw"]
        return params["c_in"] // params["groups"] * params["c_out"] * kernel
    return params["n"] * params["k"]


def _stored(made: Op) -> int:
    """Weights of a layer; a table of vectors is one too."""
    if made.name == "embedding":
        return made.params["rows"] * made.params["cols"]
    return _weights(made.params) if made.row.family in _PRODUCT_FAMILIES else 0


_Known = tuple[dict[tuple[str, tuple[int, ...]], Shape], dict[tuple[int, int, int], Shape], dict[int, int]]


def _step(step: Step, factor: float, known: _Known) -> Shape:
    """Shape of any operator but the forward products."""
    made, (like, turned, stored) = step.op, known
    params = made.params
    if made.row.family == "convolution" or made.name == "linear":
        return {**like.get(_key(made), params), **{key: params[key] for key in _OF_A_PASS if key in params}}
    if made.name == "matmul":
        return turned.get((params["m"], params["n"], params["k"]), params)
    if made.name == "bmm":
        # Scores are queries times keys over the head size; what they weigh has it as columns.
        return _times(params, factor, ("n",) if params["k"] == params["m"] else ("k",))
    if step.phase == "optimiser":
        return _times(
            params,
            stored[params["size"]] / params["size"] if params["size"] in stored else factor,
            made.row.widths or (),
        )
    return _whole_groups(_times(params, factor, made.row.widths or ()), made.row.widths or ())


def _changed(graph: Graph, changed: Mapping[int, Shape], factor: float) -> Graph:
    """The graph with shapes replaced; parameters follow the weights of its products, activations the widths."""
    steps = tuple(
        replace(step, op=_remade(step.op, changed[place])) if place in changed else step
        for place, step in enumerate(graph.steps)
    )
    before, after = (sum(_stored(step.op) for step in each if step.phase == "forward") for each in (graph.steps, steps))
    share = after / max(before, 1)
    copies = 3 if graph.train else 1
    held = copies * graph.parameter_bytes

    def memory(size: float) -> float:
        return share * held + factor * max(size - held, 0)

    return replace(
        graph,
        steps=steps,
        parameters=round(share * graph.parameters),
        parameter_bytes=round(share * graph.parameter_bytes),
        peak_bytes=round(memory(graph.peak_bytes)),
        mean_bytes=memory(graph.mean_bytes),
    )


def _remade(made: Op, shape: Shape) -> Op:
    """The operator of another shape; traffic that its tensors state keeps its proportion to what the rule counts."""
    modes: dict[str, Any] = {key: getattr(made, key) for key in ("dtype", "launch", "cache", "direction", "label")}
    changed = op(made.name, **(modes | shape))
    if made.traffic is None:
        return changed
    before, after = replace(made, traffic=None).work, changed.work
    pairs = ((before.bytes_read, after.bytes_read), (before.bytes_written, after.bytes_written))
    read, written = (round(held * new / max(old, 1)) for held, (old, new) in zip(made.traffic, pairs, strict=True))
    return replace(changed, traffic=(read, written))
