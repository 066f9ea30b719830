"""A whole run on an invented H100 and a virtual clock: what it takes, and how many rounds its cases get.

The program is `benchmarks/gpu_first_run/virtual_clock.py`: the session itself, with kernels that take the time of a
script and a host whose costs were measured.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from types import ModuleType
from typing import Any

import pytest
from fake_gpu import why_not
from places import ROOT

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

# What a whole run may take, operators included, and the rounds that nearly all of its cases must get.
LIMITS_S, ROUNDS, SHARE = {"quick": 60.0, "default": 240.0}, {"quick": 3, "default": 6}, 0.95


def program() -> ModuleType:
    path = ROOT / "benchmarks" / "gpu_first_run" / "virtual_clock.py"
    spec = importlib.util.spec_from_file_location("virtual_clock", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


@cache
def whole_run(budget: str, host_speed: float = 1.0) -> Any:
    return program().whole_run(budget, host_speed)


@pytest.mark.parametrize("budget", ["quick", "default"])
def test_a_run_on_an_h100_ends_in_time_and_nearly_every_case_gets_its_rounds(budget: str) -> None:
    found = whole_run(budget)
    counts = [found.rounds[case.key] for case in found.plan.cases]
    assert found.took_s <= LIMITS_S[budget]
    assert sum(count >= ROUNDS[budget] for count in counts) >= SHARE * len(counts)
    assert min(counts) > 0


@pytest.mark.parametrize("budget", ["quick", "default"])
def test_ceilings_converge_and_the_device_works_while_it_is_measured(budget: str) -> None:
    found = whole_run(budget)
    assert found.converged > len({case.kernel for case in found.plan.cases}) / 2
    assert found.duty > 0.8


def test_a_slow_host_prepares_longer_and_takes_no_round_from_the_measuring() -> None:
    fast, slow = whole_run("default"), whole_run("default", 0.5)
    assert slow.prepared_s > 1.5 * fast.prepared_s
    assert slow.took_s <= LIMITS_S["default"]
    assert min(slow.rounds[case.key] for case in slow.plan.cases) >= ROUNDS["default"]


def test_one_finding_tells_what_is_left_to_a_thorough_run() -> None:
    assert [finding.code for finding in whole_run("quick").findings].count("left-to-thorough") == 1
