from __future__ import annotations

import json

import pytest

from microbench.proof import sass
from microbench.proof.sass import Function, Instruction


def function(*lines: str) -> Function:
    """Lines like ``@P0 BRA 0x10``; addresses are 16 a line."""
    steps = []
    for line in lines:
        words = line.split(" ", 2) if line.startswith("@") else ["", *line.split(" ", 1)]
        steps.append({"predicate": words[0], "opcode": words[1], "operands": words[2] if len(words) > 2 else ""})
    text = json.dumps([{}, [{"function-name": "f", "sass-instructions": steps}]])
    return sass.parse(text)["f"]


SIMPLE = (
    "MOV R0,RZ",
    "FFMA R4,R2,R5,R4",
    "FFMA R5,R3,R4,R5",
    "IADD3 R0,R0,0x1,RZ",
    "ISETP.GE.U32.AND P0,PT,R0,UR4,PT",
    "@!P0 BRA 0x10",
    "STG.E [R8.64],R4",
    "EXIT",
    "BRA 0x80",
)


def test_the_loop_is_found_and_the_trailing_branch_to_itself_is_not() -> None:
    loops = sass.loops(function(*SIMPLE))
    assert [(loop.header, loop.body, loop.tails) for loop in loops] == [(1, (1, 2, 3, 4, 5), (5,))]


def test_the_counter_advances_by_one() -> None:
    made = function(*SIMPLE)
    assert sass.trip_steps(made, sass.loops(made)[0]) == {1}


def test_a_counter_that_skips_is_told() -> None:
    made = function(*(line.replace("0x1,RZ", "0x10,RZ") for line in SIMPLE))
    assert sass.trip_steps(made, sass.loops(made)[0]) == {16}


def test_a_countdown_is_one_too() -> None:
    made = function(*(line.replace("0x1,RZ", "0xffffffff,RZ") for line in SIMPLE))
    assert sass.trip_steps(made, sass.loops(made)[0]) == {-1}


def test_a_value_that_feeds_another_stored_one_is_live() -> None:
    made = function(*SIMPLE)
    every, live = sass.live_results(made, sass.loops(made)[0], r"FFMA$")
    assert every == live == {"R4", "R5"}


def test_a_chain_that_feeds_only_itself_is_dead() -> None:
    lines = [line if "R5,R3" not in line else "FFMA R7,R3,R3,R7" for line in SIMPLE]
    made = function(*lines)
    every, live = sass.live_results(made, sass.loops(made)[0], r"FFMA$")
    assert every == {"R4", "R7"}
    assert live == {"R4"}


def test_a_register_that_is_reused_after_the_loop_saves_no_chain() -> None:
    lines = [*SIMPLE[:6], "MOV R4,RZ", *SIMPLE[6:]]
    made = function(*lines)
    _, live = sass.live_results(made, sass.loops(made)[0], r"FFMA$")
    assert live == set()


def test_a_predicated_write_leaves_the_old_value_alive() -> None:
    made = function(*SIMPLE[:6], "@P1 MOV R4,RZ", *SIMPLE[6:])
    _, live = sass.live_results(made, sass.loops(made)[0], r"FFMA$")
    assert live == {"R4", "R5"}


@pytest.mark.parametrize("leaves", ["ATOMG.E.ADD PT,RZ,[R8.64],R4", "ATOMS.ADD RZ,[R8],R4", "RED.E.ADD [R8.64],R4"])
def test_a_value_that_leaves_by_an_atomic_is_stored(leaves: str) -> None:
    made = function(*SIMPLE[:6], leaves, *SIMPLE[7:])
    _, live = sass.live_results(made, sass.loops(made)[0], r"FFMA$")
    assert live == {"R4", "R5"}


@pytest.mark.parametrize("register", ["R8", "R11", "R13", "R15", "R4", "R7"])
def test_a_matrix_instruction_reads_four_registers_of_each_operand(register: str) -> None:
    made = function(
        "MOV R0,RZ",
        f"FFMA {register},R20,R21,R22",
        "@!P0 BRA 0x10",
        "HMMA.16816.F32 R4,R8,R12,R4",
        "STG.E [R24.64],R4",
        "EXIT",
    )
    every, live = sass.live_results(made, sass.loops(made)[0], r"FFMA$")
    assert every == live == {register}


def test_the_main_loop_has_the_most_of_a_class_and_is_the_innermost_that_has() -> None:
    nested = function(
        "MOV R0,RZ",
        "IADD3 R1,R1,0x1,RZ",
        "FFMA R4,R4,R5,R4",
        "@P0 BRA 0x20",
        "ISETP.NE.AND P1,PT,R1,R2,PT",
        "@P1 BRA 0x10",
        "EXIT",
    )
    loop = sass.main_loop(nested, "FFMA")
    assert loop is not None
    assert loop.body == (2, 3)
    assert sass.main_loop(nested, "DFMA") is None


def test_a_call_to_a_bare_address_leaves_the_loop_and_a_real_call_comes_back() -> None:
    leaving = function("MOV R0,RZ", "FFMA R4,R4,R5,R4", "@P0 CALL.REL.NOINC 0x40", "BRA 0x10", "EXIT")
    assert leaving.successors(2) == (4, 3)
    calling = function("CALL.REL.NOINC $remainder", "EXIT")
    assert calling.successors(0) == (1,)


def test_operands_keep_their_brackets_together() -> None:
    step = function("LDG.E R0,desc[UR4][R2.64+0x8],P0").body[0]
    assert step == Instruction("LDG.E", ("R0", "desc[UR4][R2.64+0x8]", "P0"), "")


def test_a_move_spelled_as_a_packed_fma_counts_as_a_move() -> None:
    made = function("MOV R0,RZ", "HFMA2 R3,-RZ,RZ,0,0", "HFMA2 R3,R2,R4,R3", "@P0 BRA 0x10", "EXIT")
    assert sass.opcode_counts(made, sass.loops(made)[0]) == {"MOV.HFMA2": 1, "HFMA2": 1, "BRA": 1}


def test_the_hash_sees_a_predicate() -> None:
    plain = function(*SIMPLE)
    guarded = function(
        *(line.replace("FFMA R5", "@P1 FFMA R5", 1) if line.startswith("FFMA R5") else line for line in SIMPLE)
    )
    assert sass.loop_hash(plain, sass.loops(plain)[0]) != sass.loop_hash(guarded, sass.loops(guarded)[0])
