"""The project's own declarations of the driver API against the vendor's header, wherever one is installed."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from places import SOURCES

from microbench.hardware import cuda

CUDA = SOURCES / "cuda"
ROW = re.compile(r'(\w+)\{this,\s*"(cu\w+)"')

# Same depth of pointers, same size and kind at the bottom; opaque handles are incomplete structs on both sides.
CHECKS = r"""
#include <cuda.h>
#include <type_traits>
#include "driver.hpp"
template <class T> concept complete = requires { sizeof(T); };
template <class A, class B> constexpr bool alike() {
  using a = std::remove_cv_t<A>; using b = std::remove_cv_t<B>;
  if constexpr (std::is_pointer_v<a> || std::is_pointer_v<b>) {
    if constexpr (std::is_pointer_v<a> && std::is_pointer_v<b>)
      return std::is_const_v<std::remove_pointer_t<a>> == std::is_const_v<std::remove_pointer_t<b>>
          && alike<std::remove_pointer_t<a>, std::remove_pointer_t<b>>();
    else return false;
  } else if constexpr (std::is_void_v<a> || std::is_void_v<b>) return std::is_void_v<a> && std::is_void_v<b>;
  else if constexpr (complete<a> && complete<b>)
    return sizeof(a) == sizeof(b) && std::is_class_v<a> == std::is_class_v<b>
        && std::is_floating_point_v<a> == std::is_floating_point_v<b>;
  else return complete<a> == complete<b>;
}
template <class Row, class Vendor> struct same : std::false_type {};
template <class... A, class... B> struct same<mb::cuda::Call<A...>, CUresult(B...)> {
  static constexpr bool value = [] {
    if constexpr (sizeof...(A) == sizeof...(B)) return (alike<A, B>() && ...);
    else return false;
  }();
};
"""
CONSTANTS = {
    "success": "CUDA_SUCCESS",
    "error_not_found": "CUDA_ERROR_NOT_FOUND",
    "error_peer_already_enabled": "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED",
    "event_default": "CU_EVENT_DEFAULT",
    "stream_non_blocking": "CU_STREAM_NON_BLOCKING",
    "host_alloc_portable_mapped": "CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP",
    "capture_thread_local": "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL",
}
VENDOR_ATTRIBUTES = {
    "warp_size": "WARP_SIZE",
    "clock_khz": "CLOCK_RATE",
    "multiprocessors": "MULTIPROCESSOR_COUNT",
    "kernel_timeout": "KERNEL_EXEC_TIMEOUT",
    "integrated": "INTEGRATED",
    "compute_mode": "COMPUTE_MODE",
    "ecc": "ECC_ENABLED",
    "memory_clock_khz": "MEMORY_CLOCK_RATE",
    "bus_bits": "GLOBAL_MEMORY_BUS_WIDTH",
    "l2_bytes": "L2_CACHE_SIZE",
    "threads_per_multiprocessor": "MAX_THREADS_PER_MULTIPROCESSOR",
    "major": "COMPUTE_CAPABILITY_MAJOR",
    "minor": "COMPUTE_CAPABILITY_MINOR",
    "shared_per_multiprocessor": "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR",
    "registers_per_multiprocessor": "MAX_REGISTERS_PER_MULTIPROCESSOR",
    "shared_per_block_optin": "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN",
    "blocks_per_multiprocessor": "MAX_BLOCKS_PER_MULTIPROCESSOR",
}


def headers() -> dict[str, Path]:
    found = {}
    for folder in sorted(Path("/usr/local").glob("cuda*/include")):
        found["toolkit"] = folder
    if (spec := importlib.util.find_spec("triton")) is not None and spec.origin:
        found["triton"] = Path(spec.origin).parent / "backends" / "nvidia" / "include"
    return {name: folder for name, folder in found.items() if (folder / "cuda.h").is_file()}


def compiled(text: str, include: Path) -> subprocess.CompletedProcess[str]:
    command = ["g++", "-std=c++20", "-fsyntax-only", "-w", f"-I{include}", f"-I{CUDA}", "-x", "c++", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=600)


def statements() -> str:
    rows = ROW.findall((CUDA / "driver.hpp").read_text())
    assert len(rows) > 40
    lines = []
    for member, exported in rows:
        ours, theirs = f"decltype(mb::cuda::Table::{member})", f"std::remove_pointer_t<decltype(&{exported})>"
        lines.append(f'static_assert(same<{ours}, {theirs}>::value, "{exported}");')
    lines += [f'static_assert(mb::cuda::{ours} == ({theirs}), "{ours}");' for ours, theirs in CONSTANTS.items()]
    assert set(VENDOR_ATTRIBUTES) == set(cuda.ATTRIBUTES)
    lines += [
        f'static_assert({cuda.ATTRIBUTES[ours]} == CU_DEVICE_ATTRIBUTE_{theirs}, "{ours}");'
        for ours, theirs in VENDOR_ATTRIBUTES.items()
    ]
    return CHECKS + "\n".join(lines)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
@pytest.mark.parametrize("origin", ["toolkit", "triton"])
def test_the_declarations_are_those_of_the_vendors_header(origin: str) -> None:
    if origin not in headers():
        pytest.skip(f"no cuda.h from {origin}")
    result = compiled(statements(), headers()[origin])
    assert result.returncode == 0, result.stderr[:3000]


@pytest.mark.skipif(shutil.which("g++") is None or not headers(), reason="no g++ or no cuda.h")
def test_a_wrong_declaration_would_be_seen() -> None:
    wrong = (
        CHECKS
        + "static_assert(same<mb::cuda::Call<unsigned>, std::remove_pointer_t<decltype(&cuDeviceGetCount)>>::value);"
    )
    assert compiled(wrong, next(iter(headers().values()))).returncode != 0
