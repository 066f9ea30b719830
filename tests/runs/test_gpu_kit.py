"""The kit for a first run on a GPU still finds what it asks the project for: a move cannot break it silently.

It runs on machines that are lent for minutes, so that a renamed module would cost the whole run.
`benchmarks/gpu_first_run/README.md` says how it is rehearsed; members of records are checked by mypy.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from places import ROOT, SOURCES

from microbench.kernels.cuda.rows import rows_for

KIT = ROOT / "benchmarks" / "gpu_first_run"
PROGRAMS = sorted(KIT.glob("*.py"))
NAMES = {row.name for row in rows_for("sm_90a")}


def imported(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Local name, module, and name within it (empty for the module itself) of all that is imported of the project."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((each.asname or each.name, each.name, "") for each in node.names if of_project(each.name))
        elif isinstance(node, ast.ImportFrom) and of_project(node.module or ""):
            yield from ((each.asname or each.name, str(node.module), each.name) for each in node.names)


def of_project(module: str) -> bool:
    return module.partition(".")[0] == "microbench"


def resolved(module: str, name: str) -> object:
    """What an import gives: a module, or an attribute of one."""
    found = importlib.import_module(module)
    if not name or hasattr(found, name):
        return getattr(found, name) if name else found
    return importlib.import_module(f"{module}.{name}")


def chains(tree: ast.Module) -> Iterator[tuple[str, ...]]:
    """Dotted names as they stand in the text, for example ``("at_work", "Stage", "set_up")``."""
    for node in ast.walk(tree):
        words: list[str] = []
        at: ast.expr | None = node if isinstance(node, ast.Attribute) else None
        while isinstance(at, ast.Attribute):
            words.append(at.attr)
            at = at.value
        if words and isinstance(at, ast.Name):
            yield (at.id, *reversed(words))


def missing(path: Path) -> list[str]:
    """Every module and attribute that a program asks for and that is not there."""
    tree, found, says = ast.parse(path.read_text()), {}, []
    for local, module, name in imported(tree):
        try:
            found[local] = resolved(module, name)
        except ImportError as error:
            says.append(f"{module}.{name}: {error}")
    for first, *rest in chains(tree):
        held = found.get(first)
        for word in rest:
            if not isinstance(held, ModuleType | type):
                break
            if not hasattr(held, word):
                says.append(f"{'.'.join((first, *rest))}: no {word}")
                break
            held = getattr(held, word)
    return says


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_every_module_and_attribute_that_the_kit_asks_for_is_there(path: Path) -> None:
    assert missing(path) == []


def test_a_module_or_attribute_that_moved_is_named(tmp_path: Path) -> None:
    text = "from microbench import gone\nfrom microbench.kernels.cuda import timing\ntiming.read, timing.Seen.lost\n"
    (tmp_path / "program.py").write_text(text)
    (module, attribute) = missing(tmp_path / "program.py")
    assert "microbench.gone" in module
    assert attribute == "timing.Seen.lost: no lost"


def test_the_facts_are_told_before_the_project_is_installed() -> None:
    code = f"import sys; sys.modules['microbench'] = None; sys.path.insert(0, {str(KIT)!r}); import gpu_first"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_kernels_that_the_kit_names_exist_on_hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(KIT))
    counters, questions = (importlib.import_module(name) for name in ("gpu_counters", "questions"))
    named = {name for name, _ in counters.COUNTED} | {*questions.COMPUTE, *questions.STREAMS, *questions.PACKED}
    assert named <= NAMES


def test_the_texts_that_the_kit_changes_are_there() -> None:
    texts = {path.stem: path.read_text() for path in (SOURCES / "cuda" / "kernels").glob("*.cu")}
    program = (KIT / "questions.py").read_text()
    changes = re.findall(r'self\.variant\("(\w+)", "([^"]+)"', program)
    assert changes
    for family, old in changes:
        assert old in texts[family], old


@pytest.mark.parametrize("script", ["pack.sh", "first_run.sh", "rehearse.sh", "README.md", "summary_page.py"])
def test_the_files_that_the_kit_names_are_there(script: str) -> None:
    named = re.findall(r"\b(?:tests|microbench|benchmarks)/[\w./]+\.(?:py|sh|csv)\b", (KIT / script).read_text())
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_tests_for_a_real_gpu_need_pytest_and_none_of_its_plugins() -> None:
    code = """
import sys
sys.modules.update({"hypothesis": None, "xdist": None, "pytest_regressions": None})
import pytest
options = ["-q", "--collect-only", "-m", "gpu", "-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider"]
sys.exit(pytest.main([*options, "tests/runs/test_gpu.py"]))
"""
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=alone, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_gpu.py::" in done.stdout
