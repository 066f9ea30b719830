"""aiconfigurator: a systems YAML for ``--systems-paths``.

Fields and units were checked in the released packages aiconfigurator 0.12.0 and aiconfigurator-core 0.12.0:
``systems/*.yaml`` (byte/s, flop/s, bytes, seconds, watts, no prefixes), ``sdk/common.py`` (``*_tc_flops`` by compute
dtype; an entry that is missing means that the platform cannot do it, and a placeholder would be believed) and, for the
memory operator, in ai-dynamo/aiconfigurator's Rust engine: ``bytes / (mem_bw x mem_bw_empirical_scaling_factor) +
mem_empirical_constant_latency``.
"""

from __future__ import annotations

import re
from typing import Any

from microbench.errors import UsageError
from microbench.interop import Exported, Request, reads, writes
from microbench.interop.declared import Declared, Field, fields_of, number, table
from microbench.interop.figures import (
    Rate,
    bandwidth,
    compute,
    fixed_cost,
    need_bandwidth,
    need_capacity,
    plain,
    tidy,
    unmeasured,
)
from microbench.records import Finding

_KEYS = {"bf16": "bfloat16_tc_flops", "i8": "int8_tc_flops", "f8e4m3": "fp8_tc_flops", "f4e2m1": "fp4_tc_flops"}


@writes("aiconfigurator", says="aiconfigurator systems YAML", suffix=".yaml", checked="aiconfigurator-core 0.12.0")
def write(request: Request) -> Exported:
    """Write the measured device; links that were not measured are assumed, and a finding says so."""
    c, to = request.characterisation, request.to
    rates = _rates(request)
    memory, capacity = need_bandwidth(c, to, "read", "copy", "triad"), need_capacity(c, to)
    latency, findings = fixed_cost(c, "graph", "kernel", "eager"), []
    if latency is None:
        findings.append(
            unmeasured(to, "no fixed cost per operator was measured; the file says 0 s", "run without --only")
        )
    node, node_findings = _node(request)
    lines = [
        f"# {plain(c.device.name)}, measured by microbench; rates are what programs reach, no sparsity.",
        f"data_dir: data/{slug(c.device.name)} # no table there: estimates from these figures only",
        "gpu:",
        f"  mem_bw: {_digits(memory.peak)} # byte/s",
        f"  mem_bw_empirical_scaling_factor: {tidy(memory.efficiency)} # {plain(memory.source)}",
        f"  mem_empirical_constant_latency: {latency or 0.0:.9f} # s",
        f"  mem_capacity: {capacity} # bytes",
        *(
            f"  {key}: {_digits(rates[dtype].value)} # {plain(rates[dtype].source)}"
            for dtype, key in _KEYS.items()
            if dtype in rates
        ),
        *([f"  power: {tidy(c.device.power_limit_w)} # W"] if c.device.power_limit_w else []),
        f"  sm_version: {_sm_version(c.device.arch)}",
        "",
        *node,
        "",
        "misc:",
        "  nccl_mem:",
        "    1: 0",
        "  other_mem: 0",
        "  nccl_version: '0'",
    ]
    return Exported(text="\n".join(lines) + "\n", findings=(*findings, *node_findings))


def _rates(request: Request) -> dict[str, Rate]:
    """Rates by dtype, bf16 among them."""
    rates = compute(request.characterisation)
    if "bf16" not in rates and "f16" in rates:
        rates["bf16"] = rates["f16"]  # tensor units run both at one rate; consumers of this file ask for bf16 only
    if "bf16" not in rates:
        raise UsageError(
            f"{request.to} needs a compute ceiling of bf16 or f16, and this characterisation has "
            f"{', '.join(rates) or 'none'}; measure it with `microbench run --dtype bf16`"
        )
    return rates


def slug(name: str) -> str:
    """A device name as a file name: lower case, words joined by ``_``."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "device"


def _digits(value: float) -> str:
    return str(round(float(f"{value:.6g}")))


def _sm_version(arch: str) -> int:
    match = re.fullmatch(r"sm_(\d+)[af]?", arch)
    return int(match[1]) if match else 0


def _node(request: Request) -> tuple[list[str], list[Finding]]:
    c, to = request.characterisation, request.to
    host: Rate | None = bandwidth(c, "read", "copy", "write", level="host")
    peer: Rate | None = bandwidth(c, "read", "copy", "write", level="peer")
    link = peer or host
    findings = [
        unmeasured(
            to, "links between nodes are not measured; one device a node is written", "set the node section by hand"
        )
    ]
    # A single device uses no link, but the keys must be there: a link that was measured stands in for the others.
    rate = _digits(link.value) if link else "1"
    pcie = _digits(host.value) if host else "1"
    note = plain(link.source) if link else "not measured; unused with one GPU per node"
    lines = [
        "node:",
        "  num_gpus_per_node: 1",
        f"  inter_node_bw: {rate} # {note}",
        f"  intra_node_bw: {rate} # {note}",
    ]
    return [
        *lines,
        f"  pcie_bw: {pcie} # {plain(host.source) if host else 'not measured'}",
        "  p2p_latency: 0.0 # s, not measured",
    ], findings


_FIELDS = (
    *(Field(key=key, quantity="compute", scale=1, unit="FLOP/s", dtype=dtype) for dtype, key in _KEYS.items()),
    Field(key="float16_tc_flops", quantity="compute", scale=1, unit="FLOP/s", dtype="f16"),
    Field(key="float32_tc_flops", quantity="compute", scale=1, unit="FLOP/s", dtype="tf32", also=("f32",)),
    Field(key="mem_bw", quantity="bandwidth", scale=1, unit="byte/s"),
    Field(key="mem_capacity", quantity="capacity", scale=1, unit="bytes"),
)
# Of one GPU and one direction. Between nodes it is the network of a cluster, which no card has.
_LINKS = (
    Field(key="intra_node_bw", quantity="link", scale=1, unit="byte/s", link="between"),
    Field(key="pcie_bw", quantity="link", scale=1, unit="byte/s", link="pcie"),
)


@reads("aiconfigurator")
def read(document: Any) -> list[Declared] | None:
    """Read the ``gpu`` section of a systems YAML, and the links of its ``node`` section."""
    if not (isinstance(document, dict) and isinstance(document.get("gpu"), dict) and "mem_bw" in document["gpu"]):
        return None
    device = str(document.get("data_dir", "")).rpartition("/")[2]
    number(document["gpu"]["mem_bw"], "gpu.mem_bw")
    found = fields_of(table(document["gpu"], "gpu"), _FIELDS, device, ("gpu",))
    if isinstance(document.get("node"), dict):
        # An export of one device has no link to tell of and writes 1.
        links = {key: value for key, value in document["node"].items() if value != 1}
        found += fields_of(links, _LINKS, device, ("node",))
    return found
