"""Locks with hashes for installing a built wheel: lock.txt what it needs, lock-torch.txt with the extra torch.

``python .ci/lock.py`` makes both anew from pyproject.toml at the versions of constraints.txt, for every Python and
processor on Linux that the package supports; it needs uv (``pip install uv``) and the package index. ``python
.ci/lock.py WHEEL [LOCK]`` installs a wheel by a lock into a new virtual environment, and nothing that is not in it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
LOCKS = {"lock.txt": (), "lock-torch.txt": ("torch",)}
_SAYS = """\
# What a built wheel needs{extra}, with hashes:
# pip install --require-hashes -r {name} && pip install --no-deps WHEEL
# Made by .ci/lock.py. A source build takes constraints.txt, which has no hashes.
"""


def pins(text: str) -> dict[str, str]:
    """Names and versions that a lock or the constraints pin; names as the index spells them."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def make(name: str, extras: tuple[str, ...]) -> str:
    """Resolve one lock."""
    asked = [argument for extra in extras for argument in ("--extra", extra)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write((HERE / "constraints.txt").read_text())
        constraints.flush()
        command = ["uv", "pip", "compile", "pyproject.toml", *asked, "-c", constraints.name, "--universal"]
        command += ["--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True)
    entries = re.split(r"^(?=[a-z0-9])", done.stdout, flags=re.MULTILINE | re.IGNORECASE)
    # The package is for Linux: what another system would need is never installed.
    kept = "".join(entry for entry in entries if "sys_platform == 'win32'" not in entry.partition("\n")[0])
    head = _SAYS.format(name=name, extra=" with the extra torch" if extras else "")
    return head + kept.replace(" and sys_platform == 'linux'", "").replace(" ; sys_platform == 'linux'", "")


def prove(wheel: Path, lock: Path) -> None:
    """Install a wheel by a lock, and ask it for its version."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        pip = [python, "-m", "pip", "install", "-q"]
        subprocess.run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", lock], check=True)
        subprocess.run([*pip, "--no-deps", wheel], check=True)
        subprocess.run([python, "-m", "pip", "check"], check=True)
        subprocess.run([python, "-I", "-m", "microbench", "--version"], check=True, cwd=folder)
    print(f"{wheel.name} was installed by {lock.name}: {len(pins(lock.read_text()))} packages, each by its hash")


def main() -> None:
    """Make the locks, or prove one."""
    if len(sys.argv) > 1:
        prove(Path(sys.argv[1]).resolve(), Path(sys.argv[2] if len(sys.argv) > 2 else HERE / "lock.txt").resolve())
        return
    for name, extras in LOCKS.items():
        text = make(name, extras)
        (HERE / name).write_text(text)
        print(f"{name}: {len(pins(text))} packages")


if __name__ == "__main__":
    main()
