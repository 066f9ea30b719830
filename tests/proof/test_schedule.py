"""What a schedule allows: loops written down for one rule at a time, then the loops that ship."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from places import ROOT

from microbench.kernels.cuda.rows import ROWS, CudaRow
from microbench.proof import golden, sass, schedule
from microbench.records import Proof

F32 = next(row for row in ROWS if row.name == "fma.f32")
BACK = "@!P0 BRA 0x0"


def word(stall: int = 1, *, yields: bool = False, reuse: int = 0) -> bytes:
    """An instruction of 128 bits of which only the scheduling control is set."""
    return ((stall | (not yields) << 4 | reuse << 17) << 105).to_bytes(16, "little")


def function(*lines: str, waits: dict[int, int] | None = None, yields: tuple[int, ...] = ()) -> sass.Function:
    """A loop of ``OPCODE operands`` that ends with a branch; ``waits`` are stalls by line, 1 elsewhere."""
    steps, code = [], b""
    for at, line in enumerate((*lines, BACK)):
        words = line.split(" ", 2) if line.startswith("@") else ["", *line.split(" ", 1)]
        steps.append({"predicate": words[0], "opcode": words[1], "operands": words[2]})
        code += word((waits or {}).get(at, 1), yields=at in yields)
    return sass.parse(json.dumps([{}, [{"function-name": "f", "sass-instructions": steps}]]), {"f": code})["f"]


def examined(made: sass.Function, cycles: float, row: CudaRow = F32, target: str = "sm_90a") -> schedule.Schedule:
    loop = sass.main_loop(made, "FFMA|HFMA2|DFMA|LDG")
    assert loop is not None
    spelling = {"dfma": "DFMA", "hfma2": "HFMA2"}.get(row.math, "FFMA")
    sought = schedule.Sought(target=target, math=spelling, accesses="LDG", cycles=cycles)
    return schedule.examine(made, loop, row, sought)


def test_control_is_read_from_the_bits_that_the_disassembler_does_not_print() -> None:
    assert sass.Control.of(int.from_bytes(word(5, yields=True, reuse=3), "little")) == sass.Control(5, True, 3)
    assert (
        sass.parse('[{}, [{"function-name": "f", "sass-instructions": [{"opcode": "NOP"}]}]]')["f"].body[0].control
        is None
    )


def test_three_sources_in_one_bank_cost_a_pipe_of_half_the_lanes_a_cycle_and_two_do_not() -> None:
    two = examined(function("FFMA R4,R6,R9,R4", "FFMA R5,R7,R8,R5"), 2)
    three = examined(function("FFMA R4,R6,R8,R4", "FFMA R10,R6,R8,R10"), 2)
    assert (two.conflicts, two.banks) == (0, (4, 4))
    assert (three.conflicts, three.banks) == (2, (6, 6))


def test_a_pipe_of_all_lanes_needs_a_third_source_from_the_operand_cache() -> None:
    without = examined(function(*["FFMA R4,R6,R9,R4", "FFMA R10,R6,R11,R10"] * 2), 1)
    kept = examined(function(*["FFMA R4,R6.reuse,R9,R4", "FFMA R10,R6.reuse,R11,R10"] * 2), 1)
    assert without.banks == (8, 8)
    assert without.conflicts
    assert (kept.conflicts, kept.banks, kept.reuse) == (0, (5, 5), 4)  # the branch takes the fifth


def test_the_operand_cache_has_one_entry_for_each_place_and_bank() -> None:
    two_banks = examined(function(*["FFMA R4,R6.reuse,R9,R4", "FFMA R9,R7.reuse,R4,R9"] * 2), 1)
    one_bank = examined(function(*["FFMA R4,R6.reuse,R9,R4", "FFMA R9,R8.reuse,R4,R9"] * 2), 1)
    assert (two_banks.banks, one_bank.banks) == ((5, 5), (8, 8))


def test_a_source_that_is_kept_across_a_change_of_warps_counts_at_best_and_not_at_worst() -> None:
    lines = ["FFMA R4,R6.reuse,R9,R4", "FFMA R10,R6.reuse,R11,R10"] * 3
    assert examined(function(*lines), 1).banks == (7, 7)
    assert examined(function(*lines, yields=(0, 2, 4)), 1).banks == (7, 9)
    assert examined(function(*lines, waits={0: 3, 2: 3}), 1).banks == (7, 8)
    assert examined(function(*lines, waits=dict.fromkeys(range(6), 2)), 2).conflicts == 0


def test_reads_are_spread_over_three_cycles() -> None:
    # Two sources in one bank, then two in the other: each bank has two cycles for them.
    lines = ["FFMA R4,R6.reuse,R8,R4", "FFMA R5,R6.reuse,R9,R5"] * 4
    assert examined(function(*lines), 1).banks == (9, 9)


def test_operands_of_64_bits_take_both_banks() -> None:
    row = next(row for row in ROWS if row.name == "fma.f64")
    assert examined(function("DFMA R4,R8,R12,R4"), 2, row).banks == (3, 3)
    assert examined(function("DFMA R4,R8.reuse,R12,R4", "DFMA R6,R8.reuse,R14,R6"), 2, row).banks == (4, 4)


def test_waits_of_one_warp_are_covered_by_the_others() -> None:
    found = examined(function("FFMA R4,R6.reuse,R9,R4", "FFMA R9,R7.reuse,R4,R9", waits={0: 4, 1: 4}), 1)
    assert found.distance == 1
    assert found.allows(1) == pytest.approx((2 / 9, 2 / 9))
    assert found.times(8)["stalls"] == pytest.approx(9 / 8)


def test_the_loops_own_instructions_take_slots_of_a_pipe_that_takes_one_a_cycle() -> None:
    found = examined(function(*["FFMA R4,R6.reuse,R9,R4"] * 9, "IADD3 R0,R0,0x1,RZ"), 1)
    assert found.times(8)["issue"] == 11
    assert found.allows(8) == pytest.approx((9 / 11, 9 / 11))


def test_packed_halves_of_one_spelling_use_one_of_two_pipes() -> None:
    row = next(row for row in ROWS if row.name == "fma.f16.half2")
    lines = ("HFMA2 R4,R6.reuse,R9,R4", "HFMA2.MMA R10,R6.reuse,R11,R10")
    assert examined(function(*lines), 1, row).split == 2
    assert examined(function(lines[0], lines[0]), 1, row).split == 4
    assert examined(function(lines[0], lines[0]), 1, row, "sm_100a").split == 2


def test_distance_is_from_a_result_to_its_use_also_round_the_loop() -> None:
    lines = ("FFMA R4,R6,R9,R4", "FFMA R5,R6,R9,R5", "FFMA R7,R6,R9,R7", "MOV R0,RZ")
    assert examined(function(*lines), 2).distance == 5
    assert examined(function(*lines[:3], "FFMA R8,R6,R7,R8"), 2).distance == 1


LOADS = tuple(f"LDG.E.128 R{4 * at},[R40.64]" for at in range(8))
USES = tuple(f"IADD3 R50,R{4 * at},R50,RZ" for at in range(8))


def test_accesses_in_flight_are_those_before_the_first_use() -> None:
    assert examined(function(*LOADS, *USES), 1).flight == 8
    assert examined(function(*LOADS[:4], *USES[:4], *LOADS[4:], *USES[4:]), 1).flight == 4
    assert examined(function(*(line for pair in zip(LOADS, USES, strict=True) for line in pair)), 1).flight == 1


def test_a_claim_of_more_accesses_in_flight_than_the_code_issues_is_refused() -> None:
    row = replace(next(row for row in ROWS if row.name == "read.i32.u8"), in_flight=8)
    half = examined(function(*LOADS[:4], *USES[:4], *LOADS[4:], *USES[4:]), 1, row)
    assert "4 accesses are issued before the first one is used, the row says 8" in schedule.complaints(row, half, 8)[0]
    assert schedule.complaints(row, examined(function(*LOADS, *USES), 1, row), 8) == []


def test_a_peak_loop_whose_schedule_cannot_reach_its_ceiling_says_what_takes_the_rest() -> None:
    slow = examined(function("FFMA R4,R6,R8,R4", "FFMA R10,R6,R12,R10"), 1)
    (says,) = schedule.complaints(F32, slow, 8)
    assert "the schedule allows 33 % of the pipe's rate" in says
    assert "banks take 6" in says


def test_every_rule_names_its_source() -> None:
    assert [rule.what for rule in schedule.RULES] == ["issue", "stalls", "banks", "reuse", "pipes"]
    assert all(len(rule.source) > 20 for rule in schedule.RULES)


def test_the_documentation_has_every_schedule_and_every_rule() -> None:
    page = (ROOT / "docs" / "numbers" / "schedule.md").read_text()
    assert "\n".join(golden.schedules()) in page
    words = " ".join(page.split())
    assert [rule.what for rule in schedule.RULES if " ".join(rule.needs.split()) not in words] == []


def test_a_proof_tells_the_schedule_and_a_peak_that_it_does_not_allow_is_unproven() -> None:
    entry = {"math": "752", "reuse": "275", "conflicts": "681", "distance": "1", "flight": "0", "least": "0.47"}
    counts = Proof(status="proven", expected={"math": 752}, found={"math": 752})
    row = next(row for row in ROWS if row.name == "fma.f16.half2")
    slow = golden.judged(row, entry | {"most": "0.47"}, counts)
    assert (slow.status, slow.found) == ("unproven", {"math": 752})
    assert slow.schedule == (
        "the schedule allows 47 % of the unit's rate, 37 % of multiply-adds keep a source, 681 wait for a register "
        "bank, results are used 1 instruction later"
    )
    fast = golden.judged(row, entry | {"most": "1.000"}, counts)
    assert fast.status == "proven"
    assert "allows 47 to 100 %" in str(fast.schedule)


def test_a_stream_with_fewer_accesses_in_flight_than_claimed_is_unproven() -> None:
    row = next(row for row in ROWS if row.name == "read.i32.u4")
    few = golden.judged(row, {"flight": "2"}, Proof(status="proven"))
    assert (few.status, few.reason) == ("unproven", "the sheet says 4 accesses in flight, the code issues 2")
    assert golden.judged(row, {"flight": "4"}, Proof(status="proven")).schedule == "4 accesses in flight a thread"
