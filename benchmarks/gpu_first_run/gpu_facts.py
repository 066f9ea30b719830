"""Versions, the card's own words, the host; no serial number and no UUID."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from importlib import metadata
from pathlib import Path

from gpu_rows import Row, command_output, failure, say

PRIVATE = re.compile(r"uuid|serial|bus id|bus_id|board id|gpu part|hostname", re.IGNORECASE)
SECTIONS = "MEMORY,CLOCK,POWER,PERFORMANCE,ECC,TEMPERATURE,COMPUTE"
QUERY = (
    "name,driver_version,memory.total,memory.used,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.limit,"
    "power.draw,temperature.gpu,persistence_mode,compute_mode,mig.mode.current,ecc.mode.current,pcie.link.gen.current,"
    "pcie.link.gen.max,pcie.link.width.current"
)
TOOLS = ("nvcc", "ncu", "compute-sanitizer", "nvdisasm", "cuobjdump", "g++", "cmake", "ninja", "objdump")
PACKAGES = [
    "numpy",
    "pandas",
    "scipy",
    "matplotlib",
    "click",
    "rich",
    "rich-click",
    "msgspec",
    "archspec",
    "nvidia-ml-py",
    "torch",
    "triton",
    "torchvision",
    "transformers",
    "pytest",
]


def facts(options: argparse.Namespace) -> int:
    """Write down what is here; third-party packages last, since importing torch may take long or fail."""
    text = command_output("nvidia-smi", "-q", "-d", SECTIONS, limit=30)
    kept = "\n".join(line for line in text.splitlines() if not PRIVATE.search(line))
    Path(options.out).with_name("nvidia-smi.txt").write_text(kept)
    say(options.out, host())
    for name in PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = None
        say(options.out, {"package": name, "version": version})
    say(options.out, torch_facts())
    return 0


def host() -> Row:
    """The card in nvidia-smi's words, the processor, the tools."""
    row: Row = {"nvidia_smi": command_output("nvidia-smi", f"--query-gpu={QUERY}", "--format=csv").strip()}
    row |= {"python": sys.version.split()[0], "nproc": os.cpu_count(), "affinity": len(os.sched_getaffinity(0))}
    row["kernel"] = os.uname().release
    row["memory_kib"] = named_line("/proc/meminfo", "MemTotal").split()[0]
    row["cpu"] = named_line("/proc/cpuinfo", "model name")
    row["libc"] = os.confstr("CS_GNU_LIBC_VERSION")
    for tool in TOOLS:
        lines = command_output(tool, "--version").strip().splitlines()
        told = [line for line in lines if re.search(r"release|[Vv]ersion", line)]
        told = told or [line for line in lines if re.search(r"\d+\.\d+", line)] or lines
        row[tool] = told[0].strip()[:120] if told else ""
    return row


def named_line(path: str, name: str) -> str:
    """What stands behind a name and a colon in a file of the kernel's."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "?")


def torch_facts() -> Row:
    """What PyTorch makes of the card."""
    started = time.monotonic()
    try:
        import torch

        row: Row = {"torch": torch.__version__, "torch_cuda": torch.version.cuda}
        row |= {"import_s": round(time.monotonic() - started, 1), "is_available": torch.cuda.is_available()}
        if row["is_available"]:
            held = torch.cuda.get_device_properties(0)
            row |= {"name": held.name, "sms": held.multi_processor_count, "memory": held.total_memory}
            row |= {"l2": getattr(held, "L2_cache_size", None), "capability": torch.cuda.get_device_capability(0)}
    except Exception as error:  # noqa: BLE001 - the other facts are worth more than a library that does not load
        return {"torch": None, "why": failure(error)}
    return row
