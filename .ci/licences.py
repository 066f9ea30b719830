"""The licence of every package that is installed with this one, or to build, test and document it: docs/licences.md.

``python .ci/licences.py`` asks the package index for what packages say of themselves; it needs uv (``pip install uv``)
and pip 23.2 or newer. Nothing is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from lock import HERE, pins

# Where a package says nothing, or only the text of its licence.
_KNOWN = {
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",
    "cycler": "BSD-3-Clause",
    "kiwisolver": "BSD-3-Clause",
    "matplotlib": "PSF-2.0",
    "nvidia-cusparselt-cu13": "LicenseRef-NVIDIA-Proprietary",
    "rich-click": "MIT",
    "scipy": "BSD-3-Clause",
}
_LONGEST = 40
_HEAD = """# Licences

microbench is under [Apache-2.0](https://www.apache.org/licenses/LICENSE-2.0). It contains no other project's code. The
packages that are installed with it, and those that build, test and document it, are under the licences below, as they
say themselves; `.ci/licences.py` makes this page. Packages of NVIDIA come with the extra `torch` or `nvrtc` and are
proprietary: their licence is at their own place, and none of their code is in ours.
"""
_SECTIONS = (
    ("Needed to run", "`pip install microbench-roofline` brings these."),
    ("With the extra torch", "On Linux with PyTorch from the index; builds for CPUs alone need none of NVIDIA's."),
    ("To build, test and document", "None of these is needed by who uses a built wheel."),
)


def every_package() -> dict[str, str]:
    """Names and versions of all extras and of what the build needs."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text())
    with tempfile.NamedTemporaryFile("w", suffix=".in") as asked:
        asked.write("\n".join([*project["build-system"]["requires"], "ninja", "cmake"]))
        asked.flush()
        command = ["uv", "pip", "compile", "pyproject.toml", asked.name, "--all-extras", "-c", "constraints.txt"]
        command += ["--universal", "--python-version", "3.12", "--no-header", "--no-annotate", "--quiet"]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if "sys_platform == 'win32'" not in line]
    return pins("\n".join(lines))


def told(packages: dict[str, str]) -> dict[str, str]:
    """The licence of each package, by what it says of itself."""
    with tempfile.TemporaryDirectory() as folder:
        asked, report = Path(folder) / "all.txt", Path(folder) / "report.json"
        asked.write_text("".join(f"{name}=={version}\n" for name, version in packages.items()))
        command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--no-deps"]
        subprocess.run([*command, "--report", report, "-r", asked], check=True)
        installs = json.loads(report.read_text())["install"]
    found = [entry["metadata"] for entry in installs]
    return {next(iter(pins(f"{each['name']}==0"))): licence_of(each) for each in found}


def licence_of(metadata: dict[str, Any]) -> str:
    """One package's licence: the expression, a short text, or the classifier."""
    name = next(iter(pins(f"{metadata['name']}==0")))
    text = " ".join((metadata.get("license") or "").split())
    classified = [each.split("::")[-1].strip() for each in metadata.get("classifier", []) if each.startswith("License")]
    said = metadata.get("license_expression") or _KNOWN.get(name) or (text if len(text) <= _LONGEST else "")
    return said or ", ".join(classified) or "unknown"


def page(packages: dict[str, str], licences: dict[str, str]) -> str:
    """The page: a table for each reason to have a package."""
    base, torch = (pins((HERE / name).read_text()) for name in ("lock.txt", "lock-torch.txt"))
    groups = (
        list(base),
        [name for name in torch if name not in base],
        [name for name in packages if name not in torch],
    )
    text = _HEAD
    for (title, says), names in zip(_SECTIONS, groups, strict=True):
        rows = "".join(f"| {name} | {licences[name]} |\n" for name in sorted(names))
        text += f"\n## {title}\n\n{says}\n\n| package | licence |\n| --- | --- |\n{rows}"
    return text


def main() -> None:
    """Write the page."""
    packages = every_package()
    packages |= pins((HERE / "constraints.txt").read_text()) | pins((HERE / "lock-torch.txt").read_text())
    licences = told(packages)
    unknown = [name for name in packages if licences.get(name, "unknown") == "unknown"]
    if unknown:
        raise SystemExit(f"these say nothing of their licence: {', '.join(unknown)}; look it up and add it to _KNOWN")
    (HERE / "docs" / "licences.md").write_text(page(packages, licences))
    print(f"docs/licences.md: {len(packages)} packages")


if __name__ == "__main__":
    main()
