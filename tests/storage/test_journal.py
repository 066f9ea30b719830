from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_characterisation import DEVICE, SAMPLES, characterisation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microbench.errors import CannotRun, UsageError
from microbench.records import Characterisation
from microbench.storage import store
from microbench.storage.journal import Journal, journal_header, read_journal


def header() -> Characterisation:
    whole = characterisation()
    assert whole.plan is not None
    assert whole.environment is not None
    return journal_header(whole.device, whole.plan, whole.environment, whole.sheets)


def test_a_journal_gives_back_what_was_appended(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "d" / "run.partial", header())
    journal.append(SAMPLES)
    journal.append(dataclasses.replace(SAMPLES, round=1))
    held = read_journal(journal.path)
    assert [row.round for row in held.samples] == [0, 1]
    assert (held.device, held.plan, held.sheets) == (DEVICE, characterisation().plan, characterisation().sheets)
    journal.discard()
    journal.close()
    assert not journal.path.exists()


def test_a_half_written_last_line_is_ignored_and_cut_off_on_resume(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "run.partial", header())
    journal.append(SAMPLES)
    journal.close()
    with journal.path.open("ab") as file:
        file.write(b'{"case":"fma')
    assert read_journal(journal.path).samples == (SAMPLES,)
    again, held = Journal.resume(journal.path)
    assert held.samples == (SAMPLES,)
    again.append(dataclasses.replace(SAMPLES, round=1))
    again.close()
    assert [row.round for row in read_journal(journal.path).samples] == [0, 1]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 10**6))
def test_a_journal_cut_anywhere_gives_its_whole_lines_or_a_sentence(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "run.partial"
    path.unlink(missing_ok=True)
    journal = Journal.create(path, header())
    journal.append(SAMPLES)
    journal.append(dataclasses.replace(SAMPLES, round=1))
    journal.close()
    data = path.read_bytes()
    data = data[: cut % len(data)]
    path.write_bytes(data)
    if data.count(b"\n"):
        assert len(read_journal(path).samples) == data.count(b"\n") - 1
    else:
        with pytest.raises(UsageError):
            read_journal(path)


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "run.partial", header())
    journal.close()
    with journal.path.open("ab") as file:
        file.write(b"nonsense\n{}\n")
    with pytest.raises(UsageError, match=r"line 2 of .*run\.partial is damaged"):
        read_journal(journal.path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b'"working_set":24576', b'"working_set":"x"', "working_set"),
        (b'"working_set":24576', b'"working_set":1e300', "working_set"),
        (b'"warmup_s":0.005', b'"warmup_s":1e300', "warmup_s"),
        (b'"time_limit_s":30.0', b'"time_limit_s":1e300', "time_limit_s"),
        (b'"samples":12', b'"samples":0', "samples"),
        (b'"seed":7', b'"seed":7,"seed":8', "twice"),
        (b'"count":3', b'"count":2', "3 samples"),
        (b'"iterations":1000', b'"iterations":1e400', "damaged"),
    ],
)
def test_a_journal_whose_plan_or_samples_cannot_be_is_not_gone_on_with(
    tmp_path: Path, old: bytes, new: bytes, says: str
) -> None:
    journal = Journal.create(tmp_path / "run.partial", header())
    journal.append(SAMPLES)
    journal.close()
    data = journal.path.read_bytes()
    assert old in data
    journal.path.write_bytes(data.replace(old, new, 1))
    with pytest.raises(UsageError, match=says):
        read_journal(journal.path)


def test_a_journal_is_not_overwritten(tmp_path: Path) -> None:
    Journal.create(tmp_path / "run.partial", header()).close()
    with pytest.raises(CannotRun, match="cannot be created"):
        Journal.create(tmp_path / "run.partial", header())


def test_a_full_disk_while_measuring_is_one_sentence(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.partial", os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(CannotRun, match="No space left on device"):
        journal.append(SAMPLES)
    journal.close()


KILLED = """
import sys, time
sys.path[:0] = {path!r}
from dataclasses import replace
from pathlib import Path
from microbench.storage import store
from microbench.storage.journal import Journal, journal_header, read_journal
journal = Journal.create(Path({file!r}), read_journal(Path({model!r})))
sample = read_journal(Path({model!r})).samples[0]
with store.only_run(read_journal(Path({model!r})).device):
    for number in range(1, 6):
        journal.append(replace(sample, round=number))
    print("measuring", flush=True)
    time.sleep(60)
"""


def test_kill_9_loses_nothing_that_was_measured_and_frees_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROBENCH_LOCKS", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    model = Journal.create(tmp_path / "model.partial", header())
    model.append(SAMPLES)
    model.close()
    script = KILLED.format(
        path=[str(Path(store.__file__).parents[2])], file=str(tmp_path / "run.partial"), model=str(model.path)
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"measuring\n"
        with (
            pytest.raises(CannotRun, match=rf"another microbench run \(process {process.pid}\) is using cpu"),
            store.only_run(DEVICE),
        ):
            pytest.fail("two runs hold one device")
        process.send_signal(signal.SIGKILL)
    assert [each.round for each in read_journal(tmp_path / "run.partial").samples] == [0, 1, 2, 3, 4, 5]
    with store.only_run(DEVICE):
        pass
