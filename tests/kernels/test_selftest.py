from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import once
import pytest
from places import ROOT, SOURCES, TESTS

WRONG = TESTS / "kernels" / "wrong_kernels.cpp"

FLAWS = (
    "drops_an_iteration",
    "drops_a_step",
    "skips_a_chain",
    "skips_a_lane",
    "permutes_an_operand",
    "never_turns",
    "rounds_up",
)
CROSS = "aarch64-linux-gnu-g++"

# The suite checks the same kernels through the installed module (test_cpu.py, test_pages.py); building the plain
# executable takes longer than all of that.
pytestmark = pytest.mark.nightly


def need(*tools: str) -> None:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def build(*options: str, compiler: str = "c++") -> Path:
    """Build the self-test without Python and return the executable; of the same sources it is built once."""
    need("cmake", compiler)
    settings = ["-DMICROBENCH_MODULE=OFF", "-DMICROBENCH_SELFTEST=ON", "-DMICROBENCH_WERROR=ON", *options]
    settings.append(f"-DCMAKE_CXX_COMPILER={compiler}")
    if shutil.which("ccache"):  # has what the wheel's build compiled with the same flags
        settings.append("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")
    settings += ["-G", "Ninja"] if shutil.which("ninja") else []

    def compile_to(out: Path) -> None:
        folder = out.with_name("build")
        configure = ["cmake", "-S", ROOT, "-B", folder, *settings]
        for command in (configure, ["cmake", "--build", folder, "--parallel", "2"]):
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
        (folder / "microbench-selftest").rename(out)

    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True).stdout
    sources = [path for path in (*SOURCES.glob("*"), *(SOURCES / "cpu").rglob("*"), WRONG) if path.is_file()]
    name = once.key(version, *settings, files=[*sources, ROOT / "CMakeLists.txt"])
    return once.made(f"selftest-{name}", compile_to)


def run(*command: str | Path) -> tuple[int, dict[str, str]]:
    """Run the self-test; returns its exit status and what it says of each kernel."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    lines = [line.split(None, 1) for line in done.stdout.splitlines()]
    assert lines, done.stderr
    assert lines[-1][1].startswith("kernels"), done.stdout + done.stderr
    return done.returncode, {line[0]: line[1] for line in lines[:-1]}


@pytest.fixture(scope="session")
def with_wrong_kernels() -> Path:
    return build(f"-DMICROBENCH_SELFTEST_EXTRA={WRONG}")


def test_every_real_kernel_is_right_or_unavailable(with_wrong_kernels: Path) -> None:
    _, says = run(with_wrong_kernels)
    real = {name: words for name, words in says.items() if not name.startswith("wrong.")}
    assert len(real) > 20
    assert {words.split(":")[0].split(" (")[0] for words in real.values()} <= {
        "right",
        "ran",
        "unavailable",
        "cannot run here",
    }


def test_the_lane_by_lane_reference_agrees_with_the_check(with_wrong_kernels: Path) -> None:
    assert run(with_wrong_kernels, "wrong.none") == (0, {"wrong.none": "right"})


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_wrong_kernel_is_caught(with_wrong_kernels: Path, flaw: str) -> None:
    status, says = run(with_wrong_kernels, f"wrong.{flaw}")
    assert status == 1
    assert says[f"wrong.{flaw}"].startswith("WRONG after")


def test_a_thread_that_fails_does_not_keep_the_others_waiting(with_wrong_kernels: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPUs")
    assert run(with_wrong_kernels, "wrong.deserts") == (1, {"wrong.deserts": "FAILED: the last thread has gone"})


def test_a_word_that_selects_nothing_is_no_success(with_wrong_kernels: Path) -> None:
    done = subprocess.run([with_wrong_kernels, "nothing.of.that.name"], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "0 kernels" in done.stdout


def test_an_instruction_set_can_be_capped_and_an_unknown_cap_is_refused(with_wrong_kernels: Path) -> None:
    done = subprocess.run(
        [with_wrong_kernels], check=False, capture_output=True, text=True, env={**os.environ, "MICROBENCH_ISA": "avx9"}
    )
    assert done.returncode == 2
    assert "MICROBENCH_ISA=avx9 names no instruction set; known here:" in done.stderr


def test_aarch64_passes_under_emulation() -> None:
    need("qemu-aarch64")
    system = ("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DCMAKE_EXE_LINKER_FLAGS=-static")
    status, says = run("qemu-aarch64", build(*system, compiler=CROSS))
    assert status == 0, says
    assert says["fma.f32.v128"] == says["fma.f16.v128"] == says["dot.i8.i32.v128"] == "right"


def test_clang_builds_the_same_kernels_without_a_warning() -> None:
    status, says = run(build(compiler="clang++"))
    assert status == 0, says


SANITIZERS = ("address,undefined", "thread")


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_sanitizers_find_nothing(sanitizer: str) -> None:
    status, says = run(build(f"-DMICROBENCH_SANITIZE={sanitizer}"))
    assert status == 0, says


@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize("seed", ["0", "1"])
def test_a_thousand_random_jobs_on_several_threads_are_right_under_sanitizers(sanitizer: str, seed: str) -> None:
    command = [build(f"-DMICROBENCH_SANITIZE={sanitizer}"), "--jobs", "1000", seed]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1000 prepared" in done.stdout
    assert done.stdout.endswith(" 0 wrong\n")
