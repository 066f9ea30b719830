"""onnx-tool: an entry of ``Devices``.

Fields and units were checked in the released package onnx-tool 1.0.1: ``device.py`` and ``llm.py`` (``profile``:
``FP32``, ``FP16``, ``INT8`` times 1e6 is operations per millisecond, so they are GFLOP/s; ``Bandwidth`` times 1e6 is
bytes per millisecond, so it is GB/s; operations are twice the multiply-adds; ``FP32`` must be there, since it stands in
for what is missing).
"""

from __future__ import annotations

from typing import Any

from microbench.interop import Exported, Request, reads, writes
from microbench.interop.declared import Declared, Field, devices_of
from microbench.interop.figures import bandwidth, compute, need_bandwidth, need_compute, plain, tidy

_DTYPES = {"FP32": "f32", "FP16": "f16", "INT8": "i8"}


@writes("onnx-tool", says="onnx-tool Devices entry", suffix=".py", checked="onnx-tool 1.0.1")
def write(request: Request) -> Exported:
    """Write achieved rates: the consumer knows no efficiency."""
    c, to = request.characterisation, request.to
    rates = {**compute(c), "f32": need_compute(c, to, "f32", "tf32")[1]}
    rates.setdefault("f16", rates.get("bf16", rates["f32"]))
    memory, link = need_bandwidth(c, to, "copy", "triad", "read"), bandwidth(c, "read", "copy", "write", level="peer")
    entry = {key: tidy(rates[dtype].value / 1e9) for key, dtype in _DTYPES.items() if dtype in rates}
    entry["Bandwidth"] = tidy(memory.value / 1e9)
    if link:
        entry["LinkBandwidth"] = tidy(link.value / 1e9)
    use = "Pass Devices[NAME] to profile(Device=...)."
    lines = [
        f'"""{plain(c.device.name)}, measured by microbench: GFLOP/s and GB/s. {use}"""',
        "",
        f"NAME = {c.device.name!r}",
        "Devices = {",
        f"    {c.device.name!r}: {{",
        *(f'        "{key}": {value},' for key, value in entry.items()),
        "    },",
        "}",
    ]
    return Exported(text="\n".join(lines) + "\n")


_FIELDS = (
    *(Field(key=key, quantity="compute", scale=1e9, unit="GFLOP/s", dtype=dtype) for key, dtype in _DTYPES.items()),
    Field(key="Bandwidth", quantity="bandwidth", scale=1e9, unit="GB/s"),
    Field(key="LinkBandwidth", quantity="link", scale=1e9, unit="GB/s", link="between"),
)


@reads("onnx-tool")
def read(document: Any) -> list[Declared] | None:
    """Read ``Devices``."""
    return devices_of(document, "Devices", _FIELDS)
