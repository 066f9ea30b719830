"""GenZ: an entry of ``system_configs``.

Fields and units were checked in the released package genz-llm 0.0.16: ``Systems/system_configs.py``, ``GenZ/LLM_inference/utils.py``
(``Flops`` TFLOP/s of bf16, ``Memory_BW``, ``Memory_size``, ``ICN``, ``ICN_LL`` in microseconds, ``real_values`` must be true) and
``GenZ/unit.py``: bandwidths called GB/s are multiplied by 2^30, sizes called GB by 2^10 x 2^20, so both are binary here;
``Flops`` is halved into multiply-adds and operators are counted in multiply-adds, so an FMA is 2 in the file.
"""

from __future__ import annotations

from typing import Any

from microbench.export import Exported, Request, reads, writes
from microbench.export.declared import Declared, number, table
from microbench.export.figures import bandwidth, need_bandwidth, need_capacity, need_compute, plain, tidy, unmeasured
from microbench.records import Finding

_GIB = 2**30


@writes("genz", says="GenZ system_configs entry", suffix=".py", checked="genz-llm 0.0.16")
def write(request: Request) -> Exported:
    """Write peaks as the entry; the efficiencies are the arguments ``ceff`` and ``meff`` and stand beside it."""
    c, to = request.characterisation, request.to
    dtype, rate = need_compute(c, to, "bf16", "f16")
    memory, capacity = need_bandwidth(c, to, "read", "copy", "triad"), need_capacity(c, to)
    link = bandwidth(c, "read", "copy", "write", level="peer") or bandwidth(c, "read", "copy", "write", level="host")
    findings = []
    if link is None:
        findings.append(unmeasured(to, "no link was measured; 1 stands for ICN and one device never asks", "set ICN and ICN_LL by hand"))
    lines = [
        f'"""{plain(c.device.name)}, measured by microbench.',
        "",
        f"Flops in TFLOP/s of dense {dtype}; Memory_BW and ICN in GiB/s and Memory_size in GiB, which is how GenZ reads its GB.",
        'Use get_inference_system(system_name=system_configs[NAME], ceff=COMPUTE_EFFICIENCY, meff=MEMORY_EFFICIENCY)."""',
        "",
        f"NAME = {c.device.name!r}",
        f"COMPUTE_EFFICIENCY = {tidy(rate.efficiency)}  # {plain(rate.source)}",
        f"MEMORY_EFFICIENCY = {tidy(memory.efficiency)}  # {plain(memory.source)}",
        "system_configs = {",
        f"    {c.device.name!r}: {{",
        f'        "Flops": {tidy(rate.peak / 1e12)},',
        f'        "Memory_size": {tidy(capacity / _GIB)},',
        f'        "Memory_BW": {tidy(memory.peak / _GIB)},',
        f'        "ICN": {tidy(link.value / _GIB) if link else 1},',
        '        "real_values": True,',
        "    },",
        "}",
    ]
    says = f"GenZ multiplies bandwidths by 2^30: {tidy(memory.peak / 1e9)} GB/s is written as {tidy(memory.peak / _GIB)}"
    findings.append(Finding(code="export-binary-unit", severity="info", says=says))
    return Exported(text="\n".join(lines) + "\n", findings=tuple(findings))


@reads("genz")
def read(document: Any) -> list[Declared] | None:
    """Read ``system_configs`` in the binary units that the consumer applies, whatever was meant."""
    if not (isinstance(document, dict) and isinstance(document.get("system_configs"), dict)):
        return None
    found = []
    for device, entry in document["system_configs"].items():
        row, name = table(entry, f"system_configs.{device}"), str(device)
        for key, scale, quantity, dtype, unit in (
            ("Flops", 1e12, "compute", "bf16", "TFLOP/s"),
            ("Memory_BW", _GIB, "bandwidth", None, "GiB/s"),
            ("Memory_size", _GIB, "capacity", None, "GiB"),
        ):
            if key in row:
                value, where = number(row[key], f"{name}.{key}"), f"system_configs.{name}.{key}"
                stated = f"{value:g} {unit}"
                found.append(
                    Declared(device=name, quantity=quantity, value=value * scale, where=where, stated=stated, dtype=dtype)  # type: ignore[arg-type]
                )
    return found
