"""The proof once more on what NVRTC makes of the same sources, with an empty include path."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import pytest
from ptx import toolchain

from microbench.errors import CannotRun
from microbench.kernels import nvrtc
from microbench.kernels.cuda_rows import FAMILIES, rows_for
from microbench.proof import cuda, sass

NEWEST = 13999  # a driver that supports every NVRTC of major 13
LIBRARY = nvrtc.usable(NEWEST)
pytestmark = [
    pytest.mark.skipif(LIBRARY is None or LIBRARY.major < 13, reason="no NVRTC 13: pip install nvidia-cuda-nvrtc"),
    pytest.mark.skipif(sass.nvdisasm() is None, reason="no nvdisasm: pip install nvidia-cuda-nvdisasm==13.5.37"),
]
BUILDS = [(family, target) for family, targets in FAMILIES.items() for target in targets]


@cache
def compiler() -> nvrtc.Compiler:
    assert LIBRARY is not None
    return nvrtc.Compiler(LIBRARY)


def built(family: str, target: str) -> Path:
    text = toolchain.source(family)
    key = hashlib.sha256(f"{text}\0{target}\0{compiler().version}".encode()).hexdigest()[:20]
    out = toolchain.kept() / f"nvrtc-{key}.cubin"
    if not out.exists():
        out.write_bytes(compiler().image(text, f"{family}.cu", target))
    return out


@pytest.mark.parametrize(("family", "target"), BUILDS)
def test_nvrtc_makes_loops_that_pass_the_same_proof(family: str, target: str) -> None:
    rows = tuple(row for row in rows_for(target) if row.family == family and row.limiter != "none")
    found = cuda.examine_all(built(family, target), target, rows)
    assert [says for row in rows for says in cuda.complaints(row, found[row.symbol])] == []


def test_a_family_that_a_target_lacks_is_refused_with_a_sentence() -> None:
    with pytest.raises(CannotRun, match=r"cannot compile wgmma\.cu for sm_80"):
        compiler().image(toolchain.source("wgmma"), "wgmma.cu", "sm_80")
