"""The proof once more on what NVRTC makes of the same sources, with an empty include path."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import once
import pytest
from ptx import toolchain

from microbench.errors import CannotRun
from microbench.kernels.cuda import nvrtc
from microbench.kernels.cuda.rows import FAMILIES, rows_for
from microbench.proof import cuda, sass

LIBRARIES = {library.major: library for library in nvrtc.libraries()}
MAJORS = (12, 13)  # drivers of CUDA 12 need the one, newer drivers take the other
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(sass.nvdisasm() is None, reason="no nvdisasm: pip install nvidia-cuda-nvdisasm==13.5.37"),
]


@cache
def compiler(major: int) -> nvrtc.Compiler:
    if major not in LIBRARIES:
        pytest.skip(f"no NVRTC {major}: {nvrtc.install(1000 * major)}")
    return nvrtc.Compiler(LIBRARIES[major])


def built(major: int, family: str, target: str) -> Path:
    text = toolchain.source(family)
    return once.made(
        f"nvrtc-{once.key(text, target, compiler(major).version)}.cubin",
        lambda out: out.write_bytes(compiler(major).image(text, f"{family}.cu", target)),
    )


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("family", FAMILIES)
def test_nvrtc_makes_loops_that_pass_the_same_proof(family: str, major: int) -> None:
    wrong = []
    for target in FAMILIES[family]:
        rows = tuple(row for row in rows_for(target) if row.family == family and row.limiter != "none")
        found = cuda.examine_all(built(major, family, target), target, rows)
        wrong += [f"{target} {says}" for row in rows for says in cuda.complaints(row, found[row.symbol])]
    assert wrong == []


@pytest.mark.parametrize("major", MAJORS)
def test_a_family_that_a_target_lacks_is_refused_with_a_sentence(major: int) -> None:
    with pytest.raises(CannotRun, match=r"cannot compile wgmma\.cu for sm_80"):
        compiler(major).image(toolchain.source("wgmma"), "wgmma.cu", "sm_80")
