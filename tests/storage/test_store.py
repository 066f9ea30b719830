from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import pytest
from fake_characterisation import DEVICE, characterisation
from hypothesis import given
from hypothesis import strategies as st

from microbench.errors import UsageError
from microbench.records import Ceiling, Characterisation, Environment, Estimate, Finding, Samples
from microbench.storage import store


def test_what_is_written_is_read_back_the_same() -> None:
    assert store.loads(store.dumps(characterisation())) == characterisation()


def test_a_file_from_fit_has_neither_environment_nor_plan() -> None:
    fitted = Characterisation(schema=store.SCHEMA, device=DEVICE, environment=None, plan=None)
    assert store.loads(store.dumps(fitted)) == fitted


finite = st.floats(min_value=1e-3, max_value=1e18)
words = st.text(max_size=12)
estimates = st.tuples(finite, finite, finite).map(sorted).map(lambda v: Estimate(low=v[0], value=v[1], high=v[2]))
samples_rows = st.builds(
    Samples,
    case=words,
    round=st.integers(0, 60),
    started_s=st.floats(1e-9, 1e6),
    iterations=st.integers(1, 10**12),
    ns=st.lists(st.integers(1, 10**12), min_size=1, max_size=20).map(tuple),
    count=st.integers(20, 10**6),
    clock_hz=st.lists(st.floats(1e6, 1e10), max_size=3).map(tuple),
    throttled=st.integers(0, 5),
    checked=st.none() | st.booleans(),
    steal_s=st.none() | st.floats(1e-9, 1e6),
    stop=st.sampled_from(["time", "count"]),
)
facts = st.dictionaries(words, st.none() | st.booleans() | st.integers(-(10**15), 10**15) | finite | words, max_size=4)


@given(
    rows=st.lists(samples_rows, max_size=4),
    rate=estimates,
    facts=facts,
    findings=st.lists(
        st.builds(Finding, code=st.just("a-b"), severity=st.sampled_from(["info", "warning", "error"]), says=words)
    ),
)
def test_any_characterisation_survives_the_file(
    rows: list[Samples], rate: Estimate, facts: dict[str, object], findings: list[Finding]
) -> None:
    ceiling = Ceiling(name="c", measures="memory", backend="native", rate=rate, case="x", level="L2", access="copy")
    whole = dataclasses.replace(
        characterisation(tuple(rows)),
        ceilings=(ceiling,),
        findings=tuple(findings),
        environment=Environment(started="2026-01-01T12:00:00Z", seconds=1.0, microbench="0", facts=facts),  # type: ignore[arg-type]
    )
    assert store.loads(store.dumps(whole)) == whole


def test_load_names_what_is_wrong_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        store.load(tmp_path / "gone.json")
    with pytest.raises(UsageError, match="is a folder"):
        store.load(tmp_path)
    with pytest.raises(UsageError, match="not a regular file"):
        store.load("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="not a regular file"):
        store.load(tmp_path / "pipe")
    with pytest.raises(UsageError, match="cannot be read"):
        store.load("nul\0byte")
    (tmp_path / "x.partial").write_bytes(b"")
    with pytest.raises(UsageError, match="--resume"):
        store.load(tmp_path / "x.partial")


def test_an_absurdly_large_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "big.json").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(UsageError, match="is it the right file"):
        store.load(tmp_path / "big.json")


def test_save_names_the_file_after_device_and_time_and_never_overwrites(tmp_path: Path) -> None:
    first = store.save(characterisation(), tmp_path)
    again = dataclasses.replace(characterisation(), findings=())
    second = store.save(again, tmp_path, name=first.stem)
    assert first.parent == tmp_path / "example-cpu-2-50ghz"
    assert re.fullmatch(r"20260101T120000Z-1f2e3d4c-[0-9a-f]{4}", first.stem)
    assert second.name == f"{first.stem}-2.json"
    assert store.load(first) == characterisation()
    assert store.load(second).findings == ()
    assert sorted(path.name for path in first.parent.iterdir()) == sorted([first.name, second.name])


def many(cases: int, rounds: int, taken: int) -> tuple[Samples, ...]:
    ns = tuple(1_000_000 + 7919 * i % 99991 for i in range(taken))
    return tuple(
        Samples(
            case=f"read.f32.avx512[pages=huge;working_set={case}]@1",
            round=number,
            started_s=1.0,
            iterations=10,
            ns=ns,
            count=taken,
        )
        for number in range(rounds)
        for case in range(cases)
    )


def test_a_normal_run_keeps_200_samples_a_round_without_a_word() -> None:
    kept = store.loads(store.dumps(characterisation(many(10, 10, 500))))
    assert {len(row.ns) for row in kept.samples} == {200}
    assert {row.count for row in kept.samples} == {500}
    assert kept.findings == characterisation().findings


@pytest.mark.parametrize(("cases", "rounds", "taken"), [(100, 60, 300), (300, 60, 20)])
def test_a_long_run_stays_below_2_mb_and_says_what_it_left_out(cases: int, rounds: int, taken: int) -> None:
    data = store.dumps(characterisation(many(cases, rounds, taken)))
    kept = store.loads(data)
    assert len(data) <= 2_000_000
    assert len({row.case for row in kept.samples}) == cases
    assert [finding.code for finding in kept.findings].count("samples-thinned") == 1
