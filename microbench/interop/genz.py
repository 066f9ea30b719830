"""GenZ: an entry of ``system_configs``.

Fields and units were checked in the released package genz-llm 0.0.16: ``Systems/system_configs.py``,
``GenZ/LLM_inference/utils.py`` (``Flops`` TFLOP/s of bf16, ``Memory_BW``, ``Memory_size``, ``ICN``, ``ICN_LL`` in
microseconds, ``real_values`` must be true) and ``GenZ/unit.py``: bandwidths called GB/s are multiplied by 2^30, sizes
called GB by 2^10 x 2^20, so both are binary here; ``Flops`` is halved into multiply-adds and operators are counted in
multiply-adds, so an FMA is 2 in the file.
"""

from __future__ import annotations

from typing import Any

from microbench.interop import Exported, Request, reads, writes
from microbench.interop.declared import Declared, Field, devices_of
from microbench.interop.figures import link, need_bandwidth, need_capacity, need_compute, plain, tidy, unmeasured
from microbench.records import Finding

_GIB = 2**30


@writes("genz", says="GenZ system_configs entry", suffix=".py", checked="genz-llm 0.0.16")
def write(request: Request) -> Exported:
    """Write peaks as the entry; the efficiencies are the arguments ``ceff`` and ``meff`` and stand beside it."""
    c, to = request.characterisation, request.to
    dtype, rate = need_compute(c, to, "bf16", "f16")
    memory, capacity = need_bandwidth(c, to, "read", "copy", "triad"), need_capacity(c, to)
    between = link(c)
    no_link = unmeasured(
        to, "no link was measured; 1 stands for ICN and one device never asks", "set ICN and ICN_LL by hand"
    )
    findings = [] if between else [no_link]
    lines = [
        f'"""{plain(c.device.name)}, measured by microbench.',
        "",
        (
            f"Flops in TFLOP/s of dense {dtype}; Memory_BW and ICN in GiB/s and Memory_size in GiB, which is how GenZ "
            "reads its GB."
        ),
        (
            "Use get_inference_system(system_name=system_configs[NAME], ceff=COMPUTE_EFFICIENCY, "
            'meff=MEMORY_EFFICIENCY)."""'
        ),
        "",
        f"NAME = {c.device.name!r}",
        f"COMPUTE_EFFICIENCY = {tidy(rate.efficiency)}  # {plain(rate.source)}",
        f"MEMORY_EFFICIENCY = {tidy(memory.efficiency)}  # {plain(memory.source)}",
        "system_configs = {",
        f"    {c.device.name!r}: {{",
        f'        "Flops": {tidy(rate.peak / 1e12)},',
        f'        "Memory_size": {tidy(capacity / _GIB)},',
        f'        "Memory_BW": {tidy(memory.peak / _GIB)},',
        f'        "ICN": {tidy(between.value / _GIB) if between else 1},',
        '        "real_values": True,',
        "    },",
        "}",
    ]
    says = (
        f"GenZ multiplies bandwidths by 2^30: {tidy(memory.peak / 1e9)} GB/s is written as {tidy(memory.peak / _GIB)}"
    )
    findings.append(Finding(code="export-binary-unit", severity="info", says=says))
    return Exported(text="\n".join(lines) + "\n", findings=tuple(findings))


_FIELDS = (
    Field(key="Flops", quantity="compute", scale=1e12, unit="TFLOP/s", dtype="bf16"),
    Field(key="Memory_BW", quantity="bandwidth", scale=_GIB, unit="GiB/s"),
    Field(key="Memory_size", quantity="capacity", scale=_GIB, unit="GiB"),
    # What one device sends, in one direction.
    Field(key="ICN", quantity="link", scale=_GIB, unit="GiB/s", link="between"),
)


@reads("genz")
def read(document: Any) -> list[Declared] | None:
    """Read ``system_configs`` in the binary units that the consumer applies, whatever was meant."""
    found = devices_of(document, "system_configs", _FIELDS)
    # An export of one device has no link to tell of and writes 1.
    return None if found is None else [row for row in found if not (row.link and row.value == _GIB)]
