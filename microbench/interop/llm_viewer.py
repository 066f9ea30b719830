"""LLM-Viewer: an entry of ``hardwares/hardware_params.py``.

Fields and units were checked in hahnyuan/LLM-Viewer, ``hardwares/hardware_params.py`` at f307ca5a and
``hardwares/roofline_model.py`` at 2abf048f: ``bandwidth`` in byte/s, ``FP16`` and ``INT8`` in operations per second,
dense (the table halves its sparse figures), ``onchip_buffer`` in bytes; time is OPs / min(rate, intensity x bandwidth),
so the achieved rates go in.
"""

from __future__ import annotations

from typing import Any

from microbench.interop import Exported, Request, reads, writes
from microbench.interop.aiconfigurator import slug
from microbench.interop.declared import Declared, Field, devices_of
from microbench.interop.figures import compute, need_bandwidth, need_compute, plain, tidy, unmeasured
from microbench.records import Characterisation

_DTYPES = {"FP16": "f16", "INT8": "i8"}


@writes("llm-viewer", says="LLM-Viewer hardware_params entry", suffix=".py", checked="hahnyuan/LLM-Viewer f307ca5a")
def write(request: Request) -> Exported:
    """Write one entry, to be added to the consumer's dictionary."""
    c, to = request.characterisation, request.to
    dtype, half = need_compute(c, to, "bf16", "f16")
    memory = need_bandwidth(c, to, "read", "copy", "triad")
    rates, findings = compute(c), []
    entry: dict[str, Any] = {"bandwidth": tidy(memory.value), "FP16": tidy(half.value)}
    if "i8" in rates:
        entry["INT8"] = tidy(rates["i8"].value)
    else:
        findings.append(
            unmeasured(
                to,
                "no i8 rate was measured, so 8-bit weights with 8-bit activations cannot be asked for",
                "run --dtype i8",
            )
        )
    buffer = _cache_bytes(c)
    if buffer is None:
        findings.append(
            unmeasured(
                to, "no cache capacity is known; 1 MiB stands there", "run `microbench run` on the device itself"
            )
        )
    entry["onchip_buffer"] = buffer or 2**20
    units = f"byte/s, OP/s (dense {dtype}), bytes"
    lines = [
        f'"""{plain(c.device.name)}, measured by microbench: {units}. For hardwares/hardware_params.py."""',
        "",
        "hardware_params = {",
        f'    "{slug(c.device.name)}": {{',
        *(f'        "{key}": {value},' for key, value in entry.items()),
        "    },",
        "}",
    ]
    return Exported(text="\n".join(lines) + "\n", findings=tuple(findings))


def _cache_bytes(c: Characterisation) -> int | None:
    """The capacity of the cache that stands for the on-chip buffer: L2 where one is known."""
    levels = (c.device.level(name) for name in ("L2", "L3", "L1"))
    return next((level.capacity_bytes for level in levels if level and level.capacity_bytes), None)


_FIELDS = (
    *(Field(key=key, quantity="compute", scale=1, unit="OP/s", dtype=dtype) for key, dtype in _DTYPES.items()),
    Field(key="bandwidth", quantity="bandwidth", scale=1, unit="byte/s"),
)


@reads("llm-viewer")
def read(document: Any) -> list[Declared] | None:
    """Read ``hardware_params``."""
    return devices_of(document, "hardware_params", _FIELDS)
