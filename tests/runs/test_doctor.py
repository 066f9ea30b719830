from __future__ import annotations

import builtins
import json
import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from microbench.cli import commands
from microbench.errors import CannotRun, UsageError
from microbench.hardware.procfs import Machine
from microbench.records import Finding
from microbench.runs import doctor
from microbench.runs.doctor import examine, installation, machine, nvidia

Answer = Callable[[str], str]


@pytest.fixture
def context(tmp_path: Path) -> doctor.Context:
    return doctor.Context(device="cpu", machine=Machine(tmp_path), out=tmp_path / "results")


def only(check: doctor.Check, context: doctor.Context) -> Finding:
    (finding,) = check(context)
    return finding


def installed(monkeypatch: pytest.MonkeyPatch, requires: dict[str, list[str]] | None = None, **versions: str) -> None:
    known = {name.replace("_", "-"): version for name, version in versions.items()}

    def version(name: str) -> str:
        if name not in known:
            raise metadata.PackageNotFoundError(name)
        return known[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", (requires or {}).get)


def test_another_distribution_of_the_same_name_is_an_error(
    context: doctor.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, microbench="1.2.3", microbench_roofline="0.1.0")
    finding = only(installation.import_name, context)
    assert finding.severity == "error"
    assert "microbench 1.2.3" in finding.says
    assert "pip uninstall microbench" in finding.remedy


def test_our_name_alone_is_fine_and_a_bare_folder_is_not(
    context: doctor.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, microbench_roofline="0.1.0")
    assert only(installation.import_name, context).severity == "info"
    installed(monkeypatch)
    assert only(installation.import_name, context).remedy == "pip install ."


def test_missing_packages_are_named_and_extras_are_not_asked_for(
    context: doctor.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    wants = {installation.OURS: ["numpy>=1.26", "rich-click (>=1.8)", 'torch>=2.11; extra == "torch"']}
    installed(monkeypatch, wants, numpy="2.0")
    finding = only(installation.packages, context)
    assert (finding.severity, finding.remedy) == ("error", "pip install rich-click")


@pytest.mark.parametrize(
    ("versions", "code", "severity"),
    [
        ({}, "torch", "info"),
        ({"torch": "2.13.0"}, "triton", "info"),
        ({"torch": "2.13.0", "triton": "3.7.1"}, "torch", "info"),
        ({"torch": "2.13.0", "triton": "3.6.0"}, "triton", "warning"),
    ],
)
def test_torch_and_triton_must_belong_together(
    context: doctor.Context, monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], code: str, severity: str
) -> None:
    installed(monkeypatch, {"torch": ['triton==3.7.1; platform_system == "Linux"']}, **versions)
    monkeypatch.setattr(installation, "_broken", lambda _name: None)  # it is not there in every environment
    finding = only(installation.torch_and_triton, context)
    assert (finding.code, finding.severity) == (code, severity)


def test_a_module_that_was_not_built_is_an_error(context: doctor.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *rest: object, **named: object) -> object:
        if name == "microbench" and rest[2:3] == (("_cpu",),):
            raise ImportError("cannot import name '_cpu'")
        return original(name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    finding = only(installation.native_module, context)
    assert (finding.severity, finding.remedy) == ("error", "pip install .")


def test_no_objdump_is_said_with_how_to_get_it(context: doctor.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert "binutils" in only(installation.proof_tool, context).remedy


def test_an_output_folder_with_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bad = doctor.Context(device="cpu", machine=Machine(tmp_path), out=tmp_path / "file" / "below")
    assert only(machine.output_folder, bad).severity == "error"
    good = doctor.Context(device="cpu", machine=Machine(tmp_path), out=tmp_path / "a" / "b")
    assert only(machine.output_folder, good).severity == "info"
    assert not (tmp_path / "a").exists(), "an examination creates nothing"


def test_a_machine_that_tells_nothing_gives_no_warnings_of_its_own(context: doctor.Context) -> None:
    assert {finding.severity for finding in machine.environment(context)} == {"info"}


def test_a_bad_fact_of_the_machine_is_a_warning(context: doctor.Context) -> None:
    place = context.machine.root / "sys/kernel/mm/transparent_hugepage"
    place.mkdir(parents=True)
    (place / "enabled").write_text("always madvise [never]\n")
    assert [finding.code for finding in machine.environment(context) if finding.severity == "warning"] == ["huge-pages"]


def test_a_gpu_that_was_asked_for_and_is_not_there_is_an_error(
    context: doctor.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: str) -> None:
        raise CannotRun("no driver; install one")

    monkeypatch.setattr(nvidia, "probe", none)
    asked = only(nvidia.gpu, doctor.Context(device="cuda:0", machine=context.machine))
    assert (asked.severity, asked.says, asked.remedy) == ("error", "no driver", "install one")
    assert only(nvidia.gpu, doctor.Context(device="auto", machine=context.machine)).severity == "info"


def test_compute_targets_are_told_from_old_to_new(context: doctor.Context) -> None:
    said = next(finding.says for finding in nvidia.gpu_code(context) if finding.code == "cubins")
    numbers = [int(number) for number in re.findall(r"sm_(\d+)", said)]
    if not numbers:
        pytest.skip("no cubins are installed: built without nvcc")
    assert numbers == sorted(numbers)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown device"):
        examine("tpu")


NEW_CHECK = """
from microbench.runs.doctor import Context, check, finding


@check()
def throw_away(_: Context):
    yield finding("throw-away", "info", "found by its file")
"""


def test_a_check_in_a_new_file_of_the_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "throw_away.py").write_text(NEW_CHECK)
    before = {function.__name__ for _, function in doctor.checks()}
    monkeypatch.setattr(doctor, "CHECKS", list(doctor.CHECKS))
    monkeypatch.setattr(doctor, "__path__", [*doctor.__path__, str(tmp_path)])
    assert {function.__name__ for _, function in doctor.checks()} - before == {"throw_away"}
    sys.modules.pop("microbench.runs.doctor.throw_away")


def test_a_check_that_fails_is_a_finding_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(_: doctor.Context) -> list[Finding]:
        raise OSError("device on fire")

    doctor.checks()
    monkeypatch.setattr(doctor, "CHECKS", [("any", broken), ("any", machine.output_folder)])
    first, second = examine("cpu", Machine(tmp_path), tmp_path)
    assert "device on fire" in first.says
    assert second.code == "output-folder"


def test_every_check_of_this_machine_answers() -> None:
    findings = examine("auto")
    assert len(findings) >= len(doctor.CHECKS) - 1
    assert all(finding.remedy for finding in findings if finding.severity != "info")


@pytest.mark.parametrize(("severity", "code"), [("error", 1), ("warning", 0), ("info", 0)])
def test_the_exit_code_is_1_where_something_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], severity: str, code: int
) -> None:
    finding = Finding(code="a", severity=severity, says="b", remedy="c")  # type: ignore[arg-type]
    monkeypatch.setattr(doctor, "examine", lambda _: [finding])
    assert commands.doctor("cpu", "-", None) == code
    (row,) = json.loads(capsys.readouterr().out)
    assert row["says"] == "b"


def test_nominal_prints_rates_with_their_terms(capsys: pytest.CaptureFixture[str]) -> None:
    commands.nominal("A100", "-", None)
    rows = {row["what"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["vector f32"]["value"] == pytest.approx(19.5e12, rel=0.005)
    assert rows["vector f32"]["formula"] == "108 SMs x 64 lanes x 1.410 GHz x 2 FLOP"
