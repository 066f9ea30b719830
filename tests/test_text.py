"""Foreign text is shown, and obeyed by nothing that shows it."""

from __future__ import annotations

import json
import sys
import unicodedata
from dataclasses import replace

import pytest
from fake_characterisation import characterisation
from hypothesis import given
from hypothesis import strategies as st

from microbench.errors import UsageError
from microbench.text import cell, inert, one_line, shown, visible

OSC_52 = "\x1b]52;c;cm0gLXJmIH4=\x07"
C1_OSC_52 = "\x9d52;c;cm0gLXJmIH4=\x9c"
BIDI = "\u202egnp.exe\u2066"


def test_every_control_direction_and_line_end_of_unicode_is_spelled_out() -> None:
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "BN"}
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        kind = unicodedata.category(character)
        if kind in ("Cc", "Cs", "Zl", "Zp") or (
            kind == "Cf" and unicodedata.bidirectional(character) in turning | {"L", "R", "AL"}
        ):
            name = unicodedata.name(character, "")
            if kind == "Cf" and not ("MARK" in name or unicodedata.bidirectional(character) in turning):
                continue  # signs that have a shape of their own, such as those of Egyptian or Kaithi
            if "INTERLINEAR" in name or "SHORTHAND" in name or "ABBREVIATION MARK" in name:
                continue
            assert visible(character) != character, hex(number)


@given(st.text())
def test_what_is_visible_stays_so_and_can_be_encoded(text: str) -> None:
    once = visible(text)
    assert visible(once) == once
    assert "\n" not in once
    once.encode("utf-8")


@given(st.text())
def test_json_stays_the_same_json(text: str) -> None:
    for escaped in (json.dumps([text]), json.dumps([text], ensure_ascii=False)):
        assert json.loads(inert(visible(escaped))) == json.loads(escaped)


@pytest.mark.parametrize("text", ["::stop-commands::x", "  ::set-output name=a::b", "a\n::warning::b", "##[error]x"])
def test_no_line_begins_with_a_command_of_a_job(text: str) -> None:
    said = inert(text)
    assert not any(line.lstrip().startswith("::") or "##[" in line for line in said.splitlines())
    assert inert(said) == said


@pytest.mark.parametrize("text", ["##vso[task.setvariable]x", "a ##[command]"])
def test_a_command_of_azure_is_broken_anywhere_in_a_line(text: str) -> None:
    assert "##" not in inert(text)


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert cell(text)[0] == "'"


@pytest.mark.parametrize("text", ["-1.5", "+3e9", "matmul", ""])
def test_numbers_and_words_stay_as_they_are_in_a_cell(text: str) -> None:
    assert cell(text) == text


def test_a_refusal_shows_the_name_that_it_quotes() -> None:
    says = str(UsageError(f"there is no file {OSC_52}{C1_OSC_52}{BIDI}\nevil"))
    assert visible(says) == says


def test_a_record_is_itself_unless_something_in_it_must_be_spelled_out() -> None:
    whole = characterisation()
    assert shown(whole) is whole
    device = replace(whole.device, name=f"A{OSC_52}", features=("avx2", "x\u202e"))
    changed = shown(replace(whole, device=device))
    assert changed.device.name == "A\\u001b]52;c;cm0gLXJmIH4=\\u0007"
    assert changed.device.features == ("avx2", "x\\u202e")
    assert changed.samples is whole.samples


def test_a_sentence_of_several_lines_is_one_line() -> None:
    assert one_line("a\nb\r\nc") == "a b c"
