from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator

import pytest


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
        # `python -m microbench` would otherwise take the checkout in the current folder for the package that was installed.
        patch.setenv("PYTHONSAFEPATH", "1")
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
