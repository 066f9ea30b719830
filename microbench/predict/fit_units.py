"""Whether measured seconds are seconds: rows held against the roofline of the figures known of their device.

Without any the arithmetic is held against the fastest device of the nominal table, with room for those to come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from microbench.errors import UsageError
from microbench.hardware.tables import gpus
from microbench.operators.foreign import TIMES
from microbench.operators.table import Batch, Table
from microbench.predict.analytic import PRODUCTS
from microbench.predict.figures import DeviceFigures
from microbench.records import Finding, units

Floats = npt.NDArray[np.float64]

# Rows whose work takes so long by the roofline that no launch hides a wrong unit, and how many of them must agree.
LARGE_S = 2e-5
LARGE_ROWS = 3
# A clock above the printed one, and a measured ceiling that was no best case, make rows this much faster than the roof
# of their arithmetic; Winograd's algorithm or a Fourier transform make convolutions by so much faster; caches make
# those that move bytes faster than memory.
CLOCK, TRANSFORMED, CACHES = 1.5, 10.0, 50.0
# Poor kernels miss the printed figures by less.
SLOWER = 100.0
# Devices to come are faster than those of the table by less than this; no device that somebody fits is slower.
TO_COME, SLOWEST = 10.0, 1e9
# Rows above the roofline are dropped one by one while they are few; else the table is of another unit or device.
_FEW = 0.2
# What exceeds a roofline by less may be of a faster device; more is a unit.
_ANOTHER_DEVICE = 8.0
_LARGE_FLOP = 1e9
# How a wrong unit is called: of times that are too short, and of those that are too long, the nearest first.
_LONGER = {1e3: "a thousand times", 1e6: "a million times", 1e9: "a billion times"}
_UNITS = tuple((name, factor) for name, factor in TIMES.items() if name in ("ms", "us", "ns"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """Rows of a batch beside the roofline: their seconds, the least that their work can take, and whether that counts.

    ``of`` names what the roofline is of.
    """

    batch: Batch
    seconds: Floats
    flop: Floats
    roofline: Floats
    least: Floats
    of: str


def plausible(table: Table, known: DeviceFigures | None) -> tuple[Table, list[Finding]]:
    """The table without rows above the roofline, and what is doubted about its unit.

    Raises
    ------
    UsageError
        If many rows are above the roofline: the sentence names the unit that would fit.
    """
    found: list[Finding] = []
    batches = []
    for batch in table.batches:
        held = _held(batch, known or DeviceFigures())
        if held is None:
            batches.append(batch)
            continue
        above = held.seconds < held.least
        if above.any():
            _refuse_many(held, above)
            found.append(_dropped(held, above))
            seconds = np.where(above, np.nan, held.seconds)
            batches.append(replace(batch, seconds=seconds))
        else:
            batches.append(batch)
        found += _slow(held)
    if known is None or not (known.peak or known.bandwidth):
        found += _unheld(table)
    return replace(table, batches=tuple(batches)), found


def _held(batch: Batch, known: DeviceFigures) -> _Held | None:
    if batch.seconds is None or not len(batch):
        return None
    counts = batch.counts()
    flop, moved = counts["flop"].astype(float), (counts["bytes_read"] + counts["bytes_written"]).astype(float)
    product = batch.row.family in PRODUCTS
    peak = _peak(known, batch.dtype)
    fastest = _fastest(batch.dtype)
    if peak is not None or (known.bandwidth is not None and not product):
        compute = flop / peak if peak is not None else np.zeros(len(batch))
        memory = moved / known.bandwidth if known.bandwidth is not None else np.zeros(len(batch))
        faster = CLOCK * (TRANSFORMED if batch.row.family == "convolution" else 1.0)
        least = compute / faster if product else np.maximum(compute / CLOCK, memory) / CACHES
        of, roofline = "this device's figures", np.maximum(compute, memory)
    elif product and fastest is not None:
        least = roofline = flop / (TO_COME * fastest)
        of = f"{TO_COME:.0f} times the fastest GPU of the nominal table"
    else:
        return None
    return _Held(batch=batch, seconds=batch.seconds, flop=flop, roofline=roofline, least=least, of=of)


def _peak(known: DeviceFigures, dtype: str) -> float | None:
    """The highest rate that a format can have: libraries multiply f32 as tf32 where they are allowed to."""
    rates = [known.peak[name] for name in (dtype, *(("tf32",) if dtype == "f32" else ())) if name in known.peak]
    return max(rates, default=None)


def _fastest(dtype: str) -> float | None:
    """The highest printed rate of a format, over all GPUs of the table."""
    names = (dtype, "tf32") if dtype == "f32" else (dtype,)
    rates = (
        row.sms * rate.flop * row.clock_hz(rate.unit, rate.dtype)
        for row in gpus.GPUS
        for rate in row.chip.rates
        if rate.dtype in names
    )
    return max(rates, default=None)


def _refuse_many(held: _Held, above: npt.NDArray[np.bool_]) -> None:
    measured = np.isfinite(held.seconds)
    if above.sum() <= _FEW * measured.sum():
        return
    ratio = float(np.median(held.roofline[above] / held.seconds[above]))
    rate, unit = np.median(held.flop[above] / held.seconds[above]), "FLOP/s"
    if not held.flop[above].any():
        counts = held.batch.counts()
        moved = counts["bytes_read"] + counts["bytes_written"]
        rate, unit = np.median(moved[above] / held.seconds[above]), "byte/s"
    raise UsageError(
        f"{int(above.sum())} rows of {held.batch.row.name} {held.batch.dtype} are above the roofline, "
        f"{units.rate(float(rate), unit)} in the median, {ratio:.3g} times {held.of}: {_longer(ratio)}"
    )


def _longer(ratio: float) -> str:
    """What times would fit that are so much too short."""
    fits = [words for factor, words in _LONGER.items() if factor >= ratio / CLOCK]
    if ratio >= _ANOTHER_DEVICE and fits:
        return f"{fits[0]} as long would fit, so look for a unit that was divided by twice"
    return "check that seconds are seconds, and that the figures are this device's"


def _dropped(held: _Held, above: npt.NDArray[np.bool_]) -> Finding:
    places = held.batch.index[above]
    rows = ", ".join(str(int(place) + 1) for place in places[:5])
    rate = float(np.max(held.flop[above] / held.seconds[above]))
    says = (
        f"{len(places)} rows of {held.batch.row.name} {held.batch.dtype} are left out, above {held.of}: row {rows}, up "
        f"to {units.rate(rate, 'FLOP/s')}."
    )
    return Finding(code="above-roofline", severity="warning", says=says, remedy="Check their unit, or measure again.")


def _slow(held: _Held) -> Iterator[Finding]:
    """Times so long that another unit explains them better than a poor kernel; the rows of each unit in one finding."""
    measured = np.isfinite(held.seconds)
    if held.roofline is held.least:  # of no device: only rates that nothing has had for decades
        large = measured & (held.flop > _LARGE_FLOP)
        off = np.where(large, SLOWEST * held.seconds / np.maximum(held.flop, 1.0), 0.0)
        rates = (1.0, 0.0, "the time of the slowest device there is")
    else:
        large = measured & (held.roofline > LARGE_S)
        off = np.where(large, held.seconds / np.maximum(held.roofline, LARGE_S), 0.0)
        rates = (SLOWER, 1 / CLOCK, "what the figures say")
    most, least, what = rates
    if large.sum() < LARGE_ROWS:
        return
    waiting = off > most
    for name, factor in (*_UNITS, ("", 1.0)):
        rows = waiting & (((off * factor <= most) & (off * factor >= least)) if name else True)
        waiting &= ~rows
        if rows.any():
            yield _doubtful(held, rows, f"{float(np.median(off[rows])):.3g} times {what}", name)


def _doubtful(held: _Held, rows: npt.NDArray[np.bool_], what: str, unit: str) -> Finding:
    places = held.batch.index[rows]
    first = ", ".join(str(int(place) + 1) for place in places[:3])
    several = "rows take" if len(places) > 1 else "row takes"
    says = f"{len(places)} large {several} {what}: {held.batch.row.name} {held.batch.dtype}, row {first}"
    if not unit:
        remedy = "Check that seconds are seconds, and that the figures are this device's"
        return Finding(code="unit-doubtful", severity="warning", says=f"{says}.", remedy=remedy)
    says = f"{says}; in {unit} they would fit."
    return Finding(
        code="unit-doubtful", severity="warning", says=says, remedy=f"If so: --columns seconds=COLUMN:{unit}"
    )


def _unheld(table: Table) -> Iterator[Finding]:
    if any(batch.seconds is not None for batch in table.batches):
        says = (
            "nothing is known of the device, so a wrong unit of its seconds would show only where no device is so fast."
        )
        remedy = "Name it with --nominal, or give --ceiling and --bandwidth"
        yield Finding(code="unit-unchecked", severity="info", says=says, remedy=remedy)
