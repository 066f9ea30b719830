from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_backend import fake_device, fake_kernel
from fake_characterisation import SAMPLES, characterisation

from microbench.errors import UsageError
from microbench.kernels import Kernel
from microbench.measure import loop
from microbench.records import Characterisation, Environment, Session
from microbench.runs import session
from microbench.runs.resumed import joined
from microbench.runs.session import Request, carry_out
from microbench.storage import store
from microbench.storage.journal import Journal, ended_s, journal_header, read_journal

FAST = 1e-6


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    # Time enough for any machine, and none that is waited for: what agrees has converged at once.
    monkeypatch.setattr(loop, "AGREEMENT_SPAN", 0.0)

    def install(*kernels: Kernel, **facts: Any) -> None:
        monkeypatch.setattr(session, "probe", lambda _spec: fake_device(**facts))
        monkeypatch.setattr(session, "registry", lambda _device: {kernel.sheet.name: kernel for kernel in kernels})

    return install


def conditions(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> None:
    monkeypatch.setattr(session, "_facts", lambda _device: facts)


def killed(machine: Callable[..., None], out: Path) -> Path:
    """The journal of a run that was killed after its samples were taken."""
    machine(fake_kernel("fma.f32.v128", lambda _call: FAST))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "discard", Journal.close)
        carry_out(Request(device="cpu", budget="quick", time_limit_s=30.0, out=out))
    next(out.rglob("*.json")).unlink()
    journal = next(out.rglob("*.partial"))
    # As if it had been killed after two rounds: what has converged is not measured again.
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:3]))
    return journal


def resumed(journal: Path) -> Characterisation:
    return carry_out(Request(resume=journal)).characterisation


def test_a_resumed_run_keeps_each_session_with_its_start_and_conditions(
    machine: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditions(monkeypatch, kernel="6.1", load=0.1)
    journal = killed(machine, tmp_path)
    (first,) = read_journal(journal).environment.sessions  # type: ignore[union-attr]
    conditions(monkeypatch, kernel="6.1", load=0.9)
    made = resumed(journal)
    assert made.environment is not None
    before, after = made.environment.sessions
    assert before == first
    assert (before.facts["load"], after.facts["load"]) == (0.1, 0.9)
    assert before.samples + after.samples == len(made.samples)
    assert before.samples > 0
    assert after.samples > 0
    assert after.from_s >= before.seconds > 0
    assert after.started == made.environment.started >= before.started
    path = next(tmp_path.rglob("*.json"))
    assert store.load(path) == made


def test_times_of_a_resumed_run_go_on(machine: Callable[..., None], tmp_path: Path) -> None:
    journal = killed(machine, tmp_path)
    held = read_journal(journal).samples
    made = resumed(journal)
    times = [each.started_s for each in made.samples]
    assert made.samples[: len(held)] == held
    assert times == sorted(times)
    assert times[len(held)] >= ended_s(held)


def test_what_was_joined_is_a_finding_and_a_warning_where_conditions_differ(
    machine: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditions(monkeypatch, kernel="6.1", load=0.1)
    found = {each.code: each for each in resumed(killed(machine, tmp_path / "same")).findings}
    assert found["joined"].severity == "info"
    assert "sessions-differ" not in found
    journal = killed(machine, tmp_path / "other")
    conditions(monkeypatch, kernel="6.2", load=5.0)
    monkeypatch.setattr(session, "__version__", "99.1")
    machine(fake_kernel("fma.f32.v128", lambda _call: FAST, math=7), boost_clock_hz=5e9)
    differ = {each.code: each for each in resumed(journal).findings}["sessions-differ"]
    assert differ.severity == "warning"
    for part in ("-> 99.1", "the loop of fma.f32.v128", "the device's boost clock hz", "kernel 6.1 -> 6.2"):
        assert part in differ.says
    assert "load" not in differ.says
    assert len(differ.says) <= 240


def test_a_run_that_is_interrupted_twice_joins_three_sessions(machine: Callable[..., None], tmp_path: Path) -> None:
    journal = killed(machine, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "discard", Journal.close)
        resumed(journal)
    made = resumed(journal)
    assert made.environment is not None
    assert len(made.environment.sessions) == 3
    assert [each.from_s for each in made.environment.sessions] == sorted(
        each.from_s for each in made.environment.sessions
    )
    assert sum(each.samples for each in made.environment.sessions) == len(made.samples)


def test_many_sessions_are_told_in_two_lines() -> None:
    held = characterisation()
    assert held.environment is not None
    each = Session(started="2026-11-28T03:57:59+00:00", seconds=9.0, microbench="0.1.0", samples=123456)
    held = replace(held, environment=replace(held.environment, sessions=(each,) * 9))
    found = joined(held, held.environment, held.device, {})  # type: ignore[arg-type]
    assert "and 7 earlier sessions" in found[0].says
    assert all(len(finding.says) <= 240 for finding in found)


def test_a_run_in_one_go_has_no_sessions(machine: Callable[..., None]) -> None:
    machine(fake_kernel("fma.f32.v128", lambda _call: FAST))
    made = carry_out(Request(device="cpu", budget="quick", time_limit_s=0.3)).characterisation
    assert made.environment is not None
    assert made.environment.sessions == ()
    assert not {"joined", "sessions-differ"} & {each.code for each in made.findings}


def test_a_line_that_repeats_another_is_refused(tmp_path: Path) -> None:
    whole = characterisation()
    assert whole.plan is not None
    assert whole.environment is not None
    header = journal_header(whole.device, whole.plan, whole.environment, whole.sheets)
    journal = Journal.create(tmp_path / "run.partial", header)
    journal.append(SAMPLES)
    journal.append(replace(SAMPLES, round=1))
    journal.append(replace(SAMPLES, ns=(SAMPLES.ns[0] + 1, *SAMPLES.ns[1:])))
    journal.close()
    with pytest.raises(UsageError, match=r"line 4 of .*run\.partial repeats line 2 \(round 0 of "):
        read_journal(journal.path)


def test_a_damaged_session_is_named_by_its_line(tmp_path: Path) -> None:
    whole = characterisation()
    assert whole.plan is not None
    assert whole.environment is not None
    journal = Journal.create(
        tmp_path / "run.partial", journal_header(whole.device, whole.plan, whole.environment, whole.sheets)
    )
    journal.begin(Session(started="now", seconds=0.0, microbench="0.1"))
    journal.close()
    assert len(read_journal(journal.path).environment.sessions) == 2  # type: ignore[union-attr]
    for line in (b'{"session":5}\n', b'{"session":{"started":"x"}}\n', b'{"session":{"seconds":-1}}\n'):
        data = journal.path.read_bytes()
        journal.path.write_bytes(data + line)
        with pytest.raises(UsageError, match=r"line 3 of .*run\.partial is damaged"):
            read_journal(journal.path)
        journal.path.write_bytes(data)


def test_a_journal_of_unknown_origin_is_joined_all_the_same() -> None:
    held = replace(characterisation(), environment=None)
    now = Environment(started="2026-01-01T00:00:00+00:00", seconds=0.0, microbench="0.1.0")
    (finding,) = joined(held, now, held.device, {sheet.name: sheet for sheet in held.sheets})
    assert "unknown origin" in finding.says
