"""A device name, a path or a cell that gives commands: every output shows it, and nothing obeys it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Said
from places import DATA

from microbench.analysis.compare import compare
from microbench.cli.streams import Guarded
from microbench.report import terminal
from microbench.report.console import Output
from microbench.storage import store
from microbench.text import visible

GOOD = DATA / "fake-cpu.json"
# Writes the clipboard of a terminal, in C0 and in C1; turns the direction of a line; commands of GitHub and of Azure; a
# mention, a link; a formula; a line break.
HOSTILE = (
    "::stop-commands::x\n::error::y ##[error]z \x1b]52;c;cm0gLXJmIH4=\x07 \x9d52;c;AA==\x9c \u202eabc "
    "@everyone https://evil.example =1+1\u2028"
)


def hostile(tmp_path: Path, name: str = "x.json") -> Path:
    whole = store.load(GOOD)
    finding = replace(whole.findings[0], says=HOSTILE, remedy=HOSTILE)
    assert whole.environment is not None
    environment = replace(whole.environment, microbench=HOSTILE, facts={**whole.environment.facts, HOSTILE: HOSTILE})
    changed = replace(
        whole,
        device=replace(whole.device, name=HOSTILE, arch=HOSTILE, id=HOSTILE),
        environment=environment,
        findings=(finding, *whole.findings),
        sheets=tuple(replace(sheet, says=HOSTILE, source=HOSTILE) for sheet in whole.sheets),
        ceilings=tuple(replace(row, name=f"{HOSTILE}{row.name}") for row in whole.ceilings),
    )
    path = tmp_path / name
    path.write_bytes(store.dumps(changed))
    return path


def obeyed(text: str) -> list[str]:
    """What a terminal or a job would obey in a text."""
    found = [line for line in text.split("\n") if line.lstrip().startswith("::") or "##[" in line]
    return found + [character for character in set(text) - {"\n"} if visible(character) != character]


@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "X"),
        ("report", "X", "--md", "-"),
        ("report", "X", "--csv", "-"),
        ("report", "X", "--json", "-"),
        ("compare", "X", "X"),
        ("compare", "X", str(GOOD)),
        ("compare", "X", str(GOOD), "--format", "json"),
        ("export", "X", "--to", "pytorch"),
        ("export", "X", "--to", "calculon"),
        ("audit", str(DATA / "audit" / "correct.toml"), "--against", "X"),
        ("predict", "--op", "matmul:m=64,n=64,k=64,dtype=f32", "--calibration", "X"),
    ],
)
def test_no_output_of_a_hostile_file_gives_a_command(
    said: Callable[..., Said], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    path = hostile(tmp_path)
    _, out, err = said(*(path if each == "X" else each for each in arguments))
    assert not obeyed(out)
    assert not obeyed(err)
    assert "Traceback" not in err


def test_only_our_own_commands_reach_a_job(said: Callable[..., Said], tmp_path: Path) -> None:
    _, out, _ = said("compare", hostile(tmp_path), GOOD, "--format", "github")
    assert out.count("::notice title=microbench compare::") == 1
    assert all(
        line.startswith(("::error title=microbench ", "::warning title=microbench ", "::notice title=microbench "))
        for line in out.splitlines()
    )
    assert "##[" not in out
    assert not [character for character in set(out) - {"\n"} if visible(character) != character]


@pytest.mark.parametrize("name", [f"a{HOSTILE}.json".replace("/", "-"), "::error::x.json", "##[error]x.json"])
def test_a_path_in_a_refusal_gives_no_command(said: Callable[..., Said], tmp_path: Path, name: str) -> None:
    for arguments in (("report", tmp_path / name), ("audit", tmp_path / name), ("compare", name, name)):
        code, out, err = said(*arguments)
        assert code == 2
        assert not obeyed(out + err)


def test_markdown_mentions_nobody_and_links_nothing(said: Callable[..., Said], tmp_path: Path) -> None:
    code, out, err = said("report", hostile(tmp_path), "--md", "-")
    assert code == 0, err
    assert "@everyone" not in out
    assert "https://" not in out
    assert "@<!-- -->everyone" in out


def test_a_cell_that_people_open_is_no_formula(said: Callable[..., Said], tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('op,dtype,params,note,=2+3\nmatmul,f32,m=8;n=8;k=8,=HYPERLINK("http://x"),-1.5\n')
    code, out, err = said("predict", "--ops", path, "--calibration", GOOD)
    assert code == 0, err
    assert out.splitlines()[0].startswith("op,dtype,params,note,'=2+3,")
    assert out.splitlines()[1].startswith('matmul,f32,m=8;n=8;k=8,"\'=HYPERLINK(""http://x"")",-1.5,')


def test_numbers_of_a_hostile_file_still_come_out_as_json(said: Callable[..., Said], tmp_path: Path) -> None:
    _, out, _ = said("compare", hostile(tmp_path), GOOD, "--format", "json")
    assert json.loads(out)["old"].startswith("::stop-commands::x\n")


def test_a_terminal_obeys_our_colours_and_nothing_foreign(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    file: Any = Terminal()
    out = Output(file=Guarded(file), width=100, force_terminal=True, color_system="standard", highlight=False)  # type: ignore[arg-type]
    terminal.show(store.load(hostile(tmp_path)), out)
    said = file.getvalue()
    assert "\x1b[" in said
    assert "\x1b]" not in said
    assert not {"\x07", "\x9d", "\x9c", "\u202e", "\u2028"} & set(said)


def test_what_an_interpreter_and_a_notebook_show_of_a_hostile_file_is_obeyed_by_neither(tmp_path: Path) -> None:
    held = store.load(hostile(tmp_path))
    comparison = compare(held, held)
    for text in (repr(held), repr(held.roofline), repr(comparison), comparison._repr_html_()):
        assert not [character for character in set(text) - {"\n"} if visible(character) != character]


def test_a_guarded_stream_keeps_what_it_does_not_obey() -> None:
    file = io.StringIO()
    stream = Guarded(file)
    assert stream.write("ready\n  ::set-env::x \x1b]0;t\x07\n") == 28
    stream.writelines(["a", "b\n"])
    stream.write_commands("::notice::ours\n")
    assert file.getvalue() == "ready\n  \\u003a:set-env::x \\u001b]0;t\\u0007\nab\n::notice::ours\n"
