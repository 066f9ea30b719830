from __future__ import annotations

import re
from dataclasses import replace

import pytest

from microbench.kernels.cuda.rows import FAMILIES, LAYOUTS, ROWS, TARGETS, parameter_offsets, rows_for
from microbench.proof.architecture import ARCHITECTURES
from microbench.proof.cuda import SPELLING
from microbench.records.dtypes import DTYPES


def test_names_say_what_dtype_accumulator_and_variant() -> None:
    for row in ROWS:
        words = row.name.split(".")
        assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*", row.name)
        if row.dtype:
            assert words[1] == row.dtype
        if row.accumulator:
            assert words[2] == row.accumulator
        # A mixed kernel's variant begins with its instruction, by which the points of one roofline are gathered.
        variant = row.variant.rpartition(".")[2] if row.measures == "intensity" else row.variant
        assert row.name.endswith(variant)
        assert row.dtype is None or row.dtype in DTYPES


def test_every_target_has_its_peaks() -> None:
    def dtypes(target: str, family: str) -> set[str]:
        return {str(row.dtype) for row in rows_for(target) if row.family == family}

    plain = {"f64", "f32", "f16", "bf16", "i32", "i8"}
    assert dtypes("sm_75", "plain") == plain - {"bf16"}
    for target in TARGETS[1:]:
        assert dtypes(target, "plain") == plain
        assert dtypes(target, "mma") >= {"f16", "bf16", "tf32", "i8", "f64"}
    assert dtypes("sm_75", "mma") == {"f16", "i8"}
    assert {target for target in TARGETS if "f8e4m3" in dtypes(target, "mma")} == {"sm_89", "sm_120f"}
    assert {target for target in TARGETS if "f4e2m1" in dtypes(target, "mma")} == {"sm_120f"}
    tensor = {"f16", "bf16", "tf32", "f8e4m3", "f8e5m2", "i8"}
    assert FAMILIES["wgmma"] == ("sm_90a",)
    assert dtypes("sm_90a", "wgmma") == tensor
    assert FAMILIES["tcgen05"] == ("sm_100a", "sm_103a")
    assert dtypes("sm_100a", "tcgen05") == tensor
    assert dtypes("sm_103a", "tcgen05") == tensor - {"i8"}


def test_mma_sync_is_the_legacy_path_on_hopper_and_data_centre_blackwell() -> None:
    for row in ROWS:
        through_it = row.family == "mma" or row.variant.startswith("mma_sync.")
        newer = {
            target
            for other in ROWS
            if other.family in ("wgmma", "tcgen05") and other.dtype == row.dtype
            for target in other.targets
        }
        assert row.dtype == "f64" or set(row.legacy) == (newer & set(row.targets) if through_it else set())


def test_fp64_has_no_other_path_than_mma_sync_whose_larger_shape_is_hoppers_own() -> None:
    legacy = {row.variant: row.legacy for row in ROWS if row.family == "mma" and row.dtype == "f64"}
    assert legacy == {"m8n8k4": ("sm_90a",), "m16n8k16": ()}
    assert not any(row.dtype == "f64" for row in ROWS if row.family in ("wgmma", "tcgen05"))


def test_wgmma_multiplies_256_columns_from_memory_and_from_registers() -> None:
    variants = {row.variant for row in ROWS if row.family == "wgmma"}
    assert all("n256k" in variant for variant in variants)
    assert {variant.rsplit(".", 1)[1] for variant in variants} == {"ss", "rs"}


def test_a_row_with_math_can_be_proven_on_all_its_targets() -> None:
    for row in (row for row in ROWS if row.math):
        assert row.math in SPELLING
        assert all(ARCHITECTURES[target].flop_per_clock.get(row.math, 0) > 0 for target in row.targets), row.name
        assert row.flop == row.math_count * row.flop_per_math * (row.issuers or row.warps), row.name


def test_streams_count_bytes_by_access() -> None:
    for row in ROWS:
        if row.layout == "stream" and row.measures == "memory":
            reads, writes = {"read": (1, 0), "write": (0, 1), "copy": (1, 1), "triad": (2, 1)}[str(row.access)]
            assert (row.bytes_read, row.bytes_written) == (reads * row.tile * 16, writes * row.tile * 16)


def test_the_mixed_kernels_span_the_ridge_of_every_part() -> None:
    found: dict[str, list[float]] = {}
    for row in ROWS:
        if row.measures == "intensity":
            found.setdefault(" ".join(filter(None, (row.dtype, row.accumulator))), []).append(row.flop / row.bytes_read)
    assert found == {
        "f32": [0.5 * 2**power for power in range(9)],
        "f64": [0.25 * 4**power for power in range(5)],
        "f16": [4.0**power for power in range(5)],
        "bf16": [4.0**power for power in range(5)],
        "f16 f32": [8 * 4.0**power for power in range(5)],
        "bf16 f32": [8 * 4.0**power for power in range(5)],
    }


def test_the_mixed_kernels_of_a_dtype_are_one_variant_so_that_a_roofline_is_fitted_to_them() -> None:
    mixed = [row for row in ROWS if row.measures == "intensity"]
    shapes = {(row.dtype, row.unit, row.variant.split(".")[0]) for row in mixed}
    assert len(shapes) == len({(dtype, variant) for dtype, _, variant in shapes}) == 6


def test_parameters_are_packed_at_natural_offsets() -> None:
    assert parameter_offsets("compute") == ((0, 8), (8, 8), (16, 8), (24, 4))
    assert parameter_offsets("stream") == ((0, 8), (8, 8), (16, 8), (24, 8), (32, 4), (36, 4), (40, 4), (44, 4))
    assert [parameter.name for parameter in LAYOUTS["gate"]] == ["out", "flag", "stamps", "timeout_ns"]


def test_a_row_refuses_an_unknown_target() -> None:
    with pytest.raises(ValueError, match="sm_70"):
        replace(ROWS[0], targets=("sm_70",))


def test_the_blocks_that_a_row_asks_for_fit_an_sm() -> None:
    assert set(ARCHITECTURES) == set(TARGETS)
    for row in ROWS:
        for target in row.targets:
            assert row.threads * max(1, row.blocks_per_sm) <= ARCHITECTURES[target].threads
