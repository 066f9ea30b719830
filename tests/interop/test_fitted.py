"""A device known by twenty rows that others measured: fitted, exported, and used by PyTorch's own estimator."""

from __future__ import annotations

import importlib.util
import io
import math
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from places import DATA

from microbench.interop import render
from microbench.predict.fit import fit

if TYPE_CHECKING:
    from types import ModuleType

ROWS = DATA / "gemm_a100_bf16.csv"


def rows() -> list[tuple[str, tuple[int, int, int], float]]:
    found = []
    for line in ROWS.read_text().splitlines()[2:]:
        params, seconds = line.split(",")[2:4]
        m, n, k = (int(part.partition("=")[2]) for part in params.split(";"))
        found.append((line, (m, n, k), float(seconds)))
    return found


def estimated(sizes: list[tuple[int, int, int]]) -> list[float]:
    """Seconds by RuntimeEstimator's cost model, an operator each."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.runtime_estimator import RuntimeEstimator

    found = []
    with FakeTensorMode(), redirect_stdout(io.StringIO()):
        estimator = RuntimeEstimator()
        with estimator(estimate_mode_type="operator-level-cost-model"):
            for m, n, k in sizes:
                left, right = torch.empty(m, k, dtype=torch.bfloat16), torch.empty(k, n, dtype=torch.bfloat16)
                before = estimator.total_runtime
                torch.mm(left, right)
                found.append((estimator.total_runtime - before) * 1e-3)
    return found


def error(predicted: list[float], measured: list[float]) -> float:
    return float(np.mean([abs(math.log(p / s)) for p, s in zip(predicted, measured, strict=True)]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_export_of_a_twenty_row_fit_beats_torch_s_own_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch: Any = pytest.importorskip("torch", reason="the torch extra is not installed")
    from torch._inductor.analysis.device_info import lookup_device_info
    from torch.utils import _runtime_estimation as estimation

    monkeypatch.setattr(
        torch.cuda, "is_available", lambda: True
    )  # the estimator insists on it and then asks no GPU anything
    table = rows()
    order = np.random.default_rng(1).permutation(len(table))
    header = "op,dtype,params,seconds,launch,cache\n"
    fitted = fit(
        io.StringIO(header + "\n".join(table[i][0] for i in order[:20])),
        nominal="A100 SXM4 80GB",
        name="NVIDIA A100-SXM4-80GB",
    )
    held_out = [table[i] for i in order[20:]]
    sizes, measured = [row[1] for row in held_out], [row[2] for row in held_out]
    with _module(render(fitted, "pytorch").text, tmp_path).installed():
        ours = error(estimated(sizes), measured)

    entry = lookup_device_info("NVIDIA A100")
    assert entry is not None
    sparsity = getattr(entry, "tops_sparsity_factor", 1)  # torch 2.11 has none, and dense figures for this device
    with monkeypatch.context() as patch:
        patch.setattr(estimation, "get_device_tflops", lambda dtype: entry.tops[dtype] / sparsity)
        patch.setattr(estimation, "get_gpu_dram_gbps", lambda: entry.dram_bw_gbs)
        own = error(estimated(sizes), measured)
    assert ours < own / 2
    assert ours < 0.4


def _module(text: str, folder: Path) -> ModuleType:
    path = folder / "a100.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("a100", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
