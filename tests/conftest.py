from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from once import locked
from places import ROOT

if TYPE_CHECKING:
    from command_line import Said

# More worker processes than this gain little, and each holds a PyTorch of its own.
MOST_WORKERS = 8
# A barrier waits for threads that are not running: on a machine with other work a small product takes seconds.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# No test reads or leaves anything of the user's own: no configuration, no salt.
os.environ["MICROBENCH_CONFIG"] = ""
os.environ["XDG_STATE_HOME"] = str(Path(tempfile.gettempdir()) / "microbench-tests-state")
with contextlib.suppress(ImportError):  # a GPU machine has pytest alone, and its tests draw no examples
    from hypothesis import HealthCheck, settings

    # How long an example takes says something of the machine and nothing of the code.
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")


def _take_the_checkout_off_the_path() -> None:
    """`python -m pytest` puts the current folder first: an unbuilt checkout would hide the installed package."""
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    if any((ROOT / "microbench" / f"_cpu{suffix}").exists() for suffix in suffixes):
        return
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(entry for entry in inherited if entry and Path(entry).resolve() != ROOT)


_take_the_checkout_off_the_path()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Plain `pytest` is dealt out to a process per CPU, by file; a choice of tests, or -n, is taken as it is."""
    if importlib.util.find_spec("microbench") is None or importlib.util.find_spec("microbench._cpu") is None:
        raise pytest.UsageError("microbench is not built: pip install .")
    option = config.option
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS and not option.collectonly and not option.usepdb
    if whole and not hasattr(config, "workerinput") and getattr(option, "numprocesses", 0) is None:
        workers = min(len(os.sched_getaffinity(0)), MOST_WORKERS)
        option.numprocesses, option.dist = (workers, "loadfile") if workers > 1 else (0, "no")


class Alone:
    """Whose turn it is among worker processes: a test that measures time runs while no other test does."""

    def __init__(self, folder: Path) -> None:
        self.turn, self.room = folder / "turn.lock", folder / "room.lock"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        measures = any(item.get_closest_marker(name) for name in ("timed", "hardware", "gpu"))
        with ExitStack() as held:
            # Who waits for the room keeps the turn, so that others do not come in one after the other meanwhile.
            with locked(self.turn):
                held.enter_context(locked(self.room, shared=not measures))
            return (yield)


class LeftOut:
    """Counts the nightly tests that were not chosen, also where workers collect, and says so in the summary."""

    def __init__(self) -> None:
        self.count = 0

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self.count += sum(item.get_closest_marker("nightly") is not None for item in items)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["left_out"] = self.count

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.count = max(self.count, getattr(node, "workeroutput", {}).get("left_out", 0))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.count:
            terminalreporter.write_line(f"left out: {self.count} tests marked nightly; .ci/nightly runs them")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(LeftOut())
    if hasattr(config, "workerinput"):
        # The parent folder is that of the whole run.
        config.pluginmanager.register(Alone(Path(config.option.basetemp).parent))


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Shells start background jobs with Ctrl-C ignored, which children inherit; tests of interrupts need it heard."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _own_device_lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Locks of devices lie where all processes see them: tests have a folder that no real run next door knows."""
    folder = tmp_path_factory.mktemp("locks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("MICROBENCH_LOCKS", str(folder))
        # `python -m microbench` would otherwise take the checkout in the current folder for the package that was
        # installed.
        patch.setenv("PYTHONSAFEPATH", "1")
        patch.setattr(tempfile, "tempdir", str(folder))
        yield


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Said]]:
    """Run a command in this process."""
    from microbench.cli import main
    from microbench.runs.signals import ENDING

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
