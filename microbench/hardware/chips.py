"""The microarchitecture of a processor: by the signature that it tells, by its instruction sets where that is too old.

cpuid gives x86 processors a vendor, a family, a model and a stepping; the register MIDR_EL1 gives Arm cores an
implementer and a part, and the cores of one machine may differ. A hypervisor may tell an older model than the chip is:
an instruction set that the model never had then reveals the newer one. A signature that no table holds is *unknown*;
guessing by instruction sets, as archspec does, would give the next chip the figures of the last one. archspec is asked
only where the system tells no signature at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import archspec.cpu

from microbench.hardware.tables.chips import UNKNOWN, CoreKind, find

_SYS = Path("/sys/devices/system/cpu")
_CPUINFO = Path("/proc/cpuinfo")

# Designs that a hypervisor may pass off for one another, oldest first, and what each had that those before it had not.
_SUCCESSIONS: tuple[tuple[tuple[str, tuple[str, ...]], ...], ...] = (
    (
        ("haswell", ()),
        ("broadwell", ()),
        ("skylake", ()),
        ("skylake_avx512", ("avx512f",)),
        ("cannonlake", ()),
        ("cascadelake", ("avx512_vnni",)),
        ("cooperlake", ()),
        ("icelake", ()),
        ("x86_64_v4", ()),
        ("sapphirerapids", ("amx_tile", "avx512_fp16")),
        ("emeraldrapids", ()),
        ("graniterapids", ("amx_fp16",)),
    ),
    (
        ("zen", ()),
        ("zen_plus", ()),
        ("zen2", ()),
        ("zen3", ("vaes",)),
        ("zen3_plus", ()),
        ("zen4", ("avx512f",)),
        ("zen4c", ()),
        ("zen5", ("avx_vnni",)),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a core says that it is.

    Parameters
    ----------
    vendor
        cpuid's twelve letters, or Arm's implementer as /proc/cpuinfo spells it (``0x41``).
    model
        cpuid's model with its extension, or Arm's part number.
    family, stepping
        cpuid's; 0 for Arm.
    """

    vendor: str
    model: int
    family: int = 0
    stepping: int = 0

    def __str__(self) -> str:
        if self.vendor.startswith("0x"):
            return f"implementer {self.vendor}, part {self.model:#x}"
        return f"{self.vendor} family {self.family}, model {self.model:#x}, stepping {self.stepping}"


def arch_of(signature: Signature, kind: CoreKind | None = None) -> str:
    """Name the microarchitecture of a core.

    Parameters
    ----------
    signature
        What the core says that it is.
    kind
        The kind of core of a hybrid chip, whose cores share one signature; ``None`` means its performance cores.

    Returns
    -------
    str
        A name of the port table or one that it lacks; ``unknown`` for a signature that no table holds.

    Examples
    --------
    >>> arch_of(Signature(vendor="GenuineIntel", family=6, model=0x97), "efficient")
    'gracemont'
    """
    chip = find(signature.vendor, signature.family, signature.model, signature.stepping)
    if chip is None:
        return UNKNOWN
    return chip.efficient or chip.arch if kind == "efficient" else chip.arch


def signature_of(
    features: Mapping[str, Any], cpu: int = 0, sys: Path = _SYS, cpuinfo: Path = _CPUINFO
) -> Signature | None:
    """Read what a CPU says that it is; ``None`` where nothing tells.

    Parameters
    ----------
    features
        What the native module read from cpuid; on aarch64 it has no family.
    cpu
        The CPU, where cores may differ.
    sys, cpuinfo
        Where the system describes its processors; tests pass recorded ones.
    """
    if features.get("family") is not None:
        return Signature(
            vendor=str(features.get("vendor") or ""),
            family=int(features["family"]),
            model=int(features.get("model") or 0),
            stepping=int(features.get("stepping") or 0),
        )
    try:
        midr = int((sys / f"cpu{cpu}" / "regs" / "identification" / "midr_el1").read_text(encoding="ascii"), 0)
    except (OSError, ValueError):
        return _of_cpuinfo(cpuinfo, cpu)
    return Signature(vendor=f"{midr >> 24 & 0xFF:#x}", model=midr >> 4 & 0xFFF)


def _of_cpuinfo(path: Path, cpu: int) -> Signature | None:
    """Implementer and part of a CPU by /proc/cpuinfo, which has one paragraph a CPU."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for paragraph in text.split("\n\n"):
        told = {
            name.strip(): value.strip() for name, _, value in (line.partition(":") for line in paragraph.splitlines())
        }
        if told.get("processor") != str(cpu):
            continue
        try:
            return Signature(vendor=f"{int(told['CPU implementer'], 16):#x}", model=int(told["CPU part"], 16))
        except (KeyError, ValueError):
            return None
    return None


def revealed(arch: str, features: Sequence[str]) -> str:
    """Correct a microarchitecture that a hypervisor understates.

    An instruction set that the older microarchitecture never had reveals the newer one.

    Examples
    --------
    >>> revealed("icelake", ("avx512f", "amx_tile"))
    'sapphirerapids'
    """
    for succession in _SUCCESSIONS:
        names = [name for name, _ in succession]
        if arch not in names:
            continue
        newest = names.index(arch)
        for place, (_, flags) in enumerate(succession):
            if place > newest and any(flag in features for flag in flags):
                newest = place
        return names[newest]
    return arch


def microarchitecture(features: Mapping[str, Any], cpu: int = 0, sys: Path = _SYS, cpuinfo: Path = _CPUINFO) -> str:
    """Name a CPU's microarchitecture, that of its performance cores where the signature stands for two kinds.

    Parameters
    ----------
    features
        What the native module read from cpuid, with its ``flags``.
    cpu, sys, cpuinfo
        As in `signature_of`.

    Returns
    -------
    str
        ``unknown`` for a chip that no table holds.
    """
    signature = signature_of(features, cpu, sys, cpuinfo)
    flags = tuple(str(flag) for flag in features.get("flags") or ())
    return revealed(_by_archspec() if signature is None else arch_of(signature), flags)


def _by_archspec() -> str:
    """Microarchitecture by archspec; ``unknown`` rather than a failure: nominal rates are then unknown too."""
    try:
        return str(archspec.cpu.host().name)
    except Exception:  # noqa: BLE001 - it parses /proc/cpuinfo, which may hold or lack anything
        return UNKNOWN
