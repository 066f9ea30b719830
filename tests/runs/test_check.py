"""`microbench check`: what a kernel left is told, and how its process ended, on a processor and on invented GPUs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_gpu import FakeMachine, why_not
from gpu_runs import microbench

from microbench.errors import CannotRun, ContextLost, UsageError
from microbench.hardware import probe
from microbench.kernels import Kernel
from microbench.records import Device, Finding, Sheet
from microbench.runs import check
from microbench.runs.isolation import Outcome

if TYPE_CHECKING:
    from command_line import Said

CPU = Device(id="1", kind="cpu", name="CPU", arch="zen3", units_by_kind={"core": 1})
needs_fake = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def kernel(answer: Finding | Exception | None, unavailable: str | None = None) -> Kernel:
    def checked(_: Device) -> Finding | None:
        if isinstance(answer, Exception):
            raise answer
        return answer

    def prepare(*_: object, **__: object) -> Any:
        raise AssertionError

    sheet = Sheet(
        name="fma.f32", measures="compute", backend="native", device_kind="cpu", says="", unavailable=unavailable
    )
    return Kernel(sheet=sheet, prepare=prepare, check=checked)


WRONG = Finding(code="wrong-result", severity="error", says="fma.f32 is wrong", remedy="none")


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (None, "right", None),
        (WRONG, "wrong", "fma.f32 is wrong"),
        (CannotRun("no room"), "refused", "no room"),
        (UsageError("no such size"), "refused", "no such size"),
        (ContextLost("illegal address"), "lost", "illegal address"),
        (CannotRun("fma.f32 cannot be checked: CUDA error: an illegal memory access"), "lost", "CUDA error"),
        (ZeroDivisionError("division by zero"), "error", "ZeroDivisionError: division by zero"),
        (RuntimeError("CUDA error: unspecified launch failure"), "lost", "RuntimeError: CUDA error"),
    ],
)
def test_what_a_kernel_raises_is_how_it_ended(answer: Any, status: str, says: str | None) -> None:
    found = check.outcome_of(kernel(answer), CPU)
    assert found[0] == status
    assert found[1] == says or (says is not None and says in str(found[1]))


def test_a_kernel_that_the_machine_lacks_is_not_run() -> None:
    assert check.outcome_of(kernel(AssertionError(), unavailable="needs avx512"), CPU) == (
        "unavailable",
        "needs avx512",
    )


def test_where_nothing_can_be_checked_nothing_is_called_right() -> None:
    gone = Outcome(item="a", group="cuda", status="unavailable", says="no cubin")
    busy = Outcome(item="", group="cuda", status="no start", says="the device is busy")
    with pytest.raises(CannotRun, match="no kernel can be checked here: cuda: the device is busy"):
        check.demand_some([gone, busy])
    with pytest.raises(CannotRun, match="a: no cubin"):
        check.demand_some([gone])
    check.demand_some([gone, replace(busy, item="b", status="hang")])
    check.demand_some([gone, replace(busy, item="b", status="right")])
    assert [outcome.item for outcome in check.faults([gone, replace(busy, item="b", status="hang")])] == ["b"]


def test_a_processor_is_checked_and_right(said: Callable[..., Said]) -> None:
    code, out, _ = said("check", "--device", "cpu", "--backend", "native", "--only", "fma.f64.*", "--json", "-")
    rows = {row["kernel"]: row for row in json.loads(out)}
    assert code == 0
    assert rows["fma.f64.scalar"]["status"] == "right"
    assert {row["status"] for row in rows.values()} <= {"right", "unavailable"}
    assert {row["backend"] for row in rows.values()} == {"native"}


def test_the_processes_can_be_started_by_a_tool(said: Callable[..., Said], tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f'#!/bin/sh\necho started >> {tmp_path}/log\necho a line of the tool\nexec "$@"\n')
    tool.chmod(0o755)
    line = (
        "check",
        "--device",
        "cpu",
        "--backend",
        "native",
        "--only",
        "fma.f64.scalar",
        "--under",
        tool,
        "--json",
        "-",
    )
    code, out, _ = said(*line)
    assert (code, [row["status"] for row in json.loads(out)]) == (0, ["right"])
    assert (tmp_path / "log").read_text() == "started\n"
    code, _, err = said("check", "--device", "cpu", "--under", "'unclosed")
    assert code == 2
    assert "--under: No closing quotation" in err


def test_names_that_match_nothing_are_refused(said: Callable[..., Said]) -> None:
    code, out, err = said("check", "--device", "cpu", "--backend", "native", "--only", "nothing.*")
    assert (code, out) == (2, "")
    assert "no kernel matches nothing.*" in err
    code, _, err = said("check", "--device", "cpu", "--backend", "cuda")
    assert code == 2
    assert "no backend 'cuda' on cpu; known: native, torch" in err


@pytest.mark.skipif(probe("auto").kind == "cuda", reason="there is a GPU here")
def test_a_device_that_is_not_there_exits_with_3(said: Callable[..., Said]) -> None:
    code, out, err = said("check", "--device", "cuda:0")
    assert (code, out) == (3, "")
    assert len(err.strip().splitlines()) == 1


ONLY = ("--only", "fma.*", "--only", "mad.*", "--only", "copy.h2d.pinned")


def on(machine: FakeMachine, *arguments: str, **more: str) -> tuple[int, dict[str, dict[str, Any]], str]:
    """Exit code, rows by kernel, and what was said, of a check of the CUDA kernels."""
    command = ("check", "--device", "cuda:0", "--backend", "cuda", "--json", "-", *ONLY, *arguments)
    done = machine.run(*microbench(*command), **more)
    rows = json.loads(done.stdout) if done.stdout.startswith("[") else []
    return done.returncode, {row["kernel"]: row for row in rows}, done.stdout + done.stderr


@needs_fake
def test_every_kernel_of_an_invented_gpu_is_right(tmp_path: Path) -> None:
    code, rows, said = on(FakeMachine(folder=tmp_path))
    assert code == 0, said
    assert {rows[name]["status"] for name in ("fma.f32", "fma.f32.random", "mad.i32", "copy.h2d.pinned")} == {"right"}
    assert rows["fma.f32"]["family"] == "plain"


@needs_fake
def test_wrong_refused_lost_died_and_hung_are_told_apart_on_an_invented_gpu(tmp_path: Path) -> None:
    spoilt = (
        "corrupt fma_f64",
        "misbehave fma_f32 hang",
        "misbehave fma_f16x2 die",
        "misbehave fma_bf16x2 lose",
        "misbehave mad_i32 refuse",
    )
    code, rows, said = on(FakeMachine(folder=tmp_path, extra=spoilt), "--kernel-limit", "6s", "--jobs", "2")
    assert code == 1, said
    assert {name: rows[name]["status"] for name in ("fma.f64", "fma.f32", "mad.i32", "copy.h2d.pinned")} == {
        "fma.f64": "wrong",
        "fma.f32": "hang",
        "mad.i32": "refused",
        "copy.h2d.pinned": "right",
    }
    halves = {name: row["status"] for name, row in rows.items() if name.startswith(("fma.f16", "fma.bf16"))}
    assert {status for name, status in halves.items() if ".f16" in name} == {"died"}
    assert {status for name, status in halves.items() if ".bf16" in name} == {"lost"}
    assert "SIGABRT" in next(row["says"] for name, row in rows.items() if name.startswith("fma.f16"))


@needs_fake
def test_a_device_that_refuses_every_launch_exits_with_3(tmp_path: Path) -> None:
    machine = FakeMachine(folder=tmp_path, extra=("misbehave fma_f32 refuse",))
    done = machine.run(*microbench("check", "--device", "cuda:0", "--backend", "cuda", "--only", "fma.f32"))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "no kernel can be checked here: fma.f32: " in done.stderr
    assert "1 refused" in done.stdout
