from __future__ import annotations

import numpy as np
import pytest
from ptx import cases, counts, machine, toolchain

from microbench.kernels.cuda_rows import ROWS, CudaRow

pytestmark = pytest.mark.skipif(toolchain.nvcc() is None, reason="no nvcc 13 on the PATH: there is no PTX to interpret")
COMPUTED = [row for row in ROWS if cases.excluded(row) is None]
LOOPS = [row for row in ROWS if row.limiter != "none"]
EXACT = [row for row in COMPUTED if row.symbol not in ("ticks", "chase_ca", "chase_cg")]
TOLD = ["chase_ca", "chase_cg", "ticks"]


def name(row: CudaRow) -> str:
    return f"{row.name}-{cases.first_target(row)}"


@pytest.mark.parametrize("row", EXACT, ids=name)
def test_exact_operands_give_the_exact_result(row: CudaRow) -> None:
    case = cases.case_of(row)
    assert case.expected is not None
    blocks = cases.BLOCKS if row.limiter != "none" and row.family != "mma" else 1
    ran = cases.run(row, cases.first_target(row), case, 3, blocks)
    assert not ran.stubbed
    for block, found in enumerate(ran.found):
        assert np.array_equal(found, case.expected(3, block)[: found.size])


@pytest.mark.parametrize("row", [row for row in COMPUTED if row.symbol in TOLD], ids=name)
def test_addresses_and_times_are_what_they_must_be(row: CudaRow) -> None:
    case = cases.case_of(row)
    assert case.close is not None
    assert case.close(5, cases.run(row, cases.first_target(row), case, 5).found[0])


@pytest.mark.parametrize(
    "row",
    [row for row in EXACT if "random" in row.operands and row.family in ("plain", "mma") and row.dtype not in ("i32", "i8")],
    ids=name,
)
def test_random_operands_come_close_to_a_float64_reference(row: CudaRow) -> None:
    case = cases.case_of(row, "random")
    assert case.close is not None
    assert case.close(1, cases.run(row, cases.first_target(row), case, 1).found[0])


@pytest.mark.parametrize("row", [row for row in EXACT if "in" in cases.case_of(row).buffers], ids=name)
def test_a_permuted_operand_shows(row: CudaRow) -> None:
    case = cases.case_of(row)
    assert case.expected is not None
    held = np.ascontiguousarray(case.buffers["in"]).reshape(-1).view(np.uint8).copy()
    words = held.view(np.uint32)
    start = 16 + row.threads if row.layout == "compute" and row.family == "mma" else 16  # behind the header
    other = next(at for at in range(start + 1, words.size) if words[at] != words[start])
    words[[start, other]] = words[[other, start]]
    changed = case.buffers | {"in": held}
    if row.layout == "stream" or row.family == "chase":  # only what the block visits can show
        changed["in"] = np.roll(np.ascontiguousarray(case.buffers["in"]).reshape(-1).view(np.uint32), 4)
    case.buffers = changed
    found = cases.run(row, cases.first_target(row), case, 1).found[0]
    assert not np.array_equal(found, case.expected(1, 0)[: found.size])


@pytest.mark.parametrize("row", LOOPS, ids=name)
def test_counted_work_is_what_the_row_says(row: CudaRow) -> None:
    work = cases.per_iteration(row, cases.first_target(row), cases.case_of(row))
    lanes = 1 if row.space == "bulk" else row.threads
    assert work == {
        "flop": row.flop,
        "read": row.bytes_read,
        "written": row.bytes_written,
        "loads": row.loads * lanes,
        "stores": row.stores * lanes,
    }


def test_the_kept_counts_are_what_the_kernels_do() -> None:
    target = "sm_90a"
    assert counts.counted(target) == counts.kept(target)


def test_the_gate_lets_go_when_its_time_is_up() -> None:
    row = next(row for row in ROWS if row.symbol == "gate")
    case = cases.case_of(row)
    case.buffers["flag"] = np.zeros(2, dtype=np.uint32)
    assert cases.run(row, "sm_80", case, 0).found[0].view(np.uint32)[0] == 2


def test_exclusions_are_the_asynchronous_units_alone() -> None:
    left_out = [row for row in ROWS if cases.excluded(row)]
    assert {row.family for row in left_out} == {"wgmma", "tcgen05", "stream", "mma"}
    assert len([row for row in left_out if row.family in ("stream", "mma")]) == 4
    synchronous = [row for row in ROWS if row.family not in ("wgmma", "tcgen05")]
    assert len([row for row in synchronous if cases.excluded(row)]) < 0.2 * len(synchronous)


def test_an_access_outside_every_buffer_is_refused() -> None:
    memory = machine.Memory(4096, machine.GLOBAL_BASE)
    at = memory.take(64)
    memory.view(np.array([at + 60]), 4)
    with pytest.raises(IndexError, match="outside every buffer"):
        memory.view(np.array([at + 64]), 4)
    with pytest.raises(IndexError, match="not aligned"):
        memory.view(np.array([at + 2]), 4)
