"""Options have defaults from the nearest configuration, and the command line wins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from places import DATA

from microbench.cli.main import cli

GOOD = DATA / "fake-cpu.json"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MICROBENCH_CONFIG", raising=False)
    (tmp_path / "in" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "in" / "here")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def form(result: Result) -> str:
    return "json" if result.output.startswith("{") else "github" if result.output.startswith("::") else "text"


def test_the_nearest_file_counts_and_a_pyproject_without_our_table_does_not(tmp_path: Path) -> None:
    (tmp_path / "microbench.toml").write_text('[compare]\nformat = "json"\n')
    (tmp_path / "in" / "pyproject.toml").write_text('[tool.other]\nformat = "github"\n')
    assert form(run("compare", GOOD, GOOD)) == "json"
    (tmp_path / "in" / "pyproject.toml").write_text('[tool.microbench.compare]\nformat = "github"\n')
    assert form(run("compare", GOOD, GOOD)) == "github"
    assert form(run("compare", GOOD, GOOD, "--format", "text")) == "text"


def test_a_file_is_named_or_switched_off_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in" / "here" / "microbench.toml").write_text('[compare]\nformat = "json"\n')
    (tmp_path / "other.toml").write_text('[compare]\nformat = "github"\n')
    monkeypatch.setenv("MICROBENCH_CONFIG", str(tmp_path / "other.toml"))
    assert form(run("compare", GOOD, GOOD)) == "github"
    monkeypatch.setenv("MICROBENCH_CONFIG", "")
    assert form(run("compare", GOOD, GOOD)) == "text"
    monkeypatch.setenv("MICROBENCH_CONFIG", str(tmp_path / "none.toml"))
    assert "cannot be read" in str(run("compare", GOOD, GOOD).exception)


def test_one_value_stands_for_a_list_of_one_and_commands_may_lie_in_commands(tmp_path: Path) -> None:
    text = '[compare]\nfail-if = "memory:0.1%"\n[baseline.check]\nname = "weekly"\n'
    (tmp_path / "microbench.toml").write_text(text)
    assert "below the spread" in str(run("compare", GOOD, GOOD).exception)
    assert "weekly" in str(run("baseline", "check", GOOD).exception)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[run]\nquik = true\n", "'quik', which is no option or command there; it may have csv, device"),
        ("[runs]\nquick = true\n", "'runs', which is no option or command there"),
        ("[run\n", "is no TOML"),
    ],
)
def test_what_a_file_cannot_have_is_refused_in_a_sentence(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "microbench.toml").write_text(text)
    assert says in str(run("compare", GOOD, GOOD).exception)


def test_of_two_budgets_that_of_the_command_line_counts(tmp_path: Path) -> None:
    (tmp_path / "microbench.toml").write_text('[run]\nquick = true\nonly = "fma.f32.*"\ndevice = "cpu"\n')
    rows = json.loads(run("run", "--dry-run", "--thorough", "--json", "-").output)
    assert rows
    assert {row["case"].partition("[")[0].rpartition(".")[0] for row in rows} == {"fma.f32"}
