#!/usr/bin/env bash
# On the machine with a package index: make, in this checkout or another one, the folder .gpu/ with all that a machine with a GPU and no network needs.
#
#   bash benchmarks/gpu_first_run/pack.sh [CHECKOUT]
#
# PYTHON3=path of a Python of the same minor version as the GPU machine's (3.12), to build the project's wheel here; without one the
# wheel is built there, by 16 cores within a minute. ARCH=all ships machine code for every target, else one target (sm_90a).
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO=$(cd "${1:-$HERE/../..}" && pwd)
MINOR=${MINOR:-12} ARCH=${ARCH:-sm_90a}
TO=$REPO/.gpu
BUILD=${BUILD_DIR:-$REPO/.gpu-build}
git -C "$REPO" rev-parse --git-dir >/dev/null
ignore=$(git -C "$REPO" rev-parse --git-path info/exclude); [ "${ignore#/}" = "$ignore" ] && ignore=$REPO/$ignore
mkdir -p "$(dirname "$ignore")"
for name in /.gpu/ /.gpu-build/; do grep -qxF "$name" "$ignore" 2>/dev/null || echo "$name" >> "$ignore"; done
rm -rf "$TO"; mkdir -p "$TO/wheels" "$TO/project" "$BUILD"
cp "$HERE"/first_run.sh "$HERE"/*.py "$HERE"/probe.cu "$TO/"

# What the GPU machine's Python lacks, at the versions of constraints.txt; everything else of [project.dependencies] is there.
wanted=()
for name in ${PACKAGES:-msgspec archspec rich-click}; do wanted+=("$(grep -iE "^$name==" "$REPO/constraints.txt" || echo "$name")"); done
platforms=(); for tag in 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${tag}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64 --platform manylinux1_x86_64)
python3 -m pip download -q --no-deps --only-binary=:all: --python-version "3.$MINOR" --implementation cp "${platforms[@]}" -d "$TO/wheels" "${wanted[@]}" 2>&1 | grep -v WARNING || true
ls "$TO"/wheels/*.whl >/dev/null
# Requirements of the project that are neither carried nor known to be there.
known=" ${THERE:-jinja2 matplotlib numpy nvidia-ml-py pandas psutil pyyaml rich scipy threadpoolctl click} "
python3 - "$REPO" "$TO" "$known" <<'PYTHON'
import re, sys, tomllib
from pathlib import Path
repo, to, known = sys.argv[1:]
needs = tomllib.loads(Path(repo, "pyproject.toml").read_text())["project"]["dependencies"]
have = set(known.split()) | {path.name.split("-")[0].lower().replace("_", "-") for path in Path(to, "wheels").glob("*.whl")}
missing = [need for need in needs if re.split(r"[<>=!~\[; ]", need)[0].lower() not in have]
print("requirements not carried and not known to be there:", ", ".join(missing) or "none")
PYTHON

# The project's own wheel, from a copy of what git tracks, so that a checkout is never edited.
fits() { "$1" -c "import sys; sys.exit(sys.version_info[:2] != (3, $MINOR))" 2>/dev/null; }
for each in "${PYTHON3:-}" "python3.$MINOR" "$HOME"/.pyenv/versions/3."$MINOR".*/bin/python3."$MINOR" /usr/local/bin/python3."$MINOR"; do
  [ -n "$each" ] && fits "$each" && { PYTHON3=$each; break; } || PYTHON3=
done
if [ -n "$PYTHON3" ]; then
  [ -x "$BUILD/venv/bin/python" ] || "$PYTHON3" -m venv "$BUILD/venv"
  "$BUILD/venv/bin/python" -c "import scikit_build_core, pybind11" 2>/dev/null || "$BUILD/venv/bin/python" -m pip install -q scikit-build-core pybind11 cmake ninja 2>&1 | grep -v WARNING || true
  # Times of files are kept, so that a second call builds only what changed.
  rm -rf "$BUILD/src"; mkdir -p "$BUILD/src"
  (cd "$REPO" && { git ls-files; git ls-files -o --exclude-standard; } | grep -v '^results/' | while read -r file; do [ -f "$file" ] && echo "$file"; done | tar -cf - -T - | tar -xpf - -C "$BUILD/src")
  targets=$ARCH; [ "$targets" = all ] && targets=
  MICROBENCH_CUDA_TARGETS=$targets PATH="$BUILD/venv/bin:$PATH" "$BUILD/venv/bin/python" -m pip wheel -q --no-deps --no-build-isolation -C build-dir="$BUILD/cmake" -w "$TO/project" "$BUILD/src"
  # The independent probe, linked statically against the runtime.
  if command -v nvcc >/dev/null; then nvcc -O3 -std=c++17 -gencode=arch=compute_90a,code=sm_90a -o "$TO/probe" "$TO/probe.cu" || rm -f "$TO/probe"; fi
else
  echo "no Python 3.$MINOR here: the wheel is built on the GPU machine"
fi
(cd "$TO" && find . -type f -printf '%9s %p\n' | sort -k2)
echo "carried: $(du -sk "$TO" | cut -f1) KiB; the working tree that travels: $(cd "$REPO" && { git ls-files -z; git ls-files -zo --exclude-standard; } | du -ck --files0-from=- 2>/dev/null | tail -1 | cut -f1) KiB"
