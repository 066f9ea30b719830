"""How many instructions of a kind a core starts per cycle, by microarchitecture.

The words are those of ``Sheet.ports``: what the instruction does, then its width (``scalar`` for one lane); read,
write, copy and triad are bound by ``load`` and ``store``. A fraction means more than one cycle apiece. A word that is
missing from a row is unknown there, and nominal is then unknown too: nothing is guessed.

Sources, by name: *uops* is the uops.info table of measured throughputs; *Intel ORM* the Intel 64 and IA-32 optimisation
reference manual; *AMD SOG* the software optimisation guide of that family; *Arm SOG* the software optimisation guide of
that core; *Dougall* the published measurements of Apple's cores by Dougall Johnson; *seen* a characterisation under
results/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_WIDTHS = ("v128", "v256", "v512")
WORDS = (
    *(
        f"{kind}.{width}" for kind in ("fma", "load", "store") for width in ("scalar", *_WIDTHS)
    ),  # fma: f64, f32 and f16 alike
    *(f"dot_bf16.{width}" for width in _WIDTHS),  # two bf16 pairs into f32
    *(f"dot_i8.{width}" for width in _WIDTHS),  # four 8-bit pairs into i32 (VNNI, AVX-VNNI, NEON sdot)
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
        for kind in ("fma", "load", "store"):
            counts = [self.per_cycle[f"{kind}.{width}"] for width in _WIDTHS if f"{kind}.{width}" in self.per_cycle]
            if not counts or counts != sorted(counts, reverse=True):
                raise ValueError(
                    f"ports of {self.arch}: {kind} is missing, or wider instructions start more often than narrow ones"
                )


def _each(kind: str, *counts: float | None, scalar: float | None = None) -> dict[str, float]:
    """Counts of one kind at 128, 256 and 512 bits, in that order."""
    named = {f"{kind}.{width}": count for width, count in zip(_WIDTHS, counts, strict=False) if count is not None}
    return named | ({f"{kind}.scalar": scalar} if scalar is not None else {})


def _merge(*parts: Mapping[str, float]) -> dict[str, float]:
    return {word: count for part in parts for word, count in part.items()}


_HASWELL = _merge(_each("fma", 2, 2, scalar=2), _each("load", 2, 2, scalar=2), _each("store", 1, 1, scalar=1))
_SKYLAKE_SERVER = _merge(_HASWELL, _each("fma", 2, 2, 2), _each("load", 2, 2, 2), _each("store", 1, 1, 1))
_CASCADELAKE = _merge(_SKYLAKE_SERVER, _each("dot_i8", 2, 2, 2))
# Two stores start per cycle only where both go to one line, which streaming code does; 512-bit ones never pair.
_ICELAKE = _merge(_CASCADELAKE, _each("store", 2, 2, 1, scalar=2))
_GOLDEN_COVE = _merge(_ICELAKE, _each("load", 3, 3, 2, scalar=3))
_SAPPHIRE_RAPIDS = _merge(
    _GOLDEN_COVE,
    # Seen: 12 and 24 independent ones alike start every other cycle, at every width.
    _each("dot_bf16", 0.5, 0.5, 0.5),
    {"tile.amx": 1 / 16},
)
_ZEN1 = _merge(_each("fma", 2, 1, scalar=2), _each("load", 2, 1, scalar=2), _each("store", 1, 0.5, scalar=1))
_ZEN2 = _merge(_ZEN1, _each("fma", 2, 2), _each("load", 2, 2), _each("store", 1, 1))
_ZEN3 = _merge(_ZEN2, {"load.scalar": 3, "store.scalar": 2})
# 512-bit instructions take a 256-bit pipe for two cycles.
_ZEN4 = _merge(
    _ZEN3,
    _each("fma", 2, 2, 1),
    _each("load", 2, 2, 1),
    _each("store", 1, 1, 0.5),
    _each("dot_bf16", 2, 2, 1),
    _each("dot_i8", 2, 2, 1),
)
_ZEN5 = _merge(
    _ZEN4,
    {"load.scalar": 4, "store.scalar": 2},
    _each("fma", 2, 2, 2),
    _each("load", 2, 2, 2),
    _each("store", 2, 2, 1),
    _each("dot_bf16", 2, 2, 2),
    _each("dot_i8", 2, 2, 2),
)
_ZEN5_MOBILE = _merge(
    _ZEN5,
    {word: count / 2 for word, count in _ZEN5.items() if word.endswith(".v512")},
)


def _neon(pipes: float, loads: float, stores: float, *kinds: str) -> dict[str, float]:
    """A core whose 128-bit pipes all do multiply-adds, scalar ones too, and every other of ``kinds``."""
    arithmetic = _merge(*(_each(kind, pipes) for kind in kinds), {"fma.scalar": pipes})
    return _merge(arithmetic, _each("load", loads, scalar=loads), _each("store", stores, scalar=stores))


_SKU_512 = (
    "models with one 512-bit multiply-add unit do half: the product page says how many AVX-512 FMA units a model has"
)
_ROWS: tuple[Ports, ...] = (
    Ports(arch="haswell", per_cycle=_HASWELL, source="uops; Intel ORM"),
    Ports(arch="broadwell", per_cycle=_HASWELL, source="uops; Intel ORM"),
    Ports(arch="skylake", per_cycle=_HASWELL, source="uops; Intel ORM"),
    Ports(
        arch="skylake_avx512",
        per_cycle=_SKYLAKE_SERVER,
        varies={"fma.v512": 1},
        source="uops; Intel ORM",
        note=_SKU_512,
    ),
    Ports(
        arch="cascadelake",
        also=("cooperlake",),
        per_cycle=_CASCADELAKE,
        varies={"fma.v512": 1, "dot_i8.v512": 1},
        source="uops; Intel ORM",
        note=_SKU_512,
    ),
    Ports(
        arch="icelake",
        per_cycle=_ICELAKE,
        varies={"fma.v512": 1, "dot_i8.v512": 1},
        source="uops; Intel ORM",
        note=_SKU_512,
    ),
    Ports(
        arch="icelake_client",
        also=("tigerlake", "rocketlake"),
        per_cycle=_merge(_ICELAKE, {"fma.v512": 1, "dot_i8.v512": 1}),
        source="uops",
        note="client models have one 512-bit unit",
    ),
    Ports(
        arch="golden_cove",
        also=("raptor_cove", "alderlake"),
        per_cycle={k: v for k, v in _GOLDEN_COVE.items() if "v512" not in k},
        source="uops",
        note="performance cores only",
    ),
    Ports(
        arch="sapphirerapids",
        also=("emeraldrapids",),
        per_cycle=_SAPPHIRE_RAPIDS,
        source="uops (Golden Cove); Intel ORM; seen",
    ),
    Ports(
        arch="graniterapids",
        per_cycle=_SAPPHIRE_RAPIDS,
        source="Intel ORM; seen",
        note="archspec calls it sapphirerapids",
    ),
    Ports(arch="zen", also=("zen_plus",), per_cycle=_ZEN1, source="uops; AMD SOG 17h"),
    Ports(arch="zen2", per_cycle=_ZEN2, source="uops; AMD SOG 17h models 30h and above"),
    Ports(arch="zen3", also=("zen3_plus",), per_cycle=_ZEN3, source="uops; AMD SOG 19h"),
    Ports(arch="zen4", also=("zen4c",), per_cycle=_ZEN4, source="uops; AMD SOG 19h models 10h and above"),
    Ports(
        arch="zen5",
        also=("zen5c",),
        per_cycle=_ZEN5,
        source="AMD SOG 1Ah; A. Yee's measurements of 2024",
    ),
    Ports(
        arch="zen5_mobile",
        per_cycle=_ZEN5_MOBILE,
        source="AMD SOG 1Ah; A. Yee's measurements of 2024",
        note="Strix Point and Krackan Point, whose data paths are 256 bits wide as those of Zen 4",
    ),
    Ports(arch="cortex_a72", per_cycle=_neon(2, 1, 1, "fma"), source="Arm SOG Cortex-A72"),
    Ports(
        arch="neoverse_n1",
        per_cycle=_neon(2, 2, 1, "fma", "dot_i8"),
        source="Arm SOG Neoverse N1",
        note="Graviton 2, Altra",
    ),
    Ports(arch="neoverse_n2", per_cycle=_neon(2, 3, 2, "fma", "dot_i8", "dot_bf16"), source="Arm SOG Neoverse N2"),
    Ports(
        arch="neoverse_v1",
        per_cycle=_neon(4, 3, 2, "fma", "dot_i8", "dot_bf16"),
        source="Arm SOG Neoverse V1",
        note="Graviton 3",
    ),
    Ports(
        arch="neoverse_v2",
        per_cycle=_neon(4, 3, 2, "fma", "dot_i8", "dot_bf16"),
        source="Arm SOG Neoverse V2",
        note="Graviton 4, Grace",
    ),
    Ports(
        arch="firestorm",
        also=("avalanche", "m1", "m2", "m3", "m4"),
        per_cycle=_neon(4, 3, 2, "fma", "dot_i8"),
        source="Dougall (M1)",
        note="performance cores only",
    ),
)


def _by_arch(rows: Iterable[Ports]) -> dict[str, Ports]:
    found: dict[str, Ports] = {}
    for row in rows:
        for name in (row.arch, *row.also):
            if name in found:
                raise ValueError(f"ports of {name} stand in two rows")
            found[name] = row
    return found


PORTS = _by_arch(_ROWS)
