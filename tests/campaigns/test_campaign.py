"""A short campaign of mutated files, and the long one's parts: that it finds what it looks for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from campaigns import campaign
from campaigns.mutations import mutated
from campaigns.possible import impossible
from fake_characterisation import characterisation

from microbench.storage import store

FILES = 600
SHARDS = 3


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_mutated_file_is_answered_or_refused_in_a_sentence(shard: int, tmp_path: Path) -> None:
    counts = campaign.campaign(FILES, 2026, (shard, SHARDS), (), tmp_path / "kept")
    assert [fault for each in counts.values() for fault in each.faults] == []
    assert sum(each.files for each in counts.values()) == FILES // SHARDS
    assert all(each.accepted + each.refused == each.files for each in counts.values())


def test_a_mutation_is_known_by_its_number_and_its_seed() -> None:
    good = store.dumps(characterisation())
    assert mutated(good, 7, 1, is_json=True) == mutated(good, 7, 1, is_json=True)
    assert len({mutated(good, number, 1, is_json=True) for number in range(50)}) > 45


def test_what_no_machine_has_is_told_by_the_campaign_s_own_rules() -> None:
    whole = characterisation()
    assert list(impossible(whole)) == []
    ragged = dataclasses.replace(whole.fits.operators[0])
    object.__setattr__(ragged, "points", ((1.0, 2.0), (3.0,)))
    assert list(impossible(ragged))
    device = dataclasses.replace(whole.device)
    object.__setattr__(device, "boost_clock_hz", 1e300)
    assert list(impossible(device))


def test_a_fault_of_a_command_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = campaign.kinds(tmp_path)
    path = tmp_path / "x.toml"
    path.write_bytes(every["toml"].good[0])
    assert campaign.examine(path, every["toml"], 0) == (True, None)
    monkeypatch.setattr(campaign, "run", lambda _: 1 // 0)
    accepted, wrong = campaign.examine(path, every["toml"], 0)
    assert not accepted
    assert wrong is not None
    assert wrong.startswith("ZeroDivisionError")
    for out, err in (("a\x1b[2Jb", ""), ("", "::error::x"), ("", "Traceback (most recent call last)")):
        monkeypatch.setattr(campaign, "run", lambda _, out=out, err=err: (0, out, err))
        assert campaign.examine(path, every["toml"], 0)[1] is not None
