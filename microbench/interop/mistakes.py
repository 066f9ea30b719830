"""The mistakes that people make when they type in a data sheet: the factor, and what usually causes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A factor between what was typed and what is true, and what usually causes it."""

    code: str
    factor: float
    says: str
    remedy: str
    quantities: tuple[str, ...] = ("compute", "bandwidth", "capacity", "link")
    slack: float = 0.0


_SPARSE = Mistake(
    code="declared-sparse",
    factor=2,
    says="twice the dense rate, as with structured sparsity",
    remedy="write the dense figure, half of the one marked 'with sparsity'",
    quantities=("compute",),
    slack=0.1,
)
_HALF = Mistake(
    code="declared-half",
    factor=0.5,
    says="half the rate, as when a multiply-add counts once or a dense figure is divided by a sparsity factor",
    remedy="count a multiply-add as 2 and divide sparse figures only",
    quantities=("compute",),
    slack=0.1,
)
_BOTH_WAYS = Mistake(
    code="declared-both-ways",
    factor=2,
    says="twice the rate of one direction, as when both are counted",
    remedy="write what one device sends in one direction, half of the printed total",
    quantities=("link",),
)
_UNIT = "write the number in the unit that the field's reader expects"
MISTAKES: tuple[Mistake, ...] = (
    _SPARSE,
    _HALF,
    _BOTH_WAYS,
    *(
        Mistake(
            code="declared-unit",
            factor=1000.0**power,
            says=f"off by 1e{3 * power}, a wrong prefix",
            remedy=_UNIT,
            slack=0.1,
        )
        for power in (1, -1, 2, -2, 3, -3, 4, -4)
    ),
    *(
        Mistake(
            code="declared-unit", factor=factor, says=says, remedy=_UNIT, quantities=("bandwidth", "capacity", "link")
        )
        for factor, says in (
            (8.0, "eight times as much, bits taken for bytes"),
            (0.125, "an eighth, bytes taken for bits"),
        )
    ),
)
BINARY = tuple((1.024**power, word) for power, word in ((1, "kB and KiB"), (2, "MB and MiB"), (3, "GB and GiB")))
