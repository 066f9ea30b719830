"""Declared hardware numbers compared with what is known: wrong units, sparsity counted in, another card's figures.

Predictors carry tables of peaks and bandwidths that somebody typed in. Each declared number is compared with the
nominal table or with a characterisation, and where it does not fit, with the mistakes that people make: a factor of
1000, of 8, of 1024/1000, structured sparsity counted in, a multiply-add counted once, the neighbouring product's
figure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from microbench.analysis.roofs import roofs
from microbench.errors import UsageError
from microbench.hardware.tables import gpus
from microbench.interop import readers
from microbench.interop.declared import Declared, Quantity, read_document
from microbench.interop.figures import bandwidth, compute
from microbench.records import Characterisation, Finding, Severity
from microbench.records.units import prefixed

# Data sheets round, and two editions of one sheet differ by as much (2039 and 2048 GB/s): this is not called a fault.
_ROUNDING = 0.04
# Beyond this a number that no known mistake explains is a fault and not an old edition.
_FAR = 0.25
_OTHER = 0.08
# A library reaches at least this share of the true peak, an instruction loop and a stream this: less means the declared
# peak is too high.
_LIBRARY_SHARE, _PEAK_SHARE, _STREAM_SHARE = 0.45, 0.7, 0.65
_CAPACITY = 0.12  # GB or GiB, and what the driver keeps

Key = tuple[Quantity, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A value to compare a declared number with; it fits if declared / value lies between ``low`` and ``high``."""

    value: float
    source: str
    low: float = 1 - _ROUNDING
    high: float = 1 + _ROUNDING

    def fits(self, declared: float, slack: float = 0.0) -> bool:
        """Whether a declared value can be this one."""
        return self.low * (1 - slack) <= declared / self.value <= self.high * (1 + slack)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What is known of one device: several values of a quantity where several products share its name."""

    name: str
    known: Mapping[Key, tuple[Known, ...]]
    measured: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A factor between what was typed and what is true, and what usually causes it."""

    code: str
    factor: float
    says: str
    remedy: str
    quantities: tuple[str, ...] = ("compute", "bandwidth", "capacity")
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
_UNIT = "write the number in the unit that the field's reader expects"
_MISTAKES: tuple[Mistake, ...] = (
    _SPARSE,
    _HALF,
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
        Mistake(code="declared-unit", factor=factor, says=says, remedy=_UNIT, quantities=("bandwidth", "capacity"))
        for factor, says in (
            (8.0, "eight times as much, bits taken for bytes"),
            (0.125, "an eighth, bytes taken for bits"),
        )
    ),
)
_PRINTED = {"bandwidth": 1e-3}  # what the table has as it is printed; computed rates differ in their third digit
_BINARY = tuple((1.024**power, word) for power, word in ((1, "kB and KiB"), (2, "MB and MiB"), (3, "GB and GiB")))


def nominal_reference(gpu: gpus.Gpu) -> dict[Key, list[Known]]:
    """Dense peaks by dtype, bandwidth and capacity of a GPU in the table."""
    found: dict[Key, list[Known]] = {
        ("bandwidth", None): [Known(value=gpu.memory_bandwidth, source=gpu.name)],
        ("capacity", None): [Known(value=gpu.memory_gb * 1e9, source=gpu.name, low=1 - _CAPACITY, high=1 + _CAPACITY)],
    }
    for rate in gpu.chip.rates:
        value = gpu.sms * rate.flop * gpu.clock_hz(rate.unit, rate.dtype)
        found.setdefault(("compute", rate.dtype), []).append(
            Known(value=value, source=f"{gpu.name} {rate.unit} {rate.dtype}")
        )
    # A vector rate below the matrix rate of one dtype is never the one that a table of peaks means, but in f64 both are
    # printed.
    for key, rows in found.items():
        if key[0] == "compute" and key[1] not in ("f64", "f32") and any(" matrix " in row.source for row in rows):
            found[key] = [row for row in rows if " matrix " in row.source]
    return found


def measured_reference(c: Characterisation) -> Reference:
    """What a measured device says of declared figures: a ceiling bounds the true peak from below."""
    found: dict[Key, list[Known]] = {}
    for dtype, rate in compute(c).items():
        rows = [row for row in roofs(c.ceilings, c.sheets) if row.measures == "compute" and row.dtype == dtype]
        share = _PEAK_SHARE if any(row.mode == "peak" for row in rows) else _LIBRARY_SHARE
        best = max([rate.value, *(row.rate.value for row in rows if row.scope == "device")])
        # What is reached may be declared, or what it is a share of, or anything between.
        found[("compute", dtype)] = [
            Known(value=best, source=f"measured {rate.source}", low=0.98 * rate.value / best, high=1 / share)
        ]
    streams = [stream for access in ("read", "copy", "triad", "write") if (stream := bandwidth(c, access)) is not None]
    if streams:
        fast, slow = max(streams, key=lambda each: each.value), min(each.value for each in streams)
        low = 0.98 * slow / fast.value
        found[("bandwidth", None)] = [
            Known(value=fast.value, source=f"measured {fast.source}", low=low, high=1 / _STREAM_SHARE)
        ]
    if c.device.memory_bytes:
        found[("capacity", None)] = [
            Known(value=c.device.memory_bytes, source="the device", low=1 - _CAPACITY, high=1 + _CAPACITY)
        ]
    return Reference(name=c.device.name, known={key: tuple(rows) for key, rows in found.items()}, measured=True)


def words(name: str) -> frozenset[str]:
    """Split a name into the words that distinguish cards, in one spelling.

    ``A100_80G`` and ``A100-SXM4-80GB`` share ``a100`` and ``80gb``.

    Examples
    --------
    >>> sorted(words("NVIDIA A100-SXM4-80GB")), sorted(words("nvidia_A100_80G"))
    (['80gb', 'a100', 'sxm'], ['80gb', 'a100'])
    """
    found = re.findall(r"[a-z0-9]+", name.lower())
    alike = {word: re.sub(r"^(\d+)g(?:ib)?$", r"\1gb", re.sub(r"^sxm\d*$", "sxm", word)) for word in found}
    return frozenset(alike[word] for word in found if word not in ("nvidia", "tesla", "geforce", "rtx", "gpu"))


_SHAPE = re.compile(r"\d+gb|sxm|pcie|hbm\d*e?")


def candidates(name: str, capacity: float | None) -> list[gpus.Gpu]:
    """GPUs that a declared name can mean, none where it names something else.

    The memory capacity, declared or in the name, chooses between versions of a card.
    """
    declared = words(name)
    sizes = [int(word[:-2]) * 1e9 for word in declared if re.fullmatch(r"\d{1,4}gb", word)]
    capacity = capacity or (sizes[0] if sizes else None)

    def holds(gpu: gpus.Gpu) -> bool:
        return capacity is None or abs(capacity / (gpu.memory_gb * 1e9) - 1) <= _CAPACITY

    exact = gpus.find(name)
    if exact is not None and holds(exact):
        return [exact]
    spellings = {gpu.name: {words(spelling) for spelling in (gpu.name, *gpu.aliases)} for gpu in gpus.GPUS}

    def matches(known: frozenset[str]) -> bool:
        # Names may differ by words of size and socket only: a laptop card is not the card that it is named after, nor a
        # Ti the plain one.
        contained = bool(declared) and (declared <= known or known <= declared)
        return contained and all(_SHAPE.fullmatch(word) for word in declared ^ known)

    found = [gpu for gpu in gpus.GPUS if any(matches(known) for known in spellings[gpu.name])]
    return [gpu for gpu in found if holds(gpu)] or ([exact] if exact else found)


def _nominal(name: str, capacity: float | None) -> Reference | None:
    known: dict[Key, list[Known]] = {}
    found = candidates(name, capacity)
    for gpu in found:
        for key, rows in nominal_reference(gpu).items():
            known.setdefault(key, []).extend(rows)
    title = found[0].name if found else ""
    return Reference(name=title, known={key: tuple(rows) for key, rows in known.items()}) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One declared number, the value it was compared with, and what is wrong with it (``None``: nothing)."""

    declared: Declared
    reference: Known | None
    finding: Finding | None = None


def audit(path: str | Path, against: Characterisation | str | None = None) -> list[Checked]:
    """Check every number that a file declares.

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
    form, declared = recognise(read_document(path), str(path))
    if isinstance(against, Characterisation):
        given: Reference | None = measured_reference(against)
    else:
        given = _nominal(against, None) if against else None
        if against and given is None:
            raise UsageError(f"no GPU named {against!r} is in the table; `microbench nominal` lists those that are")
    return check(declared, form, given, Path(path).stem)


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
    for device in dict.fromkeys(row.device for row in declared):
        rows = [row for row in declared if row.device == device]
        capacity = next((row.value for row in rows if row.quantity == "capacity"), None)
        reference = given or _nominal(device or stem, capacity)
        if reference is None:
            says = f"{device or stem} is not in the nominal table, so its {len(rows)} numbers are not checked"
            finding = Finding(
                code="declared-unknown",
                severity="info",
                says=says,
                remedy="name a reference with --against FILE or NAME",
            )
            results += [
                Checked(declared=row, reference=None, finding=finding if row is rows[0] else None) for row in rows
            ]
            continue
        results += [_checked(row, reference) for row in rows]
        results += _missing(rows, reference, form)
    return results


def _checked(row: Declared, reference: Reference) -> Checked:
    keys = [(row.quantity, row.dtype)]
    if row.quantity == "compute" and row.dtype is None:  # the file does not say the dtype: any may be meant
        keys = [key for key in reference.known if key[0] == "compute"]
    elif row.dtype in ("f16", "bf16"):
        keys = [("compute", "f16"), ("compute", "bf16")]  # tables of tensor rates use one word for both
    known = [each for key in keys for each in reference.known.get(key, ())]
    if not known:
        return Checked(declared=row, reference=None)
    for each in known:
        if each.fits(row.value):
            return Checked(declared=row, reference=each)
    nearest = min(known, key=lambda each: _distance(row.value / each.value))
    return Checked(declared=row, reference=nearest, finding=_explain(row, known, nearest, reference))


def _distance(ratio: float) -> float:
    """How far a ratio is from 1, the same for x and 1 / x."""
    return ratio - 1 if ratio >= 1 else 1 / ratio - 1


def _explain(row: Declared, known: Sequence[Known], nearest: Known, reference: Reference) -> Finding:
    compared = f"{row.where} is {row.stated}, but {nearest.source} is {_quantity(row, nearest.value)}"
    for mistake in _MISTAKES:
        if row.quantity in mistake.quantities and any(
            each.fits(row.value / mistake.factor, mistake.slack) for each in known
        ):
            return Finding(
                code=mistake.code, severity="error", says=f"{compared}: {mistake.says}", remedy=mistake.remedy
            )
    ratio = row.value / nearest.value
    # Within a few percent an older edition of the sheet is likelier than another card.
    other = None if reference.measured or abs(ratio - 1) < _OTHER else _other_product(row)
    if other is not None:
        remedy = f"look up {reference.name} itself"
        return Finding(
            code="declared-other-product",
            severity="error",
            says=f"{compared}: it is the figure of {other}",
            remedy=remedy,
        )
    for factor, pair in _BINARY if row.quantity == "bandwidth" else ():
        for ratio in (factor, 1 / factor):
            if any(abs(row.value / each.value / ratio - 1) < 0.015 for each in known):
                says = f"{compared}: {pair} are mixed up"
                return Finding(
                    code="declared-unit",
                    severity="warning",
                    says=says,
                    remedy="mind whether the field's reader counts in 1000 or 1024",
                )
    far = not 1 - _FAR <= ratio <= 1 + _FAR
    severity: Severity = "error" if far or reference.measured else "warning"
    bound = "lower than what was measured" if reference.measured and ratio < 1 else f"{ratio:.3g} times that"
    return Finding(
        code="declared-off",
        severity=severity,
        says=f"{compared}: {bound}",
        remedy="look the figure up again, and note its source",
    )


def _other_product(row: Declared) -> str | None:
    """The card whose figure this is, within a percent for a related name: some card has nearly any rate as nearly."""
    same = []
    for gpu in gpus.GPUS:
        slack = 0.01 if _models(gpu.name) & _models(row.device) else _PRINTED.get(row.quantity, 0.0)
        known = nominal_reference(gpu).get((row.quantity, row.dtype), [])
        same += [gpu for each in known if abs(row.value / each.value - 1) < slack]
    # Of several cards with that figure, the one of the most similar name was probably copied from.
    return max(same, key=lambda gpu: len(words(gpu.name) & words(row.device))).name if same else None


def _models(name: str) -> set[str]:
    """Words of a name that tell models apart: with a digit, and none of a size or socket."""
    return {word for word in words(name) if re.search(r"\d", word) and not _SHAPE.fullmatch(word)}


def _quantity(row: Declared, value: float) -> str:
    unit = {"compute": "OP/s" if (row.dtype or "").startswith("i") else "FLOP/s", "bandwidth": "B/s", "capacity": "B"}[
        row.quantity
    ]
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
    return Checked(declared=row, reference=None, finding=finding)
