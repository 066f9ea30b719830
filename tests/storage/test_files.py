from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import pytest
from fake_characterisation import DEVICE

from microbench.errors import CannotRun, UsageError
from microbench.storage import files, store


def test_write_new_refuses_a_taken_name_and_leaves_it_alone(tmp_path: Path) -> None:
    files.write_new(tmp_path / "a", b"old")
    with pytest.raises(UsageError, match="exists already"):
        files.write_new(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_write_new_works_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    files.write_new(tmp_path / "a", b"first")
    with pytest.raises(UsageError, match="exists already"):
        files.write_new(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


def test_a_vanished_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="cannot be written"):
        files.write_new(tmp_path / "gone" / "a", b"")


def test_check_writable_creates_what_is_missing_and_leaves_nothing(tmp_path: Path) -> None:
    folder = files.check_writable(tmp_path / "a" / "b")
    assert list(folder.iterdir()) == []


def test_check_writable_says_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CannotRun, match="a file is in the way"):
            files.check_writable(folder)
    with pytest.raises(CannotRun, match="results cannot go to /proc/results"):
        files.check_writable("/proc/results")


def test_check_writable_finds_a_full_disk_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(CannotRun, match="no space left on device; choose another folder"):
        files.check_writable(tmp_path)


def test_two_devices_do_not_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROBENCH_LOCKS", str(tmp_path))
    other = dataclasses.replace(DEVICE, kind="cuda", id="abc", index=1)
    with store.only_run(DEVICE), store.only_run(other):
        pass


def test_the_lock_does_not_follow_a_planted_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROBENCH_LOCKS", str(tmp_path))
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "microbench-cpu.lock").symlink_to(tmp_path / "victim")
    with store.only_run(DEVICE):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_pipe_in_the_place_of_the_lock_is_refused_and_waited_for_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROBENCH_LOCKS", str(tmp_path))
    os.mkfifo(tmp_path / "microbench-cpu.lock")
    with pytest.raises(CannotRun, match="is no file: remove it"), store.only_run(DEVICE):
        pytest.fail("a pipe was taken for a lock")


def test_a_lock_holds_whatever_the_temporary_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MICROBENCH_LOCKS", raising=False)
    monkeypatch.setattr(files, "_LOCK_FOLDERS", (str(tmp_path / "none"), str(tmp_path)))
    tmp_path.chmod(0o1777)
    with store.only_run(DEVICE):
        assert (tmp_path / "microbench-cpu.lock").read_text() == f"{os.getpid()}\n"
        for other in ("a", "b"):
            monkeypatch.setenv("TMPDIR", str(tmp_path / other))
            monkeypatch.setattr("tempfile.tempdir", str(tmp_path / other))
            with pytest.raises(CannotRun, match="another microbench run"), store.only_run(DEVICE):
                pytest.fail("two runs hold one device")


def test_nothing_is_locked_where_nobody_can_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MICROBENCH_LOCKS", raising=False)
    monkeypatch.setattr(files, "_LOCK_FOLDERS", (str(tmp_path / "none"),))
    with store.only_run(DEVICE), store.only_run(DEVICE):
        pass
