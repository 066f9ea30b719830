"""Invented GPUs for tests: builds the fake driver, writes its script, and runs Python under it.

The product finds the fake as it finds a driver, through the library path; nothing in the product knows of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import once
from ptx.counts import kept

from microbench.errors import MicrobenchError
from microbench.kernels.cuda import code
from microbench.proof import sass

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class FakeGpu:
    """An invented GPU; rates (FLOP/s, byte/s) are small, so that a virtual millisecond is little real work."""

    name: str = "FAKE H"
    capability: tuple[int, int] = (9, 0)
    sms: int = 4
    clock_hz: float = 1e9
    memory: int = 1 << 30
    l2_bytes: int = 1 << 20
    dram: float = 4e9
    l2: float = 12e9
    shared: float = 60e9
    plain: float = 20e9
    tensor: float = 1e12
    latency: tuple[int, float, float, float] = (1 << 15, 30, 200, 500)
    latency_far: float = 0  # of every other line of L2, by chance; 0: one L2 that answers alike
    keeps_copies: bool = False  # lines of the far part are also kept in the near one, as far as they fit
    launch_ns: float = 2500
    graph_ns: float = 1200
    host_copy: float = 2e9
    step_ns: int = 32
    edges: tuple[float, float] = (0, 0)  # ns of a launch before its blocks stamp and after
    slow: tuple[int, float] = (0, 1)  # multiprocessors with less of L2 than the others, and their share
    hungry: float = 0
    tells_clock: bool = True
    bus_bits: int = 4096
    memory_khz: int = 1_000_000
    throttle: tuple[float, float] | None = None
    peaks: dict[str, float] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The script's lines for this device."""
        major, minor = self.capability
        clock = round(self.clock_hz / 1e3) if self.tells_clock else 0
        attributes = {
            10: 32,
            13: clock,
            16: self.sms,
            36: self.memory_khz,
            37: self.bus_bits,
            38: self.l2_bytes,
            39: 2048,
            75: major,
            76: minor,
        }
        attributes |= {81: 233472, 82: 65536, 97: 232448, 106: 32, 32: 1}
        told = [
            "device",
            f"name {self.name}",
            *(f"attribute {which} {value}" for which, value in attributes.items()),
            *(
                f"{key} {getattr(self, key):.17g}"
                for key in (
                    "clock_hz",
                    "dram",
                    "l2",
                    "shared",
                    "plain",
                    "tensor",
                    "latency_far",
                    "launch_ns",
                    "graph_ns",
                    "host_copy",
                )
            ),
            "latency " + " ".join(f"{value:g}" for value in self.latency),
            f"memory {self.memory}",
            f"copies {int(self.keeps_copies)}",
            f"step_ns {self.step_ns}",
            f"hungry {self.hungry:.17g}",
            f"edges {self.edges[0]:.17g} {self.edges[1]:.17g}",
            f"slow {self.slow[0]} {self.slow[1]:.17g}",
            *(f"peak {symbol} {rate:.17g}" for symbol, rate in self.peaks.items()),
        ]
        return told + ([f"throttle {self.throttle[0]:.17g} {self.throttle[1]:.17g}"] if self.throttle else [])


@cache
def build(name: str, library: str, without: tuple[str, ...] = ()) -> Path:
    """Compile ``name``*.cpp, without some functions; the folder that holds the library belongs on the library path."""

    def compile_into(folder: Path) -> None:
        folder.mkdir()
        gone = [f"-D{function}={function}_gone" for function in without]
        command = ["g++", "-std=c++20", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", *gone]
        subprocess.run([*command, "-o", folder / library, *sorted(HERE.glob(f"{name}*.cpp"))], check=True)

    return once.made(f"{library}-{once.key(name, *without, files=HERE.glob('fake_*.[ch]pp'))}", compile_into)


def counts(target: str) -> dict[str, tuple[float, float, float]]:
    """FLOP, bytes read and bytes written by one block in one iteration, as the PTX interpreter counted them."""
    return {symbol: (work["flop"], work["read"], work["written"]) for symbol, work in kept(target).items()}


@dataclass(frozen=True, kw_only=True)
class FakeMachine:
    """GPUs, versions of the driver and of an NVRTC ("" for what is installed); `run` starts a Python under them."""

    folder: Path
    gpus: tuple[FakeGpu, ...] = (FakeGpu(),)
    driver: int = 13000
    counted_for: str = "sm_90a"
    extra: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    nvrtc: str = ""

    def environment(self, **more: str) -> dict[str, str]:
        """The environment that makes the product meet this machine."""
        self.folder.mkdir(parents=True, exist_ok=True)
        table = self.folder / "counts.txt"
        table.write_text(
            "\n".join(
                " ".join((symbol, *(f"{value:.17g}" for value in each)))
                for symbol, each in counts(self.counted_for).items()
            )
        )
        script = self.folder / "gpu.txt"
        lines = [
            f"driver {self.driver}",
            f"counts {table}",
            *(line for gpu in self.gpus for line in gpu.lines()),
            *self.extra,
        ]
        script.write_text("\n".join(lines) + "\n")
        here = os.environ | {"MB_FAKE_GPU": str(script), "XDG_CACHE_HOME": str(self.folder / "cache"), "TERM": "dumb"}
        here["LD_LIBRARY_PATH"] = (
            f"{build('fake_cuda', 'libcuda.so.1', self.without)}:{build('fake_nvml', 'libnvidia-ml.so.1')}"
        )
        here["LD_LIBRARY_PATH"] += f":{os.environ.get('LD_LIBRARY_PATH', '')}"
        here["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH", ""))))
        if self.nvrtc:
            here |= {"MB_FAKE_NVRTC": self.nvrtc, "MB_FAKE_CUBINS": str(code.installed())}
            here["PYTHONPATH"] = f"{self._wheels()}{os.pathsep}{here['PYTHONPATH']}"
        here.pop("CUDA_VISIBLE_DEVICES", None)
        return here | more

    def _wheels(self) -> Path:
        """A folder of packages with the fake NVRTC where a wheel has the real one, and a disassembler.

        A real NVRTC that is installed beside it would be found first, and would ask the fake driver for what it has
        not.
        """
        library = f"libnvrtc.so.{self.nvrtc.partition('.')[0]}"
        vendor = self.folder / "wheels" / "nvidia"
        (vendor / "cu" / "lib").mkdir(parents=True, exist_ok=True)
        (vendor / "__init__.py").touch()  # a package that has this file hides all other parts of its name
        links = {vendor / "cu" / "lib" / library: build("fake_nvrtc", library) / library}
        if (tool := sass.nvdisasm()) is not None:
            links[vendor / "cu" / "bin"] = tool.parent
        for link, real in links.items():
            link.unlink(missing_ok=True)
            link.symlink_to(real)
        return vendor.parent

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Start this Python with arguments."""
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, env=self.environment(**more), capture_output=True, text=True, check=False, timeout=600
        )

    def ask(self, code: str, **more: str) -> object:
        """Run code whose last line prints JSON, and return what it printed."""
        done = self.run("-c", code, **more)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])


def why_not() -> str | None:
    """Why fake GPUs cannot be used here; ``None`` if they can."""
    if not sys.platform.startswith("linux"):
        return "the fake driver is built for Linux"
    try:
        cubins = any(code.installed().glob("*.cubin"))
    except MicrobenchError as error:
        return str(error)
    return None if cubins else "fake GPUs need cubins: this package was built without nvcc 13"
