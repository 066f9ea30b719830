"""PyTorch: an importable file of the device's figures, with what its eager and inductor estimators call.

Fields and units were checked in the released wheels torch 2.13.0 and 2.11.0: ``_inductor/analysis/device_info.py``
(``DeviceInfo``: TFLOP/s by dtype, GB/s, GB; ``tops_sparsity_factor``, which 2.11 has not, divides every dtype),
``_inductor/utils.py`` (``get_device_tflops`` asks the table only where a GPU is present, ``get_gpu_dram_gbps`` asks the
driver), ``utils/_runtime_estimation.py`` (2.13 halves FLOP and takes 0.75 of the peak, 2.11 takes it for PFLOP/s on
top, the scheduler does none of it; the file measures that factor on the torch it finds) and ``_inductor/comms.py``
(``estimate_op_runtime`` in milliseconds).
"""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.resources import files
from typing import Any

from microbench.interop import Exported, Request, reads, writes
from microbench.interop.declared import Declared, Field, declare, number, table
from microbench.interop.figures import compute, fixed_cost, need_bandwidth, need_compute, tidy, unmeasured
from microbench.records.dtypes import DTYPES

_NAMES = {name: "tf32" if name == "tf32" else row.torch for name, row in DTYPES.items() if row.torch}
_DTYPES = {torch_name: name for name, torch_name in _NAMES.items()} | {"torch.tf32": "tf32", "float32": "f32"}
_FIGURES = re.compile(r"# figures begin\n.*?# figures end\n", re.DOTALL)


@writes(
    "pytorch",
    says="PyTorch device figures and runtime-estimation callables",
    suffix=".py",
    checked="torch 2.13.0 and 2.11.0",
)
def write(request: Request) -> Exported:
    """Write achieved rates: torch knows no efficiency, and its own derating is taken out when the file is used."""
    c, to = request.characterisation, request.to
    need_compute(c, to)
    rates = {str(_NAMES[dtype]): tidy(rate.value / 1e12) for dtype, rate in compute(c).items() if dtype in _NAMES}
    memory, cost, findings = (
        need_bandwidth(c, to, "copy", "triad", "read"),
        fixed_cost(c, "eager", "kernel", "graph"),
        [],
    )
    if cost is None:
        findings.append(
            unmeasured(
                to,
                "no fixed cost per operator is known; COST_MS is 0, and small operators look too fast",
                "run without --only",
            )
        )
    if c.device.memory_bytes is None:
        findings.append(
            unmeasured(
                to,
                "the memory capacity is not known; DRAM_GB is 0 and torch's estimators do not read it",
                "none needed",
            )
        )
    lines = [
        f"NAME = {c.device.name!r}",
        "TFLOPS = {",
        *(f'    "{name}": {value},' for name, value in rates.items()),
        "}",
        f"DRAM_GBPS = {tidy(memory.value / 1e9)}",
        f"DRAM_GB = {tidy((c.device.memory_bytes or 0) / 1e9)}",
        f"COST_MS = {tidy((cost or 0.0) * 1e3)}",
    ]
    body = files("microbench.interop").joinpath("_pytorch_device.py").read_text(encoding="utf-8")
    figures = "\n".join(["# figures begin", *lines, "# figures end"]) + "\n"
    return Exported(text=_FIGURES.sub(lambda _: figures, body, count=1), findings=tuple(findings))


_BANDWIDTH = Field(key="dram_bw_gbs", quantity="bandwidth", scale=1e9, unit="GB/s")
_CAPACITY = Field(key="dram_gb", quantity="capacity", scale=1e9, unit="GB")


@reads("pytorch")
def read(document: Any) -> list[Declared] | None:
    """Read an exported file, or torch's own ``_device_mapping``."""
    if not isinstance(document, dict):
        return None
    if isinstance(document.get("TFLOPS"), dict) and "DRAM_GBPS" in document:
        names = {"tops": "TFLOPS", "dram_bw_gbs": "DRAM_GBPS", "dram_gb": "DRAM_GB"}
        entry = {key: document[name] for key, name in names.items() if document.get(name)}
        found = _entry(str(document.get("NAME", "")), entry, ())
        return [replace(row, keys=(names[row.keys[0]], *row.keys[1:])) for row in found]
    mapping = document.get("_device_mapping")
    if not isinstance(mapping, dict):
        return None
    return [
        row
        for name, entry in mapping.items()
        for row in _entry(str(name), table(entry, f"_device_mapping.{name}"), ("_device_mapping", str(name)))
    ]


def _entry(name: str, entry: dict[str, Any], keys: tuple[str, ...]) -> list[Declared]:
    factor, found = number(entry.get("tops_sparsity_factor", 1), f"{name}.tops_sparsity_factor"), []
    note = f" divided by tops_sparsity_factor {factor:g}" if factor != 1 else ""
    for key, value in table(entry.get("tops"), f"{name}.tops").items():
        peak = Field(
            key=key, quantity="compute", scale=1e12 / factor, unit="TFLOP/s", dtype=_DTYPES.get(key), note=note
        )
        row = declare(peak, value, name, (*keys, "tops", str(key)), f"{name}.tops.{key}")
        found += [row] if key in _DTYPES else []
    fields = [_BANDWIDTH, *([_CAPACITY] if "dram_gb" in entry else [])]
    found += [declare(field, entry.get(field.key), name, (*keys, field.key), f"{name}.{field.key}") for field in fields]
    return found
