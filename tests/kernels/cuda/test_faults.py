"""Every function of the driver's table fails in turn, with every documented error, at the first and at later calls.

``tests/data/driver_errors.json`` has the errors by function. It must name exactly the functions of the product's table,
so that a new one cannot be forgotten, and whatever the vendor's header documents wherever one is installed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fake_gpu import FakeGpu, FakeMachine, why_not
from places import DATA, FAKES

from microbench import _cuda

pytestmark = [pytest.mark.nightly, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

SESSION = FAKES / "fault_session.py"
DOCUMENTED: dict[str, list[int]] = json.loads((DATA / "driver_errors.json").read_text())
# Any call may report what an earlier launch did: an illegal address, a failed launch. Nothing on the context works
# after it.
LOST = (700, 719)
HALF_WAY = 0
# Called once a process, before a session can begin: faults of these have tests of their own.
BEFORE = ("cuInit", "cuDriverGetVersion")
DESCRIBING = ("cuGetErrorName", "cuGetErrorString")
# What a failing clean-up leaves behind is its own; it must not hide what it cleans up after.
CLEAN_UP = {
    "cuMemFree_v2": "memory",
    "cuMemFreeHost": "pinned",
    "cuModuleUnload": "module",
    "cuStreamDestroy_v2": "stream",
    "cuEventDestroy_v2": "event",
    "cuGraphExecDestroy": "exec",
    "cuGraphDestroy": "graph",
    "cuDevicePrimaryCtxRelease_v2": "context",
    "cuCtxPopCurrent_v2": "",
}
# Questions whose error is an answer: an attribute that is unknown, a neighbour that cannot be reached.
QUESTIONS = ("cuDeviceGetAttribute", "cuDeviceCanAccessPeer")
ALREADY_ENABLED = ("cuCtxEnablePeerAccess", 704)
PROBE = """
import json
from microbench import hardware
from microbench.errors import CannotRun
try:
    print(json.dumps(hardware.probe("cuda:0").name))
except CannotRun as error:
    print(json.dumps(str(error)))
"""
GPUS = (FakeGpu(), FakeGpu(name="FAKE SECOND"))


def outcomes(folder: Path, faults: list[tuple[str, int, int]], *mode: str) -> list[dict[str, Any]]:
    done = FakeMachine(folder=folder, gpus=GPUS).run(str(SESSION), json.dumps(faults), *mode)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(faults) + 1
    return lines


def silent(one: dict[str, Any]) -> bool:
    """Whether a fault may pass without a word: while cleaning up, and where an error is an answer."""
    neighbour = one["call"] in ("cuDeviceGet", "cuDeviceGetCount") and one["nth"] != 1
    # Half way, the context is entered to free something as often as not.
    neighbour |= one["call"] == "cuCtxPushCurrent_v2" and one["nth"] == HALF_WAY
    return neighbour or one["call"] in (*CLEAN_UP, *QUESTIONS) or (one["call"], one["code"]) == ALREADY_ENABLED


def test_every_function_of_the_table_has_its_documented_errors_and_no_other_function_has() -> None:
    assert set(DOCUMENTED) == {name for name, _ in _cuda.exports()}
    assert all(DOCUMENTED.values())


HEADERS = sorted(Path("/usr/local").glob("cuda*/include/cuda.h"))


@pytest.mark.skipif(not HEADERS, reason="no cuda.h is installed")
def test_the_errors_are_those_that_the_vendors_header_documents() -> None:
    text = HEADERS[-1].read_text(errors="replace")
    codes = dict(re.findall(r"(CUDA_ERROR_\w+)\s*=\s*(\d+)", text))
    compared = 0
    for name, kept in DOCUMENTED.items():
        for spelt in (name, re.sub(r"_v\d+$", "", name)):
            for comment in re.findall(rf"/\*\*((?:(?!\*/).)*)\*/\s*CUresult CUDAAPI {spelt}\(", text, re.DOTALL):
                returned = comment.split("\\return")[1].split("\\note")[0].split("\\sa")[0]
                told = {int(codes[code]) for code in re.findall(r"::(CUDA_ERROR_\w+)", returned) if code in codes}
                assert told <= set(kept), name
                compared += 1
    assert compared >= len(DOCUMENTED) - 2


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One session a fault, the one without a fault first."""
    faults = [(name, 1, code) for name, codes in DOCUMENTED.items() if name not in BEFORE for code in codes]
    later = [
        (name, nth, code)
        for name, codes in DOCUMENTED.items()
        if name not in BEFORE
        for nth, code in ((2, 700), (HALF_WAY, codes[-1]))
    ]
    return outcomes(tmp_path_factory.mktemp("faults"), [*faults, *later])


def test_a_session_without_a_fault_calls_every_function_and_leaves_nothing(told: list[dict[str, Any]]) -> None:
    clean = told[0]
    assert (clean["said"], clean["held"]) == ([], {})
    assert [name for name, count in clean["usual"].items() if count == 0 and name not in DESCRIBING] == []


def test_every_call_that_fails_gives_one_sentence_with_call_device_and_error(told: list[dict[str, Any]]) -> None:
    for one in told[1:]:
        assert all("\n" not in line for line in one["said"]), one
        if silent(one) and not one["lost"]:
            continue
        if one["nth"] != 1 and one["usual"] < 2 and not one["said"]:
            continue  # called once a session, it cannot fail the second time
        assert one["said"], one
        first = one["said"][0]
        if one["call"] in DESCRIBING:
            assert "cuMemAlloc_v2 failed on cuda:0" in first, one
        elif not silent(one):
            assert f"{one['call']} failed" in first, one
            assert f"(CUDA_ERROR_{one['code']}, {one['code']})" in first, one


def test_whatever_fails_everything_else_is_given_back(told: list[dict[str, Any]]) -> None:
    for one in told[1:]:
        if one["lost"] or one["code"] in LOST:
            continue  # a context that is lost takes no call, and the process's end takes the rest
        allowed = {CLEAN_UP[one["call"]]: 1} if one["call"] in CLEAN_UP else {}
        held = {kind: count for kind, count in one["held"].items() if count > allowed.get(kind, 0)}
        # A context that cannot be entered cannot be asked to free what is in it.
        assert held == {} or one["call"] == "cuCtxPushCurrent_v2", one


def test_an_error_that_loses_the_context_says_how_to_go_on(told: list[dict[str, Any]]) -> None:
    fatal = [
        one for one in told if one["code"] in LOST and one["said"] and not silent(one) and one["call"] not in DESCRIBING
    ]
    assert len(fatal) > 30
    late = [one for one in fatal if "cuDevice" not in str(one["call"])]
    assert [one for one in late if not (one["lost"] and "--resume" in str(one["said"]))] == []


def test_a_run_whose_calls_fail_half_way_stores_what_it_has(tmp_path: Path) -> None:
    names = [name for name in DOCUMENTED if name not in (*BEFORE, *DESCRIBING)]
    faults = [(name, HALF_WAY, 719 if place % 2 else DOCUMENTED[name][-1]) for place, name in enumerate(names)]
    clean, *rest = outcomes(tmp_path, faults, "run", str(tmp_path / "out"))
    (whole,) = clean["said"]
    assert re.fullmatch(r"stored (\d+) of \1", whole)
    stored = 0
    for one in rest:
        *said, last = one["said"]
        assert "journal" not in last, one
        assert all("\n" not in line for line in said), one
        if last == "stored nothing":
            # Only what fails before the first sample leaves nothing to keep.
            assert len(said) == 1, one
            continue
        stored += 1
        assert re.fullmatch(r"stored [1-9]\d* of \d+", last), one
        assert said or silent(one) or one["reached"] <= 1 or last == whole, one
    assert stored >= len(rest) * 2 / 3


@pytest.mark.parametrize(("code", "word"), [(34, "stub"), (803, "reboot"), (802, "fabric manager"), (999, "dmesg")])
def test_a_driver_that_cannot_start_says_why_and_what_to_do(tmp_path: Path, code: int, word: str) -> None:
    said = str(FakeMachine(folder=tmp_path, extra=(f"fail cuInit 2 {code}",)).ask(PROBE))
    assert word in said
    assert "\n" not in said


@pytest.mark.parametrize("code", DOCUMENTED["cuInit"])
def test_every_documented_error_of_the_first_call_of_all_is_one_sentence(tmp_path: Path, code: int) -> None:
    said = str(FakeMachine(folder=tmp_path, extra=(f"fail cuInit 2 {code}",)).ask(PROBE))
    assert f"cuInit failed: fake error (CUDA_ERROR_{code}, {code})" in said
    assert "microbench run --device cpu" in said


def test_a_driver_that_does_not_tell_its_version_is_given_no_code_that_it_may_not_take(tmp_path: Path) -> None:
    code = """
import json
from microbench import hardware, kernels
from microbench.kernels.cuda import nvrtc
nvrtc.libraries = lambda: []
print(json.dumps(kernels.registry(hardware.probe("cuda:0"))["fma.f32"].sheet.unavailable))
"""
    said = str(FakeMachine(folder=tmp_path, extra=("fail cuDriverGetVersion 2 1",)).ask(code))
    assert "does not tell its version" in said
