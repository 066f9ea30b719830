from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from microbench.cli.commands import without_repeat
from microbench.cli.main import cli
from microbench.errors import UsageError

if TYPE_CHECKING:
    from command_line import Said


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "microbench", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=600)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from microbench.cli.main import cli; from click.testing import CliRunner; "
        "CliRunner().invoke(cli, ['--help']);"
        "heavy = ('torch', 'triton', 'pynvml', 'pandas', 'numpy', 'scipy', 'matplotlib', 'jinja2', 'msgspec');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.strip() == "[]"


def test_every_command_of_the_contract_has_help() -> None:
    listed = CliRunner().invoke(cli, ["--help"]).output
    for name in (
        "run",
        "list",
        "doctor",
        "check",
        "nominal",
        "report",
        "predict",
        "validate",
        "fit",
        "compare",
        "export",
        "audit",
    ):
        assert name in listed
        shown = CliRunner().invoke(cli, [name, "--help"])
        assert shown.exit_code == 0
        assert f"microbench {name} " in shown.output.partition("For example:")[2]


def test_a_part_of_a_name_lists_the_cards_that_match(said: Callable[..., Said]) -> None:
    code, out, err = said("nominal", "rtx pro", "--json", "-")
    cards = {row["name"]: row for row in json.loads(out)}
    assert (code, err) == (0, "")
    assert cards["RTX PRO 6000 Server"]["memory bandwidth"] == "1.597 TB/s"
    assert "RTX 5090" not in cards
    code, out, _ = said("nominal", "5070 ti", "--json", "-")
    assert (code, {row["what"] for row in json.loads(out)} >= {"vector f32", "memory"}) == (0, True)
    code, out, err = said("nominal", "rtx 50700")
    assert (code, out) == (2, "")
    assert "close: RTX 5070" in err


def test_a_gpu_that_is_not_there_is_one_sentence_and_exit_3() -> None:
    done = command("run", "--device", "cuda:0")
    if done.returncode == 0:
        pytest.skip("there is a GPU here")
    assert done.returncode == 3
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert "cuda:0" in done.stderr or "CUDA" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "--device", "tpu"), "unknown device 'tpu'"),
        (("run", "--device", "cpu", "--dtype", "f12"), "unknown dtype 'f12'"),
        (("run", "--device", "cpu", "--level", "L9"), "unknown memory level 'L9'"),
        (("run", "--device", "cpu", "--only", "no.such.*"), "nothing to measure"),
        (("run", "--time-limit", "0s"), "not a positive duration"),
        (("run", "--time-limit", "-3"), "not a positive duration"),
        (("run", "--time-limit", "nan"), "not a positive duration"),
        (("run", "--quick", "--thorough"), "exclude each other"),
        (("run", "--repeat", "0"), "0"),
        (("report", "no-such-file.json"), "there is no file no-such-file.json"),
        (("frobnicate",), "frobnicate"),
    ],
)
def test_a_wrong_request_is_one_sentence_and_exit_2(arguments: tuple[str, ...], says: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert says in " ".join(done.stderr.split())


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    done = command(
        "run", "--device", "cpu", "--quick", "--dry-run", "--only", "fma.f32.*", "--out", str(tmp_path / "results")
    )
    assert done.returncode == 0
    assert "fma.f32.scalar[]@1" in done.stdout
    assert not (tmp_path / "results").exists()


def test_json_on_stdout_takes_the_tables_place(tmp_path: Path) -> None:
    done = command(
        "run",
        "--device",
        "cpu",
        "--only",
        "fma.f32.scalar",
        "--time-limit",
        "60s",
        "--json",
        "-",
        "--out",
        str(tmp_path),
    )
    assert done.returncode == 0
    made = json.loads(done.stdout)
    assert made["schema"].startswith("1.")
    assert made["ceilings"][0]["name"] == "fma.f32.scalar"
    assert {path.suffix for path in tmp_path.glob("*/*")} == {".json", ".png", ".html"}


def test_repeat_is_left_out_of_the_repeated_command_line() -> None:
    assert without_repeat(["run", "--repeat", "3", "--quick"]) == ["run", "--quick"]
    assert without_repeat(["run", "--repeat=3", "--seed", "1"]) == ["run", "--seed", "1"]


def test_refusals_reach_the_caller_as_sentences() -> None:
    with pytest.raises(UsageError, match="unknown device"):
        CliRunner().invoke(cli, ["run", "--device", "tpu"], catch_exceptions=False)


def test_kernels_of_a_target_that_is_not_here_say_where_their_code_comes_from_and_which_cannot_run(
    tmp_path: Path,
) -> None:
    out = tmp_path / "kernels.json"
    done = command("list", "kernels", "--device", "cuda:0", "--arch", "sm_90a", "--json", str(out))
    assert done.returncode == 0, done.stderr
    rows = {row["kernel"]: row for row in json.loads(out.read_text(encoding="utf-8"))}
    lacking = {name: row for name, row in rows.items() if row["available"].startswith("no:")}
    assert f"{len(rows)} kernels: {len(rows) - len(lacking)} can run, {len(lacking)} cannot" in done.stdout
    assert rows["mma.f16.f16.m16n8k8"]["available"] == "no: only sm_75 has it, and this is sm_90a"
    assert rows["tcgen05.f16.f32.m128n256k16"]["available"] == "no: only sm_100a, sm_103a have it, and this is sm_90a"
    assert {row["source"] for row in lacking.values()} == {"nowhere"}


def test_an_empty_folder_of_results_says_how_to_get_one(tmp_path: Path) -> None:
    assert "microbench run" in CliRunner().invoke(cli, ["list", "results", "--out", str(tmp_path)]).output
    assert CliRunner().invoke(cli, ["list", "results", "--out", str(tmp_path), "--json", "-"]).output.strip() == "[]"
