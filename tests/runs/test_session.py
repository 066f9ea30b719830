from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_backend import FakeRun, fake_device, fake_kernel

from microbench.errors import CannotRun, UsageError
from microbench.kernels import Kernel
from microbench.measure.budget import Schedule
from microbench.measure.plan import Selection
from microbench.records import Proof, Samples, Work
from microbench.runs import session
from microbench.runs.session import Request, carry_out
from microbench.storage import store
from microbench.storage.journal import Journal, read_journal


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put fake kernels on a fake device."""

    def install(*kernels: Kernel, **facts: Any) -> None:
        monkeypatch.setattr(session, "probe", lambda _spec: fake_device(**facts))
        monkeypatch.setattr(session, "registry", lambda _device: {kernel.sheet.name: kernel for kernel in kernels})

    return install


def request(out: Path | None = None, **changes: Any) -> Request:
    return Request(**{"device": "cpu", "budget": "quick", "time_limit_s": 0.5, "out": out, **changes})


FAST = 1e-6


def test_a_run_leaves_a_file_that_reads_back_the_same(machine: Callable[..., None], tmp_path: Path) -> None:
    machine(fake_kernel("fma.f32.v128", lambda _call: FAST))
    outcome = carry_out(request(tmp_path))
    assert outcome.path is not None
    assert store.load(outcome.path) == outcome.characterisation
    assert [(c.name, c.threads) for c in outcome.characterisation.ceilings][0] == ("fma.f32.v128", 1)
    assert outcome.characterisation.ceilings[0].rate.value == pytest.approx(1000 / FAST, rel=0.01)
    assert not list(tmp_path.glob("**/*.partial"))


def test_distilling_a_stored_file_again_gives_the_same_ceilings(machine: Callable[..., None], tmp_path: Path) -> None:
    machine(fake_kernel("fma.f32.v128", lambda call: FAST * (1 + call % 7 / 10)))
    made = carry_out(request(tmp_path)).characterisation
    assert made.plan is not None
    again = session.analyse(made.samples, made.plan, {sheet.name: sheet for sheet in made.sheets}, made.device)
    assert [ceiling.rate for ceiling in again.ceilings] == [ceiling.rate for ceiling in made.ceilings]


class Interrupts(FakeRun):
    """A kernel during which the user presses Ctrl-C, soon after samples are on disk."""

    folder: Path | None = None
    calls = 0

    def run(self, iterations: int) -> Any:
        Interrupts.calls += 1
        if Interrupts.folder is not None and Interrupts.calls % 50 == 0:
            journal = next(Interrupts.folder.rglob("*.partial"), None)
            if journal is not None and journal.read_bytes().count(b"\n") > 2:
                Interrupts.folder = None
                signal.raise_signal(signal.SIGINT)
        return super().run(iterations)


def interrupted(machine: Callable[..., None], out: Path) -> session.Outcome:
    Interrupts.folder = out
    kernel = fake_kernel("fma.f32.v128", lambda _call: FAST)
    object.__setattr__(kernel, "prepare", lambda device, params, threads, cpus: Interrupts(lambda _call: FAST))
    machine(kernel)
    # On a busy machine a start takes seconds, and the interrupt, which ends the run, has to come before the time is up.
    return carry_out(request(out, time_limit_s=120.0))


def test_an_interrupt_keeps_what_was_measured(machine: Callable[..., None], tmp_path: Path) -> None:
    outcome = interrupted(machine, tmp_path)
    assert outcome.interrupted
    assert outcome.path is not None
    assert outcome.characterisation.samples
    assert "interrupted" in [finding.code for finding in outcome.characterisation.findings]


def test_an_interrupt_before_the_first_sample_leaves_nothing_behind(
    machine: Callable[..., None], tmp_path: Path
) -> None:
    def interrupting(_call: int) -> float:
        signal.raise_signal(signal.SIGINT)
        return FAST

    machine(fake_kernel("fma.f32.v128", interrupting))
    with pytest.raises(KeyboardInterrupt):
        carry_out(request(tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("step", ["fit_rooflines", "run_findings"])
def test_an_interrupt_after_measuring_waits_until_the_file_is_saved(
    machine: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    done = getattr(session, step)

    def slow(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(session, step, done)
        signal.raise_signal(signal.SIGINT)
        return done(*arguments, **more)

    machine(fake_kernel("fma.f32.v128", lambda _call: FAST))
    monkeypatch.setattr(session, step, slow)
    outcome = carry_out(request(tmp_path))
    assert outcome.interrupted
    assert outcome.path is not None
    assert store.load(outcome.path).ceilings
    assert outcome.journal is not None
    assert outcome.journal.exists()


def test_an_interrupt_of_the_proof_ends_a_run_that_has_measured_nothing(
    machine: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(fake_kernel("fma.f32.v128", lambda _call: FAST))
    monkeypatch.setattr(Schedule, "proves_first", lambda _self: True)
    monkeypatch.setattr(session, "prove", lambda *_arguments: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        carry_out(request(tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_loops_are_proven_once_and_before_they_are_timed(
    machine: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def timed(_call: object) -> float:
        done.append("timed")
        return FAST

    def proven(sheets: Any, _device: object) -> dict[str, Proof]:
        done.append("proven")
        return {sheet.name: Proof(status="proven", source="") for sheet in sheets}

    machine(fake_kernel("fma.f32.v128", timed))
    monkeypatch.setattr(Schedule, "proves_first", lambda _self: True)
    monkeypatch.setattr(session, "prove", proven)
    outcome = carry_out(request(tmp_path))
    assert done.count("proven") == 1
    assert done[0] == "proven"
    assert {ceiling.proof.status for ceiling in outcome.characterisation.ceilings if ceiling.proof} == {"proven"}


def test_a_second_interrupt_does_not_wait_and_tells_where_the_samples_are(
    machine: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(*_arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    machine(fake_kernel("fma.f32.v128", lambda _call: FAST))
    monkeypatch.setattr(session, "fit_rooflines", impatient)
    with pytest.raises(KeyboardInterrupt, match=r"--resume .*\.partial"):
        carry_out(request(tmp_path))
    journal = next(tmp_path.glob("*/*.partial"))
    assert read_journal(journal).samples


def test_only_the_journal_of_a_plan_that_can_be_carried_out_is_resumed(
    machine: Callable[..., None], tmp_path: Path
) -> None:
    interrupted(machine, tmp_path)
    journal, result = next(tmp_path.glob("*/*.partial")), next(tmp_path.glob("*/*.json"))
    machine(fake_kernel("fma.f32.v256", lambda _call: FAST))
    with pytest.raises(UsageError, match=r"has fma\.f32\.v128, which cannot run here now"):
        carry_out(request(None, resume=journal))
    with pytest.raises(
        UsageError, match=r"is a result, and a run goes on from its journal: its journal is .*\.partial"
    ):
        carry_out(request(None, resume=result))
    machine(fake_kernel("fma.f32.v128", lambda _call: FAST))
    journal.write_text(journal.read_text().replace('"case":"fma.f32.v128[]@1"', '"case":"fma.f32.v64[]@1"'))
    with pytest.raises(UsageError, match="has samples of"):
        carry_out(request(None, resume=journal))


def test_resume_goes_on_where_the_interrupt_came(machine: Callable[..., None], tmp_path: Path) -> None:
    before = interrupted(machine, tmp_path).characterisation
    journal = next(tmp_path.glob("*/*.partial"))
    machine(fake_kernel("fma.f32.v128", lambda _call: FAST))
    after = carry_out(request(None, resume=journal))
    assert after.characterisation.samples[: len(before.samples)] == before.samples
    assert len(after.characterisation.samples) > len(before.samples)
    assert after.path is not None
    assert not journal.exists()


def test_resume_on_another_device_is_refused(machine: Callable[..., None], tmp_path: Path) -> None:
    interrupted(machine, tmp_path)
    machine(fake_kernel("fma.f32.v128"), id="other", name="Fake 2")
    with pytest.raises(UsageError, match="another device"):
        carry_out(request(None, resume=next(tmp_path.glob("*/*.partial"))))


def test_an_unwritable_folder_is_refused_before_anything_is_measured(
    machine: Callable[..., None], tmp_path: Path
) -> None:
    runs: list[FakeRun] = []
    machine(fake_kernel("fma.f32.v128", runs=runs))
    (tmp_path / "file").write_text("in the way", encoding="ascii")
    with pytest.raises(CannotRun, match="file is in the way"):
        carry_out(request(tmp_path / "file"))
    assert runs == []


def test_a_journal_that_cannot_be_written_costs_a_finding_and_not_the_run(
    machine: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(fake_kernel("fma.f32.v128", lambda _call: FAST))

    def full(_self: Journal, _samples: Samples) -> None:
        raise CannotRun("the journal cannot be written: No space left on device")

    monkeypatch.setattr(Journal, "append", full)
    made = carry_out(request(tmp_path)).characterisation
    assert "journal-lost" in [finding.code for finding in made.findings]
    assert made.ceilings


def test_a_kernel_that_computes_a_wrong_result_is_an_error_finding(machine: Callable[..., None]) -> None:
    kernel = fake_kernel("fma.f32.v128")
    object.__setattr__(kernel, "prepare", lambda *_facts: FakeRun(lambda _call: FAST, checked=False))
    machine(kernel)
    found = {finding.code: finding for finding in carry_out(request()).characterisation.findings}
    assert found["wrong-result"].severity == "error"


def test_the_gate_measures_implausible_cases_again(machine: Callable[..., None]) -> None:
    runs: dict[str, list[FakeRun]] = {"near": [], "far": []}
    slow_at_first = iter([1e-5] * 40)
    near = fake_kernel(
        "fma.f32.v512",
        lambda _call: next(slow_at_first, FAST),
        runs=runs["near"],
        unit="vector",
        variant="v512",
        work=Work(flop=1000),
    )
    far = fake_kernel(
        "fma.f64.v512",
        lambda _call: FAST,
        runs=runs["far"],
        unit="vector",
        variant="v512",
        dtype="f64",
        work=Work(flop=500),
    )
    machine(near, far)
    made = carry_out(request(time_limit_s=1.0)).characterisation
    assert "vector-ratio" not in [finding.code for finding in made.findings]


def test_two_runs_at_once_on_one_device_are_refused(machine: Callable[..., None]) -> None:
    machine(fake_kernel("fma.f32.v128"))
    with store.only_run(fake_device()), pytest.raises(CannotRun, match="another microbench run"):
        carry_out(request())


def test_the_public_run_takes_the_command_lines_words(machine: Callable[..., None]) -> None:
    machine(fake_kernel("fma.f32.v128"), fake_kernel("fma.f64.v128", dtype="f64"))
    made = session.run("cpu", quick=True, only="fma.*", dtype=["fp64"], time_limit=0.2)
    assert {ceiling.dtype for ceiling in made.ceilings} == {"f64"}


def test_a_run_says_where_huge_pages_were_asked_for_and_not_given(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(fake_kernel("fma.f32.v128"))

    class Refused:
        @staticmethod
        def memory() -> list[dict[str, object]]:
            return [{"pages": "huge", "bytes": 64 * 2**20, "huge_bytes": 2 * 2**20}]

    monkeypatch.setattr(session.pages.extensions, "cpu", lambda: Refused)
    made = session.run("cpu", quick=True, time_limit=0.2)
    (finding,) = [finding for finding in made.findings if finding.code == "no-huge-pages"]
    assert "of 64 MiB that asked for 2 MiB pages, 2 MiB have them" in finding.says


def test_the_public_run_refuses_what_the_command_line_refuses(machine: Callable[..., None]) -> None:
    machine(fake_kernel("fma.f32.v128"))
    with pytest.raises(UsageError, match="exclude each other"):
        session.run("cpu", quick=True, thorough=True)
    for limit in (0, -1, float("nan"), float("inf"), "5s"):
        with pytest.raises(UsageError, match="positive number of seconds"):
            session.run("cpu", time_limit=limit)  # type: ignore[arg-type]


def test_selection_of_nothing_is_refused(machine: Callable[..., None]) -> None:
    machine(fake_kernel("fma.f32.v128"))
    with pytest.raises(UsageError, match="nothing to measure"):
        carry_out(request(selection=Selection(only=("read*",))))
