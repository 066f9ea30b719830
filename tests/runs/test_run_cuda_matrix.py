"""Whole runs on invented machines other than the build machine: older drivers, unknown chip, MIG slice, two cards."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_gpu import FakeGpu, FakeMachine, why_not
from gpu_runs import ceilings, chosen, codes, run

from microbench.kernels.cuda import code as machine_code
from microbench.kernels.cuda import nvrtc
from microbench.records import Characterisation

pytestmark = [pytest.mark.nightly, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

PEAKS = {"fma_f32": 20e9, "fma_f64": 10e9}
GPU = FakeGpu(name="FAKE HOPPER", l2_bytes=4 << 20, peaks=PEAKS)
FEW = chosen(("fma.f32", "fma.f64", "read.i32.u4", "read.i32.shared"))


def as_given(held: Characterisation | None, gpu: FakeGpu) -> None:
    """Every ceiling is what the GPU was told, within 1 %, and no kernel was wrong or missing."""
    found = ceilings(held)
    told = {
        "fma.f32": gpu.peaks["fma_f32"],
        "fma.f64": gpu.peaks["fma_f64"],
        "read.i32.u4.DRAM": gpu.dram,
        "read.i32.shared": gpu.shared,
    }
    for name, rate in told.items():
        assert found[name].rate.value == pytest.approx(rate, rel=0.01), name
    assert held is not None
    assert codes(held) & {"wrong-result", "proof-failed", "not-measured", "not-checked", "left-out"} == set()


@pytest.mark.parametrize("driver", [12020, 12080])
def test_an_older_driver_runs_what_nvrtc_of_its_major_compiles(tmp_path: Path, driver: int) -> None:
    code, said, held = run(FakeMachine(folder=tmp_path, gpus=(GPU,), driver=driver, nvrtc="12.9"), *FEW)
    assert code == 0, said
    as_given(held, GPU)
    assert "NVRTC 12.9 for sm_90a" in str(ceilings(held)["fma.f32"].proof.source)


OLDER = nvrtc.usable(12080)


@pytest.mark.skipif(
    OLDER is None or OLDER.major != 12, reason="no NVRTC 12 here: pip install 'microbench-roofline[nvrtc12]'"
)
def test_the_real_compiler_of_an_older_major_gives_code_that_is_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # NVRTC asks the driver for more than the fake one has, so the code is compiled out of its sight, into the cache of
    # the run.
    assert OLDER is not None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for family in ("plain", "stream", "shared", "launch"):
        nvrtc.compiled(nvrtc.Compiler(OLDER), machine_code.installed() / "src" / f"{family}.cu", "sm_90a")
    code, said, held = run(FakeMachine(folder=tmp_path, gpus=(GPU,), driver=12020), *FEW)
    assert code == 0, said
    as_given(held, GPU)
    assert ceilings(held)["fma.f32"].proof.status == "proven"


@pytest.mark.parametrize("driver", [12020, 12080])
def test_an_older_driver_without_a_compiler_measures_what_needs_no_kernel_and_says_how_to_get_the_rest(
    tmp_path: Path, driver: int
) -> None:
    code, said, held = run(FakeMachine(folder=tmp_path, gpus=(GPU,), driver=driver), "--only", "*", nvrtc=False)
    assert code == 0, said
    assert {ceiling.name for ceiling in held.ceilings} == {  # type: ignore[union-attr]
        f"copy.{way}" for way in ("h2d.pinned", "d2h.pinned", "both.pinned", "h2d.pageable", "d2h.pageable")
    }
    (left,) = [finding for finding in held.findings if finding.code == "left-out" and "nvcc" in finding.says]  # type: ignore[union-attr]
    assert left.severity == "warning"
    assert f"the driver stops at CUDA {driver // 1000}.{driver % 1000 // 10}, older than nvcc 13" in left.says
    assert "pip install 'microbench-roofline[nvrtc12]'" in left.says


def test_a_kernel_that_nothing_here_can_compile_is_refused_with_the_reason(tmp_path: Path) -> None:
    code, said, held = run(FakeMachine(folder=tmp_path, gpus=(GPU,), driver=12080), "--only", "fma.f32", nvrtc=False)
    assert (code, held) == (3, None)
    assert "fma.f32 cannot run here: the driver stops at CUDA 12.8" in said
    assert "nvrtc12" in said


UNKNOWN = FakeGpu(name="FAKE NEXT", capability=(13, 0), l2_bytes=4 << 20, peaks=PEAKS)


def test_a_chip_that_nobody_here_knows_runs_what_its_driver_makes_of_ptx(tmp_path: Path) -> None:
    code, said, held = run(FakeMachine(folder=tmp_path, gpus=(UNKNOWN,), counted_for="sm_89", nvrtc="13.0"), *FEW)
    assert code == 0, said
    as_given(held, UNKNOWN)
    proof = ceilings(held)["fma.f32"].proof
    assert proof.status == "unproven"
    assert "compute_89, made into machine code by the driver" in str(proof.source)


def test_ptx_that_is_newer_than_the_driver_is_refused_in_a_sentence(tmp_path: Path) -> None:
    machine = FakeMachine(folder=tmp_path, gpus=(UNKNOWN,), driver=12020, counted_for="sm_89", nvrtc="12.9")
    code, said, held = run(machine, "--only", "fma.f32")
    assert (code, held) == (3, None)
    assert (
        "nothing could be measured: fma.f32 could not be checked before it is timed: cuModuleLoadData failed on cuda:0"
        in said
    )


def test_a_chip_that_nobody_here_knows_without_a_compiler_exits_three_with_what_to_install(tmp_path: Path) -> None:
    code, said, held = run(FakeMachine(folder=tmp_path, gpus=(UNKNOWN,)), "--only", "fma.f32", nvrtc=False)
    assert (code, held) == (3, None)
    assert "no machine code of plain for sm_130" in said
    assert "pip install 'microbench-roofline[nvrtc]'" in said


def test_a_chip_older_than_every_kernel_is_told_so(tmp_path: Path) -> None:
    code, said, held = run(FakeMachine(folder=tmp_path, gpus=(FakeGpu(capability=(7, 0)),)), "--only", "fma.f32")
    assert (code, held) == (3, None)
    assert "the oldest target is sm_75" in said


def test_a_slice_of_a_card_is_measured_by_its_own_multiprocessors(tmp_path: Path) -> None:
    slice_ = FakeGpu(
        name="FAKE H100 80GB HBM3 MIG 1g.10gb", sms=1, memory=256 << 20, l2_bytes=1 << 20, dram=1e9, peaks=PEAKS
    )
    code, said, held = run(FakeMachine(folder=tmp_path, gpus=(slice_,)), *FEW, MB_FAKE_NVML="mig=1")
    assert code == 0, said
    as_given(held, slice_)
    assert held is not None
    assert held.device.units_by_kind["sm"] == 1
    assert held.environment is not None
    assert held.environment.facts["gpu_mig_instance"] is True
    assert ceilings(held)["fma.f32"].per_clock == pytest.approx(20, rel=0.01)


def test_copies_between_two_cards_are_ceilings_of_a_run(tmp_path: Path) -> None:
    code, said, held = run(FakeMachine(folder=tmp_path, gpus=(GPU, FakeGpu(name="FAKE SECOND"))), "--only", "copy.*")
    assert code == 0, said
    found = ceilings(held)
    assert found["copy.peer.cuda_1"].rate.value == pytest.approx(4 * GPU.host_copy, rel=0.01)
    assert found["copy.both.pinned"].rate.value == pytest.approx(2 * GPU.host_copy, rel=0.01)
    assert found["copy.h2d.pinned"].rate.value == pytest.approx(GPU.host_copy, rel=0.01)


def test_a_card_that_throttles_half_way_keeps_both_kinds_of_samples(tmp_path: Path) -> None:
    hot = FakeGpu(name="FAKE HOT", l2_bytes=4 << 20, peaks=PEAKS, throttle=(60e6, 0.7e9))
    held = run(FakeMachine(folder=tmp_path, gpus=(hot,)), "--only", "fma.f32", MB_FAKE_NVML="reasons=4")[2]
    assert held is not None
    clocks = {round(clock / 1e7) for samples in held.samples for clock in samples.clock_hz}
    assert clocks == {70, 100}
    ceiling = ceilings(held)["fma.f32"]
    assert ceiling.rate.value == pytest.approx(20e9, rel=0.01)
    assert ceiling.throttled_share == 1.0
