"""Files that cannot be read, and places that cannot be written to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Said, one_sentence
from places import DATA

from microbench.errors import UsageError
from microbench.storage.files import write_new

GOOD = DATA / "fake-cpu.json"


def test_a_file_that_never_ends_or_never_begins_is_refused_by_every_reader(
    said: Callable[..., Said], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        for arguments in (("report", path), ("compare", GOOD, path), ("audit", path), ("run", "--resume", path)):
            code, out, err = said(*arguments)
            assert (code, out) == (2, ""), arguments
            one_sentence(err)


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_path_without_a_name_is_refused(said: Callable[..., Said], name: str) -> None:
    for arguments in (
        ("nominal", "A100", "--json", name),
        ("export", GOOD, "--to", "pytorch", "-o", name),
        ("report", GOOD, "--md", name),
    ):
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
def test_validate_looks_at_its_outputs_before_it_measures(
    said: Callable[..., Said], tmp_path: Path, option: str
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    code, out, err = said("validate", option, taken)
    assert (code, out) == (2, "")
    one_sentence(err)
    assert taken.read_text() == "mine"


_WRITES_AND_DIES = """
import os, signal, sys
from pathlib import Path
from microbench.storage import files
step = sys.argv[2]
done = getattr(os, step)
def dying(*arguments, **more):
    done(*arguments, **more)
    os.kill(os.getpid(), signal.SIGKILL)
if step != "none":
    setattr(os, step, dying)
files.write_new(Path(sys.argv[1]) / "x.json", b"1" * 1000)
"""


@pytest.mark.parametrize("step", ["write", "fsync", "link"])
def test_a_writer_that_is_killed_leaves_a_whole_file_or_none(tmp_path: Path, step: str) -> None:
    if not hasattr(os, "O_TMPFILE"):
        pytest.skip("no unnamed files on this system")
    done = subprocess.run([sys.executable, "-c", _WRITES_AND_DIES, str(tmp_path), step], check=False, timeout=600)
    assert done.returncode == -signal.SIGKILL
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == (
        {"x.json": 1000} if step == "link" else {}
    )


def test_a_file_system_without_unnamed_files_gets_its_file_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY, raising=False)  # what an old kernel makes of it
    assert write_new(tmp_path / "x", b"new").read_bytes() == b"new"
    with pytest.raises(UsageError, match="nothing is overwritten"):
        write_new(tmp_path / "x", b"other")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
