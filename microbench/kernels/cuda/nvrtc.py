"""Machine code compiled on the user's machine by NVRTC, where no shipped cubin fits.

The library is found by its name and loaded by ctypes; what it compiled is kept per user.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from microbench.errors import CannotRun

OPTIONS = ("--std=c++17",)
_INCLUDE = re.compile(r'^#include "([^"]+)"$', re.MULTILINE)
_NAMED = re.compile(r"libnvrtc\.so\.(\d+)(?:\.(\d+))?")
_SYSTEM = ("/usr/local/cuda/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64")
VIRTUAL = "compute_"  # a target of this kind gives PTX, from which the driver makes machine code


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Library:
    """One NVRTC: its major version, and where it is."""

    major: int
    path: Path


def _folders() -> Iterator[Path]:
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        yield from Path(root).glob("cu*/lib")
        yield from Path(root).glob("cuda_nvrtc/lib")
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            yield Path(os.environ[name]) / "lib64"
    yield from (Path(part) for part in os.environ.get("LD_LIBRARY_PATH", "").split(":") if part)
    yield from (Path(folder) for folder in _SYSTEM)


def libraries() -> list[Library]:
    """List every NVRTC on this machine, the newest major first."""
    found: dict[int, Library] = {}
    for folder in _folders():
        for path in sorted(folder.glob("libnvrtc.so.*")) if folder.is_dir() else ():
            named = _NAMED.match(path.name)
            if named and path.suffix != ".a":
                found.setdefault(int(named[1]), Library(major=int(named[1]), path=path))
    return sorted(found.values(), reverse=True)


def usable(driver_version: int) -> Library | None:
    """Choose the newest NVRTC whose major version the driver supports.

    Parameters
    ----------
    driver_version
        12080 for a driver of CUDA 12.8.
    """
    return next((library for library in libraries() if library.major <= driver_version // 1000), None)


def install(driver_version: int) -> str:
    """Return the command that brings an NVRTC which a driver supports.

    Examples
    --------
    >>> install(12020), install(13000)
    ("pip install 'microbench-roofline[nvrtc12]'", "pip install 'microbench-roofline[nvrtc]'")
    """
    return f"pip install 'microbench-roofline[nvrtc{'12' if 0 < driver_version < 13000 else ''}]'"


class Compiler:
    """One NVRTC, loaded."""

    def __init__(self, library: Library) -> None:
        self.library = library
        # The built-ins live beside it under a name with the minor version, and NVRTC finds them only if they are loaded
        # already.
        for builtins in sorted(library.path.parent.glob(f"libnvrtc-builtins.so.{library.major}*")):
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        self._c = ctypes.CDLL(str(library.path))
        self._c.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._demand("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def _demand(self, call: str, *arguments: object) -> None:
        code = getattr(self._c, call)(*arguments)
        if code:
            version, said = getattr(self, "version", self.library.major), self._c.nvrtcGetErrorString(code).decode()
            raise CannotRun(f"{call} of NVRTC {version} failed: {said}")

    def knows(self, target: str) -> bool:
        """Whether this compiler has ever heard of a chip, for example ``sm_90a``."""
        count = ctypes.c_int()
        self._demand("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        found = (ctypes.c_int * count.value)()
        self._demand("nvrtcGetSupportedArchs", found)
        return int("".join(filter(str.isdigit, target)) or 0) in list(found)

    def image(self, source: str, name: str, target: str) -> bytes:
        """Compile one source text: to machine code for ``sm_``, to PTX for ``compute_`` targets.

        Raises
        ------
        CannotRun
            With the first line of what the compiler said.
        """
        program = ctypes.c_void_p()
        self._demand("nvrtcCreateProgram", ctypes.byref(program), source.encode(), name.encode(), 0, None, None)
        try:
            options = [f"--gpu-architecture={target}".encode(), *(option.encode() for option in OPTIONS)]
            array = (ctypes.c_char_p * len(options))(*options)
            if self._c.nvrtcCompileProgram(program, len(options), array):
                raise CannotRun(f"NVRTC {self.version} cannot compile {name} for {target}: {self._first_line(program)}")
            kind = "PTX" if target.startswith(VIRTUAL) else "CUBIN"
            size = ctypes.c_size_t()
            self._demand(f"nvrtcGet{kind}Size", program, ctypes.byref(size))
            code = ctypes.create_string_buffer(size.value)
            self._demand(f"nvrtcGet{kind}", program, code)
            return code.raw
        finally:
            self._c.nvrtcDestroyProgram(ctypes.byref(program))

    def _first_line(self, program: ctypes.c_void_p) -> str:
        size = ctypes.c_size_t()
        self._c.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value + 1)
        self._c.nvrtcGetProgramLog(program, log)
        lines = log.value.decode(errors="replace").splitlines()
        return next((line for line in lines if "error" in line), lines[0] if lines else "it did not say why")


def whole_text(source: Path) -> str:
    """Return a source's text with each included file in place of its line: NVRTC has no folder to look in."""
    text = source.read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda named: (source.parent / named[1]).read_text(encoding="utf-8"), text)


def cache_folder() -> Path:
    """Return where this user's compiled kernels are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "microbench" / "cubins"


def compiled(compiler: Compiler, source: Path, target: str) -> bytes:
    """Return the code of a source file for a target, from the cache where this version compiled this text before.

    A cache that cannot be written is no error.
    """
    text = whole_text(source)
    key = hashlib.sha256("\0".join((text, target, compiler.version, *OPTIONS)).encode()).hexdigest()
    kept = cache_folder() / f"{source.stem}.{target}.{key[:24]}.cubin"
    try:
        return kept.read_bytes()
    except OSError:
        code = compiler.image(text, source.name, target)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as part:
            part.write(code)
        Path(part.name).replace(kept)
    except OSError:
        pass
    return code
