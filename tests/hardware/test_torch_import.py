from __future__ import annotations

import sys
from pathlib import Path

import pytest

from microbench.errors import CannotRun
from microbench.hardware.torch_import import import_torch


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose torch, empty so far, comes before the real one."""
    (tmp_path / "torch").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path / "torch" / "__init__.py"


@pytest.mark.parametrize(
    "fault",
    [
        "ImportError('libtorch_cpu.so: cannot open shared object file')",
        "OSError('libcudart.so.13: cannot open shared object file')",
        "RuntimeError('module compiled against another ABI')",
        "AttributeError('partially initialised')",
    ],
)
def test_a_broken_torch_is_one_sentence_with_the_reason(installed: Path, fault: str) -> None:
    installed.write_text(f"raise {fault}")
    with pytest.raises(CannotRun, match=r"torch is installed but cannot be imported \(.*install it again") as told:
        import_torch()
    assert fault.partition("'")[2].partition("'")[0] in str(told.value)


def test_what_only_has_the_name_is_not_torch(installed: Path) -> None:
    installed.write_text("")
    with pytest.raises(CannotRun, match="is not PyTorch"):
        import_torch()


def test_an_absent_torch_is_told_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microbench.hardware.torch_import.find_spec", lambda _name: None)
    with pytest.raises(CannotRun, match=r"not installed; pip install .*\[torch\]"):
        import_torch()
