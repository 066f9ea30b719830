#!/usr/bin/env bash
# The package in an arm64 Debian under emulation: it installs, measures, reports and predicts, and its tests pass there,
# but for those that hold measured numbers against each other. No figure from it means anything: the emulator's speed is
# what is measured.
#
#   .ci/aarch64_chroot.sh [FOLDER [MIRROR]]     default: a temporary folder, and the mirror that apt takes Debian from
#
# FOLDER keeps the Debian for the next time; to make it takes a quarter of an hour. MICROBENCH_TESTS names tests, as
# pytest takes them, instead of all. The wheel is cross-built; with MICROBENCH_NATIVE=1 it is built in the chroot, too.
#
# All of it together gets half of the memory that is free, or MICROBENCH_MEMORY bytes: an emulator keeps tables of the
# addresses that a program asks for, and one that asked for a terabyte once took its machine down.
#
# Needs root, debootstrap, qemu-user-static and g++-aarch64-linux-gnu, by Debian's names. arm64 programs run in a user
# namespace with its own table of binary formats (Linux 6.7 or newer), so the machine's own stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
release=bookworm python=3.11 # what that release has
formats=/usr/lib/binfmt.d/qemu-aarch64.conf
export PIP_DISABLE_PIP_VERSION_CHECK=1

refuse() { echo "$1" >&2 && exit 2; }
for tool in debootstrap qemu-aarch64-static aarch64-linux-gnu-g++ python$python pkill unshare; do
  command -v "$tool" >/dev/null || refuse "$tool is missing (debootstrap, qemu-user-static, g++-aarch64-linux-gnu)"
done
[ "$(id -u)" = 0 ] || refuse "a chroot is made by root: run this as root"
mirrors=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages')
mirror=${2:-$(sed -n "s/ $release\$//p;" <<<"$mirrors" | head -1)}
[ -n "$mirror" ] || refuse "apt takes no Debian $release from anywhere: name a mirror, $0 FOLDER MIRROR"

# Nothing that is started from here on gets more memory together: by a scope of systemd, or a control group of either
# version. Where none can be made, no process alone gets more than a quarter of it for data, which leaves out the
# addresses that are only reserved.
free=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB$/\1/p' /proc/meminfo)
memory=${MICROBENCH_MEMORY:-$((free * 1024 / 2))} group=
if [ -d /run/systemd/system ] && [ -z "${MICROBENCH_IN_SCOPE:-}" ] && command -v systemd-run >/dev/null &&
  systemd-run --quiet --scope true 2>/dev/null; then
  MICROBENCH_IN_SCOPE=1 MICROBENCH_MEMORY=$memory exec systemd-run --quiet --scope \
    --property="MemoryMax=$memory" --property=MemorySwapMax=0 "$PWD/.ci/${0##*/}" "$@"
fi
own() { sed -n "s/^[0-9]*:$1://p" /proc/self/cgroup; }
confined() { # by a new group in this folder, with its limit in this file, out of a group that is left for as long
  group=$1/microbench-$$ back=$3/cgroup.procs
  mkdir "$group" 2>/dev/null && [ -e "$group/$2" ] && { echo "$memory" >"$group/$2" && echo $$ >"$group/cgroup.procs"; } 2>/dev/null ||
    { rmdir "$group" 2>/dev/null || true; group= && return 1; }
}
two=$(own '') one=$(own memory)
if [ -n "${MICROBENCH_IN_SCOPE:-}" ]; then
  limit="a scope of systemd"
elif confined "/sys/fs/cgroup${two%/*}" memory.max "/sys/fs/cgroup$two" ||
  confined "/sys/fs/cgroup/memory$one" memory.limit_in_bytes "/sys/fs/cgroup/memory$one"; then
  limit="a control group of its own"
else
  ulimit -d $((memory / 4 / 1024))
  limit="a quarter of it for the data of each process"
fi
echo "memory: $((memory >> 20)) MiB ($limit)"

fold=$(realpath -m "${1:-$(mktemp -d)}")
root=$fold/root pipes=$(mktemp -d) child=
keep=${1:+yes}
finish() {
  # unshare waits for the first process of its namespace, whatever it is sent; with that process all others end.
  [ -z "$child" ] || { pkill -KILL -P "$child" && wait "$child"; } || true
  if [ -n "$group" ]; then # what is still there is what this script started
    echo $$ >"$back"
    for _ in {1..50}; do
      mapfile -t others <"$group/cgroup.procs"
      [ ${#others[@]} -gt 0 ] || break
      kill -KILL "${others[@]}" 2>/dev/null || true
      sleep 0.1
    done
    rmdir "$group" || true
  fi
  rm -rf "$pipes"
  [ -n "$keep" ] || rm -rf --one-file-system "$fold"
}
trap finish EXIT
trap 'exit 130' INT TERM
mkdir -p "$fold"

step() { printf '\n== %s (after %d s)\n' "$1" $SECONDS; }

# A command in the chroot, as root of a user namespace in which arm64 programs run; who is outside maps the users into
# it. /sys is left out on purpose: the real processor's caches would show there, and a machine that tells none has to be
# planned for.
inside() {
  local status=0
  rm -f "$pipes"/*
  mkfifo "$pipes/up" "$pipes/go"
  unshare --user --mount --pid --fork bash -euc '
    echo >"$0/up"
    read -r _ <"$0/go"
    mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    cat "$1" >/proc/sys/fs/binfmt_misc/register
    mount -t proc proc "$2/proc"
    mount --rbind /dev "$2/dev"
    exec chroot "${@:2}"' "$pipes" "$formats" "$root" env -i HOME=/root LC_ALL=C.UTF-8 container=lxc \
    PATH=/venv/bin:/usr/sbin:/usr/bin PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 "$@" <&0 &
  child=$!
  read -r _ <"$pipes/up"
  echo "0 0 4294967295" >"/proc/$child/uid_map"
  echo "0 0 4294967295" >"/proc/$child/gid_map"
  echo >"$pipes/go"
  wait "$child" || status=$?
  child=
  return $status
}

if [ ! -e "$fold/ready" ]; then
  step "Debian $release for arm64"
  rm -rf --one-file-system "$root"
  packages=python3-venv,python3-dev,g++,binutils,ca-certificates,git,procps
  debootstrap --foreign --arch=arm64 --variant=minbase --include=$packages $release "$root" "$mirror" \
    >"$fold/debian.log"
  # Where debootstrap takes the machine for a container it links to the machine's own.
  [ ! -L "$root/proc" ] || { rm "$root/proc" && mkdir "$root/proc"; }
  inside /debootstrap/debootstrap --second-stage >>"$fold/debian.log"
  inside python3 -m venv /venv
  touch "$fold/ready"
fi

# This machine's pip, which knows an index, fetches the wheels; the chroot's installs them without any.
step "wheels of what it needs"
mapfile -t needs < <(python$python -c 'import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print(*project["dependencies"], *project["optional-dependencies"]["test"], sep="\n")')
build=('scikit-build-core>=0.11' 'pybind11>=2.13')
tags=()
for glibc in 17 24 26 27 28 31 34 35 36; do tags+=(--platform "manylinux_2_${glibc}_aarch64"); done
[ -d "$fold/tools" ] || python$python -m venv "$fold/tools"
"$fold/tools/bin/pip" install -q "${build[@]}"
"$fold/tools/bin/pip" download -q --dest "$root/wheels" --only-binary=:all: --python-version $python \
  --implementation cp --abi cp${python/./} --abi abi3 --abi none --platform manylinux2014_aarch64 "${tags[@]}" \
  -c constraints.txt "${needs[@]}" "${build[@]}" cmake ninja

step "the wheel, cross-built"
MICROBENCH_AARCH64_ROOT=$root CMAKE_TOOLCHAIN_FILE=$PWD/.ci/aarch64.cmake MICROBENCH_CUDA=OFF \
  _PYTHON_HOST_PLATFORM=linux-aarch64 SETUPTOOLS_EXT_SUFFIX=.cpython-${python/./}-aarch64-linux-gnu.so \
  "$fold/tools/bin/pip" wheel -q --no-build-isolation --no-deps -w "$root/wheels" --config-settings=build-dir="$fold/build" .
rm -rf "$root/src"
mkdir "$root/src"
git ls-files -z --cached --others --exclude-standard | tar --null -T - --ignore-failed-read -cf - 2>/dev/null |
  tar -C "$root/src" -xf -

step "installed, and tried as a user would"
inside pip install -q --no-index --find-links /wheels "${needs[@]}"
inside pip install -q --no-index --find-links /wheels --force-reinstall --no-deps microbench-roofline
rm -rf "$root/tried"
inside python /src/.ci/aarch64_commands.py /tried

# A folder at a time: what one of them takes, or breaks, says nothing of the others, and 5 is that all of it was left
# out by its marks.
failed=()
tested() {
  local begun=$SECONDS status=0
  step "$*"
  inside bash -c 'cd /src && exec python -m pytest -q -n "$(nproc)" --dist loadfile -m "$0" "$@"' \
    "not hardware and not timed and not nightly and not gpu" "$@" || status=$?
  [ $status -eq 0 ] || [ $status -eq 5 ] || failed+=("$*")
  printf '%d s\n' $((SECONDS - begun))
}
if [ -n "${MICROBENCH_TESTS:-}" ]; then
  # shellcheck disable=SC2086 # words of pytest
  tested $MICROBENCH_TESTS
else
  for folder in tests/*/; do
    [ -z "$(find "$folder" -name 'test_*.py' -print -quit)" ] || tested "$folder"
  done
  tested tests/test_*.py
fi

if [ -n "${MICROBENCH_NATIVE:-}" ]; then
  step "built in the chroot"
  inside env MICROBENCH_CUDA=OFF pip install -q --no-index --find-links /wheels --force-reinstall --no-deps /src
  inside microbench doctor --device cpu
fi
[ ${#failed[@]} -eq 0 ] || printf '\nfailed: %s\n' "${failed[@]}"
printf '\n%d s in all\n' $SECONDS
for file in ${group:+"$group/memory.peak" "$group/memory.max_usage_in_bytes"}; do
  [ ! -e "$file" ] || printf '%d MiB of memory at most, the files that it read included\n' $(($(<"$file") >> 20))
done
[ ${#failed[@]} -eq 0 ]
