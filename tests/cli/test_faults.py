"""Whatever goes wrong, a user gets one sentence and an exit code.

0 fine, 1 a check said no, 2 usage, 3 cannot run here, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import PATIENCE_S, SMALL, Said, environment, one_sentence, process
from places import DATA

GOOD = DATA / "fake-cpu.json"
# Twelve rounds of many cases, so that a signal comes long before the end, however late this process gets to send it.
LONG = ("run", "--thorough", "--level", "L1", "--time-limit", "60s")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--device", "tpu"),
        ("--device", "cuda:x"),
        ("--device", "cuda:-1"),
        ("--device", ""),
        ("--dtype", "f7"),
        ("--level", "L9"),
        ("--only", "zzz*"),
        ("--only", "["),
        ("--only", "fma*", "--level", "L1", "--dtype", "f64"),
        ("--time-limit", "0"),
        ("--time-limit", "-5s"),
        ("--time-limit", "nan"),
        ("--time-limit", "soon"),
        ("--time-limit", "1e99"),
        ("--quick", "--thorough"),
    ],
)
def test_a_wrong_request_is_refused_in_one_sentence(said: Callable[..., Said], arguments: tuple[str, ...]) -> None:
    code, out, err = said("run", "--dry-run", *arguments)
    assert (code, out) == (2, "")
    one_sentence(err)


@pytest.mark.parametrize("arguments", [("--repeat", "0"), ("--repeat", "x"), ("--seed", "-1"), ("--frobnicate",)])
def test_a_wrong_option_is_refused_with_its_usage(said: Callable[..., Said], arguments: tuple[str, ...]) -> None:
    code, _, err = said("run", "--dry-run", *arguments)
    assert code == 2
    assert "Error" in err
    assert "Traceback" not in err


def test_an_unknown_command_is_refused(said: Callable[..., Said]) -> None:
    code, _, err = said("frobnicate")
    assert code == 2
    assert "No such command" in err


def _edited(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(GOOD.read_text())
    change(document)
    return json.dumps(document)


BAD_FILES: dict[str, Callable[[], str | bytes]] = {
    "empty": lambda: "",
    "blank": lambda: " \n",
    "truncated": lambda: GOOD.read_text()[:2000],
    "alien": lambda: '{"a": 1}',
    "a list": lambda: "[1, 2]",
    "null": lambda: "null",
    "nested": lambda: "[" * 200_000,
    "binary": lambda: bytes(range(256)) * 20,
    "utf-16": lambda: GOOD.read_text()[:2000].encode("utf-16"),
    "a newer schema": lambda: _edited(lambda d: d.update(schema="2.0")),
    "no schema": lambda: _edited(lambda d: d.pop("schema")),
    "no device": lambda: _edited(lambda d: d.pop("device")),
    "a negative rate": lambda: _edited(lambda d: d["ceilings"][0]["rate"].update(value=-1)),
    "a rate that is no number": lambda: _edited(lambda d: d["ceilings"][0]["rate"].update(value=float("nan"))),
    "a rate in words": lambda: _edited(lambda d: d["ceilings"][0].update(rate="fast")),
    "an unknown dtype": lambda: _edited(lambda d: d["ceilings"][0].update(dtype="f7")),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_by_every_command_that_reads_one(
    said: Callable[..., Said], tmp_path: Path, name: str
) -> None:
    path, content = tmp_path / "x.json", BAD_FILES[name]()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for arguments in (
        ("report", path),
        ("compare", GOOD, path),
        ("compare", path, GOOD),
        ("export", path, "--to", "pytorch"),
        ("audit", DATA / "audit" / "correct.toml", "--against", path),
    ):
        code, out, err = said(*arguments)
        assert (code, out) == (2, ""), arguments
        one_sentence(err)


def test_a_missing_file_and_a_folder_are_refused(said: Callable[..., Said], tmp_path: Path) -> None:
    for path in (tmp_path / "nope.json", tmp_path):
        for arguments in (("report", path), ("compare", GOOD, path), ("export", path, "--to", "genz"), ("audit", path)):
            code, _, err = said(*arguments)
            assert code == 2, arguments
            one_sentence(err)


def test_a_newer_minor_schema_is_read(said: Callable[..., Said], tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(_edited(lambda d: d.update(schema="1.99", something_new=3)))
    assert said("report", path)[0] == 0
    assert said("compare", path, path)[0] == 0


def test_exports_go_to_stdout_or_to_a_new_file_only(said: Callable[..., Said], tmp_path: Path) -> None:
    path = tmp_path / "device.py"
    code, out, _ = said("export", GOOD, "--to", "pytorch")
    assert code == 0
    assert said("export", GOOD, "--to", "pytorch", "-o", path)[0] == 0
    assert path.read_text() == out
    code, _, err = said("export", GOOD, "--to", "pytorch", "-o", path)
    assert code == 2
    assert "nothing is overwritten" in err
    code, _, err = said("export", GOOD, "--to", "pytorch", "-o", tmp_path / "none" / "x.py")
    assert code == 3
    one_sentence(err)


def test_an_exceeded_limit_exits_one(said: Callable[..., Said], tmp_path: Path) -> None:
    slow = tmp_path / "slow.json"

    def halve(document: dict[str, Any]) -> None:
        for ceiling in document["ceilings"]:
            ceiling["converged"] = True
            ceiling["rate"] = {**ceiling["rate"], **{key: ceiling["rate"][key] / 2 for key in ("value", "low", "high")}}

    same = tmp_path / "same.json"
    same.write_text(_edited(lambda d: [ceiling.update(converged=True) for ceiling in d["ceilings"]]))
    slow.write_text(_edited(halve))
    assert said("compare", same, same, "--fail-if", "compute:3%", "--fail-if", "memory:5%")[0] == 0
    code, _, err = said("compare", same, slow, "--fail-if", "compute:3%")
    assert code == 1
    assert "50.0 % slower" in err
    assert said("compare", same, slow)[0] == 0


def test_audit_exits_one_at_a_fault_and_zero_without(said: Callable[..., Said]) -> None:
    assert said("audit", DATA / "audit" / "correct.toml")[0] == 0
    assert said("audit", DATA / "audit" / "typed_in.toml")[0] == 1
    assert said("audit", DATA / "audit" / "astra_bytes.json", "--against", "no such card")[0] == 2


def test_two_formats_cannot_both_claim_stdout(said: Callable[..., Said]) -> None:
    code, out, err = said("list", "operators", "--json", "-", "--csv", "-")
    assert (code, out) == (2, "")
    one_sentence(err)


def test_a_gpu_that_is_not_there_cannot_be_run_on(said: Callable[..., Said]) -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has an NVIDIA driver")
    code, _, err = said("run", "--dry-run", "--device", "cuda:7")
    assert code == 3
    one_sentence(err)


@pytest.mark.parametrize("place", ["file", "full"])
def test_an_output_folder_that_cannot_take_results_is_refused_before_measuring(tmp_path: Path, place: str) -> None:
    if place == "file":
        out = tmp_path / "results"
        out.write_text("in the way")
    else:
        out = Path("/proc/microbench")  # a file system that takes no folders
    code, _, err = process(tmp_path, *SMALL, "--out", out)
    assert code == 3
    one_sentence(err)  # and nothing of a measurement's progress


def test_output_that_cannot_be_written_is_said_in_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "microbench", "export", str(GOOD), "--to", "pytorch"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command,
            env=environment(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 3
    assert "cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_had_enough_is_no_fault(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "microbench", "report", str(GOOD)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment(tmp_path), text=True, **pipes) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        err = running.stderr.read()
    assert (running.returncode, err) == (0, "")


def _interrupted(tmp_path: Path, number: int, *more: str, measuring: tuple[str, ...] = LONG) -> Said:
    """Start a long run, wait until it has samples on disk, send a signal."""
    command = [sys.executable, "-m", "microbench", *measuring, *more, "--out", str(tmp_path / "out")]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment(tmp_path), text=True, **pipes) as running:
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up and running.poll() is None:
            journal = next((tmp_path / "out").rglob("*.partial"), None)
            if journal is not None and journal.read_bytes().count(b"\n") > 2:
                break
            time.sleep(0.1)
        running.send_signal(number)
        out, err = running.communicate(timeout=PATIENCE_S)
    return running.returncode, out, err


@pytest.mark.timed
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_keeps_what_it_has(
    tmp_path: Path, number: signal.Signals, said: Callable[..., Said]
) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored by whoever started the tests (nohup)")
    code, _, err = _interrupted(tmp_path, number)
    assert code == 130, err
    assert "Traceback" not in err
    stored = list((tmp_path / "out").rglob("*.json"))
    assert len(stored) == 1
    assert said("report", stored[0])[0] == 0
    assert {path.suffix for path in (tmp_path / "out").glob("*/*")} == {".json", ".png", ".html", ".partial"}
    assert f"microbench run --resume {stored[0].with_suffix('.partial')}" in err


@pytest.mark.timed
def test_an_interrupted_repetition_keeps_what_it_has(tmp_path: Path) -> None:
    code, _, err = _interrupted(tmp_path, signal.SIGTERM, "--repeat", "2")
    assert code == 130, err
    assert len(list((tmp_path / "out").rglob("*.json"))) == 1


@pytest.mark.timed
def test_an_interrupt_before_measuring_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "microbench", *LONG, "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        command, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up and not (tmp_path / "out").exists():
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 130, err
    one_sentence(err)
    if "before anything was measured" in err:
        assert not [path for path in tmp_path.rglob("*") if path.suffix in (".partial", ".json", ".tmp")]


@pytest.mark.timed
def test_a_killed_run_goes_on_from_its_journal(tmp_path: Path, said: Callable[..., Said]) -> None:
    # As many rounds, of fewer cases: the rest is measured below.
    measuring = ("run", "--thorough", "--only", "fma.*", "--time-limit", "60s")
    assert _interrupted(tmp_path, signal.SIGKILL, measuring=measuring)[0] == -signal.SIGKILL
    journal = next((tmp_path / "out").rglob("*.partial"))
    assert not list((tmp_path / "out").rglob("*.json"))
    code, _, err = process(tmp_path, "run", "--resume", journal, "--out", tmp_path / "out")
    assert code == 0, err
    assert said("report", next((tmp_path / "out").rglob("*.json")))[0] == 0


@pytest.mark.timed
def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "microbench", "run", "--device", "cpu", "--out", str(tmp_path / "one")]
    with subprocess.Popen(
        command, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as first:
        try:
            give_up = time.monotonic() + PATIENCE_S
            while (
                time.monotonic() < give_up and first.poll() is None and not list((tmp_path / "one").rglob("*.partial"))
            ):
                time.sleep(0.1)
            code, _, err = process(tmp_path, *SMALL, "--out", tmp_path / "two")
        finally:
            first.kill()
    assert code == 3
    assert "another microbench run" in err
    one_sentence(err)


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_a_place_that_data_cannot_go_to_is_refused_before_measuring(tmp_path: Path, option: str) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    for place in (taken, tmp_path, tmp_path / "none" / "x"):
        code, out, err = process(tmp_path, *SMALL, "--out", tmp_path / "out", option, place)
        assert (code, out) == (2, "")
        one_sentence(err)
    assert taken.read_text() == "mine"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--resume", "x.partial", "--quick"),
        ("--resume", "x.partial", "--only", "fma*"),
        ("--resume", "x.partial", "--dry-run"),
        ("--repeat", "2", "--json", "-"),
        ("--repeat", "2", "--dry-run"),
        ("--json", "-", "--csv", "-"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, out, err = process(tmp_path, "run", *arguments, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    one_sentence(err)


def test_a_dry_run_writes_its_plan_where_it_was_asked_to(said: Callable[..., Said]) -> None:
    code, out, _ = said("run", "--device", "cpu", "--dry-run", "--only", "fma.f64.scalar", "--json", "-")
    assert code == 0
    assert json.loads(out)[0]["case"] == "fma.f64.scalar[]@1"


@pytest.mark.parametrize("stdout", ["/dev/full", "closed pipe"])
def test_a_table_that_cannot_be_printed_costs_no_file(tmp_path: Path, stdout: str) -> None:
    command = [sys.executable, "-m", "microbench", *SMALL, "--time-limit", "90s", "--out", str(tmp_path / "out")]
    if stdout == "closed pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(stdout, os.O_WRONLY)
    done = subprocess.run(
        command,
        env=environment(tmp_path),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    os.close(writing)
    assert done.returncode == (0 if stdout == "closed pipe" else 3), done.stderr
    assert "Traceback" not in done.stderr
    paths = {path.suffix: path for path in (tmp_path / "out").glob("*/*")}
    late = '"no-page"' in paths[".json"].read_text(encoding="utf-8")  # on a slow machine no time is left to draw
    assert set(paths) == ({".json"} if late else {".json", ".png", ".html"})


@pytest.mark.timed
def test_a_folder_that_vanishes_while_measuring_loses_no_result(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "microbench", *SMALL, "--json", "-", "--out", str(tmp_path / "out")]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment(tmp_path), text=True, **pipes) as running:
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up and running.poll() is None and not list((tmp_path / "out").rglob("*.partial")):
            time.sleep(0.05)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        _, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode in (0, 3), err
    assert "Traceback" not in err
