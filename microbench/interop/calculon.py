"""calculon: a system JSON with size-dependent efficiencies.

Fields and units were checked in calculon-ai/calculon: ``calculon/processor.py`` at f50f3a48 (``tflops`` times 1e12;
``gflops_efficiency`` rows are [GFLOP of the operator, share in (0, 1]], strictly descending, the first row whose size
is not above the operator's counts), ``calculon/memory.py`` at b2fe8157 (``GiB`` times 1024^3, ``GBps`` times 1e9,
``MB_efficiency`` in units of 1e6 bytes), ``calculon/network.py`` at 71f64353 (the exact set of keys, ``bandwidth`` in
GB/s) and ``calculon/system.py`` at 345f8934 (dtype names).
"""

from __future__ import annotations

import math
from typing import Any

from microbench.errors import UsageError
from microbench.interop import Exported, Request, reads, writes
from microbench.interop.declared import Declared, Field, declare, table
from microbench.interop.figures import (
    Rate,
    bandwidth,
    compute,
    fixed_cost,
    need_bandwidth,
    need_capacity,
    pretty,
    tidy,
    unmeasured,
)
from microbench.records import Finding

_NAMES = {"f8e4m3": "float8", "f16": "float16", "bf16": "bfloat16", "f32": "float32"}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
# Steps of the curve: a factor 4 apart, which bounds the error of a step to a factor 2 in size, over the range operators
# have.
_GFLOP_STEPS = tuple(4.0**power for power in range(6, -9, -1))
_MB_STEPS = tuple(4.0**power for power in range(7, -7, -1))


def curve(rate: Rate, cost_s: float | None, steps: tuple[float, ...], unit: float) -> list[list[float | int]]:
    """Efficiency by size, in descending steps down to 0.

    Each step holds ``size / (peak x (cost + size / rate))`` at its geometric middle. Without a fixed cost the
    efficiency does not depend on the size and the curve is one row.
    """
    if not cost_s:
        return [[0, tidy(rate.efficiency)]]
    rows: list[list[float | int]] = []
    for step in (*steps, 0.0):
        size = unit * (2 * step if step else steps[-1] / 2)
        share = size / (rate.peak * (cost_s + size / rate.value))
        if rows and math.isclose(float(rows[-1][1]), share, rel_tol=0.01):
            rows[-1][0] = tidy(step)  # two steps that agree to 1 % are one
            continue
        rows.append([tidy(step), max(tidy(min(share, 1.0), 4), 1e-9)])
    return rows


@writes(
    "calculon",
    says="calculon system JSON with efficiency curves",
    suffix=".json",
    checked="calculon-ai/calculon 345f8934",
)
def write(request: Request) -> Exported:
    """Write matrix and vector engines by dtype, the device memory and, where it was measured, the link to the host."""
    c, to = request.characterisation, request.to
    cost = fixed_cost(c, "graph", "kernel", "eager")
    matrix, vector, findings = _engines(request)
    memory = need_bandwidth(c, to, "copy", "triad", "read")
    if cost is None:
        findings.append(
            unmeasured(
                to, "no fixed cost per operator is known, so efficiencies do not depend on size", "run without --only"
            )
        )
    host, host_findings = _host(request)
    document = {
        "matrix": {_NAMES[dtype]: _engine(rate, cost) for dtype, rate in sorted(matrix.items())},
        "vector": {_NAMES[dtype]: _engine(rate, cost) for dtype, rate in sorted(vector.items()) if dtype in matrix},
        "mem1": _memory(memory, need_capacity(c, to), cost),
        "mem2": host,
        "processing_mode": "roofline",
        "networks": [_no_network()],
    }
    findings.append(
        unmeasured(
            to, "the network between devices is not measured; the file holds one device", "add your networks by hand"
        )
    )
    return Exported(text=pretty(document), findings=(*findings, *host_findings))


def _engines(request: Request) -> tuple[dict[str, Rate], dict[str, Rate], list[Finding]]:
    """Rates of the matrix and of the vector engine by dtype, the same dtypes in both."""
    c, to, findings = request.characterisation, request.to, []
    matrix = {dtype: rate for dtype, rate in compute(c).items() if dtype in _NAMES}
    if not matrix:
        raise UsageError(
            f"{to} needs a compute ceiling of {', '.join(_NAMES)}; measure one with `microbench run --dtype bf16`"
        )
    vector = {dtype: rate for dtype, rate in compute(c, "vector").items() if dtype in _NAMES}
    for dtype in [dtype for dtype in matrix if dtype not in vector]:
        # calculon asks one engine or the other by dtype; elementwise work in a dtype without vector rate is bound by
        # memory anyway.
        vector[dtype] = vector.get("f32") or matrix[dtype]
        says = f"no vector rate of {dtype}; that of f32 or of the matrix unit stands in"
        findings.append(unmeasured(to, says, f"run --dtype {dtype},f32"))
    return matrix, vector, findings


def _engine(rate: Rate, cost: float | None) -> dict[str, Any]:
    return {"tflops": tidy(rate.peak / 1e12), "gflops_efficiency": curve(rate, cost, _GFLOP_STEPS, 1e9)}


def _memory(rate: Rate, capacity: int, cost: float | None) -> dict[str, Any]:
    return {
        "GiB": tidy(capacity / 1024**3),
        "GBps": tidy(rate.peak / 1e9),
        "MB_efficiency": curve(rate, cost, _MB_STEPS, 1e6),
    }


def _host(request: Request) -> tuple[dict[str, Any], list[Finding]]:
    link = bandwidth(request.characterisation, "read", "copy", "write", level="host")
    if link is None:
        # Nothing fits into 0 GiB, so calculon refuses to offload; the rate is only there because the field must be.
        finding = unmeasured(
            request.to, "no host link was measured, so offloading is off (mem2 holds 0 GiB)", "run --level host"
        )
        return {"GiB": 0, "GBps": 1, "MB_efficiency": [[0, 1]]}, [finding]
    return {"GiB": 0, "GBps": tidy(link.peak / 1e9), "MB_efficiency": [[0, tidy(link.efficiency)]]}, [
        unmeasured(
            request.to,
            "the capacity of the host memory is not known, so offloading is off (mem2 holds 0 GiB)",
            "set mem2.GiB by hand",
        )
    ]


def _no_network() -> dict[str, Any]:
    """A network tier of a single processor: nothing is sent, but calculon demands every key."""
    operations = {"p2p": [1, None], "reduce_scatter": [1, -1], "all_gather": [1, -1], "all_reduce": [2, -1]}
    rest = {"latency": 0, "ops": operations, "must_be_filled": False, "processor_usage": 0}
    return {"bandwidth": 1, "efficiency": 1, "size": 1, **rest}


_GBPS = Field(key="GBps", quantity="bandwidth", scale=1e9, unit="GB/s")
_GIB = Field(key="GiB", quantity="capacity", scale=1024**3, unit="GiB")
_LINK = Field(key="bandwidth", quantity="link", scale=1e9, unit="GB/s", link="between")
# Most devices that one NVLink domain has: beyond that a tier of the network is a cluster's.
_DOMAIN = 576


@reads("calculon")
def read(document: Any) -> list[Declared] | None:
    """Read the engines' peaks, the memory and the innermost network of a system JSON, one direction of one device."""
    if not (isinstance(document, dict) and {"matrix", "mem1", "processing_mode"} <= document.keys()):
        return None
    found: list[Declared] = []
    for unit in ("vector", "matrix"):
        for name, engine in table(document.get(unit, {}), unit).items():
            peak = Field(
                key="tflops",
                quantity="compute",
                scale=1e12,
                unit="TFLOP/s",
                dtype=_DTYPES.get(name),
                vector=unit == "vector",
            )
            keys = (unit, str(name), "tflops")
            row = declare(peak, table(engine, f"{unit}.{name}").get("tflops"), "", keys)
            found += [row] if name in _DTYPES else []
    memory = table(document["mem1"], "mem1")
    found += [declare(field, memory.get(field.key), "", ("mem1", field.key)) for field in (_GBPS, _GIB)]
    networks = document.get("networks")
    first = networks[0] if isinstance(networks, list) and networks and isinstance(networks[0], dict) else {}
    size = first.get("size")
    # A network of one device has nothing to send, and a bandwidth because the key must be there.
    if isinstance(size, int) and 1 < size <= _DOMAIN and "bandwidth" in first:
        found.append(declare(_LINK, first["bandwidth"], "", ("networks", "0", "bandwidth")))
    return found
