"""The bounds' table against the table of chips, which was written apart and agrees with data sheets."""

from __future__ import annotations

import pytest

from microbench.hardware.tables.gpus import CHIPS
from microbench.proof.architecture import ARCHITECTURES, cycles, nearest, resident_blocks

VECTOR = {"f64": "dfma", "f32": "ffma", "f16": "hfma2", "bf16": "bfma2", "i32": "imad"}
MMA = {
    ("f16", "f16"): "hmma.f16.f16",
    ("f16", "f32"): "hmma.f16.f32",
    ("bf16", "f32"): "hmma.bf16.f32",
    ("tf32", "f32"): "hmma.tf32.f32",
    ("i8", "i32"): "imma",
    ("f64", "f64"): "dmma",
    ("f8e4m3", "f32"): "qmma",
    ("f4e2m1", "f32"): "omma",
}
_LARGE = (("f16", "f32"), ("bf16", "f32"), ("tf32", "f32"), ("f8e4m3", "f32"), ("i8", "i32"), ("f64", "f64"))
HOPPER = dict(zip(_LARGE, ("hgmma", "hgmma", "hgmma.tf32", "qgmma", "igmma", "dmma"), strict=True))
BLACKWELL = dict(zip(_LARGE, ("utchmma", "utchmma", "utchmma.tf32", "utcqmma", "utcimma", "dmma"), strict=True))
MATRIX = {"sm_90a": HOPPER, "sm_100a": BLACKWELL, "sm_103a": BLACKWELL | {("i8", "i32"): "imma"}}


OLDER = ("sm_60", "sm_61", "sm_70")


@pytest.mark.parametrize("target", ARCHITECTURES)
def test_rates_are_those_of_the_fastest_chip_of_the_target(target: str) -> None:
    # Chips from before the oldest target are taken for it, and are other machines.
    chips = [chip for chip in CHIPS.values() if nearest(chip.target) == target and chip.target not in OLDER]
    assert chips
    classes = {("vector", dtype, None): name for dtype, name in VECTOR.items()}
    classes |= {("matrix", *pair): name for pair, name in MATRIX.get(target, MMA).items()}
    compared = 0
    for (unit, dtype, accumulator), name in classes.items():
        known = [flop for chip in chips if (flop := chip.flop_per_clock(unit, dtype, accumulator))]
        if known:
            assert ARCHITECTURES[target].flop_per_clock[name] == max(known), f"{target} {name}"
            compared += 1
    assert compared >= 6


def test_a_pipe_of_half_the_lanes_takes_an_instruction_twice_as_long() -> None:
    assert cycles("sm_80", "ffma", 64) == 2 * cycles("sm_86", "ffma", 64)
    assert cycles("sm_75", "dfma", 64) == 64


def test_blocks_are_limited_by_threads_registers_shared_memory_and_number() -> None:
    assert resident_blocks("sm_90a", 256, 32, 0) == 8
    assert resident_blocks("sm_90a", 256, 128, 0) == 2
    assert resident_blocks("sm_90a", 32, 32, 65536) == 3
    assert resident_blocks("sm_86", 32, 16, 0) == 16


@pytest.mark.parametrize(
    ("chip", "table"),
    [("sm_90", "sm_90a"), ("sm_87", "sm_86"), ("sm_121a", "sm_120f"), ("sm_75", "sm_75"), ("sm_60", "sm_75")],
)
def test_an_unknown_chip_is_taken_for_its_nearest(chip: str, table: str) -> None:
    assert nearest(chip) == table
