"""Files that cannot be read, and places that cannot be written to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Said, one_sentence

GOOD = Path(__file__).parent / "data" / "fake-cpu.json"


def test_a_file_that_never_ends_or_never_begins_is_refused_by_every_reader(said: Callable[..., Said], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        for arguments in (("report", path), ("compare", GOOD, path), ("audit", path), ("run", "--resume", path)):
            code, out, err = said(*arguments)
            assert (code, out) == (2, ""), arguments
            one_sentence(err)


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_path_without_a_name_is_refused(said: Callable[..., Said], name: str) -> None:
    for arguments in (("nominal", "A100", "--json", name), ("export", GOOD, "--to", "pytorch", "-o", name), ("report", GOOD, "--md", name)):
        code, _, err = said(*arguments)
        assert code == 2, arguments
        one_sentence(err)


def test_a_fit_goes_to_stdout_when_asked_to(said: Callable[..., Said], tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    lines = [f"matmul,f32,m={size};n={size};k={size},{size**3 * 1e-11:.3g}" for size in range(16, 512, 32)]
    rows.write_text("\n".join(["op,dtype,params,seconds", *lines]))
    code, out, _ = said("fit", rows, "-o", "-")
    assert code == 0
    assert json.loads(out)["schema"].startswith("1.")


def test_a_folder_of_results_that_is_not_there_is_told(said: Callable[..., Said], tmp_path: Path) -> None:
    code, out, err = said("list", "results", "--out", tmp_path / "none")
    assert (code, out) == (3, "")
    one_sentence(err)


@pytest.mark.parametrize("option", ["--json", "--csv", "--png"])
def test_validate_looks_at_its_outputs_before_it_measures(said: Callable[..., Said], tmp_path: Path, option: str) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    code, out, err = said("validate", option, taken)
    assert (code, out) == (2, "")
    one_sentence(err)
    assert taken.read_text() == "mine"
