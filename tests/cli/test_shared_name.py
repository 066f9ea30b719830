"""The index has another distribution with the same import name and command: a start beside it says so."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import microbench
from microbench.__main__ import shared_name


def test_the_other_distribution_in_the_same_folder_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "microbench-0.9.1.dist-info").mkdir()
    says = shared_name(tmp_path)
    assert says is not None
    assert "microbench 0.9.1" in says
    assert "pip uninstall microbench microbench-roofline" in says


def test_our_own_distribution_alone_is_not_named(tmp_path: Path) -> None:
    (tmp_path / f"microbench_roofline-{microbench.__version__}.dist-info").mkdir()
    assert shared_name(tmp_path) is None


def test_a_start_beside_the_other_distribution_says_so_on_stderr_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "microbench-0.9.1.dist-info").mkdir()
    start = f"import microbench.__main__ as m; m.__file__ = {str(tmp_path / 'x' / 'y.py')!r}; m.main()"
    (tmp_path / "x").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", start, "--version"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0
    assert microbench.__version__ in done.stdout
    assert "microbench 0.9.1" in done.stderr


def test_the_version_stands_in_one_place_and_is_what_the_command_says() -> None:
    root = Path(__file__).resolve().parents[2]
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["dynamic"] == ["version"]
    assert settings["tool"]["scikit-build"]["metadata"]["version"]["input"] == "microbench/__init__.py"
    done = subprocess.run(
        [sys.executable, "-m", "microbench", "--version"], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split()[-1] == microbench.__version__
