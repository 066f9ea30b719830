"""What a user would try first, in the arm64 chroot of .ci/aarch64_chroot.sh: each command does it or says why not.

The figures are the emulator's, so none is looked at but for being there.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

# Half a minute is little for an emulator, and five are little for one on a busy machine; where all converges it ends.
KERNELS = ("fma.*", "read.*", "triad.f32*", "chase")
RUN = ["--quick", "--time-limit", "900s", *(word for name in KERNELS for word in ("--only", name))]
MATMUL = "matmul:m=512,n=512,k=512,dtype=f32"


def said(*arguments: str, code: int = 0) -> str:
    """Run a command that must end with a code, and without a traceback; returns what it wrote."""
    begun = time.monotonic()
    ran = subprocess.run(["microbench", *arguments], capture_output=True, text=True, check=False)
    print(f"{time.monotonic() - begun:6.0f} s  microbench {' '.join(arguments)}", flush=True)
    whole = ran.stdout + ran.stderr
    if ran.returncode != code or "Traceback" in whole:
        sys.exit(f"{whole}\nended with {ran.returncode} and not {code}")
    return whole


def refused(*arguments: str, code: int, sentence: str) -> None:
    """Run a command that cannot do what it is asked; it must say so in one line."""
    lines = said(*arguments, code=code).strip().splitlines()
    assert len(lines) == 1, lines
    assert re.search(sentence, lines[0]), lines


def measured(out: Path) -> Path:
    """Characterise the emulated processor; every loop must be right and proven, unless no time was left for any proof.

    On a busy machine none is left; `tests/proof` proves every loop of the build without a limit.
    """
    said("run", *RUN, "--out", str(out))
    [path] = out.glob("*/*.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    ceilings = record["ceilings"]
    kernels = {".".join(ceiling["name"].split(".")[:2]) for ceiling in ceilings}
    assert {"fma.f32", "fma.f64", "read.f32", "triad.f32"} <= kernels, kernels
    proofs = [ceiling["proof"] for ceiling in ceilings]
    left_out = all(proof["reason"] == "not examined" for proof in proofs)
    assert left_out or all(proof["status"] == "proven" for proof in proofs), proofs
    if left_out:
        print("         no time was left for the proof", flush=True)
    assert not [finding for finding in record["findings"] if finding["severity"] == "error"], record["findings"]
    codes = {finding["code"] for finding in record["findings"]}
    assert "emulated" in codes, codes
    # No /sys and no cpuid: a sweep has to show the caches, or a sentence says that none did.
    assert codes & {"levels-untold", "levels-unknown", "levels-flat"}, codes
    return path


def main(out: Path) -> None:
    """Try the commands one after the other, in a new folder."""
    out.mkdir()
    assert "every loop is disassembled" in re.sub(r"\s+", " ", said("doctor", "--device", "cpu"))
    assert "fma.f32.v128" in said("list", "kernels", "--device", "cpu")
    assert "matmul" in said("list", "operators")
    said("nominal")
    said("run", "--dry-run", "--quick")
    path = str(measured(out))
    said("report", path, "--html", str(out / "p.html"), "--md", str(out / "p.md"), "--png", str(out / "p.png"))
    for name in ("p.html", "p.md", "p.png"):
        assert (out / name).stat().st_size > 1000, name
    assert "limited by" in said("predict", "--op", MATMUL, "--calibration", path)
    said("compare", path, path)
    said("export", path, "--to", "pytorch", "-o", str(out / "device.py"))
    said("audit", str(out / "device.py"), "--against", path)
    refused("run", "--device", "cuda:0", code=3, sentence="no GPU can be used here")
    refused("validate", code=3, sentence="torch is not installed")
    refused(
        "predict",
        "--model",
        "torch.nn:Linear(3, 4)",
        "--input",
        "3x3:f32",
        "--calibration",
        path,
        code=2,
        sentence="No module named 'torch'",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
