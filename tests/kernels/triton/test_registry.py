"""The Triton kernels without a GPU, each in a process: values in the interpreter, machine code ahead of time."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from microbench.kernels.triton import jobs as own
from microbench.kernels.triton import registry
from microbench.records import Device

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or importlib.util.find_spec("torch") is None,
    reason="Triton or PyTorch is not installed",
)
HOPPER = Device(
    id="1" * 16, kind="cuda", name="invented", arch="sm_90a", features=("sm_90a", "sm_90"), units_by_kind={"sm": 1}
)

# bf16 is left out: the interpreter multiplies its bit patterns. f8 tiles take it too long.
# Triton 3.6 makes a loop's bound of an array of one element, which NumPy 2.4 refuses; Triton 3.7 squeezes the array
# first.
VALUES = """
import json, sys
from triton.runtime import interpreter
patch = interpreter._patch_lang_tensor
def squeezed(tensor, scope):
    patch(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.squeeze()))
interpreter._patch_lang_tensor = squeezed
from microbench.kernels.triton import jobs as own, registry
from microbench.records import Device
device = Device(id="1" * 16, kind="cuda", name="invented", arch="sm_90a", units_by_kind={"sm": 1})
own.PROGRAMS.update(dot=1, fma=2, stream=2, mix=2, mix_dot=2)
dots = [each for each in registry.DOTS if each.dtype in ("f16", "tf32", "i8", "f64")]
jobs = {f"dot.{each.dtype}": own.DotJob(device, each, "cpu") for each in dots}
jobs["fma"] = own.FmaJob(device, "cpu")
jobs |= {access: own.StreamJob(device, access, 5 * 4096 * 4 * 2, "cpu") for access in own.ARRAYS}
jobs |= {f"mix.{fmas}": own.MixJob(device, fmas, 5 * 4096 * 8, "cpu") for fmas in (1, 4)}
jobs |= {f"mix_dot.{n * p}": own.MixDotJob(device, n, p, 7 * 2 * 128 * 64, "cpu") for n, p in own.PRODUCTS[:3]}
found = {}
for name, job in jobs.items():
    job.launch(3)
    found[name] = [job.right(3), None]
    job["out"].view(-1)[0] += 1
    streams = ("fma", "read", "write", "copy", "triad")
    found[name][1] = job.right(3) if name in streams or name[:3] in ("dot", "mix") else None
print(json.dumps(found))
"""


def in_a_process(code: str, seconds: int, **more: str) -> object:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_kernel_leaves_exact_values_in_the_interpreter_and_a_wrong_one_shows() -> None:
    found = in_a_process(VALUES, 300, TRITON_INTERPRET="1")
    assert isinstance(found, dict)
    assert len(found) == 14
    assert {name: right for name, (right, _) in found.items() if not right} == {}
    # A write's and a copy's looked-at block is the last one, which one wrong word elsewhere does not touch.
    assert [name for name, (_, poisoned) in found.items() if poisoned and name not in ("write", "copy", "triad")] == []


AHEAD = """
import json, sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
import triton
from microbench.kernels.triton import jobs as own, code, registry
target, what = int(sys.argv[1]), sys.argv[2]
pointer = {"f16": "*fp16", "bf16": "*bf16", "tf32": "*fp32", "f8e4m3": "*fp8e4nv", "i8": "*i8", "f64": "*fp64"}
if what in pointer:
    each = next(each for each in registry.DOTS if each.dtype == what)
    m, n, k = each.shape
    sums = {"f64": "*fp64", "i8": "*i32"}.get(what, "*fp32")
    fixed = {"M": m, "N": n, "K": k, "PRECISION": each.precision, "SUMS": code.SUMS.get(what, code.tl.float32)}
    function, signature, warps = code.dot, {"out": sums, "a": pointer[what], "b": pointer[what], "iterations": "i32"}, 4
elif what == "mix_dot":
    m, k = own.MIXED
    fixed = {"PRODUCTS": 4, "M": m, "N": 64, "K": k}
    function, warps = code.mix_dot, 4
    signature = {"out": "*fp32", "one": "*fp16", "two": "*fp16", "blocks": "i32", "iterations": "i32"}
elif what == "fma":
    fixed = {"TURNS": own.TURNS, "BLOCK": own.PAIRS}
    function, signature, warps = code.fma, {"out": "*fp32", "a": "*fp32", "iterations": "i32"}, 4
else:
    fixed = {"KIND": own.KINDS[what], "BLOCK": own.BLOCK}
    function, warps = code.stream, 8
    signature = {"out": "*fp32", "one": "*fp32", "two": "*fp32", "blocks": "i32", "iterations": "i32"}
aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind.startswith("*")}
signature |= dict.fromkeys(fixed, "constexpr")
source = ASTSource(fn=function, signature=signature, constexprs=fixed, attrs=aligned)
made = triton.compile(source, target=GPUTarget("cuda", target, 32), options={"num_warps": warps, "num_stages": 1})
print(json.dumps(made.asm["ptx"]))
"""
MATRIX = {80: r"mma\.sync", 90: r"wgmma|mma\.sync", 100: r"tcgen05\.mma|mma\.sync"}
OWN_PATH = {
    (90, "bf16"): r"wgmma\.mma_async.*bf16",
    (90, "f8e4m3"): r"wgmma\.mma_async.*e4m3",
    (100, "bf16"): r"tcgen05\.mma.*kind::f16",
}


@pytest.mark.parametrize("target", [80, 90, 100])
@pytest.mark.parametrize("dtype", [each.dtype for each in registry.DOTS])
def test_a_dot_is_matrix_instructions_of_its_target(target: int, dtype: str, tmp_path: Path) -> None:
    each = next(each for each in registry.DOTS if each.dtype == dtype)
    if target not in each.targets:
        pytest.skip(f"{dtype} is not offered on sm_{target}")
    ptx = str(
        in_a_process(
            AHEAD.replace("sys.argv[1]", str(target)).replace("sys.argv[2]", repr(dtype)),
            120,
            TRITON_CACHE_DIR=str(tmp_path),
        )
    )
    assert re.search(OWN_PATH.get((target, dtype), MATRIX[target]), ptx)
    loop = ptx[ptx.index("$L__BB") :]
    assert re.search(MATRIX[target], loop)


@pytest.mark.parametrize("target", [80, 90, 100])
@pytest.mark.parametrize(("access", "loads", "stores"), [("read", 1, 1), ("copy", 1, 1), ("triad", 2, 1)])
def test_streams_move_128_bits_at_a_time(target: int, access: str, loads: int, stores: int, tmp_path: Path) -> None:
    ptx = str(
        in_a_process(
            AHEAD.replace("sys.argv[1]", str(target)).replace("sys.argv[2]", repr(access)),
            120,
            TRITON_CACHE_DIR=str(tmp_path),
        )
    )
    assert len(re.findall(r"ld\.global\.v4", ptx)) >= loads * own.BLOCK // (8 * 32 * 4)
    assert len(re.findall(r"st\.global\.v4", ptx)) >= stores
    assert not re.search(r"ld\.global\.b32", ptx)


@pytest.mark.parametrize(
    ("target", "matrix"),
    [(80, r"mma\.sync\S*m16n8k16"), (90, r"wgmma\.mma_async\S*m64n64k16"), (100, r"tcgen05\.mma\S*kind::f16")],
)
def test_every_mixed_product_is_in_the_loop_and_its_tile_is_loaded_128_bits_at_a_time(
    target: int, matrix: str, tmp_path: Path
) -> None:
    ptx = str(
        in_a_process(
            AHEAD.replace("sys.argv[1]", str(target)).replace("sys.argv[2]", "'mix_dot'"),
            120,
            TRITON_CACHE_DIR=str(tmp_path),
        )
    )
    # FLOP of one instruction of a warp, of the four warps of a group, of a block.
    flop = {80: 4 * 2 * 16 * 8 * 16, 90: 2 * 64 * 64 * 16, 100: 2 * 128 * 64 * 16}[target]
    assert len(re.findall(matrix, ptx)) * flop == 4 * 2 * 128 * 64 * 64
    assert len(re.findall(r"ld\.global\.v4|cp\.async\.cg\S*", ptx)) >= 128 * 64 * 2 // (128 * 16)


def test_the_vector_loop_holds_every_multiply_add(tmp_path: Path) -> None:
    ptx = str(
        in_a_process(
            AHEAD.replace("sys.argv[1]", "90").replace("sys.argv[2]", "'fma'"), 120, TRITON_CACHE_DIR=str(tmp_path)
        )
    )
    assert len(re.findall(r"fma\.rn\.f32", ptx)) == 2 * own.TURNS * own.PAIRS // 128


def test_formats_without_matrix_instructions_are_refused_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "no_torch", lambda _: None)
    ampere = Device(id="1" * 16, kind="cuda", name="invented", arch="sm_80", features=("sm_80",))
    sheets = {kernel.sheet.name: kernel.sheet for kernel in registry.kernels(ampere)}
    assert sheets["dot.bf16.f32.triton"].unavailable is None
    assert "no matrix instruction for f8e4m3 on sm_80" in (sheets["dot.f8e4m3.f32.triton"].unavailable or "")


class Spy(own.Job):
    """A FAKE job on no device: it writes down in which order things happen."""

    def __init__(self, said: list[str]) -> None:
        self.place, self.programs, self.said = "nowhere", 1, said
        self.torch = SimpleNamespace(cuda=SimpleNamespace(Event=self.event, device=lambda _: nullcontext()))
        self._tensors = {"out": SimpleNamespace(fill_=lambda _: said.append("poisoned"))}

    def event(self, *, enable_timing: bool) -> SimpleNamespace:
        assert enable_timing
        return SimpleNamespace(
            record=lambda: self.said.append("event"), synchronize=lambda: None, elapsed_time=lambda _: 1.0
        )

    def launch(self, iterations: int) -> None:
        self.said.append(f"launched {iterations}")

    def right(self, iterations: int) -> bool:
        return iterations == 5


def test_spoiling_the_result_is_no_part_of_the_time() -> None:
    said: list[str] = []
    timing = Spy(said).run(5)
    assert said == ["poisoned", "event", "launched 5", "event"]
    assert (timing.ns, timing.checked) == (1_000_000, True)


def test_no_count_is_compiled_into_a_kernel() -> None:
    code = """
import json
from microbench.kernels.triton import code
kernels = [code.dot, code.fma, code.stream, code.mix, code.mix_dot]
specialised = lambda kernel: [p.name for p in kernel.params if not p.is_constexpr and not p.do_not_specialize]
print(json.dumps([specialised(kernel) for kernel in kernels]))
"""
    specialised = in_a_process(code, 120)
    assert isinstance(specialised, list)
    assert not {name for names in specialised for name in names} & {"iterations", "blocks"}
