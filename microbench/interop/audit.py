"""Declared hardware numbers compared with what is known: wrong units, sparsity counted in, another card's figures.

Predictors carry tables of peaks and bandwidths that somebody typed in. Each declared number is compared with the
nominal table or with a characterisation, and where it does not fit, with the mistakes that people make: a factor of
1000, of 8, of 1024/1000, structured sparsity counted in, a multiply-add counted once, both directions of a link, the
neighbouring product's figure. Numbers that nothing is known of are listed too: silence would pass for agreement.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from microbench.errors import UsageError
from microbench.interop import readers
from microbench.interop.declared import Declared, numbers_in
from microbench.interop.documents import read_document
from microbench.interop.mistakes import BINARY, MISTAKES, Mistake
from microbench.interop.references import (
    Figure,
    Key,
    Known,
    Reference,
    figure,
    measured_reference,
    nominal,
    other_product,
)
from microbench.records import Characterisation, Finding, Severity
from microbench.records.units import prefixed

# Beyond this a number that no known mistake explains is a fault and not an old edition.
_FAR = 0.25
_OTHER = 0.08
# Links are printed round: 64 GB/s of a PCIe that moves 63.
_LINK_SLACK = 0.04
# What no device has had of each quantity, by far: a device that is in no table is held against this at least.
_POSSIBLE = {"compute": (1e6, 1e19), "bandwidth": (1e6, 1e16), "capacity": (1e6, 1e16), "link": (1e6, 1e15)}

Status = Literal["checked", "doubtful", "fault", "not checked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One number of a file, the value it was compared with, and what is wrong with it (``None``: nothing).

    ``count`` is how many numbers of the file this is: 0 where one is missing (``declared`` is then another one of its
    device), several for a list of them. ``status`` says whether a number was checked and is right, ``why`` why it was
    not checked.
    """

    declared: Declared
    reference: Known | None = None
    finding: Finding | None = None
    count: int = 1
    why: str = ""
    status: Status = field(init=False, default="not checked")

    def __post_init__(self) -> None:
        found: Status = "not checked" if self.reference is None else "checked"
        if self.finding is not None and self.finding.severity != "info":
            found = "fault" if self.finding.severity == "error" else "doubtful"
        object.__setattr__(self, "status", found)


def audit(path: str | Path, against: Characterisation | str | None = None) -> list[Checked]:
    """Check every number that a file declares, and list those that cannot be checked.

    Parameters
    ----------
    path
        A file of any format that `readers` knows.
    against
        A characterisation, the name of a GPU in the nominal table, or ``None``: each device's own name in that table.

    Raises
    ------
    UsageError
        If the file is of no known format, or declares nothing, or nothing is known to hold it against.
    """
    document = read_document(path)
    form, declared = recognise(document, str(path))
    if isinstance(against, Characterisation):
        given: Reference | None = measured_reference(against)
    else:
        given = nominal(against, None) if against else None
        if against and given is None:
            raise UsageError(f"no GPU named {against!r} is in the table; `microbench nominal` lists those that are")
    code = Path(path).suffix.lower() == ".py"
    return [*check(declared, form, given, Path(path).stem), *unknown(document, declared, code=code)]


def recognise(document: object, name: str) -> tuple[str, list[Declared]]:
    """Find the reader of a document.

    Raises
    ------
    UsageError
        If no reader takes it, or it declares nothing.
    """
    for form, read in readers().items():
        rows = read(document)
        if rows:
            return form, rows
        if rows is not None:
            raise UsageError(f"{name} is a {form} file without any number in it; nothing to check")
    if isinstance(document, dict) and {"schema", "device", "ceilings"} <= document.keys():
        raise UsageError(
            f"{name} was measured, not declared; hold a declaration against it: microbench audit FILE --against {name}"
        )
    raise UsageError(f"{name} is in no known format; known: {', '.join(sorted(readers()))}")


def check(declared: Sequence[Declared], form: str, given: Reference | None, stem: str) -> list[Checked]:
    """Hold declared numbers against one reference, or each device against its own."""
    results: list[Checked] = []
    devices: dict[str, list[Declared]] = {}
    stated: dict[Figure, list[str]] = {}
    for row in declared:
        devices.setdefault(row.device, []).append(row)
        if len(names := stated.setdefault(figure(row), [])) < 8:  # enough to tell whose figure was copied
            names.append(row.device)
    for device, rows in devices.items():
        capacity = next((row.value for row in rows if row.quantity == "capacity"), None)
        reference = given or nominal(device or stem, capacity)
        if reference is None:
            results += _strangers(rows, device or stem)
            continue
        results += [_checked(row, reference, rows, stated) for row in rows]
        results += _missing(rows, reference, form)
    return results


def unknown(document: Any, declared: Sequence[Declared], *, code: bool = False) -> list[Checked]:
    """The numbers of a document that its reader knows no meaning of; of code only those of the tables that it read."""
    read = {row.keys for row in declared}
    tables = {keys[0] for keys in read if keys}
    return [
        Checked(
            declared=Declared(
                device="",
                quantity="other",
                value=_float(value),
                where=".".join(keys),
                stated=_said(value, count),
                keys=keys,
            ),
            count=count,
            why="nothing is known of this key",
        )
        for keys, value, count in numbers_in(document)
        if keys not in read and (not code or (keys and keys[0] in tables))
    ]


def _float(value: float | None) -> float:
    try:
        return math.nan if value is None else float(value)
    except OverflowError:
        return math.inf


def _said(value: float | None, count: int) -> str:
    return f"{count} numbers" if value is None else f"{_float(value):.6g}"


def _strangers(rows: Sequence[Declared], name: str) -> Iterable[Checked]:
    """The numbers of a device that is in no table: held against what any device could have."""
    says = f"{name} is not in the nominal table, so its {len(rows)} numbers are not checked"
    remedy = "name a reference with --against FILE or NAME"
    told = Finding(code="declared-unknown", severity="info", says=says, remedy=remedy)
    for place, row in enumerate(rows):
        low, high = _POSSIBLE[row.quantity]
        finding = told if place == 0 else None
        if not low <= row.value <= high:
            says = f"{row.where} is {row.stated}, and no device has that: a wrong unit"
            finding = Finding(code="declared-unit", severity="error", says=says, remedy="look the figure up again")
        yield Checked(declared=row, finding=finding, why="the device is in no table")


def _checked(
    row: Declared, reference: Reference, beside: Sequence[Declared], stated: Mapping[Figure, Sequence[str]]
) -> Checked:
    known = [each for key in _keys(row, reference) for each in reference.known.get(key, ())]
    if not known:
        return Checked(declared=row, why=f"no such figure of {reference.name} is known")
    for each in known:
        if each.fits(row.value):
            return Checked(declared=row, reference=each)
    nearest = min(known, key=lambda each: _distance(row.value / each.value))
    finding = _known_mistake(row, known, nearest) or _unexplained(row, nearest, reference, (beside, stated))
    return Checked(declared=row, reference=nearest, finding=finding)


def _keys(row: Declared, reference: Reference) -> list[Key]:
    """Under which a declared number can be known."""
    if row.quantity == "link":
        return [("link", row.link)]
    if row.vector:
        return [("compute", f"vector {row.dtype}")]
    if row.quantity == "compute" and row.dtype is None:  # the file does not say the dtype: any may be meant
        return [key for key in reference.known if key[0] == "compute"]
    if row.dtype in ("f16", "bf16"):
        return [("compute", "f16"), ("compute", "bf16")]  # tables of tensor rates use one word for both
    return [(row.quantity, row.dtype), *((row.quantity, dtype) for dtype in row.also)]


def _distance(ratio: float) -> float:
    """How far a ratio is from 1, the same for x and 1 / x."""
    return ratio - 1 if ratio >= 1 else 1 / ratio - 1


def _compared(row: Declared, nearest: Known) -> str:
    return f"{row.where} is {row.stated}, but {nearest.source} is {_quantity(row, nearest.value)}"


def _known_mistake(row: Declared, known: Sequence[Known], nearest: Known) -> Finding | None:
    """The mistake whose factor explains a number."""
    if row.quantity in ("bandwidth", "link") and (mixed := _mixed_prefixes(row, known, nearest)) is not None:
        return mixed
    for mistake in MISTAKES:
        if row.quantity in mistake.quantities and any(_is_mistake(row, mistake, each) for each in known):
            says = f"{_compared(row, nearest)}: {mistake.says}"
            return Finding(code=mistake.code, severity="error", says=says, remedy=mistake.remedy)
    return None


def _is_mistake(row: Declared, mistake: Mistake, known: Known) -> bool:
    if row.quantity == "link":  # several links differ by small factors themselves
        return abs(row.value / mistake.factor / known.value - 1) < _LINK_SLACK
    return known.fits(row.value / mistake.factor, mistake.slack)


def _mixed_prefixes(row: Declared, known: Sequence[Known], nearest: Known) -> Finding | None:
    """The finding where a rate is off by a power of 1.024."""
    for factor, pair in BINARY:
        for share in (factor, 1 / factor):
            if any(abs(row.value / each.value / share - 1) < 0.015 for each in known):
                says = f"{_compared(row, nearest)}: {pair} are mixed up"
                remedy = "mind whether the field's reader counts in 1000 or 1024"
                return Finding(code="declared-unit", severity="warning", says=says, remedy=remedy)
    return None


def _unexplained(
    row: Declared,
    nearest: Known,
    reference: Reference,
    file: tuple[Sequence[Declared], Mapping[Figure, Sequence[str]]],
) -> Finding:
    """What is said of a number that no factor explains: another card's, a mixed-up prefix, or merely off."""
    compared, ratio = _compared(row, nearest), row.value / nearest.value
    # Within a few percent an older edition of the sheet is likelier than another card.
    other = None if reference.measured or abs(ratio - 1) < _OTHER else other_product(row, *file)
    if other is not None:
        return Finding(
            code="declared-other-product",
            severity="error",
            says=f"{compared}: it is the figure of {other}",
            remedy=f"look up {reference.name} itself",
        )
    far = not 1 - _FAR <= ratio <= 1 + _FAR
    # A machine may join its cards by fewer links than they have, and by no more.
    severity: Severity = (
        "error" if (far and not (row.quantity == "link" and ratio < 1)) or reference.measured else "warning"
    )
    bound = "lower than what was measured" if reference.measured and ratio < 1 else f"{ratio:.3g} times that"
    return Finding(
        code="declared-off",
        severity=severity,
        says=f"{compared}: {bound}",
        remedy="look the figure up again, and note its source",
    )


def _quantity(row: Declared, value: float) -> str:
    unit = {"compute": "OP/s" if (row.dtype or "").startswith("i") else "FLOP/s", "capacity": "B"}.get(
        row.quantity, "B/s"
    )
    return prefixed(value, unit)


# Dtypes that PyTorch looks up in its table; where one is absent it guesses.
_LOOKED_UP = ("f32", "f16", "bf16", "f8e4m3", "i8")


def _missing(rows: Sequence[Declared], reference: Reference, form: str) -> Iterable[Checked]:
    device = rows[0].device or reference.name
    for quantity in ("compute", "bandwidth"):
        if not any(row.quantity == quantity for row in rows):
            yield _absent(rows[0], f"{device} declares no {quantity}", "error")
    if form == "pytorch":
        has = {row.dtype for row in rows}
        absent = [dtype for dtype in _LOOKED_UP if dtype not in has and ("compute", dtype) in reference.known]
        if absent:
            yield _absent(
                rows[0], f"{device} has no entry for {', '.join(absent)}, which {reference.name} can do", "warning"
            )


def _absent(row: Declared, says: str, severity: Severity) -> Checked:
    finding = Finding(
        code="declared-missing", severity=severity, says=says, remedy="add the entry, dense and in the table's unit"
    )
    return Checked(declared=row, finding=finding, count=0)
