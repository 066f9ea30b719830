"""llm-analysis: a GPU config JSON, with the call's ``achieved_*`` arguments in the findings.

Fields and units were checked in the released package llm-analysis 0.2.2: ``config.py`` (``GPUConfig``: GB of 1e9 bytes,
GB/s, seconds, TFLOPS of dense tensor units; unknown keys are refused) and ``analysis.py`` (``achieved_tflops`` and
``achieved_memory_bandwidth_GBs`` are divided by the config's peaks, so the config keeps the peaks).
"""

from __future__ import annotations

import json
from typing import Any

from microbench.interop import Exported, Request, reads, writes
from microbench.interop.aiconfigurator import slug
from microbench.interop.declared import Declared, Field, fields_of, number, text
from microbench.interop.figures import compute, link, need_bandwidth, need_capacity, need_compute, tidy, unmeasured
from microbench.records import Finding

_TFLOPS = {"f16": "peak_fp16_TFLOPS", "i8": "peak_i8_TFLOPS", "i4": "peak_i4_TFLOPS"}


@writes("llm-analysis", says="llm-analysis GPU config JSON", suffix=".json", checked="llm-analysis 0.2.2")
def write(request: Request) -> Exported:
    """Write peaks; what is achieved goes beside them as arguments, since the config has no field for it."""
    c, to = request.characterisation, request.to
    dtype, half = need_compute(c, to, "bf16", "f16")
    memory, capacity = need_bandwidth(c, to, "read", "copy", "triad"), need_capacity(c, to)
    peer = link(c)
    config: dict[str, Any] = {
        "name": slug(c.device.name).replace("_", "-"),
        "mem_per_GPU_in_GB": tidy(capacity / 1e9),
        "hbm_bandwidth_in_GB_per_sec": tidy(memory.peak / 1e9),
        "intra_node_bandwidth_in_GB_per_sec": tidy(peer.value / 1e9) if peer else 1,
        "intra_node_min_message_latency": 0,
        "peak_fp16_TFLOPS": tidy(half.peak / 1e12),
    }
    rates, findings = compute(c), []
    if "i8" in rates:
        config["peak_i8_TFLOPS"] = tidy(rates["i8"].peak / 1e12)
    else:
        # The class doubles the fp16 peak where this key is missing: a device without such a unit must say so.
        config["peak_i8_TFLOPS"] = config["peak_fp16_TFLOPS"]
        findings.append(unmeasured(to, f"no i8 rate was measured; that of {dtype} stands in", "run --dtype i8"))
    config["peak_i4_TFLOPS"] = config["peak_i8_TFLOPS"]
    config["inter_node_bandwidth_in_GB_per_sec"] = 1
    if peer is None:
        findings.append(
            unmeasured(to, "no link was measured; 1 GB/s stands there and one GPU never asks", "set the links by hand")
        )
    achieved = f"achieved_tflops={tidy(half.value / 1e12)}, achieved_memory_bandwidth_GBs={tidy(memory.value / 1e9)}"
    says = (
        f"pass LLMAnalysis(..., {achieved}): the config holds peaks, these are what {half.source} and {memory.source} "
        "reached"
    )
    findings.append(Finding(code="export-arguments", severity="info", says=says))
    return Exported(text=json.dumps(config, indent=4) + "\n", findings=tuple(findings))


_FIELDS = (
    *(
        Field(key=key, quantity="compute", scale=1e12, unit="TFLOP/s", dtype=dtype)
        for dtype, key in _TFLOPS.items()
        if dtype != "i4"  # no row among the dtypes that this suite measures
    ),
    Field(key="hbm_bandwidth_in_GB_per_sec", quantity="bandwidth", scale=1e9, unit="GB/s"),
    Field(key="mem_per_GPU_in_GB", quantity="capacity", scale=1e9, unit="GB"),
    # Of one GPU and one direction: 300 of an A100, 450 of an H100.
    Field(key="intra_node_bandwidth_in_GB_per_sec", quantity="link", scale=1e9, unit="GB/s", link="between"),
)


@reads("llm-analysis")
def read(document: Any) -> list[Declared] | None:
    """Read a GPU config JSON."""
    if not (isinstance(document, dict) and "peak_fp16_TFLOPS" in document):
        return None
    device = text(document.get("name"), "name")
    for key in ("hbm_bandwidth_in_GB_per_sec", "mem_per_GPU_in_GB"):
        number(document.get(key), key)
    # A rate of 0 is this format's way to say that the device has no such unit, a link of 1 that of an export.
    kept = {
        key: value
        for key, value in document.items()
        if not (key in _TFLOPS.values() and value == 0) and not (key.startswith("intra_node_b") and value == 1)
    }
    return fields_of(kept, _FIELDS, device, ())
