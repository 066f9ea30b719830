"""Whole models that are timed beside operators: how they are called and captured, and what their modules cost."""

from __future__ import annotations

import contextlib
import math
import os
from typing import TYPE_CHECKING

import numpy as np

from microbench.hardware.torch_import import import_torch
from microbench.measure.budget import Deadline
from microbench.predict.model import predict_model
from microbench.predict.operator_timing import LimitedClock, OutOfTimeError
from microbench.records import MODULE_COST, Characterisation, Cost, Estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from microbench.operators.capture import Graph
    from microbench.predict.model import ModelTime
    from microbench.records import Device

# Where capturing alone takes more than this share, measuring and fitting would come to nothing.
CAPTURING_SHARE = 0.25
# Modules in the chain whose time gives the cost of one, and how often chain and operator are called.
CHAIN = 64
_CHAIN_CALLS, _ALONE_CALLS, _CHAIN_ROUNDS = 20, 500, 15


def place_of(device: Device) -> str:
    """Torch's name of a device."""
    return "cpu" if device.kind == "cpu" else f"cuda:{device.index}"


def use_all_threads(device: Device) -> None:
    """Let torch use every processor this process may run on: what a user gets without setting anything."""
    if device.kind == "cpu":
        import_torch().set_num_threads(len(os.sched_getaffinity(0)))


def model_calls(device: Device, late: Callable[[], bool] = lambda: False) -> dict[str, Callable[[], object]]:
    """Calls that run the small real models once each; ``late`` is asked whether no more should be made."""
    from microbench.operators.reference_models import call_of_model, models

    use_all_threads(device)
    return {name: call_of_model(reference, place_of(device)) for name, reference in models().items() if not late()}


def captured_models(deadline: Deadline | None = None) -> dict[str, Graph]:
    """The small real models as lists of operators; those that a deadline leaves time for."""
    from microbench.operators.capture import capture
    from microbench.operators.reference_models import models

    found: dict[str, Graph] = {}
    every = models()
    for name, each in every.items():
        if deadline is not None and deadline.elapsed() > CAPTURING_SHARE * deadline.limit_s:
            break
        dtype = None if each.dtype == "f32" else each.dtype
        found[name] = capture(each.make, [each.spec], name=name, train=each.train, dtype=dtype)
    return found


def predict_models(names: Iterable[str], calibration: Characterisation) -> dict[str, ModelTime]:
    """Predict the small real models."""
    captured = captured_models()
    return {name: predict_model(captured[name], calibration) for name in names}


def module_cost(place: str, limit_s: float = math.inf) -> tuple[Cost, ...]:
    """What the host pays per module around an operator: a chain of the smallest modules against the operator alone.

    Rounds end within a time; there is no cost where it does not suffice for one.
    """
    from microbench.operators import op
    from microbench.operators.reference_models import module_chain
    from microbench.operators.torch_calls import call_of, timer

    torch = import_torch()
    deadline = Deadline(limit_s=limit_s)
    rounds: list[float] = []
    clocks = [LimitedClock(timer(place), deadline.left) for _ in range(2)]
    chain, alone = module_chain(CHAIN, place), call_of(op("relu", size=8), place)
    with torch.inference_mode(), contextlib.suppress(OutOfTimeError):
        for times in (1, _CHAIN_CALLS):
            for clock, call in zip(clocks, (chain, alone), strict=True):
                clock(call, times)
        rounds.extend(
            max(0.0, clocks[0](chain, _CHAIN_CALLS) / CHAIN - clocks[1](alone, _ALONE_CALLS))
            for _ in range(_CHAIN_ROUNDS)
        )
    if not rounds:
        return ()
    basis = f"{len(rounds)} rounds, smallest .. largest"
    seconds = Estimate(value=float(np.median(rounds)), low=min(rounds), high=max(rounds), basis=basis)
    return (Cost(name=MODULE_COST, seconds=seconds, case=f"chain of {CHAIN} modules"),)
