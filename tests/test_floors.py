from __future__ import annotations

import subprocess
import sys

import pytest
from places import ROOT


def test_every_module_imports_its_own_floor_and_lower_ones_only() -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
