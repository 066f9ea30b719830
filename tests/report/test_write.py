from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from microbench.errors import CannotRun, UsageError
from microbench.records import Characterisation
from microbench.report import check, write


def test_all_four_outputs_are_written(fake_cpu: Characterisation, tmp_path: Path) -> None:
    paths = {suffix: tmp_path / f"r.{suffix}" for suffix in ("html", "png", "svg", "md")}
    assert write(fake_cpu, **paths) == tuple(paths.values())
    starts = {suffix: path.read_bytes()[:4] for suffix, path in paths.items()}
    assert starts == {"html": b"<!DO", "png": b"\x89PNG", "svg": b"<?xm", "md": b"# Fa"}


def test_nothing_is_overwritten_and_nothing_written_before_all_paths_are_checked(
    fake_cpu: Characterisation, tmp_path: Path
) -> None:
    there = tmp_path / "r.md"
    there.write_text("mine")
    with pytest.raises(UsageError, match="exists and is not overwritten"):
        write(fake_cpu, html=tmp_path / "r.html", md=there)
    assert there.read_text() == "mine"
    assert not (tmp_path / "r.html").exists()


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    link = tmp_path / "r.html"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="exists"):
        check(link)


def test_a_missing_folder_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no folder .*nowhere; create it with 'mkdir -p"):
        check(tmp_path / "nowhere" / "r.html")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it is a folder"):
        check(tmp_path)


def test_one_path_cannot_hold_two_outputs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="named for two outputs"):
        check(tmp_path / "r", str(tmp_path / "r"))


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UsageError, match="no permission to write"):
        check(tmp_path / "r.html")


def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(
    fake_cpu: Characterisation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(CannotRun, match="no space left on device"):
        write(fake_cpu, md=tmp_path / "r.md")
    assert not (tmp_path / "r.md").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_device_is_not_overwritten() -> None:
    with pytest.raises(UsageError, match="exists"):
        check("/dev/full")
