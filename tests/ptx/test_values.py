from __future__ import annotations

import numpy as np
import pytest
from ptx import cases, counts, machine, toolchain

from microbench.kernels.cuda.rows import ROWS, CudaRow

pytestmark = pytest.mark.skipif(toolchain.nvcc() is None, reason="no nvcc 13 on the PATH: there is no PTX to interpret")
LOOPS = [row for row in ROWS if row.limiter != "none"]
TOLD = ["chase_ca", "chase_cg", "ticks"]  # addresses and times: no exact value is expected
FAMILIES = sorted({row.family for row in ROWS})
_VOLATILE = 'asm volatile("{}" ::: "memory");'


def exact(family: str) -> list[CudaRow]:
    return [row for row in ROWS if row.family == family and row.symbol not in TOLD]


def name(row: CudaRow) -> str:
    return f"{row.name} for {cases.first_target(row)}"


@pytest.mark.parametrize("family", FAMILIES)
def test_exact_operands_give_the_exact_result(family: str) -> None:
    wrong = []
    for row in exact(family):
        case = cases.case_of(row)
        assert case.expected is not None
        blocks = cases.BLOCKS if row.limiter != "none" and family not in ("mma", "tcgen05") else 1
        iterations = 9 if row.space == "bulk" else 3  # once round the ring
        ran = cases.run(row, cases.first_target(row), case, iterations, blocks)
        same = [
            np.array_equal(found, case.expected(iterations, block)[: found.size])
            for block, found in enumerate(ran.found)
        ]
        wrong += [] if all(same) else [f"{name(row)}: blocks {same}"]
    assert wrong == []


@pytest.mark.parametrize("row", [row for row in ROWS if row.symbol in TOLD], ids=name)
def test_addresses_and_times_are_what_they_must_be(row: CudaRow) -> None:
    case = cases.case_of(row)
    assert case.close is not None
    assert case.close(5, cases.run(row, cases.first_target(row), case, 5).found[0])


@pytest.mark.parametrize("family", ["plain", "mma", "wgmma", "tcgen05"])
def test_random_operands_come_close_to_a_float64_reference(family: str) -> None:
    wrong, seen = [], 0
    for row in exact(family):
        if "random" in row.operands and row.dtype not in ("i32", "i8"):
            case = cases.case_of(row, "random")
            assert case.close is not None
            seen += 1
            if not case.close(1, cases.run(row, cases.first_target(row), case, 1).found[0]):
                wrong.append(name(row))
    assert wrong == []
    assert seen


def permuted(row: CudaRow, case: cases.Case) -> dict[str, np.ndarray]:
    """The buffers of a case with two unlike words of its operand exchanged."""
    held = np.ascontiguousarray(case.buffers["in"]).reshape(-1).view(np.uint8).copy()
    words = held.view(np.uint32)
    start = {"mma": 16 + row.threads, "wgmma": 8 + 2048, "tcgen05": 8}.get(row.family, 16)  # in the operands (wgmma: B)
    other = next(at for at in range(start + 1, words.size) if words[at] != words[start])
    words[[start, other]] = words[[other, start]]
    if row.layout == "stream" or row.family == "chase":  # only what the block visits can show
        held = np.roll(np.ascontiguousarray(case.buffers["in"]).reshape(-1).view(np.uint32), 4)
    return case.buffers | {"in": held}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_permuted_operand_shows(family: str) -> None:
    unseen = []
    for row in exact(family):
        case = cases.case_of(row)
        if "in" in case.buffers and row.limiter != "none":
            assert case.expected is not None
            case.buffers = permuted(row, case)
            with np.errstate(over="ignore", invalid="ignore"):  # pairs that are opposed no more grow
                found = cases.run(row, cases.first_target(row), case, 1).found[0]
            unseen += [name(row)] if np.array_equal(found, case.expected(1, 0)[: found.size]) else []
    assert unseen == []


@pytest.mark.parametrize("family", FAMILIES)
def test_counted_work_is_what_the_row_says(family: str) -> None:
    said, counted = {}, {}
    for row in LOOPS:
        if row.family == family:
            lanes = 1 if row.space == "bulk" else row.threads
            said[name(row)] = {
                "flop": row.flop,
                "read": row.bytes_read,
                "written": row.bytes_written,
                "loads": row.loads * lanes,
                "stores": row.stores * lanes,
            }
            counted[name(row)] = cases.per_iteration(row, cases.first_target(row), cases.case_of(row))
    assert counted == said


def test_no_access_of_a_warp_straddles_two_lines() -> None:
    moving = [row for row in LOOPS if row.measures in ("memory", "intensity") and row.space == "global"]
    assert {row.family for row in moving} == {"stream", "shared", "intensity"}
    few = [row for row in moving if row.measures == "memory" or row.symbol.endswith("_1")]
    touched = {name(row): cases.lines_per_iteration(row, cases.first_target(row), cases.case_of(row)) for row in few}
    assert touched == {name(row): (row.bytes_read + row.bytes_written) // machine.LINE for row in few}


@pytest.mark.nightly
def test_the_kept_counts_are_what_the_kernels_do() -> None:
    target = "sm_90a"
    assert counts.counted(target) == counts.kept(target)


def test_the_gate_lets_go_when_its_time_is_up() -> None:
    row = next(row for row in ROWS if row.symbol == "gate")
    case = cases.case_of(row)
    case.buffers["flag"] = np.zeros(2, dtype=np.uint32)
    assert cases.run(row, "sm_80", case, 0).found[0].view(np.uint32)[0] == 2


def test_no_kernel_is_left_out() -> None:
    told = {row.name for row in ROWS if row.symbol in TOLD}
    assert {row.name for family in FAMILIES for row in exact(family)} | told == {row.name for row in ROWS}


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("symbol", "old", "new", "says"),
    [
        ("wgmma_f16_m64n256k16_ss", _VOLATILE.format("wgmma.fence.sync.aligned;"), "", "after the last wgmma.fence"),
        (
            "wgmma_f16_m64n256k16_ss",
            _VOLATILE.format("wgmma.wait_group.sync.aligned 0;"),
            "",
            "before its wgmma was waited for",
        ),
        ("wgmma_f16_m64n256k16_ss", _VOLATILE.format("fence.proxy.async.shared::cta;"), "", "was not fenced"),
        ("tcgen05_f16_m128n256k16", "((threadIdx.x & ~31u) << 16)", "0", "another warp's lanes"),
        ("tcgen05_f16_m128n256k16", _VOLATILE.format("fence.proxy.async.shared::cta;"), "", "was not fenced"),
    ],
)
def test_a_missing_fence_or_a_wrong_lane_shows(symbol: str, old: str, new: str, says: str) -> None:
    row = next(row for row in ROWS if row.symbol == symbol)
    text = toolchain.source(row.family)
    assert old in text
    target = cases.first_target(row)
    path = toolchain.compiled(text.replace(old, new), target, "ptx", ("-O3", "-std=c++17"))
    with pytest.raises(RuntimeError, match=says):
        cases.run(row, target, cases.case_of(row), 3, module=path)


def test_an_access_outside_every_buffer_is_refused() -> None:
    memory = machine.Memory(4096, machine.GLOBAL_BASE)
    at = memory.take(64)
    memory.view(np.array([at + 60]), 4)
    with pytest.raises(IndexError, match="outside every buffer"):
        memory.view(np.array([at + 64]), 4)
    with pytest.raises(IndexError, match="not aligned"):
        memory.view(np.array([at + 2]), 4)
