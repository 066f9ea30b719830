"""Real models on the processor at hand, each timed in processes of its own, beside what is predicted of them.

    python benchmarks/predict_models.py --calibration FILE [--only NAME] [--rounds 3] [--out TABLE.csv]

A process makes one model, runs it until its memory has settled, and times it; rounds go over all models in turn, so
that the best of them is the quiet time of the same minutes. ``--save`` keeps the samples, ``--measured`` takes some
that were kept: a prediction can be graded again without measuring. Pages that a pass fetched anew are counted beside.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_models import Case, cases

import microbench as mb
from microbench.cli.output import as_csv
from microbench.operators.capture import capture
from microbench.operators.inputs import parse_input, stored
from microbench.predict.host import fetched
from microbench.records import Row
from microbench.storage.files import check_writable, write_new

# A process times a model for so long, or twice where one pass takes longer.
_ENOUGH_S, _MOST = 0.35, 12
Sample = dict[str, float]


def _input(spec: str) -> Any:
    sizes, number_format = parse_input(spec)
    if number_format == "i64":
        return torch.randint(0, 100, sizes)
    return torch.randn(sizes).to(stored(torch, number_format))


def _tensors(out: Any) -> list[Any]:
    if isinstance(out, torch.Tensor):
        return [out]
    parts = list(out.values()) if isinstance(out, dict) else out if isinstance(out, list | tuple) else []
    return [tensor for part in parts for tensor in _tensors(part)]


def _call(case: Case) -> Callable[[], None]:
    """One pass of a model, or one step of its training."""
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model, x = case.model.make(), _input(case.spec)
    if case.dtype == "bf16":
        model = model.to(torch.bfloat16)
    if case.mode == "inference":
        model.eval()

        def forward() -> None:
            with torch.inference_mode():
                model(x)

        return forward
    weights = list(model.train().parameters())
    adam = torch.optim.Adam(weights, lr=1e-12)
    optimiser = adam if case.mode == "adam" else torch.optim.SGD(weights, lr=1e-12, momentum=0.9)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        sum(each.float().sum() for each in _tensors(model(x)) if each.requires_grad).backward()
        optimiser.step()

    return step


def _timed(call: Callable[[], None]) -> Sample:
    """Seconds of a call and bytes of memory that it fetched anew."""
    pages, started = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    call()
    seconds = time.perf_counter() - started
    pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - pages
    return {"seconds": seconds, "fetched": float(pages * resource.getpagesize())}


def _process(case: Case, out: int) -> None:
    """What the process of a case does; the samples go into a pipe."""
    call = _call(case)
    gc.collect()
    gc.disable()
    call()
    once = _timed(call)
    count = max(1, min(_MOST, int(_ENOUGH_S / once["seconds"])))
    samples = [_timed(call) for _ in range(count)]
    with os.fdopen(out, "w") as pipe:
        json.dump([once, *samples] if count == 1 else samples, pipe)


def _forked(case: Case) -> list[Sample]:
    """Samples of a case from a process of its own; none where it fails."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            _process(case, writing)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return list(json.loads(text)) if text else []


def measured(todo: Sequence[Case], rounds: int, limit_s: float) -> dict[str, list[Sample]]:
    """Samples by case, in rounds over all of them within a time."""
    found: dict[str, list[Sample]] = {case.name: [] for case in todo}
    started = time.monotonic()
    for number in range(rounds):
        for case in todo:
            if time.monotonic() - started < limit_s:
                found[case.name] += _forked(case)
        sys.stderr.write(f"round {number + 1} of {rounds}: {time.monotonic() - started:.0f} s\n")
    return found


def graded(todo: Sequence[Case], samples: dict[str, list[Sample]], calibration: Any) -> list[Row]:
    """One row a case: measured and predicted seconds, the interval, memory fetched anew."""
    rows: list[Row] = []
    for case in todo:
        seen = samples.get(case.name)
        if not seen:
            continue
        train = case.mode != "inference"
        graph = capture(
            case.model.make,
            [case.spec],
            train=train,
            optimiser=case.mode if train else "none",
            dtype="bf16" if case.dtype == "bf16" else None,
        )
        found = mb.predict(graph, calibration).latency
        seconds = np.array([each["seconds"] for each in seen])
        best = float(seconds.min())
        rows.append(
            {
                "model": case.model.name,
                "family": case.model.family,
                "batch": case.batch,
                "mode": case.mode,
                "dtype": case.dtype,
                "samples": len(seconds),
                "best_s": float(f"{best:.5g}"),
                "median_s": float(f"{np.median(seconds):.5g}"),
                "predicted_s": float(f"{found.value:.5g}"),
                "low_s": float(f"{found.low:.5g}"),
                "high_s": float(f"{found.high:.5g}"),
                "error_percent": round(100 * (found.value / best - 1), 1),
                "inside": bool(found.low <= best <= found.high),
                "fetched_mb": round(float(np.median([each["fetched"] for each in seen])) / 1e6, 1),
                "predicted_fetched_mb": round(fetched(graph, calibration.fits.host) / 1e6, 1),
            }
        )
    return rows


def summed(rows: Sequence[Row]) -> list[Row]:
    """Mean and worst error and coverage by mode, format and batch."""
    found: list[Row] = []
    groups: dict[str, Callable[[Row], bool]] = {
        "inference f32": lambda row: row["mode"] == "inference" and row["dtype"] == "f32",
        "inference f32, batch 1": lambda row: groups["inference f32"](row) and row["batch"] == 1,
        "inference f32, larger batches": lambda row: groups["inference f32"](row) and row["batch"] != 1,
        "training f32": lambda row: row["mode"] != "inference",
        "inference bf16": lambda row: row["dtype"] == "bf16",
        "all": lambda _: True,
    }
    for name, chosen in groups.items():
        part = [row for row in rows if chosen(row)]
        if part:
            off = np.array([float(str(row["error_percent"])) for row in part])
            repeat = np.array([float(str(row["median_s"])) / float(str(row["best_s"])) - 1 for row in part])
            found.append(
                {
                    "group": name,
                    "cases": len(part),
                    "mean_error_percent": round(float(np.abs(off).mean()), 1),
                    "median_error_percent": round(float(np.median(np.abs(off))), 1),
                    "worst_percent": round(float(off[np.argmax(np.abs(off))]), 1),
                    "bias_percent": round(float(off.mean()), 1),
                    "inside_percent": round(100 * sum(bool(row["inside"]) for row in part) / len(part), 1),
                    "median_over_best_percent": round(100 * float(repeat.mean()), 1),
                }
            )
    return found


def main() -> None:
    """Measure, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibration", type=Path, help="a characterisation of this machine")
    parser.add_argument("--host", type=Path, help="what the processor pays beside operators, of an older calibration")
    parser.add_argument("--only", default="", help="models whose name contains this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--time-limit", type=float, default=600.0, help="seconds of measuring")
    parser.add_argument("--save", type=Path, help="where to keep the samples")
    parser.add_argument("--measured", type=Path, nargs="*", default=[], help="samples that were kept")
    parser.add_argument("--out", type=Path, help="where to write the table")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.out:
        check_writable(options.out.parent)
    todo = cases(options.only)
    samples: dict[str, list[Sample]] = {}
    for path in options.measured:
        for name, seen in json.loads(path.read_text()).items():
            samples[name] = samples.get(name, []) + seen
    if not options.measured:
        samples = measured(todo, options.rounds, options.time_limit)
    if options.save:
        options.save.write_text(json.dumps(samples))
    if options.calibration:
        calibration = mb.load(options.calibration)
        if options.host:
            fits = replace(calibration.fits, host=json.loads(options.host.read_text()))
            calibration = replace(calibration, fits=fits)
        rows = graded(todo, samples, calibration)
        sys.stdout.write(f"{as_csv(rows)}\n{as_csv(summed(rows))}\n")
        if options.out:
            write_new(options.out, as_csv(rows).encode())


if __name__ == "__main__":
    main()
