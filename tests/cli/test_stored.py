"""Commands about stored results: baselines, histories, populations, listings, reports as rows."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from places import DATA

from microbench.cli.main import cli
from microbench.records import Characterisation, Environment, Estimate
from microbench.storage import store
from microbench.storage.journal import Journal, journal_header

GOOD = DATA / "fake-cpu.json"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def made(rate: float = 1.0, day: int = 1, **words: str) -> Characterisation:
    """The stored fake on another day, settled, at another speed."""
    held = store.load(GOOD)
    rows = tuple(
        replace(
            row,
            converged=True,
            typical=None,
            rate=Estimate(value=row.rate.value * rate, low=row.rate.value * rate, high=row.rate.value * rate),
        )
        for row in held.ceilings
    )
    when = Environment(started=f"2026-11-{day:02d}T10:00:00+00:00", seconds=1.0, microbench="0.1", **words)
    return replace(held, ceilings=rows, costs=(), samples=(), findings=(), environment=when)


def kept(folder: Path, *runs: Characterisation) -> list[Path]:
    return [store.save(each, folder) for each in runs]


def test_a_baseline_is_saved_once_added_to_and_checked(tmp_path: Path) -> None:
    first, second, slow = kept(tmp_path / "r", made(), made(1.001, 2), made(0.5, 3))
    place = ("--dir", tmp_path / "b")
    assert run("baseline", "save", first, *place).exit_code == 0
    assert run("baseline", "check", second, *place).exit_code == 0
    refused = run("baseline", "save", second, *place)
    assert "--add" in str(refused.exception)
    assert run("baseline", "save", second, "--add", *place).exit_code == 0
    checked = run("baseline", "check", slow, *place)
    assert checked.exit_code == 1
    assert "pooled" in checked.output
    assert "there is no baseline" in str(run("baseline", "check", slow, "--name", "none", *place).exception)


def test_a_baseline_of_another_model_is_no_baseline(tmp_path: Path) -> None:
    other = replace(made(), device=replace(made().device, id="ffff", name="Other", sku="other"))
    (mine,), (theirs,) = kept(tmp_path / "r", made()), kept(tmp_path / "r", other)
    run("baseline", "save", mine, "--dir", tmp_path / "b")
    assert "0 devices like Other" in str(run("baseline", "check", theirs, "--dir", tmp_path / "b").exception)


def test_runs_of_one_repeat_are_one_side_and_several_sides_are_held_to_the_first(tmp_path: Path) -> None:
    old = kept(tmp_path, *(made(1 + day / 1000, day, repeat="aa") for day in (1, 2, 3)))
    new = kept(tmp_path, *(made(0.97 + day / 1000, day, repeat="bb") for day in (4, 5, 6)))
    single = kept(tmp_path, made(0.5, 7))
    found = json.loads(run("compare", *old, *new, *single, "--format", "json").output)
    assert [each["runs"] for each in found] == [[3, 3], [3, 1]]
    assert [each["verdict"] for each in found] == ["slower", "slower"]
    assert "at least two files" in str(run("compare", *old).exception)


def test_a_folder_is_pooled(tmp_path: Path) -> None:
    kept(tmp_path / "a", made(), made(1.001, 2))
    kept(tmp_path / "b", made(0.999, 3), made(1, 4))
    found = json.loads(run("compare", tmp_path / "a", tmp_path / "b", "--format", "json").output)
    assert (found["runs"], found["verdict"]) == ([2, 2], "same")


def test_a_limit_below_the_spread_is_refused(tmp_path: Path) -> None:
    assert "below the spread" in str(run("compare", GOOD, GOOD, "--fail-if", "compute:0.5%").exception)


def test_a_history_marks_the_fall_and_prunes_by_rule(tmp_path: Path) -> None:
    paths = kept(tmp_path, *(made(0.8 if day > 4 else 1.0, day) for day in range(1, 10)))
    shown = run("history", tmp_path)
    assert "2026-11-05T10:00 -20.0 %" in shown.output
    rows = list(csv.DictReader(io.StringIO(run("history", tmp_path, "--csv", "-").output)))
    assert {row["started"] for row in rows if row["step"]} == {"2026-11-05T10:00:00+00:00"}
    assert run("history", tmp_path, "--keep-last", 2).exit_code == 0
    assert all(path.exists() for path in paths)
    run("history", tmp_path, "--keep-last", 2, "--delete")
    assert [path.exists() for path in paths] == [True, False, False, False, True, False, False, True, True]
    assert "needs a rule" in str(run("history", tmp_path, "--delete").exception)


def test_a_population_names_who_is_outside_and_where_one_lies(tmp_path: Path) -> None:
    for number in range(6):
        run_of = made(0.6 if number == 5 else 1 + number / 1000)
        kept(tmp_path / "fleet", replace(run_of, device=replace(run_of.device, id=f"node{number}")))
    assert "node5 -40" in run("population", tmp_path / "fleet").output
    (mine,) = kept(tmp_path / "mine", made(0.6))
    found = json.loads(run("population", mine, "--among", tmp_path / "fleet", "--json", "-").output)
    here = {row["verdict"] for row in found if row["device"] == made().device.id}
    assert here == {"slow"}
    assert "published" in str(run("population", mine).exception)


def test_unfinished_runs_and_labels_are_listed(tmp_path: Path) -> None:
    kept(tmp_path, made(label="before the update"))
    held = store.load(GOOD)
    assert held.plan is not None
    assert held.environment is not None
    journal = tmp_path / "fake" / "20261101T100000Z-x-1234.partial"
    Journal.create(journal, journal_header(held.device, held.plan, held.environment, held.sheets)).close()
    rows = json.loads(run("list", "results", "--out", tmp_path, "--json", "-").output)
    assert {row["label"] for row in rows} == {"before the update", None}
    assert any("--resume" in (row["note"] or "") for row in rows)


def test_a_report_is_rows_or_markdown_on_stdout() -> None:
    rows = json.loads(run("report", GOOD, "--json", "-").output)
    assert len(rows) == len(store.load(GOOD).ceilings)
    assert run("report", GOOD, "--csv", "-").output.startswith("name,")
    assert run("report", GOOD, "--md", "-").output.startswith("# ")
    assert "both claim stdout" in str(run("report", GOOD, "--md", "-", "--csv", "-").exception)


def test_a_pipe_is_as_wide_as_columns_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    assert max(map(len, run("list", "operators").output.splitlines())) <= 90


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_that_asks_this_command(shell: str) -> None:
    found = run("completion", shell)
    assert found.exit_code == 0
    assert "_MICROBENCH_COMPLETE" in found.output


def test_every_kernel_is_described() -> None:
    assert all(row["says"] for row in json.loads(run("list", "kernels", "--arch", "sm_90a", "--json", "-").output))
