"""Ids tell nodes apart and models together, and nobody can look them up."""

from __future__ import annotations

from pathlib import Path

import pytest

from microbench.hardware.identity import node_id, sku_id
from microbench.hardware.procfs import Machine


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("MICROBENCH_SALT", raising=False)


def node(tmp_path: Path, name: str, text: str | None = None) -> Machine:
    (tmp_path / name / "etc").mkdir(parents=True)
    if text is not None:
        (tmp_path / name / "etc" / "machine-id").write_text(text + "\n")
    return Machine(tmp_path / name)


def test_two_nodes_of_one_model_have_two_ids_and_each_keeps_its_own(tmp_path: Path) -> None:
    first, second = node(tmp_path, "a", "1" * 32), node(tmp_path, "b", "2" * 32)
    assert node_id("sku", machine=first) == node_id("sku", machine=first)
    assert node_id("sku", machine=first) != node_id("sku", machine=second)


def test_another_model_on_the_same_node_is_another_device(tmp_path: Path) -> None:
    here = node(tmp_path, "a", "1" * 32)
    assert node_id(sku_id(("A",)), machine=here) != node_id(sku_id(("B",)), machine=here)


def test_the_salt_is_random_and_kept_or_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = node(tmp_path, "a", "1" * 32)
    kept = node_id("sku", machine=here)
    assert (tmp_path / "state" / "microbench" / "salt").stat().st_mode & 0o077 == 0
    (tmp_path / "state" / "microbench" / "salt").unlink()
    assert node_id("sku", machine=here) != kept
    monkeypatch.setenv("MICROBENCH_SALT", "ours")
    own = node_id("sku", machine=here)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    assert node_id("sku", machine=here) == own
    monkeypatch.setenv("MICROBENCH_SALT", 100 * "long")
    assert node_id("sku", machine=here) != own


@pytest.mark.parametrize("text", [None, "", "uninitialized"])
def test_without_a_machine_id_a_random_one_is_kept(tmp_path: Path, text: str | None) -> None:
    here = node(tmp_path, "a", text)
    assert node_id("sku", machine=here) == node_id("sku", machine=here)
    assert (tmp_path / "state" / "microbench" / "machine").is_file()


def test_where_nothing_can_be_kept_there_is_an_id_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    here = node(tmp_path, "a")
    assert len(node_id("sku", machine=here)) == 16


def test_a_gpu_is_told_by_its_own_uuid(tmp_path: Path) -> None:
    assert node_id("sku", b"one") != node_id("sku", b"two")
