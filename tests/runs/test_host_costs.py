"""What a process pays beside operators: found where there is time, and by sizes that are looked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from microbench.measure.budget import Deadline
from microbench.runs import host_costs

pytest.importorskip("torch")
MIB = 1 << 20


@pytest.mark.parametrize("limit", [5 * MIB, 32 * MIB, 100 * MIB])
def test_the_size_from_which_memory_comes_anew_is_found_to_a_quarter(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_costs, "_fetches", lambda _make, _there, size: size >= limit)
    found = host_costs._first_fetched(lambda _: None, None, (4 * MIB, 256 * MIB), Deadline(limit_s=60.0))
    assert found is not None
    assert limit <= found <= 1.25 * limit


def test_an_allocator_that_keeps_everything_has_no_such_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_costs, "_fetches", lambda *_: False)
    import torch

    assert host_costs.allocator(torch, 8 * MIB, Deadline(limit_s=60.0)) == {}


def test_without_time_nothing_is_measured() -> None:
    assert host_costs.host_costs(1e9, 0.0) == {}


def test_what_was_measured_is_no_less_than_nothing_and_calls_cost_something() -> None:
    import torch

    found = host_costs._calls(torch) | host_costs._nested(torch)
    assert found["alone_s"] > 0
    assert found["view_s"] > 0
    assert found["nested_s"] > 0


def test_a_process_says_whether_it_can_keep_its_memory() -> None:
    ask = "from microbench.runs.host_costs import keep_memory; print(keep_memory())"
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout
    assert said.strip() in ("True", "False")
