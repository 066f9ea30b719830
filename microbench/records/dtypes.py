"""Number formats: one row per dtype, checked at import."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtype:
    """One number format.

    Parameters
    ----------
    name
        The project's name, for example ``bf16``.
    bits
        Storage bits of one element.
    kind
        ``float`` (rates in FLOP/s) or ``int`` (rates in OP/s).
    exponent_bits, mantissa_bits
        Explicit field widths of a float format; ``None`` for integers.
    torch
        Name of the attribute in ``torch``; ``None`` where torch has no storage type.
    aliases
        Other spellings that users type.
    """

    name: str
    bits: int
    kind: str
    exponent_bits: int | None = None
    mantissa_bits: int | None = None
    torch: str | None = None
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("float", "int"):
            raise ValueError(f"dtype {self.name}: kind {self.kind!r} is neither 'float' nor 'int'")
        if (self.exponent_bits is None) != (self.kind == "int"):
            raise ValueError(f"dtype {self.name}: exponent_bits belong to floats only")

    @property
    def bytes(self) -> float:
        """Bytes of one element (0.5 for a 4-bit format)."""
        return self.bits / 8

    @property
    def rate_unit(self) -> str:
        """``FLOP/s`` for floats, ``OP/s`` for integers."""
        return "FLOP/s" if self.kind == "float" else "OP/s"


# tf32 occupies 32 bits in memory; 19 of them take part in the product.
DTYPES: dict[str, Dtype] = {
    row.name: row
    for row in (
        Dtype(
            name="f64",
            bits=64,
            kind="float",
            exponent_bits=11,
            mantissa_bits=52,
            torch="float64",
            aliases=("fp64", "float64", "double"),
        ),
        Dtype(
            name="f32",
            bits=32,
            kind="float",
            exponent_bits=8,
            mantissa_bits=23,
            torch="float32",
            aliases=("fp32", "float32", "float"),
        ),
        Dtype(
            name="tf32",
            bits=32,
            kind="float",
            exponent_bits=8,
            mantissa_bits=10,
            torch="float32",
            aliases=("tensorfloat32",),
        ),
        Dtype(
            name="f16",
            bits=16,
            kind="float",
            exponent_bits=5,
            mantissa_bits=10,
            torch="float16",
            aliases=("fp16", "float16", "half"),
        ),
        Dtype(
            name="bf16",
            bits=16,
            kind="float",
            exponent_bits=8,
            mantissa_bits=7,
            torch="bfloat16",
            aliases=("bfloat16",),
        ),
        Dtype(
            name="f8e4m3",
            bits=8,
            kind="float",
            exponent_bits=4,
            mantissa_bits=3,
            torch="float8_e4m3fn",
            aliases=("fp8", "e4m3", "float8_e4m3fn"),
        ),
        Dtype(
            name="f8e5m2",
            bits=8,
            kind="float",
            exponent_bits=5,
            mantissa_bits=2,
            torch="float8_e5m2",
            aliases=("e5m2", "float8_e5m2"),
        ),
        Dtype(
            name="f4e2m1",
            bits=4,
            kind="float",
            exponent_bits=2,
            mantissa_bits=1,
            aliases=("fp4", "e2m1", "nvfp4", "mxfp4"),
        ),
        Dtype(name="i64", bits=64, kind="int", torch="int64", aliases=("int64",)),
        Dtype(name="i32", bits=32, kind="int", torch="int32", aliases=("int32",)),
        Dtype(name="i8", bits=8, kind="int", torch="int8", aliases=("int8",)),
        Dtype(name="bool", bits=8, kind="int", torch="bool"),
    )
}

_BY_SPELLING: dict[str, Dtype] = {}
for _row in DTYPES.values():
    if _row.kind == "float" and 1 + (_row.exponent_bits or 0) + (_row.mantissa_bits or 0) not in (_row.bits, 19):
        raise ValueError(f"dtype {_row.name}: sign, exponent and mantissa do not fill {_row.bits} bits")
    for _spelling in (_row.name, *_row.aliases):
        if _spelling in _BY_SPELLING:
            raise ValueError(f"dtype spelling {_spelling!r} stands for two dtypes")
        _BY_SPELLING[_spelling] = _row


def dtype(name: str) -> Dtype:
    """Look up a dtype by any of its spellings.

    Raises
    ------
    ValueError
        If the spelling is unknown; the message lists those that are known.

    Examples
    --------
    >>> dtype("fp16").name
    'f16'
    """
    spelling = name.strip().lower().removeprefix("torch.") if isinstance(name, str) else ""
    row = _BY_SPELLING.get(spelling)
    if row is None:
        raise ValueError(f"unknown dtype {name!r}; known: {', '.join(DTYPES)}")
    return row
