"""Regenerate every golden file of the checkout, and say which of them changed.

    python .ci/golden.py [--list] [PART...]

Parts, in the order in which one reads what another wrote: ``sass`` (microbench/proof/sass.csv and cubins.csv, from all
kernels compiled by nvcc 13.0.88; also needs nvdisasm), ``counts`` (tests/data/ptx_counts.json, by the tests' PTX
interpreter; nvcc too), ``fakes`` (tests/data/fake-cpu.json and fake-cuda.json), ``snapshots`` (tests/data/export, the
pages and terminals of tests/report: every test that takes ``file_regression`` or ``data_regression``), ``manual``
(share/: manual pages and completion scripts). Without names
all of them, and those whose tools are missing here are named with the reason. What nvcc compiled is kept between
calls, so that only the first one takes minutes.

Nothing is committed: on a clean tree with unchanged sources nothing may change, and after an intended change the
difference is read before it is committed. Exit code 0: nothing changed; 1: something did, or a part failed; 3: a named
part cannot run here.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
DATA = TESTS / "data"
FIXTURES = ("file_regression", "data_regression")
GOLDEN = ("microbench/proof", "share", "tests")  # where golden files lie
NVCC = "V13.0.88"  # the version whose machine code the tables describe


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some golden files: what writes them, and why that cannot be done here (``None`` where it can)."""

    says: str
    write: Callable[[], None]
    why_not: Callable[[], str | None] = lambda: None


def no_nvcc() -> str | None:
    """Why machine code of the golden tables cannot be made here."""
    from ptx import toolchain

    if NVCC not in (toolchain.nvcc() or ""):
        return f"the golden tables are for nvcc {NVCC.removeprefix('V')}, which is not on the path"
    return None


def no_disassembler() -> str | None:
    """Why machine code cannot be made or read here."""
    from microbench.proof import sass

    if sass.nvdisasm() is None:
        return "there is no nvdisasm; pip install nvidia-cuda-nvdisasm==13.5.37"
    return no_nvcc()


def write_sass() -> None:
    """Compile every family for every target, and write what their loops hold."""
    from ptx import toolchain

    from microbench.kernels.cuda.rows import FAMILIES
    from microbench.proof import golden

    builds = [(family, target) for family, targets in FAMILIES.items() for target in targets]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:

        def build(family: str, target: str) -> None:
            made = toolchain.compiled(toolchain.source(family), target)
            (Path(folder) / f"{family}.{target}.cubin").symlink_to(made)

        list(pool.map(build, *zip(*builds, strict=True)))
        if golden.main(Path(folder), ROOT / "microbench" / "proof"):
            raise SystemExit("the machine code is not what its rows say: nothing was written")


def write_counts() -> None:
    """Interpret the PTX of every kernel, and write what it counts."""
    from ptx import counts

    counts.KEPT.write_text(counts.text())


def write_fakes() -> None:
    """Write the made-up characterisations."""
    for script in sorted(DATA.glob("make_fake_*.py")):
        subprocess.run([sys.executable, str(script)], check=True, cwd=ROOT)


def write_snapshots() -> None:
    """Run the tests whose expectation is a file, and let them write it."""
    files = [path for path in sorted(TESTS.rglob("test_*.py")) if any(name in path.read_text() for name in FIXTURES)]
    named = " or ".join(snapshot_tests(files))
    command = [sys.executable, "-m", "pytest", "-q", "--regen-all", "-k", named, *map(str, files)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the snapshots could not be written:\n{done.stdout[-4000:]}{done.stderr[-1000:]}")


def snapshot_tests(files: list[Path]) -> list[str]:
    """Names of the tests that take one of `FIXTURES`."""
    nodes = (node for path in files for node in ast.walk(ast.parse(path.read_text())))
    tests = (node for node in nodes if isinstance(node, ast.FunctionDef))
    return [test.name for test in tests if any(each.arg in FIXTURES for each in test.args.args)]


def write_manual() -> None:
    """Write the manual pages and completion scripts."""
    import manual

    manual.write()


PARTS = {
    "sass": Part(says="microbench/proof/*.csv", write=write_sass, why_not=no_disassembler),
    "counts": Part(says="tests/data/ptx_counts.json", write=write_counts, why_not=no_nvcc),
    "fakes": Part(says="tests/data/fake-*.json", write=write_fakes),
    "manual": Part(says="share/", write=write_manual),
    "snapshots": Part(says="tests/data/export, tests/report", write=write_snapshots),
}


def states() -> dict[str, bytes]:
    """The bytes of every file that could be golden."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *GOLDEN], cwd=ROOT, check=True, capture_output=True, text=True
    )
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    return {str(path.relative_to(ROOT)): path.read_bytes() for path in paths if path.is_file()}


def main() -> int:
    """Write the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART")
    parser.add_argument("--list", action="store_true", help="name the parts and what each writes")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:10} {part.says}" for name, part in PARTS.items()))
        return 0
    sys.path[:0] = [str(ROOT), str(ROOT / ".ci"), str(TESTS), str(TESTS / "fakes"), str(DATA)]
    before, lacking = states(), {}
    for name in options.parts or PARTS:
        reason = PARTS[name].why_not()
        if reason:
            lacking[name] = reason
            print(f"{name}: left out: {reason}")
            continue
        print(f"{name}: writing {PARTS[name].says}", flush=True)
        PARTS[name].write()
    after = states()
    changed = sorted(name for name in before | after if before.get(name) != after.get(name))
    print("changed: " + (", ".join(changed) or "nothing"))
    if options.parts and lacking:
        return 3
    return 1 if changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
