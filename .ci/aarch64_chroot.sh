#!/usr/bin/env bash
# The package in an arm64 Debian under emulation: it installs, measures, reports and predicts, and its tests pass there, but for those that
# hold measured numbers against each other. No figure from it says anything of a processor: it is the emulator that is measured.
#
#   .ci/aarch64_chroot.sh [FOLDER [MIRROR]]     default: a temporary folder, and the mirror that apt on this machine takes Debian from
#
# FOLDER keeps the Debian and the wheels for the next time; without them it takes half an hour longer. The tests are those of
# MICROBENCH_TESTS, or all of tests/. The wheel is cross-built; MICROBENCH_NATIVE=1 builds it once more inside, with Debian's own compiler.
#
# Needs root, debootstrap, qemu-user-static and aarch64-linux-gnu-g++ (Debian: g++-aarch64-linux-gnu). arm64 programs run inside a user
# namespace that has its own table of binary formats (Linux 6.7 or newer), so that the machine's own stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
source=$PWD
kept=${1:-}
release=bookworm python=3.11
formats=/usr/lib/binfmt.d/qemu-aarch64.conf # of qemu-user-static
export PIP_DISABLE_PIP_VERSION_CHECK=1

for tool in debootstrap qemu-aarch64-static aarch64-linux-gnu-g++ unshare; do
  command -v "$tool" >/dev/null || { echo "$tool is not installed; this needs debootstrap, qemu-user-static and g++-aarch64-linux-gnu" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "a chroot is root's: run this as root" >&2; exit 2; }
mirror=${2:-$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | sed -n "s/ $release\$//p" | head -1)}
[ -n "$mirror" ] || { echo "apt on this machine knows no mirror with Debian $release: name one, $0 FOLDER MIRROR" >&2; exit 2; }
fold=$(realpath -m "${kept:-$(mktemp -d)}")
root=$fold/root
pipes=$(mktemp -d)
finish() {
  rm -rf "$pipes"
  [ -n "$kept" ] || rm -rf --one-file-system "$fold"
}
trap finish EXIT
mkdir -p "$fold"

step() { printf '\n== %s (%d s)\n' "$1" $SECONDS; }

# A command in the chroot, as root of a user namespace in which arm64 programs run. /sys is left out on purpose: there the emulator shows
# this machine's processor, and a machine that tells no caches is what has to be planned for. The namespace is mapped from outside, which
# only its parent may do for more than one user.
inside() {
  rm -f "$pipes"/*
  mkfifo "$pipes/up" "$pipes/go"
  unshare --user --mount --pid --fork --kill-child bash -euc '
    echo >"$0/up"
    read -r _ <"$0/go"
    mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    cat "$1" >/proc/sys/fs/binfmt_misc/register
    mount -t proc proc "$2/proc"
    mount --rbind /dev "$2/dev"
    exec chroot "${@:2}"' "$pipes" "$formats" "$root" env -i HOME=/root LC_ALL=C.UTF-8 container=lxc \
    PATH=/venv/bin:/usr/sbin:/usr/bin PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 "$@" <&0 &
  local child=$!
  read -r _ <"$pipes/up"
  echo "0 0 4294967295" >/proc/$child/uid_map
  echo "0 0 4294967295" >/proc/$child/gid_map
  echo >"$pipes/go"
  wait $child
}

if [ ! -e "$fold/ready" ]; then
  step "Debian $release for arm64"
  rm -rf --one-file-system "$root"
  debootstrap --foreign --arch=arm64 --variant=minbase --include=python3-venv,python3-dev,g++,binutils,ca-certificates,git,procps \
    $release "$root" "$mirror" >"$fold/debootstrap.log"
  [ ! -L "$root/proc" ] || { rm "$root/proc" && mkdir "$root/proc"; } # where debootstrap takes this machine for a container
  inside /debootstrap/debootstrap --second-stage >>"$fold/debootstrap.log"
  inside python3 -m venv /venv
  touch "$fold/ready"
fi
inside uname -m

# Wheels are fetched by this machine's pip, which knows its index, and installed by the chroot's, which needs none.
step "wheels of what it depends on"
mapfile -t needs < <(python3 -c 'import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
tools = {"clang-format", "import-linter", "mypy", "nvidia-cuda-nvdisasm", "ruff"}
test = [each for each in project["optional-dependencies"]["test"] if each.split(">")[0].split("=")[0] not in tools and "stubs" not in each]
print(*project["dependencies"], *[each for each in test if not each.startswith("types-")], sep="\n")')
platforms=()
for number in 17 24 26 27 28 31 34 35 36; do platforms+=(--platform "manylinux_2_${number}_aarch64"); done
python3 -m pip download -q --dest "$root/wheels" --only-binary=:all: --python-version $python --implementation cp --abi cp${python/./} \
  --abi abi3 --abi none --platform manylinux2014_aarch64 "${platforms[@]}" -c constraints.txt "${needs[@]}" 'scikit-build-core>=0.11' \
  'pybind11>=2.13' cmake ninja

step "the wheel, cross-built"
[ -d "$fold/tools" ] || python$python -m venv "$fold/tools"
"$fold/tools/bin/pip" install -q 'scikit-build-core>=0.11' 'pybind11>=2.13'
MICROBENCH_AARCH64_ROOT=$root CMAKE_TOOLCHAIN_FILE=$PWD/.ci/aarch64.cmake _PYTHON_HOST_PLATFORM=linux-aarch64 MICROBENCH_CUDA=OFF \
  SETUPTOOLS_EXT_SUFFIX=.cpython-${python/./}-aarch64-linux-gnu.so \
  "$fold/tools/bin/pip" wheel -q --no-build-isolation --no-deps -w "$root/wheels" -C build-dir="$fold/build" .
rm -rf "$root/src" "$root/results"
mkdir "$root/src"
git ls-files -z --cached --others --exclude-standard | tar --null -T - --ignore-failed-read -cf - | tar -C "$root/src" -xf -

step "installed, and what each command says"
inside pip install -q --no-index --find-links /wheels --force-reinstall --no-deps microbench-roofline
inside pip install -q --no-index --find-links /wheels "${needs[@]}"
inside bash -euc "$(sed -n '/^# commands$/,$p' "$source/.ci/aarch64_commands.sh")"

step "tests"
inside bash -c 'cd /src && python -m pytest -q -n 1 -m "not hardware and not timed and not nightly and not gpu" '"${MICROBENCH_TESTS:-tests}"

if [ -n "${MICROBENCH_NATIVE:-}" ]; then
  step "built inside"
  inside bash -euc 'cd /src && MICROBENCH_CUDA=OFF pip install --no-index --find-links /wheels --force-reinstall --no-deps . && microbench doctor'
fi
printf '\n%d s in all\n' $SECONDS
