"""Which microarchitecture a signature stands for: recorded signatures, invented ones, and what hypervisors hide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from microbench.hardware import chips
from microbench.hardware.chips import Signature, arch_of, microarchitecture, revealed, signature_of
from microbench.hardware.tables.chips import CHIPS, Chip, find
from microbench.hardware.tables.ports import PORTS

INTEL, AMD, HYGON = "GenuineIntel", "AuthenticAMD", "HygonGenuine"

# Signatures of chips that were sold, by their product: /proc/cpuinfo of reviews and bug reports, vendors' data sheets
# and the headers of Linux 6.16 (intel-family.h, amd.c), LLVM 20 (Host.cpp) and util-linux 2.41 (lscpu-arm.c).
X86 = [
    (INTEL, 6, 0x17, 10, "core2", "Core 2 Quad Q9550"),
    (INTEL, 6, 0x1A, 5, "nehalem", "Core i7-920"),
    (INTEL, 6, 0x2C, 2, "westmere", "Xeon X5650"),
    (INTEL, 6, 0x2A, 7, "sandybridge", "Core i7-2600K"),
    (INTEL, 6, 0x3E, 4, "ivybridge", "Xeon E5-2680 v2"),
    (INTEL, 6, 0x3C, 3, "haswell", "Core i7-4770"),
    (INTEL, 6, 0x3F, 2, "haswell", "Xeon E5-2680 v3"),
    (INTEL, 6, 0x4F, 1, "broadwell", "Xeon E5-2680 v4"),
    (INTEL, 6, 0x5E, 3, "skylake", "Core i7-6700K"),
    (INTEL, 6, 0x8E, 12, "skylake", "Core i7-8565U"),
    (INTEL, 6, 0x9E, 13, "skylake", "Core i9-9900K"),
    (INTEL, 6, 0xA5, 5, "skylake", "Core i9-10900K"),
    (INTEL, 6, 0x55, 4, "skylake_avx512", "Xeon Gold 6148"),
    (INTEL, 6, 0x55, 7, "cascadelake", "Xeon Platinum 8280"),
    (INTEL, 6, 0x55, 11, "cooperlake", "Xeon Platinum 8380H"),
    (INTEL, 6, 0x66, 3, "cannonlake", "Core i3-8121U"),
    (INTEL, 6, 0x6A, 6, "icelake", "Xeon Platinum 8375C"),
    (INTEL, 6, 0x7E, 5, "icelake_client", "Core i7-1065G7"),
    (INTEL, 6, 0x8C, 1, "tigerlake", "Core i7-1165G7"),
    (INTEL, 6, 0xA7, 1, "rocketlake", "Core i9-11900K"),
    (INTEL, 6, 0x97, 2, "golden_cove", "Core i9-12900K"),
    (INTEL, 6, 0xBE, 0, "gracemont", "N100"),
    (INTEL, 6, 0xB7, 1, "raptor_cove", "Core i9-13900K"),
    (INTEL, 6, 0xAA, 4, "redwood_cove", "Core Ultra 7 155H"),
    (INTEL, 6, 0xBD, 1, "lion_cove", "Core Ultra 7 258V"),
    (INTEL, 6, 0xC6, 2, "lion_cove", "Core Ultra 9 285K"),
    (INTEL, 6, 0x8F, 8, "sapphirerapids", "Xeon Platinum 8480+"),
    (INTEL, 6, 0xCF, 2, "emeraldrapids", "Xeon Platinum 8592+"),
    (INTEL, 6, 0xAD, 1, "graniterapids", "Xeon 6980P"),
    (INTEL, 6, 0xAF, 3, "sierraforest", "Xeon 6780E"),
    (INTEL, 6, 0x57, 1, "mic_knl", "Xeon Phi 7210"),
    (INTEL, 6, 0x9C, 0, "tremont", "Celeron N5105"),
    (AMD, 21, 0x02, 0, "piledriver", "FX-8350"),
    (AMD, 22, 0x30, 1, "jaguar", "A8-6410"),
    (AMD, 23, 0x01, 2, "zen", "EPYC 7601"),
    (AMD, 23, 0x11, 0, "zen", "Ryzen 5 2400G"),
    (AMD, 23, 0x08, 2, "zen_plus", "Ryzen 7 2700X"),
    (AMD, 23, 0x18, 1, "zen_plus", "Ryzen 5 3400G"),
    (AMD, 23, 0x31, 0, "zen2", "EPYC 7742"),
    (AMD, 23, 0x71, 0, "zen2", "Ryzen 9 3950X"),
    (AMD, 23, 0x90, 2, "zen2", "the Steam Deck"),
    (AMD, 25, 0x01, 1, "zen3", "EPYC 7763"),
    (AMD, 25, 0x21, 2, "zen3", "Ryzen 9 5950X"),
    (AMD, 25, 0x50, 0, "zen3", "Ryzen 7 5700G"),
    (AMD, 25, 0x44, 1, "zen3_plus", "Ryzen 7 6800U"),
    (AMD, 25, 0x11, 1, "zen4", "EPYC 9654"),
    (AMD, 25, 0x61, 2, "zen4", "Ryzen 9 7950X"),
    (AMD, 25, 0x74, 1, "zen4", "Ryzen 7 7840U"),
    (AMD, 25, 0xA0, 2, "zen4c", "EPYC 9754"),
    (AMD, 26, 0x02, 1, "zen5", "EPYC 9755"),
    (AMD, 26, 0x44, 0, "zen5", "Ryzen 9 9950X"),
    (AMD, 26, 0x11, 0, "zen5c", "EPYC 9965"),
    (AMD, 26, 0x24, 0, "zen5_mobile", "Ryzen AI 9 HX 370"),
    (AMD, 26, 0x70, 0, "zen5", "Ryzen AI Max+ 395"),
    (HYGON, 24, 0x01, 1, "zen", "C86 7185"),
]
ARM = [
    ("0x41", 0xD03, "cortex_a53", "Raspberry Pi 3"),
    ("0x41", 0xD08, "cortex_a72", "Raspberry Pi 4"),
    ("0x41", 0xD0B, "cortex_a76", "Raspberry Pi 5"),
    ("0x41", 0xD0C, "neoverse_n1", "Graviton 2, Ampere Altra"),
    ("0x41", 0xD40, "neoverse_v1", "Graviton 3"),
    ("0x41", 0xD49, "neoverse_n2", "Yitian 710"),
    ("0x41", 0xD4F, "neoverse_v2", "Graviton 4, Grace"),
    ("0x41", 0xD84, "neoverse_v3", "Graviton 5"),
    ("0x41", 0xD42, "cortex_a78", "Jetson Orin"),
    ("0x41", 0xD44, "cortex_x1", "Snapdragon 888"),
    ("0x6d", 0xD49, "neoverse_n2", "Azure Cobalt 100"),
    ("0xc0", 0xAC3, "ampere1", "AmpereOne"),
    ("0xc0", 0xAC4, "ampere1a", "AmpereOne M"),
    ("0x61", 0x023, "firestorm", "M1, performance core"),
    ("0x61", 0x022, "icestorm", "M1, efficient core"),
    ("0x61", 0x029, "firestorm", "M1 Max, performance core"),
    ("0x61", 0x033, "avalanche", "M2, performance core"),
    ("0x46", 0x001, "a64fx", "Fugaku"),
    ("0x51", 0x001, "oryon", "Snapdragon X Elite"),
]


@pytest.mark.parametrize(("vendor", "family", "model", "stepping", "arch", "product"), X86)
def test_a_recorded_x86_signature_names_its_core(
    vendor: str, family: int, model: int, stepping: int, arch: str, product: str
) -> None:
    assert arch_of(Signature(vendor=vendor, family=family, model=model, stepping=stepping)) == arch, product


@pytest.mark.parametrize(("implementer", "part", "arch", "product"), ARM)
def test_a_recorded_arm_part_names_its_core(implementer: str, part: int, arch: str, product: str) -> None:
    assert arch_of(Signature(vendor=implementer, model=part)) == arch, product


@pytest.mark.parametrize(
    ("model", "performance", "efficient"),
    [
        (0x97, "golden_cove", "gracemont"),
        (0xBA, "raptor_cove", "gracemont"),
        (0xAC, "redwood_cove", "crestmont"),
        (0xB5, "redwood_cove", "crestmont"),
        (0xC5, "lion_cove", "skymont"),
        (0x8A, "icelake_client", "tremont"),
    ],
)
def test_the_kind_of_core_decides_between_a_hybrid_chips_rows(model: int, performance: str, efficient: str) -> None:
    signature = Signature(vendor=INTEL, family=6, model=model)
    assert arch_of(signature) == arch_of(signature, "performance") == performance
    assert arch_of(signature, "efficient") == efficient


def test_the_cores_of_a_chip_of_one_kind_are_that_kind_whatever_is_asked() -> None:
    assert arch_of(Signature(vendor=AMD, family=25, model=1), "efficient") == "zen3"


@pytest.mark.parametrize(
    "signature",
    [
        Signature(vendor=AMD, family=27, model=1),  # a family that there is not yet
        Signature(vendor=AMD, family=26, model=0xF0),
        Signature(vendor=INTEL, family=6, model=0xFE),
        Signature(vendor=INTEL, family=15, model=6, stepping=1),  # what QEMU's kvm64 calls itself
        Signature(vendor=AMD, family=15, model=107, stepping=1),  # what its qemu64 calls itself
        Signature(vendor="SomebodyNew!", family=6, model=0x55),
        Signature(vendor="", family=0, model=0),
        Signature(vendor="0x41", model=0xDFF),
        Signature(vendor="0x00", model=0x051),  # what QEMU's -cpu max calls itself
    ],
)
def test_a_signature_that_nobody_wrote_down_is_unknown_and_has_no_ports(signature: Signature) -> None:
    assert arch_of(signature) == arch_of(signature, "efficient") == "unknown"
    assert "unknown" not in PORTS


def test_instruction_sets_make_no_name_for_an_unknown_chip() -> None:
    features = {"vendor": AMD, "family": 27, "model": 1, "stepping": 0, "flags": ["avx2", "fma", "avx512f", "avx_vnni"]}
    assert microarchitecture(features) == "unknown"


@pytest.mark.parametrize(
    ("arch", "flags", "found"),
    [
        ("zen2", ("avx2",), "zen2"),
        ("zen2", ("avx2", "vaes"), "zen3"),
        ("zen2", ("avx2", "vaes", "avx512f"), "zen4"),
        ("zen", ("vaes", "avx512f", "avx_vnni"), "zen5"),
        ("zen4c", ("avx512f", "vaes"), "zen4c"),
        ("haswell", ("avx512f",), "skylake_avx512"),
        ("skylake_avx512", ("avx512f", "avx512_vnni"), "cascadelake"),
        ("icelake", ("avx512f", "avx512_vnni"), "icelake"),
        ("emeraldrapids", ("amx_tile", "avx512_fp16"), "emeraldrapids"),
        ("emeraldrapids", ("amx_tile", "amx_fp16"), "graniterapids"),
        ("unknown", ("avx512f", "amx_fp16"), "unknown"),
        ("neoverse_n1", ("sve",), "neoverse_n1"),
    ],
)
def test_an_instruction_set_that_a_model_never_had_reveals_the_next(
    arch: str, flags: tuple[str, ...], found: str
) -> None:
    assert revealed(arch, flags) == found


def test_a_machine_whose_flags_are_hidden_is_still_named_by_its_signature() -> None:
    # EPYC Milan in a guest that is not shown pku and vpclmulqdq, which made archspec say zen2.
    features = {"vendor": AMD, "family": 25, "model": 1, "stepping": 1, "flags": ["avx2", "fma", "sse2"]}
    assert microarchitecture(features) == "zen3"


def _midr(folder: Path, cpu: int, text: str) -> None:
    place = folder / f"cpu{cpu}" / "regs" / "identification"
    place.mkdir(parents=True)
    (place / "midr_el1").write_text(text, encoding="ascii")


def test_each_arm_core_is_named_by_its_own_register(tmp_path: Path) -> None:
    _midr(tmp_path, 0, "0x00000000611f0221\n")
    _midr(tmp_path, 4, "0x00000000611f0231\n")
    nothing = tmp_path / "no such file"
    assert microarchitecture({}, 0, tmp_path, nothing) == "icestorm"
    assert microarchitecture({}, 4, tmp_path, nothing) == "firestorm"


CPUINFO = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd asimdhp asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

processor\t: 1
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""


def test_where_the_register_is_not_shown_cpuinfo_tells_the_part(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO, encoding="ascii")
    assert microarchitecture({}, 0, tmp_path, cpuinfo) == "neoverse_n1"
    assert microarchitecture({}, 1, tmp_path, cpuinfo) == "neoverse_v1"
    assert signature_of({}, 2, tmp_path, cpuinfo) is None


@pytest.mark.parametrize("text", ["", "processor : 0\n", "processor : 0\nCPU implementer : x\nCPU part : 0xd0c\n"])
def test_archspec_is_asked_only_where_no_signature_is_told(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(text, encoding="ascii")
    _midr(tmp_path, 1, "no number")
    asked: list[str] = []

    class Host:
        name = "m1"

    def host() -> Host:
        asked.append("archspec")
        return Host()

    monkeypatch.setattr(chips.archspec.cpu, "host", host)
    assert microarchitecture({}, 0, tmp_path, cpuinfo) == "m1"
    assert microarchitecture({}, 1, tmp_path, cpuinfo) == "m1"
    assert microarchitecture({"vendor": AMD, "family": 99, "model": 0}, 0, tmp_path, cpuinfo) == "unknown"
    assert asked == ["archspec"] * 2


def test_archspec_that_fails_leaves_the_chip_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def host() -> Any:
        raise KeyError("flags")

    monkeypatch.setattr(chips.archspec.cpu, "host", host)
    assert microarchitecture({}, 0, tmp_path, tmp_path / "nothing") == "unknown"


def test_a_signature_is_said_in_the_words_of_its_architecture() -> None:
    assert str(Signature(vendor=AMD, family=25, model=1, stepping=1)) == (
        "AuthenticAMD family 25, model 0x1, stepping 1"
    )
    assert str(Signature(vendor="0x41", model=0xD0C)) == "implementer 0x41, part 0xd0c"


def test_a_row_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no ranges"):
        Chip(vendor=AMD, family=25, models=((3, 1),), arch="x", source="y")
    with pytest.raises(ValueError, match="a name and a source"):
        Chip(vendor=AMD, family=25, models=((1, 3),), arch="x", source="")


def test_every_signature_belongs_to_one_row() -> None:
    for chip in CHIPS:
        for low, high in chip.models:
            for model in range(low, high + 1):
                stepping = chip.steppings[0] if chip.steppings else 0
                assert find(chip.vendor, chip.family, model, stepping) is chip
