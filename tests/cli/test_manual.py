"""Manual pages and completion scripts are those of this command line."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / ".ci" / "manual.py"


@pytest.mark.skipif(not GENERATOR.is_file(), reason="this is no checkout: .ci is not here")
def test_every_command_has_its_page_and_the_pages_are_current() -> None:
    spec = importlib.util.spec_from_file_location("manual", GENERATOR)
    assert spec is not None
    assert spec.loader is not None
    manual = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(manual)
    made = manual.files()
    kept = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "share").rglob("*") if path.is_file()}
    changed = sorted(name for name in made | kept if made.get(name) != kept.get(name))
    assert not changed, f"python .ci/manual.py writes {', '.join(changed)} anew"
