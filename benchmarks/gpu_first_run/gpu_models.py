"""Whole models: predicted from the newest characterisation, measured eagerly and replayed as a graph."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_rows import Row, failure, say

PROGRAM = Path(__file__).resolve().with_name("gpu_first.py")
PASSES = 4  # between two looks at the clock
PREDICT_LIMIT = 60  # seconds


def linear() -> Any:
    """One layer."""
    import torch

    return torch.nn.Linear(4096, 4096)


def mlp() -> Any:
    """Two layers with an activation between."""
    from torch import nn

    return nn.Sequential(nn.Linear(4096, 16384), nn.GELU(), nn.Linear(16384, 4096))


def encoder() -> Any:
    """One layer of a transformer."""
    from torch import nn

    return nn.TransformerEncoderLayer(768, 12, 3072, batch_first=True)


def resnet50() -> Any:
    """Convolutions."""
    import torchvision  # type: ignore[import-not-found, unused-ignore]

    return torchvision.models.resnet50()


def stack() -> Any:
    """Four wide layers of a transformer."""
    from torch import nn

    layer = [nn.TransformerEncoderLayer(2048, 16, 8192, batch_first=True, norm_first=True) for _ in range(4)]
    return nn.Sequential(*layer)


# Maker, input and dtype of each model.
MODELS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "linear4096_f32": (linear, "1x4096:f32", "f32"),
    "mlp_bf16": (mlp, "4096x4096:f32", "bf16"),
    "encoder_f32": (encoder, "8x128x768:f32", "f32"),
    "encoder_bf16": (encoder, "8x512x768:f32", "bf16"),
    "resnet50_f32": (resnet50, "32x3x224x224:f32", "f32"),
    "resnet50_f16": (resnet50, "32x3x224x224:f32", "f16"),
    "stack_bf16": (stack, "4x1024x2048:f32", "bf16"),
}


def models(options: argparse.Namespace) -> int:
    """Measure and predict each model, and tell both."""
    import torch

    if not torch.cuda.is_available() and options.place == "cuda":
        say(options.out, {"model": None, "error": "torch.cuda.is_available() is false"})
        return 1
    deadline = time.monotonic() + options.limit
    for name, (make, spec, dtype) in MODELS.items():
        if time.monotonic() > deadline - 5:
            say(options.out, {"model": name, "error": "not begun: the phase's time was up"})
            continue
        row: Row = {"model": name, "input": spec, "dtype": dtype}
        started = time.monotonic()
        try:
            kind = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[dtype]
            sizes = [int(size) for size in spec.partition(":")[0].split("x")]
            model = make().eval().to(options.place).to(kind)
            row |= measured(torch, model, torch.randn(sizes, device=options.place).to(kind), options.place)
            del model
        except Exception as error:  # noqa: BLE001 - one model's fault is one row
            row["error"] = failure(error)
        row["measure_s"] = round(time.monotonic() - started, 1)
        started = time.monotonic()
        if options.calibration:
            row["predict"] = predicted(name, options.calibration)
        row["predict_s"] = round(time.monotonic() - started, 1)
        say(options.out, row)
        print(json.dumps(row))
        if options.place == "cuda":
            torch.cuda.empty_cache()
    return 0


def measured(torch: Any, model: Any, x: Any, place: str) -> Row:
    """Seconds of a forward pass: eager and, on a GPU, replayed as a graph; best and middle."""
    wait = torch.cuda.synchronize if place == "cuda" else lambda: None
    with torch.inference_mode():
        for _ in range(3):
            model(x)
        took = []
        for _ in range(5):
            wait()
            started = time.perf_counter()
            for _ in range(PASSES):
                model(x)
            wait()
            took.append((time.perf_counter() - started) / PASSES)
        row: Row = {"eager_s": min(took), "eager_median_s": statistics.median(took)}
        if place == "cuda":
            try:
                row["graph_s"] = replayed(torch, model, x)
            except Exception as error:  # noqa: BLE001 - a model that cannot be captured has its eager time
                row["graph_error"] = failure(error, 150)
        return row


def replayed(torch: Any, model: Any, x: Any) -> float:
    """Seconds of a pass as a graph, the best of five."""
    cuda = torch.cuda
    side = cuda.Stream()
    side.wait_stream(cuda.current_stream())
    with cuda.stream(side):
        model(x)
    cuda.current_stream().wait_stream(side)
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        model(x)
    took: list[float] = []
    for _ in range(5):
        start, stop = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        start.record()
        for _ in range(PASSES):
            graph.replay()
        stop.record()
        stop.synchronize()
        took.append(start.elapsed_time(stop) / 1e3 / PASSES)
    return min(took)


def predicted(name: str, calibration: str) -> Row:
    """What `predict_one` says in a process of its own, since a capture can fail in any way."""
    command = [sys.executable, "-u", str(PROGRAM), "predict-one", "--only", name, "--calibration", calibration]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PREDICT_LIMIT)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": failure(error)}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["?"])[-1][:200]}
    row: Row = json.loads(done.stdout.strip().splitlines()[-1])
    return row


def predict_one(options: argparse.Namespace) -> int:
    """Latency of one model as the characterisation predicts it."""
    import microbench as mb

    make, spec, dtype = MODELS[options.only]
    held = mb.load(options.calibration)
    captured = mb.capture(make, [spec], dtype=None if dtype == "f32" else dtype, name=options.only)
    found = mb.predict(captured, held)
    row: Row = {"value": found.latency.value, "low": found.latency.low, "high": found.latency.high}
    row |= {"flop": found.flop, "bytes": found.bytes, "launch_share": found.launch_share, "steps": len(found.steps)}
    row |= {"compute_share": found.compute_share, "findings": sorted({each.code for each in found.findings})}
    print(json.dumps(row))
    return 0
