"""Build a wheel in every mode of the CUDA option, install each into a virtual environment, and check what it can do.

``python .ci/install_modes.py [FOLDER]`` needs the network (or a filled cache) for the environment's packages and for
the mode that takes nvcc from the index; the modes with nvcc on the path are left out where there is none. It prints one
line a mode and fails at the first difference from what the mode must give.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
NVCC = shutil.which("nvcc")
# Folders in which CMake finds nvcc by itself: the modes without nvcc hide them.
HIDDEN = ";".join(
    dict.fromkeys(filter(None, ("/usr/local/bin", "/usr/local/cuda/bin", str(Path(NVCC).parent) if NVCC else None)))
)


# Which of the installed cubins are byte for byte those that were examined.
PROVEN = """
import hashlib, json
from microbench.kernels.cuda.code import installed
from microbench.proof import golden
known = golden.hashes()
cubins = sorted(installed().glob("*.cubin"))
print(json.dumps([hashlib.sha256(path.read_bytes()).hexdigest() in known for path in cubins]))
"""


@dataclass(frozen=True, kw_only=True)
class Mode:
    """One way to build: environment, whether nvcc is visible, and what the wheel must have or the build must say."""

    name: str
    environment: dict[str, str]
    nvcc: bool
    cubins: bool
    fails_with: str | None = None
    isolated: bool = False


MODES = (
    Mode(name="OFF", environment={"MICROBENCH_CUDA": "OFF"}, nvcc=True, cubins=False),
    Mode(name="AUTO without nvcc", environment={}, nvcc=False, cubins=False),
    Mode(name="AUTO with nvcc", environment={}, nvcc=True, cubins=True),
    Mode(
        name="ON without nvcc",
        environment={"MICROBENCH_CUDA": "ON"},
        nvcc=False,
        cubins=False,
        fails_with="MICROBENCH_CUDA=ON, but",
    ),
    Mode(
        name="ON with nvcc from the index",
        environment={"MICROBENCH_CUDA": "ON", "MICROBENCH_CUDA_WHEELS": "1"},
        nvcc=False,
        cubins=True,
        isolated=True,
    ),
)


def demand(what: object, says: str) -> None:
    """End with a sentence unless something holds."""
    if not what:
        raise SystemExit(f"failed: {says}")


def build(mode: Mode, folder: Path) -> Path | None:
    """Build the wheel; ``None`` where the build fails as it must."""
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "-w", str(folder)]
    command += ["-C", f"build-dir={folder}/build"]
    command += [] if mode.isolated else ["--no-build-isolation"]
    command += [] if mode.nvcc else ["-C", f"cmake.define.CMAKE_IGNORE_PATH={HIDDEN}"]
    seen = {name: value for name, value in os.environ.items() if name not in ("CUDA_HOME", "CUDA_PATH") or mode.nvcc}
    seen.pop("MICROBENCH_CUDA", None)
    done = subprocess.run(
        [*command, str(HERE)], env=seen | mode.environment, capture_output=True, text=True, check=False
    )
    said = " ".join((done.stdout + done.stderr).split())
    if mode.fails_with:
        demand(
            done.returncode and mode.fails_with in said,
            f"{mode.name}: {mode.fails_with!r} was not said:\n{done.stdout[-2000:]}",
        )
        return None
    demand(done.returncode == 0, f"{mode.name}: the wheel was not built:\n{(done.stdout + done.stderr)[-3000:]}")
    return next(folder.glob("*.whl"))


def contents(mode: Mode, wheel: Path) -> str:
    """Look into a wheel: cubins where they must be, sources always."""
    names = zipfile.ZipFile(wheel).namelist()
    cubins, sources = ([name for name in names if name.endswith(end)] for end in (".cubin", ".cu"))
    demand(bool(cubins) == mode.cubins, f"{mode.name}: {len(cubins)} cubins in {wheel.name}")
    demand(sources, f"{mode.name}: no CUDA sources in {wheel.name}, so that NVRTC has nothing to compile")
    return f"{wheel.stat().st_size / 1e6:.2f} MB, {len(cubins)} cubins, {len(sources)} sources"


def json_rows(mode: Mode, python: Path, folder: Path, *arguments: str) -> list[dict[str, str]]:
    """The rows that a command of the installed product prints as JSON."""
    command = [str(python), "-I", "-m", "microbench", *arguments, "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    demand(done.stdout.strip(), f"{mode.name}: {' '.join(arguments)} said nothing: {done.stderr[-500:]}")
    found = json.loads(done.stdout)
    rows: list[dict[str, str]] = (
        found if isinstance(found, list) else next(value for value in found.values() if isinstance(value, list))
    )
    return rows


def behaviour(mode: Mode, python: Path, wheel: Path) -> str:
    """Install a wheel alone, and ask the product where its kernels' code comes from."""
    subprocess.run([python, "-m", "pip", "install", "-q", "--force-reinstall", "--no-deps", str(wheel)], check=True)
    ask = partial(json_rows, mode, python, wheel.parent)
    rows = ask("list", "kernels", "--device", "cuda:0", "--arch", "sm_90a")
    from_cubin = [row for row in rows if str(row["source"]).startswith("cubin ")]
    missing = [row for row in rows if "wgmma" in row["kernel"] and str(row["available"]).startswith("no:")]
    demand(bool(from_cubin) == mode.cubins, f"{mode.name}: {len(from_cubin)} kernels of {len(rows)} come from a cubin")
    if not mode.cubins:
        reasons = {row["available"] for row in missing}
        demand(all("pip install" in said for said in reasons), f"{mode.name}: no remedy in {reasons}")
    else:
        demand(not missing, f"{mode.name}: {missing[:1]}")
    said = " / ".join(str(finding["says"]) for finding in ask("doctor") if finding["check"] in ("cubins", "nvrtc"))
    demand("cubins" in said and "NVRTC" in said, f"{mode.name}: doctor says {said!r}")
    demand(
        mode.cubins or "Triton" in said or "compiles" in said,
        f"{mode.name}: doctor names no way without cubins: {said!r}",
    )
    proven = json.loads(
        subprocess.run(
            [python, "-I", "-c", PROVEN], capture_output=True, text=True, check=True, cwd=wheel.parent
        ).stdout
    )
    found = (
        f"{len(from_cubin)} of {len(rows)} kernels of sm_90a from cubins, {sum(proven)} of {len(proven)} cubins in the "
        "golden table"
    )
    return f"{found}; doctor: {said}"


def main() -> None:
    """Go through the modes."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else made).resolve()
        environment = folder / "venv"
        if not environment.exists():
            venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        fresh = True
        for number, mode in enumerate(MODES):
            if mode.nvcc and mode.cubins and NVCC is None:
                print(f"{mode.name}: left out, no nvcc on the path")
                continue
            place = folder / f"mode{number}"
            place.mkdir(parents=True, exist_ok=True)
            wheel = build(mode, place)
            if wheel is None:
                print(f"{mode.name}: refused, {mode.fails_with!r}")
                continue
            if fresh:
                subprocess.run(
                    [python, "-m", "pip", "install", "-q", "-c", str(HERE / "constraints.txt"), str(wheel)], check=True
                )
                fresh = False
            print(f"{mode.name}: {contents(mode, wheel)}; {behaviour(mode, python, wheel)}", flush=True)


if __name__ == "__main__":
    main()
