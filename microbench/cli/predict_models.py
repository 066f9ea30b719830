"""What the predict command says of a whole model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from microbench.cli.model_document import as_document, as_table, known
from microbench.cli.output import Cell, as_csv, check_stdout, emit, write_text
from microbench.cli.predict import print_findings
from microbench.errors import UsageError
from microbench.predict.module_tree import module_tree
from microbench.predict.transfer import families_of_model
from microbench.records import Row, units
from microbench.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microbench.operators.capture import Graph
    from microbench.predict.model import ModelTime
    from microbench.predict.operator import Columns
    from microbench.records import Characterisation, Finding

# Rows of the table of a model's longest operators.
LARGEST = 15
BATCHES = (1, 4, 16, 64)


def predict_model_spec(
    spec: str, inputs: Sequence[str], how: dict[str, Any], paths: tuple[str | None, str | None]
) -> None:
    """Capture a model and predict it."""
    from microbench.operators.hub_models import hub_model
    from microbench.operators.model_sources import load_model
    from microbench.predict.model import predict_model

    if how["hf"]:
        make, known, name = hub_model(spec)
        inputs = inputs or known
        says = f"info: {name} is predicted for {' '.join(inputs)}; other inputs by --input NAME=SPEC."
        sys.stderr.write(f"{one_line(says)}\n")
    elif inputs:
        make, name = load_model(spec), spec.partition(":")[2]
    else:
        raise UsageError("--model needs --input, for example --input 8x3x224x224:f32; give it once per input")
    how = how | {"device": how["asked"].kind()}
    graph = _captured(make, inputs, how, name)
    held = how["asked"].held(families_of_model(graph))
    found = predict_model(graph, held, how["launch"] or "eager")
    print_findings((*_assumed(how), *found.findings))
    rows = step_rows(found)
    _write(found, rows, paths)
    if "-" in paths:
        return
    emit(_largest(rows), f"{spec}: largest operators")
    if how["tree"] is not None:
        emit(tree_rows(found, how["tree"]), f"{spec}: modules")
    emit(summary(found), f"{spec} on {held.device.name}")
    batches = _batches(make, inputs, how, graph, held)
    if batches:
        emit(batches, "samples per second")


def _write(found: ModelTime, rows: Sequence[Row], paths: tuple[str | None, str | None]) -> None:
    """Write the model, its modules and its operators where the user asked."""
    json_path, csv_path = paths
    check_stdout(json_path, csv_path)
    if json_path is not None:
        write_text(json_path, as_document(found, rows))
    if csv_path is not None:
        write_text(csv_path, as_csv(as_table(found, rows)))


def _captured(make: Any, inputs: Sequence[str], how: dict[str, Any], name: str = "") -> Graph:
    """Capture the model as it is, or as it would be with other widths or groups (what-if)."""
    from microbench.operators.capture import capture
    from microbench.operators.what_if import group, scale_channels

    asked = {each: how[each] for each in ("train", "dtype", "weights", "compiled", "device")}
    if how["compiled"] and how["tree"] is not None:
        raise UsageError("the kernels of a compiled model belong to no module; leave --tree or --compiled out")
    graph = capture(make, list(inputs), name=name, **asked)
    if how.get("scale_channels") is not None:
        graph = scale_channels(graph, how["scale_channels"])
    return graph if how.get("groups") is None else group(graph, how["groups"])


def _assumed(how: dict[str, Any]) -> list[Finding]:
    """What the what-if options take for granted, as findings."""
    from microbench.records import Finding

    said = {
        "scale_channels": "every inner width is multiplied, the model's input and the last layer's outputs stay",
        "groups": "every dense convolution after the first whose channels the groups divide is split",
    }
    return [
        Finding(
            code="what-if",
            severity="info",
            says=f"{name.replace('_', '-')} {how[name]}: {says}; memory and parameters in proportion.",
        )
        for name, says in said.items()
        if how.get(name) is not None
    ]


def _batches(make: Any, inputs: Sequence[str], how: dict[str, Any], known: Graph, held: Characterisation) -> list[Row]:
    """Samples per second over batch sizes; two captures tell the others wherever they can."""
    from microbench.operators.batches import at_batch
    from microbench.operators.inputs import with_batch
    from microbench.predict.model import predict_model

    captures: dict[int, Graph] = {}
    if [with_batch(spec, known.batch) for spec in inputs] == list(inputs):
        captures[known.batch] = known
    rows: list[Row] = []
    for batch in BATCHES:
        graph = captures.get(batch)
        if graph is None and len(captures) > 1:
            graph = at_batch(tuple(captures.values())[:2], batch)
        try:
            if graph is None:
                graph = captures[batch] = _captured(make, [with_batch(spec, batch) for spec in inputs], how)
            found = predict_model(graph, held, how["launch"] or "eager")
        except UsageError:
            continue
        rows.append(
            {
                "batch": batch,
                "latency": units.seconds(found.latency.value),
                "samples_per_s": round(found.samples_per_s, 2),
            }
        )
    return rows


def step_rows(found: ModelTime) -> list[Row]:
    """One row per operator of a model."""
    columns = found.columns
    total = found.latency.value
    rows: list[Row] = []
    for place, step in enumerate(found.steps):
        work = step.op.work
        rows.append(
            {
                "phase": step.phase,
                "module": step.module,
                "op": str(step.op),
                "flop": work.flop,
                "bytes": work.bytes,
                "intensity": None if work.intensity is None else round(work.intensity, 3),
                "bound": _bound(columns, place, work.intensity, found.ridge.get(step.op.dtype)),
                "seconds": known(columns.predicted[place]),
                "low": known(columns.low[place]),
                "high": known(columns.high[place]),
                "share": round((known(columns.predicted[place]) or 0.0) / total, 4),
            }
        )
    return rows


def _bound(columns: Columns, place: int, intensity: float | None, ridge: float | None) -> str:
    """What bounds an operator: its fixed cost, or the side of the device's ridge point that its intensity lies on."""
    if str(columns.limiter[place]) == "cost" or intensity is None:
        return "cost"
    if ridge is None:
        return str(columns.limiter[place]).partition(":")[0]
    return "compute" if intensity >= ridge else "memory"


def _largest(rows: Sequence[Row]) -> list[Row]:
    """The operators that take longest; equal ones are one row, with their number."""
    alike: dict[tuple[Cell, Cell], list[Row]] = {}
    for row in rows:
        alike.setdefault((row["phase"], row["op"]), []).append(row)

    def total(found: Sequence[Row], name: str) -> float:
        return sum(float(row[name] or 0.0) for row in found)

    longest = sorted(alike.values(), key=lambda found: total(found, "seconds"), reverse=True)[:LARGEST]
    return [
        {
            "phase": found[0]["phase"],
            "op": found[0]["op"],
            "times": len(found),
            "FLOP each": units.prefixed(float(found[0]["flop"] or 0), "FLOP", 3),
            "traffic": units.size(float(found[0]["bytes"] or 0), 3),
            "FLOP/byte": "" if found[0]["intensity"] is None else units.digits(float(found[0]["intensity"]), 3),
            "bound": found[0]["bound"],
            "each": units.seconds(float(found[0]["seconds"] or 0.0)),
            "low": units.seconds(float(found[0]["low"] or 0.0)),
            "high": units.seconds(float(found[0]["high"] or 0.0)),
            "share of all": f"{total(found, 'share'):.1%}",
        }
        for found in longest
    ]


def tree_rows(found: ModelTime, depth: int) -> list[Row]:
    """The modules of a model down to a depth, each with all that is inside it."""
    return [
        {
            "module": "  " * each.depth + (each.path.rpartition(".")[2] or found.graph.name),
            "class": each.kind,
            "calls": each.calls,
            "parameters": f"{each.parameters:,}",
            "operators": each.operators,
            "FLOP": units.prefixed(each.flop, "FLOP", 3),
            "traffic": units.size(each.bytes, 3),
            "time": units.seconds(each.seconds),
            "share": f"{each.share:.1%}",
        }
        for each in module_tree(found)
        if each.depth <= depth
    ]


def summary(found: ModelTime) -> list[Row]:
    """The whole model: one fact a row."""
    graph, latency = found.graph, found.latency
    share = "{:.1%}".format
    facts: list[tuple[str, str]] = [
        ("latency", f"{units.seconds(latency.value)} ({units.seconds(latency.low)} .. {units.seconds(latency.high)})"),
        *_sides(found),
        ("samples per second", units.digits(found.samples_per_s)),
        ("parameters", f"{graph.parameters:,}"),
        ("stored size", units.size(graph.parameter_bytes)),
        ("load time", units.seconds(found.load_s) if found.load_s else "unknown"),
        ("FLOP", units.prefixed(found.flop, "FLOP")),
        *_phases(found),
        ("MACs", units.prefixed(found.flop / 2, "MAC")),
        ("memory traffic", units.size(found.bytes)),
        ("arithmetic intensity", f"{found.flop / max(found.bytes, 1):.2f} FLOP/byte"),
        ("peak memory", units.size(graph.peak_bytes)),
        ("mean memory", units.size(graph.mean_bytes)),
        ("share of the compute ceiling", share(found.compute_share) if found.compute_share else "unknown"),
        ("share of the memory ceiling", share(found.memory_share) if found.memory_share else "unknown"),
        ("share of launch and other fixed cost", share(found.launch_share)),
        ("operators", f"{len(graph.steps)} and {graph.views} views"),
    ]
    return [{"fact": name, "value": value} for name, value in facts]


def _sides(found: ModelTime) -> list[tuple[str, str]]:
    """What a GPU's kernels take, and what the host takes to issue them, where calibration told them apart."""
    facts = (("time on the device", found.device_s), ("time of issuing on the host", found.issue_s))
    return [(name, units.seconds(seconds)) for name, seconds in facts if seconds is not None]


def _phases(found: ModelTime) -> list[tuple[str, str]]:
    """FLOP of each phase where there is more than one."""
    flop: dict[str, int] = {}
    for step in found.steps:
        flop[step.phase] = flop.get(step.phase, 0) + step.op.work.flop
    return [(f"FLOP {phase}", units.prefixed(count, "FLOP")) for phase, count in flop.items()] if len(flop) > 1 else []
