"""Which microarchitecture a signature stands for: cpuid's vendor, family and model, or Arm's implementer and part.

The names are those of the port table, and archspec's where it has one. A hybrid chip has one signature for two kinds of
core, so its row names both. Models are given as the ranges that a vendor set aside for one design; a signature outside
all of them is unknown, however alike its neighbours are.

Sources, by name: *Linux* is arch/x86/include/asm/intel-family.h, arch/x86/kernel/cpu/amd.c (whose ranges of models are
those given here), arch/x86/events/intel/core.c (which models share a core) and arch/arm64/include/asm/cputype.h;
*LLVM* is llvm/lib/TargetParser/Host.cpp; *cpu_features* is google/cpu_features, src/impl_x86__base_implementation.inl;
*cpuinfo* is pytorch/cpuinfo, src/x86/uarch.c; *lscpu* is util-linux, sys-utils/lscpu-arm.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

CoreKind = Literal["performance", "efficient"]
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One design and the signatures that it is sold under.

    Parameters
    ----------
    vendor
        cpuid's twelve letters, or the implementer as /proc/cpuinfo spells it (``0x41``).
    family
        cpuid's family with its extension; 0 for Arm, which has none.
    models
        Ranges of models (Arm: of part numbers), both ends included.
    arch
        The microarchitecture; of a hybrid chip that of its performance cores.
    efficient
        The microarchitecture of a hybrid chip's other cores.
    steppings
        The steppings that the row holds for, both ends included; a row that gives none holds for the rest.
    source
        Where the row comes from.
    """

    vendor: str
    family: int
    models: tuple[tuple[int, int], ...]
    arch: str
    efficient: str | None = None
    steppings: tuple[int, int] | None = None
    source: str

    def __post_init__(self) -> None:
        if not self.models or any(not 0 <= low <= high <= 0xFFF for low, high in self.models):
            raise ValueError(f"chip {self.arch}: its models are no ranges of numbers from 0 to 0xfff")
        if self.arch == UNKNOWN or not self.source:
            raise ValueError(f"chip {self.arch}: a row has a name and a source")

    def holds(self, vendor: str, family: int, model: int, stepping: int) -> bool:
        """Whether a signature is this chip's."""
        return (
            (vendor, family) == (self.vendor, self.family)
            and any(low <= model <= high for low, high in self.models)
            and (self.steppings is None or self.steppings[0] <= stepping <= self.steppings[1])
        )


def _rows(vendor: str, family: int, source: str, **archs: int | slice | tuple[int | slice, ...]) -> Iterator[Chip]:
    """Rows of one vendor's family; a value is a model, a range of them (a slice), or several of either."""
    for arch, models in archs.items():
        each = models if isinstance(models, tuple) else (models,)
        ranges = tuple((one, one) if isinstance(one, int) else (int(one.start), int(one.stop)) for one in each)
        yield Chip(vendor=vendor, family=family, models=ranges, arch=arch, source=source)


def _hybrid(performance: str, efficient: str, *models: int, source: str = "Linux") -> Chip:
    ranges = tuple((model, model) for model in models)
    return Chip(vendor=_INTEL, family=6, models=ranges, arch=performance, efficient=efficient, source=source)


def _skylake_server(arch: str, low: int, high: int) -> Chip:
    return Chip(
        vendor=_INTEL, family=6, models=((0x55, 0x55),), arch=arch, steppings=(low, high), source="Linux; cpu_features"
    )


_INTEL, _AMD, _HYGON = "GenuineIntel", "AuthenticAMD", "HygonGenuine"
_ARM, _AMPERE, _APPLE, _FUJITSU, _NVIDIA = "0x41", "0xc0", "0x61", "0x46", "0x4e"
_QUALCOMM, _HISILICON, _CAVIUM, _BROADCOM, _MICROSOFT = "0x51", "0x48", "0x43", "0x42", "0x6d"

_X86: tuple[Chip, ...] = (
    *_rows(
        _INTEL,
        6,
        "Linux; cpu_features",
        core2=(0x0F, 0x16, 0x17, 0x1D),
        nehalem=(0x1A, 0x1E, 0x1F, 0x2E),
        westmere=(0x25, 0x2C, 0x2F),
        sandybridge=(0x2A, 0x2D),
        ivybridge=(0x3A, 0x3E),
        haswell=(0x3C, 0x3F, 0x45, 0x46),
        broadwell=(0x3D, 0x47, 0x4F, 0x56),
        skylake=(0x4E, 0x5E, 0x8E, 0x9E, 0xA5, 0xA6),  # also Kaby, Coffee, Whiskey and Comet Lake
        cannonlake=0x66,
        icelake=(0x6A, 0x6C),
        icelake_client=(0x7D, 0x7E, 0x9D),
        tigerlake=(0x8C, 0x8D),
        rocketlake=0xA7,
        mic_knl=(0x57, 0x85),
        bonnell=(0x1C, 0x26, 0x27, 0x35, 0x36),
        silvermont=(0x37, 0x4A, 0x4D, 0x5A, 0x4C, 0x75),  # also Airmont
        goldmont=(0x5C, 0x5F),
        goldmont_plus=0x7A,
        tremont=(0x86, 0x96, 0x9C),
    ),
    _skylake_server("skylake_avx512", 0, 4),
    _skylake_server("cascadelake", 5, 9),
    _skylake_server("cooperlake", 10, 15),
    *_rows(
        _INTEL,
        6,
        "Linux; cpuinfo",
        sapphirerapids=0x8F,
        emeraldrapids=0xCF,
        graniterapids=(0xAD, 0xAE),
        sierraforest=0xAF,
        crestmont=0xB6,  # Grand Ridge
        darkmont=0xDD,  # Clearwater Forest
        gracemont=0xBE,  # Alder Lake-N
        raptor_cove=0xD7,  # Bartlett Lake
    ),
    *_rows(_INTEL, 19, "Linux", diamondrapids=0x01),
    _hybrid("icelake_client", "tremont", 0x8A),  # Lakefield
    _hybrid("golden_cove", "gracemont", 0x97, 0x9A),  # Alder Lake
    _hybrid("raptor_cove", "gracemont", 0xB7, 0xBA, 0xBF),  # Raptor Lake
    _hybrid("redwood_cove", "crestmont", 0xAA, 0xAC, 0xB5),  # Meteor Lake, Arrow Lake-U
    _hybrid("lion_cove", "skymont", 0xBD, 0xC5, 0xC6),  # Lunar Lake, Arrow Lake
    _hybrid("cougar_cove", "darkmont", 0xCC, 0xD5),  # Panther Lake, Wildcat Lake
    *_rows(_AMD, 16, "cpu_features", k10=slice(0, 15)),
    *_rows(_AMD, 20, "cpu_features; LLVM", bobcat=slice(0, 15)),
    *_rows(
        _AMD,
        21,
        "LLVM",
        bulldozer=(0x00, 0x01),
        piledriver=(0x02, slice(0x10, 0x1F)),
        steamroller=slice(0x30, 0x3F),
        excavator=slice(0x60, 0x7F),
    ),
    *_rows(_AMD, 22, "LLVM", jaguar=slice(0x00, 0x3F)),
    *_rows(
        _AMD,
        23,
        "Linux; Zen+ by cpu_features and cpuinfo",
        zen_plus=(0x08, 0x18),
        zen=(slice(0x00, 0x07), slice(0x09, 0x17), slice(0x19, 0x2F), slice(0x50, 0x5F)),
        zen2=(slice(0x30, 0x4F), slice(0x60, 0x7F), slice(0x90, 0x91), slice(0x98, 0x98), slice(0xA0, 0xAF)),
    ),
    *_rows(_HYGON, 24, "cpu_features", zen=slice(0x00, 0x01)),
    *_rows(
        _AMD,
        25,
        "Linux; Zen 3+ and Zen 4c by cpuinfo and LLVM",
        zen3=(slice(0x00, 0x0F), slice(0x20, 0x3F), slice(0x50, 0x5F)),
        zen3_plus=slice(0x40, 0x4F),  # Rembrandt
        zen4=(slice(0x10, 0x1F), slice(0x60, 0x7F)),
        zen4c=slice(0xA0, 0xAF),  # Bergamo, Siena
    ),
    *_rows(
        _AMD,
        26,
        "Linux; names of the products by LLVM and cpuinfo",
        zen5=(slice(0x00, 0x0F), slice(0x40, 0x4F), slice(0x70, 0x7F)),  # Turin, Granite Ridge, Strix Halo
        zen5c=slice(0x10, 0x1F),  # Turin Dense
        zen5_mobile=(slice(0x20, 0x2F), slice(0x60, 0x6F)),  # Strix Point, Krackan Point
        zen6=(slice(0x50, 0x5F), slice(0x80, 0xAF), slice(0xC0, 0xCF)),
    ),
)

_AARCH64: tuple[Chip, ...] = (
    *_rows(
        _ARM,
        0,
        "Linux; lscpu",
        cortex_a34=0xD02,
        cortex_a35=0xD04,
        cortex_a53=0xD03,
        cortex_a55=0xD05,
        cortex_a510=0xD46,
        cortex_a520=(0xD80, 0xD88),
        cortex_a57=0xD07,
        cortex_a72=0xD08,
        cortex_a73=0xD09,
        cortex_a75=0xD0A,
        cortex_a76=(0xD0B, 0xD0E),
        cortex_a77=0xD0D,
        cortex_a78=(0xD41, 0xD42, 0xD4B),
        cortex_a710=0xD47,
        cortex_a715=0xD4D,
        cortex_a720=(0xD81, 0xD89),
        cortex_a725=0xD87,
        cortex_x1=(0xD44, 0xD4C),
        cortex_x2=0xD48,
        cortex_x3=0xD4E,
        cortex_x4=0xD82,
        cortex_x925=0xD85,
        neoverse_e1=0xD4A,
        neoverse_n1=0xD0C,
        neoverse_n2=0xD49,
        neoverse_n3=0xD8E,
        neoverse_v1=0xD40,
        neoverse_v2=0xD4F,
        neoverse_v3=(0xD83, 0xD84),
    ),
    *_rows(_MICROSOFT, 0, "Linux", neoverse_n2=0xD49),  # Azure Cobalt 100
    *_rows(_AMPERE, 0, "Linux; LLVM", ampere1=0xAC3, ampere1a=0xAC4),  # AmpereOne
    *_rows(
        _APPLE,
        0,
        "Linux; lscpu",
        icestorm=(0x20, 0x22, 0x24, 0x28),
        firestorm=(0x21, 0x23, 0x25, 0x29),
        blizzard=(0x30, 0x32, 0x34, 0x38),
        avalanche=(0x31, 0x33, 0x35, 0x39),
    ),
    *_rows(_FUJITSU, 0, "Linux", a64fx=0x001),
    *_rows(_NVIDIA, 0, "Linux; lscpu", carmel=0x004, olympus=0x010),
    *_rows(_QUALCOMM, 0, "Linux; lscpu", oryon=0x001),
    *_rows(_HISILICON, 0, "Linux; lscpu", tsv110=0xD01),
    *_rows(_CAVIUM, 0, "Linux; lscpu", thunderx=slice(0x0A0, 0x0A3), thunderx2=0x0AF),
    *_rows(_BROADCOM, 0, "Linux; lscpu", thunderx2=0x516),
)

CHIPS = (*_X86, *_AARCH64)


def find(vendor: str, family: int, model: int, stepping: int = 0) -> Chip | None:
    """Return the row that holds for a signature; ``None`` for one that nobody wrote down.

    Examples
    --------
    >>> find("AuthenticAMD", 25, 1).arch
    'zen3'
    """
    return next((chip for chip in CHIPS if chip.holds(vendor, family, model, stepping)), None)


def _prove_disjoint() -> None:
    for index, one in enumerate(CHIPS):
        for other in CHIPS[:index]:
            for model in (low for low, _ in one.models):
                for stepping in (one.steppings or (0, 0))[:1]:
                    if other.holds(one.vendor, one.family, model, stepping):
                        raise ValueError(f"chips {one.arch} and {other.arch} both hold for model {model:#x}")


_prove_disjoint()
