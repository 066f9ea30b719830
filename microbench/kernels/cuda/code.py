"""Which machine code a device gets for each family of kernels, and where it comes from.

The order: the cubin of exactly this chip, of its family, of the highest lower minor of its major; else NVRTC compiles
the shipped source for this chip; for a chip that NVRTC does not know either, to PTX of the newest chip that is no
newer, from which the driver makes the code.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from microbench.errors import CannotRun, UsageError
from microbench.hardware import extensions
from microbench.kernels.cuda import cubin, nvrtc
from microbench.kernels.cuda.rows import ROWS, TARGETS, CudaRow
from microbench.records import Device

PRELUDE = "prelude.cuh"  # what every source includes
# Where machine code may come from: "cubin" and "nvrtc" force the one or the other, for tests and for doubts.
FORCE = "MICROBENCH_CUDA_CODE"
FORCED = ("cubin", "nvrtc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Machine code of one family, and where it came from."""

    family: str
    target: str
    image: bytes
    source: str

    @property
    def hash(self) -> str:
        """First 16 hex digits of the image's SHA-256."""
        return hashlib.sha256(self.image).hexdigest()[:16]


def installed() -> Path:
    """Return the folder of the cubins and sources that came with the package."""
    return Path(extensions.cuda().__file__ or "").parent / "cuda"


def row_target(device: Device) -> str | None:
    """Return the target whose rows describe a device: one that it runs; for an unknown chip the newest generic one.

    A generic target is one without features of a chip or family; an unknown newer chip has at least those.
    """
    for target in device.features:
        if target in TARGETS:
            return target
    generic = [target for target in TARGETS if target[-1].isdigit() and _number(target) <= _number(device.arch)]
    return max(generic, key=_number, default=None)


def _number(target: str) -> int:
    return int("".join(filter(str.isdigit, target)) or 0)


def forced() -> str | None:
    """Return where the user wants all machine code to come from; ``None`` where the usual order holds.

    Raises
    ------
    UsageError
        If ``MICROBENCH_CUDA_CODE`` has another word.
    """
    word = os.environ.get(FORCE) or None
    if word not in (None, *FORCED):
        raise UsageError(f"{FORCE} is {word!r}; it can be {' or '.join(FORCED)}, or be left out")
    return word


class Library:
    """The machine code for one device, loaded from disk or compiled when it is first asked for.

    Parameters
    ----------
    device
        The device.
    driver_version
        12080 for CUDA 12.8; what it supports decides between cubins and NVRTC.
    """

    def __init__(self, device: Device, driver_version: int) -> None:
        self.device = device
        self.driver_version = driver_version
        self.folder = installed()
        self.target = row_target(device)
        self._codes: dict[str, Code] = {}
        self._reasons: dict[str, str | None] = {}
        self._symbols: dict[Path, tuple[str, ...]] = {}

    @classmethod
    def here(cls, device: Device) -> Library:
        """Return the library for a device of this machine, under the driver that is installed."""
        return cls(device, extensions.cuda().driver_version())

    @cached_property
    def compiler(self) -> nvrtc.Compiler | None:
        """The NVRTC that this driver's images may come from."""
        library = self.nvrtc_found
        return nvrtc.Compiler(library) if library else None

    @property
    def nvrtc_found(self) -> nvrtc.Library | None:
        """The newest NVRTC that this driver's images may come from, not loaded; ``None`` where it is unwanted."""
        return None if forced() == "cubin" else nvrtc.usable(self.driver_version)

    @cached_property
    def cubins_loadable(self) -> bool:
        """Whether the driver is new enough for images of the nvcc that built the package, and they are wanted."""
        if forced() == "nvrtc":
            return False
        built = str(extensions.cuda().build_info()["nvcc"])
        return bool(built) and int(built.partition(".")[0]) <= self.driver_version // 1000

    def shipped(self, family: str) -> Path | None:
        """Return the cubin of a family that this device runs, the most specific one."""
        paths = (self.folder / f"{family}.{target}.cubin" for target in self.device.features)
        return next((path for path in paths if path.is_file()), None)

    def reason(self, row: CudaRow) -> str | None:
        """Say why a row cannot run on this device; ``None`` if it can."""
        if self.target is None:
            return f"no CUDA kernel here runs on {self.device.arch}: the oldest target is {TARGETS[0]}"
        if self.target not in row.targets:
            return (
                f"only {', '.join(row.targets)} {'has' if len(row.targets) == 1 else 'have'} it, and this is "
                f"{self.device.arch}"
            )
        if self.cubins_loadable and (path := self.shipped(row.family)):
            return self._lacking(row, path)
        if row.family not in self._reasons:
            self._reasons[row.family] = self._not_compiled(row.family)
        return self._reasons[row.family]

    def _lacking(self, row: CudaRow, path: Path) -> str | None:
        """Say that the installed machine code has no such kernel: a build of older sources, or half a file."""
        try:
            if path not in self._symbols:
                self._symbols[path] = cubin.symbols(path.read_bytes())
        except (OSError, UsageError) as error:
            return f"the installed {path.name} cannot be read ({error}); pip install . again"
        if row.symbol in self._symbols[path]:
            return None
        return f"the installed {path.name} has no {row.symbol}, it was built from older sources; pip install . again"

    def _not_compiled(self, family: str) -> str | None:
        if self.nvrtc_found is None:
            return self._nowhere(family)
        if not all((self.folder / "src" / name).is_file() for name in (f"{family}.cu", PRELUDE)):
            return f"the source of {family} is not installed; pip install . again"
        return None

    def _without_cubin(self, family: str) -> str:
        info = extensions.cuda().build_info()
        if info["why_no_cubins"]:
            return f"this package has no CUDA machine code ({info['why_no_cubins']})"
        if self.shipped(family) is None:
            others = sorted(path.name.split(".")[1] for path in self.folder.glob(f"{family}.*.cubin"))
            has = f" (it has that for {', '.join(others)})" if others else ""
            return f"this package has no machine code of {family} for {self.device.arch}{has}"
        if forced() == "nvrtc":
            return f"{FORCE}=nvrtc leaves the package's machine code out"
        if not self.driver_version:
            return "the driver does not tell its version, so that no code can be chosen for it"
        return (
            f"the driver stops at CUDA {self.driver_version // 1000}.{self.driver_version % 1000 // 10}, older than "
            f"nvcc {info['nvcc']}"
        )

    def _nowhere(self, family: str) -> str:
        if forced() == "cubin":
            return f"{self._without_cubin(family)}, and {FORCE}=cubin leaves NVRTC out; unset it"
        return (
            f"{self._without_cubin(family)}, and no NVRTC that this driver supports was found; "
            f"{nvrtc.install(self.driver_version)}"
        )

    def origin(self, family: str) -> str:
        """Say where a family's code would come from, without loading it."""
        path = self.shipped(family)
        if path is not None and self.cubins_loadable:
            return f"cubin {path.name}"
        library = self.nvrtc_found
        return f"NVRTC {library.major} at run time" if library else "nowhere"

    def code(self, family: str) -> Code:
        """Read or compile a family.

        Raises
        ------
        CannotRun
            If neither is possible; the sentence says why and what to install.
        """
        if family not in self._codes:
            self._codes[family] = self._found(family)
        return self._codes[family]

    def _found(self, family: str) -> Code:
        path = self.shipped(family)
        if path is not None and self.cubins_loadable:
            target = path.name.split(".")[1]
            nvcc = extensions.cuda().build_info()["nvcc"]
            return Code(family=family, target=target, image=path.read_bytes(), source=f"cubin {path.name}, nvcc {nvcc}")
        if self.compiler is None:
            raise CannotRun(self._nowhere(family))
        # The rows of a family target hold for every chip of the family; the chip's own name gets them compiled for it.
        target, version = self.device.arch, self.compiler.version
        source = f"NVRTC {version} for {target}"
        if not self.compiler.knows(target) and self.target is not None:
            target = nvrtc.VIRTUAL + "".join(filter(str.isdigit, self.target))
            source = f"PTX by NVRTC {version} for {target}, made into machine code by the driver"
        image = nvrtc.compiled(self.compiler, self.folder / "src" / f"{family}.cu", target)
        return Code(family=family, target=target, image=image, source=source)


def rows_and_reasons(library: Library) -> list[tuple[CudaRow, str | None]]:
    """Every kernel once: those of this device, then those that it lacks, each with the reason or ``None``."""
    here = [row for row in ROWS if library.target in row.targets]
    names = {row.name for row in here}
    others = {row.name: row for row in ROWS if row.name not in names}
    return [(row, library.reason(row)) for row in (*here, *others.values())]
