"""`microbench run --device cuda:0` from end to end on invented GPUs: their given ceilings come out within 1 %."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from fake_gpu import FakeGpu, FakeMachine, why_not
from gpu_runs import ceilings, microbench, run

from microbench.storage import store

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

COMPUTE = {"fma_f32": 20e9, "fma_f64": 10e9, "fma_f16x2": 40e9, "fma_bf16x2": 40e9}
GPU = FakeGpu(name="FAKE HOPPER", l2_bytes=4 << 20, peaks=COMPUTE)
INVENTED = {
    "fast": GPU,
    "slow": FakeGpu(
        name="FAKE SLOW", l2_bytes=4 << 20, dram=1e9, l2=3e9, shared=15e9, peaks={"fma_f32": 4e9, "fma_f64": 2e9}
    ),
    "small memory": FakeGpu(name="FAKE SMALL", memory=48 << 20, l2_bytes=2 << 20, peaks=COMPUTE),
    "mig slice": FakeGpu(name="FAKE H MIG 1g.10gb", sms=1, l2_bytes=1 << 20, peaks=COMPUTE),
    "ada": FakeGpu(name="FAKE ADA", capability=(8, 9), l2_bytes=4 << 20, peaks={"fma_f32": 64e9, "fma_f64": 1e9}),
    "tells no clock": FakeGpu(name="FAKE QUIET", tells_clock=False, l2_bytes=4 << 20, peaks=COMPUTE),
}


@pytest.mark.parametrize("kind", INVENTED)
def test_the_rates_an_invented_gpu_was_given_come_out_within_one_percent(tmp_path: Path, kind: str) -> None:
    gpu = INVENTED[kind]
    target = "sm_89" if kind == "ada" else "sm_90a"
    code, said, held = run(FakeMachine(folder=tmp_path, gpus=(gpu,), counted_for=target))
    assert code == 0, said
    found = ceilings(held)
    told = {
        "fma.f32": gpu.peaks["fma_f32"],
        "fma.f64": gpu.peaks["fma_f64"],
        "read.i32.u4.DRAM": gpu.dram,
        "read.i32.shared": gpu.shared,
    }
    for name, rate in told.items():
        assert found[name].rate.value == pytest.approx(rate, rel=0.01), name
        assert found[name].scope == "device"
    assert held is not None
    costs = {cost.name: cost.seconds.value for cost in held.costs}
    assert costs["load_to_use.DRAM"] == pytest.approx(gpu.latency[3] * 1e-9, rel=0.02)
    assert costs["launch.held"] < costs["launch.graph"]
    wrong = [finding for finding in held.findings if finding.code in ("wrong-result", "proof-failed", "not-measured")]
    assert wrong == []
    assert {sample.checked for sample in held.samples} <= {True, None}


def test_a_divided_l2_shows_its_near_and_its_far_part(tmp_path: Path) -> None:
    gpu = FakeGpu(name="FAKE DIVIDED", l2_bytes=4 << 20, latency=(1 << 15, 30, 148, 500), latency_far=253)
    held = run(FakeMachine(folder=tmp_path, gpus=(gpu,)), "--only", "chase.i32.cg")[2]
    assert held is not None
    costs = {cost.name: cost for cost in held.costs}
    assert costs["load_to_use.L2.near"].seconds.value == pytest.approx(148e-9, rel=0.01)
    assert costs["load_to_use.L2.far"].seconds.value == pytest.approx(253e-9, rel=0.01)
    assert costs["load_to_use.L2.far"].level == "L2"
    assert (
        costs["load_to_use.L2.near"].seconds.value
        < costs["load_to_use.L2"].seconds.value
        < costs["load_to_use.L2.far"].seconds.value
    )
    assert not [finding for finding in held.findings if finding.code == "one-l2"]


def test_a_divided_l2_that_keeps_copies_shows_beyond_half_its_size(tmp_path: Path) -> None:
    gpu = FakeGpu(
        name="FAKE COPIES", l2_bytes=4 << 20, latency=(1 << 15, 30, 148, 500), latency_far=253, keeps_copies=True
    )
    held = run(FakeMachine(folder=tmp_path, gpus=(gpu,)), "--only", "chase.i32.c*")[2]
    assert held is not None
    costs = {cost.name: cost.seconds.value for cost in held.costs}
    assert "load_to_use.L2.far" not in costs
    assert costs["load_to_use.L2.near"] == pytest.approx(148e-9, rel=0.01)
    assert costs["load_to_use.L2"] == pytest.approx(148e-9, rel=0.05)
    # Seven eighths of L2: half of the lines are far, and a seventh of those find room for a copy.
    assert costs["load_to_use.L2.beyond_half"] == pytest.approx((148 + (148 + 6 * 253) / 7) / 2 * 1e-9, rel=0.02)
    assert costs["load_to_use.DRAM"] == pytest.approx(500e-9, rel=0.01)
    (found,) = [finding for finding in held.findings if finding.code in ("one-l2", "l2-copies")]
    assert found.code == "l2-copies"
    assert "sets below half of its 4 MiB take 148 ns a load too, but sets beyond half up to 19" in found.says


def test_an_l2_that_answers_alike_has_no_far_part_and_a_finding_says_so(tmp_path: Path) -> None:
    held = run(FakeMachine(folder=tmp_path, gpus=(GPU,)), "--only", "chase.i32.cg")[2]
    assert held is not None
    assert not [cost.name for cost in held.costs if cost.name.startswith("load_to_use.L2.")]
    said = [finding.says for finding in held.findings if finding.code == "one-l2"]
    assert len(said) == 1
    assert "200 to 200 ns" in said[0]
    assert "sets beyond half of it take no longer" in said[0]


ROOFS = {
    ("f64", "dfma"): ("mix_f64", 2e9),
    ("f32", "ffma"): ("mix_f32", 20e9),
    ("f16", "hfma2"): ("mix_f16x2", 40e9),
    ("bf16", "bfma2"): ("mix_bf16x2", 40e9),
    ("f16", "mma_sync"): ("mix_mma_f16", 300e9),
    ("bf16", "mma_sync"): ("mix_mma_bf16", 280e9),
}


def test_a_roofline_is_fitted_per_dtype_and_unit_and_finds_the_roofs_it_was_given(tmp_path: Path) -> None:
    peaks = {f"{symbol}_{1 << power}": peak for symbol, peak in ROOFS.values() for power in range(9)}
    held = run(
        FakeMachine(folder=tmp_path, gpus=(replace(GPU, peaks=peaks),)), "--only", "mix.*", "--time-limit", "20s"
    )[2]
    assert held is not None
    found = {(fit.dtype, fit.variant): fit for fit in held.fits.rooflines}
    assert set(found) == set(ROOFS)
    for key, (_, peak) in ROOFS.items():
        assert found[key].peak == pytest.approx(peak, rel=0.02), key
        assert found[key].bandwidth["DRAM"] == pytest.approx(GPU.dram, rel=0.02), key
        assert (found[key].unit == "matrix") == found[key].legacy == (key[1] == "mma_sync")
    assert {sample.checked for sample in held.samples} == {True}


def test_a_roofline_by_the_legacy_path_says_where_the_chips_own_path_turns(tmp_path: Path) -> None:
    peaks = {f"mix_mma_bf16_{1 << power}": 300e9 for power in range(9)} | {"wgmma_bf16_m64n256k16_ss": 480e9}
    only = ("--only", "mix.bf16.f32.*", "--only", "wgmma.bf16.*.ss")
    held = run(FakeMachine(folder=tmp_path, gpus=(replace(GPU, peaks=peaks),)), *only)[2]
    assert held is not None
    (says,) = [finding.says for finding in held.findings if finding.code == "legacy-roofline"]
    told = re.search(
        r"bf16 on the tensor cores goes through mma_sync, the legacy path of this chip: it ends at ([\d.]+) GFLOP/s",
        says,
    )
    reached = re.search(r"ss reaches ([\d.]+) GFLOP/s, which this memory feeds from ([\d.]+) FLOP/byte on", says)
    assert told is not None
    assert reached is not None
    numbers = [float(word) for word in (told[1], *reached.groups())]
    assert numbers == [pytest.approx(300, rel=0.01), pytest.approx(480, rel=0.01), pytest.approx(120, rel=0.02)]


def test_every_ceiling_carries_the_proof_of_the_cubin_that_ran(tmp_path: Path) -> None:
    held = run(FakeMachine(folder=tmp_path, gpus=(GPU,)))[2]
    proof = ceilings(held)["fma.f32"].proof
    assert proof.status == "proven"
    assert "cubin plain.sm_90a.cubin" in proof.source
    assert proof.expected == proof.found


def test_the_clock_stands_beside_each_ceiling_and_power_beside_none_that_is_a_burst(tmp_path: Path) -> None:
    held = run(FakeMachine(folder=tmp_path, gpus=(GPU,)), MB_FAKE_NVML="watts=300")[2]
    ceiling = ceilings(held)["fma.f32"]
    assert ceiling.clock_hz == pytest.approx(1e9, rel=1e-3)
    assert ceiling.power_w is None
    assert ceiling.per_clock == pytest.approx(20e9 / 1e9 / GPU.sms, rel=0.01)


@pytest.mark.nightly
def test_a_thorough_run_tells_watts_and_joules_of_every_format_that_it_sustains(tmp_path: Path) -> None:
    machine = FakeMachine(folder=tmp_path, gpus=(GPU,))
    names = ("fma.f32.random", "fma.f16.half2.random", "wgmma.bf16.f32.m64n256k16.ss.random")
    only = [word for name in names for word in ("--only", name)]
    command = microbench(
        "run", "--device", "cuda:0", "--thorough", "--time-limit", "16s", "--out", str(tmp_path / "out")
    )
    done = machine.run(*command, *only, MB_FAKE_NVML="watts=300")
    assert done.returncode == 0, done.stdout + done.stderr
    held = store.load(next((tmp_path / "out").glob("*/*.json")))
    assert {ceiling.name for ceiling in held.ceilings} == set(names)
    for ceiling in held.ceilings:
        assert (ceiling.mode, ceiling.operands) == ("sustained", "random")
        assert ceiling.power_w == pytest.approx(300, rel=0.05), ceiling.name
        assert ceiling.energy_per_op_j == pytest.approx(300 / ceiling.rate.value, rel=0.05), ceiling.name
    # Launches so long that the card does not rest between them.
    assert min(min(samples.ns) for samples in held.samples) >= 20_000_000


def test_a_throttling_gpu_is_reported_as_throttled_not_dropped(tmp_path: Path) -> None:
    gpu = FakeGpu(name="FAKE HOT", l2_bytes=4 << 20, peaks=COMPUTE, throttle=(1e3, 0.7e9))
    held = run(FakeMachine(folder=tmp_path, gpus=(gpu,)), MB_FAKE_NVML="reasons=4")[2]
    ceiling = ceilings(held)["fma.f32"]
    assert ceiling.rate.value == pytest.approx(0.7 * 20e9, rel=0.01)
    assert ceiling.throttled_share == 1.0


@pytest.mark.nightly
def test_the_tests_for_a_real_gpu_pass_on_an_invented_one(tmp_path: Path) -> None:
    machine = FakeMachine(folder=tmp_path, gpus=(replace(GPU, latency_far=253),))
    options = ("-q", "-m", "gpu", "-p", "no_torch", "-p", "no:cacheprovider")
    done = machine.run("-m", "pytest", *options, str(Path(__file__).parent / "test_gpu.py"))
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout.splitlines()[-1]


def test_the_second_gpu_is_measured_as_itself(tmp_path: Path) -> None:
    machine = FakeMachine(folder=tmp_path, gpus=(GPU, FakeGpu(name="FAKE SECOND", peaks={"fma_f32": 5e9})))
    code, said, held = run(machine, "--only", "fma.f32", device="cuda:1", seconds=12)
    assert code == 0, said
    assert held is not None
    assert held.device.name == "FAKE SECOND"
    assert ceilings(held)["fma.f32"].rate.value == pytest.approx(5e9, rel=0.01)


def test_a_lost_context_keeps_what_was_measured_and_says_how_to_go_on(tmp_path: Path) -> None:
    machine = FakeMachine(folder=tmp_path, gpus=(GPU,), extra=("fail cuLaunchKernel 400 719",))
    code, said, held = run(machine)
    assert held is not None, said
    assert held.samples
    lost = [finding for finding in held.findings if finding.code == "not-measured"]
    assert lost
    assert any("--resume" in finding.says for finding in lost)
    assert code == 0


def test_out_of_memory_costs_the_cases_that_need_it_and_no_others(tmp_path: Path) -> None:
    machine = FakeMachine(folder=tmp_path, gpus=(GPU,), extra=("fail cuMemAlloc_v2 12 2",))
    held = run(machine)[2]
    assert held is not None
    assert held.ceilings
    assert any("out of memory" in finding.says for finding in held.findings)


def test_a_full_report_of_a_fake_run_names_the_device_and_nothing_private(tmp_path: Path) -> None:
    held = run(FakeMachine(folder=tmp_path, gpus=(GPU,)), seconds=90)[2]
    text = json.dumps([str(held)])
    assert "FAKE HOPPER" in text
    assert "a0a1a2a3" not in text.lower()
    pages = sorted((tmp_path / "out").glob("*/*.html"))
    assert len(pages) == 1
    assert "FAKE HOPPER" in pages[0].read_text(encoding="utf-8")


def test_the_plain_cores_stand_beside_their_nominal_rate(tmp_path: Path) -> None:
    ceiling = ceilings(run(FakeMachine(folder=tmp_path, gpus=(GPU,)))[2])["fma.f32"]
    assert ceiling.nominal == pytest.approx(256 * GPU.sms * 1e9, rel=1e-3)


@pytest.mark.nightly
@pytest.mark.parametrize(("khz", "findings"), [(1_100_000, set()), (900_000, {"above-nominal"}), (0, set())])
def test_main_memory_of_an_unknown_card_is_held_against_the_bus_its_driver_tells(
    tmp_path: Path, khz: int, findings: set[str]
) -> None:
    # 16 bit on both edges of 1 GHz would be 4 GB/s, which is what the invented memory gives.
    gpu = replace(GPU, bus_bits=16, memory_khz=khz)
    held = run(FakeMachine(folder=tmp_path, gpus=(gpu,)), "--only", "read.i32.u4", MB_FAKE_NVML="blind")[2]
    assert held is not None
    read = ceilings(held)["read.i32.u4.DRAM"]
    assert read.nominal == (pytest.approx(4e3 * khz) if khz else None)
    assert read.advertised is None
    assert {finding.code for finding in held.findings} & {"above-nominal"} == findings


def sweep(folder: Path, hungry: float) -> list[str]:
    """What a run of the read sweep says of its edge on a GPU that needs so many bytes in flight a multiprocessor."""
    gpu = FakeGpu(l2_bytes=2 << 20, hungry=hungry)
    command = microbench(
        "run", "--device", "cuda:0", "--time-limit", "12s", "--out", str(folder / "out"), "--only", "read.i32.u*"
    )
    done = FakeMachine(folder=folder, gpus=(gpu,)).run(*command, "--level", "DRAM")
    assert done.returncode == 0, done.stderr
    held = store.load(next(iter((folder / "out").glob("*/*.json"))))
    return [finding.says for finding in held.findings if finding.code == "sweep-edge"]


@pytest.mark.nightly
def test_a_sweep_whose_best_is_at_its_edge_is_found_and_one_inside_is_not(tmp_path: Path) -> None:
    most = 8 * 8 * 16 * 256  # eight blocks of 256 threads with eight accesses of 16 bytes each
    assert sweep(tmp_path / "enough", most / 4) == []
    (says,) = sweep(tmp_path / "too_little", 2 * most)
    assert "with 8 a thread" in says
