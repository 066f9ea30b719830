"""Clocks of a GPU on a fake of torch's, and the calibration of an invented device from end to end."""

from __future__ import annotations

import pytest
from fake_operator_law import FakeLaw
from fake_torch_cuda import FakeTorch

from microbench.errors import CannotRun
from microbench.operators import Op, op
from microbench.operators.gpu_clock import GpuClock

L2_FLUSH = 1 << 28
SMALL, LARGE = op("add", size=1 << 16, dtype="bf16"), op("matmul", m=8192, n=8192, k=4096, dtype="bf16")


def _clock(torch: FakeTorch, place: str = "cuda:0") -> GpuClock:
    return GpuClock(torch, place, L2_FLUSH, now=torch.host)


def _exactly(torch: FakeTorch) -> FakeTorch:
    for device in torch.cuda.devices:
        device.noise = device.trouble = 0.0
    return torch


def _call(torch: FakeTorch, clock: GpuClock, made: Op, **how: bool) -> object:
    with clock.guard():
        return torch.call_of(made, clock.device, **how)


def test_a_short_kernel_is_timed_on_the_device_though_the_host_is_slower() -> None:
    torch, law = _exactly(FakeTorch()), FakeLaw()
    clock = _clock(torch)
    call = _call(torch, clock, SMALL)
    clock.held(call, 1)
    found = clock.held(call, 40)
    assert found.issue_s > 2 * law.seconds(SMALL, 1.0)
    assert found.device_s == pytest.approx(law.seconds(SMALL, 1.0) + 0.9e-6, rel=0.02)
    assert found.issue_s == pytest.approx(law.issue_seconds(SMALL), rel=0.1)


def test_eager_is_the_longer_of_host_and_device() -> None:
    torch, law = _exactly(FakeTorch()), FakeLaw()
    clock = _clock(torch)
    assert clock.eager(_call(torch, clock, SMALL), 200) == pytest.approx(law.issue_seconds(SMALL), rel=0.1)
    assert clock.eager(_call(torch, clock, LARGE), 4) == pytest.approx(law.seconds(LARGE, 0.0), rel=0.05)


def test_a_replay_has_neither_the_host_nor_the_gap_of_a_launch() -> None:
    torch, law = _exactly(FakeTorch()), FakeLaw()
    clock = _clock(torch)
    call = _call(torch, clock, SMALL)
    clock.held(call, 4)
    graph = clock.capture(call, 32)
    each = clock.replay(graph, 8) / 32
    assert law.seconds(SMALL, 1.0) < each < clock.held(call, 40).device_s


def test_a_cold_call_reads_from_main_memory_and_a_hot_one_does_not() -> None:
    torch, law = _exactly(FakeTorch()), FakeLaw()
    clock = _clock(torch)
    made = op("relu", size=4_000_000, dtype="bf16")
    call = _call(torch, clock, made)
    clock.held(call, 1)
    cold, hot = clock.cold(call, 3), clock.held(call, 20).device_s
    assert cold == pytest.approx(law.seconds(made, 0.0), abs=2e-6)
    assert cold > 1.5 * hot


def test_events_and_streams_are_those_of_the_clocks_own_device() -> None:
    torch = _exactly(FakeTorch(count=2))
    clock = _clock(torch, "cuda:1")
    call = _call(torch, clock, LARGE)
    assert torch.host.current == 0
    assert clock.held(call, 2).device_s == pytest.approx(FakeLaw().seconds(LARGE, 0.0), rel=0.05)
    assert clock.eager(call, 2) == pytest.approx(FakeLaw().seconds(LARGE, 0.0), rel=0.05)
    assert torch.cuda.devices[0].launched == 0


def test_a_backward_pass_is_captured_because_its_forward_pass_ran_on_the_same_stream() -> None:
    torch = _exactly(FakeTorch())
    clock = _clock(torch)
    made = op("relu", size=4096, direction="backward")
    assert clock.replay(clock.capture(_call(torch, clock, made), 16), 4) > 0
    elsewhere = torch.call_of(made)
    with pytest.raises(CannotRun, match="cannot be captured"):
        clock.capture(elsewhere, 16)


def test_a_call_that_waits_for_the_device_is_refused_and_not_mistaken_for_a_long_kernel() -> None:
    torch = _exactly(FakeTorch())
    clock = _clock(torch)
    with pytest.raises(CannotRun, match="wait for the device"):
        clock.held(_call(torch, clock, SMALL, waits=True), 40)


def test_after_a_capture_that_failed_the_clock_goes_on() -> None:
    torch = _exactly(FakeTorch())
    clock = _clock(torch)
    with pytest.raises(CannotRun, match="operation not permitted"):
        clock.capture(_call(torch, clock, SMALL, captures=False), 16)
    assert clock.eager(_call(torch, clock, SMALL), 20) > 0
