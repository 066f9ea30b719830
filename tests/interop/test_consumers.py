"""The real packages read what is written for them, and compute the times that the figures say."""

from __future__ import annotations

import importlib.util
import json
import sys
from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest

from microbench.interop import render
from microbench.interop.documents import parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from microbench.records import Characterisation

FLOP = 2 * 4096**3  # a square matrix product
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::SyntaxWarning")


def consumer(name: str) -> Any:
    return pytest.importorskip(
        name, reason=f"the package {name} is not installed; it is only read by this test", exc_type=ImportError
    )


@pytest.fixture
def load(tmp_path: Path, fake: Characterisation) -> Callable[[str], ModuleType]:
    def run(to: str) -> ModuleType:
        path = tmp_path / f"exported_{to.replace('-', '_')}.py"
        path.write_text(render(fake, to).text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return run


def test_onnx_tool_computes_the_time_that_the_figures_say(load: Callable[[str], ModuleType]) -> None:
    consumer("onnx_tool")
    from onnx_tool.llm import Builder

    device = load("onnx-tool").Devices["Fake X100 SXM 80GB"]
    sizes = {"vocab_size": 64, "hidden_size": 4096, "intermediate_size": 4096, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 32, "num_key_value_heads": 32, "rms_norm_eps": 1e-6, "hidden_act": "silu"}
    llm = Builder(name="fake", model_type="llama", architectures=["LlamaForCausalLM"], **sizes, **heads)
    with redirect_stdout(StringIO()):
        llm.build_graph([1, 16])
        llm.add_kv_cache(32, 16)
        llm.profile(
            {"Compute": {"MM": "FP16", "MHA": "FP16", "Others": "FP32"}, "Bits": {"MM": 16, "MHA": 16, "Others": 32}},
            device,
        )
    rows = [node.llm_profile for node in llm.graph.nodemap.values() if node.op_type == "MatMul"]
    assert rows
    for row in rows:  # milliseconds
        assert row["Device"]["latency"][0] == pytest.approx(row["FLOPs"] / 750e12 * 1e3)
        assert row["Device"]["latency"][1] == pytest.approx(row["Memory"] / 2.1e12 * 1e3)


def test_genz_works_with_the_rates_in_si(load: Callable[[str], ModuleType]) -> None:
    consumer("GenZ.system")
    from GenZ.system import System

    entry = load("genz").system_configs["Fake X100 SXM 80GB"]
    # The same call as its get_inference_system makes for such an entry.
    system = System(
        flops=entry["Flops"],
        off_chip_mem_size=entry["Memory_size"] * 1024,
        offchip_mem_bw=entry["Memory_BW"],
        bits="bf16",
    )
    assert 2 * system.op_per_sec == pytest.approx(1000e12)  # multiply-adds
    assert system.offchip_mem_bw == pytest.approx(3e12, rel=1e-5)
    assert system.off_chip_mem_size == pytest.approx(80 * 2**30)


def test_llm_analysis_takes_the_config(fake: Characterisation) -> None:
    config = json.loads(render(fake, "llm-analysis").text)
    consumer("llm_analysis.config")
    from llm_analysis.config import GPUConfig

    gpu = GPUConfig(**config)
    assert gpu.peak_fp16_TFLOPS * 1e12 == pytest.approx(1000e12)
    assert gpu.hbm_bandwidth_in_GB_per_sec * 1e9 == pytest.approx(3e12)
    says = next(finding.says for finding in render(fake, "llm-analysis").findings if finding.code == "export-arguments")
    assert "achieved_tflops=750, achieved_memory_bandwidth_GBs=2400" in says


def test_servcalc_computes_the_time_that_the_figures_say(load: Callable[[str], ModuleType]) -> None:
    consumer("servcalc")
    from servcalc.timing import step_time
    from servcalc.work import Work

    module = load("servcalc")
    work = Work(**dict.fromkeys(Work.__dataclass_fields__, 0) | {"flops": float(FLOP), "bytes": 1e6})
    assert step_time(work, module.GPU, module.CALIBRATION, 4096).ms.mid == pytest.approx((FLOP / 750e12 + 2e-6) * 1e3)
    work = Work(**dict.fromkeys(Work.__dataclass_fields__, 0) | {"flops": 1.0, "bytes": 1e9})
    assert step_time(work, module.GPU, module.CALIBRATION, 1).ms.mid == pytest.approx((1e9 / 2.4e12 + 2e-6) * 1e3)


def test_aiconfigurator_resolves_the_rates(fake: Characterisation) -> None:
    consumer("aiconfigurator_core.sdk")
    from aiconfigurator_core.sdk import common
    from aiconfigurator_core.sdk.errors import MissingSystemFlopsError
    from aiconfigurator_core.sdk.system_spec import SystemSpec

    spec = SystemSpec(parse(render(fake, "aiconfigurator").text, ".yaml", "spec"))
    assert common.get_quant_tc_flops(spec, common.GEMMQuantMode.bfloat16) == pytest.approx(750e12)
    assert spec.get_p2p_bandwidth(1) > 0
    with pytest.raises(MissingSystemFlopsError):  # no fp8 was measured, and none is invented
        common.get_quant_tc_flops(spec, common.GEMMQuantMode.fp8)


@pytest.fixture
def torch_file(load: Callable[[str], ModuleType]) -> ModuleType:
    consumer("torch")
    return load("pytorch")


def test_torch_eager_estimator_computes_flop_over_rate(torch_file: ModuleType) -> None:
    import torch
    from torch.utils import _runtime_estimation as estimation

    tensor = torch.empty(4096, 4096, device="meta", dtype=torch.bfloat16)
    before = estimation.get_device_tflops, estimation.get_gpu_dram_gbps, estimation.get_compute_time
    with torch_file.installed():
        compute = estimation.get_compute_time(torch.ops.aten.mm, (tensor, tensor), {}, tensor, {torch.bfloat16})
        transfer = estimation.get_transfer_time([tensor, tensor], [tensor])
    assert compute == pytest.approx(8e3 + FLOP / 750e12 * 1e9, rel=1e-6)  # nanoseconds, whatever this torch halves
    assert transfer == pytest.approx(8e3 + 3 * 4096**2 * 2 / 2.1e12 * 1e9, rel=1e-6)
    assert (estimation.get_device_tflops, estimation.get_gpu_dram_gbps, estimation.get_compute_time) == before


def test_torch_runtime_estimator_runs_on_the_figures(torch_file: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.runtime_estimator import RuntimeEstimator

    monkeypatch.setattr(
        torch.cuda, "is_available", lambda: True
    )  # the estimator insists on it and then asks no GPU anything
    with torch_file.installed(), FakeTensorMode(), redirect_stdout(StringIO()):
        left = torch.empty(4096, 4096, dtype=torch.bfloat16)
        estimator = RuntimeEstimator()
        with estimator(estimate_mode_type="operator-level-cost-model"):
            torch.mm(left, left)
    assert estimator.total_runtime == pytest.approx(0.008 + FLOP / 750e12 * 1e3, rel=1e-6)


def test_torch_table_holds_dense_figures_and_is_left_as_it_was(torch_file: ModuleType) -> None:
    import torch
    from torch._inductor.analysis import device_info

    with torch_file.installed("inductor"):
        entry = device_info.lookup_device_info("Fake X100 SXM 80GB")
        assert entry is not None
        assert entry.tops[torch.bfloat16] / getattr(entry, "tops_sparsity_factor", 1) == pytest.approx(
            750
        )  # torch 2.11 has none
        assert entry.dram_bw_gbs == pytest.approx(2100)
    assert device_info.lookup_device_info("Fake X100 SXM 80GB") is None


def test_torch_overlap_scheduler_callable_gives_milliseconds(torch_file: ModuleType) -> None:
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    def step(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.mm(a, b).relu().view(-1)

    graph = make_fx(step, tracing_mode="fake")(torch.empty(4096, 4096), torch.empty(4096, 4096))
    times = {str(node.target): torch_file.custom_runtime_estimation(node) for node in graph.graph.nodes}
    assert times["aten.mm.default"] == pytest.approx(0.008 + FLOP / 54e12 * 1e3)
    assert times["aten.relu.default"] == pytest.approx(0.008 + 2 * 4096**2 * 4 / 2.1e12 * 1e3)
    assert times["aten.view.default"] is None
    assert times["a_1"] is None


def test_torch_profile_guided_estimator_finds_the_measured_shape(fake: Characterisation, tmp_path: Path) -> None:
    torch = consumer("torch")
    module = pytest.importorskip(
        "torch._inductor.fx_passes.profile_guided_estimation", reason="torch older than 2.13 has no such estimator"
    )
    path = tmp_path / "trace.json"
    path.write_text(render(fake, "pytorch-trace").text)
    profile = module.ProfileData()
    profile.load(str(path))
    assert profile.lookup_op(
        "aten::mm", ((512, 1024), (1024, 256)), ((1024, 1), (256, 1)), torch.float32
    ) == pytest.approx(0.031)
    shapes, strides = ((4096,), (64, 1024), (1024, 4096)), ((1,), (1024, 1), (1, 1024))
    assert profile.lookup_op("aten::addmm", shapes, strides, torch.bfloat16) == pytest.approx(0.002)
    assert profile.lookup_op("aten::mm", ((8, 32), (32, 16)), ((32, 1), (16, 1)), torch.bfloat16) == pytest.approx(
        0.007
    )
    assert profile.lookup_op("aten::mm", ((512, 512), (512, 512)), ((512, 1), (512, 1)), torch.float32) is None


def test_exported_torch_file_is_importable_without_torch(
    load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert load("pytorch").TFLOPS["bfloat16"] == 750


def test_astra_sim_s_sdk_takes_every_key_that_it_knows_by_that_name(fake: Characterisation) -> None:
    sdk = consumer("astra_sim_sdk")
    written = json.loads(render(fake, "astra-sim").text)
    system = sdk.SystemConfiguration()
    strange = []
    for key, value in written.items():
        try:
            setattr(system, key.replace("-", "_"), value)
        except AttributeError:
            strange.append(key)
    assert strange == ["boost-mode"]  # the simulator reads it, its package does not know it
    taken = json.loads(system.serialize())
    assert taken["roofline_enabled"] == 1
    assert taken["peak_perf"] * 1e12 == pytest.approx(750e12)
    assert taken["local_mem_bw"] * 1e9 == pytest.approx(2.1e12)
