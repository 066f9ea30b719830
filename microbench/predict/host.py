"""What an operator or a model pays on a processor beside its work: fetched memory, calls from Python, engine starts.

Operators that are timed alone pay for the memory of their own results and, of a backward pass, for starting the engine.
A fit is of what is left, so that a model pays for what its own allocations fetch and starts the engine once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from microbench.predict.allocator import fetched_bytes

if TYPE_CHECKING:
    from microbench.operators.capture import Graph
    from microbench.operators.table import Batch

Floats = npt.NDArray[np.float64]

# Of what was measured this share at least is work: what is taken off is known no better.
LEAST_WORK = 0.2


def alone_seconds(batch: Batch, host: Mapping[str, float]) -> Floats:
    """Seconds that each row of a batch pays beside its work where it is called alone."""
    seconds = np.zeros(len(batch))
    if batch.launch != "eager" or not host:
        return seconds
    if "mapped_bytes" in host:
        written = np.asarray(batch.counts()["bytes_written"], dtype=np.float64)
        seconds += np.where(written >= host["mapped_bytes"], written, 0.0) * host.get("fetch_s_per_byte", 0.0)
    if batch.direction == "backward":
        seconds += host.get("backward_start_s", 0.0)
    return seconds


def work_seconds(seconds: Floats, alone: Floats) -> Floats:
    """What is work of measured seconds."""
    return np.maximum(seconds - alone, LEAST_WORK * seconds)


def model_seconds(graph: Graph, host: Mapping[str, float]) -> tuple[float, float]:
    """Seconds of a model beside its operators and modules: for memory fetched anew, and for calls.

    An operator inside another one does without a call from Python; a view is nothing but a call; a small parameter
    takes an optimiser what was measured, less what its passes take as operators.
    """
    alone, nested = host.get("alone_s", 0.0), host.get("nested_s", math.inf)
    calls = graph.python_views * host.get("view_s", 0.0)
    calls -= max(0.0, alone - nested) * sum(step.nested for step in graph.steps if step.phase == "forward")
    if graph.train:
        calls += host.get("backward_start_s", 0.0)
    passes = sum(step.phase == "optimiser" for step in graph.steps)
    if passes and f"{graph.optimiser}_s" in host:
        calls += max(0.0, graph.trained * host[f"{graph.optimiser}_s"] - passes * alone)
    return fetched(graph, host) * host.get("fetch_s_per_byte", 0.0), calls


def fetched(graph: Graph, host: Mapping[str, float]) -> int:
    """Bytes that a pass of a model touches for the first time."""
    if not host.get("fetch_s_per_byte"):
        return 0
    mapped, kept = host.get("mapped_bytes", math.inf), host.get("kept_bytes", math.inf)
    return fetched_bytes(graph.allocations, mapped, kept, graph.state_bytes)
