"""ASTRA-sim: a system JSON with the roofline switched on, for one dtype.

Fields and units were checked in astra-sim/astra-sim, ``astra-sim/system/Sys.cc`` at 12737a68 and later (``peak-perf``
times 1e12 is FLOP/s, ``local-mem-bw`` is GB/s) and ``Roofline.cc`` at cea1ecec (rate = min(bandwidth x intensity,
peak), nothing else). Versions before the 2024 fix took ``local-mem-bw`` as byte/s: with those, multiply it by 1e9.
There is one rate for all dtypes, hence one file per dtype.
"""

from __future__ import annotations

from typing import Any

from microbench.interop import Exported, Request, reads, writes
from microbench.interop.declared import Declared, Field, declare
from microbench.interop.figures import need_bandwidth, need_compute, pretty, tidy, unmeasured
from microbench.records import Finding

_ORDER = ("bf16", "f16", "tf32", "f32", "f64")


@writes(
    "astra-sim",
    says="ASTRA-sim system JSON, one dtype (astra-sim:bf16)",
    suffix=".json",
    checked="astra-sim/astra-sim 12737a68",
)
def write(request: Request) -> Exported:
    """Write achieved rates: the simulator knows no efficiency."""
    c, to = request.characterisation, request.to
    dtype, rate = need_compute(c, to, *((request.dtype,) if request.dtype else _ORDER))
    memory = need_bandwidth(c, to, "copy", "triad", "read")
    ring = {f"{name}-implementation": ["ring"] for name in ("all-reduce", "all-gather", "reduce-scatter", "all-to-all")}
    document = {
        "scheduling-policy": "LIFO",
        "endpoint-delay": 10,
        "active-chunks-per-dimension": 1,
        "preferred-dataset-splits": 4,
        **ring,
        "collective-optimization": "localBWAware",
        "local-mem-bw": tidy(memory.value / 1e9),
        "boost-mode": 0,
        "roofline-enabled": 1,
        "peak-perf": tidy(rate.value / 1e12),
    }
    findings = [
        unmeasured(
            to,
            "collectives are the simulator's own defaults (ring, one dimension)",
            "merge the three measured keys into your system file",
        ),
        Finding(
            code="export-one-dtype",
            severity="info",
            says=f"peak-perf is {rate.source}; export {to}:DTYPE for another dtype than {dtype}",
        ),
    ]
    return Exported(text=pretty(document), findings=tuple(findings))


_PEAK = Field(key="peak-perf", quantity="compute", scale=1e12, unit="TFLOP/s")
_MEMORY = Field(key="local-mem-bw", quantity="bandwidth", scale=1e9, unit="GB/s")


@reads("astra-sim")
def read(document: Any) -> list[Declared] | None:
    """Read the roofline keys; the dtype is not said in the file, so the peak is held against any."""
    if not (isinstance(document, dict) and "peak-perf" in document and "local-mem-bw" in document):
        return None
    return [declare(field, document[field.key], "", (field.key,)) for field in (_PEAK, _MEMORY)]
