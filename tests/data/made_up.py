"""What the made-up characterisations share: how an invented number is written, and where a file goes."""

from __future__ import annotations

from pathlib import Path

import msgspec

from microbench.records import Characterisation, Estimate
from microbench.storage import store

BASIS = "third best round .. nominal at the clock seen"
KIB, MIB = 1024, 1024 * 1024


def estimate(value: float, *, below: float = 0.003, above: float = 0.001) -> Estimate:
    return Estimate(value=value, low=value * (1 - below), high=value * (1 + above), basis=BASIS)


def write(name: str, made: Characterisation) -> None:
    """Write a file beside this one; it is kept, so that tests read what a user would."""
    Path(__file__).with_name(name).write_bytes(msgspec.json.format(store.dumps(made), indent=1) + b"\n")
