"""servcalc: a ``GpuSpec`` and a ``Calibration`` whose source is a measurement.

Fields and units were checked in the released package servcalc 0.1.0: ``gpus.py`` (``bandwidth_gbs`` GB/s,
``bf16_tflops`` dense TFLOP/s, ``vram_bytes``), ``calibration.py`` (curves are rows (tokens, low, mid, high) of
utilisation, ascending in tokens) and ``timing.py`` (time is max(bytes / (bandwidth x utilisation), FLOP / (peak x
utilisation)) plus ``overhead_ms`` per step).
"""

from __future__ import annotations

from typing import Any

from microbench.interop import Exported, Request, reads, writes
from microbench.interop.declared import Declared, Field, declare
from microbench.interop.figures import (
    Rate,
    fixed_cost,
    need_bandwidth,
    need_capacity,
    need_compute,
    plain,
    tidy,
    unmeasured,
)


@writes("servcalc", says="servcalc GpuSpec and measured Calibration", suffix=".py", checked="servcalc 0.1.0")
def write(request: Request) -> Exported:
    """Write the peaks as the spec, and the shares reached as the curves, of one row for any number of tokens."""
    c, to = request.characterisation, request.to
    dtype, rate = need_compute(c, to, "bf16", "f16")
    memory, capacity = need_bandwidth(c, to, "read", "copy", "triad"), need_capacity(c, to)
    cost = fixed_cost(c, "graph", "eager", "kernel")
    milliseconds = tidy((cost or 0.0) * 1e3)
    says = "the fixed cost is that of one operator; what a serving engine adds to a step is not measured"
    lines = [
        f'"""{plain(c.device.name)}, measured by microbench: GB/s, TFLOP/s of dense {dtype}, bytes, milliseconds.',
        "",
        'Use estimate(model, GPU, workload=..., calibration=CALIBRATION)."""',
        "",
        "from servcalc import Calibration, Curve",
        "from servcalc.gpus import GpuSpec",
        "",
        "GPU = GpuSpec(",
        f"    name={c.device.name!r},",
        f"    vram_bytes={capacity},",
        f"    bandwidth_gbs={float(tidy(memory.peak / 1e9))},",
        f"    bf16_tflops={float(tidy(rate.peak / 1e12))},",
        ")",
        "CALIBRATION = Calibration(",
        f"    bw_util=Curve(({_row(memory)},)),  # {plain(memory.source)}",
        f"    mfu=Curve(({_row(rate)},)),  # {plain(rate.source)}",
        f"    overhead_ms=({milliseconds}, {milliseconds}, {milliseconds}),",
        '    source="measured",',
        ")",
    ]
    return Exported(
        text="\n".join(lines) + "\n", findings=(unmeasured(to, says, "add your engine's overhead to overhead_ms"),)
    )


def _row(rate: Rate) -> str:
    low, high = rate.low or rate.value, max(rate.high or rate.value, rate.value)
    shares = [float(tidy(value / rate.peak)) for value in (low, rate.value, min(high, rate.peak))]
    return f"(1, {', '.join(str(share) for share in sorted(shares))})"


_BANDWIDTH = Field(key="bandwidth_gbs", quantity="bandwidth", scale=1e9, unit="GB/s")
_PEAK = Field(key="bf16_tflops", quantity="compute", scale=1e12, unit="TFLOP/s", dtype="bf16")
_MEMORY = Field(key="vram_bytes", quantity="capacity", scale=1, unit="bytes")


@reads("servcalc")
def read(document: Any) -> list[Declared] | None:
    """Read an exported ``GPU`` or the package's own ``SPECS`` of (GB/s, TFLOP/s)."""
    if not isinstance(document, dict):
        return None
    gpu, specs = document.get("GPU"), document.get("SPECS")
    if isinstance(gpu, dict) and "bandwidth_gbs" in gpu:
        name = str(gpu.get("name", ""))
        fields = [_BANDWIDTH, _PEAK, *([_MEMORY] if "vram_bytes" in gpu else [])]
        return [declare(field, gpu.get(field.key), name, ("GPU", field.key)) for field in fields]
    if not (
        isinstance(specs, dict) and specs and all(isinstance(row, list) and len(row) == 2 for row in specs.values())
    ):
        return None
    return [
        declare(field, value, str(name), ("SPECS", str(name)), f"SPECS.{name}.{said}")
        for name, row in specs.items()
        for field, said, value in ((_BANDWIDTH, "bandwidth", row[0]), (_PEAK, "bf16", row[1]))
    ]
