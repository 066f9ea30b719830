"""Fake X100 SXM 80GB, measured by microbench: GB/s, TFLOP/s of dense bf16, bytes, milliseconds.

Use estimate(model, GPU, workload=..., calibration=CALIBRATION)."""

from servcalc import Calibration, Curve
from servcalc.gpus import GpuSpec

GPU = GpuSpec(
    name='Fake X100 SXM 80GB',
    vram_bytes=85899345920,
    bandwidth_gbs=3000.0,
    bf16_tflops=1000.0,
)
CALIBRATION = Calibration(
    bw_util=Curve(((1, 0.784, 0.8, 0.808),)),  # read.f32
    mfu=Curve(((1, 0.735, 0.75, 0.7575),)),  # matmul.bf16
    overhead_ms=(0.002, 0.002, 0.002),
    source="measured",
)
