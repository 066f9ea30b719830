"""The CUDA host under invented GPUs: rates recovered, results compared, every driver call made to fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_gpu import FakeGpu, FakeMachine, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

PEAKS = {"fma_f32": 20e9, "fma_f64": 10e9, "fma_f16x2": 40e9, "fma_bf16x2": 39e9, "mad_i32": 11e9, "dp4a_i8": 42e9}
GPU = FakeGpu(peaks=PEAKS)

MEASURE = """
import json
from microbench import hardware, kernels
device = hardware.probe("cuda:0")
found = {}
for name, kernel in kernels.registry(device).items():
    sheet = kernel.sheet
    if sheet.backend != "cuda" or sheet.unavailable or sheet.operands == "random" or not name.startswith(ONLY):
        continue
    finding = kernel.check(device)
    prepared = kernel.prepare(device, {"working_set": SET} if sheet.params else {}, 1)
    work = sheet.work.flop if sheet.measures == "compute" else sheet.work.bytes
    first = prepared.run(1)
    timings = [prepared.run(round(first.iterations * 3e6 / first.ns)) for _ in range(2)]
    best = max(timings, key=lambda t: t.iterations / t.ns)
    rate, checked = work * best.iterations / best.ns * 1e9, all(t.checked for t in timings)
    found[name] = {"rate": rate, "checked": checked, "clock": best.clock_hz,
                   "throttled": best.throttled, "power": best.power_w, "wrong": finding and finding.says}
    prepared.close()
print(json.dumps(found))
"""


def measured(
    machine: FakeMachine, only: tuple[str, ...], working_set: int = 1 << 23, **more: str
) -> dict[str, dict[str, float]]:
    code = MEASURE.replace("ONLY", repr(only)).replace("SET", str(working_set))
    answer = machine.ask(code, **more)
    assert isinstance(answer, dict)
    return answer


def test_compute_rates_given_to_the_fake_are_recovered_within_one_percent(tmp_path: Path) -> None:
    found = measured(FakeMachine(folder=tmp_path, gpus=(GPU,)), ("fma", "mad", "dp4a"))
    told = {
        "fma.f32": "fma_f32",
        "fma.f64": "fma_f64",
        "fma.f16.half2": "fma_f16x2",
        "fma.bf16.bf16x2": "fma_bf16x2",
        "mad.i32": "mad_i32",
    }
    told["dp4a.i8.i32"] = "dp4a_i8"
    assert set(told) == set(found)
    for name, symbol in told.items():
        assert found[name]["rate"] == pytest.approx(PEAKS[symbol], rel=0.01)
        assert found[name]["checked"] is True
        assert found[name]["wrong"] is None
        assert found[name]["clock"] == pytest.approx(1e9, rel=1e-3)
        assert found[name]["power"] is None  # a burst is shorter than what any sensor averages over


@pytest.mark.parametrize(("working_set", "rate"), [(1 << 23, GPU.dram), (1 << 19, GPU.l2)])
def test_memory_rates_given_to_the_fake_are_recovered_at_the_level_of_the_working_set(
    tmp_path: Path, working_set: int, rate: float
) -> None:
    found = measured(FakeMachine(folder=tmp_path, gpus=(GPU,)), ("read", "write", "copy", "triad"), working_set)
    streams = {name: each for name, each in found.items() if ".u" in name}
    assert len(streams) >= 16
    for name, each in streams.items():
        assert each["rate"] == pytest.approx(rate, rel=0.01), name
        assert each["checked"] is True, name
        assert each["wrong"] is None, name


def test_what_a_launch_does_before_and_after_its_loops_is_not_in_its_time(tmp_path: Path) -> None:
    gpu = FakeGpu(peaks=PEAKS, edges=(40_000, 160_000))  # of launches of 3 ms: they would cost 6 %
    found = measured(FakeMachine(folder=tmp_path, gpus=(gpu,)), ("fma.f32", "read.i32.u4"))
    assert found["fma.f32"]["rate"] == pytest.approx(PEAKS["fma_f32"], rel=0.002)
    assert found["read.i32.u4"]["rate"] == pytest.approx(gpu.dram, rel=0.002)


def test_slow_multiprocessors_do_not_hold_up_the_rate_of_the_last_cache(tmp_path: Path) -> None:
    # As with clusters of 16 and 18 that share as wide a way to L2: with equal work 8 % would be lost.
    gpu = FakeGpu(sms=8, slow=(2, 16 / 18))
    found = measured(FakeMachine(folder=tmp_path, gpus=(gpu,)), ("read.i32.u", "write.i32.u4", "copy.i32.u4"), 1 << 19)
    assert len(found) == 6
    for name, each in found.items():
        assert each["rate"] == pytest.approx(gpu.l2, rel=0.01), name
        assert each["checked"] is True, name


@pytest.mark.parametrize(
    ("symbol", "name"),
    [("fma_f32", "fma.f32"), ("read_u2", "read.i32.u2"), ("copy_u8", "copy.i32.u8"), ("triad_u1", "triad.f32.u1")],
)
def test_one_wrong_bit_is_seen_by_the_check_and_by_the_timed_launch(tmp_path: Path, symbol: str, name: str) -> None:
    found = measured(FakeMachine(folder=tmp_path, gpus=(GPU,), extra=(f"corrupt {symbol}",)), (name,))
    assert "is wrong" in str(found[name]["wrong"])
    assert found[name]["checked"] is False


CHECK = """
import json
from microbench import hardware, kernels
device = hardware.probe("cuda:0")
found = {}
for name, kernel in kernels.registry(device).items():
    if kernel.sheet.backend == "cuda" and not kernel.sheet.unavailable:
        finding = kernel.check(device)
        found[name] = finding and finding.says
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("capability", "target", "least"),
    [((7, 5), "sm_75", 40), ((9, 0), "sm_90a", 90), ((10, 3), "sm_103a", 70), ((12, 1), "sm_120f", 70)],
)
def test_every_kernel_of_a_target_leaves_what_an_independent_reference_leaves(
    tmp_path: Path, capability: tuple[int, int], target: str, least: int
) -> None:
    machine = FakeMachine(folder=tmp_path, gpus=(FakeGpu(capability=capability, sms=2),), counted_for=target)
    found = machine.ask(CHECK)
    assert isinstance(found, dict)
    assert len(found) >= least
    assert {name: says for name, says in found.items() if says} == {}


def test_a_throttled_sample_is_kept_with_its_clock_and_labelled(tmp_path: Path) -> None:
    gpu = FakeGpu(peaks=PEAKS, throttle=(1e3, 0.7e9))
    found = measured(FakeMachine(folder=tmp_path, gpus=(gpu,)), ("fma.f32",), MB_FAKE_NVML="reasons=4 watts=700")
    assert found["fma.f32"]["clock"] == pytest.approx(0.7e9, rel=1e-3)
    assert found["fma.f32"]["rate"] == pytest.approx(0.7 * PEAKS["fma_f32"], rel=0.01)
    assert found["fma.f32"]["throttled"] is True


BURST = """
import json
from microbench import hardware, kernels
device = hardware.probe("cuda:0")
found = {}
for name in NAMES:
    kernel = kernels.registry(device)[name]
    prepared = kernel.prepare(device, {"working_set": 1 << 22} if kernel.sheet.params else {}, 1)
    first = prepared.run(1)
    taken = prepared.burst(round(first.iterations * 3e5 / first.ns), 5, 10.0)
    found[name] = [[t.iterations / t.ns, t.checked, t.throttled, t.power_w] for t in taken]
    prepared.close()
print(json.dumps(found))
"""
BURSTS = ("fma.f32", "read.i32.u4", "triad.f32.u2", "copy.i32.bulk", "chase.i32.cg", "read.i32.shared")


def bursts(machine: FakeMachine, names: tuple[str, ...] = BURSTS, **more: str) -> dict[str, list[list[object]]]:
    answer = machine.ask(BURST.replace("NAMES", repr(names)), **more)
    assert isinstance(answer, dict)
    return answer


def test_a_burst_launches_as_often_as_it_is_asked_to_and_compares_what_it_left(tmp_path: Path) -> None:
    found = bursts(FakeMachine(folder=tmp_path, gpus=(GPU,)))
    for name, taken in found.items():
        assert [row[1:] for row in taken] == [[True, False, None]] * 5, name
        rates = [float(str(row[0])) for row in taken]
        assert max(rates) == pytest.approx(min(rates), rel=0.05), name


@pytest.mark.parametrize(("symbol", "name"), [("fma_f32", "fma.f32"), ("read_u4", "read.i32.u4")])
def test_one_wrong_bit_condemns_a_burst(tmp_path: Path, symbol: str, name: str) -> None:
    found = bursts(FakeMachine(folder=tmp_path, gpus=(GPU,), extra=(f"corrupt {symbol}",)), (name,))
    assert {row[1] for row in found[name]} == {False}


def test_every_launch_of_a_burst_under_throttling_says_so(tmp_path: Path) -> None:
    found = bursts(FakeMachine(folder=tmp_path, gpus=(GPU,)), ("fma.f32",), MB_FAKE_NVML="reasons=4 watts=700")
    assert {row[2] for row in found["fma.f32"]} == {True}


@pytest.mark.parametrize(("late", "says"), [(2, None), (9, "gave up 3 times in a row")])
def test_a_launch_whose_gate_timed_out_is_discarded_and_repeated(tmp_path: Path, late: int, says: str | None) -> None:
    # The first gate of all is the one that is open from the start.
    machine = FakeMachine(folder=tmp_path, gpus=(GPU,), extra=(f"late {late}",))
    if says is None:
        rates = [float(str(row[0])) for row in bursts(machine, ("fma.f32",))["fma.f32"]]
        assert max(rates) == pytest.approx(min(rates), rel=0.05)
        return
    done = machine.run("-c", BURST.replace("NAMES", "('fma.f32',)"))
    assert says in done.stderr


@pytest.mark.parametrize("nvml", ["absent", "blind"])
def test_without_sensors_power_is_unknown_and_nothing_fails(tmp_path: Path, nvml: str) -> None:
    found = measured(FakeMachine(folder=tmp_path, gpus=(GPU,)), ("fma.f32",), MB_FAKE_NVML=nvml)
    assert found["fma.f32"]["power"] is None
    assert found["fma.f32"]["throttled"] is False


def test_a_coarse_nanosecond_timer_gives_no_clock_rather_than_a_wrong_one(tmp_path: Path) -> None:
    gpu = FakeGpu(peaks=PEAKS, step_ns=1_000_000)
    found = measured(FakeMachine(folder=tmp_path, gpus=(gpu,)), ("fma.f32",))
    assert found["fma.f32"]["clock"] is None


PROBE = """
import json
from microbench import hardware
from microbench.errors import CannotRun
try:
    device = hardware.probe(SPEC)
    print(json.dumps([device.name, device.arch, device.boost_clock_hz, device.units_by_kind]))
except CannotRun as error:
    print(json.dumps(str(error)))
"""


def probed(machine: FakeMachine, spec: str = "cuda:0", **more: str) -> object:
    return machine.ask(PROBE.replace("SPEC", repr(spec)), **more)


def test_an_old_driver_is_told_from_a_missing_one(tmp_path: Path) -> None:
    said = probed(FakeMachine(folder=tmp_path, driver=11080))
    assert "stops at CUDA 11.8" in str(said)
    assert "driver 525" in str(said)


def test_an_index_out_of_range_names_the_devices_that_are_there(tmp_path: Path) -> None:
    said = probed(FakeMachine(folder=tmp_path, gpus=(GPU, GPU)), "cuda:2")
    assert "there is no cuda:2" in str(said)
    assert "cuda:0, cuda:1" in str(said)


@pytest.mark.parametrize("value", ["", "-1", "7", "GPU-nonsense"])
def test_hidden_devices_are_blamed_on_the_variable_that_hides_them(tmp_path: Path, value: str) -> None:
    said = str(probed(FakeMachine(folder=tmp_path), CUDA_VISIBLE_DEVICES=value))
    assert "sees no GPU" in said
    assert f"CUDA_VISIBLE_DEVICES is {value!r}" in said


def test_visible_devices_are_renumbered(tmp_path: Path) -> None:
    machine = FakeMachine(folder=tmp_path, gpus=(FakeGpu(name="FIRST"), FakeGpu(name="SECOND")))
    assert probed(machine, CUDA_VISIBLE_DEVICES="1,junk")[0] == "SECOND"  # type: ignore[index]


def test_a_clock_that_reads_zero_is_unknown_not_zero(tmp_path: Path) -> None:
    found = probed(FakeMachine(folder=tmp_path, gpus=(FakeGpu(tells_clock=False),)), MB_FAKE_NVML="blind")
    assert found[2] is None  # type: ignore[index]


def test_an_old_driver_without_nvrtc_says_what_to_install(tmp_path: Path) -> None:
    code = """
import json
from microbench import hardware, kernels
from microbench.kernels.cuda import nvrtc
nvrtc.libraries = lambda: []
device = hardware.probe("cuda:0")
print(json.dumps(kernels.registry(device)["fma.f32"].sheet.unavailable))
"""
    said = str(FakeMachine(folder=tmp_path, driver=12020).ask(code))
    assert "the driver stops at CUDA 12.2" in said
    assert "[nvrtc12]" in said


def test_a_driver_that_lacks_a_required_function_is_named_with_it(tmp_path: Path) -> None:
    said = str(probed(FakeMachine(folder=tmp_path, without=("cuGraphLaunch",))))
    assert "has no cuGraphLaunch" in said
    assert "driver 525 or newer" in said


def test_a_driver_that_lacks_an_optional_function_is_used_without_it(tmp_path: Path) -> None:
    without = ("cuGraphUpload", "cuMemcpyPeerAsync", "cuDeviceCanAccessPeer")
    found = measured(FakeMachine(folder=tmp_path, gpus=(GPU, GPU), without=without), ("fma.f32", "copy.peer"))
    assert found["fma.f32"]["rate"] == pytest.approx(PEAKS["fma_f32"], rel=0.01)
    assert set(found) == {"fma.f32"}


LINKS = """
import json
from microbench import hardware, kernels
from microbench.errors import CannotRun
device = hardware.probe("cuda:0")
registry = kernels.registry(device)
found = {}
for name in NAMES:
    kernel = registry[name]
    try:
        prepared = kernel.prepare(device, {"size": 1 << 24} if kernel.sheet.params else {}, 1)
        timing = prepared.run(1000)
        each_ns = timing.ns / timing.iterations
        found[name] = [kernel.sheet.work.bytes / each_ns * 1e9, each_ns, timing.checked]
        prepared.close()
    except CannotRun as error:
        found[name] = str(error)
print(json.dumps(found))
"""


def test_copies_over_the_bus_and_between_gpus_run_at_the_rates_that_were_given(tmp_path: Path) -> None:
    names = ("copy.h2d.pinned", "copy.d2h.pinned", "copy.both.pinned", "copy.peer.cuda_1")
    names += ("copy.peer.from_cuda_1", "copy.peer.both_cuda_1")
    found = FakeMachine(folder=tmp_path, gpus=(GPU, GPU)).ask(LINKS.replace("NAMES", repr(names)))
    assert isinstance(found, dict)
    for name, times in zip(names, (1, 1, 2, 4, 4, 8), strict=True):
        assert found[name][0] == pytest.approx(times * GPU.host_copy, rel=0.01), name
        assert found[name][2] is True, name


def test_copies_by_multiprocessors_and_within_the_device_carry_every_byte(tmp_path: Path) -> None:
    names = ("copy.h2d.sm", "copy.d2h.sm", "copy.d2d")
    found = FakeMachine(folder=tmp_path, gpus=(GPU,)).ask(LINKS.replace("NAMES", repr(names)))
    assert isinstance(found, dict)
    assert {name: told[2] for name, told in found.items()} == dict.fromkeys(names, True)
    assert all(told[0] > 0 for told in found.values())


def test_the_gate_takes_the_launch_out_of_the_time_and_is_off_where_launches_block(tmp_path: Path) -> None:
    code = LINKS.replace("NAMES", repr(("launch.held", "launch.period")))
    machine = FakeMachine(folder=tmp_path, gpus=(GPU,))
    found = machine.ask(code)
    blocking = machine.ask(code, CUDA_LAUNCH_BLOCKING="1")
    assert isinstance(found, dict)
    assert isinstance(blocking, dict)
    assert found["launch.held"][1] == pytest.approx(800, rel=0.01)
    assert "CUDA_LAUNCH_BLOCKING is set" in blocking["launch.held"]
    assert blocking["launch.period"][1] > 0
