"""A predicted model for programs: one JSON document, or one table whose first row is the model, then its modules."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from microbench.predict.module_tree import module_tree
from microbench.records import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microbench.predict.model import ModelTime


def known(value: float) -> float | None:
    """A number, or nothing where there is none."""
    return None if math.isnan(value) else float(value)


def model_facts(found: ModelTime) -> dict[str, str | int | float | bool | None]:
    """The whole model: seconds, FLOP, bytes and shares of one."""
    graph, latency = found.graph, found.latency
    return {
        "name": graph.name,
        "batch": graph.batch,
        "train": graph.train,
        "compiled": graph.compiled,
        "launch": found.launch,
        "seconds": latency.value,
        "low": latency.low,
        "high": latency.high,
        "confidence": latency.confidence,
        "basis": latency.basis,
        "samples_per_s": found.samples_per_s,
        "flop": found.flop,
        "bytes": found.bytes,
        "parameters": graph.parameters,
        "parameter_bytes": graph.parameter_bytes,
        "peak_bytes": graph.peak_bytes,
        "mean_bytes": graph.mean_bytes,
        "load_s": found.load_s,
        "compute_share": found.compute_share,
        "memory_share": found.memory_share,
        "cost_share": found.launch_share,
        "issue_s": found.issue_s,
        "device_s": found.device_s,
        "operators": len(graph.steps),
        "views": graph.views,
        "without_rule": sum(graph.unknown.values()),
    }


def module_rows(found: ModelTime) -> list[Row]:
    """The modules, each with all that is inside it."""
    return [
        {
            "module": each.path,
            "class": each.kind,
            "calls": each.calls,
            "parameters": each.parameters,
            "operators": each.operators,
            "flop": each.flop,
            "bytes": each.bytes,
            "seconds": each.seconds,
            "share": round(each.share, 4),
        }
        for each in module_tree(found)
    ]


def as_document(found: ModelTime, operators: Sequence[Row]) -> str:
    """The JSON document: ``model``, ``modules``, ``operators``."""
    document = {
        "model": model_facts(found),
        "modules": [dict(row) for row in module_rows(found)],
        "operators": [dict(row) for row in operators],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def as_table(found: ModelTime, operators: Sequence[Row]) -> list[Row]:
    """The same as one table; the first column says what a row is."""
    whole: Row = {"row": "model", **model_facts(found), "share": 1.0}
    modules = [{"row": "module", **row} for row in module_rows(found)]
    return [whole, *modules, *({"row": "operator", **row} for row in operators)]
