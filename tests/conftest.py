from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator

import pytest
from command_line import Said

from microbench.cli import main
from microbench.runs.signals import ENDING


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Shells start background jobs with Ctrl-C ignored, and children inherit that; tests of interrupts need it heard."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _own_device_lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Locks of devices lie in the temporary folder: tests use one of their own, so that a real run next door does not fail them."""
    folder = tmp_path_factory.mktemp("locks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        # `python -m microbench` would otherwise take the checkout in the current folder for the package that was
        # installed.
        patch.setenv("PYTHONSAFEPATH", "1")
        patch.setattr(tempfile, "tempdir", str(folder))
        yield


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Said]]:
    """Run a command in this process."""
    before = {number: signal.getsignal(number) for number in ENDING}

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["microbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)
