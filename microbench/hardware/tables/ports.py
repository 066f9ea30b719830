"""How many instructions of a kind a core starts per cycle, by microarchitecture.

The words are those of ``Sheet.ports``: what the instruction does, then its width. ``scalar`` is one lane of a vector
register: loads and stores of ``movsd`` or ``ldr d``, not those of integers, of which some cores start more. ``sve`` is
whatever the vector length of the machine is. Read, write, copy and triad are bound by ``load`` and ``store``; ``arith``
is multiply-adds, multiplications and additions together, where pipes for the one may stand idle beside the other. A
fraction means more than one cycle apiece. A word that is missing from a row is unknown there, and nominal is then
unknown too: nothing is guessed.

Sources, by name: *uops* is the uops.info table of measured throughputs; *LLVM* the scheduling models of LLVM 19 (of
Lion Cove a later one, X86SchedLunarlakeP.td), asked through llvm-mca; *OSACA* the port models of RRZE-HPC/OSACA; *Intel
ORM* the Intel 64 and IA-32 optimisation reference manual; *AMD SOG* the software optimisation guide of that family;
*Arm SOG* the software optimisation guide of that core; *Intel 2024* the presentation of Lunar Lake's cores, as Chips
and Cheese details it ("Intel Details Skymont"); *hwcooling* its analysis of Gracemont; *Yee* A. J. Yee's teardown of
Zen 5; *Fujitsu* the A64FX microarchitecture manual; *Dougall* the published measurements of Apple's cores by Dougall
Johnson; *seen* a characterisation under results/ or these loops on that core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_WIDTHS = ("v128", "v256", "v512")
_ARITHMETIC = ("fma", "mul", "add", "arith")
_MOVES = ("load", "store")
_DOTS = (
    "dot_bf16",  # two bf16 pairs into f32
    "dot_i8",  # four 8-bit pairs into i32 (VNNI, AVX-VNNI, sdot)
    "madd_i8",  # the same by pmaddubsw, pmaddwd and paddd: sequences
    "mmla_bf16",  # a product of 2 x 4 by 4 x 2
    "mmla_i8",  # a product of 2 x 8 by 8 x 2
)
WORDS = (
    *(f"{kind}.{width}" for kind in (*_ARITHMETIC, *_MOVES) for width in ("scalar", *_WIDTHS, "sve")),
    *(f"{kind}.{width}" for kind in _DOTS for width in (*_WIDTHS, "sve")),
    "tile.amx",  # a product of two tiles, whatever the element type
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """One microarchitecture.

    Parameters
    ----------
    arch
        Its name in the table of chips.
    also
        Other names of the same core: what archspec calls the chips that have it, designs that differ elsewhere only.
    per_cycle
        Instructions per cycle and core by word.
    source
        Where the counts come from.
    varies
        Words whose count depends on the model sold: what other models have. ``per_cycle`` holds the highest.
    note
        What else a reader should know.
    """

    arch: str
    per_cycle: Mapping[str, float]
    source: str
    also: tuple[str, ...] = ()
    varies: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        for word, count in {**self.per_cycle, **self.varies}.items():
            if word not in WORDS:
                raise ValueError(f"ports of {self.arch}: {word!r} is no known word")
            if not 0 < count <= 8:
                raise ValueError(f"ports of {self.arch}: {count} of {word} per cycle cannot be")
        for word, other in self.varies.items():
            if not other < self.per_cycle.get(word, 0):
                raise ValueError(f"ports of {self.arch}: {word} must hold the highest count of the models sold")
        if not self.source:
            raise ValueError(f"ports of {self.arch} have no source")
        self._check_widths()
        self._check_sums()

    def _check_widths(self) -> None:
        for kind in (*_ARITHMETIC, *_MOVES, *_DOTS):
            counts = [self.per_cycle[f"{kind}.{width}"] for width in _WIDTHS if f"{kind}.{width}" in self.per_cycle]
            if counts != sorted(counts, reverse=True):
                raise ValueError(f"ports of {self.arch}: wide {kind} instructions start more often than narrow ones")
        if not {"fma.v128", "mul.v128"} & set(self.per_cycle):
            raise ValueError(f"ports of {self.arch}: neither multiply-adds nor multiplications are counted")

    def _check_sums(self) -> None:
        """All arithmetic together is no less than one kind of it, and no more than multiplying and adding apart."""
        for width in ("scalar", *_WIDTHS, "sve"):
            together = self.per_cycle.get(f"arith.{width}")
            if together is None:
                continue
            multiplied = max(self.per_cycle.get(f"{kind}.{width}", 0) for kind in ("fma", "mul"))
            added = self.per_cycle.get(f"add.{width}", 0)
            if not max(multiplied, added) <= together <= multiplied + added:
                raise ValueError(f"ports of {self.arch}: arith.{width} does not lie between one kind and their sum")


Counts = float | tuple[float, ...]


def _core(**kinds: Counts) -> dict[str, float]:
    """Counts of each kind at 128, 256 and 512 bits, as far as given; one lane goes as 128 bits do."""
    found: dict[str, float] = {}
    for kind, given in kinds.items():
        counts = given if isinstance(given, tuple) else (given,)
        found |= {f"{kind}.{width}": count for width, count in zip(_WIDTHS, counts, strict=False)}
        if kind in (*_ARITHMETIC, *_MOVES):
            found[f"{kind}.scalar"] = counts[0]
    return found


def _with(row: Mapping[str, float], other: Mapping[str, float] | None = None, **kinds: Counts) -> dict[str, float]:
    """A row with some kinds counted anew, and single words of ``other``."""
    return {**row, **_core(**kinds), **(other or {})}


def _fused(fma: Counts, **kinds: Counts) -> dict[str, float]:
    """A core whose multiplications take the pipes of its multiply-adds."""
    return _core(fma=fma, mul=fma, **kinds)


def _one_unit(row: Mapping[str, float], *words: str) -> dict[str, float]:
    return {word: 1 for word in words if word in row}


_512 = ("fma.v512", "mul.v512", "add.v512", "arith.v512", "dot_i8.v512")
_CORE2 = _core(mul=1, add=1, arith=2, load=1, store=1)
_SANDY_BRIDGE = _core(mul=(1, 1), add=(1, 1), arith=(2, 2), load=(2, 1), store=(1, 0.5), madd_i8=0.5)
_HASWELL = _fused((2, 2), add=(1, 1), arith=(2, 2), load=(2, 2), store=(1, 1), madd_i8=(0.5, 0.5))
_SKYLAKE = _with(_HASWELL, add=(2, 2), madd_i8=(1, 1))
_SKYLAKE_SERVER = _with(
    _SKYLAKE, fma=(2, 2, 2), mul=(2, 2, 2), add=(2, 2, 2), arith=(2, 2, 2), load=(2, 2, 2), store=(1, 1, 1)
)
_CASCADELAKE = _with(_SKYLAKE_SERVER, dot_i8=(2, 2, 2))
# Two stores start per cycle only where both go to one line, which streaming code does; 512-bit ones never pair.
_ICELAKE = _with(_CASCADELAKE, store=(2, 2, 1))
# Additions have a port (5) beside the two of the multiply-adds (0 and 1); at 512 bits the two that there are (0, 5).
_SAPPHIRE_RAPIDS = _with(
    _ICELAKE,
    {"tile.amx": 1 / 16},
    arith=(3, 3, 2),
    load=(3, 3, 2),
    # Seen: 12 and 24 independent ones alike start every other cycle, at every width.
    dot_bf16=(0.5, 0.5, 0.5),
)
_GOLDEN_COVE = {
    word: count
    for word, count in _SAPPHIRE_RAPIDS.items()
    if not word.endswith(".v512") and not word.startswith(("tile", "dot_bf16"))
}
_LION_COVE = _with(_GOLDEN_COVE, arith=(4, 4))
# Pipes of 128 bits, which wider instructions take twice.
_GRACEMONT = _fused((2, 1), add=(2, 1), load=(2, 1), store=(2, 1))
_SKYMONT = _fused((4, 2), add=(4, 2), load=(3, 1.5), store=(2, 1))
# How many multiply-adds and additions start together is not known of Zen and Zen 2, whose multiply-adds borrow a read.
_ZEN1 = _fused((2, 1), add=(2, 1), load=(2, 1), store=(1, 0.5), madd_i8=(0.5, 0.25))
_ZEN2 = _fused((2, 2), add=(2, 2), load=(2, 2), store=(1, 1), madd_i8=(0.5, 0.5))
_ZEN3 = _with(_ZEN2, arith=(4, 4), madd_i8=(1, 1))
# 512-bit instructions take a 256-bit pipe for two cycles.
_ZEN4 = _with(
    _ZEN3,
    fma=(2, 2, 1),
    mul=(2, 2, 1),
    add=(2, 2, 1),
    arith=(4, 4, 2),
    load=(2, 2, 1),
    store=(1, 1, 0.5),
    dot_bf16=(2, 2, 1),
    dot_i8=(2, 2, 1),
)
_ZEN5 = _with(
    _ZEN4,
    fma=(2, 2, 2),
    mul=(2, 2, 2),
    add=(2, 2, 2),
    arith=(4, 4, 4),
    load=(2, 2, 2),
    store=(2, 2, 1),
    dot_bf16=(2, 2, 2),
    dot_i8=(2, 2, 2),
)
_ZEN5_MOBILE = {word: count / 2 if word.endswith(".v512") else count for word, count in _ZEN5.items()}


def _arm(pipes: float, *dots: str, sve: float | None = None, **kinds: Counts) -> dict[str, float]:
    """A core whose 128-bit pipes all do multiply-adds, additions and ``dots``; ``sve`` pipes do those of SVE."""
    row = _fused(pipes, add=pipes, arith=pipes, **dict.fromkeys(dots, pipes), **kinds)
    words = ("fma", "mul", "add", "arith", *dots) if sve else ()
    return {**row, **{f"{word}.sve": float(sve or 0) for word in words}}


_V9 = ("dot_i8", "dot_bf16", "mmla_i8", "mmla_bf16")
_SKU_512 = (
    "models with one 512-bit multiply-add unit do half: the product page says how many AVX-512 FMA units a model has"
)
_INTEL_ROWS = (
    Ports(arch="core2", also=("nehalem", "westmere"), per_cycle=_CORE2, source="Intel ORM; uops (Nehalem)"),
    Ports(arch="sandybridge", also=("ivybridge",), per_cycle=_SANDY_BRIDGE, source="uops; Intel ORM; LLVM"),
    Ports(arch="haswell", also=("broadwell",), per_cycle=_HASWELL, source="uops; Intel ORM; LLVM"),
    Ports(arch="skylake", per_cycle=_SKYLAKE, source="uops; Intel ORM; LLVM"),
    Ports(
        arch="skylake_avx512",
        per_cycle=_SKYLAKE_SERVER,
        varies=_one_unit(_SKYLAKE_SERVER, *_512),
        source="uops; Intel ORM; LLVM",
        note=_SKU_512,
    ),
    Ports(
        arch="cascadelake",
        also=("cooperlake",),
        per_cycle=_CASCADELAKE,
        varies=_one_unit(_CASCADELAKE, *_512),
        source="uops; Intel ORM; LLVM; seen",
        note=_SKU_512,
    ),
    Ports(
        arch="icelake",
        per_cycle=_ICELAKE,
        varies=_one_unit(_ICELAKE, *_512),
        source="uops; Intel ORM",
        note=_SKU_512,
    ),
    Ports(
        arch="icelake_client",
        also=("tigerlake", "rocketlake"),
        per_cycle={**_ICELAKE, **_one_unit(_ICELAKE, *_512)},
        source="uops; LLVM",
        note="client models have one 512-bit unit",
    ),
    Ports(
        arch="golden_cove",
        also=("raptor_cove", "redwood_cove", "alderlake"),
        per_cycle=_GOLDEN_COVE,
        source="uops; LLVM; OSACA (Sapphire Rapids)",
        note="performance cores only",
    ),
    Ports(
        arch="lion_cove",
        also=("arrowlake", "arrowlake_s"),
        per_cycle=_LION_COVE,
        source="LLVM; Intel 2024",
        note="performance cores only",
    ),
    Ports(
        arch="gracemont",
        also=("crestmont", "sierraforest"),
        per_cycle=_GRACEMONT,
        source="uops; hwcooling",
        note="efficient cores",
    ),
    Ports(arch="skymont", per_cycle=_SKYMONT, source="Intel 2024", note="efficient cores"),
    Ports(
        arch="sapphirerapids",
        also=("emeraldrapids",),
        per_cycle=_SAPPHIRE_RAPIDS,
        source="uops (Golden Cove); Intel ORM; OSACA; seen",
    ),
    Ports(
        arch="graniterapids",
        per_cycle=_SAPPHIRE_RAPIDS,
        source="Intel ORM; seen",
        note="archspec calls it sapphirerapids",
    ),
)
_AMD_ROWS = (
    Ports(arch="zen", also=("zen_plus",), per_cycle=_ZEN1, source="uops; AMD SOG 17h; LLVM; OSACA"),
    Ports(arch="zen2", per_cycle=_ZEN2, source="uops; AMD SOG 17h models 30h and above; LLVM; OSACA"),
    Ports(arch="zen3", also=("zen3_plus",), per_cycle=_ZEN3, source="uops; AMD SOG 19h; LLVM; OSACA; seen"),
    Ports(
        arch="zen4",
        also=("zen4c",),
        per_cycle=_ZEN4,
        source="uops; AMD SOG 19h models 10h and above; LLVM; OSACA",
    ),
    Ports(arch="zen5", also=("zen5c",), per_cycle=_ZEN5, source="AMD SOG 1Ah; Yee; OSACA"),
    Ports(
        arch="zen5_mobile",
        per_cycle=_ZEN5_MOBILE,
        source="AMD SOG 1Ah; Yee",
        note="Strix Point and Krackan Point, whose data paths are 256 bits wide as those of Zen 4",
    ),
)
_ARM_ROWS = (
    # A multiply-add of 128 bits takes a pipe of 64 bits twice.
    Ports(
        arch="cortex_a72",
        also=("cortex_a57",),
        per_cycle=_fused(1, add=1, arith=1, load=1, store=0.5)
        | {f"{kind}.scalar": 2 for kind in _ARITHMETIC}
        | {"store.scalar": 1},
        source="Arm SOG Cortex-A72, Cortex-A57; LLVM; OSACA",
    ),
    Ports(
        arch="neoverse_n1",
        also=("cortex_a76",),
        per_cycle=_with(_arm(2, "dot_i8", load=2, store=1), {"store.scalar": 2}),
        source="Arm SOG Neoverse N1, Cortex-A76; LLVM; OSACA",
        note="Graviton 2, Altra",
    ),
    Ports(arch="cortex_a78", per_cycle=_arm(2, "dot_i8", load=3), source="Arm SOG Cortex-A78"),
    Ports(arch="cortex_x1", per_cycle=_arm(4, "dot_i8", load=3), source="Arm SOG Cortex-X1"),
    Ports(
        arch="neoverse_n2",
        also=("neoverse_n3",),
        per_cycle=_arm(2, *_V9, sve=2, load=3, store=2),
        source="Arm SOG Neoverse N2, Neoverse N3; LLVM",
        note="Cobalt 100",
    ),
    Ports(
        arch="neoverse_v1",
        per_cycle=_arm(4, *_V9, sve=2, load=3, store=2),
        source="Arm SOG Neoverse V1; LLVM",
        note="Graviton 3; vectors of SVE are 256 bits long and take two pipes",
    ),
    Ports(
        arch="neoverse_v2",
        also=("neoverse_v3",),
        per_cycle=_arm(4, *_V9, sve=4, load=3, store=2),
        source="Arm SOG Neoverse V2, Neoverse V3; LLVM; OSACA",
        note="Graviton 4, Grace",
    ),
    Ports(
        arch="ampere1",
        also=("ampere1a",),
        per_cycle=_with(_arm(2, "dot_i8", "dot_bf16", load=2, store=1), mmla_i8=1, mmla_bf16=1),
        source="LLVM",
        note="AmpereOne",
    ),
    Ports(arch="a64fx", per_cycle=_arm(2, sve=2, load=2, store=1), source="Fujitsu; LLVM; OSACA"),
    Ports(
        arch="oryon",
        per_cycle=_with(_arm(4, "dot_i8", "dot_bf16", load=4, store=2), mmla_i8=2, mmla_bf16=2),
        source="LLVM",
        note="Snapdragon X",
    ),
    Ports(
        arch="firestorm",
        also=("avalanche", "m1", "m2", "m3", "m4"),
        per_cycle=_arm(4, "dot_i8", load=3, store=2),
        source="Dougall (M1); OSACA",
        note="performance cores only",
    ),
    Ports(arch="icestorm", per_cycle=_arm(2, "dot_i8"), source="Dougall (M1)", note="efficient cores"),
)


def _by_arch(rows: Iterable[Ports]) -> dict[str, Ports]:
    found: dict[str, Ports] = {}
    for row in rows:
        for name in (row.arch, *row.also):
            if name in found:
                raise ValueError(f"ports of {name} stand in two rows")
            found[name] = row
    return found


PORTS = _by_arch((*_INTEL_ROWS, *_AMD_ROWS, *_ARM_ROWS))
